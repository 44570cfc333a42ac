"""The exact texts of many values at once: what is plain JSON throughout is looked at together, not one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from unified_storage.errors import StorageError
from unified_storage.values import encode, native_texts


def is_plain(value: object) -> bool:
    """Whether *value* is JSON that msgspec writes as :func:`encode` does, so that any part of it is too."""
    try:
        return msgspec.json.encode(value) == encode(value).encode()
    except (StorageError, TypeError, ValueError, OverflowError, RecursionError):
        return False


def encode_each(values: Sequence[Any], path: Callable[[int], str]) -> list[str]:
    """The :func:`encode` of each of *values*, and its errors.

    Args:
        path: what a value is called in errors, by its place.
    """
    texts = native_texts([*values]) if len(values) > 1 else None
    return [encode(value, path=path(place)) for place, value in enumerate(values)] if texts is None else texts


def plain_texts(values: Sequence[Any]) -> list[str]:
    """The :func:`encode` of each of *values*, which are plain."""
    return [msgspec.json.encode(value).decode() for value in values]
