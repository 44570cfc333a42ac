"""This project's scoped sessions, as a program calls them: sessions of the users of an app, with their states.

Their metadata is part of their state, which no list looks into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.system import Event, Session, System
from benchmarks.systems import ENGINES
from benchmarks.systems.ours import BATCH, opened
from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter, UserKey
from session_adapter.identity import SessionId

APP = "benchmark"


class OurScopedSessions(System):
    name = "ours (scoped)"
    package = "unified-storage"
    engines = frozenset(ENGINES)

    async def open(self) -> None:
        self._storage = opened(self.engine, self.place)
        self._service = ScopedSessionService(self._storage)
        self._plain = SessionStorageAdapter(self._storage)
        self._keys: dict[str, SessionKey] = {}
        await self._storage.health_check()

    async def close(self) -> None:
        await self._storage.close()

    async def create(self, session: Session) -> None:
        await self._service.create_session(self._named(session), session.state)

    async def load(self, id: str) -> Any:
        return await self._session(id, event_num=0)

    async def append(self, id: str, event: Event) -> None:
        await self._service.append_event(await self._key(id), _event(event))

    async def last(self, id: str, count: int) -> Sequence[Any]:
        events: Sequence[Any] = (await self._session(id, event_num=count)).events
        return events

    async def page_by_user(self, user: str, limit: int) -> Sequence[Any]:
        return (await self._service.list_sessions(UserKey(APP, user), limit=limit)).items

    async def delete_all(self, ids: Sequence[str]) -> None:
        for id in ids:
            await self._service.delete_session(await self._key(id))

    async def set_state(self, id: str, key: str, value: Any) -> None:
        await self._service.update_session_state(await self._key(id), {key: value})

    async def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = (await self._session(id, event_num=0)).state
        return state

    async def keys(self, id: str) -> list[str]:
        return [event.id for event in (await self._session(id)).events]

    async def numbers(self, id: str) -> list[int]:
        return [event.seq for event in (await self._session(id)).events]

    async def grow(self, sessions: Sequence[Session]) -> None:
        for start in range(0, len(sessions), BATCH):
            documents: dict[SessionId, dict[str, Any]] = {
                self._named(one): _document(one) for one in sessions[start : start + BATCH]
            }
            await self._plain.batch_save_sessions(documents)

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        key = await self._key(id)
        for start in range(0, len(events), BATCH):
            await self._plain.events.append(key, [_event(event) for event in events[start : start + BATCH]])

    def _named(self, session: Session) -> SessionKey:
        return self._keys.setdefault(session.id, SessionKey(APP, session.user, session.id))

    async def _key(self, id: str) -> SessionKey:
        """What a program knows of its sessions; one that another program made is looked for."""
        if id not in self._keys:
            found = await self._plain.session_keys(id)
            if not found or not isinstance(found[-1], SessionKey):
                raise KeyError(id)
            self._keys[id] = found[-1]
        return self._keys[id]

    async def _session(self, id: str, *, event_num: int | None = None) -> Any:
        session = await self._service.get_session(await self._key(id), event_num=event_num)
        if session is None:
            raise KeyError(id)
        return session


def _document(session: Session) -> dict[str, Any]:
    """As :meth:`ScopedSessionService.create_session` stores it."""
    return {"session_id": session.id, "app_name": APP, "user_id": session.user, "state": session.state}


def _event(event: Event) -> dict[str, Any]:
    return {"id": event.key, **event.body}


SYSTEMS = [OurScopedSessions]
