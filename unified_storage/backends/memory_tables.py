"""What the memory backend holds, and every verb on it as a plain function: no waiting, everything can be undone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from unified_storage.arguments import check_version
from unified_storage.clock import Clock
from unified_storage.filters import Condition, Test, conjuncts, matches, visible
from unified_storage.interface import Entry, Record
from unified_storage.logs import LogName, ReadRange, RestoredLog, StoredEntry, check_owners, info_of
from unified_storage.placing import Append, Placed
from unified_storage.record import Draft, checked_record, now_micros, updated_record
from unified_storage.stored import Stamps, StoredRecord, only_one, restored_stamps, saved_stamps
from unified_storage.times import moment

Key = tuple[str, str]
"""A record's ``(id, type)``."""


@dataclass(slots=True, frozen=True)
class Row(StoredRecord):
    """A stored record that is decoded once for all filters."""

    seen: Record = field(repr=False, compare=False)
    """What filters ask: never handed out."""

    def touched(self, now: int) -> Row:
        stamps = self.stamps.touched(now)
        seen = self.seen | {"version": stamps.version, "updated_at": moment(stamps.updated_at)}
        return Row(self.draft, stamps, seen)

    def handed_out(self, with_data: bool = True) -> Record:
        record = self.seen | {"metadata": self.draft.decoded("metadata")}  # its times need not be made again
        if with_data:
            record["data"] = self.draft.decoded("data")
        else:
            del record["data"]
        return record

    def is_listed(self, condition: Condition) -> bool:
        return visible(condition, self.draft.type) and matches(condition, self.seen)


def _row(draft: Draft, stamps: Stamps) -> Row:
    return Row(draft, stamps, draft.as_record(*stamps))


Undo = list[Callable[[], object]]
"""How to take back what was done, oldest first."""


@dataclass(slots=True)
class Log:
    """The last number that a log ever gave, and its entries, oldest first; every change notes how to take it back."""

    last_seq: int = 0
    entries: list[StoredEntry] = field(default_factory=list)
    numbers: dict[str, int] = field(init=False)
    """The number of each key that is present."""

    def __post_init__(self) -> None:
        self.numbers = {entry.key: entry.seq for entry in self.entries if entry.key is not None}

    def write(self, places: Placed, now: int, undo: Undo) -> None:
        """Put every entry where it goes, and drop those that are too old."""
        undo.append(partial(setattr, self, "last_seq", self.last_seq))
        self.last_seq = places.last_seq
        for seq, draft in places.replaced.items():
            place = bisect_left(self.entries, seq, key=_number)
            old = self.entries[place]
            self.entries[place] = draft.stored(seq, old.created_at)
            undo.append(partial(self.entries.__setitem__, place, old))
        self._insert(len(self.entries), [draft.stored(seq, now) for seq, draft in places.fresh.items()], undo)
        self._remove(0, places.dropped, undo)

    def pop(self, undo: Undo) -> StoredEntry:
        """Withdraw the newest entry."""
        return self._remove(len(self.entries) - 1, 1, undo)[0]

    def _insert(self, place: int, entries: list[StoredEntry], undo: Undo) -> None:
        if entries:
            self.entries[place:place] = entries
            self.numbers |= {entry.key: entry.seq for entry in entries if entry.key is not None}
            undo.append(lambda: self._remove(place, len(entries), []))

    def _remove(self, place: int, count: int, undo: Undo) -> list[StoredEntry]:
        gone = self.entries[place : place + count]
        if gone:
            del self.entries[place : place + count]
            for entry in gone:
                # A rewrite drops an entry after another one has taken its key.
                if entry.key is not None and self.numbers.get(entry.key) == entry.seq:
                    del self.numbers[entry.key]
            undo.append(lambda: self._insert(place, gone, []))
        return gone


def _number(entry: StoredEntry) -> int:
    return entry.seq


class MemoryTables:
    """Records by ``(id, type)`` and logs by name. Every change notes how to take it back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[Key, Row] = {}
        self._order: list[Key] = []
        self._types: dict[str, set[str]] = {}
        self._logs: dict[LogName, Log] = {}
        self._logs_of: dict[Key, set[LogName]] = {}
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
        kinds = self._types.get(id, ()) if type is None else (type,)
        return only_one(id, type, {kind: row for kind in kinds if (row := self._living((id, kind))) is not None})

    def _living(self, key: Key) -> Row | None:
        row = self._rows.get(key)
        return row if row is not None and row.lives(self.now()) else None

    def save(self, draft: Draft, expected_version: int | None = None) -> str:
        stored = self._living(draft.key)
        check_version(expected_version, stored.version if stored else 0, draft.id)
        self._write(_row(draft, saved_stamps(draft, stored.stamps if stored else None, self.now())))
        return draft.id

    def _write(self, row: Row) -> None:
        if row.version == 1:
            self._drop(row.key)  # an expired one, with its logs
        self._put(row)

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
        for gone in row.taken(self._rows.values(), cascade=cascade):
            self._drop(gone.key)
        return True

    def delete_untouched(self, listed: Mapping[str, Any]) -> bool:
        """Delete a record with what is grouped under it, unless it was changed or made anew since it was listed."""
        row = self._living((listed["id"], listed["type"]))
        # One that was made anew has the version 1 again, but no old time.
        if row is None or (row.version, moment(row.stamps.updated_at)) != (listed["version"], listed["updated_at"]):
            return False
        return self.delete(*row.key, True, None)

    def walk(self, condition: Condition, start: Key = ("", "")) -> Iterator[Row]:
        """Living, visible, matching rows by ``(id, type)``, those behind *start*."""
        for key in self._keys(condition, start):
            row = self._living(key)
            if row is not None and row.is_listed(condition):
                yield row

    def _keys(self, condition: Condition, start: Key) -> Iterator[Key]:
        """The keys that can match, in order: those of the ids that the condition names, else all."""
        ids = _named_ids(condition)
        if ids is None:
            yield from (self._order[place] for place in range(bisect_right(self._order, start), len(self._order)))
            return
        named = sorted((id, kind) for id in ids for kind in self._types.get(id, ()))
        yield from (key for key in named if key > start)

    def restore(self, records: list[Draft], logs: list[RestoredLog]) -> int:
        restored = {draft.key for draft in records}
        check_owners(logs, restored, self._living)
        for draft in records:
            stored = self._living(draft.key)
            self._write(_row(draft, restored_stamps(draft, stored.stamps if stored else None, self.now())))
        for log in logs:
            self._put_log(log.owner, Log(log.last_seq, log.stored))
            if log.owner.owner_key not in restored:
                self._touch(log.owner)
        return len(records)

    def purge_expired(self) -> int:
        now = self.now()
        expired = [row for row in self._rows.values() if not row.lives(now)]
        for row in expired:
            self._drop(row.key)
        return len(expired)

    def _put(self, row: Row) -> None:
        old = self._rows.get(row.key)
        self._rows[row.key] = row
        if old is None:
            insort(self._order, row.key)
            self._types.setdefault(row.draft.id, set()).add(row.draft.type)
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
        for name in list(self._logs_of.get(key, ())):
            self._drop_log(name)
        self._remove(key)
        self._undo.append(lambda: self._put_back(row))

    def _put_back(self, row: Row) -> None:
        self._rows[row.key] = row
        insort(self._order, row.key)
        self._types.setdefault(row.draft.id, set()).add(row.draft.type)

    # -- logs ----------------------------------------------------------------------------------------------------

    def append(self, call: Append) -> list[int]:
        """What ``append`` and ``rewrite`` do."""
        owner = self._living(call.name.owner_key)
        log = self._logs.get(call.name) or Log()
        places = call.placed(log.numbers, log.last_seq, len(log.entries), owner.version if owner else None)
        if places.changes:
            if call.name not in self._logs:
                self._put_log(call.name, log)
            log.write(places, self.now(), self._undo)
            self._touch(call.name)
        return places.numbers

    def pop(self, name: LogName) -> Entry | None:
        log = self._living_log(name)
        if log is None or not log.entries:
            return None
        gone = log.pop(self._undo)
        self._touch(name)
        return gone.handed_out()

    def read(self, name: LogName, wanted: ReadRange) -> list[Entry]:
        log = self._living_log(name)
        return [] if log is None else [entry.handed_out() for entry in wanted.of(log.entries)]

    def log_info(self, name: LogName) -> dict[str, Any] | None:
        log = self._living_log(name)
        return None if log is None else info_of(log.last_seq, log.entries)

    def log_ids(self, prefix: str) -> list[str]:
        """The ids of living logs that a listing by *prefix* shows, by code point."""
        return sorted(
            name.log_id for name in self._logs if name.is_listed(prefix) and self._living(name.owner_key) is not None
        )

    def _living_log(self, name: LogName) -> Log | None:
        return None if self._living(name.owner_key) is None else self._logs.get(name)

    def _touch(self, name: LogName) -> None:
        """A log has changed, so its owner has."""
        self._put(self._rows[name.owner_key].touched(self.now()))

    def _put_log(self, name: LogName, log: Log) -> None:
        old = self._logs.get(name)
        self._logs[name] = log
        self._logs_of.setdefault(name.owner_key, set()).add(name)
        if old is None:
            self._undo.append(lambda: self._forget_log(name))
        else:
            self._undo.append(lambda: self._logs.__setitem__(name, old))

    def _drop_log(self, name: LogName) -> None:
        log = self._logs[name]
        self._forget_log(name)

        def back() -> None:
            self._logs[name] = log
            self._logs_of.setdefault(name.owner_key, set()).add(name)

        self._undo.append(back)

    def _forget_log(self, name: LogName) -> None:
        del self._logs[name]
        names = self._logs_of[name.owner_key]
        names.discard(name)
        if not names:
            del self._logs_of[name.owner_key]


def _named_ids(condition: Condition) -> set[Any] | None:
    """The ids that alone can match; None where the condition names none."""
    for part in conjuncts(condition):
        match part:
            case Test(("id",), "$eq", id):
                return {id}
            case Test(("id",), "$in", ids):
                return set(ids)
    return None
