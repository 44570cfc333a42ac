"""Lists, pages and counts, as steps: rows by a keyset, refilled where a filter has to be checked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unified_storage.arguments import Place
from unified_storage.backends.sql import records
from unified_storage.backends.sql.conditions import Clause, all_of, compiled, is_text
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Slot, Store
from unified_storage.cursors import Cursor
from unified_storage.filters import (
    And,
    Condition,
    Not,
    Or,
    Path,
    Test,
    conjuncts,
    equalities,
    matches,
    named_types,
    sole_type,
)
from unified_storage.interface import Record, Records
from unified_storage.order_keys import index_key
from unified_storage.ordering import Order, after, cursor_of, ordered
from unified_storage.record import is_system

_CHUNK = 500
_ALL = 1 << 62
_MOST_MERGED = 50
_MOST_CLAIMED = 1000
_FEW = 10_000
"""Up to so many rows a filter's index is walked and sorted; beyond, the walk goes by identity."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter ready to be asked: the clause, and what is left to compare in each row."""

    condition: Condition
    clause: Clause
    type: str | None
    rare: tuple[Clause, ...] = ()
    """The equalities that an index serves."""

    @property
    def looks_into_data(self) -> bool:
        return not self.clause.exact and _mentions_data(self.condition)


def _mentions_data(condition: Condition) -> bool:
    match condition:
        case Test(path):
            return path[0] == "data"
        case Not(part):
            return _mentions_data(part)
        case And(parts) | Or(parts):
            return any(map(_mentions_data, parts))


def selection(store: Store, condition: Condition, type_name: str | None = None) -> Selection:
    """*condition* for living, visible records, of one type where that is known."""
    kind = type_name or _type_of(condition)
    slots = searchable(store, kind)
    living = Clause("r.expires_at IS NULL OR r.expires_at > ?", (store.now(),))
    parts = [compiled(condition, slots), living]
    parts.append(Clause("r.type = ?", (kind,)) if kind is not None else _visible(condition))
    rare = tuple(
        compiled(Test(path, "$eq", value), slots)
        for path, value in equalities(condition).items()
        if value is not None and (path in slots or path in (("session_id",), ("thread_id",)))
    )
    return Selection(condition, all_of(parts), kind, rare)


def _type_of(condition: Condition) -> str | None:
    """The one type that can match, where it is known; a name that no type can have matches nothing anyway."""
    kind = sole_type(condition)
    return kind if is_text(kind) else None


def searchable(store: Store, type_name: str | None) -> dict[Path, Slot]:
    """The slots that hold the key of every record of a type."""
    if type_name is None:
        return {}
    return {path: slot for path, slot in store.slots.get(type_name, {}).items() if slot.filled}


def _visible(condition: Condition) -> Clause:
    named = sorted(name for name in named_types(condition) if is_system(name) and is_text(name))
    places = ", ".join("?" * len(named))
    seen = f" OR r.type IN ({places})" if named else ""
    return Clause(f"substr(r.type, 1, 1) <> '_'{seen}", tuple(named))


def _found(store: Store, row: Row, selected: Selection, with_data: bool) -> Record | None:
    """The record of a row, or None when it does not match after all."""
    record = records.shown(row[:-1], row[-1])
    if not selected.clause.exact and not matches(selected.condition, record):
        return None
    if store.claims is not None:
        store.claims.saw((row[0], row[1]), (row[4], row[6]))
    if not with_data:
        record.pop("data", None)
    return record


def _select(
    store: Store, selected: Selection, place: Clause | None, order: str, limit: int, with_data: bool, hint: str = ""
) -> Call:
    shown = ", ".join(f"r.{name}" for name in store.statements.shown_columns)
    prefix = store.statements.prefix
    source = f"{prefix}records AS r{hint}"
    data = "NULL"
    if with_data or selected.looks_into_data:
        source, data = f"{source} JOIN {prefix}documents AS d ON d.n = r.n", "d.data"
    where = selected.clause if place is None else all_of([selected.clause, place])
    return Call(
        f"SELECT {shown}, {data} FROM {source} WHERE {where.text} ORDER BY {order} LIMIT ?", [*where.values, limit]
    )


# -- by identity -------------------------------------------------------------------------------------------------


def in_order(
    store: Store, condition: Condition, start: Place | None, limit: int | None, with_data: bool
) -> Steps[tuple[Records, Place | None]]:
    """Up to *limit* matching records by ``(id, type)``; and where to go on, None at the end."""
    yield from _claim_named(store, condition)
    selected = selection(store, condition)
    by_identity = yield from _walks_by_identity(store, selected, limit)
    order, hint = _identity_order(store, selected, by_identity)
    found: Records = []
    while limit is None or len(found) < limit:
        wanted = _wanted(selected, by_identity, None if limit is None else limit - len(found))
        rows = yield _select(store, selected, _behind(selected, start), order, wanted, with_data, hint)
        for row in rows:
            start = (row[0], row[1])
            record = _found(store, row, selected, with_data)
            if record is not None:
                found.append(record)
                if len(found) == limit:
                    return found, start
        if len(rows) < wanted:
            return found, None
    return found, start


def _claim_named(store: Store, condition: Condition) -> Steps[None]:
    """In a transaction, records that a filter names by their ids are claimed as if each had been loaded."""
    if store.claims is None:
        return
    for test in conjuncts(condition):
        if isinstance(test, Test) and test.path == ("id",) and test.op in ("$eq", "$in"):
            named = [test.value] if test.op == "$eq" else test.value
            ids = {id for id in named if isinstance(id, str)}
            if len(ids) <= _MOST_CLAIMED:
                yield from records.claim_all(store, sorted(filter(is_text, ids)), _type_of(condition))
            return


def _wanted(selected: Selection, by_identity: bool, limit: int | None) -> int:
    """How many rows to ask for at once."""
    if limit is not None and selected.clause.exact:
        return limit
    # What an index finds is sorted each time it is asked: everything at once, unless it is too much.
    return _CHUNK if by_identity or limit is not None else _ALL


def _walks_by_identity(store: Store, selected: Selection, limit: int | None) -> Steps[bool]:
    """Whether a walk goes by identity: also where an index serves the filter, when that would find too many."""
    if not selected.rare:
        return True
    if limit is None:
        return False
    clauses = [*selected.rare[:1]]
    if selected.type is not None:
        clauses.append(Clause("r.type = ?", (selected.type,)))
    where = all_of(clauses)
    inner = f"SELECT 1 FROM {store.statements.prefix}records AS r WHERE {where.text} LIMIT ?"
    rows = yield Call(f"SELECT count(*) FROM ({inner}) AS few", [*where.values, _FEW])
    return bool(rows[0][0] >= _FEW)


def _identity_order(store: Store, selected: Selection, by_identity: bool) -> tuple[str, str]:
    """How to order by identity, and the hint that makes the engine walk that way."""
    if not by_identity:
        # Said as an expression, so that what the filter's index finds is sorted, and not every id looked at.
        return "r.id || '', r.type", ""
    hint = store.statements.identity_hint(selected.type is not None) if selected.rare else ""
    return ("r.id" if selected.type is not None else "r.id, r.type"), hint


def _behind(selected: Selection, start: Place | None) -> Clause | None:
    if start is None:
        return None
    if isinstance(start, str):
        return Clause("r.id > ?", (start,))
    id, type_name = start
    if selected.type is None:
        return Clause("r.id >= ? AND (r.id > ? OR r.type > ?)", (id, id, type_name))
    return Clause("r.id >= ?" if selected.type > type_name else "r.id > ?", (id,))


def count(store: Store, condition: Condition) -> Steps[int]:
    yield from _claim_named(store, condition)
    selected = selection(store, condition)
    if selected.clause.exact:
        where = selected.clause
        rows = yield Call(
            f"SELECT count(*) FROM {store.statements.prefix}records AS r WHERE {where.text}", [*where.values]
        )
        return int(rows[0][0])
    total, start = 0, None
    while True:
        batch, start = yield from in_order(store, condition, start, _CHUNK, with_data=False)
        total += len(batch)
        if start is None:
            return total


# -- pages -------------------------------------------------------------------------------------------------------


def page(
    store: Store, condition: Condition, order: Order, cursor: Cursor | None, wanted: int, with_data: bool
) -> Steps[Records]:
    """The first *wanted* records behind *cursor*. Without a known type, the pages of all types are merged."""
    yield from _claim_named(store, condition)
    kind = _type_of(condition)
    types = [kind] if kind is not None else (yield from _types(store, condition))
    parts = [(type_name, part) for type_name in types for part in _parts(store, condition, type_name)]
    found: Records = []
    for type_name, part in parts:
        found += yield from _page_of_type(store, part, type_name, order, cursor, wanted, with_data)
    return found if len(parts) == 1 else ordered(found, order)[:wanted]


def _parts(store: Store, condition: Condition, type_name: str) -> list[Condition]:
    """*condition*, or where it says ``$in`` of an indexed path one condition for each value.

    An index gives the newest of one value in order, but not of several.
    """
    slots = searchable(store, type_name)
    if any(path in slots and value is not None for path, value in equalities(condition).items()):
        return [condition]
    for test in conjuncts(condition):
        if isinstance(test, Test) and test.op == "$in" and test.path in slots and len(test.value) <= _MOST_MERGED:
            others = [part for part in conjuncts(condition) if part is not test]
            keys = [index_key(value) for value in test.value]
            if not all(exact for _, exact in keys):
                return [condition]  # values of one key cannot be told apart by it
            values = {key: value for (key, _), value in zip(keys, test.value, strict=True)}
            return [And((*others, Test(test.path, "$eq", value))) for value in values.values()]
    return [condition]


def _types(store: Store, condition: Condition) -> Steps[list[str]]:
    """The types that are there and visible; one look into an index for each."""
    named = named_types(condition)
    types: list[str] = []
    last = ""
    while True:
        rows = yield store.statements.next_type(type=last)
        last = rows[0][0]
        if last is None:
            return types
        if not is_system(last) or last in named:
            types.append(last)


def _page_of_type(
    store: Store,
    condition: Condition,
    type_name: str,
    order: Order,
    cursor: Cursor | None,
    wanted: int,
    with_data: bool,
) -> Steps[Records]:
    selected = selection(store, condition, type_name)
    slot = searchable(store, type_name).get(order.path)
    if len(order.path) == 1:
        column = f"r.{order.path[0]}"
        return (
            yield from _walk(store, selected, [_Segment(column, order.descending)], order, cursor, wanted, with_data)
        )
    if slot is None:
        return (yield from _sorted_page(store, selected, order, cursor, wanted, with_data))
    column = f"r.k{slot.number}"
    keys = _Segment(column, order.descending, Clause(f"{column} IS NOT NULL"))
    empty = _Segment(None, order.descending, Clause(f"{column} IS NULL"))
    segments = [keys, empty] if order.descending else [empty, keys]
    return (yield from _walk(store, selected, segments, order, cursor, wanted, with_data))


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of an order: by a column, or by identity alone where the column is empty."""

    column: str | None
    descending: bool
    where: Clause | None = None

    @property
    def order(self) -> str:
        if self.column is None or self.column == "r.id":
            return "r.id DESC" if self.column and self.descending else "r.id"
        return f"{self.column} {'DESC' if self.descending else 'ASC'}, r.id"

    def holds(self, cursor: Cursor) -> bool:
        return cursor.key == b"" if self.column is None else cursor.key != b""

    def behind(self, cursor: Cursor, type_name: str) -> Clause:
        """The rows of one type that come after the cursor."""
        sign = "<" if self.descending else ">"
        # At the same place and id, the types behind the cursor's own are still to come.
        tie = ">=" if type_name > cursor.type else ">"
        if self.column is None:
            return Clause(f"r.id {tie} ?", (cursor.id,))
        if self.column == "r.id":
            return Clause(f"r.id {sign}{'=' if tie == '>=' else ''} ?", (cursor.id,))
        text = f"{self.column} {sign}= ? AND ({self.column} {sign} ? OR r.id {tie} ?)"
        return Clause(text, (cursor.key, cursor.key, cursor.id))


def _walk(
    store: Store,
    selected: Selection,
    segments: list[_Segment],
    order: Order,
    cursor: Cursor | None,
    wanted: int,
    with_data: bool,
) -> Steps[Records]:
    found: Records = []
    for segment in _from(segments, cursor):
        place = cursor if cursor is not None and (len(segments) == 1 or segment.holds(cursor)) else None
        while len(found) < wanted:
            limits = [
                clause for clause in (segment.where, place and segment.behind(place, selected.type or "")) if clause
            ]
            asked = wanted - len(found) if selected.clause.exact else max(_CHUNK, wanted)
            rows = yield _select(store, selected, all_of(limits) if limits else None, segment.order, asked, with_data)
            for row in rows:
                record = _found(store, row, selected, with_data)
                if record is not None:
                    found.append(record)
            if len(rows) < asked:
                break
            place = _place_of(order, rows[-1])
    return found[:wanted]


def _from(segments: list[_Segment], cursor: Cursor | None) -> Iterator[_Segment]:
    """The segments from the one that holds the cursor on."""
    begun = cursor is None or len(segments) == 1
    for segment in segments:
        begun = begun or (cursor is not None and segment.holds(cursor))
        if begun:
            yield segment


def _place_of(order: Order, row: Row) -> Cursor:
    """The place of a row, whether it matched or not."""
    return cursor_of(order, records.shown(row[:-1], row[-1] if order.path[0] == "data" else None))


def _sorted_page(
    store: Store, selected: Selection, order: Order, cursor: Cursor | None, wanted: int, with_data: bool
) -> Steps[Records]:
    """A page of a type that has no index for this order: everything is read and sorted."""
    typed = And((selected.condition, Test(("type",), "$eq", selected.type)))
    everything, _ = yield from in_order(store, typed, None, None, True)
    behind: list[dict[str, Any]] = [record for record in everything if cursor is None or after(order, cursor, record)]
    shown = ordered(behind, order)[:wanted]
    if not with_data:
        for record in shown:
            del record["data"]
    return shown
