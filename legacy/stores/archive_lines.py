"""The lines of our archive: one JSON object each, values exact, times as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from legacy.stores.parcels import Log
from session_adapter.timestamps import render
from unified_storage.errors import StorageIntegrityError
from unified_storage.values import decode, encode

FORMAT = "unified-storage"
VERSION = 1
HEADER = f'{{"format":"{FORMAT}","version":{VERSION}}}\n'

_RECORD = (
    "id",
    "type",
    "data",
    "metadata",
    "session_id",
    "thread_id",
    "version",
    "created_at",
    "updated_at",
    "expires_at",
)
_LOG = ("log_id", "last_seq")
_ENTRY = ("log_id", "seq", "key", "created_at", "body")
_FIELDS = {"record": frozenset(_RECORD), "log": frozenset(_LOG), "entry": frozenset(_ENTRY)}
_TIMES = ("created_at", "updated_at", "expires_at")
_NAMES = ("id", "type", "log_id")
# Strings whole, the signs that give a JSON text its structure, and what stands between them.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{},:]|[^"\[\]{},:]+', re.DOTALL)


def record_line(record: Mapping[str, Any]) -> str:
    """A record's line. Raises ``StorageValidationError`` for a value that cannot be kept."""
    return _line("record", {name: record.get(name) for name in _RECORD})


def log_lines(log: Log) -> Iterator[str]:
    """A log's line, and one for each of its entries."""
    yield _line("log", {name: log[name] for name in _LOG})
    for entry in log["entries"]:
        yield _line("entry", {"log_id": log["log_id"], **{name: entry.get(name) for name in _ENTRY[1:]}})


def _line(kind: str, fields: Mapping[str, Any]) -> str:
    # Field by field: a document as deep as a storage keeps would be too deep inside one more object.
    members = [f'"kind":"{kind}"', *(f'"{name}":{_text(name, value)}' for name, value in fields.items())]
    return f"{{{','.join(members)}}}\n"


def _text(name: str, value: Any) -> str:
    if name in _TIMES and value is not None:
        return encode(render(value))
    return encode(value, path=name)


def check_header(line: bytes) -> None:
    """Raise ``StorageIntegrityError`` unless *line* begins an archive that this program can read."""
    try:
        header = decode(line)
    except StorageIntegrityError as error:
        raise StorageIntegrityError("line 1: this is no archive of ours", details={"line": 1}) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StorageIntegrityError("line 1: this is no archive of ours", details={"line": 1})
    if header.get("version") != VERSION:
        told = f"line 1: the archive has version {header.get('version')!r}, this program reads {VERSION}"
        raise StorageIntegrityError(told, details={"line": 1})


def read_line(line: bytes) -> tuple[str, dict[str, Any]]:
    """The kind of a line, ``record``, ``log`` or ``entry``, and its fields; raises ``ValueError`` for damage."""
    try:
        members = {name: decode(text) for name, text in _members(line).items()}
        kind = members.pop("kind", None)
        if not isinstance(kind, str) or kind not in _FIELDS:
            raise ValueError("it is neither record, log nor entry")
        if members.keys() != _FIELDS[kind]:
            raise ValueError(f"the fields of a {kind} are {', '.join(sorted(_FIELDS[kind]))}")
        return kind, {name: _checked(name, value) for name, value in members.items()}
    except (StorageIntegrityError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _checked(name: str, value: Any) -> Any:
    if name in _NAMES and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    if name not in _TIMES or (value is None and name == "expires_at"):
        return value
    moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    if moment is None or moment.utcoffset() is None:
        raise ValueError(f"{name} is no time with an offset")
    return moment.astimezone(UTC)


def _members(line: bytes) -> dict[str, bytes | str]:
    """The top-level members of an object's text, their values as text."""
    try:
        return {name: bytes(raw) for name, raw in msgspec.json.decode(line, type=dict[str, msgspec.Raw]).items()}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return dict(_split(line.decode()))  # msgspec does not read past lone surrogates


def _split(text: str) -> Iterator[tuple[str, str]]:
    text = text.strip()
    if not text.startswith("{"):
        raise ValueError("it is no object")
    depth, start, name = 0, 0, None
    for token in _TOKENS.finditer(text):
        sign = token[0]
        if depth == 0 and token.start() > 0:
            raise ValueError("something stands behind its object")
        if sign in "]}":
            depth -= 1
        ends = (sign == "," and depth == 1) or (sign == "}" and depth == 0)
        if sign == ":" and depth == 1 and name is None:
            name, start = decode(text[start : token.start()]), token.end()
        elif ends and name is not None:
            yield name, text[start : token.start()]
            name, start = None, token.end()
        if sign in "[{":
            depth += 1
            start = token.end() if depth == 1 else start
    if depth != 0 or name is not None:
        raise ValueError("it is cut off")
    if not text.endswith("}"):
        raise ValueError("something stands behind its object")
