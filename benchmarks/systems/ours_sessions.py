"""This project's session adapter, as a program calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.system import Event, Session, System
from benchmarks.systems import ENGINES
from benchmarks.systems.ours import BATCH, opened
from session_adapter import SessionStorageAdapter


class OurSessions(System):
    name = "ours (sessions)"
    package = "unified-storage"
    engines = frozenset(ENGINES)

    async def open(self) -> None:
        self._storage = opened(self.engine, self.place)
        self._sessions = SessionStorageAdapter(self._storage)
        await self._storage.health_check()

    async def close(self) -> None:
        await self._storage.close()

    async def create(self, session: Session) -> None:
        await self._sessions.save_session(session.id, _document(session))

    async def load(self, id: str) -> dict[str, Any]:
        session = await self._sessions.get_session(id)
        if session is None:
            raise KeyError(id)
        return session

    async def append(self, id: str, event: Event) -> None:
        await self._sessions.events.append(id, _event(event))

    async def last(self, id: str, count: int) -> list[dict[str, Any]]:
        return await self._sessions.events.read(id, last=count)

    async def page_by_user(self, user: str, limit: int) -> list[dict[str, Any]]:
        return (await self._sessions.page_sessions({"user_id": user}, limit=limit)).items

    async def page_by_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        return (await self._sessions.page_sessions({"metadata.topic": topic}, limit=limit)).items

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        await self.grow([session for session, _ in sessions])
        for session, events in sessions:
            await self._sessions.events.append(session.id, [_event(event) for event in events])

    async def delete_all(self, ids: Sequence[str]) -> None:
        await self._sessions.batch_delete_sessions(ids)

    async def set_state(self, id: str, key: str, value: Any) -> None:
        await self._sessions.update_session(id, {"state": {key: value}})

    async def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = (await self.load(id))["state"]
        return state

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        cursor = None
        while True:
            page = await self._sessions.page_sessions(limit=500, cursor=cursor)
            for summary in page.items:
                yield summary
            cursor = page.next_cursor
            if cursor is None:
                return

    async def keys(self, id: str) -> list[str]:
        return [event["id"] for event in await self._sessions.events.read(id)]

    async def numbers(self, id: str) -> list[int]:
        return [event["seq"] for event in await self._sessions.events.read(id)]

    async def grow(self, sessions: Sequence[Session]) -> None:
        for start in range(0, len(sessions), BATCH):
            batch = sessions[start : start + BATCH]
            await self._sessions.batch_save_sessions({session.id: _document(session) for session in batch})

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        for start in range(0, len(events), BATCH):
            await self._sessions.events.append(id, [_event(event) for event in events[start : start + BATCH]])


def _document(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "metadata": {"user_id": session.user, "topic": session.topic},
        "state": session.state,
    }


def _event(event: Event) -> dict[str, Any]:
    return {"id": event.key, **event.body}


SYSTEMS = [OurSessions]
