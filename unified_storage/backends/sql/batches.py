"""Writing many records, and restoring many logs, as steps: a few statements for all of them, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from unified_storage.backends.sql import logs
from unified_storage.backends.sql.records import Head, drop, row_of, written
from unified_storage.backends.sql.statements import Steps
from unified_storage.backends.sql.store import Store
from unified_storage.logs import RestoredLog
from unified_storage.record import Draft
from unified_storage.stored import Stamps, restored_stamps, saved_stamps

T = TypeVar("T")
_AT_ONCE = 500
Key = tuple[str, str]
"""A record's ``(id, type)``."""
_StampsOver = Callable[[Draft, Stamps | None, int], Stamps]


def save_all(store: Store, drafts: Sequence[Draft]) -> Steps[list[str]]:
    yield from _written_all(store, drafts, saved_stamps)
    return [draft.id for draft in drafts]


def restore_all(store: Store, drafts: Sequence[Draft], restored: Sequence[RestoredLog]) -> Steps[int]:
    """Write records with their own times, over whatever is there, then logs whole."""
    owners = yield from _written_all(store, drafts, restored_stamps)
    for some in _apart([log for log in restored if log.owner.owner_key in owners], lambda log: log.log_id):
        yield from _restored(store, some, owners)
    for log in restored:
        if log.owner.owner_key not in owners:
            yield from logs.restore(store, log)
    return len(drafts)


def _apart(items: Iterable[T], name: Callable[[T], str]) -> Iterator[list[T]]:
    """*items* by *name*, some hundred at a time; of those with one name, the later ones come in a later part.

    In one order, so that two batches wait for each other instead of blocking each other.
    """
    part: list[T] = []
    for item in sorted(items, key=name):
        if part and (len(part) == _AT_ONCE or name(part[-1]) == name(item)):
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def _written_all(store: Store, drafts: Sequence[Draft], stamps_over: _StampsOver) -> Steps[dict[Key, int]]:
    """Write records over those that are stored; their row numbers."""
    numbers: dict[Key, int] = {}
    for type_name in sorted({draft.type for draft in drafts}):
        for some in _apart([draft for draft in drafts if draft.type == type_name], lambda draft: draft.id):
            found = yield from _written(store, type_name, some, stamps_over)
            numbers.update(((id, type_name), number) for id, number in found.items())
    return numbers


def _written(store: Store, type_name: str, drafts: Sequence[Draft], stamps_over: _StampsOver) -> Steps[dict[str, int]]:
    """Write records of one type, whose ids differ; their row numbers by id."""
    statements = store.statements
    stored = yield from _living(store, type_name, drafts)
    now = store.now()
    over = [draft for draft in drafts if draft.id in stored]
    fresh = [draft for draft in drafts if draft.id not in stored]
    numbers = {id: head.n for id, head in stored.items()}
    if over:
        yield statements.update_record.many(
            [
                {"row": head.n, **written(store, draft, stamps_over(draft, head.stamps, now))}
                for draft, head in ((draft, stored[draft.id]) for draft in over)
            ]
        )
        yield statements.put_document.rows([(numbers[draft.id], draft.data_text) for draft in over])
    if fresh:
        yield statements.insert_records.rows([row_of(store, draft, stamps_over(draft, None, now)) for draft in fresh])
        found = yield statements.heads_of_type([draft.id for draft in fresh], type_name)
        numbers.update((id, number) for number, id, *_ in found)
        yield statements.insert_document.rows([(numbers[draft.id], draft.data_text) for draft in fresh])
        if store.claims is not None:
            for draft in fresh:
                store.claims.owns(draft.key)
    return numbers


def _living(store: Store, type_name: str, drafts: Sequence[Draft]) -> Steps[dict[str, Head]]:
    """The heads of the records that are stored, locked where writers meet at rows; expired ones go, with their logs."""
    rows = yield store.statements.heads_of_type([draft.id for draft in drafts], type_name)
    heads = {head.id: head for head in (Head(*row) for row in rows)}
    if store.claims is not None:
        for draft in drafts:
            found = heads.get(draft.id)
            store.claims.take(draft.key, None if found is None else found.state)
    now = store.now()
    for head in [*heads.values()]:
        if not head.lives(now):
            yield from drop(store, head.n)
            del heads[head.id]
    return heads


def _restored(store: Store, restored: Sequence[RestoredLog], owners: Mapping[Key, int]) -> Steps[None]:
    """Write logs whole, whose ids differ, with the numbers and times that their entries have.

    Args:
        owners: the row numbers of records that were restored just now, expired ones too.
    """
    statements = store.statements
    numbers = yield from _numbers(store, restored)
    old = [log for log in restored if log.log_id in numbers]
    new = [log for log in restored if log.log_id not in numbers]
    if old:
        yield statements.delete_entries.many([{"log": numbers[log.log_id]} for log in old])
        yield statements.update_log.many(
            [{"log": numbers[log.log_id], "last": log.last_seq, "left": len(log.entries)} for log in old]
        )
    if new:
        yield statements.insert_logs.rows(
            [(log.log_id, owners[log.owner.owner_key], log.last_seq, len(log.entries)) for log in new]
        )
        numbers |= yield from _numbers(store, new)
    entries = [row for log in restored for row in logs.restored_rows(numbers[log.log_id], log)]
    if entries:
        yield statements.insert_entry.rows(entries)


def _numbers(store: Store, restored: Sequence[RestoredLog]) -> Steps[dict[str, int]]:
    """The row numbers of the logs that are there, by id."""
    rows = yield store.statements.logs_named([log.log_id for log in restored])
    return {log_id: number for number, log_id in rows}
