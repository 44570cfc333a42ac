"""Appending to logs, withdrawing from them and reading them, as steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from unified_storage.backends.sql import records
from unified_storage.backends.sql.records import Head
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.errors import StorageIntegrityError
from unified_storage.interface import Entries, Entry
from unified_storage.logs import EntryDraft, LogName, ReadRange, RestoredLog, StoredEntry, no_owner
from unified_storage.placing import Append, Placed
from unified_storage.record import is_system, later
from unified_storage.times import moment
from unified_storage.values import decode

_KEYS_AT_ONCE = 500
_LOGS_AT_ONCE = 500


def _handed_out(row: Row) -> Entry:
    """An entry to hand out, of the columns ``seq key created_at body``."""
    return StoredEntry(*row).handed_out()


def _all_handed_out(rows: Iterable[Row]) -> Entries:
    try:
        return [
            {"seq": seq, "key": key, "created_at": moment(created_at), "body": decode(body)}
            for seq, key, created_at, body in rows
        ]
    except StorageIntegrityError:
        return [_handed_out(row) for row in rows]  # says which of them it is


def append(store: Store, asked: Append) -> Steps[list[int]]:
    """Add entries, or put them in the place of all that were there; their numbers."""
    owner = yield from _owner(store, asked.name)
    log, last_seq, count = yield from _log(store, asked.name)
    known = {} if asked.rewrites else (yield from _known(store, log, asked.drafts))
    place = asked.placed(known, last_seq, count, owner.version)
    if not place.changes:
        return place.numbers
    if log is None:
        log = yield from _begun(store, asked.name, owner, place)
    elif asked.rewrites:
        yield store.statements.delete_entries(log=log)
    yield from _write(store, log, place)
    if place.dropped and not asked.rewrites:
        rows = yield store.statements.nth(log=log, skipped=place.dropped - 1)
        yield store.statements.delete_up_to(log=log, place=rows[0][0])
    yield store.statements.update_log(log=log, last=place.last_seq, left=place.left)
    yield _touched(store, owner)
    return place.numbers


def _begun(store: Store, name: LogName, owner: Head, place: Placed) -> Steps[int]:
    """Write the row of a log that is new; its number."""
    rows = yield store.statements.insert_log(
        log_id=name.log_id, owner=owner.n, last_seq=place.last_seq, count=place.left
    )
    number: int = rows[0][0]
    return number


def _write(store: Store, log: int, place: Placed) -> Steps[None]:
    if place.fresh:
        now = store.now()
        yield store.statements.insert_entry.rows(
            [
                (log, seq, draft.key, now if draft.created_at is None else draft.created_at, draft.body)
                for seq, draft in place.fresh.items()
            ]
        )
    if place.replaced:
        yield store.statements.replace_entry.many(
            [
                {"log": log, "place": seq, "new_body": draft.body, "new_time": draft.created_at}
                for seq, draft in place.replaced.items()
            ]
        )


def restored_rows(log: int, restored: RestoredLog) -> list[Row]:
    """The rows of its entries, for a log by its row number."""
    return [(log, seq, key, created_at, body) for body, key, created_at, seq in restored.entries]


def pop(store: Store, name: LogName) -> Steps[Entry | None]:
    owner = yield from records.living_head(store, name.owner_id, name.owner_type)
    log, last_seq, count = yield from _log(store, name)
    if owner is None or log is None or not count:
        return None
    rows = yield store.statements.newest(log=log)
    yield store.statements.delete_entry(log=log, place=rows[0][0])
    yield store.statements.update_log(log=log, last=last_seq, left=count - 1)
    yield _touched(store, owner)
    return _handed_out(rows[0])


def restore(store: Store, restored: RestoredLog) -> Steps[None]:
    """Write the log of a living record whole, with the numbers and times that its entries have."""
    name = restored.owner
    owner = yield from records.head_of_owner(store, name.owner_id, name.owner_type)
    if owner is None or not owner.lives(store.now()):
        raise no_owner(name)
    log, _, _ = yield from _log(store, name)
    count = len(restored.entries)
    if log is None:
        rows = yield store.statements.insert_log(
            log_id=name.log_id, owner=owner.n, last_seq=restored.last_seq, count=count
        )
        log = rows[0][0]
    else:
        yield store.statements.delete_entries(log=log)
        yield store.statements.update_log(log=log, last=restored.last_seq, left=count)
    if restored.entries:
        yield store.statements.insert_entry.rows(restored_rows(log, restored))
    yield _touched(store, owner)


def read(store: Store, name: LogName, wanted: ReadRange) -> Steps[Entries]:
    if store.claims is None:
        rows = yield store.statements.entries_seen(name.log_id, store.now(), wanted)
    else:
        log, _, _ = yield from _held_log(store, name)
        rows = [] if log is None else (yield store.statements.entries_in(log, wanted))
    found = _all_handed_out(rows)
    return found[::-1] if wanted.last is not None else found


def read_many(store: Store, names: Sequence[LogName], wanted: ReadRange) -> Steps[dict[str, Entries]]:
    """The entries of several logs; of each only as many as *wanted* says, at least 1, at one of its ends."""
    found: dict[str, Entries] = {name.log_id: [] for name in names}
    if store.claims is not None:
        for name in sorted(names, key=lambda name: (name.owner_id, name.owner_type)):
            yield from records.seen_head(store, name.owner_id, name.owner_type)
    ids = list(found)
    for place in range(0, len(ids), _LOGS_AT_ONCE):
        call = store.statements.entries_of(ids[place : place + _LOGS_AT_ONCE], store.now(), wanted)
        rows = yield call._replace(is_all=len(ids) <= _LOGS_AT_ONCE)
        for log_id, *columns in rows:
            found[log_id].append(_handed_out(columns))
    return found


def log_info(store: Store, name: LogName) -> Steps[dict[str, Any] | None]:
    if store.claims is not None:
        yield from records.seen_head(store, name.owner_id, name.owner_type)
    rows = yield store.statements.log_info(log_id=name.log_id, now=store.now())
    return dict(zip(("first_seq", "last_seq", "count"), rows[0], strict=True)) if rows else None


def log_ids(
    store: Store, prefix: str, after: str, with_system: bool, limit: int
) -> Steps[tuple[list[str], str | None]]:
    """Up to *limit* ids behind *after*; and where to go on, None at the end."""
    rows = yield store.statements.log_ids(after=after, first=prefix, now=store.now(), limit=limit)
    within = [(log_id, owner) for log_id, owner in rows if log_id.startswith(prefix)]
    found = [log_id for log_id, owner in within if with_system or not is_system(owner)]
    return found, within[-1][0] if len(within) == limit else None


def _owner(store: Store, name: LogName) -> Steps[Head]:
    owner = yield from records.living_head(store, name.owner_id, name.owner_type)
    if owner is None:
        raise no_owner(name)
    return owner


def _log(store: Store, name: LogName) -> Steps[tuple[int | None, int, int]]:
    """A log's row number (None when there is none yet), last number and count."""
    rows = yield store.statements.log(log_id=name.log_id)
    if not rows:
        return None, 0, 0
    log, last_seq, count = rows[0]
    return log, last_seq, count


def _held_log(store: Store, name: LogName) -> Steps[tuple[int | None, int, int]]:
    """What :func:`_log` tells, None also where the owner does not live; a transaction holds the owner from here on."""
    owner = yield from records.seen_head(store, name.owner_id, name.owner_type)
    if owner is None:
        return None, 0, 0
    return (yield from _log(store, name))


def _known(store: Store, log: int | None, drafts: Sequence[EntryDraft]) -> Steps[dict[str, int]]:
    """The numbers of the keys that are present already."""
    known: dict[str, int] = {}
    keys = [draft.key for draft in drafts if draft.key is not None]
    for place in range(0, len(keys) if log is not None else 0, _KEYS_AT_ONCE):
        rows = yield store.statements.seqs_of_keys(log or 0, keys[place : place + _KEYS_AT_ONCE])
        known.update((key, seq) for key, seq in rows)
    return known


def _touched(store: Store, owner: Head) -> Call:
    return store.statements.touch(row=owner.n, moved_at=later(store.now(), owner.updated_at))
