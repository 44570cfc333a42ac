"""Saving, loading, updating and deleting one record, as steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from unified_storage.arguments import check_version
from unified_storage.backends.sql.shown import shown
from unified_storage.backends.sql.statements import Row, Statement, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.backends.sql.updates import Change
from unified_storage.errors import StorageError
from unified_storage.interface import Record
from unified_storage.record import Draft, checked_record, updated_record
from unified_storage.stored import GROUPS, Stamps, only_one, saved_stamps
from unified_storage.times import micros

_AT_ONCE = 500
T = TypeVar("T")


class Head(NamedTuple):
    """The part of a record that every verb looks at; times in microseconds."""

    n: int
    id: str
    type: str
    version: int
    created_at: int
    updated_at: int
    expires_at: int | None

    @property
    def stamps(self) -> Stamps:
        return Stamps(self.version, self.created_at, self.updated_at)

    @property
    def state(self) -> tuple[int, int]:
        """What moves with every change."""
        return self.version, self.updated_at

    def lives(self, now: int) -> bool:
        return self.expires_at is None or self.expires_at > now


def head(store: Store, id: str, type_name: str) -> Steps[Head | None]:
    """The head of one record, living or expired, for a change of it: locked where writers meet at rows."""
    rows = yield store.statements.head(id=id, type=type_name)
    found = Head(*rows[0]) if rows else None
    if store.claims is not None:
        store.claims.take((id, type_name), None if found is None else found.state)
    return found


def head_of_owner(store: Store, id: str, type_name: str) -> Steps[Head | None]:
    """As :func:`head`, where it is an answer that there is none."""
    rows = yield from _held(store, store.statements.head, store.statements.peek, id=id, type=type_name)
    found = Head(*rows[0]) if rows else None
    if store.claims is not None:
        store.claims.take((id, type_name), None if found is None else found.state)
    return found


def living_head(store: Store, id: str, type_name: str | None) -> Steps[Head | None]:
    """The head of a living record, for a change of it; two types under one id need a type."""
    statements = store.statements
    if type_name is None:
        rows = yield from _held(store, statements.heads, statements.peeks, id=id)
    else:
        rows = yield from _held(store, statements.head, statements.peek, id=id, type=type_name)
    heads = [Head(*row) for row in rows]
    _claim(store, id, heads)
    found = _living(heads, id, type_name, store.now())
    if found is None:
        _missed(store, id, type_name)
    return found


def _held(store: Store, locking: Statement, looking: Statement, **names: str) -> Steps[list[Row]]:
    """The rows that *locking* finds; *looking* asks the same without a lock.

    Whoever has waited for a row that was deleted meanwhile may not be shown the one that took its place in the same
    transaction: that must not pass for an absence.
    """
    rows = yield locking(**names)
    while not rows and store.statements.misses_successors and (yield looking(**names)):
        rows = yield locking(**names)
    return rows


def seen_head(store: Store, id: str, type_name: str | None) -> Steps[Head | None]:
    """The head of a living record, to look at; a transaction that looks keeps others from changing it."""
    if store.claims is not None:
        return (yield from living_head(store, id, type_name))
    if type_name is None:
        rows = yield store.statements.peeks(id=id)
    else:
        rows = yield store.statements.peek(id=id, type=type_name)
    return _living([Head(*row) for row in rows], id, type_name, store.now())


def _claim(store: Store, id: str, heads: Iterable[Head]) -> None:
    if store.claims is not None:
        for found in heads:
            store.claims.take((id, found.type), found.state)


def _living(heads: Iterable[Head], id: str, type_name: str | None, now: int) -> Head | None:
    """The one of *heads*, all of an id, that an id and a type mean."""
    return only_one(id, type_name, {head.type: head for head in heads if head.lives(now)})


def claim_all(store: Store, ids: Sequence[str], type_name: str | None) -> Steps[None]:
    """Hold several records, in the order given; those that are not there are noted."""
    statements = store.statements
    for named in _parts(ids):
        rows = yield statements.heads_of(named) if type_name is None else statements.heads_of_type(named, type_name)
        heads = [Head(*row) for row in rows]
        for found in heads:
            _claim(store, found.id, [found])
        for id in {*named} - {found.id for found in heads}:
            _missed(store, id, type_name)


def _missed(store: Store, id: str, type_name: str | None) -> None:
    """Note that a transaction looked and found nothing: that counts as a read too."""
    if store.claims is not None:
        store.claims.missed(id if type_name is None else (id, type_name))


def load(store: Store, id: str, type_name: str | None) -> Steps[Record | None]:
    if store.claims is None and type_name is not None:
        rows = yield store.statements.load(id=id, type=type_name)
        row = rows[0] if rows and _head_of(rows[0]).lives(store.now()) else None
    else:
        row = yield from _whole(store, id, type_name, for_change=store.claims is not None)
    return None if row is None else shown(row[1:])


def _whole(store: Store, id: str, type_name: str | None, *, for_change: bool) -> Steps[Row | None]:
    """The row of a living record with its document (None: it is not there), locked where it is for a change."""
    statements = store.statements
    names = {"id": id} if type_name is None else {"id": id, "type": type_name}
    locking, looking = (
        (statements.claim_any, statements.load_any) if type_name is None else (statements.claim, statements.load)
    )
    if for_change:
        rows = yield from _held_whole(locking, looking, **names)
    else:
        rows = yield looking(**names)
    heads = {_head_of(row): row for row in rows}
    if for_change:
        _claim(store, id, heads)
    found = _living(heads, id, type_name, store.now())
    if found is None:
        _missed(store, id, type_name)
        return None
    return heads[found]


def _held_whole(locking: Statement, looking: Statement, **names: str) -> Steps[list[Row]]:
    """As :func:`_held`, for statements whose rows end with the document; a head that lacks it is found too."""
    while True:
        rows = yield locking(**names)
        if rows:
            return rows
        rows = yield looking(**names)
        if all(row[-1] is None for row in rows):
            return rows


def _head_of(row: Row) -> Head:
    """The head in a row that has the number before the shown columns."""
    return Head(row[0], row[1], row[2], row[5], row[6], row[7], row[8])


def exists(store: Store, id: str, type_name: str | None) -> Steps[bool]:
    found = yield from seen_head(store, id, type_name)
    return found is not None


def save(store: Store, draft: Draft, expected_version: int | None = None) -> Steps[str]:
    stored = yield from head(store, draft.id, draft.type)
    now = store.now()
    if stored is not None and not stored.lives(now):
        check_version(expected_version, 0, draft.id)
        yield from drop(store, stored.n)
        stored = None
    check_version(expected_version, stored.version if stored else 0, draft.id)
    yield from _put(store, draft, stored, saved_stamps(draft, _stamps_of(stored), now))
    return draft.id


def _stamps_of(stored: Head | None) -> Stamps | None:
    return None if stored is None else stored.stamps


def _put(store: Store, draft: Draft, stored: Head | None, stamps: Stamps) -> Steps[None]:
    """Write a record, over the one that is stored."""
    if stored is None:
        yield from insert(store, draft, stamps)
        return
    yield store.statements.update_record(row=stored.n, **written(store, draft, stamps))
    yield store.statements.put_document(row=stored.n, data=draft.data_text)  # also where that was lost


def insert(store: Store, draft: Draft, stamps: Stamps) -> Steps[int]:
    """Write a new record; its row number."""
    rows = yield store.statements.insert_record(**written(store, draft, stamps))
    number: int = rows[0][0]
    yield store.statements.insert_document(row=number, data=draft.data_text)
    if store.claims is not None:
        store.claims.owns(draft.key)
    return number


def written(store: Store, draft: Draft, stamps: Stamps) -> dict[str, Any]:
    """The values of a record's row by their columns, its number aside."""
    return dict(zip(store.statements.insert_records.names, row_of(store, draft, stamps), strict=True))


def row_of(store: Store, draft: Draft, stamps: Stamps) -> tuple[Any, ...]:
    """The values of a record's row, its number aside."""
    expires_at = draft.expires_at
    keys = store.keys(draft, {**stamps._asdict(), "expires_at": expires_at})
    names = draft.id, draft.type, draft.session_id, draft.thread_id
    return (*names, *stamps, expires_at, draft.metadata_text, *keys)


def update(
    store: Store, id: str, updates: Mapping[str, Any], type_name: str | None, expected_version: int | None
) -> Steps[bool]:
    row = yield from _whole(store, id, type_name, for_change=True)
    if row is None:
        check_version(expected_version, 0, id)
        updated_record({}, updates)  # refuses what is wrong also when there is nothing to change
        return False
    stored = _head_of(row)
    check_version(expected_version, stored.version, id)
    changed = checked_record(updated_record(shown(row[1:]), updates))
    yield from _put(store, changed, stored, stored.stamps.touched(store.now()))
    return True


def _verdict_without_record(id: str, change: Change) -> bool | StorageError:
    try:
        check_version(change.expected_version, 0, id)
        updated_record({}, change.updates)  # refuses what is wrong also when there is nothing to change
    except StorageError as error:
        return error
    return False


def update_all(store: Store, id: str, type_name: str | None, changes: Sequence[Change]) -> Steps[None]:
    """Several updates of one record, one after the other and written once; each gets its own verdict.

    Those that come after one by which the record expires get none yet.
    """
    row = yield from _whole(store, id, type_name, for_change=True)
    wanted, now = [change for change in changes if change.is_wanted], store.now()
    for change in changes:
        change.verdict = None  # it may be the second attempt
    if row is None:
        for change in wanted:
            change.verdict = _verdict_without_record(id, change)
        return
    stored, record = _head_of(row), shown(row[1:])
    stamps, draft = stored.stamps, None
    for change in wanted:
        try:
            check_version(change.expected_version, stamps.version, id)
            changed = updated_record(record, change.updates)
            draft = checked_record(changed)
        except StorageError as error:
            change.verdict = error
            continue
        record, stamps, change.verdict = changed, stamps.touched(now), True
        if draft.expires_at is not None and draft.expires_at <= now:
            break
    if draft is not None:
        yield from _put(store, draft, stored, stamps)


def delete(store: Store, id: str, type_name: str | None, cascade: bool, expected_version: int | None) -> Steps[bool]:
    found = yield from living_head(store, id, type_name)
    check_version(expected_version, found.version if found else 0, id)
    if found is None:
        return False
    yield from drop_with_groups(store, [found], cascade=cascade)
    return True


def drop_with_groups(store: Store, heads: Sequence[Head], *, cascade: bool) -> Steps[int]:
    """Remove records, held by us, as one after the other: how many were not removed with one before them already.

    Args:
        cascade: whether what is grouped under one of them goes with it.
    """
    grouped = (yield from _grouped(store, heads)) if cascade else {}
    gone, dropped = 0, set[int]()
    for head in heads:
        if head.n not in dropped:
            gone += 1
            dropped |= {head.n, *grouped.get((head.type, head.id), ())}
    if len(dropped) == 1:
        yield from drop(store, *dropped)
    else:
        yield from drop_all(store, sorted(dropped))
    return gone


def _grouped(store: Store, owners: Sequence[Head]) -> Steps[dict[tuple[str, str], list[int]]]:
    """The row numbers of what is grouped under records, by their types and ids; held from here on."""
    found: dict[tuple[str, str], list[int]] = {}
    for type_name, column in GROUPS.items():
        ids = [owner.id for owner in owners if owner.type == type_name]
        for some in _parts(ids):
            rows = yield store.statements.grouped_under(column, some)
            for group, *row in rows:
                head = Head(*row)
                _claim(store, head.id, [head])
                found.setdefault((type_name, group), []).append(head.n)
    return found


def drop(store: Store, number: int) -> Steps[None]:
    """Remove a record's rows, with its logs."""
    statements = store.statements
    for statement in (
        statements.delete_entries_of,
        statements.delete_logs_of,
        statements.delete_document,
        statements.delete_record,
    ):
        yield statement(row=number)


def drop_all(store: Store, numbers: Sequence[int]) -> Steps[None]:
    """Remove several records' rows, with their logs."""
    statements = store.statements
    for some in _parts(numbers):
        rows = yield statements.logs_of(some)
        logs = [number for (number,) in rows]
        for those in _parts(logs):
            yield statements.delete_entries_in(those)
            yield statements.delete_logs(those)
        yield statements.delete_documents(some)
        yield statements.delete_records(some)


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """*items* in their order, some hundred at a time."""
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def living_heads(store: Store, ids: Sequence[str], type_name: str | None) -> Steps[list[Head]]:
    """The heads of those records that live, for a change of them, in the order of *ids*; as :func:`living_head`."""
    found: list[Head] = []
    for some in _parts(ids):
        heads = yield from _heads_by_id(store, some, type_name)
        now = store.now()
        for id in some:
            _claim(store, id, heads.get(id, ()))
            head = _living(heads.get(id, ()), id, type_name, now)
            if head is None:
                _missed(store, id, type_name)
            else:
                found.append(head)
    return found


def _heads_by_id(store: Store, ids: Sequence[str], type_name: str | None) -> Steps[dict[str, list[Head]]]:
    statements = store.statements
    rows = yield statements.heads_of(ids) if type_name is None else statements.heads_of_type(ids, type_name)
    heads: dict[str, list[Head]] = {}
    for head in (Head(*row) for row in rows):
        heads.setdefault(head.id, []).append(head)
    missing = [id for id in ids if id not in heads] if statements.misses_successors else []
    rows = (yield statements.ids_of(missing)) if missing else []
    for id in sorted({row[0] for row in rows}):  # it has another type, or was made in the place of a deleted one
        living = yield from living_head(store, id, type_name)
        heads[id] = [] if living is None else [living]
    return heads


def delete_all(store: Store, ids: Sequence[str], type_name: str | None, cascade: bool) -> Steps[int]:
    """Delete records as one after the other; how many were there. They are held in one order, whatever that is."""
    found = yield from living_heads(store, sorted(ids), type_name)
    by_id = {head.id: head for head in found}
    return (yield from drop_with_groups(store, [by_id[id] for id in ids if id in by_id], cascade=cascade))


def delete_untouched(store: Store, listed: Sequence[Record]) -> Steps[int]:
    """Delete each of *listed* with what is grouped under it, unless it was changed or made anew meanwhile."""
    # One that was made anew has the version 1 again, but no old time.
    states = {(record["id"], record["type"]): (record["version"], micros(record["updated_at"])) for record in listed}
    gone = 0
    for type_name in sorted({record["type"] for record in listed}):
        ids = sorted(id for id, type in states if type == type_name)
        found = yield from living_heads(store, ids, type_name)
        untouched = [head for head in found if head.state == states[head.id, type_name]]
        gone += yield from drop_with_groups(store, untouched, cascade=True)
    return gone


def purge(store: Store, limit: int) -> Steps[int]:
    """Remove up to *limit* expired records."""
    rows = yield store.statements.expired(now=store.now(), limit=limit)
    yield from drop_all(store, [number for (number,) in rows])
    return len(rows)
