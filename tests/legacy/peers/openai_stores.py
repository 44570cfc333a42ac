"""Small stores of openai-agents, made as its library makes them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEXT_TABLES = """
    CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
        message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE);
"""
TYPED_TABLES = TEXT_TABLES.replace("session_id TEXT", "session_id VARCHAR")
TOLD, LATER = "2024-05-15 20:37:00", "2024-05-15 20:38:00"
Stored = str | bytes | int | Mapping[str, Any]


@contextmanager
def changing(path: Path | str) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path)
    try:
        with db:
            yield db
    finally:
        db.close()


def made(path: Path, sessions: Mapping[str, Sequence[Stored]], tables: str = TEXT_TABLES) -> str:
    """The URL of a store with these items, one a minute of its session; a mapping is spelled as the library does."""
    with changing(path) as db:
        db.executescript(tables)
        for id, items in sessions.items():
            add_session(db, id)
            for item in items:
                add_item(db, id, item)
    return f"openai-agents+sqlite:///{path}"


def add_session(db: sqlite3.Connection, id: str | None, created: Any = TOLD, updated: Any = LATER) -> None:
    db.execute("INSERT INTO agent_sessions VALUES (?, ?, ?)", (id, created, updated))


def add_item(db: sqlite3.Connection, id: str, item: Stored, created: Any = TOLD) -> None:
    text = json.dumps(item) if isinstance(item, Mapping) else item
    insert = "INSERT INTO agent_messages (session_id, message_data, created_at) VALUES (?, ?, ?)"
    db.execute(insert, (id, text, created))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
