"""MariaDB's driver alone: asyncmy with a pool of ten, an append as one transaction in one round trip.

asyncmy has no prepared statements; that several statements can go together is what it sends by default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncmy

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

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS sessions (
      id varbinary(255) PRIMARY KEY, user_id varbinary(255) NOT NULL, topic varbinary(255) NOT NULL,
      state longtext NOT NULL, version bigint NOT NULL, last_seq bigint NOT NULL, created_at bigint NOT NULL,
      updated_at bigint NOT NULL, INDEX by_user (user_id, updated_at), INDEX by_topic (topic, updated_at)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4
    """,
    """
    CREATE TABLE IF NOT EXISTS events (
      session varbinary(255) NOT NULL, seq bigint NOT NULL, `key` varchar(255) NOT NULL, created_at bigint NOT NULL,
      body longtext NOT NULL, PRIMARY KEY (session, seq)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4
    """,
)
_FIELDS = ", ".join(COLUMNS)
_EVENT_FIELDS = ", ".join(f"`{column}`" for column in EVENT_COLUMNS)
INSERT_SESSION = f"INSERT INTO sessions ({_FIELDS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
LOAD = f"SELECT {_FIELDS} FROM sessions WHERE id = %s"
APPEND = f"""
BEGIN;
UPDATE sessions SET version = version + 1, last_seq = last_insert_id(last_seq + 1), updated_at = %s WHERE id = %s;
INSERT INTO events ({_EVENT_FIELDS}) VALUES (%s, last_insert_id(), %s, %s, %s);
COMMIT
"""
INSERT_EVENT = f"INSERT INTO events ({_EVENT_FIELDS}) VALUES (%s, %s, %s, %s, %s)"
LAST = "SELECT seq, `key`, body FROM events WHERE session = %s ORDER BY seq DESC LIMIT %s"
PAGE_BY_USER = f"SELECT {_FIELDS} FROM sessions WHERE user_id = %s ORDER BY updated_at DESC LIMIT %s"
PAGE_BY_TOPIC = f"SELECT {_FIELDS} FROM sessions WHERE topic = %s ORDER BY updated_at DESC LIMIT %s"
SET_STATE = (
    "UPDATE sessions SET state = json_merge_patch(state, %s), version = version + 1, updated_at = %s WHERE id = %s"
)
WALK = f"SELECT {_FIELDS} FROM sessions WHERE id > %s ORDER BY id LIMIT 500"


class RawMySQL(Raw):
    engines = frozenset({"mysql"})

    async def open(self) -> None:
        url = urlsplit(self.place)
        self._pool = await asyncmy.create_pool(
            minsize=1,
            maxsize=10,
            host=url.hostname,
            port=url.port or 3306,
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            db=url.path.lstrip("/"),
            charset="utf8mb4",
            autocommit=True,
        )
        for table in TABLES:
            await self._execute(table)

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()

    async def create(self, session: Session) -> None:
        await self._execute(INSERT_SESSION, head_row(session, 0))

    async def load(self, id: str) -> dict[str, Any]:
        rows = await self._rows(LOAD, (id,))
        if not rows:
            raise KeyError(id)
        return _shown(rows[0])

    async def append(self, id: str, event: Event) -> None:
        moment = now()
        arguments = (moment, id, id, event.key, moment, encoded(event.body))
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            try:
                await cursor.execute(APPEND, arguments)
                await cursor.nextset()
                if cursor.rowcount != 1:
                    raise KeyError(id)
                while await cursor.nextset():
                    pass
            except BaseException:
                await connection.rollback()
                raise

    async def last(self, id: str, count: int) -> list[dict[str, Any]]:
        return shown_events(await self._rows(LAST, (id, count)))

    async def page_by_user(self, user: str, limit: int) -> list[dict[str, Any]]:
        return [_shown(row) for row in await self._rows(PAGE_BY_USER, (user, limit))]

    async def page_by_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        return [_shown(row) for row in await self._rows(PAGE_BY_TOPIC, (topic, limit))]

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        heads = [head_row(session, len(events)) for session, events in sessions]
        entries = [row for session, events in sessions for row in event_rows(session.id, events)]
        await self._together((INSERT_SESSION, heads), (INSERT_EVENT, entries))

    async def delete_all(self, ids: Sequence[str]) -> None:
        rows = [(id,) for id in ids]
        marks = ", ".join(["%s"] * len(rows))
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await connection.begin()
            await cursor.execute(f"DELETE FROM events WHERE session IN ({marks})", ids)
            await cursor.execute(f"DELETE FROM sessions WHERE id IN ({marks})", ids)
            await connection.commit()

    async def set_state(self, id: str, key: str, value: Any) -> None:
        if await self._execute(SET_STATE, (encoded({key: value}), now(), id)) != 1:
            raise KeyError(id)

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while rows := await self._rows(WALK, (after,)):
            after = rows[-1][0]
            for row in rows:
                yield _shown(row)

    async def keys(self, id: str) -> list[str]:
        return [key for (key,) in await self._rows("SELECT `key` FROM events WHERE session = %s ORDER BY seq", (id,))]

    async def numbers(self, id: str) -> list[int]:
        return [seq for (seq,) in await self._rows("SELECT seq FROM events WHERE session = %s ORDER BY seq", (id,))]

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        last_seq = (await self.load(id))["last_seq"]
        moved = "UPDATE sessions SET last_seq = last_seq + %s, version = version + %s WHERE id = %s"
        added = len(events)
        await self._together((INSERT_EVENT, event_rows(id, events, after=last_seq)), (moved, [(added, added, id)]))

    async def _execute(self, statement: str, arguments: Sequence[Any] = ()) -> int:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            affected: int = await cursor.execute(statement, arguments or None)
            return affected

    async def _rows(self, statement: str, arguments: Sequence[Any]) -> list[Any]:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(statement, arguments)
            return list(await cursor.fetchall())

    async def _together(self, *steps: tuple[str, list[tuple[Any, ...]]]) -> None:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await connection.begin()
            for statement, rows in steps:
                await cursor.executemany(statement, rows)  # it makes one INSERT of many rows
            await connection.commit()


def _shown(row: Sequence[Any]) -> dict[str, Any]:
    return shown([value.decode() if isinstance(value, bytes) else value for value in row])


SYSTEMS = [RawMySQL]
