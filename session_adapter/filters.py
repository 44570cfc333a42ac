"""Filters on sessions, as filters on their records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from session_adapter.identity import SESSION
from unified_storage.errors import StorageValidationError
from unified_storage.paths import path_text

COLUMNS = frozenset({"created_at", "updated_at", "expires_at"})
_RENDERED = {
    f"{holder}.{name}": name for holder in ("metadata", "data.metadata") for name in ("created_at", "updated_at")
}
_DOT = re.compile(r"(?:[^\\.]|\\.)*\.", re.DOTALL)
_MOMENTS = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})
_MANY_MOMENTS = frozenset({"$in", "$nin"})


def session_filters(filters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The filter of the records that *filters* mean.

    A bare key is a field of the metadata, ``created_at``, ``updated_at`` and ``expires_at`` are the record's own times
    (aware datetimes or ISO text with an offset), also where they are written as the metadata's. A key with a dot is a
    storage path.

    Raises:
        StorageValidationError: no mapping, or a time that names no moment.
    """
    if filters is None:
        return {"type": SESSION}
    translated = _translated(filters)
    if "type" in translated:
        return {"$and": [{"type": SESSION}, translated]}
    return {"type": SESSION, **translated}


def session_order(order_by: str) -> str:
    """The storage's name of the order *order_by*: ``id`` and times as they are, other bare names are metadata."""
    if not isinstance(order_by, str):
        raise StorageValidationError("order_by is a text", details={"path": "order_by"})
    sign, name = ("-", order_by[1:]) if order_by.startswith("-") else ("", order_by)
    return sign + (name if name == "id" else _path(name))


def _translated(filters: object) -> dict[str, Any]:
    if not isinstance(filters, Mapping):
        raise StorageValidationError(
            f"filters are a mapping, not {type(filters).__name__}", details={"path": "filters"}
        )
    conditions = [_condition(key, value) for key, value in filters.items()]
    if len(conditions) == 1:
        return conditions[0]
    return {"$and": conditions} if conditions else {}


def _condition(key: object, value: Any) -> dict[str, Any]:
    if not isinstance(key, str):
        raise StorageValidationError(f"a filter's key is a text, not {type(key).__name__}", details={"path": "filters"})
    if key in ("$and", "$or"):
        parts = [_translated(part) for part in value] if isinstance(value, list | tuple) else value
        return {key: parts}
    if key == "$not":
        return {key: _translated(value)}
    path = _path(key)
    return {path: _moments(path, value) if path in COLUMNS else value}


@lru_cache(maxsize=1024)
def _path(key: str) -> str:
    if key in COLUMNS or key.startswith("$"):
        return key
    if _DOT.match(key):
        return _RENDERED.get(key, key)
    name = re.sub(r"\\(.)", r"\1", key)
    # A user's own ~ stands one ~ further, since that key is ours.
    return path_text(("metadata", f"~{name}" if name.strip("~") == "" and name else name))


def _moments(column: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _moment(column, value)
    return {op: _operand(column, op, wanted) for op, wanted in value.items()}


def _operand(column: str, op: str, wanted: Any) -> Any:
    if op in _MOMENTS:
        return _moment(column, wanted)
    if op in _MANY_MOMENTS and isinstance(wanted, list | tuple | set | frozenset):
        return [_moment(column, each) for each in wanted]
    return wanted


def _moment(column: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise _no_moment(column, value) from error
    if moment.utcoffset() is None:
        raise _no_moment(column, value)
    return moment


def _no_moment(column: str, value: str) -> StorageValidationError:
    message = f"{column}: {value[:40]!r} is no time with an offset, such as 2024-05-15T20:37:00+00:00"
    return StorageValidationError(message, details={"path": column})
