"""Stores as agno makes them, with the rows that a test wants."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

_SESSION = {
    "session_id": "s1",
    "session_type": "agent",
    "agent_id": "a",
    "session_data": '{"session_state": {"x": 1}}',
    "created_at": 1715803200,
    "updated_at": 1715803260,
}
_SESSIONS = """CREATE TABLE {name} (session_id VARCHAR NOT NULL, session_type VARCHAR NOT NULL, agent_id VARCHAR,
    team_id VARCHAR, workflow_id VARCHAR, user_id VARCHAR, session_data JSON, agent_data JSON, team_data JSON,
    workflow_data JSON, metadata JSON, {runs} summary JSON, created_at BIGINT NOT NULL, updated_at BIGINT,
    PRIMARY KEY (session_id))"""
_RUNS = """CREATE TABLE {name} (run_id VARCHAR NOT NULL, session_id VARCHAR NOT NULL, run_type VARCHAR NOT NULL,
    agent_id VARCHAR, team_id VARCHAR, workflow_id VARCHAR, user_id VARCHAR, parent_run_id VARCHAR, status VARCHAR,
    run_index BIGINT, run_data JSON NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT, PRIMARY KEY (run_id))"""


def run(run_id: str, *said: str, session_id: str = "s1", **fields: Any) -> dict[str, Any]:
    """A run of an agent in which a user said all that."""
    messages = [{"id": f"{run_id}-{at}", "role": "user", "content": text} for at, text in enumerate(said)]
    named = {"run_id": run_id, "agent_id": "a", "session_id": session_id, "created_at": 1715803210}
    return {**named, "status": "COMPLETED", "messages": messages, **fields}


def run_row(data: Any, index: int | None = 0, **columns: Any) -> dict[str, Any]:
    """The row of a run; *data* as text stands there as it is."""
    told = data if isinstance(data, Mapping) else {}
    row = {
        "run_id": told.get("run_id", "r"),
        "session_id": "s1",
        "run_type": "agent",
        "agent_id": "a",
        "status": told.get("status"),
        "run_index": index,
        "run_data": data if isinstance(data, str) else json.dumps(data),
        "created_at": 1715803210,
        "updated_at": 1715803210,
    }
    return row | columns


def twice(value: Any) -> str:
    """JSON as 2.x has it on SQLite: encoded once more."""
    return json.dumps(json.dumps(value))


def agno3(
    path: Path,
    sessions: Iterable[Mapping[str, Any]],
    runs: Iterable[Mapping[str, Any]] = (),
    *,
    tables: tuple[str, str] = ("agno_sessions", "agno_runs"),
    upgraded: bool = False,
) -> str:
    """A store of 3.x, or one that was upgraded from 2.x; its URL."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_SESSIONS.format(name=tables[0], runs="runs JSON," if upgraded else ""))
        connection.execute(_RUNS.format(name=tables[1]))
        _insert(connection, tables[0], ({**_SESSION, **session} for session in sessions))
        _insert(connection, tables[1], runs)
    return f"agno+sqlite:///{path}"


def agno2(path: Path, sessions: Iterable[Mapping[str, Any]]) -> str:
    """A store of 2.x; its URL."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_SESSIONS.format(name="agno_sessions", runs="runs JSON,"))
        doubled = {"session_data": twice({"session_state": {"x": 1}})}
        _insert(connection, "agno_sessions", ({**_SESSION, **doubled, **session} for session in sessions))
    return f"agno+sqlite:///{path}"


def agno1(path: Path, **tables: Iterable[Mapping[str, Any]]) -> str:
    """A store of 1.x with the sessions of each kind, by ``agent``, ``team``, ``workflow``; its URL."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for kind, sessions in tables.items():
            connection.execute(
                f"CREATE TABLE {kind}_things (session_id VARCHAR NOT NULL, user_id VARCHAR, memory JSON,"
                f" session_data JSON, extra_data JSON, created_at INTEGER, updated_at INTEGER,"
                f" {kind}_id VARCHAR, {kind}_data JSON, runs JSON, PRIMARY KEY (session_id))"
            )
            times = {"created_at": 1715803200, "updated_at": 1715803260}
            _insert(connection, f"{kind}_things", ({"session_id": "s1", **times, **session} for session in sessions))
    return f"agno+sqlite:///{path}"


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
