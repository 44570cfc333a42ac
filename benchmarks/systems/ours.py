"""This project's storage: a record for the session and a log for its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.system import Event, Session, System
from benchmarks.systems import ENGINES
from unified_storage import IUnifiedStorage, open_storage

SESSION = "session"
BATCH = 1000
"""Sessions without events that are saved in one step."""


def storage_url(engine: str, place: str) -> str:
    return f"sqlite:///{place}/ours.db" if engine == "sqlite" else place


def opened(engine: str, place: str) -> IUnifiedStorage:
    return open_storage(storage_url(engine, place), indexed={SESSION: ["metadata.topic"]})


class Ours(System):
    name = "ours"
    package = "unified-storage"
    engines = frozenset(ENGINES)

    async def open(self) -> None:
        self._storage = opened(self.engine, self.place)
        await self._storage.health_check()

    async def close(self) -> None:
        await self._storage.close()

    async def create(self, session: Session) -> None:
        await self._storage.save(_record(session))

    async def load(self, id: str) -> dict[str, Any]:
        record = await self._storage.load(id, type=SESSION)
        if record is None:
            raise KeyError(id)
        return record

    async def append(self, id: str, event: Event) -> None:
        await self._storage.append(f"history/{id}", [{"key": event.key, "body": event.body}])

    async def last(self, id: str, count: int) -> list[dict[str, Any]]:
        return await self._storage.read(f"history/{id}", last=count)

    async def page_by_user(self, user: str, limit: int) -> list[dict[str, Any]]:
        return (await self._storage.page({"type": SESSION, "metadata.user_id": user}, limit=limit)).items

    async def page_by_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        return (await self._storage.page({"type": SESSION, "metadata.topic": topic}, limit=limit)).items

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        moment = datetime.now(UTC)
        times = {"created_at": moment, "updated_at": moment}
        await self._storage.restore(
            [{**_record(session), **times, "version": 1} for session, _ in sessions],
            [_log(session.id, events, moment) for session, events in sessions],
        )

    async def delete_all(self, ids: Sequence[str]) -> None:
        await self._storage.batch_delete(list(ids), type=SESSION)

    async def set_state(self, id: str, key: str, value: Any) -> None:
        if not await self._storage.update(id, {"data": {"state": {key: value}}}, type=SESSION):
            raise KeyError(id)

    async def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = (await self.load(id))["data"]["state"]
        return state

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        async for batch in self._storage.stream_list({"type": SESSION}):
            for record in batch:
                yield record

    async def keys(self, id: str) -> list[str]:
        return [entry["key"] for entry in await self._storage.read(f"history/{id}")]

    async def numbers(self, id: str) -> list[int]:
        return [entry["seq"] for entry in await self._storage.read(f"history/{id}")]

    async def grow(self, sessions: Sequence[Session]) -> None:
        for start in range(0, len(sessions), BATCH):
            await self._storage.batch_save([_record(session) for session in sessions[start : start + BATCH]])

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        for start in range(0, len(events), BATCH):
            entries = [{"key": event.key, "body": event.body} for event in events[start : start + BATCH]]
            await self._storage.append(f"history/{id}", entries)


def _record(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "type": SESSION,
        "data": {"session_id": session.id, "state": session.state},
        "metadata": {"user_id": session.user, "topic": session.topic},
    }


def _log(id: str, events: Sequence[Event], moment: datetime) -> dict[str, Any]:
    entries = [
        {"seq": seq, "key": event.key, "created_at": moment, "body": event.body}
        for seq, event in enumerate(events, start=1)
    ]
    return {"log_id": f"history/{id}", "last_seq": len(entries), "entries": entries}


SYSTEMS = [Ours]
