"""Redis's client alone: a script for what has to happen together, pipelines for what is read together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import redis.asyncio

from benchmarks.system import Event, Session
from benchmarks.systems.raw_rows import Raw, encoded, now

CREATE = """
redis.call('HSET', 's:' .. ARGV[1], 'user', ARGV[2], 'topic', ARGV[3], 'version', 1, 'last_seq', 0,
           'created_at', ARGV[4], 'updated_at', ARGV[4])
if #ARGV > 4 then redis.call('HSET', 'st:' .. ARGV[1], unpack(ARGV, 5)) end
redis.call('ZADD', 'user:' .. ARGV[2], ARGV[4], ARGV[1])
redis.call('ZADD', 'topic:' .. ARGV[3], ARGV[4], ARGV[1])
"""
TOUCHED = """
local head = 's:' .. ARGV[1]
local of = redis.call('HMGET', head, 'user', 'topic')
if not of[1] then return false end
redis.call('HINCRBY', head, 'version', 1)
redis.call('HSET', head, 'updated_at', ARGV[2])
redis.call('ZADD', 'user:' .. of[1], ARGV[2], ARGV[1])
redis.call('ZADD', 'topic:' .. of[2], ARGV[2], ARGV[1])
"""
APPEND = (
    TOUCHED
    + """
local seq = redis.call('HINCRBY', head, 'last_seq', 1)
redis.call('RPUSH', 'e:' .. ARGV[1], seq .. ' ' .. ARGV[3])
return seq
"""
)
SET_STATE = (
    TOUCHED
    + """
redis.call('HSET', 'st:' .. ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)
PAGE = """
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1)) do
  found[#found + 1] = {id, redis.call('HGETALL', 's:' .. id), redis.call('HGETALL', 'st:' .. id)}
end
return found
"""
BATCH = 500
"""Sessions that go in one pipeline of an import, or are read in one of a walk."""


class RawRedis(Raw):
    engines = frozenset({"redis"})

    async def open(self) -> None:
        self._client: Any = redis.asyncio.Redis.from_url(self.place, max_connections=64)
        self._create = self._client.register_script(CREATE)
        self._append = self._client.register_script(APPEND)
        self._set_state = self._client.register_script(SET_STATE)
        self._page = self._client.register_script(PAGE)

    async def close(self) -> None:
        await self._client.aclose()

    async def create(self, session: Session) -> None:
        await self._create(args=_made(session))

    async def load(self, id: str) -> dict[str, Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            head, state = await pipeline.hgetall(f"s:{id}").hgetall(f"st:{id}").execute()
        if not head:
            raise KeyError(id)
        return _shown(id, head, state)

    async def append(self, id: str, event: Event) -> None:
        if await self._append(args=(id, now(), _entry(event))) is None:
            raise KeyError(id)

    async def last(self, id: str, count: int) -> list[dict[str, Any]]:
        return [_shown_event(value) for value in await self._client.lrange(f"e:{id}", -count, -1)]

    async def page_by_user(self, user: str, limit: int) -> list[dict[str, Any]]:
        return await self._page_of(f"user:{user}", limit)

    async def page_by_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        return await self._page_of(f"topic:{topic}", limit)

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        for start in range(0, len(sessions), BATCH):
            async with self._client.pipeline(transaction=True) as pipeline:
                for session, events in sessions[start : start + BATCH]:
                    _add_to(pipeline, session, events)
                await pipeline.execute()

    async def delete_all(self, ids: Sequence[str]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hmget(f"s:{id}", "user", "topic")
            heads = await pipeline.execute()
        async with self._client.pipeline(transaction=True) as pipeline:
            for id, (user, topic) in zip(ids, heads, strict=True):
                pipeline.unlink(f"s:{id}", f"st:{id}", f"e:{id}")
                pipeline.zrem(f"user:{user.decode()}", id)
                pipeline.zrem(f"topic:{topic.decode()}", id)
            await pipeline.execute()

    async def set_state(self, id: str, key: str, value: Any) -> None:
        if await self._set_state(args=(id, now(), key, encoded(value))) is None:
            raise KeyError(id)

    async def state(self, id: str) -> dict[str, Any]:
        return _decoded(await self._client.hgetall(f"st:{id}"))

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        cursor = 0
        while True:
            cursor, keys = await self._client.scan(cursor, match="s:*", count=BATCH)
            ids = [key.decode()[2:] for key in keys]
            async with self._client.pipeline(transaction=False) as pipeline:
                for id in ids:
                    pipeline.hgetall(f"s:{id}").hgetall(f"st:{id}")
                found = await pipeline.execute()
            for id, head, state in zip(ids, found[::2], found[1::2], strict=True):
                yield _shown(id, head, state)
            if not cursor:
                return

    async def keys(self, id: str) -> list[str]:
        return [event["key"] for event in await self.last(id, 1 << 30)]

    async def numbers(self, id: str) -> list[int]:
        return [event["seq"] for event in await self.last(id, 1 << 30)]

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        for start in range(0, len(events), BATCH):
            added = events[start : start + BATCH]
            last_seq = await self._client.hincrby(f"s:{id}", "last_seq", len(added))
            numbered = enumerate(added, start=last_seq - len(added) + 1)
            await self._client.rpush(f"e:{id}", *(f"{seq} {_entry(event)}" for seq, event in numbered))

    async def _page_of(self, key: str, limit: int) -> list[dict[str, Any]]:
        found = await self._page(keys=[key], args=[limit])
        return [_shown(id.decode(), _pairs(head), _pairs(state)) for id, head, state in found]


def _entry(event: Event) -> str:
    return encoded({"key": event.key, "body": event.body})


def _shown_event(value: bytes) -> dict[str, Any]:
    seq, _, entry = value.partition(b" ")
    return {"seq": int(seq), **msgspec.json.decode(entry)}


def _made(session: Session) -> list[Any]:
    state = [part for key, value in session.state.items() for part in (key, encoded(value))]
    return [session.id, session.user, session.topic, now(), *state]


def _add_to(pipeline: Any, session: Session, events: Sequence[Event]) -> None:
    id, user, topic, moment, *state = _made(session)
    head = {"user": user, "topic": topic, "version": 1, "last_seq": len(events)}
    pipeline.hset(f"s:{id}", mapping={**head, "created_at": moment, "updated_at": moment})
    if state:
        pipeline.hset(f"st:{id}", items=state)
    pipeline.zadd(f"user:{user}", {id: moment})
    pipeline.zadd(f"topic:{topic}", {id: moment})
    if events:
        pipeline.rpush(f"e:{id}", *(f"{seq} {_entry(event)}" for seq, event in enumerate(events, start=1)))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _decoded(state: dict[bytes, bytes]) -> dict[str, Any]:
    return {key.decode(): msgspec.json.decode(value) for key, value in state.items()}


def _shown(id: str, head: dict[bytes, bytes], state: dict[bytes, bytes]) -> dict[str, Any]:
    return {"id": id, **{key.decode(): value.decode() for key, value in head.items()}, "state": _decoded(state)}


SYSTEMS = [RawRedis]
