"""LangGraph: its checkpoint savers, each as its documentation sets it up.

A thread's newest checkpoint holds all of its state, so every step stores the list of messages once more, one longer. A
program has that state in its hands while it goes on with a thread, and so it has here: adding an event is one `aput`.
Whoever holds the state of before somebody else's step loses that step. What tells threads apart is a checkpoint's
metadata; a saver lists checkpoints, newest first, and a program takes of each thread the first.

SQLite: the saver turns WAL on and leaves ``synchronous`` at FULL. PostgreSQL: a pool, one statement at a time, as
the saver has a lock. A thread that is made longer here has one checkpoint of that length and not one for each step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.system import Event, NotOffered, Session, System
from benchmarks.systems import langgraph_seeding
from benchmarks.systems.seeding import read_back_events, read_back_sessions, role_and_text

HELD = 256
"""Threads whose state a program has at most."""
NO_REDIS = (
    "AsyncRedisSaver needs RediSearch, which indexes database 0 alone: it cannot have a database to itself on a server"
)


class LangGraph(System):
    name = "langgraph"
    package = "langgraph"
    engines = frozenset({"sqlite", "postgresql", "redis"})

    async def open(self) -> None:
        if self.engine == "redis":
            raise NotOffered(NO_REDIS)
        self._held: dict[str, CheckpointTuple] = {}
        self._stack = AsyncExitStack()
        self._saver = await (self._on_sqlite() if self.engine == "sqlite" else self._on_postgresql())
        await self._saver.setup()

    async def close(self) -> None:
        await self._stack.aclose()

    async def create(self, session: Session) -> None:
        await self._put(first(session), {"messages": [], **session.state})

    async def load(self, id: str) -> CheckpointTuple:
        newest = await self._saver.aget_tuple(_config(id))
        if newest is None:
            raise KeyError(id)
        return newest

    async def append(self, id: str, event: Event) -> None:
        await self._add(id, [event])

    async def last(self, id: str, count: int) -> Sequence[BaseMessage]:
        return _messages(await self.load(id))[-count:]

    async def page_by_user(self, user: str, limit: int) -> Sequence[CheckpointTuple]:
        return await self._page({"user": user}, limit)

    async def page_by_topic(self, topic: str, limit: int) -> Sequence[CheckpointTuple]:
        return await self._page({"topic": topic}, limit)

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        for session, events in sessions:
            messages = [_message(event) for event in events]
            await self._put(first(session), {"messages": messages, **session.state})

    async def delete_all(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._held.pop(id, None)
            await self._saver.adelete_thread(id)

    async def set_state(self, id: str, key: str, value: Any) -> None:
        await self._put(await self.load(id), {key: value})

    async def state(self, id: str) -> dict[str, Any]:
        values = (await self.load(id)).checkpoint["channel_values"]
        return {key: value for key, value in values.items() if key != "messages"}

    async def stream(self) -> AsyncIterator[CheckpointTuple]:
        seen: set[str] = set()
        async for one in self._saver.alist(None):
            if (id := _thread(one)) not in seen:
                seen.add(id)
                yield one

    async def keys(self, id: str) -> list[str]:
        return [message.id or "" for message in _messages(await self.load(id))]

    async def grow(self, sessions: Sequence[Session]) -> None:
        made = [step(self._saver, first(session), {"messages": [], **session.state}) for session in sessions]
        await langgraph_seeding.insert(self._saver, made)
        await read_back_sessions(self, sessions)

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        await self._add(id, events)
        await read_back_events(self, id, events)

    async def _on_sqlite(self) -> Any:
        path = str(Path(self.place) / "langgraph.db")
        return await self._stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))

    async def _on_postgresql(self) -> Any:
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(self.place, max_size=20, kwargs=settings, open=False)
        return AsyncPostgresSaver(await self._stack.enter_async_context(pool))

    async def _add(self, id: str, events: Sequence[Event]) -> None:
        newest = self._held.get(id) or await self.load(id)
        messages = [*_messages(newest), *(_message(event) for event in events)]
        await self._put(newest, {"messages": messages})

    async def _put(self, before: CheckpointTuple, changes: Mapping[str, Any]) -> None:
        after, versions = step(self._saver, before, changes)
        config = await self._saver.aput(before.config, after.checkpoint, after.metadata, versions)
        self._held[_thread(before)] = after._replace(config=config)
        if len(self._held) > HELD:
            del self._held[next(iter(self._held))]

    async def _page(self, filter: dict[str, str], limit: int) -> list[CheckpointTuple]:
        threads: dict[str, CheckpointTuple] = {}
        before = None
        while len(threads) < limit:
            found = [one async for one in self._saver.alist(None, filter=filter, before=before, limit=limit)]
            for one in found:
                threads.setdefault(_thread(one), one)
            if len(found) < limit:
                break
            before = found[-1].config
        return list(threads.values())[:limit]


def first(session: Session) -> CheckpointTuple:
    """What the first checkpoint of a thread follows on."""
    metadata = {"source": "input", "step": -2, "parents": {}, "user": session.user, "topic": session.topic}
    return CheckpointTuple(_config(session.id), empty_checkpoint(), metadata)


def step(saver: Any, before: CheckpointTuple, changes: Mapping[str, Any]) -> tuple[CheckpointTuple, dict[str, Any]]:
    """The checkpoint after *before* with some channels changed, not stored yet, and the versions of those channels."""
    old = before.checkpoint
    versions = {name: saver.get_next_version(old["channel_versions"].get(name), None) for name in changes}
    number = before.metadata["step"] + 1
    new = {
        **old,
        "id": str(uuid6(clock_seq=number)),
        "ts": datetime.now(UTC).isoformat(),
        "channel_values": {**old["channel_values"], **changes},
        "channel_versions": {**old["channel_versions"], **versions},
        "updated_channels": sorted(changes),
    }
    metadata = {**before.metadata, "source": "loop" if number >= 0 else "input", "step": number}
    return CheckpointTuple(before.config, new, metadata), versions


def _config(id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": id, "checkpoint_ns": ""}}


def _thread(one: CheckpointTuple) -> str:
    id: str = one.config["configurable"]["thread_id"]
    return id


def _messages(one: CheckpointTuple) -> list[BaseMessage]:
    messages: list[BaseMessage] = one.checkpoint["channel_values"]["messages"]
    return messages


def _message(event: Event) -> BaseMessage:
    role, text = role_and_text(event)
    kind = HumanMessage if role == "user" else AIMessage
    return kind(id=event.key, content=text)


SYSTEMS = [LangGraph]
