"""Logs: how their ids are made and read, and what an entry may be."""

from __future__ import annotations

import itertools
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from unified_storage.arguments import check_count, check_number
from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageIntegrityError,
    StorageNotFoundError,
    StorageValidationError,
)
from unified_storage.record import MAX_ID_BYTES, check_list, checked_id, checked_time, checked_type, is_system
from unified_storage.texts import encode_each
from unified_storage.times import micros, moment
from unified_storage.values import decode, native_texts

MAX_KEY_BYTES = 255
MAX_LOG_ID_BYTES = 2 * MAX_ID_BYTES + 1
MAX_SEQ = (1 << 53) - 1
"""The highest number that every engine counts exactly; an import may begin there."""
_OWNER_OF_A_PLAIN_LOG = "session"
_ENTRY_FIELDS = frozenset({"body", "key", "created_at"})
_STORED_FIELDS = _ENTRY_FIELDS | {"seq"}
_INT = frozenset({int})


@dataclass(frozen=True, slots=True)
class LogName:
    """What a log id says: the log's name, and the record that owns it."""

    name: str
    owner_type: str
    owner_id: str
    log_id: str = field(init=False, compare=False)
    """The one spelling of this log's id."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_id", log_id(self.name, self.owner_id, self.owner_type))

    @property
    def owner_key(self) -> tuple[str, str]:
        """The owner's ``(id, type)``."""
        return (self.owner_id, self.owner_type)

    def is_listed(self, prefix: str) -> bool:
        """Whether ``logs(prefix)`` shows this log, given that its owner lives."""
        return (names_system_logs(prefix) or not is_system(self.owner_type)) and self.log_id.startswith(prefix)


class StoredEntry(NamedTuple):
    """An entry of a log: its body as it was encoded, its time in microseconds."""

    seq: int
    key: str | None
    created_at: int
    body: str

    def handed_out(self) -> dict[str, Any]:
        """The entry for the caller, a copy each time.

        Raises:
            StorageIntegrityError: its body cannot be read; ``details["seq"]`` says which.
        """
        try:
            body = decode(self.body)
        except StorageIntegrityError as error:
            raise StorageIntegrityError(
                f"entry {self.seq} of a log is unreadable: {error.message}", details={"seq": self.seq}, cause=error
            ) from error
        return {"seq": self.seq, "key": self.key, "created_at": moment(self.created_at), "body": body}


class EntryDraft(NamedTuple):
    """A checked entry on its way in; ``seq`` only where it is restored."""

    body: str
    key: str | None
    created_at: int | None
    seq: int | None = None

    def stored(self, seq: int, otherwise: int) -> StoredEntry:
        """The entry under its number; without a time of its own it has that of *otherwise*."""
        return StoredEntry(seq, self.key, otherwise if self.created_at is None else self.created_at, self.body)


def info_of(last_seq: int, entries: Sequence[StoredEntry]) -> dict[str, Any]:
    """What ``log_info`` says of a log that gave *last_seq* as its last number and has *entries*."""
    return {"first_seq": entries[0].seq if entries else None, "last_seq": last_seq, "count": len(entries)}


def log_id(name: str, owner_id: str, owner_type: str = _OWNER_OF_A_PLAIN_LOG) -> str:
    """The id of the log *name* of a record: ``history/<id>``, or ``state@thread/<id>`` for other types."""
    quoted = _quoted(name)
    owner = "" if owner_type == _OWNER_OF_A_PLAIN_LOG else f"@{owner_type}"
    return f"{quoted}{owner}/{owner_id}"


@lru_cache(maxsize=256)
def _quoted(name: str) -> str:
    return quote(name, safe=" !\"#$&'()*+,:;<=>?[\\]^`{|}")


def parse_log_id(text: object) -> LogName:
    """What a log id names; ``StorageValidationError`` when it is none."""
    if type(text) is not str:
        raise StorageValidationError("a log id must be a str", details={"path": "log_id"})
    return _parsed_log_id(text)


@lru_cache(maxsize=1024)
def _parsed_log_id(text: str) -> LogName:
    head, slash, owner_id = text.partition("/")
    name, at, owner_type = head.partition("@")
    if not slash or not name:
        raise StorageValidationError(f"log id {text!r} is not <name>/<record id>", details={"path": "log_id"})
    checked_id(name, "log_id")
    found = LogName(
        name=_unquoted(name),
        owner_type=checked_type(owner_type, "log_id") if at else _OWNER_OF_A_PLAIN_LOG,
        owner_id=checked_id(owner_id, "log_id"),
    )
    if len(found.log_id.encode()) > MAX_LOG_ID_BYTES:  # as it is spelled in the store
        raise StorageValidationError("the log's name is too long", details={"path": "log_id"})
    return found


def _unquoted(name: str) -> str:
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError as error:
        raise StorageValidationError(f"log name {name!r} is no UTF-8", details={"path": "log_id"}) from error


def log_names(log_ids: Iterable[str]) -> dict[str, LogName]:
    """What each of several log ids names."""
    check_list(log_ids, "log_ids")
    return {log_id: parse_log_id(log_id) for log_id in log_ids}


def checked_prefix(prefix: str) -> str:
    """*prefix* when ids of logs can be asked whether they begin with it."""
    if type(prefix) is not str:
        raise StorageValidationError(f"prefix must be a str, not {type(prefix).__name__}", details={"path": "prefix"})
    return prefix


def names_system_logs(prefix: str) -> bool:
    """Whether a prefix of log ids names a system type, so that its logs may be listed."""
    head = checked_prefix(prefix).partition("/")[0]
    return is_system(head.partition("@")[2])


def checked_entries(entries: Iterable[Mapping[str, Any]]) -> list[EntryDraft]:
    """Entries to append, encoded; a refusal names the entry's place and the path in it."""
    check_list(entries, "entries")
    return _drafts([*entries], "entries", _ENTRY_FIELDS)


def _drafts(entries: Sequence[object], path: str, fields: frozenset[str]) -> list[EntryDraft]:
    """The entries as drafts; what is wrong with one is told with its place."""
    checked = [_checked_entry(entry, path, place, fields) for place, entry in enumerate(entries)]
    bodies = encode_each([entry["body"] for entry in checked], lambda place: f"{path}[{place}].body")
    return [_draft(entry, body, path, place) for place, (entry, body) in enumerate(zip(checked, bodies, strict=True))]


def _draft(entry: Mapping[str, Any], body: str, path: str, place: int) -> EntryDraft:
    key, created_at = entry.get("key"), entry.get("created_at")
    if key is not None:
        key = _checked_key(key, f"{path}[{place}].key")
    if created_at is not None:
        created_at = checked_time(created_at, f"{path}[{place}].created_at")
    return EntryDraft(body, key, created_at, entry.get("seq"))


def _checked_entry(entry: object, log: str, place: int, fields: frozenset[str]) -> Mapping[str, Any]:
    if type(entry) is dict and fields.issuperset(entry) and "body" in entry:
        return entry
    path = f"{log}[{place}]"
    if not isinstance(entry, Mapping):
        raise StorageValidationError(f"{path} must be a mapping", details={"path": path})
    if not fields.issuperset(entry):
        name = next(name for name in entry if name not in fields)
        raise StorageValidationError(f"unknown field {name!r} in {path}", details={"path": f"{path}.{name}"})
    if "body" not in entry:
        raise StorageValidationError(f"{path} has no body", details={"path": f"{path}.body"})
    return entry


def _checked_key(key: object, path: str) -> str | None:
    if key is None:
        return None
    if type(key) is not str or not key:
        raise StorageValidationError(f"{path} must be a non-empty str or None", details={"path": path})
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise StorageValidationError(f"{path} has a lone surrogate", details={"path": path}) from error
    if size > MAX_KEY_BYTES or "\0" in key:
        raise StorageValidationError(
            f"{path} must have at most {MAX_KEY_BYTES} bytes and no NUL", details={"path": path}
        )
    return key


@dataclass(frozen=True, slots=True)
class RestoredLog:
    """A log of an import: its entries keep their numbers, keys and times."""

    log_id: str
    owner: LogName
    last_seq: int
    entries: list[EntryDraft]

    @property
    def stored(self) -> list[StoredEntry]:
        """The entries as they are stored."""
        # Number and time are there: it was checked.
        return [StoredEntry(seq or 0, key, created_at or 0, body) for body, key, created_at, seq in self.entries]


def checked_logs(logs: Iterable[Mapping[str, Any]]) -> list[RestoredLog]:
    """Logs to restore; the entries of all of them are looked at together where nothing is odd about any."""
    check_list(logs, "logs")
    given = [(log, _listed_entries(log)) for log in logs]
    drafts = _plain_drafts([entry for _, entries in given for entry in entries])
    if drafts is None:
        return [_checked_log(log, _drafts(entries, log["log_id"], _STORED_FIELDS)) for log, entries in given]
    those = iter(drafts)
    return [_checked_log(log, [*itertools.islice(those, len(entries))]) for log, entries in given]


def checked_log(log: Mapping[str, Any]) -> RestoredLog:
    """A log to restore: numbers rise, none is above ``last_seq``, keys are unique."""
    return checked_logs([log])[0]


def _listed_entries(log: Mapping[str, Any]) -> list[Any]:
    if not isinstance(log, Mapping) or not {"log_id", "last_seq", "entries"} == set(log):
        raise StorageValidationError("a log is {log_id, last_seq, entries}", details={"path": "logs"})
    return [*log["entries"]]


def _plain_drafts(entries: Sequence[Any]) -> list[EntryDraft] | None:
    """Entries to restore as drafts, looked at column by column; None where any of them needs a closer look.

    It is for the logs of an import, which are many and mostly without fault: what is wrong is told by :func:`_drafts`.
    """
    if not all(type(entry) is dict and entry.keys() == _STORED_FIELDS for entry in entries):
        return None
    keys = [entry["key"] for entry in entries]
    bodies = native_texts([entry["body"] for entry in entries])
    moments = _plain_moments([entry["created_at"] for entry in entries])
    if bodies is None or moments is None or not _are_plain_keys([key for key in keys if key is not None]):
        return None
    return [*map(EntryDraft, bodies, keys, moments, [entry["seq"] for entry in entries])]


def _are_plain_keys(keys: Sequence[Any]) -> bool:
    if not all(type(key) is str and 0 < len(key) <= MAX_KEY_BYTES for key in keys):
        return False
    together = "".join(keys)
    return together.isascii() and "\0" not in together


def _plain_moments(times: Sequence[Any]) -> list[int] | None:
    """Times as microseconds, None where any is no time of UTC; the entries of an import often share theirs."""
    found: list[int] = []
    last, since = None, 0
    for when in times:
        if when is not last:
            if type(when) is not datetime or when.tzinfo is not UTC:
                return None
            last, since = when, micros(when)
        found.append(since)
    return None if times and last is None else found


def _checked_log(log: Mapping[str, Any], drafts: list[EntryDraft]) -> RestoredLog:
    owner, last_seq = parse_log_id(log["log_id"]), log["last_seq"]
    _, keys, times, numbers = zip(*drafts, strict=True) if drafts else ((), (), (), ())
    if not _INT.issuperset(map(type, numbers)) or min(numbers, default=1) < 1:
        raise StorageValidationError(f"{log['log_id']!r}: every entry needs its seq", details={"path": "logs"})
    rising = all(map(operator.lt, numbers, numbers[1:]))
    if type(last_seq) is not int or last_seq < (numbers[-1] if numbers else 0) or not rising:
        raise StorageValidationError(f"{log['log_id']!r}: seq must rise up to last_seq", details={"path": "logs"})
    if last_seq > MAX_SEQ:
        raise StorageValidationError(f"{log['log_id']!r}: last_seq must be below 2**53", details={"path": "logs"})
    if None in times:
        raise StorageValidationError(f"{log['log_id']!r}: every entry needs created_at", details={"path": "logs"})
    if len({*keys}) < len(keys) and _occurs_twice(keys):
        raise StorageValidationError(f"{log['log_id']!r}: a key occurs twice", details={"path": "logs"})
    return RestoredLog(owner.log_id, owner, last_seq, drafts)


def _occurs_twice(keys: Iterable[str | None]) -> bool:
    there = [key for key in keys if key is not None]
    return len({*there}) < len(there)


class ReadRange(NamedTuple):
    """Checked bounds of ``read``: numbers exclusive, ``since`` in microseconds."""

    after: int
    before: int | None
    since: int | None
    last: int | None
    limit: int | None

    def of(self, entries: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
        """The part of a whole log, whose numbers rise, that a ``read`` hands out; the rest is not touched.

        Only ``since`` has to look at every entry between the numbers: times need not rise.
        """
        start = bisect_right(entries, self.after, key=_seq)
        end = len(entries) if self.before is None else bisect_left(entries, self.before, key=_seq)
        if self.since is not None:
            entries = [entry for entry in entries[start:end] if entry.created_at >= self.since]
            start, end = 0, len(entries)
        if self.last is not None:
            start = max(start, end - self.last)
        if self.limit is not None:
            end = min(end, start + self.limit)
        return entries[start:end]


def _seq(entry: StoredEntry) -> int:
    return entry.seq


def checked_range(
    after: int, before: int | None, since: datetime | None, last: int | None, limit: int | None
) -> ReadRange:
    """The bounds of a ``read``; ``last`` and ``limit`` exclude each other."""
    check_number("after", after)
    for name, value in (("before", before), ("last", last), ("limit", limit)):
        check_count(name, value)
    if last is not None and limit is not None:
        raise StorageValidationError("last and limit exclude each other", details={"path": "last"})
    return ReadRange(after, before, checked_time(since, "since"), last, limit)


def check_append(on_duplicate: str, keep_last: int | None) -> None:
    """Raise ``StorageValidationError`` for a switch of ``append`` that is none."""
    if on_duplicate not in ("error", "skip", "replace"):
        raise StorageValidationError("on_duplicate is error, skip or replace", details={"path": "on_duplicate"})
    check_count("keep_last", keep_last)


def no_owner(name: LogName) -> StorageNotFoundError:
    """The refusal of a log whose owner is not there."""
    return StorageNotFoundError(
        f"no record {name.owner_id!r} of type {name.owner_type!r} owns the log {name.name!r}",
        details={"id": name.owner_id, "type": name.owner_type, "log_id": name.log_id},
    )


def check_owners(
    logs: Iterable[RestoredLog], restored: Container[tuple[str, str]], living: Callable[[tuple[str, str]], object]
) -> None:
    """Raise ``StorageNotFoundError`` unless the owner of every log is among the *restored*, or *living* finds it."""
    for log in logs:
        if log.owner.owner_key not in restored and living(log.owner.owner_key) is None:
            raise no_owner(log.owner)


def duplicate_key(name: LogName, key: str | None) -> StorageAlreadyExistsError:
    """The refusal of a key that is present."""
    return StorageAlreadyExistsError(
        f"the log {name.log_id!r} has an entry with the key {key!r}", details={"log_id": name.log_id, "key": key}
    )
