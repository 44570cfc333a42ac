"""What a storage means, in plain dicts and lists: no waiting, no engine, no cleverness.

The verbs have the names and arguments of ``IUnifiedStorage``; where a storage raises, the model raises
:class:`Refusal` with the codes that would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from unified_storage.record import DELETE, REPLACE

Key = tuple[str, str]
Record = dict[str, Any]
Entry = dict[str, Any]
Operation = tuple[str, dict[str, Any]]
"""A verb and its arguments."""

VALIDATION, CONFLICT = "STORAGE_VALIDATION_ERROR", "STORAGE_CONFLICT_ERROR"
NOT_FOUND, EXISTS = "STORAGE_NOT_FOUND_ERROR", "STORAGE_ALREADY_EXISTS_ERROR"
TRANSACTION = "STORAGE_TRANSACTION_ERROR"
TICK = timedelta(microseconds=1)


class Refusal(Exception):
    """The storage has to raise an error with one of these codes."""

    def __init__(self, *codes: str, index: int | None = None) -> None:
        super().__init__(*codes)
        self.codes = codes
        self.index = index


@dataclass
class ModelLog:
    """Entries, oldest first, and the last number that was given."""

    last_seq: int = 0
    entries: list[Entry] = field(default_factory=list)

    def number_of(self, key: str | None) -> int | None:
        """The number of the entry that has this key."""
        return next((entry["seq"] for entry in self.entries if key is not None and entry["key"] == key), None)

    def add(self, draft: Entry, now: datetime) -> int:
        """One more entry at the end."""
        self.last_seq += 1
        made = {"seq": self.last_seq, "key": draft.get("key"), "created_at": draft.get("created_at") or now}
        self.entries.append(made | {"body": deepcopy(draft["body"])})
        return self.last_seq


def owner_of(log_id: str) -> Key:
    """The ``(id, type)`` that a log id names."""
    head, _, id = log_id.partition("/")
    return (id, head.partition("@")[2] or "session")


def merged(stored: Any, change: Any) -> Any:
    """What ``update`` makes of a stored value."""
    if isinstance(change, REPLACE):
        return deepcopy(change.value)
    if not isinstance(change, dict):
        return deepcopy(change)
    result = dict(stored) if isinstance(stored, dict) else {}
    for name, value in change.items():
        if value is DELETE:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


class Model:
    """Records by ``(id, type)`` and logs by id."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._records: dict[Key, Record] = {}
        self._logs: dict[str, ModelLog] = {}

    # -- records -------------------------------------------------------------------------------------------------

    def _living(self, key: Key) -> Record | None:
        record = self._records.get(key)
        over = record is not None and record["expires_at"] is not None and record["expires_at"] <= self._clock()
        return None if over else record

    def _found(self, id: str, type: str | None) -> Record | None:
        if type is not None:
            return self._living((id, type))
        found = [record for record in self._listed() if record["id"] == id]
        if len(found) > 1:
            raise Refusal(VALIDATION)
        return found[0] if found else None

    def _listed(self, types: Sequence[str] = ()) -> Iterator[Record]:
        for key in sorted(self._records):
            record = self._living(key)
            if record is not None and (not key[1].startswith("_") or key[1] in types):
                yield record

    def _drop(self, key: Key) -> None:
        self._records.pop(key, None)
        for log_id in [log_id for log_id in self._logs if owner_of(log_id) == key]:
            del self._logs[log_id]

    def _touch(self, record: Record) -> None:
        record["version"] += 1
        record["updated_at"] = max(self._clock(), record["updated_at"] + TICK)

    @staticmethod
    def _check_version(expected: int | None, record: Record | None) -> None:
        if expected is not None and expected != (record["version"] if record else 0):
            raise Refusal(CONFLICT)

    def save(self, data: Record, expected_version: int | None = None) -> str:
        key = (data["id"], data["type"])
        stored = self._living(key)
        self._check_version(expected_version, stored)
        now = self._clock()
        fresh = {name: deepcopy(data.get(name)) for name in _GIVEN}
        if stored is None:
            self._drop(key)
            times = {"version": 1, "created_at": data.get("created_at") or now, "updated_at": now}
            self._records[key] = fresh | times
        else:
            stored.update(fresh)
            self._touch(stored)
        return str(data["id"])

    def load(self, id: str, type: str | None = None) -> Record | None:
        return deepcopy(self._found(id, type))

    def exists(self, id: str, type: str | None = None) -> bool:
        return self._found(id, type) is not None

    def update(self, id: str, updates: Record, type: str | None = None, expected_version: int | None = None) -> bool:
        stored = self._found(id, type)
        self._check_version(expected_version, stored)
        if stored is None:
            return False
        for name, change in updates.items():
            stored[name] = None if change is DELETE else merged(stored[name], change)
        self._touch(stored)
        return True

    def delete(
        self, id: str, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        stored = self._found(id, type)
        self._check_version(expected_version, stored)
        if stored is None:
            return False
        column = {"session": "session_id", "thread": "thread_id"}.get(stored["type"])
        if cascade and column is not None:
            for record in [*self._records.values()]:
                if record[column] == id and not record["type"].startswith("_"):
                    self._drop((record["id"], record["type"]))
        self._drop((id, stored["type"]))
        return True

    def batch_save(self, data_list: Sequence[Record]) -> list[str]:
        return [self.save(data) for data in data_list]

    def batch_delete(self, ids: Sequence[str], type: str | None = None, cascade: bool = False) -> int:
        wanted = dict.fromkeys(ids)
        return int(self._all_or_nothing(lambda: sum([self.delete(id, type, cascade) for id in wanted])))

    def list_where(self, holds: Callable[[Record], bool], types: Sequence[str] = ()) -> list[Record]:
        """The records for which *holds* is true, by id and type; *types* are those that the filter names."""
        return deepcopy([record for record in self._listed(types) if holds(record)])

    # -- logs ----------------------------------------------------------------------------------------------------

    def _owner(self, log_id: str) -> Record:
        owner = self._living(owner_of(log_id))
        if owner is None:
            raise Refusal(NOT_FOUND)
        return owner

    def _log(self, log_id: str) -> ModelLog | None:
        return None if self._living(owner_of(log_id)) is None else self._logs.get(log_id)

    def append(
        self,
        log_id: str,
        entries: Sequence[Entry],
        on_duplicate: str = "error",
        keep_last: int | None = None,
        expected_version: int | None = None,
    ) -> list[int]:
        owner, log = self._owner(log_id), self._logs.get(log_id) or ModelLog()
        known = [log.number_of(entry.get("key")) is not None for entry in entries]
        faults = []
        if on_duplicate == "error" and (any(known) or _has_doubles(entries)):
            faults.append(EXISTS)
        if expected_version not in (None, owner["version"]) and not (entries and all(known)):
            faults.append(CONFLICT)
        if faults:
            raise Refusal(*faults)
        numbers = [self._placed(log, entry, on_duplicate) for entry in entries]
        left = len(log.entries) if keep_last is None else keep_last
        dropped = log.entries[: max(0, len(log.entries) - left)]
        del log.entries[: len(dropped)]
        if entries:
            self._logs[log_id] = log
        if dropped or not all(known) or (entries and on_duplicate == "replace"):
            self._touch(owner)
        return numbers

    def _placed(self, log: ModelLog, draft: Entry, on_duplicate: str) -> int:
        seq = log.number_of(draft.get("key"))
        if seq is None:
            return log.add(draft, self._clock())
        if on_duplicate == "replace":
            entry = next(entry for entry in log.entries if entry["seq"] == seq)
            entry["body"] = deepcopy(draft["body"])
            entry["created_at"] = draft.get("created_at") or entry["created_at"]
        return seq

    def pop(self, log_id: str) -> Entry | None:
        log = self._log(log_id)
        if log is None or not log.entries:
            return None
        self._touch(self._owner(log_id))
        return log.entries.pop()

    def rewrite(self, log_id: str, entries: Sequence[Entry], expected_version: int | None = None) -> list[int]:
        owner, stored = self._owner(log_id), self._logs.get(log_id)
        faults = [EXISTS] if _has_doubles(entries) else []
        if expected_version not in (None, owner["version"]):
            faults.append(CONFLICT)
        if faults:
            raise Refusal(*faults)
        fresh = ModelLog(stored.last_seq if stored else 0)
        numbers = [fresh.add(entry, self._clock()) for entry in entries]
        self._logs[log_id] = fresh
        self._touch(owner)
        return numbers

    def read(
        self,
        log_id: str,
        after: int = 0,
        before: int | None = None,
        last: int | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        log = self._log(log_id) or ModelLog()
        found = [entry for entry in log.entries if entry["seq"] > after and (before is None or entry["seq"] < before)]
        found = [entry for entry in found if since is None or entry["created_at"] >= since]
        if last is not None:
            found = found[max(0, len(found) - last) :]
        return deepcopy(found[:limit])

    def log_info(self, log_id: str) -> dict[str, Any] | None:
        log = self._log(log_id)
        if log is None:
            return None
        first = log.entries[0]["seq"] if log.entries else None
        return {"first_seq": first, "last_seq": log.last_seq, "count": len(log.entries)}

    def logs(self, prefix: str = "") -> list[str]:
        """The ids that a listing shows; system types only where *prefix* names the type."""
        named = "@_" in prefix.partition("/")[0]
        return sorted(
            log_id
            for log_id in self._logs
            if log_id.startswith(prefix)
            and self._log(log_id) is not None
            and (named or not owner_of(log_id)[1].startswith("_"))
        )

    # -- together, upkeep ----------------------------------------------------------------------------------------

    def _all_or_nothing(self, work: Callable[[], Any]) -> Any:
        before = deepcopy((self._records, self._logs))
        try:
            return work()
        except Refusal:
            self._records, self._logs = before
            raise

    def transaction(self, operations: Sequence[Operation], *, leave: bool = True) -> list[Any]:
        """The results of the operations; with ``leave=False`` everything is taken back at the end."""
        before = deepcopy((self._records, self._logs))
        results = []
        try:
            for index, (verb, arguments) in enumerate(operations):
                try:
                    results.append(getattr(self, verb)(**arguments))
                except Refusal as refusal:
                    raise Refusal(TRANSACTION, index=index) from refusal
        except Refusal:
            self._records, self._logs = before
            raise
        if not leave:
            self._records, self._logs = before
        return results

    def restore(self, records: Sequence[Record], logs: Sequence[dict[str, Any]] = ()) -> int:
        return int(self._all_or_nothing(lambda: self._restored(records, logs)))

    def _restored(self, records: Sequence[Record], logs: Sequence[dict[str, Any]]) -> int:
        for record in records:
            key = (record["id"], record["type"])
            stored = self._living(key)
            if stored is None:
                self._drop(key)
            fresh = {name: deepcopy(record.get(name)) for name in (*_GIVEN, "created_at", "updated_at")}
            self._records[key] = fresh | {"version": stored["version"] + 1 if stored else 1}
        among = {(record["id"], record["type"]) for record in records}
        for log in logs:
            owner = owner_of(log["log_id"])
            if owner not in among and self._living(owner) is None:
                raise Refusal(NOT_FOUND)
            self._logs[log["log_id"]] = ModelLog(log["last_seq"], deepcopy(log["entries"]))
            if owner not in among:
                self._touch(self._records[owner])
        return len(records)

    def purge_expired(self) -> int:
        expired = [key for key in self._records if self._living(key) is None]
        for key in expired:
            self._drop(key)
        return len(expired)

    def cleanup_old_data(self, retention_days: int, type: str = "session", dry_run: bool = False) -> int:
        since = self._clock() - timedelta(days=retention_days)
        idle = [record for record in self._listed([type]) if record["type"] == type and record["updated_at"] < since]
        if dry_run:
            return len(idle)
        return sum([self.delete(record["id"], type, cascade=True) for record in idle])


_GIVEN = ("id", "type", "data", "metadata", "session_id", "thread_id", "expires_at")


def _has_doubles(entries: Sequence[Entry]) -> bool:
    keys = [entry["key"] for entry in entries if entry.get("key") is not None]
    return len(keys) != len(set(keys))
