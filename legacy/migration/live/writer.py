"""One write of a caller, through the phases: into L, into U, in the order that the phase asks for."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace

from legacy.migration.live import steps
from legacy.migration.live.changes import Change
from legacy.migration.live.failures import SessionBusyError, WriteTakenOverError
from legacy.migration.live.intents import ATTEMPTS, Busy, Frozen, Grant, Intents, WriteUnified, is_abandoned, new_token
from legacy.migration.live.journal import Journal
from legacy.migration.live.legacy_side import Document, LegacySide
from legacy.migration.live.member import Member, Ticket
from legacy.migration.live.phases import Phase
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import Rules
from legacy.migration.live.state import Item, Migration, item_in, members_in, migration_in, save_item, save_migration
from legacy.migration.live.unified_side import held_in, version_in
from legacy.migration.live.writes import NOT_STORABLE, document_written, hash_of, set_aside, unchanged
from session_adapter.errors import SessionNotFoundError
from session_adapter.identity import record_id
from session_adapter.service import SessionService
from session_adapter.timestamps import Zone
from unified_storage.errors import (
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageUnsupportedError,
)
from unified_storage.interface import IUnifiedStorage

log = logging.getLogger(__name__)

BUSY_SECONDS = 30.0
"""How long a write waits for another one of the same session."""
_SHORTEST, _LONGEST = 0.002, 0.1
OUTAGE = (StorageConnectionError, StorageTimeoutError)
"""What says that U cannot be reached; anything else would fail again when it can."""


class Writer:
    """The writes of one member.

    Attributes:
        open: its writes that were left under way, by session id; they are ended in the background.
        lost: those of which nobody knows whether they were begun, token -> session id; likewise.
        journalling: writes in L alone that are under way; what the journal tells of them is not true yet.
    """

    def __init__(
        self, storage: IUnifiedStorage, legacy: LegacySide, member: Member, recovery: Recovery, zone: Zone, rules: Rules
    ) -> None:
        self._storage = storage
        self._legacy = legacy
        self._member = member
        self._recovery = recovery
        self._zone = zone
        self._rules = rules
        self._intents = Intents(storage, member.me, rules)
        self.open: dict[str, Grant] = {}
        self.lost: dict[str, str] = {}
        self.journalling = 0

    async def write(self, change: Change, ticket: Ticket) -> None:
        """Do *change* to its end; whoever calls it sees that nobody cancels it."""
        if ticket.followed.phase == Phase.LEGACY_ONLY:
            await self._in_legacy(change)
            return
        grant = await self._begun(change, ticket)
        if grant is None:
            await self._journalled(change)
        elif grant.phase == Phase.LEGACY_ONLY:
            await self._in_legacy(change)
        elif grant.phase.reads_legacy:
            await self._legacy_first(change, grant)
        elif grant.phase == Phase.UNIFIED_PRIMARY:
            await self._unified_first(grant)

    # beginning

    async def _begun(self, change: Change, ticket: Ticket) -> Grant | None:
        """The right to write; None where U cannot be reached and this write may go without it."""
        write = self._unified_write(change)
        end, pause = time.monotonic() + BUSY_SECONDS, _SHORTEST
        while True:
            token = new_token()
            try:
                found = await self._intents.ask(change.session_id, write, token=token)
            except StorageError as error:
                if _may_have_been_done(error):
                    self.lost[token] = change.session_id
                may_go_on = ticket.followed.phase == Phase.DUAL_WRITE and self._member.journal is not None
                if may_go_on and isinstance(error, OUTAGE):
                    return None
                raise
            if isinstance(found, Grant):
                steps.at("write:begun")
                return found
            if isinstance(found, Frozen):
                await self._thawed(found.migration, ticket)
                continue
            if is_abandoned(found.item.intent) and await self._recovery.end(found.item):
                continue
            if time.monotonic() > end:
                told = "another write of this session does not end"
                raise SessionBusyError(told, details={"session_id": change.session_id})
            await asyncio.sleep(pause)
            pause = min(_LONGEST, pause * 2)

    def _unified_write(self, change: Change) -> WriteUnified:
        """From phase 3 on, *change* is done in U in the step that begins it."""

        async def write(tx: IUnifiedStorage, item: Item) -> Item:
            await change.in_unified(SessionService(tx, source_timezone=self._zone))
            version = await version_in(tx, item.session_id)
            return replace(item, unified_version=version, tombstone=not version)

        return write

    async def _thawed(self, frozen: Migration, ticket: Ticket) -> None:
        """Wait until writes are let through again, but no longer than whoever froze them said."""
        assert frozen.frozen is not None
        end = time.monotonic() + float(frozen.frozen["seconds"])
        ticket.end()  # who waits does nothing by the rules of any phase
        try:
            await self._until_thawed(frozen, end)
        finally:
            ticket.begin()

    async def _until_thawed(self, frozen: Migration, end: float) -> None:
        while (now := await migration_in(self._storage)).frozen == frozen.frozen:
            if time.monotonic() > end:
                await thaw(self._storage, now)
            await asyncio.sleep(0.01)

    # phases 1 and 2

    async def _legacy_first(self, change: Change, grant: Grant) -> None:
        try:
            document = await self._in_legacy(change)
            steps.at("write:legacy-written")
        except (SessionNotFoundError, StorageUnsupportedError):
            await self._intents.release(grant, unchanged, syncs=False)
            raise
        except BaseException:
            # It may have been done all the same, so U has to be brought to whatever L holds now.
            self.open[grant.session_id] = grant
            await self._end(grant)
            raise
        await self._unified_second(grant, document)

    async def _in_legacy(self, change: Change) -> Document | None:
        if change.expected_version is not None:
            raise no_versions()
        return await change.in_legacy(self._legacy)

    async def _unified_second(self, grant: Grant, document: Document | None) -> None:
        try:
            await self._intents.release(grant, document_written(grant.session_id, document, self._zone))
            steps.at("write:released")
        except WriteTakenOverError:
            raise
        except NOT_STORABLE as error:
            await self._intents.release(grant, set_aside(error))
            if grant.phase != Phase.DUAL_WRITE:
                raise
        except BaseException as error:
            self.open[grant.session_id] = grant  # L has it, and the intent says that U has not
            tolerated = grant.phase == Phase.DUAL_WRITE or not self._rules.closed_in_shadow
            if not (tolerated and isinstance(error, StorageError)):
                raise
            log.warning("migration: a write waits for the target", extra={"member": self._member.name})

    # phase 1 without U

    async def _journalled(self, change: Change) -> None:
        journal = self._member.journal
        assert journal is not None
        self.journalling += 1
        try:
            if self._rules.journal_first:
                await self._noted(journal, change.session_id)
                await self._in_legacy(change)
            else:
                await self._in_legacy(change)
                steps.at("write:legacy-written")
                await self._noted(journal, change.session_id)
        finally:
            self.journalling -= 1

    async def _noted(self, journal: Journal, session_id: str) -> None:
        await asyncio.to_thread(journal.add, session_id)
        self._member.tell(journal_empty=False)  # after the line is there: who drains meanwhile may have said otherwise
        steps.at("write:journalled")

    # phase 3

    async def _unified_first(self, grant: Grant) -> None:
        try:
            held = (await held_in(self._storage, [grant.session_id]))[grant.session_id]
            await self._recovery.to_legacy(grant.session_id, held.document)
            steps.at("write:legacy-written")
        except BaseException as error:
            self.open[grant.session_id] = grant
            if isinstance(error, StorageError) and await self._may_wait(grant):
                log.warning("migration: a write waits for the legacy store", extra={"member": self._member.name})
                return
            raise

        async def told(_: IUnifiedStorage, item: Item) -> Item:
            return replace(item, legacy_hash=hash_of(held.document))

        await self._intents.release(grant, told)
        steps.at("write:released")

    async def _may_wait(self, grant: Grant) -> bool:
        """Leave what L does not take to later, where everybody reads U; whether that was so."""

        async def step(tx: IUnifiedStorage) -> bool:
            migration = await migration_in(tx)
            item = await item_in(tx, record_id(grant.session_id))
            if item.intent is None or item.intent.token != grant.token:
                return False
            if self._rules.outbox_when_settled and not await everybody_reads_unified(tx, migration):
                return False
            # the record of the migration moves too, so that no change of phase is decided beside this
            await save_migration(tx, replace(migration, outbox=migration.outbox + 1))
            await save_item(tx, item.stepped(intent=replace(item.intent, is_open=True)))
            return True

        return await self._storage.atomically(step, attempts=ATTEMPTS)

    # what was left under way

    async def end_open(self) -> None:
        """Bring this member's writes that were left under way to their end, as far as that goes now.

        Raises:
            StorageError: U cannot be asked.
        """
        for grant in [*self.open.values()]:
            await self._end(grant)
        for token, session_id in [*self.lost.items()]:
            if await self._recovery.end_lost(session_id, token):
                del self.lost[token]

    async def _end(self, grant: Grant) -> None:
        try:
            ended = await self._recovery.ended(grant)
        except WriteTakenOverError:
            ended = True  # somebody else has ended it, or it was done when the answer was lost
        except StorageError as error:
            log.warning("migration: a write stays open: %s", error.message, extra={"member": self._member.name})
            return
        if ended:
            self.open.pop(grant.session_id, None)

    async def drain(self, ids: list[str]) -> bool:
        """Bring the sessions that a journal names to one state; False where one could not be, or not now."""
        drained = True
        for session_id in ids:
            drained = await self._drained(session_id) and drained
        return drained

    async def _drained(self, session_id: str) -> bool:
        try:
            found = await self._intents.ask(session_id, _refused)
        except _NotPrimaryError:
            return False
        if isinstance(found, Busy) and is_abandoned(found.item.intent):
            return await self._recovery.end(found.item)
        if not isinstance(found, Grant) or found.token is None:
            return False
        steps.at("drain:begun")
        return await self._recovery.from_legacy(found)


def _may_have_been_done(error: StorageError) -> bool:
    """Whether a step may have been done although it failed: its answer was lost, or was not waited for."""
    return error.details.get("outcome") == "unknown" or isinstance(error, StorageTimeoutError)


class _NotPrimaryError(Exception):
    """What L holds is not what counts any more."""


async def _refused(_: IUnifiedStorage, item: Item) -> Item:
    raise _NotPrimaryError(item.session_id)


async def everybody_reads_unified(tx: IUnifiedStorage, migration: Migration) -> bool:
    """Whether nobody can miss what U alone holds; one who was sent away and may be alive still reads what he read."""
    if migration.phase != Phase.UNIFIED_PRIMARY or not migration.settled:
        return False
    return not [one for one in await members_in(tx) if one.evicted and Phase(one.acked_phase).reads_legacy]


def no_versions() -> StorageUnsupportedError:
    """The legacy store has no versions to compare."""
    told = "versions are known from the phase unified_primary on; the legacy store has none"
    return StorageUnsupportedError(told)


async def thaw(storage: IUnifiedStorage, migration: Migration) -> None:
    """Let writes through again, unless that was done or undone meanwhile."""
    with suppress(StorageConflictError):
        await save_migration(storage, replace(migration, frozen=None, hurried=False))
