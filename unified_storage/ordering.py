"""The order of pages, and the cursors that go on in it.

Pages by an indexed path go by the first 512 bytes of the value's :func:`order_key`. Ties are broken by (id, type)
ascending, in either direction, on every backend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from unified_storage.cursors import Cursor, read_text, write_text
from unified_storage.errors import StorageValidationError
from unified_storage.filters import Condition, Path, parse_path, path_text, value_at
from unified_storage.order_keys import KEY_LIMIT, index_key, order_key
from unified_storage.times import micros

__all__ = [
    "KEY_LIMIT",
    "Cursor",
    "Order",
    "Place",
    "after",
    "cursor_of",
    "index_key",
    "order_key",
    "ordered",
    "parse_order",
    "place",
    "read_cursor",
    "write_cursor",
]

Place: TypeAlias = int | str | bytes
"""Where a record stands: microseconds for times, the id itself, the cut :func:`order_key` for an indexed path."""

_Record = TypeVar("_Record", bound=Mapping[str, Any])
_TIMES: tuple[Path, ...] = (("created_at",), ("updated_at",))
_ID: Path = ("id",)


@dataclass(frozen=True, slots=True)
class Order:
    """By the value at *path*, upwards or downwards."""

    path: Path
    descending: bool = False

    def __str__(self) -> str:
        return "-" * self.descending + path_text(self.path)


def parse_order(order_by: str, indexed: Collection[Path]) -> Order:
    """The order that *order_by* writes: ``id``, ``created_at``, ``updated_at`` or an indexed path, ``-`` for downwards.

    Raises:
        StorageValidationError: anything else.
    """
    if not isinstance(order_by, str):
        raise StorageValidationError(f"order_by is a text, not {type(order_by).__name__}")
    descending = order_by.startswith("-")
    path = parse_path(order_by[1:] if descending else order_by)
    if path != _ID and path not in _TIMES and path not in indexed:
        raise StorageValidationError(
            f"cannot order by {path_text(path)!r}: only by id, created_at, updated_at and indexed paths",
            details={"path": path_text(path)},
        )
    return Order(path, descending)


def place(order: Order, record: Mapping[str, Any]) -> Place:
    """Where *record* stands in *order*, before ties are broken."""
    value = value_at(record, order.path)
    if order.path in _TIMES:
        return micros(value)
    if order.path == _ID:
        return str(value)
    return order_key(value)[:KEY_LIMIT]


def ordered(records: Iterable[_Record], order: Order) -> list[_Record]:
    """*records* as pages show them; ties by (id, type) ascending also where *order* goes downwards."""
    by_identity = sorted(records, key=lambda record: (record["id"], record["type"]))
    return sorted(by_identity, key=lambda record: place(order, record), reverse=order.descending)


def after(order: Order, cursor: Cursor, record: Mapping[str, Any]) -> bool:
    """Whether *record* comes behind *cursor* in *order*."""
    here: Any = place(order, record)
    if here != cursor.key:
        return bool(here < cursor.key if order.descending else here > cursor.key)
    return (record["id"], record["type"]) > (cursor.id, cursor.type)


def cursor_of(order: Order, record: Mapping[str, Any]) -> Cursor:
    """The cursor of a page that ends with *record*."""
    return Cursor(place(order, record), record["id"], record["type"])


def write_cursor(cursor: Cursor, order: Order, condition: Condition) -> str:
    """*cursor* as opaque text for URLs, bound to *order* and *condition* (not to how its filters were written)."""
    return write_text(cursor, str(order), condition)


def read_cursor(text: str, order: Order, condition: Condition) -> Cursor:
    """The cursor that :func:`write_cursor` wrote.

    Raises:
        StorageValidationError: damaged, or written for another order or other filters.
    """
    cursor = read_text(text, str(order), condition)
    wanted = int if order.path in _TIMES else str if order.path == _ID else bytes
    if type(cursor.key) is not wanted:
        raise StorageValidationError("the cursor is damaged")
    return cursor
