"""What the steps of every verb need to know about their store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from unified_storage.backends.sql.claims import Claims
from unified_storage.backends.sql.statements import Statements
from unified_storage.clock import Clock
from unified_storage.filters import Path, value_at
from unified_storage.order_keys import index_key
from unified_storage.paths import DOCUMENTS
from unified_storage.record import Draft, now_micros
from unified_storage.times import moment


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the keys of one indexed path stand; not to be searched before it is ``filled``."""

    number: int
    filled: bool


Slots = Mapping[str, Mapping[Path, Slot]]
"""The slots of every indexed path, by type."""


@dataclass(slots=True)
class Store:
    """The statements of a store, its slots as last read, and its clock."""

    statements: Statements
    clock: Clock
    slots: Slots
    generation: int = 0
    claims: Claims | None = None
    """What an open transaction has seen, where writers meet at rows; None for a verb of its own."""

    _filled: tuple[Slots, Slots] | None = field(default=None, init=False)

    @property
    def filled(self) -> Slots:
        """The slots that hold the key of every record of their type."""
        if self._filled is None or self._filled[0] is not self.slots:
            filled = {
                kind: {path: slot for path, slot in slots.items() if slot.filled} for kind, slots in self.slots.items()
            }
            self._filled = (self.slots, filled)
        return self._filled[1]

    def now(self) -> int:
        return now_micros(self.clock)

    def keys(self, draft: Draft, stamps: Mapping[str, int | None]) -> list[bytes | None]:
        """The value of every slot for a record of this type; unused slots are None.

        Args:
            stamps: its ``version``, and its times in microseconds.
        """
        keys: list[bytes | None] = [None] * self.statements.slots
        slots = self.slots.get(draft.type, {})
        if slots:
            record = _looked_into(draft, stamps, {path[0] for path in slots})
            for path, slot in slots.items():
                keys[slot.number] = index_key(value_at(record, path))[0]
        return keys


def _looked_into(draft: Draft, stamps: Mapping[str, int | None], parts: Collection[str]) -> dict[str, Any]:
    """Those *parts* of a record, as it will be stored, that some path looks into: no other is decoded."""
    record: dict[str, Any] = {}
    for part in parts:
        if part in DOCUMENTS:
            record[part] = draft.decoded(part)
        elif part in stamps:
            since = stamps[part]
            record[part] = since if part == "version" or since is None else moment(since)
        else:
            record[part] = getattr(draft, part)
    return record
