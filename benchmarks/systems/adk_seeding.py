"""ADK's rows, written as its two services write them, many at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.adk.events.event import Event
from google.adk.sessions.schemas.v1 import StorageEvent, StorageSession
from google.adk.sessions.session import Session as ADKSession
from sqlalchemy import Table, inspect, update

from benchmarks.system import Session
from benchmarks.systems.seeding import insert_rows

SESSION = "INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time) VALUES (?, ?, ?, ?, ?, ?)"
EVENT = (
    "INSERT INTO events (id, app_name, user_id, session_id, invocation_id, timestamp, event_data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
TOUCH = "UPDATE sessions SET update_time = ? WHERE app_name = ? AND user_id = ? AND id = ?"
Made = tuple[Session, dict[str, Any], float]
"""A session, its whole state, and when it was made, in seconds."""


async def insert_sessions(service: Any, app: str, sessions: Sequence[Made]) -> None:
    rows = [
        {
            "app_name": app,
            "user_id": session.user,
            "id": session.id,
            "state": state,
            "create_time": _naive(moment),
            "update_time": _naive(moment),
        }
        for session, state, moment in sessions
    ]
    await insert_rows(service.db_engine, _table(StorageSession), rows)


async def insert_events(service: Any, session: ADKSession, events: Sequence[Event]) -> None:
    columns = [column.key for column in inspect(StorageEvent).column_attrs]
    made = [StorageEvent.from_event(session, event) for event in events]
    rows = [{name: getattr(row, name) for name in columns} for row in made]
    await insert_rows(service.db_engine, _table(StorageEvent), rows)
    table = _table(StorageSession)
    touched = update(table).where(
        table.c.app_name == session.app_name, table.c.user_id == session.user_id, table.c.id == session.id
    )
    async with service.db_engine.begin() as connection:
        await connection.execute(touched.values(update_time=_naive(events[-1].timestamp)))


def insert_sessions_into_file(path: Path, app: str, sessions: Sequence[Made]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            SESSION,
            [(app, session.user, session.id, json.dumps(state), moment, moment) for session, state, moment in sessions],
        )


def insert_events_into_file(path: Path, session: ADKSession, events: Sequence[Event]) -> None:
    place = (session.app_name, session.user_id, session.id)
    rows = [
        (event.id, *place, event.invocation_id, event.timestamp, event.model_dump_json(exclude_none=True))
        for event in events
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(EVENT, rows)
        connection.execute(TOUCH, (events[-1].timestamp, *place))


def _naive(moment: float) -> datetime:
    """UTC without saying so, as the service stores it on the engines it is measured on."""
    return datetime.fromtimestamp(moment, tz=UTC).replace(tzinfo=None)


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table
