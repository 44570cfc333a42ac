"""PostgreSQL's driver alone: asyncpg with its pool of ten and its prepared statements, an append in one statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from benchmarks.system import Event, Session
from benchmarks.systems.raw_rows import (
    COLUMNS,
    EVENT_COLUMNS,
    Raw,
    encoded,
    event_rows,
    head_row,
    now,
    shown,
    shown_events,
)

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
  id text COLLATE "C" PRIMARY KEY, user_id text NOT NULL, topic text NOT NULL, state jsonb NOT NULL,
  version bigint NOT NULL, last_seq bigint NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS by_user ON sessions (user_id, updated_at);
CREATE INDEX IF NOT EXISTS by_topic ON sessions (topic, updated_at);
CREATE TABLE IF NOT EXISTS events (
  session text COLLATE "C" NOT NULL, seq bigint NOT NULL, key text NOT NULL, created_at bigint NOT NULL,
  body text NOT NULL, PRIMARY KEY (session, seq)
);
"""
_FIELDS = ", ".join(COLUMNS)
INSERT_SESSION = f"INSERT INTO sessions ({_FIELDS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
LOAD = f"SELECT {_FIELDS} FROM sessions WHERE id = $1"
APPEND = """
WITH touched AS (
  UPDATE sessions SET version = version + 1, last_seq = last_seq + 1, updated_at = $3 WHERE id = $1 RETURNING last_seq
)
INSERT INTO events (session, seq, key, created_at, body) SELECT $1, last_seq, $2, $3, $4 FROM touched RETURNING seq
"""
LAST = "SELECT seq, key, body FROM events WHERE session = $1 ORDER BY seq DESC LIMIT $2"
PAGE_BY_USER = f"SELECT {_FIELDS} FROM sessions WHERE user_id = $1 ORDER BY updated_at DESC LIMIT $2"
PAGE_BY_TOPIC = f"SELECT {_FIELDS} FROM sessions WHERE topic = $1 ORDER BY updated_at DESC LIMIT $2"
SET_STATE = (
    "UPDATE sessions SET state = state || $2::jsonb, version = version + 1, updated_at = $3 WHERE id = $1 RETURNING 1"
)
WALK = f"SELECT {_FIELDS} FROM sessions WHERE id > $1 ORDER BY id LIMIT 500"


class RawPostgreSQL(Raw):
    engines = frozenset({"postgresql"})

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self.place, min_size=1, max_size=10, reset=_nothing)
        await self._pool.execute(TABLES)

    async def close(self) -> None:
        await self._pool.close()

    async def create(self, session: Session) -> None:
        await self._pool.execute(INSERT_SESSION, *head_row(session, 0))

    async def load(self, id: str) -> dict[str, Any]:
        row = await self._pool.fetchrow(LOAD, id)
        if row is None:
            raise KeyError(id)
        return shown(row)

    async def append(self, id: str, event: Event) -> None:
        if await self._pool.fetchval(APPEND, id, event.key, now(), encoded(event.body)) is None:
            raise KeyError(id)

    async def last(self, id: str, count: int) -> list[dict[str, Any]]:
        return shown_events(await self._pool.fetch(LAST, id, count))

    async def page_by_user(self, user: str, limit: int) -> list[dict[str, Any]]:
        return [shown(row) for row in await self._pool.fetch(PAGE_BY_USER, user, limit)]

    async def page_by_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        return [shown(row) for row in await self._pool.fetch(PAGE_BY_TOPIC, topic, limit)]

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        heads = [head_row(session, len(events)) for session, events in sessions]
        entries = [row for session, events in sessions for row in event_rows(session.id, events)]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.copy_records_to_table("sessions", records=heads, columns=COLUMNS)
            await connection.copy_records_to_table("events", records=entries, columns=EVENT_COLUMNS)

    async def delete_all(self, ids: Sequence[str]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM events WHERE session = ANY($1)", ids)
            await connection.execute("DELETE FROM sessions WHERE id = ANY($1)", ids)

    async def set_state(self, id: str, key: str, value: Any) -> None:
        if await self._pool.fetchval(SET_STATE, id, encoded({key: value}), now()) is None:
            raise KeyError(id)

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while rows := await self._pool.fetch(WALK, after):
            after = rows[-1]["id"]
            for row in rows:
                yield shown(row)

    async def keys(self, id: str) -> list[str]:
        return [
            row["key"] for row in await self._pool.fetch("SELECT key FROM events WHERE session = $1 ORDER BY seq", id)
        ]

    async def numbers(self, id: str) -> list[int]:
        return [
            row["seq"] for row in await self._pool.fetch("SELECT seq FROM events WHERE session = $1 ORDER BY seq", id)
        ]

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            taken = (
                "UPDATE sessions SET last_seq = last_seq + $2, version = version + $2 WHERE id = $1 RETURNING last_seq"
            )
            last_seq = await connection.fetchval(taken, id, len(events))
            rows = event_rows(id, events, after=last_seq - len(events))
            await connection.copy_records_to_table("events", records=rows, columns=EVENT_COLUMNS)


async def _nothing(_connection: Any) -> None:
    """What a connection is reset by: no statement here changes its session, so that a round trip is saved."""


SYSTEMS = [RawPostgreSQL]
