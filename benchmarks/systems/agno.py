"""agno: its asynchronous databases, and beside them the synchronous ones, which its agents call all the same.

agno stores runs, each in a row of its own, beside the row of the session: an event is a run with one message. Adding
one is what an agent does at the end of a run: it has read the session, writes its row back and writes the run's row.
An agent reads all runs of the session for that and counts them. On SQLite and PostgreSQL agno can number the run in the
database, so here the newest run alone is read; on Redis it cannot, and on MySQL many tasks that do so block each other.

A session's metadata cannot be searched, but its name can, for a part of it: the topic is the name, in brackets. SQLite:
agno turns WAL on and leaves ``synchronous`` at FULL.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from agno.db.base import SessionType
from agno.db.mysql import AsyncMySQLDb, MySQLDb
from agno.db.postgres import AsyncPostgresDb, PostgresDb
from agno.db.redis import RedisDb
from agno.db.sqlite import AsyncSqliteDb, SqliteDb
from agno.db.utils import build_single_run_row
from agno.models.message import Message
from agno.session import AgentSession
from agno.session._utils import resolve_run_index
from sqlalchemy import make_url

from benchmarks.system import Event, Session, System
from benchmarks.systems.agno_rows import agent_session, name_of, run_of, session_row, store_runs, store_sessions
from benchmarks.systems.seeding import chunks, insert_rows, read_back_events, read_back_sessions, times, url_with

NUMBERING = ("sqlite", "postgresql")
"""Where agno gives a run its place in the session in the statement that stores it."""
PAGE = 1_000
"""Sessions of one page of :meth:`Agno.stream`."""


class Agno(System):
    name = "agno"
    package = "agno"
    engines = frozenset({"sqlite", "postgresql", "mysql", "redis"})

    async def open(self) -> None:
        self._db = self._database()
        await _done(self._db._create_all_tables())  # as AgentOS does when it starts

    async def close(self) -> None:
        await _done(self._db.close())

    async def create(self, session: Session) -> None:
        await _done(self._db.upsert_session(agent_session(session, int(time.time()))))

    async def load(self, id: str) -> AgentSession:
        return await self._session(id)

    async def append(self, id: str, event: Event) -> None:
        session = await self._read_before_a_run(id)
        run = run_of(session.session_id, session.user_id, event, int(time.time()))
        session.upsert_run(run)
        await _done(self._db.upsert_session(session))
        index = None if self.engine in NUMBERING else resolve_run_index(session, run)
        await _done(self._db.upsert_run(run, session_id=id, user_id=session.user_id, run_index=index))

    async def last(self, id: str, count: int) -> Sequence[Message]:
        session = await self._session(id, runs_limit=count)
        messages: list[Message] = session.get_messages(last_n_runs=count)
        return messages

    async def page_by_user(self, user: str, limit: int) -> Sequence[AgentSession]:
        return await self._page(user_id=user, limit=limit)

    async def page_by_topic(self, topic: str, limit: int) -> Sequence[AgentSession]:
        return await self._page(session_name=name_of(topic), limit=limit)

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        now = int(time.time())
        for chunk in chunks(sessions, 500):
            await self._store([agent_session(session, now) for session, _ in chunk])
            for session, events in chunk:
                for index, event in enumerate(events):
                    run = run_of(session.id, session.user, event, now)
                    await _done(self._db.upsert_run(run, session_id=session.id, user_id=session.user, run_index=index))

    async def delete_all(self, ids: Sequence[str]) -> None:
        await _done(self._db.delete_sessions(list(ids)))

    async def set_state(self, id: str, key: str, value: Any) -> None:
        session = await self._read_before_a_run(id)
        session.session_data["session_state"][key] = value
        await _done(self._db.upsert_session(session))

    async def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = (await self._session(id, runs_limit=1)).session_data["session_state"]
        return state

    async def stream(self) -> AsyncIterator[AgentSession]:
        if self.engine == "redis":  # every page would be cut out of all sessions
            for session in await self._page():
                yield session
            return
        page = 1
        while sessions := await self._page(limit=PAGE, page=page, sort_order="asc"):
            page += 1
            for session in sessions:
                yield session

    async def keys(self, id: str) -> list[str]:
        return [run.run_id for run in (await self._session(id)).runs or []]

    async def grow(self, sessions: Sequence[Session]) -> None:
        moments = times(len(sessions), step=1)
        made = [agent_session(session, int(moment)) for session, moment in zip(sessions, moments, strict=True)]
        if self.engine == "redis":
            store_sessions(self._db, made)
        else:
            await insert_rows(
                self._db.db_engine, await self._table("sessions"), [session_row(session) for session in made]
            )
        await read_back_sessions(self, sessions)

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        session = await self._session(id)
        first, now = len(session.runs or []), int(time.time())
        rows = [
            build_single_run_row(run_of(id, session.user_id, event, now), id, session.user_id, run_index=index)
            for index, event in enumerate(events, start=first)
        ]
        if self.engine == "redis":
            store_runs(self._db, id, rows)
        else:
            await insert_rows(self._db.db_engine, await self._table("runs"), rows)
        await read_back_events(self, id, events)

    def _database(self) -> Any:
        if self.engine == "sqlite":
            return AsyncSqliteDb(db_file=str(Path(self.place) / "agno.db"))
        if self.engine == "postgresql":
            return AsyncPostgresDb(db_url=_url(self.place, "postgresql+psycopg_async"))
        if self.engine == "mysql":
            return AsyncMySQLDb(db_url=_url(self.place, "mysql+asyncmy"), **_in_database_of(self.place))
        return RedisDb(db_url=self.place)

    async def _session(self, id: str, runs_limit: int | None = None) -> AgentSession:
        session = await _done(self._db.get_session(id, SessionType.AGENT, runs_limit=runs_limit))
        if session is None:
            raise KeyError(id)
        return session

    async def _read_before_a_run(self, id: str) -> AgentSession:
        session = await self._session(id, runs_limit=1 if self.engine in NUMBERING else None)
        await asyncio.sleep(0)  # where the model answers, and other tasks go on: a synchronous database stops them else
        return session

    async def _page(self, **asked: Any) -> list[AgentSession]:
        if self.engine in ("sqlite", "postgresql"):  # the others cannot leave the runs out
            asked["include_runs"] = False
        order = {"sort_by": "created_at", "sort_order": "desc"} | asked
        sessions: list[AgentSession] = await _done(self._db.get_sessions(session_type=SessionType.AGENT, **order))
        return sessions

    async def _store(self, sessions: Sequence[AgentSession]) -> None:
        if self.engine == "redis" or not hasattr(self._db, "upsert_sessions"):  # Redis has it, and calls it no faster
            for session in sessions:
                await _done(self._db.upsert_session(session, deserialize=False))
        else:
            await _done(self._db.upsert_sessions(list(sessions), deserialize=False))

    async def _table(self, kind: str) -> Any:
        return await _done(self._db._get_table(table_type=kind, create_table_if_not_found=True))


class AgnoSync(Agno):
    name = "agno (sync)"
    engines = frozenset({"sqlite", "postgresql", "mysql"})

    def _database(self) -> Any:
        if self.engine == "sqlite":
            return SqliteDb(db_file=str(Path(self.place) / "agno.db"))
        if self.engine == "postgresql":
            return PostgresDb(db_url=_url(self.place, "postgresql+psycopg"))
        return MySQLDb(db_url=_url(self.place, "mysql+pymysql"), **_in_database_of(self.place))


def _url(place: str, driver: str) -> str:
    return url_with(place, driver).render_as_string(hide_password=False)


def _in_database_of(place: str) -> dict[str, Any]:
    """agno makes a database of its own on MySQL else."""
    return {"db_schema": make_url(place).database, "create_schema": False}


async def _done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


SYSTEMS = [Agno, AgnoSync]
