"""Places in an order of records as bytes: how a walk compares what it finds in many sorted sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from unified_storage.backends.redis.partitions import KEY_END, TIME_LENGTH, escaped, time_of, time_text, unescaped
from unified_storage.backends.redis.rows import Key
from unified_storage.cursors import Cursor
from unified_storage.filters import Path
from unified_storage.ordering import Order, place

_TURNED = bytes(range(255, -1, -1))
BY_ID = Order(("id",))
_SETS: dict[Path, str] = {("id",): "i", ("created_at",): "c", ("updated_at",): "u"}


class Spot(NamedTuple):
    """Where a record stands in a walk: spots compare as the walk goes."""

    segment: int
    place: bytes
    id: bytes
    type: bytes


class Candidate(NamedTuple):
    """A record that a walk came by, before it was looked at."""

    spot: Spot
    key: Key
    found_at: bytes
    """Its place as the sorted set has it; empty where it has none."""


@dataclass(frozen=True, slots=True)
class Course:
    """An order with its ties: by ``(id, type)`` ascending, whichever way it goes."""

    order: Order

    @property
    def descending(self) -> bool:
        return self.order.descending

    @property
    def is_by_identity(self) -> bool:
        return self.order == BY_ID

    @property
    def set_letter(self) -> str | None:
        """The sorted sets that have this order for every record of a type; None: those of an indexed path, if any."""
        return _SETS.get(self.order.path)

    @property
    def segment_of_keys(self) -> int:
        """Records without a value at the path that orders come before all others, or after them."""
        return 0 if self.descending or self.set_letter else 1

    def place(self, record: Mapping[str, Any]) -> bytes:
        return self._as_bytes(place(self.order, record))

    def place_of(self, cursor: Cursor) -> bytes:
        return self._as_bytes(cursor.key)

    def _as_bytes(self, key: int | str | bytes) -> bytes:
        if isinstance(key, int):
            return time_text(key).encode()
        if isinstance(key, str):
            return key.encode()
        return escaped(key) if key else b""

    def candidate(self, found_at: bytes, id: bytes, kind: str) -> Candidate:
        return Candidate(self._spot(found_at, id, kind.encode()), (id.decode(), kind), found_at)

    def _spot(self, found_at: bytes, id: bytes, kind: bytes) -> Spot:
        segment = self.segment_of_keys if found_at else 1 - self.segment_of_keys
        if not self.descending:
            return Spot(segment, found_at, id, kind)
        # Ids are no codes of which none begins with another; with an end that is lower than all else they are.
        ended = found_at + b"\0" if self.set_letter == "i" else found_at
        return Spot(segment, ended.translate(_TURNED), id, kind)

    def spot_of(self, cursor: Cursor) -> Spot:
        return self._spot(self.place_of(cursor), cursor.id.encode(), cursor.type.encode())

    def cursor(self, candidate: Candidate) -> Cursor:
        """The cursor of a page that ends with a candidate."""
        id, kind = candidate.key
        match self.set_letter:
            case "i":
                return Cursor(id, id, kind)
            case None:
                return Cursor(unescaped(candidate.found_at), id, kind)
        return Cursor(time_of(candidate.found_at), id, kind)


@dataclass(frozen=True, slots=True)
class Shape:
    """What follows the fixed beginning of a sorted set's members."""

    name: str

    def parts(self, member: bytes, before: int, kind: str) -> tuple[bytes, bytes, str]:
        """Place, id and type of a member whose first *before* bytes are fixed."""
        rest = member[before:]
        match self.name:
            case "id":
                return rest, rest, kind
            case "id, type":
                id, _, type_name = rest.partition(b"\0")
                return id, id, type_name.decode()
            case "time, id":
                return rest[:TIME_LENGTH], rest[TIME_LENGTH:], kind
        end = rest.index(KEY_END) + len(KEY_END)
        return rest[:end], rest[end:], kind


ID, TYPED_ID, TIMED, KEYED = Shape("id"), Shape("id, type"), Shape("time, id"), Shape("key, id")
