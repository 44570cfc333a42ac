"""Lists, pages and counts, as steps: rows by a keyset, refilled where a filter has to be checked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from unified_storage.arguments import Place
from unified_storage.backends.sql import records
from unified_storage.backends.sql.conditions import Clause, all_equal, all_of, compiled, equal_texts, is_text
from unified_storage.backends.sql.named import in_order as named_in_order
from unified_storage.backends.sql.named import named_by
from unified_storage.backends.sql.shown import shown, shown_without_data
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Slot, Store
from unified_storage.cursors import Cursor
from unified_storage.errors import StorageIntegrityError
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

_ENDING = "r.expires_at IS NOT NULL"
_LIVING = "r.expires_at IS NULL OR r.expires_at > ?"
_OF_TYPE = "r.type = ?"
_CHUNK = 500
_ALL = 1 << 62
_MOST_MERGED = 50
_MOST_CLAIMED = 1000
_FEW = 10_000
"""Up to so many rows a filter's index is walked and sorted; beyond, the walk goes by identity."""
_FEW_FOR_A_PAGE = 2_000
"""The same for a page, which asks for little: beyond, it is found soon in the order that is asked for."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter ready to be asked: the clause, and what is left to compare in each row.

    Attributes:
        unended: the clause without a word on what has ended, which may be met by what has.
    """

    condition: Condition
    clause: Clause
    type: str | None
    unended: Clause

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
    living = Clause(_LIVING, (store.now(),))
    shown = _visible(condition) if kind is None else Clause(_OF_TYPE, (kind,))
    said = compiled(condition, searchable(store, kind))
    return Selection(condition, all_of([said, living, shown]), kind, all_of([said, shown]))


def _rare(store: Store, selected: Selection) -> Clause | None:
    """The first equality that an index serves, if there is one."""
    slots = searchable(store, selected.type)
    for path, value in equalities(selected.condition).items():
        if value is not None and (path in slots or path in (("session_id",), ("thread_id",))):
            return compiled(Test(path, "$eq", value), slots)
    return None


def _type_of(condition: Condition) -> str | None:
    """The one type that can match, where it is known; a name that no type can have matches nothing anyway."""
    kind = sole_type(condition)
    return kind if is_text(kind) else None


def searchable(store: Store, type_name: str | None) -> Mapping[Path, Slot]:
    """The slots that hold the key of every record of a type."""
    return {} if type_name is None else store.filled.get(type_name, {})


def _visible(condition: Condition) -> Clause:
    named = sorted(name for name in named_types(condition) if is_system(name) and is_text(name))
    places = ", ".join("?" * len(named))
    seen = f" OR r.type IN ({places})" if named else ""
    return Clause(f"substr(r.type, 1, 1) <> '_'{seen}", tuple(named))


def _all_found(store: Store, rows: Sequence[Row], selected: Selection, with_data: bool) -> Records:
    """The records of those rows that match."""
    if with_data and selected.clause.exact and store.claims is None:
        return [*map(shown, rows)]
    found = [_found(store, row, selected, with_data) for row in rows]
    return [record for record in found if record is not None]


def _found(store: Store, row: Row, selected: Selection, with_data: bool) -> Record | None:
    """The record of a row, or None when it does not match after all."""
    record = shown(row) if with_data or selected.looks_into_data else shown_without_data(row)
    if not selected.clause.exact and not matches(selected.condition, record):
        return None
    if store.claims is not None:
        store.claims.saw((row[0], row[1]), (row[4], row[6]))
    if not with_data:
        record.pop("data", None)
    return record


def _select(
    store: Store,
    selected: Selection,
    places: Sequence[Clause],
    order: str,
    limit: int,
    with_data: bool,
    *,
    hint: str = "",
    is_all: bool = False,
) -> Call:
    """The first rows at *places*, which follow each other; without any, of all."""
    prefix = store.statements.prefix
    source = f"{prefix}records AS r{hint}"
    data = "NULL"
    if with_data or selected.looks_into_data:
        source, data = f"{source} LEFT JOIN {prefix}documents AS d ON d.n = r.n", "d.data"
    beginning = f"SELECT {store.statements.shown_of_r}, {data} FROM {source} WHERE"
    wheres = [all_of([selected.clause, place]) for place in places] or [selected.clause]
    texts = [f"{beginning} {where.text} ORDER BY {order} LIMIT ?" for where in wheres]
    values = [value for where in wheres for value in (*where.values, limit)]
    if len(texts) == 1:
        return Call(texts[0], values, is_all=is_all)
    # The parts of a UNION ALL come in their order, and none that the limit does not reach.
    parts = " UNION ALL ".join(f"({text})" for text in texts)
    return Call(f"{parts} LIMIT ?", [*values, limit], is_all=is_all)


# -- by identity -------------------------------------------------------------------------------------------------


def in_order(
    store: Store, condition: Condition, start: Place | None, limit: int | None, with_data: bool
) -> Steps[tuple[Records, Place | None]]:
    """Up to *limit* matching records by ``(id, type)``; and where to go on, None at the end."""
    yield from _claim_named(store, condition)
    if (named := named_by(condition)) is not None:
        return (yield from named_in_order(store, condition, named, start, limit, with_data))
    selected = selection(store, condition)
    rare = _rare(store, selected)
    by_identity = yield from _walks_by_identity(store, selected, rare, limit)
    order, hint = _identity_order(store, selected, by_identity, hinted=rare is not None)
    found: Records = []
    while limit is None or len(found) < limit:
        wanted = _wanted(selected, by_identity, None if limit is None else limit - len(found))
        is_all = wanted == _ALL or (limit is not None and selected.clause.exact)
        places = _behind(selected, start)
        rows = yield _select(store, selected, places, order, wanted, with_data, hint=hint, is_all=is_all)
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


def _walks_by_identity(store: Store, selected: Selection, rare: Clause | None, limit: int | None) -> Steps[bool]:
    """Whether a walk goes by identity: also where an index serves the filter, when that would find too many."""
    if rare is None:
        return True
    if limit is None:
        return False
    return (yield from _finds_many(store, selected, rare, _FEW))


def _finds_many(store: Store, selected: Selection, rare: Clause, many: int) -> Steps[bool]:
    """Whether *rare*, which an index serves, finds at least *many* rows."""
    where = rare if selected.type is None else all_of([rare, Clause(_OF_TYPE, (selected.type,))])
    inner = f"SELECT 1 FROM {store.statements.prefix}records AS r WHERE {where.text} LIMIT ?"
    rows = yield Call(f"SELECT count(*) FROM ({inner}) AS few", [*where.values, many])
    return bool(rows[0][0] >= many)


def _identity_order(store: Store, selected: Selection, by_identity: bool, *, hinted: bool) -> tuple[str, str]:
    """How to order by identity, and the hint that makes the engine walk that way."""
    if not by_identity:
        # Said as an expression, so that what the filter's index finds is sorted, and not every id looked at.
        return "r.id || '', r.type", ""
    hint = store.statements.identity_hint(selected.type is not None) if hinted else ""
    return ("r.id" if selected.type is not None else "r.id, r.type"), hint


def _behind(selected: Selection, start: Place | None) -> list[Clause]:
    if start is None:
        return []
    if isinstance(start, str):
        return [Clause("r.id > ?", (start,))]
    id, type_name = start
    if selected.type is None:
        return [Clause("r.id >= ? AND (r.id > ? OR r.type > ?)", (id, id, type_name))]
    return [Clause("r.id >= ?" if selected.type > type_name else "r.id > ?", (id,))]


def count(store: Store, condition: Condition) -> Steps[int]:
    yield from _claim_named(store, condition)
    selected = selection(store, condition)
    if selected.clause.exact:
        rows = yield _counted(store, selected)
        return int(rows[0][0])
    total, start = 0, None
    while True:
        batch, start = yield from in_order(store, condition, start, _CHUNK, with_data=False)
        total += len(batch)
        if start is None:
            return total


def _counted(store: Store, selected: Selection) -> Call:
    """How many match and have not ended; while nothing has, as nearly always, an index alone tells it."""
    records_of = f"FROM {store.statements.prefix}records AS r WHERE"
    living, everything = selected.clause, selected.unended
    counted = f"SELECT count(*) {records_of}"
    text = (
        f"SELECT CASE WHEN (SELECT min(r.expires_at) {records_of} {_ENDING}) <= ? "
        f"THEN ({counted} {living.text}) ELSE ({counted} {everything.text}) END"
    )
    return Call(text, [store.now(), *living.values, *everything.values], is_all=True)


# -- pages -------------------------------------------------------------------------------------------------------


def page(
    store: Store, condition: Condition, order: Order, cursor: Cursor | None, wanted: int, with_data: bool
) -> Steps[Records]:
    """The first *wanted* records behind *cursor*. Without a known type, the pages of all types are merged."""
    if cursor is None and with_data and (plain := _plain_page(store, condition, order, wanted)) is not None:
        return [*map(shown, (yield plain))]
    yield from _claim_named(store, condition)
    kind = _type_of(condition)
    types = [kind] if kind is not None else (yield from _types(store, condition))
    parts = [(type_name, part) for type_name in types for part in _parts(store, condition, type_name)]
    if kind is not None and len(parts) == 1:
        return (yield from _page_of_type(store, parts[0][1], kind, order, cursor, wanted, with_data, is_all=True))
    found: Records = []
    for type_name, part in parts:
        found += yield from _page_of_type(store, part, type_name, order, cursor, wanted, with_data)
    return found if len(parts) == 1 else ordered(found, order)[:wanted]


def _plain_page(store: Store, condition: Condition, order: Order, wanted: int) -> Call | None:
    """The one statement of the page that most ask for: the first one of a type, where some texts are equal.

    It is what the long way comes to, found by the filter's shape. None for what takes more than that.
    """
    if store.claims is not None or len(order.path) > 1 or not isinstance(condition, And):
        return None
    kind = _type_of(condition)
    said = None if kind is None else equal_texts(condition.parts, searchable(store, kind))
    if said is None or not (store.statements.knows_counts or _is_in_order(said[0], order)):
        return None
    columns, values = said
    statements = store.statements
    text = _plain_text(statements.prefix, statements.shown_of_r, columns, order.path[0], order.descending)
    return Call(text, [*values, store.now(), kind, wanted], is_all=True)


def _is_in_order(columns: Sequence[str], order: Order) -> bool:
    """Whether an index has what a filter on *columns* finds in this order, as far as any index serves the filter."""
    if order.path == ("updated_at",) and any(column.startswith("r.k") for column in columns):
        return True
    return not any(column.startswith("r.k") or column in ("r.session_id", "r.thread_id") for column in columns)


@lru_cache(maxsize=256)
def _plain_text(prefix: str, shown: str, columns: Sequence[str], name: str, descending: bool) -> str:
    where = all_of([Clause(all_equal(columns)), Clause(_LIVING), Clause(_OF_TYPE)]).text
    segment = _Segment(f"r.{name}", descending)
    source = f"{prefix}records AS r LEFT JOIN {prefix}documents AS d ON d.n = r.n"
    return f"SELECT {shown}, d.data FROM {source} WHERE {where} ORDER BY {segment.order} LIMIT ?"


def _parts(store: Store, condition: Condition, type_name: str) -> list[Condition]:
    """*condition*, or where it says ``$in`` of an indexed path one condition for each value.

    An index gives the newest of one value in order, but not of several.
    """
    slots = searchable(store, type_name)
    choices = [test for test in conjuncts(condition) if isinstance(test, Test) and test.op == "$in"]
    if choices and any(path in slots and value is not None for path, value in equalities(condition).items()):
        return [condition]
    for test in choices:
        if test.path in slots and len(test.value) <= _MOST_MERGED:
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
    *,
    is_all: bool = False,
) -> Steps[Records]:
    """A page of one type. *is_all*: no other page is asked for with it."""
    selected = selection(store, condition, type_name)
    if len(order.path) == 1:
        rare = None if _index_gives(store, selected, order) else _rare_for_page(store, selected)
        is_sorted = rare is not None and not (yield from _finds_many(store, selected, rare, _FEW_FOR_A_PAGE))
        segment = _Segment(f"r.{order.path[0]}", order.descending, is_sorted=is_sorted)
        is_alone = is_all and rare is None
        return (yield from _walk(store, selected, [segment], order, cursor, wanted, with_data, is_all=is_alone))
    slot = searchable(store, type_name).get(order.path)
    if slot is None:
        return (yield from _sorted_page(store, selected, order, cursor, wanted, with_data))
    column = f"r.k{slot.number}"
    keys = _Segment(column, order.descending, Clause(f"{column} IS NOT NULL"))
    rare = _rare_for_page(store, selected)
    is_sorted = rare is not None and not (yield from _finds_many(store, selected, rare, _FEW_FOR_A_PAGE))
    empty = _Segment(None, order.descending, Clause(f"{column} IS NULL"), is_sorted=is_sorted)
    segments = [keys, empty] if order.descending else [empty, keys]
    return (yield from _walk(store, selected, segments, order, cursor, wanted, with_data))


def _rare_for_page(store: Store, selected: Selection) -> Clause | None:
    """As :func:`_rare`, where the engine itself does not know how little that finds."""
    return None if store.statements.knows_counts else _rare(store, selected)


def _index_gives(store: Store, selected: Selection, order: Order) -> bool:
    """Whether the index of a path that the filter pins has its records in this order: the newest first."""
    slots = searchable(store, selected.type)
    pinned = equalities(selected.condition).items()
    return order.path == ("updated_at",) and any(path in slots and value is not None for path, value in pinned)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of an order: by a column, or by identity alone where the column is empty."""

    column: str | None
    descending: bool
    where: Clause | None = None
    is_sorted: bool = False
    """Said as an expression, so that what another index finds is sorted, and not every row looked at in order."""

    @property
    def order(self) -> str:
        if self.is_sorted and self.column in (None, "r.id"):
            return "r.id || '' DESC" if self.column and self.descending else "r.id || ''"
        if self.is_sorted:
            return f"{self.column} + 0 {'DESC' if self.descending else 'ASC'}, r.id"
        if self.column is None or self.column == "r.id":
            return "r.id DESC" if self.column and self.descending else "r.id"
        return f"{self.column} {'DESC' if self.descending else 'ASC'}, r.id"

    @property
    def has_keys(self) -> bool:
        """Whether it goes by the keys of an indexed path."""
        return self.column is not None and self.where is not None

    def holds(self, cursor: Cursor) -> bool:
        return cursor.key == b"" if self.column is None else cursor.key != b""

    def behind(self, cursor: Cursor, type_name: str) -> list[Clause]:
        """The rows of one type that come after the cursor: those that share its key, then those behind it.

        Apart, so that an index leads to each: many may share a key, such as the time of one import.
        """
        sign = "<" if self.descending else ">"
        # At the same place and id, the types behind the cursor's own are still to come.
        tie = ">=" if type_name > cursor.type else ">"
        if self.column is None:
            return [Clause(f"r.id {tie} ?", (cursor.id,))]
        if self.column == "r.id":
            return [Clause(f"r.id {sign}{'=' if tie == '>=' else ''} ?", (cursor.id,))]
        return [
            Clause(f"{self.column} = ? AND r.id {tie} ?", (cursor.key, cursor.id)),
            Clause(f"{self.column} {sign} ?", (cursor.key,)),
        ]

    def between(self, place: Cursor | None, last: object | None) -> Clause:
        """The rows whose keys come behind that of *place* and before *last*."""
        clauses = [] if self.where is None else [self.where]
        if place is not None:
            clauses.append(Clause(f"{self.column} {'<' if self.descending else '>'} ?", (place.key,)))
        if last is not None:
            clauses.append(Clause(f"{self.column} {'>' if self.descending else '<'} ?", (last,)))
        return all_of(clauses)


def _walk(
    store: Store,
    selected: Selection,
    segments: list[_Segment],
    order: Order,
    cursor: Cursor | None,
    wanted: int,
    with_data: bool,
    *,
    is_all: bool = False,
) -> Steps[Records]:
    """The records of one or more segments of an order. *is_all*: nothing else is asked for with them."""
    found: Records = []
    for segment in _from(segments, cursor):
        place = cursor if cursor is not None and (len(segments) == 1 or segment.holds(cursor)) else None
        if segment.has_keys:
            found += yield from _walk_keys(store, selected, segment, order, place, wanted - len(found), with_data)
            continue
        stretches = _stretches(store, selected, segment, place)
        is_only = is_all and selected.clause.exact and len(segments) == len(stretches) == 1
        while stretches and len(found) < wanted:
            asked = wanted - len(found) if selected.clause.exact else max(_CHUNK, wanted)
            rows = yield _select(store, selected, stretches[0], segment.order, asked, with_data, is_all=is_only)
            found.extend(_all_found(store, rows, selected, with_data))
            if len(rows) < asked:
                del stretches[0]
            else:
                stretches = _stretches(store, selected, segment, _place_of(order, rows[-1]))
    return found[:wanted]


def _walk_keys(
    store: Store,
    selected: Selection,
    segment: _Segment,
    order: Order,
    place: Cursor | None,
    wanted: int,
    with_data: bool,
) -> Steps[Records]:
    """Up to *wanted* records that have a key at an indexed path, behind *place*.

    The index has the records of one key by their time. To ask for a stretch of keys by identity would make the engine
    sort all that share a key, which may be most of the store: so first it is asked how far the page reaches.
    """
    found: Records = []
    while len(found) < wanted:
        asked = wanted - len(found) if selected.clause.exact else max(_CHUNK, wanted)
        if place is not None:
            same, by = yield from _within(store, selected, segment, place)
            rows = yield _select(store, selected, [same], by, asked, with_data)
            found += _all_found(store, rows, selected, with_data)
            if len(rows) >= asked:
                place = _place_of(order, rows[-1])
                continue
        keys = yield _next_keys(store, selected, segment, place, asked)
        if not keys:
            break
        last = _key(keys[-1][0])
        if keys[0] != keys[-1]:
            rows = yield _select(store, selected, [segment.between(place, last)], segment.order, asked, with_data)
            found += _all_found(store, rows, selected, with_data)
        place = Cursor(last, "", "")  # in front of the first record that has it
    return found[:wanted]


def _within(store: Store, selected: Selection, segment: _Segment, place: Cursor) -> Steps[tuple[Clause, str]]:
    """The rows behind *place* that share its key, and their order by identity: few are sorted, of many is walked."""
    same = Clause(f"{segment.column} IS NOT NULL AND {segment.column} = ?", (place.key,))
    is_many = yield from _finds_many(store, selected, same, _FEW_FOR_A_PAGE)
    # As an expression no index of ids can serve it.
    named = "r.id" if is_many else "r.id || ''"
    sign = ">=" if (selected.type or "") > place.type else ">"
    return all_of([same, Clause(f"{named} {sign} ?", (place.id,))]), named


def _key(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise StorageIntegrityError("a key of an indexed path is damaged: unified-storage doctor repairs it") from None


def _next_keys(store: Store, selected: Selection, segment: _Segment, place: Cursor | None, asked: int) -> Call:
    """The keys of the next rows behind all that have the key of *place*, in hexadecimal digits."""
    where = all_of([selected.clause, segment.between(place, None)])
    order = f"{segment.column} {'DESC' if segment.descending else 'ASC'}"
    source = f"{store.statements.prefix}records AS r"
    key = store.statements.key_as_text(segment.column or "")
    text = f"SELECT {key} FROM {source} WHERE {where.text} ORDER BY {order} LIMIT ?"
    return Call(text, [*where.values, asked])


def _stretches(store: Store, selected: Selection, segment: _Segment, place: Cursor | None) -> list[list[Clause]]:
    """What of a segment lies behind *place*: each one's clauses are asked for in one statement."""
    clauses = [] if place is None else segment.behind(place, selected.type or "")
    if segment.where is not None:
        clauses = [all_of([segment.where, clause]) for clause in clauses] or [segment.where]
    if store.statements.asks_at_once or len(clauses) < 2:
        return [clauses]
    return [[clause] for clause in clauses]


def _from(segments: list[_Segment], cursor: Cursor | None) -> Iterator[_Segment]:
    """The segments from the one that holds the cursor on."""
    begun = cursor is None or len(segments) == 1
    for segment in segments:
        begun = begun or (cursor is not None and segment.holds(cursor))
        if begun:
            yield segment


def _place_of(order: Order, row: Row) -> Cursor:
    """The place of a row, whether it matched or not."""
    return cursor_of(order, shown(row) if order.path[0] == "data" else shown_without_data(row))


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
