"""In what two states of one record differ, named for a report: never contents."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from legacy.stores.contents import entries_of, history_in, session_content
from legacy.stores.parcels import SESSION, Log, Parcel, Record
from session_adapter.metadata import OWN, own_fields
from unified_storage.times import micros
from unified_storage.values import equal

FIELDS = ("data", "metadata", "session_id", "thread_id", "created_at", "updated_at", "expires_at")
_BY_VALUE_ALONE = 2
"""The last version of ``marshal``'s form in which equal values have equal bytes, wherever else they are referred to."""


def exact_differences(parcel: Parcel, record: Record, logs: Iterable[Log]) -> tuple[str, ...]:
    """Which fields and logs just read back are not what was written: every one counts but the version."""
    read_back = [*logs]
    if _equal(_facts(parcel.record), _facts(record)):
        return log_differences(parcel.logs, read_back)
    fields = [name for name in FIELDS if not _same(parcel.record.get(name), record[name])]
    return (*fields, *log_differences(parcel.logs, read_back))


def whole_differences(parcel: Parcel, found: Parcel) -> tuple[str, ...]:
    """Which fields and logs differ between two stores of ours.

    Saving what is there counts for nothing, as for a copy: neither ``updated_at`` nor what session views keep for
    themselves is compared.
    """
    if parcel.content == found.content:
        return ()
    names = [name for name in FIELDS if name not in ("metadata", "updated_at")]
    fields = [name for name in names if not _same(parcel.record.get(name), found.record[name])]
    if not _same(_users(parcel.record), _users(found.record)):
        fields.append("metadata")
    return (*fields, *log_differences(parcel.logs, found.logs))


def document_differences(parcel: Parcel, found: Parcel) -> tuple[str, ...]:
    """In what a session of ours differs from what a foreign source's document says."""
    kinds = []
    entries = history_in(found.record, found.logs)
    if session_content(found.record, entries) != parcel.content:
        wanted = [entry["body"] for entry in history_in(parcel.record, parcel.logs)]
        same = _same([entry["body"] for entry in entries], wanted)
        kinds.extend(["document"] if same else ["history"])
        if not same and not _same(parcel.record["data"], found.record["data"]):
            kinds.append("document")
    unknown = own_fields(parcel.record).get("time_unknown", ())
    if "created_at" not in unknown and not _same(parcel.record["created_at"], found.record["created_at"]):
        kinds.append("created_at")
    if "updated_at" not in unknown and _is_behind(parcel, found):
        kinds.append("updated_at")
    return tuple(kinds)


def log_differences(left: Iterable[Log], right: Iterable[Log]) -> tuple[str, ...]:
    """The names of the logs that differ, by their part before the ``/``; a log without entries is none."""
    wanted = {log["log_id"]: log for log in left if log["entries"]}
    found = {log["log_id"]: log for log in right if log["entries"]}
    differing = [id for id in sorted(wanted.keys() | found.keys()) if not _same_log(wanted.get(id), found.get(id))]
    return tuple(f"log {id.partition('/')[0]}" for id in differing)


def _is_behind(parcel: Parcel, found: Parcel) -> bool:
    return bool(found.record["updated_at"] < parcel.record["updated_at"])


def _users(record: Record) -> Any:
    metadata = record.get("metadata")
    if record["type"] != SESSION or not isinstance(metadata, dict):
        return metadata
    return {name: value for name, value in metadata.items() if name != OWN}


def _same_log(left: Log | None, right: Log | None) -> bool:
    one, other = entries_of(left), entries_of(right)
    if len(one) != len(other):
        return False
    return _equal([*map(_entry_facts, one)], [*map(_entry_facts, other)])


def _entry_facts(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry.get("seq"), entry.get("key"), _comparable(entry.get("created_at")), entry.get("body")


def _facts(record: Mapping[str, Any]) -> list[Any]:
    return [_comparable(record.get(name)) for name in FIELDS]


def _same(left: Any, right: Any) -> bool:
    return _equal(_comparable(left), _comparable(right))


def _comparable(value: Any) -> Any:
    """A time of a record or entry as microseconds, whatever its offset; anything else as it is."""
    return micros(value) if isinstance(value, datetime) else value


def _equal(left: Any, right: Any) -> bool:
    return _has_same_bytes(left, right) or equal(left, right)


def _has_same_bytes(left: Any, right: Any) -> bool:
    """Whether both are spelled alike, types and order of keys included: quickly found, and almost always so."""
    try:
        return marshal.dumps(left, _BY_VALUE_ALONE) == marshal.dumps(right, _BY_VALUE_ALONE)
    except ValueError:  # there is something in it that has no such form
        return False
