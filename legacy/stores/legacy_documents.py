"""What a session of ours is as a legacy file: its document, and what such a file has no place for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from legacy.session_files import file_name, is_hashed
from legacy.stores.contents import document_content, history_in, is_timeless
from legacy.stores.parcels import Log, Parcel, Record
from legacy.stores.session_data import canonical_as_session_data
from session_adapter.documents import exported, trace_of
from session_adapter.entries import history_of, shown_elements
from session_adapter.formats import CANONICAL, Format, detect
from session_adapter.formats.format import TIMES
from session_adapter.formats.json_values import has_bytes, without_bytes
from session_adapter.formats.places import is_mapping, text_of
from session_adapter.identity import SessionKey, session_id_of, visible_id
from unified_storage.errors import StorageValidationError

Document = dict[str, Any]


def legacy_document(record: Record, logs: Iterable[Log]) -> tuple[str, Document]:
    """The visible id of a session, and the document that its file holds.

    A canonical one becomes a ``SessionData`` document with its history, its bytes as text, and so does any other that
    has a history and no place for it; all others are as they were saved.

    Raises:
        StorageIntegrityError: the record's id names no session.
        StorageValidationError: the id is too long for a file's name, and the document has no room for it.
    """
    named = visible_id(record)
    id = session_id_of(named)
    entries = history_in(record, logs)
    document = dict(record["data"]) if isinstance(named, SessionKey) else exported(record, entries)
    format = detect(document)
    if format is CANONICAL or (entries and format.history_path is None):
        bodies = [entry["body"] for entry in entries]
        times = {name: record[name] for name in TIMES}
        document = without_bytes(canonical_as_session_data(document, bodies, id=id, **times))
    elif entries and trace_of(record) is None:
        # events came to a document that had no list: they go where such documents keep theirs
        document = format.with_history(document, [item for entry in entries for item in _shown(entry, format)])
    return id, _with_long_id(id, document)


def is_document_of(parcel: Parcel, document: Document, found: Document) -> bool:
    """Whether *found*, what a file holds, is the *document* of *parcel*; times that nobody knew are those it holds."""
    if is_timeless(parcel.record) and is_mapping(document.get("metadata")) and is_mapping(found.get("metadata")):
        given = {name: found["metadata"].get(name) for name in TIMES}
        document = {**document, "metadata": {**document["metadata"], **given}}
    return document_content(found) == document_content(document)


def _shown(entry: dict[str, Any], format: Format) -> list[Any]:
    return shown_elements(entry["body"], format)


def losses(parcel: Parcel) -> list[str]:
    """What of *parcel* a legacy file has no place for, a word each."""
    if not parcel.is_session:
        return [f"type {parcel.record['type']}"]
    record = parcel.record
    others = [log for log in parcel.logs if log["entries"] and log["log_id"] != history_of(record["id"])]
    lost = [f"log {log['log_id'].partition('/')[0]}" for log in others]
    if record.get("expires_at") is not None:
        lost.append("expires_at")
    if record.get("thread_id") is not None:
        lost.append("thread_id")
    if isinstance(visible_id(record), SessionKey):
        lost.append("scope of a session")
    if any(map(has_bytes, (record["data"], *(entry["body"] for entry in history_in(record, parcel.logs))))):
        lost.append("bytes")
    return lost


def _with_long_id(id: str, document: Document) -> Document:
    """*document*, in which its id stands where no file's name can say it."""
    if not is_hashed(file_name(id)):
        return document
    found = detect(document).document_id(document)
    if text_of(found) == id:
        return document
    metadata = document.get("metadata")
    if found is not None or not isinstance(metadata, dict | None):
        message = "the id is too long for a file's name, and the document has no room for it in metadata.session_id"
        raise StorageValidationError(message, details={"path": "metadata.session_id"})
    return {**document, "metadata": {**(metadata or {}), "session_id": id}}
