"""Rows made records to hand out."""

from __future__ import annotations

from typing import Any

from unified_storage.backends.sql.statements import Row
from unified_storage.errors import StorageIntegrityError
from unified_storage.interface import Record
from unified_storage.times import moment
from unified_storage.values import decode


def shown(row: Row) -> Record:
    """A record, of the columns ``id type session_id thread_id version`` times ``metadata data``."""
    if row[-1] is None:
        raise without_document(row[0], row[1])
    return _record(row, read_back(row[-1], row[0], row[1]))


def shown_without_data(row: Row) -> Record:
    """As :func:`shown`, with whatever stands in the place of its document."""
    record = _record(row, None)
    del record["data"]
    return record


def _record(row: Row, data: dict[str, Any] | None) -> Record:
    id, type_name, session_id, thread_id, version, created_at, updated_at, expires_at, metadata, _ = row
    return {
        "id": id,
        "type": type_name,
        "data": data,
        "metadata": None if metadata is None else read_back(metadata, id, type_name),
        "session_id": session_id,
        "thread_id": thread_id,
        "version": version,
        "created_at": (created := moment(created_at)),
        "updated_at": created if updated_at == created_at else moment(updated_at),
        "expires_at": None if expires_at is None else moment(expires_at),
    }


def read_back(text: str, id: str, type_name: str) -> dict[str, Any]:
    """A stored document; damage is an error that names the record, never an absence."""
    try:
        document = decode(text)
    except StorageIntegrityError as error:
        raise _unreadable(id, type_name, error.message) from error
    if type(document) is not dict:
        raise _unreadable(id, type_name, "it is no mapping")
    return document


def _unreadable(id: str, type_name: str, why: str) -> StorageIntegrityError:
    return StorageIntegrityError(
        f"record {id!r} of type {type_name!r} is unreadable: {why}", details={"id": id, "type": type_name}
    )


def without_document(id: str, type_name: str) -> StorageIntegrityError:
    """The error for a record whose document is not there."""
    return _unreadable(id, type_name, "its document is not there")
