"""The intent of a write: taken before either store is written, released when both were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from legacy.migration.live.failures import EvictedError, WriteTakenOverError
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import Rules
from legacy.migration.live.state import Intent, Item, MemberState, Migration, item_in, save_item, standing_in
from session_adapter.identity import record_id
from unified_storage.interface import IUnifiedStorage
from unified_storage.processes import has_ended

ATTEMPTS = 100

WriteUnified = Callable[[IUnifiedStorage, Item], Awaitable[Item]]
"""Writes U in the step that takes or releases an intent; gives the item as it is then."""


@dataclass(frozen=True)
class Grant:
    """What a write may do.

    Attributes:
        phase: whose rules it follows to its end.
        token: of the intent; None where no other store is written.
    """

    session_id: str
    phase: Phase
    token: str | None = None


@dataclass(frozen=True)
class Busy:
    """Somebody else writes the session, as *item* says."""

    item: Item


@dataclass(frozen=True)
class Frozen:
    """Writes are held back for a moment, as *migration* says."""

    migration: Migration


class Intents:
    """The intents that one member takes.

    Args:
        me: what this member said of itself last.
    """

    def __init__(self, storage: IUnifiedStorage, me: Callable[[], MemberState], rules: Rules) -> None:
        self._storage = storage
        self._me = me
        self._rules = rules

    async def ask(self, session_id: str, write: WriteUnified, *, token: str | None = None) -> Grant | Busy | Frozen:
        """Begin a write if nobody else writes the session: the phase is read, the intent set, and from phase 3 on U
        is written, all in one step.

        Args:
            token: that the intent is to have, for whoever wants to find it when the answer was lost.
        Raises:
            EvictedError: this member was sent away.
        """
        own = token or new_token()
        return await self._storage.atomically(lambda tx: self._asked(tx, session_id, write, own), attempts=ATTEMPTS)

    async def release(self, grant: Grant, write: WriteUnified, *, syncs: bool = True) -> None:
        """End a write: U is written, the intent goes, all in one step.

        Args:
            syncs: both stores hold the same afterwards, which they need not where nothing was written at all.
        Raises:
            WriteTakenOverError: a recovery has taken it, and decides what it comes to.
        """

        async def step(tx: IUnifiedStorage) -> None:
            item = await item_in(tx, record_id(grant.session_id))
            self._check_mine(item, grant)
            epoch = max(item.synced_epoch, item.intent.epoch if item.intent is not None and syncs else 0)
            await save_item(tx, await write(tx, item.stepped(intent=None, synced_epoch=epoch)))

        await self._storage.atomically(step, attempts=ATTEMPTS)

    async def let_go(self, grant: Grant) -> None:
        """Say that this write will not be ended by its owner: whoever recovers may take it at once."""

        async def step(tx: IUnifiedStorage) -> None:
            item = await item_in(tx, record_id(grant.session_id))
            if item.intent is not None and item.intent.token == grant.token:
                await save_item(tx, item.stepped(intent=replace(item.intent, is_open=True)))

        await self._storage.atomically(step, attempts=ATTEMPTS)

    async def _asked(
        self, tx: IUnifiedStorage, session_id: str, write: WriteUnified, token: str
    ) -> Grant | Busy | Frozen:
        item = await item_in(tx, record_id(session_id))
        # after the item, which is held from here on: a phase read before it could be left behind while it is waited for
        standing = await standing_in(tx, self._me().member)
        migration = standing.migration
        check_member(standing.member, self._me())
        if migration.frozen is not None:
            return Frozen(migration)
        if migration.phase == Phase.LEGACY_ONLY:
            return Grant(session_id, migration.phase)
        if migration.phase == Phase.UNIFIED_ONLY:
            return await self._written_alone(tx, item, migration, write)
        if item.intent is not None and self._rules.intents:
            return Busy(item)
        return await self._taken(tx, item, migration, write, token)

    async def _taken(
        self, tx: IUnifiedStorage, item: Item, migration: Migration, write: WriteUnified, token: str
    ) -> Grant:
        me, phase = self._me(), migration.phase
        intent = Intent(me.member, me.process, token, phase, migration.epoch if migration.settled else 0)
        taken = item.stepped(intent=intent if self._rules.intents else None)
        await save_item(tx, await write(tx, taken) if phase == Phase.UNIFIED_PRIMARY else taken)
        return Grant(item.session_id, phase, token)

    async def _written_alone(self, tx: IUnifiedStorage, item: Item, migration: Migration, write: WriteUnified) -> Grant:
        written = await write(tx, item.stepped())
        if not migration.settled:
            await save_item(tx, written)
        return Grant(item.session_id, migration.phase)

    def _check_mine(self, item: Item, grant: Grant) -> None:
        if not self._rules.intents or not self._rules.tokens:
            return
        if item.intent is None or item.intent.token != grant.token:
            message = "this write was taken over by a recovery; read the session to see what it came to"
            raise WriteTakenOverError(message, details={"session_id": grant.session_id, "outcome": "unknown"})


def new_token() -> str:
    """What an intent is known by, unlike any other's."""
    return uuid4().hex


def is_abandoned(intent: Intent | None) -> bool:
    """Whether the owner of *intent* has let go of it, or is known to have ended."""
    return intent is not None and (intent.is_open or has_ended(intent.process))


def check_member(found: MemberState | None, mine: MemberState) -> None:
    """Raise ``EvictedError`` unless this member still takes part in the migration."""
    if found is None or found.evicted is not None or found.incarnation != mine.incarnation:
        message = "this program was sent away from the migration and may not write; start it again"
        raise EvictedError(message, details={"member": mine.member})
