"""Appends that wait for the writer together: a few statements for all of them, and an outcome for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from unified_storage.backends.sql import logs
from unified_storage.backends.sql.sqlite_jobs import Job
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.errors import StorageError
from unified_storage.logs import no_owner
from unified_storage.placing import Append
from unified_storage.record import later

_MOST_ENTRIES = 100
"""An append of more goes by itself: its own statements are not what takes the time."""


class AppendJob(Job[list[int]]):
    """An append that may be carried out with others."""

    __slots__ = ("asked", "store")

    def __init__(self, store: Store, asked: Append, timeout: float) -> None:
        super().__init__(lambda: logs.append(store, asked), timeout)
        self.store = store
        self.asked = asked


def goes_with_others(asked: Append) -> bool:
    """Whether an append only adds; one that takes away or replaces is carried out by itself."""
    is_small = len(asked.drafts) <= _MOST_ENTRIES
    return is_small and not asked.rewrites and asked.keep_last is None and asked.on_duplicate != "replace"


@dataclass(slots=True)
class _Owner:
    """A record that owns logs, as the appends so far have moved it."""

    n: int
    version: int
    updated_at: int
    expires_at: int | None
    has_moved: bool = False


@dataclass(slots=True)
class _Log:
    """A log, as the appends so far have left it."""

    log_id: str
    owner: _Owner
    n: int | None
    last_seq: int
    count: int
    is_new: bool
    known: dict[str, int] = field(default_factory=dict)
    """The numbers of those keys that are present and asked for."""
    has_moved: bool = False


class _Written(NamedTuple):
    """An entry that is new."""

    log: _Log
    seq: int
    key: str | None
    created_at: int
    body: str


def append_together(jobs: Sequence[AppendJob]) -> Steps[list[list[int] | StorageError]]:
    """Carry out appends to the logs of one store in their order; what becomes of each.

    One that is refused leaves nothing, and the others are as if it had not been asked. Every other error is of all.
    """
    prefix = jobs[0].store.statements.prefix
    found = _found((yield _looked_up(prefix, jobs)))
    outcomes: list[list[int] | StorageError] = []
    written: list[_Written] = []
    for job in jobs:
        try:
            outcomes.append(_placed(job, found.get(job.asked.name.log_id), written))
        except StorageError as error:
            outcomes.append(error)
    if written:
        yield from _flushed(prefix, [log for log in found.values() if log.has_moved], written)
    return outcomes


def _looked_up(prefix: str, jobs: Sequence[AppendJob]) -> Call:
    """Everything that the appends have to know: one row for each of their keys, and at least one for each log."""
    asked: dict[tuple[str, str | None], tuple[str, str, str, str | None]] = {}
    for job in jobs:
        name = job.asked.name
        keys = {draft.key for draft in job.asked.drafts if draft.key is not None} or (None,)
        for key in keys:
            asked[name.log_id, key] = (name.owner_id, name.owner_type, name.log_id, key)
    size = 1 << (len(asked) - 1).bit_length()
    values = [value for row in asked.values() for value in row]
    return Call(_look_up(prefix, size), values + [None] * (4 * size - len(values)))


@lru_cache(maxsize=256)
def _look_up(prefix: str, size: int) -> str:
    rows = ", ".join(["(?, ?, ?, ?)"] * size)
    # CROSS JOIN keeps the order of the tables: what is asked for leads to rows, and never the other way round.
    return (
        f"WITH asked (id, type, log_id, key) AS (VALUES {rows}) "
        f"SELECT r.n, r.version, r.updated_at, r.expires_at, asked.log_id, l.n, l.last_seq, l.count, e.key, e.seq "
        f"FROM asked CROSS JOIN {prefix}records AS r ON r.id = asked.id AND r.type = asked.type "
        f"LEFT JOIN {prefix}logs AS l ON l.log_id = asked.log_id "
        f"LEFT JOIN {prefix}entries AS e ON e.log = l.n AND e.key = asked.key"
    )


def _found(rows: Iterable[Row]) -> dict[str, _Log]:
    """The logs that were asked for and whose owners are there, living or not; they may be still to begin."""
    owners: dict[int, _Owner] = {}
    found: dict[str, _Log] = {}
    for n, version, updated_at, expires_at, log_id, log, last_seq, count, key, seq in rows:
        if log_id not in found:
            owner = owners.setdefault(n, _Owner(n, version, updated_at, expires_at))
            found[log_id] = _Log(log_id, owner, log, last_seq or 0, count or 0, is_new=log is None)
        if key is not None:
            found[log_id].known[key] = seq
    return found


def _placed(job: AppendJob, log: _Log | None, written: list[_Written]) -> list[int]:
    """The numbers of one append's entries, which join what is to be *written*."""
    now = job.store.now()
    if log is None or (log.owner.expires_at is not None and log.owner.expires_at <= now):
        raise no_owner(job.asked.name)
    owner = log.owner
    place = job.asked.placed(log.known, log.last_seq, log.count, owner.version)
    if place.changes:
        for seq, draft in place.fresh.items():
            created_at = now if draft.created_at is None else draft.created_at
            written.append(_Written(log, seq, draft.key, created_at, draft.body))
            if draft.key is not None:
                log.known[draft.key] = seq
        log.last_seq, log.count, log.has_moved = place.last_seq, place.left, True
        owner.version, owner.updated_at, owner.has_moved = owner.version + 1, later(now, owner.updated_at), True
    return place.numbers


def _flushed(prefix: str, moved: Sequence[_Log], written: Sequence[_Written]) -> Steps[None]:
    for log in moved:
        if log.is_new:
            begun = f"INSERT INTO {prefix}logs (log_id, owner, last_seq, count) VALUES (?, ?, ?, ?) RETURNING n"
            rows = yield Call(begun, (log.log_id, log.owner.n, log.last_seq, log.count))
            log.n = rows[0][0]
    yield Call(
        f"INSERT INTO {prefix}entries (log, seq, key, created_at, body) VALUES (?, ?, ?, ?, ?)",
        [(entry.log.n, entry.seq, entry.key, entry.created_at, entry.body) for entry in written],
        many=True,
    )
    older = [(log.last_seq, log.count, log.n) for log in moved if not log.is_new]
    if older:
        yield Call(f"UPDATE {prefix}logs SET last_seq = ?, count = ? WHERE n = ?", older, many=True)
    owners = {log.owner.n: log.owner for log in moved}
    yield Call(
        f"UPDATE {prefix}records SET version = ?, updated_at = ? WHERE n = ?",
        [(owner.version, owner.updated_at, owner.n) for owner in owners.values()],
        many=True,
    )
