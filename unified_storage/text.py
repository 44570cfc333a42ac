"""The careful ways between values and JSON text, for what msgspec cannot write or read exactly; no recursion."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite
from typing import Any, NoReturn

import msgspec

from unified_storage.errors import StorageCapacityError, StorageIntegrityError, StorageValidationError
from unified_storage.tagged import MAX_DEPTH, SCALAR_TAGS, TAG, pieces, tag_text, too_deep

MAX_ENCODED = 15 * 1024 * 1024
"""Bytes of UTF-8 of one record or entry."""
MAX_DIGITS = 4300
"""Decimal digits of one integer: Python's own default limit."""

_TOO_LONG = 10**MAX_DIGITS
_MAX_JSON_DEPTH = 3 * MAX_DEPTH + 2
"""The deepest tagged form, a mapping as items, takes three JSON levels; a tagged scalar in it takes up to two."""
_PLAIN_KEY = re.compile(r"[\w$-]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NO_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[^"\[\]{}]+', re.DOTALL)
"""Whole strings, also one that never ends, and what stands between strings and brackets."""
_LITERALS: dict[Any, str] = {None: "null", True: "true", False: "false"}


def over_limit(path: str, size: int | None = None) -> StorageCapacityError:
    """The error for a text longer than ``MAX_ENCODED``; *size* in bytes where it is known."""
    facts = {"path": path, "limit": MAX_ENCODED} | ({} if size is None else {"size": size})
    return StorageCapacityError(f"{path} is larger than {MAX_ENCODED} bytes when encoded", details=facts)


# --- writing


_Children = Iterator[tuple[str, str | int | None, object]]
"""Text to write before a child, its key or index, the child."""


@dataclass(slots=True)
class _Open:
    """A container being written, with those of its children that are still to come."""

    container: object
    children: _Children
    closing: str
    step: str | int | None = None


def exact_text(value: object, path: str, depth: int = 0) -> str:
    """What ``values.encode`` promises, for any value; where msgspec can write it, the same text.

    Args:
        depth: how many containers are open around *value*.
    """
    text = "".join(_Writer(path, depth).pieces(value))
    if (size := len(text.encode())) > MAX_ENCODED:
        raise over_limit(path, size)
    return text


class _Writer:
    """Writes one value; the containers that are open stand on a stack of its own."""

    def __init__(self, path: str, depth: int) -> None:
        self._root = path
        self._around = depth
        self._stack: list[_Open] = []
        self._above: set[int] = set()

    def pieces(self, value: object) -> list[str]:
        """The text in pieces; given up as soon as they are too long together."""
        written: list[str] = []
        size = 0
        self._stack.append(_Open(None, iter([("", None, value)]), ""))
        while self._stack:
            piece = self._next_piece(self._stack[-1])
            written.append(piece)
            size += len(piece)
            if size > MAX_ENCODED:
                raise over_limit(self._root)
        return written

    def _next_piece(self, innermost: _Open) -> str:
        entry = next(innermost.children, None)
        if entry is None:
            self._above.discard(id(innermost.container))
            self._stack.pop()
            return innermost.closing
        before, innermost.step, child = entry
        if type(child) in (dict, list, tuple):
            return before + self._opened(child)
        return before + self._leaf(child)

    def _opened(self, container: Any) -> str:
        self._check_depth()
        if id(container) in self._above:
            raise self._refused("contains itself")
        opening, children, closing = self._form(container)
        self._stack.append(_Open(container, children, closing))
        self._above.add(id(container))
        return opening

    def _form(self, container: Any) -> tuple[str, _Children, str]:
        if type(container) is list:
            return "[", _elements(container), "]"
        if type(container) is tuple:
            return '{"$type":"tuple","value":[', _elements(container), "]}"
        for key in container:
            if type(key) is not str:
                raise self._refused(f"has a key that is a {_name(type(key))}, not a str", f"[{reprlib.repr(key)}]")
        if any(not key.isascii() and len(pieces(key)) > 1 for key in container):
            return '{"$type":"items","value":[', _items(container), "]]}"
        if TAG in container:
            return '{"$type":"dict","value":{', _members(container), "}}"
        return "{", _members(container), "}"

    def _leaf(self, value: Any) -> str:
        kind = type(value)
        if kind is str:
            return _string_text(value)
        if value is None or kind is bool:
            return _LITERALS[value]
        if kind is int:
            return self._int(value)
        if kind is float and isfinite(value):
            return msgspec.json.encode(value).decode()
        if kind is set:
            return self._set(value)
        if kind not in SCALAR_TAGS:
            raise self._refused(f"is a {_name(kind)}, which cannot be kept exactly")
        try:
            tag, text = SCALAR_TAGS[kind](value)
        except ValueError as error:
            raise self._refused(f"is a {_name(kind)} that cannot be kept exactly: {error}") from error
        return tag_text(tag, f'"{text}"')

    def _int(self, value: int) -> str:
        try:
            if abs(value) < _TOO_LONG:
                return str(value)
        except ValueError as error:  # this process has lowered its limit
            raise self._refused("is an integer of too many digits for this process") from error
        raise self._refused(f"is an integer of more than {MAX_DIGITS} digits")

    def _set(self, value: set[Any]) -> str:
        self._check_depth()
        # Elements are hashable, so there are no sets inside sets: this goes one deeper at most.
        depth, path = self._around + len(self._stack), f"{self._path()}{{}}"
        elements = sorted(exact_text(element, path, depth) for element in value)
        return tag_text("set", f"[{','.join(elements)}]")

    def _check_depth(self) -> None:
        # The stack's first entry is no container, so its length counts the one about to be opened.
        if self._around + len(self._stack) > MAX_DEPTH:
            raise self._refused(f"is nested deeper than {MAX_DEPTH} levels")

    def _path(self) -> str:
        return self._root + "".join(_step(frame.step) for frame in self._stack)

    def _refused(self, why: str, beyond: str = "") -> StorageValidationError:
        path = self._path()
        return StorageValidationError(f"{path} {why}", details={"path": path + beyond})


def _elements(items: Any) -> _Children:
    for index, item in enumerate(items):
        yield "," if index else "", index, item


def _members(mapping: dict[str, Any]) -> _Children:
    comma = ""
    for key, item in mapping.items():
        yield f"{comma}{_string_text(key)}:", key, item
        comma = ","


def _items(mapping: dict[str, Any]) -> _Children:
    before = "["
    for key, item in mapping.items():
        yield f"{before}{_string_text(key)},", key, item
        before = "],["


def _step(key: str | int | None) -> str:
    if isinstance(key, str):
        return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{_json().dumps(key)}]"
    return "" if key is None else f"[{key}]"


def _string_text(text: str) -> str:
    try:
        return msgspec.json.encode(text).decode()
    except UnicodeEncodeError:
        parts = [_SURROGATE.sub(_escaped, _json().dumps(part, ensure_ascii=False)) for part in pieces(text)]
        return parts[0] if len(parts) == 1 else tag_text("str", f"[{','.join(parts)}]")


def _escaped(surrogate: re.Match[str]) -> str:
    return f"\\u{ord(surrogate[0]):04x}"


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _json() -> Any:
    import json  # late: few texts need it, and it would be a part of what importing this package costs

    return json


# --- reading


def parsed(text: str | bytes) -> Any:
    """The JSON tree of *text*, tagged forms left as they are.

    Raises:
        StorageIntegrityError: not JSON, not UTF-8, or nested deeper than any value we write.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _parsed_with_care(text)


def _parsed_with_care(text: str | bytes) -> Any:
    """The standard library reads lone surrogates and long negative integers, which msgspec does not."""
    try:
        unicode = (text if isinstance(text, bytes) else text.encode()).decode()
        # Counted first, so that damage cannot reach the C stack, whose guard differs between Python versions.
        if _levels(unicode) > _MAX_JSON_DEPTH:
            raise too_deep()
        try:
            return _load(unicode)
        except RecursionError:  # the caller is deep in calls of its own; a new thread has room
            from concurrent.futures import ThreadPoolExecutor  # late, as json is

            with ThreadPoolExecutor(1) as room:
                return room.submit(_load, unicode).result()
    except (ValueError, RecursionError) as error:
        raise StorageIntegrityError("not readable as JSON", details={"length": len(text)}, cause=error) from error


def _load(text: str) -> Any:
    return _json().loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_int_within_limit)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if isfinite(value := float(text)):
        return value
    raise ValueError("a number out of range")


def _int_within_limit(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:  # also where this process has lifted Python's limit
        raise ValueError(f"an integer of more than {MAX_DIGITS} digits")
    return int(text)


def _levels(text: str) -> int:
    """How deep the brackets of *text* nest, those inside strings left out."""
    steps = ((sign in "[{") - (sign in "]}") for sign in _NO_BRACKETS.sub("", text))
    return max(accumulate(steps), default=0)
