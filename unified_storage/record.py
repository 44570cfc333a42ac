"""Records: which fields they have, what may stand in them, and how an update changes them."""

from __future__ import annotations

import os
import re
import time
import unicodedata
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from unified_storage.clock import Clock
from unified_storage.errors import StorageCapacityError, StorageValidationError
from unified_storage.times import micros, moment
from unified_storage.values import MAX_ENCODED, decode, encode, native_texts

FIELDS = (
    "id",
    "type",
    "data",
    "metadata",
    "session_id",
    "thread_id",
    "version",
    "created_at",
    "updated_at",
    "expires_at",
)
_LAST_MOMENT = micros(datetime.max.replace(tzinfo=UTC))
UPDATABLE = frozenset({"data", "metadata", "session_id", "thread_id", "expires_at"})
MAX_ID_BYTES = 1024
MAX_TYPE_BYTES = 64
_FIRST = micros(datetime(1, 1, 1, tzinfo=UTC))
_LAST = micros(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Delete:
    """The sentinel ``DELETE``: as a value in ``update`` it deletes its key."""

    def __repr__(self) -> str:
        return "DELETE"

    def __reduce__(self) -> str:
        return "DELETE"


DELETE = Delete()


@dataclass(frozen=True, slots=True)
class REPLACE:
    """``REPLACE(value)``: as a value in ``update`` it replaces a mapping whole instead of merging into it."""

    value: Any


class Draft(NamedTuple):
    """A checked record on its way in: texts are encoded, times are microseconds since 1970 UTC."""

    id: str
    type: str
    data_text: str
    metadata_text: str | None
    session_id: str | None
    thread_id: str | None
    version: int | None
    created_at: int | None
    updated_at: int | None
    expires_at: int | None

    @property
    def key(self) -> tuple[str, str]:
        """Its identity, ``(id, type)``."""
        return (self.id, self.type)

    def decoded(self, part: str) -> dict[str, Any] | None:
        """A fresh ``data`` or ``metadata``."""
        text = self.data_text if part == "data" else self.metadata_text
        return None if text is None else decode(text)

    def as_input(self) -> dict[str, Any]:
        """The record again, as ``save`` takes it; unaffected by what became of the caller's dict."""
        return {
            "id": self.id,
            "type": self.type,
            "data": self.decoded("data"),
            "metadata": self.decoded("metadata"),
            "session_id": self.session_id,
            "thread_id": self.thread_id,
            "created_at": None if self.created_at is None else moment(self.created_at),
            "expires_at": None if self.expires_at is None else moment(self.expires_at),
        }

    def as_record(self, version: int, created_at: int, updated_at: int, *, with_data: bool = True) -> dict[str, Any]:
        """The record as it is handed out, and as a filter sees it; without data it is not even decoded."""
        record = {
            "id": self.id,
            "type": self.type,
            "data": self.decoded("data") if with_data else None,
            "metadata": self.decoded("metadata"),
            "session_id": self.session_id,
            "thread_id": self.thread_id,
            "version": version,
            "created_at": moment(created_at),
            "updated_at": moment(updated_at),
            "expires_at": None if self.expires_at is None else moment(self.expires_at),
        }
        if not with_data:
            del record["data"]
        return record


def checked_record(
    data: Mapping[str, Any],
    *,
    path: str = "record",
    restored: bool = False,
    texts: tuple[str, str | None] | None = None,
) -> Draft:
    """*data* as a draft, or ``StorageValidationError`` naming the place of the fault.

    Args:
        restored: ``updated_at`` counts, so it has to be a time; else it is taken as it comes and ignored.
        texts: its ``data`` and ``metadata``, where they are encoded already.
    """
    if not isinstance(data, Mapping):
        raise StorageValidationError(f"{path} must be a mapping, not {type(data).__name__}", details={"path": path})
    unknown = [key for key in data if key not in FIELDS]
    if unknown:
        raise StorageValidationError(
            f"unknown field {unknown[0]!r}", details={"path": f"{path}.{unknown[0]}", "fields": list(FIELDS)}
        )
    given_id = data.get("id")
    record_id = new_id() if given_id is None or given_id == "" else checked_id(given_id, f"{path}.id")
    document, metadata = data.get("data"), data.get("metadata")
    if type(document) is not dict:
        raise _wrong(f"{path}.data", "a dict", document)
    if metadata is not None and type(metadata) is not dict:
        raise _wrong(f"{path}.metadata", "a dict or None", metadata)
    data_text = encode(document, path="data") if texts is None else texts[0]
    metadata_text = None if metadata is None else encode(metadata, path="metadata") if texts is None else texts[1]
    _check_size(record_id, data_text, metadata_text)
    return Draft(
        id=record_id,
        type=checked_type(data.get("type"), f"{path}.type"),
        data_text=data_text,
        metadata_text=metadata_text,
        session_id=checked_group(data.get("session_id"), f"{path}.session_id"),
        thread_id=checked_group(data.get("thread_id"), f"{path}.thread_id"),
        version=data.get("version"),
        created_at=checked_time(data.get("created_at"), f"{path}.created_at"),
        updated_at=checked_time(data.get("updated_at"), f"{path}.updated_at", ignored=not restored),
        expires_at=checked_time(data.get("expires_at"), f"{path}.expires_at"),
    )


def checked_records(data_list: Iterable[Mapping[str, Any]], *, restored: bool = False) -> list[Draft]:
    """Every record of a batch as a draft; a refusal carries ``details["index"]`` and the id."""
    check_list(data_list, "records" if restored else "data_list")
    given = [*data_list]
    drafts = []
    for index, (data, texts) in enumerate(zip(given, _texts_of(given), strict=True)):
        try:
            drafts.append(checked_record(data, path=f"[{index}]", restored=restored, texts=texts))
        except (StorageValidationError, StorageCapacityError) as error:
            error.details.setdefault("index", index)
            if isinstance(data, Mapping):
                error.details.setdefault("id", data.get("id"))
            raise
    return drafts


def _texts_of(given: Sequence[Any]) -> Sequence[tuple[str, str | None] | None]:
    """The ``data`` and ``metadata`` of records, encoded together; None for each where that shows no fault of any."""
    if not all(type(data) is dict for data in given):
        return [None] * len(given)
    documents = native_texts([data.get("data") for data in given])
    metadata = native_texts([data.get("metadata") for data in given])
    if documents is None or metadata is None:
        return [None] * len(given)
    return [*zip(documents, metadata, strict=True)]


def _check_size(record_id: str, data_text: str, metadata_text: str | None) -> None:
    characters = len(data_text) + len(metadata_text or "")
    if characters * 4 <= MAX_ENCODED:
        return
    size = len(data_text.encode()) + len((metadata_text or "").encode())
    if size > MAX_ENCODED:
        raise StorageCapacityError(
            f"record {record_id!r} has {size} bytes encoded, more than {MAX_ENCODED}",
            details={"id": record_id, "bytes": size, "limit": MAX_ENCODED},
        )


def _wrong(path: str, wanted: str, found: object) -> StorageValidationError:
    return StorageValidationError(f"{path} must be {wanted}, not {type(found).__name__}", details={"path": path})


def check_list(value: object, path: str) -> None:
    """Raise ``StorageValidationError`` unless *value* is a list, or gives things one by one as a list does."""
    if isinstance(value, Mapping | str | bytes) or not isinstance(value, Iterable):
        raise _wrong(path, "a list", value)


def checked_id(id: object, path: str = "id") -> str:
    """*id* when it can name a record: 1 to 1 024 bytes of UTF-8 without control characters."""
    if type(id) is not str:
        raise _wrong(path, "a str", id)
    if id.isascii() and id.isprintable() and 0 < len(id) <= MAX_ID_BYTES:
        return id
    if id == "":
        raise StorageValidationError(f"{path} must not be empty", details={"path": path})
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in id):
        raise StorageValidationError(f"{path} has a control character or a lone surrogate", details={"path": path})
    if len(id.encode()) > MAX_ID_BYTES:
        raise StorageValidationError(f"{path} is longer than {MAX_ID_BYTES} bytes of UTF-8", details={"path": path})
    return id


def checked_type(type_name: object, path: str = "type") -> str:
    """*type_name* when it can be a record's type: 1 to 64 of ``A-Za-z0-9_.-``."""
    if type(type_name) is not str:
        raise _wrong(path, "a str", type_name)
    if not _TYPE.fullmatch(type_name):
        raise StorageValidationError(f"{path} must be 1-64 of A-Z a-z 0-9 _ . -", details={"path": path})
    return type_name


def checked_group(id: object, path: str) -> str | None:
    """A grouping column's value: None, or what can be an id."""
    return None if id is None else checked_id(id, path)


def checked_time(value: object, path: str, *, ignored: bool = False) -> int | None:
    """An aware datetime as microseconds; None stays None. A field that ``save`` ignores is taken as it comes."""
    if value is None:
        return None
    if isinstance(value, datetime) and value.utcoffset() is not None:
        since = micros(value)
        if _FIRST <= since <= _LAST:
            return since
        if not ignored:
            raise StorageValidationError(f"{path} lies outside the years 1-9999 of UTC", details={"path": path})
    if ignored:
        return None
    raise StorageValidationError(f"{path} must be an aware datetime or None", details={"path": path})


def is_system(type_name: str) -> bool:
    """Whether records of this type are bookkeeping, seen only by those who name the type."""
    return type_name.startswith("_")


def now_micros(clock: Clock) -> int:
    """The clock's time as microseconds; a naive clock is a fault of the configuration."""
    now = clock()
    if now.tzinfo is not UTC and now.utcoffset() is None:
        raise StorageValidationError("the clock must give aware datetimes", details={"path": "clock"})
    return micros(now)


def updated_record(stored: Mapping[str, Any], updates: Mapping[str, Any]) -> dict[str, Any]:
    """*stored* (a whole record, ours to change) with *updates* merged in."""
    if not isinstance(updates, Mapping):
        raise _wrong("updates", "a mapping", updates)
    for name in updates:
        if name not in UPDATABLE:
            raise StorageValidationError(
                f"update cannot change {name!r}", details={"path": f"updates.{name}", "fields": sorted(UPDATABLE)}
            )
    record = dict(stored)
    for name, value in updates.items():
        changed = _merged_value(record.get(name), value)
        record[name] = None if changed is DELETE else changed
    return record


def _merged_value(stored: Any, value: Any) -> Any:
    if isinstance(value, REPLACE):
        return value.value
    if type(value) is not dict:
        return value
    return merged(stored if type(stored) is dict else {}, value)


def merged(stored: dict[str, Any], updates: Mapping[str, Any]) -> dict[str, Any]:
    """*stored* with *updates* deep-merged: mappings merge, anything else replaces, ``DELETE`` deletes."""
    result = dict(stored)
    for key, value in updates.items():
        changed = _merged_value(result.get(key), value)
        if changed is DELETE:
            result.pop(key, None)
        else:
            result[key] = changed
    return result


def new_id() -> str:
    """A new UUIDv7: ids made later sort later."""
    maker = getattr(uuid, "uuid7", None)
    if maker is not None:
        return str(maker())
    milliseconds = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | _random_bits(12) << 64 | 0b10 << 62 | _random_bits(62)))


def _random_bits(count: int) -> int:
    return int.from_bytes(os.urandom(8)) >> (64 - count)


def later(now: int, stored: int) -> int:
    """The ``updated_at`` that follows *stored*: the clock, but never earlier than one microsecond after it."""
    return min(max(now, stored + 1), _LAST_MOMENT)
