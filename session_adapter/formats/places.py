"""Where things stand in a document: paths, and the values at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, TypeGuard

from unified_storage.errors import StorageValidationError

Path = tuple[str, ...]
Document = Mapping[str, Any]


class Nothing(Enum):
    """The type of :data:`ABSENT`, which no document can hold."""

    ABSENT = "absent"


ABSENT: Final = Nothing.ABSENT


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether *value* is a mapping; for what is a dict, as almost all that is read is, the answer costs nothing."""
    return type(value) is dict or isinstance(value, Mapping)


def value_at(document: object, path: Path) -> Any:
    """The value at *path*, which may be None; ABSENT where a key is missing or something on the way is no object."""
    value: Any = document
    for key in path:
        if not is_mapping(value) or key not in value:
            return ABSENT
        value = value[key]
    return value


def first_present(document: object, paths: Iterable[Path]) -> Any:
    """The value at the first of *paths* whose key is there, though it be null; ABSENT when none is."""
    for path in paths:  # no generator: every field of every session shown is looked for here
        if (value := value_at(document, path)) is not ABSENT:
            return value
    return ABSENT


def first_given(document: object, paths: Iterable[Path]) -> Any:
    """The first value at *paths* that is neither missing nor null; None when there is none."""
    for path in paths:
        if (value := value_at(document, path)) is not ABSENT and value is not None:
            return value
    return None


def with_value(document: Document, path: Path, value: object) -> dict[str, Any]:
    """*document* with *value* at *path*, keys in their old order; only the mappings on the way are copied.

    Raises:
        StorageValidationError: something on the way is no object (null makes room).
    """
    head, rest = path[0], path[1:]
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    if inner is not None and not isinstance(inner, Mapping):
        raise StorageValidationError(f"{head!r} is no object, so nothing can stand in it", details={"path": head})
    return {**document, head: with_value(inner or {}, rest, value)}


def text_of(value: object) -> str | None:
    """*value* as a name: text as it is, an integer as its decimal text; None for all else (a bool is no number)."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # more digits than Python writes
            return None
    return None


def object_of(value: object) -> dict[str, Any] | None:
    """*value* where it is an object; None for all else."""
    return value if isinstance(value, dict) else None
