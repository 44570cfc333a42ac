"""The ``{"$type": ...}`` forms: how types that JSON lacks are written inside it, and read back."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from unified_storage.errors import StorageIntegrityError

TAG = "$type"
MAX_DEPTH = 256
"""Levels of mappings, lists, tuples and sets in a value; the outermost is the first."""

_LOCAL_LENGTH = len("2026-01-02T03:04:05.000006")
_SPLIT_PAIR = re.compile(r"(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def tag_text(tag: str, inner: str) -> str:
    """The JSON text of a tagged form; *inner* is JSON text too."""
    return f'{{"$type":"{tag}","value":{inner}}}'


def pieces(text: str) -> list[str]:
    """*text* cut between lone surrogates that would read back as one character if written side by side."""
    return _SPLIT_PAIR.split(text)


def _datetime_form(value: datetime) -> tuple[str, str]:
    text = value.isoformat(timespec="microseconds")
    if value.tzinfo is None:  # only here is the fold the one thing that tells two instants apart
        return "folded-datetime" if value.fold else "datetime", text
    if value.utcoffset() is None:
        raise ValueError("a time zone without an offset cannot be kept")
    return "datetime", text


def _read_datetime(text: str) -> datetime:
    local, offset = datetime.fromisoformat(text[:_LOCAL_LENGTH]), text[_LOCAL_LENGTH:]
    return local.replace(tzinfo=_zone(offset)) if offset else local


def _zone(text: str) -> timezone:
    # Read here, since datetime.fromisoformat takes an offset of less than a second for UTC.
    span = time.fromisoformat(text[1:])
    offset = timedelta(hours=span.hour, minutes=span.minute, seconds=span.second, microseconds=span.microsecond)
    return timezone(-offset if text[0] == "-" else offset)


SCALAR_TAGS: dict[type, Callable[[Any], tuple[str, str]]] = {
    bytes: lambda value: ("bytes", b64encode(value).decode()),
    datetime: _datetime_form,
    date: lambda value: ("date", value.isoformat()),
    # The exponent's letter follows the thread's decimal context; ours does not.
    Decimal: lambda value: ("decimal", str(value).replace("e", "E")),
    UUID: lambda value: ("uuid", str(value)),
    float: lambda value: ("float", repr(value)),
}
"""Exact type -> tag and text of a value of it; ValueError where it cannot be kept. Floats only if not finite."""

_SCALAR_READERS: dict[str, Callable[[str], Any]] = {
    "bytes": lambda text: b64decode(text, validate=True),
    "datetime": _read_datetime,
    "folded-datetime": lambda text: datetime.fromisoformat(text).replace(fold=1),
    "date": date.fromisoformat,
    "decimal": Decimal,
    "uuid": UUID,
    "float": {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.__getitem__,
}


def untagged(tree: Any) -> Any:
    """*tree*, fresh from the parser, with every tagged form replaced by its value, in place.

    Raises:
        StorageIntegrityError: unknown or malformed forms, or more than ``MAX_DEPTH`` levels.
    """
    root = [tree]
    places: list[tuple[Any, Any, int]] = [(root, 0, 1)]
    forms: list[tuple[Any, Any]] = []
    for holder, key, depth in places:  # grows: parents before children
        node = holder[key]
        if type(node) is dict and TAG in node:
            tag, inner = _form(node)
            if tag == "dict":
                holder[key] = inner
            else:
                forms.append((holder, key))
            if tag in _SCALAR_READERS or tag == "str":
                continue
            below = _places_of_items(inner) if tag == "items" else _places(inner)
        elif type(node) is dict or type(node) is list:
            below = _places(node)
        else:
            continue
        if depth > MAX_DEPTH:
            raise too_deep()
        places.extend((*place, depth + 1) for place in below)
    for holder, key in reversed(forms):  # children before parents
        holder[key] = _value_of(holder[key])
    return root[0]


def _places(node: Any) -> list[tuple[Any, Any]]:
    found = node.items() if type(node) is dict else enumerate(node)
    return [(node, key) for key, item in found if type(item) is dict or type(item) is list]


def _places_of_items(inner: Any) -> list[tuple[Any, Any]]:
    return [(pair, at) for pair in inner for at in (0, 1)]


_INNER: dict[str, type] = {"tuple": list, "set": list, "str": list, "items": list, "dict": dict}


def _form(node: dict[str, Any]) -> tuple[str, Any]:
    """The tag and inner value of a tagged form, its shape checked."""
    tag: Any = node[TAG]
    inner: Any = node.get("value")
    if type(tag) is not str or not (tag in _INNER or tag in _SCALAR_READERS):
        name = tag[:64] if type(tag) is str else f"a {type(tag).__name__}"
        raise StorageIntegrityError(f"unknown $type: {name}", details={"tag": name})
    fits = len(node) == 2 and type(inner) is _INNER.get(tag, str)
    if fits and tag == "dict":
        fits = TAG in inner
    if fits and tag == "items":
        fits = all(type(pair) is list and len(pair) == 2 for pair in inner)
    if not fits:
        raise _malformed(tag)
    return tag, inner


def _value_of(node: dict[str, Any]) -> Any:
    tag, inner = node[TAG], node["value"]
    if tag == "tuple":
        return tuple(inner)
    if tag == "set":
        return _set_of(inner)
    if tag == "items":
        return _dict_of(inner)
    if tag == "str":
        return _str_of(inner)
    return _scalar_of(tag, inner)


def _set_of(items: list[Any]) -> set[Any]:
    try:
        found = set(items)
    except TypeError as error:
        raise _malformed("set") from error
    if len(found) != len(items):
        raise _malformed("set")
    return found


def _dict_of(pairs: list[list[Any]]) -> dict[str, Any]:
    found = {key: item for key, item in pairs if type(key) is str}
    if len(found) != len(pairs):
        raise _malformed("items")
    return found


def _str_of(parts: list[Any]) -> str:
    if all(type(part) is str for part in parts) and len(parts) > 1:
        text = "".join(parts)
        if pieces(text) == parts:
            return text
    raise _malformed("str")


def _scalar_of(tag: str, text: str) -> Any:
    """Only the very text that would be written is read: ``Decimal(" 1_0 ")`` or base64 with stray bits is damage."""
    try:
        value = _SCALAR_READERS[tag](text)
        if SCALAR_TAGS[type(value)](value) == (tag, text):
            return value
    except (ValueError, ArithmeticError, LookupError) as error:
        raise _malformed(tag) from error
    raise _malformed(tag)


def too_deep() -> StorageIntegrityError:
    """The error for a text whose value has more than ``MAX_DEPTH`` levels."""
    return StorageIntegrityError(f"nested deeper than {MAX_DEPTH} levels", details={"limit": MAX_DEPTH})


def _malformed(tag: str) -> StorageIntegrityError:
    return StorageIntegrityError(f"malformed value of $type {tag}", details={"tag": tag})
