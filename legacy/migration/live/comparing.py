"""Whether both stores hold the same of some sessions, asked while others write them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from legacy.migration.live.legacy_side import Document, LegacySide, confirmed
from legacy.migration.live.state import Item, items_in
from legacy.migration.live.unified_side import Held, held_in
from legacy.migration.live.writes import hash_of
from session_adapter.identity import record_id
from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage

_TRIES = 3
_PAUSE = 0.05


@dataclass(frozen=True)
class Compared:
    """What a comparison found of one session.

    Attributes:
        legacy: the document in L, None for none; an error where it cannot be read.
        equal: None where it was written again and again while it was looked at.
    """

    session_id: str
    item: Item
    legacy: Document | StorageError | None
    unified: Held
    equal: bool | None

    @property
    def kind(self) -> str:
        """In a word: equal, moving, unreadable, missing_in_target, only_in_target or different."""
        if self.equal is None:
            return "moving"
        if self.equal:
            return "equal"
        if isinstance(self.legacy, StorageError):
            return "unreadable"
        if self.unified.document is None:
            return "missing_in_target"
        return "only_in_target" if self.legacy is None else "different"


async def compared(storage: IUnifiedStorage, legacy: LegacySide, session_ids: Iterable[str]) -> list[Compared]:
    """Each of *session_ids*, in their order; a difference counts where it stays while nobody writes."""
    wanted = list(dict.fromkeys(session_ids))
    settled: dict[str, Compared] = {}
    for attempt in range(_TRIES):
        left = [id for id in wanted if id not in settled or not settled[id].equal]
        if not left:
            break
        if attempt:
            await asyncio.sleep(_PAUSE * attempt)
        settled |= await _once(storage, legacy, left)
    return [settled[id] for id in wanted]


async def _once(storage: IUnifiedStorage, legacy: LegacySide, session_ids: list[str]) -> dict[str, Compared]:
    named = {record_id(id): id for id in session_ids}
    before = await items_in(storage, named)
    found = await confirmed(legacy, session_ids)
    held = await held_in(storage, session_ids)
    after = await items_in(storage, named)
    result = {}
    for stored, id in named.items():
        moves = before[stored].intent is not None or after[stored].seq != before[stored].seq
        document = found[id]
        same = not isinstance(document, StorageError) and hash_of(document) == held[id].content
        result[id] = Compared(id, after[stored], document, held[id], None if moves and not same else same)
    return result
