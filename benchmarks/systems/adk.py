"""Google's ADK: its service on SQLAlchemy, the one that its own command takes for SQLite files, and the one on ours.

Metadata of a session is part of its state, and so is the topic. ADK refuses an event of a program that has not seen the
newest one; such a program loads the session again and tries once more. A program is a task here: each keeps the
sessions that it works on, as a request does that is being answered. Only what adding asks for is loaded then, which is
the session without its events. ADK lists all sessions of a user or all of an app, so a page is cut out of that.

SQLite: neither service sets a journal mode or ``synchronous``, so they run on a rollback journal and FULL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.events.event import Event as ADKEvent
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.session import Session as ADKSession
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from benchmarks.system import Event, Session, System
from benchmarks.systems import ENGINES, adk_seeding
from benchmarks.systems.ours import opened
from benchmarks.systems.seeding import chunks, read_back_events, read_back_sessions, role_and_text, times, url_with
from session_adapter import SessionKey, record_id
from session_adapter.documents import Split, record_of
from session_adapter.entries import history_of
from session_adapter.formats import CANONICAL
from session_bridges.adk import UnifiedSessionService
from session_bridges.adk_events import entry_of, moment_of
from session_bridges.adk_revisions import BEGUN

APP = "benchmark"
HELD = 100
"""Sessions that a task keeps at most."""
DRIVERS = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy"}


class ADK(System):
    name = "adk"
    package = "google-adk"
    engines = frozenset({"sqlite", "postgresql", "mysql"})

    async def open(self) -> None:
        self._service = self._make_service()
        self._users: dict[str, str] = {}
        self._held: WeakKeyDictionary[Any, dict[str, ADKSession]] = WeakKeyDictionary()
        self.retries = 0
        """How often a task had to load a session again."""
        await self._prepare()

    async def close(self) -> None:
        await self._service.close()

    async def create(self, session: Session) -> None:
        self._users[session.id] = session.user
        self._keep(await self._create(session))

    async def load(self, id: str) -> ADKSession:
        return await self._session(id)

    async def append(self, id: str, event: Event) -> None:
        await self._add(id, _event(event))

    async def last(self, id: str, count: int) -> Sequence[ADKEvent]:
        events: list[ADKEvent] = (await self._session(id, recent=count)).events
        return events

    async def page_by_user(self, user: str, limit: int) -> Sequence[ADKSession]:
        listed = await self._service.list_sessions(app_name=APP, user_id=user)
        return _newest(listed.sessions, limit)

    async def page_by_topic(self, topic: str, limit: int) -> Sequence[ADKSession]:
        listed = await self._service.list_sessions(app_name=APP)  # there is no filter: a program has to look itself
        return _newest([session for session in listed.sessions if session.state["topic"] == topic], limit)

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        for session, events in sessions:
            self._users[session.id] = session.user
            stored = await self._create(session)
            for event in events:
                await self._service.append_event(stored, _event(event))

    async def delete_all(self, ids: Sequence[str]) -> None:
        for id in ids:
            await self._service.delete_session(app_name=APP, user_id=self._users.pop(id), session_id=id)

    async def set_state(self, id: str, key: str, value: Any) -> None:
        await self._add(id, ADKEvent(author="user", actions=EventActions(state_delta={key: value})))

    async def state(self, id: str) -> dict[str, Any]:
        return {key: value for key, value in (await self._session(id, recent=0)).state.items() if key != "topic"}

    async def stream(self) -> AsyncIterator[ADKSession]:
        for session in (await self._service.list_sessions(app_name=APP)).sessions:
            yield session

    async def keys(self, id: str) -> list[str]:
        return [event.id for event in (await self._session(id)).events]

    async def grow(self, sessions: Sequence[Session]) -> None:
        for user in sorted({session.user for session in sessions} - set(self._users.values())):
            await self.create(Session("first", user, ""))  # makes the row of the user
            await self.delete_all(["first"])
        self._users |= {session.id: session.user for session in sessions}
        made = zip(sessions, map(_state, sessions), times(len(sessions), step=0.001), strict=True)
        await self._insert_sessions(list(made))
        await read_back_sessions(self, sessions)

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        stored = await self._session(id, recent=0)
        moments = times(len(events), step=0.00001)
        made = [_event(event, moment) for event, moment in zip(events, moments, strict=True)]
        await self._insert_events(stored, made)
        self._held.clear()
        await read_back_events(self, id, events)

    def _make_service(self) -> Any:
        if self.engine == "sqlite":
            return DatabaseSessionService(f"sqlite+aiosqlite:///{Path(self.place) / 'adk.db'}")
        return DatabaseSessionService(url_with(self.place, DRIVERS[self.engine]).render_as_string(hide_password=False))

    async def _prepare(self) -> None:
        await self._service.prepare_tables()

    async def _insert_sessions(self, sessions: list[tuple[Session, dict[str, Any], float]]) -> None:
        await adk_seeding.insert_sessions(self._service, APP, sessions)

    async def _insert_events(self, session: ADKSession, events: Sequence[ADKEvent]) -> None:
        await adk_seeding.insert_events(self._service, session, events)

    async def _create(self, session: Session) -> ADKSession:
        return await self._service.create_session(
            app_name=APP, user_id=session.user, session_id=session.id, state=_state(session)
        )

    async def _session(self, id: str, *, recent: int | None = None) -> ADKSession:
        config = None if recent is None else GetSessionConfig(num_recent_events=recent)
        session = await self._service.get_session(app_name=APP, user_id=self._users[id], session_id=id, config=config)
        if session is None:
            raise KeyError(id)
        return session

    async def _add(self, id: str, event: ADKEvent) -> None:
        while True:
            session = self._kept().get(id) or self._keep(await self._session(id, recent=0))
            try:
                await self._service.append_event(session, event)
            except StaleSessionError:
                self.retries += 1
                del self._kept()[id]
            else:
                return

    def _kept(self) -> dict[str, ADKSession]:
        return self._held.setdefault(asyncio.current_task(), {})

    def _keep(self, session: ADKSession) -> ADKSession:
        kept = self._kept()
        kept[session.id] = session
        if len(kept) > HELD:
            del kept[next(iter(kept))]
        return session


class ADKSqlite(ADK):
    name = "adk (sqlite)"
    engines = frozenset({"sqlite"})

    def _make_service(self) -> Any:
        self._path = Path(self.place) / "adk.db"
        return SqliteSessionService(str(self._path))

    async def _prepare(self) -> None:
        await self._service.list_sessions(app_name=APP)  # the first call makes the tables

    async def _insert_sessions(self, sessions: list[tuple[Session, dict[str, Any], float]]) -> None:
        await asyncio.to_thread(adk_seeding.insert_sessions_into_file, self._path, APP, sessions)

    async def _insert_events(self, session: ADKSession, events: Sequence[ADKEvent]) -> None:
        await asyncio.to_thread(adk_seeding.insert_events_into_file, self._path, session, events)


class OnOurs(ADK):
    """ADK's sessions on this project's storage."""

    name = "adk on ours"
    engines = frozenset(ENGINES)

    def _make_service(self) -> Any:
        self._storage = opened(self.engine, self.place)
        return UnifiedSessionService(self._storage)

    async def _prepare(self) -> None:
        await self._storage.health_check()

    async def close(self) -> None:
        await self._storage.close()

    async def _insert_sessions(self, sessions: list[tuple[Session, dict[str, Any], float]]) -> None:
        for chunk in chunks(sessions):
            await self._storage.restore([_record(*each) for each in chunk])

    async def _insert_events(self, session: ADKSession, events: Sequence[ADKEvent]) -> None:
        log = history_of(record_id(SessionKey(APP, session.user_id, session.id)))
        for chunk in chunks(events):
            await self._storage.append(log, [entry_of(event) for event in chunk])


def _record(session: Session, state: dict[str, Any], time: float) -> dict[str, Any]:
    """As :meth:`UnifiedSessionService.create_session` stores it."""
    key = SessionKey(APP, session.user, session.id)
    document = {"session_id": key.session_id, "app_name": key.app_name, "user_id": key.user_id, "state": state}
    moment = moment_of(time)
    record = record_of(key, Split(CANONICAL, document, None), BEGUN)
    return record | {"created_at": moment, "updated_at": moment, "version": 1}


def _state(session: Session) -> dict[str, Any]:
    return {**session.state, "topic": session.topic}


def _event(event: Event, moment: float | None = None) -> ADKEvent:
    role, text = role_and_text(event)
    content = types.Content(role="user" if role == "user" else "model", parts=[types.Part(text=text)])
    made = ADKEvent(id=event.key, invocation_id=event.key, author=role, content=content)
    if moment is not None:
        made.timestamp = moment
    return made


def _newest(sessions: Sequence[ADKSession], limit: int) -> list[ADKSession]:
    return list(reversed(sessions[-limit:]))


SYSTEMS = [ADK, ADKSqlite, OnOurs]
