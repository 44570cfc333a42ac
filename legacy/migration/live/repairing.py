"""What an operator asks for by name: sessions brought to what counts, oddities accepted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from legacy.migration.live.batches import kept_record
from legacy.migration.live.intents import ATTEMPTS, Grant, Intents, WriteUnified
from legacy.migration.live.legacy_side import Document, LegacySide, confirmed
from legacy.migration.live.member import Member
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import ALL
from legacy.migration.live.state import (
    ODD,
    Item,
    items_marked,
    migration_in,
    save_migration,
)
from legacy.migration.live.unified_side import held_in, put_document
from legacy.migration.live.writes import NOT_STORABLE, brought, hash_of, set_aside
from session_adapter.identity import record_id
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageError
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
            found = await self._intents.ask(session_id, _untouched)
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

    async def mend_odd(self) -> list[Repaired]:
        """Mend every session that is a conflict or in quarantine."""
        odd = [item for item in await items_marked(self._storage, ODD) if item.state is not None]
        return [await self.mend(item.session_id) for item in odd]


async def _untouched(_: IUnifiedStorage, item: Item) -> Item:
    return item


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
