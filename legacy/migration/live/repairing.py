"""What an operator asks for by name: sessions brought to what counts, oddities accepted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from legacy.migration.live.batches import kept_record
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.intents import ATTEMPTS, Grant, Intents, WriteUnified, is_abandoned
from legacy.migration.live.journal import Journal
from legacy.migration.live.legacy_side import Document, LegacySide, confirmed
from legacy.migration.live.member import Member
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import ALL
from legacy.migration.live.state import (
    ODD,
    OPEN,
    Item,
    MemberState,
    items_marked,
    migration_in,
    save_migration,
)
from legacy.migration.live.unified_side import held_in, put_document
from legacy.migration.live.writes import NOT_STORABLE, brought, hash_of, set_aside, unchanged
from session_adapter.identity import record_id
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageConfigurationError, StorageError
from unified_storage.interface import IUnifiedStorage

REPAIRED, LEFT = "repaired", "left"


@dataclass(frozen=True)
class Repaired:
    """What became of one session: ``repaired``, or ``left`` with the reason why."""

    session_id: str
    outcome: str
    reason: str | None = None


class Repair:
    """Repairs, done by a member of the migration like any other; make one with :func:`repairs`."""

    def __init__(self, storage: IUnifiedStorage, legacy: LegacySide, zone: Zone, member: Member) -> None:
        self._storage = storage
        self._legacy = legacy
        self._zone = zone
        self._intents = Intents(storage, member.me, ALL)
        self._recovery = Recovery(storage, legacy, zone, member.me, ALL)

    async def mend(self, session_id: str) -> Repaired:
        """Bring the other store to what the primary holds; what others wrote in U is kept in a record of its own."""
        try:
            found = await self._intents.ask(session_id, unchanged)
        except StorageError as error:
            return Repaired(session_id, LEFT, error.error_code.lower())
        if not isinstance(found, Grant):
            return Repaired(session_id, LEFT, "being_written")
        if found.token is None:
            return Repaired(session_id, LEFT, "one_store_only")
        reason = await (self._to_unified(found) if found.phase.reads_legacy else self._to_legacy(found))
        return Repaired(session_id, LEFT if reason else REPAIRED, reason)

    async def _to_legacy(self, grant: Grant) -> str | None:
        return None if await self._recovery.from_unified(grant) else "legacy_store_refuses"

    async def _to_unified(self, grant: Grant) -> str | None:
        answer = (await confirmed(self._legacy, [grant.session_id]))[grant.session_id]
        if isinstance(answer, StorageError):
            await self._intents.release(grant, set_aside(answer), syncs=False)
            return answer.error_code.lower()
        if answer is None and not await self._recovery.may_be_gone(grant.session_id):
            await self._intents.release(grant, unchanged, syncs=False)
            return "legacy_store_empty"
        try:
            await self._intents.release(grant, self._overwritten(grant.session_id, answer))
        except NOT_STORABLE as error:
            await self._intents.release(grant, set_aside(error), syncs=False)
            return error.error_code.lower()
        return None

    def _overwritten(self, session_id: str, document: Document | None) -> WriteUnified:
        async def write(tx: IUnifiedStorage, item: Item) -> Item:
            there = (await held_in(tx, [session_id]))[session_id]
            if there.document is not None and there.version != item.unified_version:
                await tx.save(kept_record(item, there))
            version = await put_document(tx, session_id, document, self._zone, known=there.version)
            return brought(item, hash_of(document), version)

        return write

    async def end_abandoned(self) -> int:
        """Bring the writes that programs left unfinished to their end; how many were."""
        items = await items_marked(self._storage, OPEN)
        return sum([await self._recovery.end(item) for item in items if is_abandoned(item.intent)])

    async def drain(self, session_ids: Sequence[str]) -> list[str]:
        """Bring the sessions that a journal names to what L holds; those of them that could not be."""
        results = [await self.mend(session_id) for session_id in session_ids]
        return [one.session_id for one in results if one.outcome != REPAIRED]


async def odd_ids(storage: IUnifiedStorage) -> list[str]:
    """The sessions that are a conflict or in quarantine."""
    return [item.session_id for item in await items_marked(storage, ODD) if item.state is not None]


async def abandoned_ids(storage: IUnifiedStorage) -> list[str]:
    """The sessions with a write that a program left unfinished."""
    return [item.session_id for item in await items_marked(storage, OPEN) if is_abandoned(item.intent)]


async def drain_file(storage: IUnifiedStorage, legacy: LegacySide, zone: Zone, file: Path, member: MemberState) -> None:
    """Drain the journal in *file*, which *member* left, so that it can be sent away without making the pass void.

    Raises:
        StorageConfigurationError: a living process has it.
        GateRefusedError: the phase is none in which L counts, or a session could not be brought to one state.
    """
    journal = await asyncio.to_thread(Journal.taken, file)
    if journal is None:
        raise StorageConfigurationError(f"the journal {str(file)!r} is in use by a living process")
    try:
        async with repairs(storage, legacy, zone) as repair:
            if not (await migration_in(storage)).phase.reads_legacy:
                told = "the legacy store does not count any more: this journal came too late"
                raise GateRefusedError(told, details={"reasons": [told]})
            left = await repair.drain(await asyncio.to_thread(journal.ids))
        if left:
            told = f"{len(left)} sessions of the journal could not be brought to one state: try again"
            raise GateRefusedError(told, details={"reasons": [told], "session_ids": left[:100]})
        await storage.save(replace(member, journal_drained=True).record(), expected_version=member.version)
    finally:
        await asyncio.to_thread(journal.close)


@asynccontextmanager
async def repairs(storage: IUnifiedStorage, legacy: LegacySide, zone: Zone) -> AsyncIterator[Repair]:
    """Repairs by a member that joins for them."""
    member = Member(storage, name=f"repair-{os.getpid()}-{uuid4().hex[:8]}", journal=None, rules=ALL)
    await member.join()
    try:
        await member.look()
        member.check_serves()
        yield Repair(storage, legacy, zone, member)
    finally:
        await member.leave()


async def accept(storage: IUnifiedStorage, session_ids: Sequence[str]) -> int:
    """Let conflicts and quarantined sessions of these ids hold up no change of phase; how many are accepted now."""

    async def step(tx: IUnifiedStorage) -> int:
        migration = await migration_in(tx)
        accepted = sorted({*migration.accepted, *(record_id(id) for id in session_ids)})
        await save_migration(tx, replace(migration, accepted=tuple(accepted)))
        return len(accepted)

    return await storage.atomically(step, attempts=ATTEMPTS)
