"""What the memory backend holds, and every verb on it as a plain function: no waiting, everything can be undone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unified_storage.arguments import Place, check_version
from unified_storage.clock import Clock
from unified_storage.errors import StorageValidationError
from unified_storage.filters import Condition, Test, conjuncts, matches, visible
from unified_storage.interface import Entry, OnDuplicate, Record
from unified_storage.logs import EntryDraft, LogName, ReadRange, RestoredLog, duplicate_key, no_owner
from unified_storage.record import Draft, checked_record, is_system, later, now_micros, updated_record
from unified_storage.times import moment
from unified_storage.values import decode

Key = tuple[str, str]
"""A record's ``(id, type)``."""


@dataclass(slots=True, frozen=True)
class Row:
    """One stored record: texts as they were encoded, times in microseconds."""

    id: str
    type: str
    data: str
    metadata: str | None
    session_id: str | None
    thread_id: str | None
    version: int
    created_at: int
    updated_at: int
    expires_at: int | None
    seen: Record = field(repr=False, compare=False)
    """The record decoded, for filters only: never handed out."""

    @property
    def key(self) -> Key:
        return (self.id, self.type)

    def handed_out(self, with_data: bool = True) -> Record:
        """A copy for the caller."""
        record = dict(self.seen)
        record["metadata"] = None if self.metadata is None else decode(self.metadata)
        if with_data:
            record["data"] = decode(self.data)
        else:
            del record["data"]
        return record


@dataclass(slots=True)
class StoredEntry:
    """One entry of a log."""

    seq: int
    key: str | None
    created_at: int
    body: str

    def handed_out(self) -> Entry:
        return {"seq": self.seq, "key": self.key, "created_at": moment(self.created_at), "body": decode(self.body)}


Undo = list[Callable[[], object]]
"""How to take back what was done, oldest first."""


@dataclass(slots=True)
class Log:
    """The entries of one log, oldest first, and the last number it ever gave; every change is noted in an undo list."""

    owner: Key
    last_seq: int = 0
    entries: list[StoredEntry] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """The number of each key that is present."""

    def add(self, draft: EntryDraft, now: int, undo: Undo) -> int:
        """Append one entry; its number."""
        self.last_seq = seq = self.last_seq + 1
        created = now if draft.created_at is None else draft.created_at
        self.entries.append(StoredEntry(seq, draft.key, created, draft.body))
        if draft.key is not None:
            self.numbers[draft.key] = seq
        undo.append(self._take_back_newest)
        return seq

    def _take_back_newest(self) -> None:
        entry = self.entries.pop()
        self.numbers.pop(entry.key or "", None)
        self.last_seq = entry.seq - 1

    def replace(self, seq: int, draft: EntryDraft, undo: Undo) -> None:
        """Put another body in the place of entry *seq*."""
        place = bisect_left(self.entries, seq, key=_number)
        old = self.entries[place]
        created = old.created_at if draft.created_at is None else draft.created_at
        self.entries[place] = StoredEntry(seq, draft.key, created, draft.body)
        undo.append(lambda: self.entries.__setitem__(place, old))

    def pop(self, undo: Undo) -> StoredEntry:
        """Withdraw the newest entry."""
        entry = self.entries.pop()
        self.numbers.pop(entry.key or "", None)
        undo.append(lambda: self._put_back([entry], len(self.entries)))
        return entry

    def keep_last(self, count: int, undo: Undo) -> bool:
        """Drop the oldest entries until *count* are left; whether there were any to drop."""
        gone = self.entries[: max(0, len(self.entries) - count)]
        if not gone:
            return False
        del self.entries[: len(gone)]
        for entry in gone:
            self.numbers.pop(entry.key or "", None)
        undo.append(lambda: self._put_back(gone, 0))
        return True

    def _put_back(self, entries: list[StoredEntry], place: int) -> None:
        self.entries[place:place] = entries
        self.numbers |= {entry.key: entry.seq for entry in entries if entry.key is not None}


def _number(entry: StoredEntry) -> int:
    return entry.seq


class MemoryTables:
    """Records by ``(id, type)`` and logs by id. Every change notes how to take it back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[Key, Row] = {}
        self._order: list[Key] = []
        self._types: dict[str, set[str]] = {}
        self._logs: dict[str, Log] = {}
        self._logs_of: dict[Key, set[str]] = {}
        self._undo: Undo = []

    # -- undo ----------------------------------------------------------------------------------------------------

    def forget_undo(self) -> None:
        """What was done stays."""
        self._undo.clear()

    def undo(self) -> None:
        """Take back everything since the last :meth:`forget_undo`, newest first."""
        while self._undo:
            self._undo.pop()()

    # -- records -------------------------------------------------------------------------------------------------

    def now(self) -> int:
        return now_micros(self._clock)

    def row(self, id: str, type: str | None) -> Row | None:
        """The living row of an id; two types under one id need a type."""
        if type is not None:
            return self._living((id, type))
        kinds = [kind for kind in sorted(self._types.get(id, ())) if not is_system(kind)]
        rows = [row for kind in kinds if (row := self._living((id, kind))) is not None]
        if len(rows) > 1:
            raise StorageValidationError(
                f"several types share the id {id!r}: say which", details={"id": id, "types": [row.type for row in rows]}
            )
        return rows[0] if rows else None

    def _living(self, key: Key) -> Row | None:
        row = self._rows.get(key)
        if row is None or (row.expires_at is not None and row.expires_at <= self.now()):
            return None
        return row

    def save(self, draft: Draft, expected_version: int | None = None) -> str:
        key = (draft.id, draft.type)
        stored = self._living(key)
        check_version(expected_version, stored.version if stored else 0, draft.id)
        now = self.now()
        if stored is None:
            self._drop(key)  # an expired one, with its logs
            created = now if draft.created_at is None else draft.created_at
            self._put(_row(draft, 1, created, now))
        else:
            self._put(_row(draft, stored.version + 1, stored.created_at, later(now, stored.updated_at)))
        return draft.id

    def update(self, id: str, updates: Mapping[str, Any], type: str | None, expected_version: int | None) -> bool:
        row = self.row(id, type)
        check_version(expected_version, row.version if row else 0, id)
        changed = updated_record(row.handed_out() if row else {}, updates)
        if row is None:
            return False
        self.save(checked_record(changed))
        return True

    def delete(self, id: str, type: str | None, cascade: bool, expected_version: int | None) -> bool:
        row = self.row(id, type)
        check_version(expected_version, row.version if row else 0, id)
        if row is None:
            return False
        if cascade and row.type in ("session", "thread"):
            for other in self._grouped_under(row):
                self._drop(other.key)
        self._drop(row.key)
        return True

    def _grouped_under(self, owner: Row) -> list[Row]:
        column = "session_id" if owner.type == "session" else "thread_id"
        return [row for row in self._rows.values() if getattr(row, column) == owner.id and not is_system(row.type)]

    def walk(self, condition: Condition, after: Place | None = None) -> Iterator[Row]:
        """Living, visible, matching rows by ``(id, type)``."""
        for key in self._keys(condition, after):
            row = self._living(key)
            if row is not None and visible(condition, row.type) and matches(condition, row.seen):
                yield row

    def _keys(self, condition: Condition, after: Place | None) -> Iterator[Key]:
        """The keys that can match, in order: those of the ids that the condition names, else all."""
        ids = _named_ids(condition)
        if ids is None:
            yield from (self._order[place] for place in range(self._place_after(after), len(self._order)))
            return
        named = sorted((id, kind) for id in ids for kind in self._types.get(id, ()))
        here = (after + "\0", "") if isinstance(after, str) else after
        yield from (key for key in named if here is None or key > here)

    def _place_after(self, after: Place | None) -> int:
        if after is None:
            return 0
        if isinstance(after, str):
            return bisect_left(self._order, (after + "\0", ""))  # no id has a control character
        return bisect_right(self._order, after)

    def restore(self, records: list[Draft], logs: list[RestoredLog]) -> int:
        now = self.now()
        for draft in records:
            key = (draft.id, draft.type)
            stored = self._living(key)
            if stored is None:
                self._drop(key)  # an expired one, with its logs
            created = now if draft.created_at is None else draft.created_at
            updated = created if draft.updated_at is None else draft.updated_at
            self._put(_row(draft, stored.version + 1 if stored else 1, created, updated))
        among = {(draft.id, draft.type) for draft in records}
        for log in logs:
            self._restore_log(log, among)
        return len(records)

    def _restore_log(self, restored: RestoredLog, among: set[Key]) -> None:
        owner = (restored.owner.owner_id, restored.owner.owner_type)
        if owner not in among and self._living(owner) is None:
            raise no_owner(restored.owner)
        log = Log(owner, restored.last_seq)
        log.entries = [
            StoredEntry(draft.seq or 0, draft.key, draft.created_at or 0, draft.body) for draft in restored.entries
        ]
        log.numbers = {entry.key: entry.seq for entry in log.entries if entry.key is not None}
        self._put_log(restored.log_id, log)
        if owner not in among:
            self._touch(self._rows[owner])

    def purge_expired(self) -> int:
        now = self.now()
        expired = [row for row in self._rows.values() if row.expires_at is not None and row.expires_at <= now]
        for row in expired:
            self._drop(row.key)
        return len(expired)

    def _put(self, row: Row) -> None:
        old = self._rows.get(row.key)
        self._rows[row.key] = row
        if old is None:
            insort(self._order, row.key)
            self._types.setdefault(row.id, set()).add(row.type)
            self._undo.append(lambda: self._remove(row.key))
        else:
            self._undo.append(lambda: self._rows.__setitem__(row.key, old))

    def _remove(self, key: Key) -> None:
        del self._rows[key]
        del self._order[bisect_left(self._order, key)]
        kinds = self._types[key[0]]
        kinds.discard(key[1])
        if not kinds:
            del self._types[key[0]]

    def _drop(self, key: Key) -> None:
        """Remove a row with its logs, if it is there."""
        row = self._rows.get(key)
        if row is None:
            return
        for log_id in list(self._logs_of.get(key, ())):
            self._drop_log(log_id)
        self._remove(key)
        self._undo.append(lambda: self._put_back(row))

    def _put_back(self, row: Row) -> None:
        self._rows[row.key] = row
        insort(self._order, row.key)
        self._types.setdefault(row.id, set()).add(row.type)

    # -- logs ----------------------------------------------------------------------------------------------------

    def append(
        self,
        name: LogName,
        drafts: list[EntryDraft],
        on_duplicate: OnDuplicate,
        keep_last: int | None,
        expected_version: int | None,
    ) -> list[int]:
        owner = self._owner(name)
        log = self._logs.get(name.log_id) or Log(owner.key)
        known = [draft.key is not None and draft.key in log.numbers for draft in drafts]
        if any(known) and on_duplicate == "error":
            key = next(draft.key for draft, is_known in zip(drafts, known, strict=True) if is_known)
            raise duplicate_key(name, key)
        if not (drafts and all(known)):
            check_version(expected_version, owner.version, owner.id)
        if name.log_id not in self._logs and drafts:
            self._put_log(name.log_id, log)
        numbers = self._added(name, log, drafts, on_duplicate)
        trimmed = keep_last is not None and log.keep_last(keep_last, self._undo)
        if trimmed or any(not was for was in known) or (drafts and on_duplicate == "replace"):
            self._touch(owner)
        return numbers

    def _added(self, name: LogName, log: Log, drafts: list[EntryDraft], on_duplicate: OnDuplicate) -> list[int]:
        now, numbers = self.now(), []
        for draft in drafts:
            seq = None if draft.key is None else log.numbers.get(draft.key)
            if seq is None:
                seq = log.add(draft, now, self._undo)
            elif on_duplicate == "error":
                raise duplicate_key(name, draft.key)
            elif on_duplicate == "replace":
                log.replace(seq, draft, self._undo)
            numbers.append(seq)
        return numbers

    def pop(self, name: LogName) -> Entry | None:
        owner = self._living((name.owner_id, name.owner_type))
        log = self._logs.get(name.log_id)
        if owner is None or log is None or not log.entries:
            return None
        gone = log.pop(self._undo)
        self._touch(owner)
        return gone.handed_out()

    def rewrite(self, name: LogName, drafts: list[EntryDraft], expected_version: int | None) -> list[int]:
        owner = self._owner(name)
        check_version(expected_version, owner.version, owner.id)
        stored = self._logs.get(name.log_id)
        fresh = Log(owner.key, stored.last_seq if stored else 0)
        numbers = self._added(name, fresh, drafts, "error")
        self._put_log(name.log_id, fresh)
        self._touch(owner)
        return numbers

    def read(self, name: LogName, wanted: ReadRange) -> list[Entry]:
        log = self._living_log(name)
        if log is None:
            return []
        start = bisect_right(log.entries, wanted.after, key=_number)
        end = len(log.entries)
        if wanted.before is not None:
            end = bisect_left(log.entries, wanted.before, key=_number)
        found = log.entries[start:end]
        if wanted.since is not None:
            found = [entry for entry in found if entry.created_at >= wanted.since]
        if wanted.last is not None:
            found = found[max(0, len(found) - wanted.last) :]
        return [entry.handed_out() for entry in found[: wanted.limit]]

    def log_info(self, name: LogName) -> dict[str, Any] | None:
        log = self._living_log(name)
        if log is None:
            return None
        first = log.entries[0].seq if log.entries else None
        return {"first_seq": first, "last_seq": log.last_seq, "count": len(log.entries)}

    def log_ids(self, prefix: str, with_system: bool) -> list[str]:
        """The ids of living logs that begin with *prefix*, by code point."""
        return sorted(
            log_id
            for log_id, log in self._logs.items()
            if log_id.startswith(prefix)
            and (with_system or not is_system(log.owner[1]))
            and self._living(log.owner) is not None
        )

    def _living_log(self, name: LogName) -> Log | None:
        if self._living((name.owner_id, name.owner_type)) is None:
            return None
        return self._logs.get(name.log_id)

    def _owner(self, name: LogName) -> Row:
        owner = self._living((name.owner_id, name.owner_type))
        if owner is None:
            raise no_owner(name)
        return owner

    def _touch(self, owner: Row) -> None:
        row = self._rows[owner.key]
        updated = later(self.now(), row.updated_at)
        seen = row.seen | {"version": row.version + 1, "updated_at": moment(updated)}
        self._put(replace(row, version=row.version + 1, updated_at=updated, seen=seen))

    def _put_log(self, log_id: str, log: Log) -> None:
        old = self._logs.get(log_id)
        self._logs[log_id] = log
        self._logs_of.setdefault(log.owner, set()).add(log_id)
        if old is None:
            self._undo.append(lambda: self._forget_log(log_id))
        else:
            self._undo.append(lambda: self._logs.__setitem__(log_id, old))

    def _drop_log(self, log_id: str) -> None:
        log = self._logs[log_id]
        self._forget_log(log_id)

        def back() -> None:
            self._logs[log_id] = log
            self._logs_of.setdefault(log.owner, set()).add(log_id)

        self._undo.append(back)

    def _forget_log(self, log_id: str) -> None:
        owner = self._logs.pop(log_id).owner
        ids = self._logs_of[owner]
        ids.discard(log_id)
        if not ids:
            del self._logs_of[owner]


def _named_ids(condition: Condition) -> set[Any] | None:
    """The ids that alone can match; None where the condition names none."""
    for part in conjuncts(condition):
        match part:
            case Test(("id",), "$eq", id):
                return {id}
            case Test(("id",), "$in", ids):
                return set(ids)
    return None


def _row(draft: Draft, version: int, created_at: int, updated_at: int) -> Row:
    seen = draft.as_record(version, created_at, updated_at)
    return Row(
        draft.id,
        draft.type,
        draft.data_text,
        draft.metadata_text,
        draft.session_id,
        draft.thread_id,
        version,
        created_at,
        updated_at,
        draft.expires_at,
        seen,
    )
