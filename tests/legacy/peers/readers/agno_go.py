"""What agno-go finds in its own tables, by the types of its structs: written against those, not against our code.

Like Go's decoder it knows no fields beside those of the structs, takes null for nothing, and refuses another type.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_FUNCTION = {"name": str, "arguments": str}
_CALL = {"id": str, "type": str, "function": _FUNCTION}
_MESSAGE: dict[str, Any] = {
    **dict.fromkeys(("id", "role", "content", "name", "tool_call_id", "reasoning_content"), str),
    "tool_calls": [_CALL],
    "metadata": dict,
}
_RUN: dict[str, Any] = {
    **dict.fromkeys(("run_id", "status", "content", "cancellation_reason"), str),
    **dict.fromkeys(("started_at", "completed_at"), _TIME),
    "messages": [_MESSAGE],
    "metadata": dict,
}
_SUMMARY: dict[str, Any] = {"content": str, "run_count": int, "total_tokens": int, "created_at": _TIME}


def conversations(path: Path, table: str = "sessions") -> dict[str, dict[str, Any]]:
    """Session id -> name, state, summary and messages of each row of a SQLite file."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    connection.row_factory = sqlite3.Row
    found = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return {row["session_id"]: conversation(dict(row)) for row in found}


def conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row; JSON columns as text, bytes or, on PostgreSQL, text."""
    values = {name: _parsed(row[name]) for name in ("metadata", "state", "runs", "summary") if name in row}
    runs = decoded(values["runs"], [_RUN]) or []
    return {
        "name": row.get("name"),
        "user_id": row["user_id"],
        "state": decoded(values.get("state"), dict),
        "summary": decoded(values["summary"], _SUMMARY),
        "statuses": [run.get("status") for run in runs],
        "messages": [message for run in runs for message in run.get("messages") or []],
    }


def _parsed(stored: Any) -> Any:
    return None if stored is None else json.loads(stored)


def decoded(value: Any, wanted: Any) -> Any:
    """*value* as Go would have it in a field of the type *wanted*; raises ``TypeError`` where it does not fit."""
    if value is None:
        return None
    if isinstance(wanted, list):
        return [decoded(item, wanted[0]) for item in of_type(value, list)]
    if isinstance(wanted, dict):
        given = of_type(value, dict)
        return {name: decoded(given[name], kind) for name, kind in wanted.items() if name in given}
    if isinstance(wanted, re.Pattern):
        if not wanted.fullmatch(of_type(value, str)):
            raise TypeError(f"{value!r} is no time of Go's")
        return value
    return of_type(value, wanted)


def of_type(value: Any, wanted: type) -> Any:
    if type(value) is not wanted:
        raise TypeError(f"{value!r} is no {wanted.__name__}")
    return value
