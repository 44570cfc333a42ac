"""openai-agents: its sessions on SQLite, on SQLAlchemy, on Redis, and on this project's storage.

A session is an object that the program makes for a conversation and keeps; it is stored with its first item, and one
that is not stored is empty. There is neither a list of sessions nor state. SQLite: both of its classes turn WAL on and
leave ``synchronous`` at FULL.
"""

from __future__ import annotations

import sqlite3
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import redis.asyncio
from agents import SQLiteSession
from agents.extensions.memory import RedisSession, SQLAlchemySession
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.system import Event, Session, System
from benchmarks.systems import ENGINES
from benchmarks.systems.ours import opened
from benchmarks.systems.seeding import chunks, read_back_events, read_back_sessions, role_and_text, url_with
from session_adapter import SessionStorageAdapter
from session_bridges.openai_agents import UnifiedSession

HELD = 256
"""Sessions that a program keeps at most."""
DRIVERS = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy"}
MYSQL_TABLES = (  # SQLAlchemySession gives its texts no length, which MySQL wants; `create_tables` cannot make them
    """CREATE TABLE agent_sessions (
        session_id VARCHAR(255) NOT NULL PRIMARY KEY,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )""",
    """CREATE TABLE agent_messages (
        id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
        session_id VARCHAR(255) NOT NULL,
        message_data TEXT NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        INDEX idx_agent_messages_session_time (session_id, created_at),
        FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE
    )""",
)


class OpenAIAgents(System):
    """What all kinds of sessions have in common; a kind opens its place, and makes and inserts its own sessions."""

    name = "openai-agents"
    package = "openai-agents"
    stores_empty = False

    def __init__(self, engine: str, place: str) -> None:
        super().__init__(engine, place)
        self._held: dict[str, Any] = {}

    async def create(self, session: Session) -> None:
        await self._session(session.id).get_items()  # as a run begins

    async def load(self, id: str) -> list[Any]:
        items: list[Any] = await self._session(id).get_items()
        return items

    async def append(self, id: str, event: Event) -> None:
        await self._session(id).add_items([_item(event)])

    async def last(self, id: str, count: int) -> list[Any]:
        items: list[Any] = await self._session(id).get_items(limit=count)
        return items

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        for session, events in sessions:
            await self._session(session.id).add_items([_item(event) for event in events])

    async def delete_all(self, ids: Sequence[str]) -> None:
        for id in ids:
            await self._session(id).clear_session()

    async def keys(self, id: str) -> list[str]:
        return [item["id"] for item in await self.load(id)]

    async def grow(self, sessions: Sequence[Session]) -> None:
        await self._insert([session.id for session in sessions])
        await read_back_sessions(self, sessions)

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        for chunk in chunks(events):
            await self._session(id).add_items([_item(event) for event in chunk])
        await read_back_events(self, id, events)

    @abstractmethod
    def _make(self, id: str) -> Any: ...

    @abstractmethod
    async def _insert(self, ids: Sequence[str]) -> None: ...

    def _session(self, id: str) -> Any:
        if id not in self._held:
            self._held[id] = self._make(id)
            if len(self._held) > HELD:
                self._let_go(self._held.pop(next(iter(self._held))))
        return self._held[id]

    def _let_go(self, session: Any) -> None:
        """Give back what a session holds for itself."""


class OnSQLite(OpenAIAgents):
    engines = frozenset({"sqlite"})

    async def open(self) -> None:
        self._path = Path(self.place) / "openai_agents.db"

    async def close(self) -> None:
        while self._held:
            self._let_go(self._held.popitem()[1])

    def _make(self, id: str) -> SQLiteSession:
        return SQLiteSession(id, self._path)

    def _let_go(self, session: SQLiteSession) -> None:
        session.close()

    async def _insert(self, ids: Sequence[str]) -> None:
        self._session(ids[0])  # makes the tables
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executemany("INSERT INTO agent_sessions (session_id) VALUES (?)", [(id,) for id in ids])


class OnSQLAlchemy(OpenAIAgents):
    engines = frozenset({"postgresql", "mysql"})

    async def open(self) -> None:
        self._engine = create_async_engine(self._url())
        if self.engine == "mysql":
            async with self._engine.begin() as connection:
                for table in MYSQL_TABLES:
                    await connection.execute(text(table))
        else:
            await SQLAlchemySession("", engine=self._engine, create_tables=True).get_items()  # makes the tables

    async def close(self) -> None:
        await self._engine.dispose()

    def _make(self, id: str) -> SQLAlchemySession:
        return SQLAlchemySession(id, engine=self._engine)

    async def _insert(self, ids: Sequence[str]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(
                text("INSERT INTO agent_sessions (session_id) VALUES (:id)"), [{"id": id} for id in ids]
            )

    def _url(self) -> URL:
        return url_with(self.place, DRIVERS[self.engine])


class OnSQLAlchemyAndSQLite(OnSQLAlchemy):
    name = "openai-agents (sqlalchemy)"
    engines = frozenset({"sqlite"})

    def _url(self) -> URL:
        return URL.create("sqlite+aiosqlite", database=str(Path(self.place) / "openai_agents.db"))


class OnRedis(OpenAIAgents):
    engines = frozenset({"redis"})

    async def open(self) -> None:
        self._client = redis.asyncio.from_url(self.place)

    async def close(self) -> None:
        await self._client.aclose()

    def _make(self, id: str) -> RedisSession:
        return RedisSession(id, redis_client=self._client)

    async def _insert(self, ids: Sequence[str]) -> None:
        now = int(time.time())
        for chunk in chunks(ids):
            async with self._client.pipeline(transaction=False) as pipeline:
                for id in chunk:
                    fields = ("session_id", id, "created_at", now, "updated_at", now)
                    pipeline.execute_command("HSET", f"agents:session:{id}", *fields)
                await pipeline.execute()


class OnOurs(OpenAIAgents):
    """The SDK's sessions on this project's storage."""

    name = "openai-agents on ours"
    engines = frozenset(ENGINES)

    async def open(self) -> None:
        self._storage = opened(self.engine, self.place)
        await self._storage.health_check()

    async def close(self) -> None:
        await self._storage.close()

    def _make(self, id: str) -> UnifiedSession:
        return UnifiedSession(id, self._storage)

    async def _insert(self, ids: Sequence[str]) -> None:
        sessions = SessionStorageAdapter(self._storage)
        for chunk in chunks(ids):
            await sessions.batch_save_sessions({id: {"session_id": id} for id in chunk})


def _item(event: Event) -> Any:
    role, content = role_and_text(event)
    return {"id": event.key, "role": role, "content": content}


SYSTEMS = [OnSQLite, OnSQLAlchemy, OnSQLAlchemyAndSQLite, OnRedis, OnOurs]
