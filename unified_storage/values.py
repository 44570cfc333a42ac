"""What goes into a storage comes out: the exact text of a value, and the value of a text.

JSON types stand as themselves. ``bytes``, ``datetime``, ``date``, ``Decimal``, ``UUID``, ``tuple``, ``set``, NaN and
the infinities are written as ``{"$type": "bytes", "value": "AP8="}``; a mapping that has a key ``$type`` itself is
wrapped as ``{"$type": "dict", "value": {...}}``. Anything else is refused with its path. Reading builds data and runs
nothing.

Not kept: a time zone's name (the offset is), the payload of a float NaN, and ``UUID.is_safe``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import Any

import msgspec

from unified_storage.tagged import MAX_DEPTH, SCALAR_TAGS, TAG, too_deep, untagged
from unified_storage.text import MAX_DIGITS, MAX_ENCODED, exact_text, over_limit, parsed

__all__ = ["MAX_DEPTH", "MAX_ENCODED", "Value", "copied", "decode", "encode", "equal"]

Value = Any
"""JSON types, and those named above, nested at will."""

_NATIVE = frozenset({dict, list, str, int, float, bool, type(None)})
_FLAT = frozenset({str, int, bool, type(None)})
_FLAT_OR_DICT = _FLAT | {dict}
_HOLDERS = frozenset({dict, list})
_CONTAINERS = frozenset({dict, list, tuple})
_STR = frozenset({str})
_DICT = frozenset({dict})
_flat = chain.from_iterable
_TAG = TAG.encode()
_plain = msgspec.json.Decoder().decode
_MAX_NODES = (MAX_ENCODED + 1) // 2
"""n values take at least 2n - 1 bytes, so more of them than this cannot fit."""
_SHORTEST_TOO_DEEP = 2 * (MAX_DEPTH + 1)
"""Every level has two brackets."""
_QUICKLY_COUNTED = 1 << 14
"""In longer texts there are brackets enough, most likely."""


def encode(value: object, *, path: str = "data") -> str:
    """The exact JSON text of *value*: compact, keys in their order, always encodable as UTF-8.

    The text of an element is the same alone and inside its document, and equal values with equal key order have equal
    texts.

    Args:
        path: what the value is called in errors.
    Raises:
        StorageValidationError: something in it cannot be kept exactly (other types and subclasses, keys that are no
            strings, more than ``MAX_DEPTH`` levels, integers of over 4300 digits, a value inside itself);
            ``error.path`` names the place.
        StorageCapacityError: the text is over ``MAX_ENCODED`` bytes.
    """
    fast = _native_text(value, path)
    if fast is not None:
        return fast
    _check_spelled_out(value, path)
    return exact_text(value, path)


def decode(text: str | bytes) -> Value:
    """The value whose :func:`encode` gave *text*: same types, same content, nothing shared with an earlier answer.

    Raises:
        StorageIntegrityError: not JSON, not UTF-8, an unknown or malformed ``$type``, or nested too deeply.
    """
    if type(text) is str and len(text) < _SHORTEST_TOO_DEEP and not ("$" in text or ("\\" in text and "\\u00" in text)):
        try:
            return _plain(text)
        except (ValueError, RecursionError):
            return parsed(text)  # reads what is odd, and says what is damaged
    tree = parsed(text)
    if _may_hold_tags(text):
        return untagged(tree) if _holds_tags(tree) else tree
    _check_depth(tree, text)
    return tree


def copied(value: Value) -> Value:
    """A copy that shares nothing with *value*; raises as :func:`encode` does."""
    return decode(encode(value))


def equal(left: Value, right: Value) -> bool:
    """Whether two storable values have the same types and content, to the leaves.

    ``True`` is not ``1``, ``1`` is not ``1.0``, ``-0.0`` is not ``0.0``, a tuple is not a list; NaN equals NaN; the
    order of keys does not count; datetimes are equal in instant *and* offset.
    """
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if one is other:
            continue
        kind = type(one)
        if kind is not type(other):
            return False
        if kind is dict:
            if one.keys() != other.keys():
                return False
            pairs.extend((item, other[key]) for key, item in one.items())
        elif kind is list or kind is tuple:
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif not _same_leaf(one, other):
            return False
    return True


def _same_leaf(one: Value, other: Value) -> bool:
    kind = type(one)
    if kind is set:
        return sorted(map(encode, one)) == sorted(map(encode, other))
    if kind in SCALAR_TAGS:  # by their text: it tells -0.0 from 0.0 and takes every NaN for the same
        return SCALAR_TAGS[kind](one) == SCALAR_TAGS[kind](other)
    return bool(one == other)


def _native_text(value: object, path: str) -> str | None:
    """The text where all of *value* is plain JSON and msgspec writes it exactly, else None."""
    # With another limit for digits than Python's own, what can be written here could not be read elsewhere.
    if sys.get_int_max_str_digits() != MAX_DIGITS or not _is_native(value):
        return None
    try:
        encoded = msgspec.json.encode(value)
    except (ValueError, RecursionError):  # lone surrogates, a huge integer, a caller deep in calls of its own
        return None
    if len(encoded) > MAX_ENCODED:
        raise over_limit(path, len(encoded))
    # Most likely a key; where it only stands in a text, the long way writes the same.
    return None if b"$" in encoded and _TAG in encoded else encoded.decode()


def native_texts(values: list[Any]) -> list[str] | None:
    """The :func:`encode` of each of *values*, where all are plain JSON that msgspec writes exactly; else None."""
    if sys.get_int_max_str_digits() != MAX_DIGITS or not _is_native(values):
        return None
    try:
        encoded = [*map(msgspec.json.encode, values)]
    except (ValueError, RecursionError):  # as for one
        return None
    together = b"".join(encoded)  # one character is found in it much faster than in each
    if (b"$" in together and _TAG in together) or (len(together) > MAX_ENCODED < max(map(len, encoded))):
        return None
    return [*map(bytes.decode, encoded)]


def _is_native(value: object) -> bool:
    """Whether *value* is exact JSON types, finite floats and string keys, within the depth limit.

    It looks at all values of one level at a time, which leaves the loops over them to C.
    """
    if type(value) is dict and _is_shallow(value):  # most messages
        return True
    level: list[Any] = [value]
    nodes = 1
    for _ in range(MAX_DEPTH + 1):
        kinds = {*map(type, level)}
        if not kinds <= _NATIVE:
            return False
        if float in kinds and not all(isfinite(item) for item in level if type(item) is float):
            return False
        if kinds.isdisjoint(_HOLDERS):
            return True
        maps = level if kinds == _DICT else [item for item in level if type(item) is dict] if dict in kinds else []
        lists = [item for item in level if type(item) is list] if list in kinds else []
        if not _STR.issuperset(map(type, _flat(maps))):
            return False
        nodes += sum(map(len, maps)) + sum(map(len, lists))
        if nodes > _MAX_NODES:
            return False
        level = [*_flat(map(dict.values, maps)), *_flat(lists)]
    return False


def _is_shallow(value: dict[Any, Any]) -> bool:
    """Whether *value* is plainly native: texts, whole numbers and the like, and mappings of those."""
    if not _STR.issuperset(map(type, value)):
        return False
    kinds = {*map(type, value.values())}
    if kinds <= _FLAT:
        return True
    if not kinds <= _FLAT_OR_DICT:
        return False
    maps = [item for item in value.values() if type(item) is dict]
    return sum(map(len, maps)) <= _MAX_NODES and all(
        _STR.issuperset(map(type, item)) and _FLAT.issuperset(map(type, item.values())) for item in maps
    )


def _holders(level: list[Any]) -> tuple[list[dict[Any, Any]], list[list[Any]]]:
    """The mappings and the lists among the values of one level."""
    holders = [item for item in level if type(item) in _HOLDERS]
    return [item for item in holders if type(item) is dict], [item for item in holders if type(item) is list]


def _check_spelled_out(value: object, path: str) -> None:
    """Refuse a few objects that hold each other so many times over that their text could never fit.

    One that contains itself is left to the writer, which names the place.
    """
    level: list[Any] = [value]
    nodes = 1
    for _ in range(MAX_DEPTH + 1):
        holders = [item for item in level if type(item) in _CONTAINERS]
        if not holders:
            return
        nodes += sum(map(len, holders))
        if nodes > _MAX_NODES:
            if _ends(holders):
                raise over_limit(path)
            return
        level = _below(holders)


def _ends(holders: list[Any]) -> bool:
    for _ in range(MAX_DEPTH + 1):
        distinct = {id(item): item for item in holders if type(item) in _CONTAINERS}
        if not distinct:
            return True
        holders = _below(distinct.values())
    return False


def _below(holders: Iterable[Any]) -> list[Any]:
    return [*_flat(item.values() if type(item) is dict else item for item in holders)]


def _may_hold_tags(text: str | bytes) -> bool:
    """Whether ``$type`` may be a key: it is spelled out, or a character of it may be escaped."""
    if isinstance(text, bytes):
        return b"$type" in text or b"\\u00" in text
    # One character is found much faster than several.
    return ("$" in text and "$type" in text) or ("\\" in text and "\\u00" in text)


def _check_depth(tree: Any, text: str | bytes) -> None:
    """StorageIntegrityError where *tree*, which was read from *text*, is nested too deeply."""
    if len(text) < _SHORTEST_TOO_DEEP or (len(text) < _QUICKLY_COUNTED and _brackets(text) <= MAX_DEPTH):
        return
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        maps, lists = _holders(level)
        if not maps and not lists:
            return
        level = [*_flat(map(dict.values, maps)), *_flat(lists)]
    raise too_deep()


def _brackets(text: str | bytes) -> int:
    """How many mappings and lists begin in *text*, at most."""
    if isinstance(text, bytes):
        return text.count(b"[") + text.count(b"{")
    return text.count("[") + text.count("{")


def _holds_tags(tree: Any) -> bool:
    """Whether a mapping of *tree*, fresh from the parser, has a key ``$type``; StorageIntegrityError if too deep."""
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        maps, lists = _holders(level)
        if TAG in _flat(maps):
            return True
        if not maps and not lists:
            return False
        level = [*_flat(map(dict.values, maps)), *_flat(lists)]
    raise too_deep()
