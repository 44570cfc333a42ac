"""JSON columns of other frameworks' tables: to values, and back to what the engine takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from legacy.stores.file_reading import FileRefused, parse
from unified_storage.errors import StorageValidationError

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_STARTS = ("{", "[")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a JSON column holds.

    Attributes:
        value: None for NULL too; the text itself where it is no JSON.
        times: how often it is encoded; 0 for NULL.
        text: where the value does not give it back: no JSON, or a ``null``.
        warnings: what is odd about it.
    """

    value: Any
    times: int = 1
    text: str | None = None
    warnings: tuple[str, ...] = ()


def decoded(stored: Any) -> Decoded:
    """The value of a column as its driver gave it.

    Raises:
        StorageValidationError: it is text in no encoding.
    """
    if stored is None:
        return Decoded(None, 0)
    if not isinstance(stored, str | bytes | bytearray):
        return Decoded(stored)  # SQLite keeps a JSON number as one
    try:
        content = stored.encode() if isinstance(stored, str) else bytes(stored)
        text = content.decode()
    except UnicodeError as error:
        raise StorageValidationError("a column holds bytes that are no UTF-8", details={"path": "encoding"}) from error
    return _decoded(text, content)


def _decoded(text: str, content: bytes) -> Decoded:
    try:
        parsed = parse(content)
    except FileRefused as refused:
        return Decoded(text, text=text, warnings=(refused.reason,))
    if isinstance(parsed.value, str) and parsed.value.startswith(_STARTS):
        inner = _decoded(parsed.value, parsed.value.encode("utf-8", "surrogatepass"))
        if inner.text is None:
            return Decoded(inner.value, 2, warnings=inner.warnings)
    return Decoded(parsed.value, text=text if parsed.value is None else None, warnings=parsed.warnings)


def encoded(value: Any, engine: str, *, times: int = 1, path: str = "") -> str | None:
    """*value* as such a column takes it: JSON as Python's own writer spells it; None for None.

    Raises:
        StorageValidationError: it is no JSON, or none that the engine takes; ``error.path`` is *path*.
    """
    if value is None:
        return None
    text = checked_json(value, engine, path)
    return json.dumps(text) if times == 2 else text


def checked_json(value: Any, engine: str, path: str) -> str:
    """*value* as JSON text that the engine takes."""
    try:
        if engine != "postgresql":
            return json.dumps(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageValidationError(f"{path} holds what JSON has no place for", details={"path": path}) from error
    if _NUL.search(text):
        raise StorageValidationError(f"{path} holds a NUL character", details={"path": path})
    return text


def texts_of(columns: Mapping[str, Decoded]) -> dict[str, str]:
    """The texts that their values do not give back, by column."""
    return {name: column.text for name, column in columns.items() if column.text is not None}


def encodings_of(columns: Mapping[str, Decoded], usual: int) -> dict[str, int]:
    """How often each column is encoded, where that is not what its writer does."""
    return {
        name: column.times
        for name, column in columns.items()
        if column.value is not None and column.text is None and column.times != usual
    }
