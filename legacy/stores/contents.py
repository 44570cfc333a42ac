"""Hashes of what a session or record holds, by which copies are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from legacy.stores.parcels import SESSION, Log, Record
from session_adapter.documents import content_hash, exported, ordered_texts, trace_of
from session_adapter.entries import history_of
from session_adapter.formats.format import TIMES
from session_adapter.identity import session_id_of, visible_id
from session_adapter.metadata import OWN, own_fields
from session_adapter.timestamps import render
from unified_storage.errors import StorageIntegrityError

_COMPARED = ("id", "type", "data", "metadata", "session_id", "thread_id", "created_at", "expires_at")
_ENTRIES_AT_A_TIME = 500


def history_in(record: Mapping[str, Any], logs: Iterable[Log]) -> list[dict[str, Any]]:
    """The entries of a session's history among *logs*."""
    wanted = history_of(record["id"])
    return entries_of(next((log for log in logs if log["log_id"] == wanted), None))


def entries_of(log: Log | None) -> list[dict[str, Any]]:
    """The entries of a log that may not be there."""
    return [] if log is None else list(log["entries"])


def shown_id(record: Record) -> str:
    """The id by which people know a record: a session's visible id, where it has one, else its own."""
    if record["type"] != SESSION:
        return str(record["id"])
    try:
        return session_id_of(visible_id(record))
    except StorageIntegrityError:
        return str(record["id"])


def session_content(record: Record, entries: list[dict[str, Any]]) -> str:
    """The hash of a session's document with its history: what its caller sees, less the two rendered times."""
    document = content_hash(exported(record, entries))
    if not entries or trace_of(record) is not None:
        return document
    return joined(document, content_hash({"entries": [entry["body"] for entry in entries]}))


def document_content(document: Mapping[str, Any], *, is_known_plain: bool = False) -> str:
    """The :func:`session_content` of a session that was saved as *document*, and of which nothing more is known."""
    return content_hash(dict(document), is_known_plain=is_known_plain)


def whole_content(record: Record, logs: Iterable[Log]) -> str:
    """The hash of every field and log of a record; version, ``updated_at`` and bookkeeping apart.

    A log without entries does not count, and neither does ``updated_at``: saving what is there changes nothing. Times
    do not where none was known: those that stand in their place are of the copy.
    """
    timeless = is_timeless(record)
    fields = {name: _plain(record.get(name)) for name in _COMPARED if name != "created_at" or not timeless}
    if record["type"] == SESSION and isinstance(record.get("metadata"), dict):
        fields["metadata"] = {name: value for name, value in record["metadata"].items() if name != OWN}
    told = sorted(((log["log_id"], log) for log in logs if log["entries"]), key=lambda pair: pair[0])
    return joined(content_hash(fields), *(_log_content(log, timeless) for _, log in told))


def is_timeless(record: Mapping[str, Any]) -> bool:
    """Whether nothing tells when it was made or changed: its times are those of the copy that brought it."""
    return len(own_fields(record).get("time_unknown", ())) == len(TIMES)


def joined(*parts: str) -> str:
    """One hash of several texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _log_content(log: Log, timeless: bool) -> str:
    names = ("seq", "key") if timeless else ("seq", "key", "created_at")
    digest = hashlib.sha256(log["log_id"].encode())
    entries = log["entries"]
    for begin in range(0, len(entries), _ENTRIES_AT_A_TIME):
        some = entries[begin : begin + _ENTRIES_AT_A_TIME]
        heads = ordered_texts([[_plain(entry.get(name)) for name in names] for entry in some])
        bodies = ordered_texts([entry["body"] for entry in some])
        digest.update(b"".join(b"%b%b\n" % pair for pair in zip(heads, bodies, strict=True)))
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return render(value) if isinstance(value, datetime) else value
