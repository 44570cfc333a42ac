"""How large a value is, about as many bytes as it takes when it is stored."""

from __future__ import annotations

from typing import Any

from session_adapter.comparing import parts

_NUMBER = 8
_HOLDERS = (list, tuple, set, frozenset)


def size_of(value: Any) -> int:
    """The size of *value* in bytes: texts as UTF-8, bytes as they are, numbers 8, a little for each container.

    An object counts what a copy of it would be made from, and what stands in several places counts once.
    """
    total, stack, seen = 0, [value], {}
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is str:
            total += len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
        elif kind in (bytes, bytearray):
            total += len(item)
        elif kind is int:
            total += max(_NUMBER, item.bit_length() // 8)
        elif item is None or kind in (bool, float, type):
            total += _NUMBER
        elif id(item) not in seen:
            seen[id(item)] = item
            total += _NUMBER
            stack.extend(_inside(item))
    return total


def _inside(item: Any) -> list[Any]:
    if type(item) is dict:
        return [*item, *item.values()]
    return list(item) if type(item) in _HOLDERS else [part for part in parts(item) or () if part is not None]
