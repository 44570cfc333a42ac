"""A copy of what a caller hands in, taken before anything is waited for: what becomes of his own changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unified_storage.errors import StorageCapacityError, StorageValidationError
from unified_storage.record import REPLACE
from unified_storage.values import MAX_DEPTH, MAX_ENCODED

_DEEPEST = MAX_DEPTH + 4
"""An update's own levels, and a mark or two, stand around what is stored."""
_MOST = MAX_ENCODED


def kept(value: Any, path: str) -> Any:
    """*value* with every mapping, list, tuple and ``REPLACE`` in it copied; the leaves and ``DELETE`` are the same.

    Raises:
        StorageValidationError: it contains itself, or is deeper than anything that can be stored.
        StorageCapacityError: shared parts spell out to more than can be stored.
    """
    return _Copy(path).of(value, 0)[0]


def kept_items(values: Any, path: str) -> Any:
    """Like :func:`kept`, for what may also be an iterator."""
    if isinstance(values, Iterable) and not isinstance(values, Mapping | str | bytes):
        values = [*values]
    return kept(values, path)


class _Copy:
    """One copy: each object once, however often it is referred to."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def of(self, value: Any, depth: int) -> tuple[Any, int, int]:
        """The copy, how many levels it has, and how many values it spells out to."""
        if type(value) not in (dict, list, tuple, REPLACE):
            return value, 0, 1
        place = id(value)
        if place not in self._done:
            if place in self._open or depth > _DEEPEST:
                raise self._too_deep()
            self._open.add(place)
            self._done[place] = self._copied(value, depth)
            self._open.discard(place)
        copy, levels, size = self._done[place]
        if depth + levels > _DEEPEST:
            raise self._too_deep()
        return copy, levels, size

    def _copied(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if type(value) is REPLACE:
            copy, levels, size = self.of(value.value, depth)
            return REPLACE(copy), levels, size
        items = value.values() if type(value) is dict else value
        parts = [self.of(item, depth + 1) for item in items]
        size = 1 + sum(part[2] for part in parts)
        if size > _MOST:
            raise StorageCapacityError(f"{self._path} spells out to too many values", details={"path": self._path})
        copies = [part[0] for part in parts]
        copy = dict(zip(value, copies, strict=True)) if type(value) is dict else type(value)(copies)
        return copy, 1 + max((part[1] for part in parts), default=0), size

    def _too_deep(self) -> StorageValidationError:
        return StorageValidationError(
            f"{self._path} is deeper than {MAX_DEPTH} levels, or contains itself", details={"path": self._path}
        )
