"""SQLite's driver alone: a thread of its own, one hop for each operation, WAL and synchronous=FULL as ours."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.system import Event, Session
from benchmarks.systems.raw_rows import COLUMNS, Raw, encoded, event_rows, head_row, now, shown, shown_events

T = TypeVar("T")
Connection = sqlite3.Connection

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, user_id TEXT NOT NULL, topic TEXT NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL,
  last_seq INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_user ON sessions (user_id, updated_at);
CREATE INDEX IF NOT EXISTS by_topic ON sessions (topic, updated_at);
CREATE TABLE IF NOT EXISTS events (
  session TEXT NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL, created_at INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (session, seq)
) WITHOUT ROWID;
"""
_FIELDS = ", ".join(COLUMNS)
INSERT_SESSION = f"INSERT INTO sessions ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
LOAD = f"SELECT {_FIELDS} FROM sessions WHERE id = ?"
TOUCH = (
    "UPDATE sessions SET version = version + 1, last_seq = last_seq + 1, updated_at = ? WHERE id = ? RETURNING last_seq"
)
INSERT_EVENT = "INSERT INTO events (session, seq, key, created_at, body) VALUES (?, ?, ?, ?, ?)"
LAST = "SELECT seq, key, body FROM events WHERE session = ? ORDER BY seq DESC LIMIT ?"
PAGE_BY_USER = f"SELECT {_FIELDS} FROM sessions WHERE user_id = ? ORDER BY updated_at DESC LIMIT ?"
PAGE_BY_TOPIC = f"SELECT {_FIELDS} FROM sessions WHERE topic = ? ORDER BY updated_at DESC LIMIT ?"
SET_STATE = (
    "UPDATE sessions SET state = json_patch(state, ?), version = version + 1, updated_at = ? WHERE id = ? RETURNING 1"
)
WALK = f"SELECT {_FIELDS} FROM sessions WHERE id > ? ORDER BY id LIMIT 500"


class DatabaseThread:
    """A connection in a thread of its own, which does one job after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[Callable[[Connection], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Connection], T]) -> T:
        """What *job* gives; an exception leaves no transaction behind."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def carried_out(connection: Connection) -> None:
            try:
                result = job(connection)
            except BaseException as error:  # noqa: BLE001  # the caller's, whatever it is
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                loop.call_soon_threadsafe(_settle, future.set_exception, future, error)
            else:
                loop.call_soon_threadsafe(_settle, future.set_result, future, result)

        self._jobs.put(carried_out)
        return await future

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        while job := self._jobs.get():
            job(connection)
        connection.close()


def _settle(how: Callable[[Any], None], future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        how(result)


class RawSQLite(Raw):
    engines = frozenset({"sqlite"})

    async def open(self) -> None:
        self._database = DatabaseThread(Path(self.place) / "raw.db")
        await self._database.run(lambda connection: connection.executescript(TABLES))

    async def close(self) -> None:
        self._database.close()

    async def create(self, session: Session) -> None:
        row = head_row(session, 0)
        await self._database.run(lambda connection: connection.execute(INSERT_SESSION, row))

    async def load(self, id: str) -> dict[str, Any]:
        row = await self._database.run(lambda connection: connection.execute(LOAD, (id,)).fetchone())
        if row is None:
            raise KeyError(id)
        return shown(row)

    async def append(self, id: str, event: Event) -> None:
        body, moment = encoded(event.body), now()

        def appended(connection: Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(TOUCH, (moment, id)).fetchone()
            if row is None:
                raise KeyError(id)
            connection.execute(INSERT_EVENT, (id, row[0], event.key, moment, body))
            connection.execute("COMMIT")

        await self._database.run(appended)

    async def last(self, id: str, count: int) -> list[dict[str, Any]]:
        return shown_events(await self._rows(LAST, (id, count)))

    async def page_by_user(self, user: str, limit: int) -> list[dict[str, Any]]:
        return [shown(row) for row in await self._rows(PAGE_BY_USER, (user, limit))]

    async def page_by_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        return [shown(row) for row in await self._rows(PAGE_BY_TOPIC, (topic, limit))]

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        heads = [head_row(session, len(events)) for session, events in sessions]
        entries = [row for session, events in sessions for row in event_rows(session.id, events)]

        def imported(connection: Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT_SESSION, heads)
            connection.executemany(INSERT_EVENT, entries)
            connection.execute("COMMIT")

        await self._database.run(imported)

    async def delete_all(self, ids: Sequence[str]) -> None:
        rows = [(id,) for id in ids]

        def deleted(connection: Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM events WHERE session = ?", rows)
            connection.executemany("DELETE FROM sessions WHERE id = ?", rows)
            connection.execute("COMMIT")

        await self._database.run(deleted)

    async def set_state(self, id: str, key: str, value: Any) -> None:
        arguments = (encoded({key: value}), now(), id)
        if not await self._rows(SET_STATE, arguments):
            raise KeyError(id)

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while rows := await self._rows(WALK, (after,)):
            after = rows[-1][0]
            for row in rows:
                yield shown(row)

    async def keys(self, id: str) -> list[str]:
        rows = await self._rows("SELECT key FROM events WHERE session = ? ORDER BY seq", (id,))
        return [key for (key,) in rows]

    async def numbers(self, id: str) -> list[int]:
        rows = await self._rows("SELECT seq FROM events WHERE session = ? ORDER BY seq", (id,))
        return [seq for (seq,) in rows]

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        def lengthened(connection: Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for event, row in zip(events, event_rows(id, events), strict=True):
                (seq,) = connection.execute(TOUCH, (row[3], id)).fetchone()
                connection.execute(INSERT_EVENT, (id, seq, event.key, *row[3:]))
            connection.execute("COMMIT")

        await self._database.run(lengthened)

    async def _rows(self, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        return await self._database.run(lambda connection: connection.execute(statement, arguments).fetchall())


SYSTEMS = [RawSQLite]
