"""A database as ADK wrote it before 1.22, with pickled actions, and ADK's own way to bring it up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from google.adk.events.event import Event as ADKEvent
from google.adk.sessions.migration.migration_runner import upgrade
from google.adk.sessions.schemas import v0
from google.adk.sessions.session import Session as ADKSession
from google.genai import types
from sqlalchemy import create_engine
from sqlalchemy.orm import Session as Rows

from benchmarks.system import Event, Session
from benchmarks.systems.seeding import role_and_text

APP = "benchmark"
CHUNK = 200
"""Sessions of one transaction."""


def write_old_database(path: Path, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
    """Write sessions with their events through ADK's own models of its old tables."""
    engine = create_engine(f"sqlite:///{path}")
    v0.Base.metadata.create_all(engine)
    for start in range(0, len(sessions), CHUNK):
        with Rows(engine) as rows, rows.begin():
            rows.add_all(row for session, events in sessions[start : start + CHUNK] for row in _rows(session, events))
    engine.dispose()


def migrate(source: Path, target: Path) -> None:
    """What the command `adk migrate session` calls, without the start of its program."""
    upgrade(f"sqlite:///{source}", f"sqlite:///{target}")


def count_of_events(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        return count


def _rows(session: Session, events: Sequence[Event]) -> list[Any]:
    head = v0.StorageSession(app_name=APP, user_id=session.user, id=session.id, state=dict(session.state))
    whole = ADKSession(app_name=APP, user_id=session.user, id=session.id)
    return [head, *(v0.StorageEvent.from_event(whole, _event(event)) for event in events)]


def _event(event: Event) -> ADKEvent:
    role, text = role_and_text(event)
    content = types.Content(role="user" if role == "user" else "model", parts=[types.Part(text=text)])
    return ADKEvent(id=event.key, invocation_id=event.key, author=role, content=content)
