"""A record as it is stored and as it is handed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from unified_storage.backends.redis.partitions import escaped, packed_keys, time_of
from unified_storage.errors import StorageIntegrityError
from unified_storage.filters import Path, path_text, value_at
from unified_storage.interface import Record
from unified_storage.order_keys import index_key
from unified_storage.record import Draft
from unified_storage.times import moment
from unified_storage.values import decode

Key = tuple[str, str]
"""A record's ``(id, type)``."""

Stamp = tuple[int, int, int]
"""Incarnation, version, and version when it was written: whether a record is still the one that was read."""

_head = msgspec.msgpack.Decoder(tuple[int, int, int, str, str, str, str, str])
HEAD = ("h", "m")
WHOLE = ("h", "m", "d")
BYTES_AT_ONCE = 4 << 20
"""Of documents that one script reads, unless a single one is larger: while it does, all others wait."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored record: texts as they were encoded, times in microseconds."""

    id: str
    type: str
    incarnation: int
    """Tells it from an earlier record of the same identity; 0 while it is not stored yet."""
    version: int
    written: int
    """The version at which the record itself was written last; appends do not move it."""
    created_at: int
    updated_at: int
    expires_at: int | None
    session_id: str | None
    thread_id: str | None
    metadata: bytes | None
    data: bytes | None
    """None where it was not read."""

    @property
    def key(self) -> Key:
        return (self.id, self.type)

    @property
    def stamp(self) -> Stamp:
        return (self.incarnation, self.version, self.written)

    def lives(self, now: int) -> bool:
        return self.expires_at is None or self.expires_at > now

    def touched(self, updated_at: int) -> Row:
        """The record after a change of one of its logs."""
        return replace(self, version=self.version + 1, updated_at=updated_at)

    def handed_out(self, with_data: bool = True) -> Record:
        """A copy for the caller."""
        record: Record = {
            "id": self.id,
            "type": self.type,
            "data": None if self.data is None or not with_data else self._decoded(self.data),
            "metadata": None if self.metadata is None else self._decoded(self.metadata),
            "session_id": self.session_id,
            "thread_id": self.thread_id,
            "version": self.version,
            "created_at": moment(self.created_at),
            "updated_at": moment(self.updated_at),
            "expires_at": None if self.expires_at is None else moment(self.expires_at),
        }
        if not with_data:
            del record["data"]
        return record

    def _decoded(self, text: bytes) -> dict[str, Any]:
        try:
            document = decode(text)
        except StorageIntegrityError as error:
            raise _unreadable(self.id, self.type, error.message) from error
        if type(document) is not dict:
            raise _unreadable(self.id, self.type, "it is no mapping")
        return document


def row_of(key: Key, stored: Sequence[bytes | None]) -> Row | None:
    """The record of the fields ``HEAD`` or ``WHOLE``; None when there is none."""
    head, metadata, *rest = stored
    if head is None:
        return None
    id, type_name = key
    try:
        incarnation, version, written, created, updated, expires, session_id, thread_id = _head.decode(head)
        times = time_of(created), time_of(updated), time_of(expires) if expires else None
    except (msgspec.MsgspecError, ValueError) as error:
        raise _unreadable(id, type_name, "its head is damaged") from error
    if rest and rest[0] is None:
        raise _unreadable(id, type_name, "its document is not there")
    return Row(
        id,
        type_name,
        incarnation,
        version,
        written,
        *times,
        session_id=session_id or None,
        thread_id=thread_id or None,
        metadata=metadata,
        data=rest[0] if rest else None,
    )


def new_row(draft: Draft, stored: Row | None, version: int, created_at: int, updated_at: int) -> Row:
    """The record that *draft* makes in the place of *stored*."""
    return Row(
        draft.id,
        draft.type,
        stored.incarnation if stored else 0,
        version,
        version,
        created_at,
        updated_at,
        draft.expires_at,
        draft.session_id,
        draft.thread_id,
        None if draft.metadata_text is None else draft.metadata_text.encode(),
        draft.data_text.encode(),
    )


def packed_index_keys(paths: Mapping[Path, bool], data: bytes | str, metadata: bytes | str | None) -> bytes:
    """The keys of a record at the indexed *paths* of its type, as they stand in its hash."""
    if not paths:
        return packed_keys(())
    parts = {path[0] for path in paths}
    # Only the documents that some path looks into are decoded.
    record = {
        "data": decode(data) if "data" in parts else None,
        "metadata": decode(metadata) if "metadata" in parts and metadata is not None else None,
    }
    found = ((path, index_key(value_at(record, path))[0]) for path in paths)
    return packed_keys((path_text(path), escaped(key)) for path, key in found if key is not None)


def _unreadable(id: str, type_name: str, why: str) -> StorageIntegrityError:
    return StorageIntegrityError(
        f"record {id!r} of type {type_name!r} is unreadable: {why}", details={"id": id, "type": type_name}
    )
