"""Appending to logs, withdrawing from them and reading them, as steps."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from unified_storage.arguments import check_version
from unified_storage.backends.sql import records
from unified_storage.backends.sql.records import Head
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.errors import StorageIntegrityError
from unified_storage.interface import Entries, Entry
from unified_storage.logs import EntryDraft, LogName, ReadRange, RestoredLog, duplicate_key, no_owner
from unified_storage.record import is_system, later
from unified_storage.times import moment
from unified_storage.values import decode


def entry(row: Row) -> Entry:
    """An entry to hand out, of the columns ``seq key created_at body``."""
    seq, key, created_at, body = row
    try:
        return {"seq": seq, "key": key, "created_at": moment(created_at), "body": decode(body)}
    except StorageIntegrityError as error:
        raise StorageIntegrityError(
            f"entry {seq} of a log is unreadable: {error.message}", details={"seq": seq}, cause=error
        ) from error


def append(
    store: Store,
    name: LogName,
    drafts: Sequence[EntryDraft],
    on_duplicate: str,
    keep_last: int | None,
    expected_version: int | None,
) -> Steps[list[int]]:
    owner = yield from _owner(store, name)
    log, last_seq, count = yield from _log(store, name)
    known = yield from _known(store, log, drafts)
    if known and on_duplicate == "error":
        raise duplicate_key(name, next(iter(known)))
    if not (drafts and all(draft.key in known for draft in drafts)):
        check_version(expected_version, owner.version, owner.id)
    numbers, fresh, replaced = _placed(name, drafts, known, last_seq, on_duplicate)
    dropped = 0 if keep_last is None else max(0, count + len(fresh) - keep_last)
    if not (fresh or replaced or dropped):
        return numbers
    last_seq, count = last_seq + len(fresh), count + len(fresh)
    if log is None:
        rows = yield store.statements.insert_log(log_id=name.log_id, owner=owner.n, last_seq=last_seq, count=count)
        log = rows[0][0]
    yield from _write(store, log, fresh, replaced)
    if dropped:
        rows = yield store.statements.nth(log=log, skipped=dropped - 1)
        yield store.statements.delete_up_to(log=log, place=rows[0][0])
    yield store.statements.update_log(log=log, last=last_seq, left=count - dropped)
    yield _touched(store, owner)
    return numbers


def _placed(
    name: LogName, drafts: Sequence[EntryDraft], known: dict[str, int], last_seq: int, on_duplicate: str
) -> tuple[list[int], dict[int, EntryDraft], dict[int, EntryDraft]]:
    """The number of each draft; then what is new, and what is replaced, by number."""
    numbers: list[int] = []
    fresh: dict[int, EntryDraft] = {}
    replaced: dict[int, EntryDraft] = {}
    present = dict(known)
    for draft in drafts:
        seq = None if draft.key is None else present.get(draft.key)
        if seq is None:
            seq = last_seq + len(fresh) + 1
            fresh[seq] = draft
            if draft.key is not None:
                present[draft.key] = seq
        elif on_duplicate == "error":
            raise duplicate_key(name, draft.key)
        elif on_duplicate == "replace":
            target = fresh if seq in fresh else replaced
            # Without a time of its own, what replaces an entry keeps that entry's.
            kept = draft.created_at if draft.created_at is not None or seq not in target else target[seq].created_at
            target[seq] = EntryDraft(draft.body, draft.key, kept)
        numbers.append(seq)
    return numbers, fresh, replaced


def _write(store: Store, log: int, fresh: dict[int, EntryDraft], replaced: dict[int, EntryDraft]) -> Steps[None]:
    if fresh:
        yield _inserted(store, log, fresh)
    for seq, draft in replaced.items():
        yield store.statements.replace_entry(log=log, place=seq, new_body=draft.body, new_time=draft.created_at)


def _inserted(store: Store, log: int, drafts: dict[int, EntryDraft]) -> Call:
    now = store.now()
    return store.statements.insert_entry.many(
        [
            {
                "log": log,
                "seq": seq,
                "key": draft.key,
                "created_at": now if draft.created_at is None else draft.created_at,
                "body": draft.body,
            }
            for seq, draft in drafts.items()
        ]
    )


def pop(store: Store, name: LogName) -> Steps[Entry | None]:
    owner = yield from records.living_head(store, name.owner_id, name.owner_type)
    log, last_seq, count = yield from _log(store, name)
    if owner is None or log is None or not count:
        return None
    rows = yield store.statements.newest(log=log)
    yield store.statements.delete_entry(log=log, place=rows[0][0])
    yield store.statements.update_log(log=log, last=last_seq, left=count - 1)
    yield _touched(store, owner)
    return entry(rows[0])


def rewrite(
    store: Store, name: LogName, drafts: Sequence[EntryDraft], expected_version: int | None
) -> Steps[list[int]]:
    owner = yield from _owner(store, name)
    check_version(expected_version, owner.version, owner.id)
    log, last_seq, _ = yield from _log(store, name)
    numbers, fresh, _ = _placed(name, drafts, {}, last_seq, "error")
    last_seq += len(fresh)
    if log is None:
        rows = yield store.statements.insert_log(log_id=name.log_id, owner=owner.n, last_seq=last_seq, count=len(fresh))
        log = rows[0][0]
    else:
        yield store.statements.delete_entries(log=log)
        yield store.statements.update_log(log=log, last=last_seq, left=len(fresh))
    yield from _write(store, log, fresh, {})
    yield _touched(store, owner)
    return numbers


def restore(store: Store, restored: RestoredLog, among: Container[tuple[str, str]]) -> Steps[None]:
    """Write a log whole, with the numbers and times that its entries have.

    Its owner is a living record, or one of *among*: those that were restored just now, expired ones too.
    """
    name = restored.owner
    owner = yield from records.head(store, name.owner_id, name.owner_type)
    if owner is None or not (owner.lives(store.now()) or (owner.id, owner.type) in among):
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
        yield _inserted(store, log, {draft.seq or 0: draft for draft in restored.entries})
    if (owner.id, owner.type) not in among:
        yield _touched(store, owner)


def read(store: Store, name: LogName, wanted: ReadRange) -> Steps[Entries]:
    rows = yield store.statements.living_log(log_id=name.log_id, now=store.now())
    if not rows:
        return []
    rows = yield store.statements.entries_in(rows[0][0], wanted)
    found = [entry(row) for row in rows]
    return found[::-1] if wanted.last is not None else found


def read_many(store: Store, names: Sequence[LogName]) -> Steps[dict[str, Entries]]:
    found: dict[str, Entries] = {name.log_id: [] for name in names}
    ids = list(found)
    for place in range(0, len(ids), 500):
        rows = yield store.statements.entries_of(ids[place : place + 500], store.now())
        for log_id, *columns in rows:
            found[log_id].append(entry(columns))
    return found


def log_info(store: Store, name: LogName) -> Steps[dict[str, Any] | None]:
    rows = yield store.statements.living_log(log_id=name.log_id, now=store.now())
    if not rows:
        return None
    log, last_seq, count = rows[0]
    first = yield store.statements.nth(log=log, skipped=0)
    return {"first_seq": first[0][0] if first else None, "last_seq": last_seq, "count": count}


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


def _known(store: Store, log: int | None, drafts: Sequence[EntryDraft]) -> Steps[dict[str, int]]:
    """The numbers of the keys that are present already."""
    known: dict[str, int] = {}
    if log is None:
        return known
    for draft in drafts:
        if draft.key is not None:
            rows = yield store.statements.seq_of_key(log=log, wanted=draft.key)
            if rows:
                known[draft.key] = rows[0][0]
    return known


def _touched(store: Store, owner: Head) -> Call:
    return store.statements.touch(row=owner.n, moved_at=later(store.now(), owner.updated_at))
