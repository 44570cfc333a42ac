"""Bringing single sessions to one state under their intent: abandoned writes, journals, and what repairs ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from legacy.migration.live import steps
from legacy.migration.live.intents import ATTEMPTS, Grant, Intents, is_abandoned, new_token
from legacy.migration.live.legacy_side import Document, LegacySide, confirmed
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import Rules
from legacy.migration.live.state import ITEM_TYPE, Intent, Item, MemberState, item_in, migration_in, save_item
from legacy.migration.live.unified_side import held_in
from legacy.migration.live.writes import NOT_STORABLE, document_written, hash_of, set_aside
from session_adapter.identity import SESSION, record_id
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageError, StorageIntegrityError
from unified_storage.interface import IUnifiedStorage


class Recovery:
    """Ends writes that their owners did not end, in the direction of the phase in which they were begun.

    Args:
        me: what the one who recovers says of itself; a recovery that is killed is recovered by the next.
    """

    def __init__(
        self,
        storage: IUnifiedStorage,
        legacy: LegacySide,
        zone: Zone,
        me: Callable[[], MemberState],
        rules: Rules,
    ) -> None:
        self._storage = storage
        self._legacy = legacy
        self._zone = zone
        self._me = me
        self._rules = rules

    async def end(self, item: Item, *, by_force: bool = False) -> bool:
        """Take over the write that *item* shows and bring it to its end.

        Args:
            by_force: also from an owner who may be alive; the session is suspect afterwards.
        Returns:
            False where it is not abandoned any more, or cannot be ended now: it stays open.
        """
        if not self._rules.recover:
            return False
        grant = await self._storage.atomically(lambda tx: self._taken_over(tx, item, by_force), attempts=ATTEMPTS)
        if grant is None:
            return False
        steps.at("recover:taken-over")
        if not self._rules.recover_by_intent:
            grant = replace(grant, phase=(await migration_in(self._storage)).phase)
        return await self.ended(grant)

    async def recheck(self, item: Item) -> bool:
        """Bring a suspect session to what counted when its write was taken from its owner, who has ended since.

        Returns:
            False where it is being written, or cannot be brought there now: it stays suspect.
        """

        async def taken(tx: IUnifiedStorage) -> Grant | None:
            found = await item_in(tx, item.id)
            if found.suspect is None or found.intent is not None:
                return None
            intent = self._recovering(found.suspect)
            await save_item(tx, found.stepped(intent=intent))
            return Grant(item.session_id, intent.phase, intent.token)

        grant = await self._storage.atomically(taken, attempts=ATTEMPTS)
        if grant is None or not await self.ended(grant):
            return False
        await self._storage.atomically(lambda tx: self._cleared(tx, item), attempts=ATTEMPTS)
        return True

    async def _cleared(self, tx: IUnifiedStorage, item: Item) -> None:
        found = await item_in(tx, item.id)
        await save_item(tx, found.stepped(suspect=None, suspected=None))

    async def end_lost(self, session_id: str, token: str) -> bool:
        """End a write of one's own of which nobody knows whether it was begun; False where that cannot be done now."""
        found = await self._storage.load(record_id(session_id), type=ITEM_TYPE)
        intent = None if found is None else Item.of(found).intent
        if intent is None or intent.token != token:
            return True
        return await self.ended(Grant(session_id, intent.phase, token))

    async def ended(self, grant: Grant) -> bool:
        """Bring a write of one's own to its end, by the phase it was begun in; False where that cannot be done now."""
        return await (self.from_legacy(grant) if grant.phase.reads_legacy else self.from_unified(grant))

    async def from_legacy(self, grant: Grant) -> bool:
        """Bring U to what L holds, and release; False where L does not answer or cannot be believed."""
        looked = await confirmed(self._legacy, [grant.session_id], look_again=self._rules.confirm_absence)
        found = looked[grant.session_id]
        steps.at("recover:legacy-read")
        if isinstance(found, StorageIntegrityError):
            await self._intents.release(grant, set_aside(found))
            return True
        if isinstance(found, StorageError) or (found is None and not await self.may_be_gone(grant.session_id)):
            await self._intents.let_go(grant)
            return False
        try:
            await self._intents.release(grant, document_written(grant.session_id, found, self._zone))
        except NOT_STORABLE as error:
            await self._intents.release(grant, set_aside(error))
        return True

    async def from_unified(self, grant: Grant) -> bool:
        """Bring L to what U holds, and release; False where L does not take it."""
        held = (await held_in(self._storage, [grant.session_id]))[grant.session_id]
        steps.at("recover:unified-read")
        try:
            await self.to_legacy(grant.session_id, held.document)
        except StorageError:
            await self._intents.let_go(grant)
            return False
        steps.at("recover:legacy-written")

        async def told(_: IUnifiedStorage, item: Item) -> Item:
            return replace(item, legacy_hash=hash_of(held.document))

        await self._intents.release(grant, told)
        return True

    async def to_legacy(self, session_id: str, document: Document | None) -> None:
        """Make L hold *document*, None for a deleted session."""
        if document is not None:
            await self._legacy.save(session_id, document)
        elif await self._legacy.exists(session_id):
            await self._legacy.delete(session_id)

    async def may_be_gone(self, session_id: str) -> bool:
        """Whether L, which does not find a session, holds others, or none was left: one not mounted holds nothing."""
        if not self._rules.mass_guard or await self._legacy.ids():
            return True
        known = await self._storage.list({"type": SESSION}, limit=2, with_data=False)
        return [record["id"] for record in known] in ([], [record_id(session_id)])

    @property
    def _intents(self) -> Intents:
        return Intents(self._storage, self._me, self._rules)

    async def _taken_over(self, tx: IUnifiedStorage, seen: Item, by_force: bool) -> Grant | None:
        item = await item_in(tx, seen.id)
        if item.intent is None or seen.intent is None or item.intent.token != seen.intent.token:
            return None
        living = not is_abandoned(item.intent)
        if living and not by_force:
            return None
        intent = self._recovering(item.intent.phase)
        taken = item.stepped(intent=intent)
        if living and self._rules.suspects:
            taken = replace(taken, suspect=intent.phase, suspected=item.intent.member)
        await save_item(tx, taken)
        return Grant(item.session_id, intent.phase, intent.token)

    def _recovering(self, phase: Phase) -> Intent:
        me = self._me()
        return Intent(me.member, me.process, new_token(), phase, recovering=True)
