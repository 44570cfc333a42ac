"""Whether two values are the same to the leaves: in type and content, whatever their classes are.

Unlike ``==``: ``True``, ``1`` and ``1.0`` differ, ``-0.0`` and ``0.0`` differ, a tuple is not a list, NaN is the same
as NaN. The order of a dict's keys is no difference. Objects are compared by what a copy of them would be made from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

_BY_EQUALITY = (str, int, bool, bytes, type(None), type, range, FunctionType, BuiltinFunctionType, CodeType, ModuleType)
_MISSING = object()

Pair = tuple[Any, Any]


def same(left: Any, right: Any) -> bool:
    """Whether *left* and *right* have the same types and content; either may contain itself."""
    pairs: list[Pair] = [(left, right)]
    seen: dict[tuple[int, int], Pair] = {}  # holds what it has seen, or the number of another object could be the same
    while pairs:
        one, other = pairs.pop()
        if one is other:
            continue
        if type(one) is not type(other):
            return False
        if type(one) is float:
            if repr(one) != repr(other):
                return False
            continue
        if type(one) in _BY_EQUALITY:
            if one != other:
                return False
            continue
        if (id(one), id(other)) not in seen:
            seen[id(one), id(other)] = (one, other)
            inside = _inside(one, other)
            if inside is None:
                return False
            pairs.extend(inside)
    return True


def parts(value: object) -> tuple[Any, ...] | None:
    """What a copy of an object is made from (maker, arguments, state, items, keyed items); None where it has none."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001  # a class may refuse by raising anything
        return None
    if not isinstance(reduced, tuple):
        return None
    made, arguments, state, items, keyed = (*reduced, None, None, None)[:5]
    listed = None if items is None else list(items)
    if keyed is not None:
        keyed = list(keyed) if isinstance(value, OrderedDict) else dict(keyed)
    return made, arguments, state, listed, keyed


def _inside(one: Any, other: Any) -> list[Pair] | None:
    """What has to be the same pair by pair for *one* and *other*, of one type, to be so; None where they differ."""
    kind = type(one)
    if kind is list or kind is tuple:
        return list(zip(one, other, strict=True)) if len(one) == len(other) else None
    if kind is dict:
        keys = _matched(one, other)
        return None if keys is None else keys + [(one[mine], other[theirs]) for mine, theirs in keys]
    if kind is set or kind is frozenset:
        return _matched(one, other)
    mine, theirs = parts(one), parts(other)
    if mine is None or theirs is None:
        return [] if _says_equal(one, other) else None
    return [(mine, theirs)]


def _matched(left: Iterable[Any], right: Iterable[Any]) -> list[Pair] | None:
    """Each hashable of *left* with the one of *right* that equals it; None where one is left over."""
    there = {item: item for item in right}
    pairs, odd = [], []
    for item in left:
        found = there.pop(item, _MISSING)
        if found is _MISSING:
            odd.append(item)
        else:
            pairs.append((item, found))
    rest = list(there)
    for item in odd:  # NaN, and what holds one, equals nothing
        at = next((at for at, candidate in enumerate(rest) if same(item, candidate)), None)
        if at is None:
            return None
        del rest[at]
    return None if rest else pairs


def _says_equal(one: Any, other: Any) -> bool:
    try:
        return (one == other) is True
    except Exception:  # noqa: BLE001  # as above
        return False
