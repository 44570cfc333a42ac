"""Paths: where in a record a filter or an order looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from unified_storage.errors import StorageValidationError

Path = tuple[str, ...]
"""Keys from the record inwards: ``("data", "metadata", "status")``."""

COLUMNS = ("id", "type", "session_id", "thread_id", "version", "created_at", "updated_at", "expires_at")
"""Fields of a record that hold one scalar; a path that begins with one ends there."""

DOCUMENTS = ("data", "metadata")
"""Fields of a record that hold a document; a path may go on into them."""

MAX_STEPS = 257
"""A document's field and the 256 keys of the deepest document."""

_PART = re.compile(r"(?:[^.\\]|\\[.\\])*")
_SPECIAL = re.compile(r"[.\\]")


class Missing(Enum):
    """The type of :data:`MISSING`, so that a checker can tell it from a value."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""What stands at a path that a document does not have; null is a value, this is none."""


def parse_path(text: str) -> Path:
    r"""The path that *text* writes: keys joined by dots, a dot in a key as ``\.``, a backslash as ``\\``.

    The first key is a field of the record. A column stands alone; ``data`` and ``metadata`` may be followed by
    keys, also by empty ones: ``data.`` is the key ``""`` of the document.

    Raises:
        StorageValidationError: *text* is no such path; ``details["path"]`` holds it.
    """
    if not isinstance(text, str):
        raise StorageValidationError(f"a path is a text, not {type(text).__name__}", details={"path": repr(text)})
    return _parsed_path(text)


@lru_cache(maxsize=1024)
def _parsed_path(text: str) -> Path:
    return checked_path(_split(text), text)


def checked_path(path: Path, text: str | None = None) -> Path:
    """*path* itself if a record can have it; *text* is how the caller wrote it.

    Raises:
        StorageValidationError: unknown field, keys behind a column, or deeper than any document.
    """
    written = path_text(path) if text is None else text
    if path[0] not in COLUMNS + DOCUMENTS:
        known = ", ".join(COLUMNS + DOCUMENTS)
        raise StorageValidationError(f"no field {path[0]!r}; fields are {known}", details={"path": written})
    if path[0] in COLUMNS and len(path) > 1:
        raise StorageValidationError(f"field {path[0]!r} has no keys inside", details={"path": written})
    if len(path) > MAX_STEPS:
        raise StorageValidationError("the path is deeper than any document", details={"path": written})
    return path


def _split(text: str) -> Path:
    parts: list[str] = []
    place = 0
    while True:
        found = _PART.match(text, place)
        assert found is not None  # the pattern matches the empty text too
        parts.append(re.sub(r"\\(.)", r"\1", found[0]))
        if found.end() == len(text):
            return tuple(parts)
        if text[found.end()] == "\\":
            raise StorageValidationError(
                r"in a path a backslash stands before a dot or a backslash only", details={"path": text}
            )
        place = found.end() + 1


def path_text(path: Path) -> str:
    """How :func:`parse_path` wants *path* written."""
    plain = ".".join(path)
    if "\\" not in plain and plain.count(".") == len(path) - 1:
        return plain
    return ".".join(_SPECIAL.sub(r"\\\g<0>", part) for part in path)


def value_at(record: Mapping[str, Any], path: Path) -> Any:
    """What *record* holds at *path*, or :data:`MISSING`.

    A field of the record always exists: one that is not set counts as null. Steps are keys of mappings, never
    places in lists.
    """
    value = record.get(path[0])
    if len(path) == 2:  # most paths
        return value.get(path[1], MISSING) if isinstance(value, dict) else MISSING
    for key in path[1:]:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value
