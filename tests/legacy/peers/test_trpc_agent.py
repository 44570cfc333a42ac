"""tRPC-Agent-Go's Redis: every key comes back as it was, and sessions go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter
from session_adapter.models import Event
from tests.legacy.peers.fixture_stores import FixtureStore, canonical, dumped, load_dump
from tests.legacy.peers.readers.trpc_agent import conversation, sessions_in
from tests.legacy.test_copy import copied, counts
from tests.unified_storage.redis.monitor import Monitor
from unified_storage import open_storage

STORES = {"trpc_zset": "trpc-v1", "trpc_hashidx": "trpc-v2", "trpc_hashidx_prefix": "trpc-v2"}
READING = {"SCAN", "HSCAN", "TYPE", "GET", "HGET", "HGETALL", "ZRANGE", "SMEMBERS", "PEXPIRETIME"}
KEY = SessionKey("shop", "ann", "s1")


@pytest.fixture(params=STORES)
def stored(request: pytest.FixtureRequest, fixtures_dir: Path, empty_redis: redis.Redis) -> FixtureStore:
    store = FixtureStore(request.param)
    load_dump(empty_redis, store.dump())
    return store


def url_of(store: FixtureStore, server: str) -> str:
    told = "?prefix=prod" if "prefix" in store.name else ""
    return f"{STORES[store.name]}+{server}{told}"


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


async def test_every_key_comes_back_as_it_was(
    stored: FixtureStore, empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    url = url_of(stored, redis_server)
    await copied(url, ours)
    before, expiring = dumped(empty_redis), expiries(empty_redis)
    empty_redis.flushall()
    facts = await copied(ours, url)
    assert counts(facts, "copied", "mismatched", "quarantined", "conflict") == (20, 0, 0, 0)
    after = dumped(empty_redis)
    assert after.keys() == before.keys()
    assert {key: value for key, value in after.items() if value != before[key]} == {}
    assert expiries(empty_redis).keys() == expiring.keys()
    assert all(abs(when - expiring[key]) < 60_000 for key, when in expiries(empty_redis).items())
    again = await copied(ours, url)
    assert counts(again, "equal") == (20,)
    assert dumped(empty_redis) == before


def expiries(client: redis.Redis) -> dict[bytes, int]:
    told = {key: int(client.pexpiretime(key)) for key in client.scan_iter()}
    return {key: when for key, when in told.items() if when > 0}


async def test_conversations_that_went_on_are_read_by_another_reader(
    stored: FixtureStore, empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    url = url_of(stored, redis_server)
    await copied(url, ours)
    before = dumped(empty_redis)
    async with open_storage(ours) as storage:
        adapter = SessionStorageAdapter(storage)
        service = ScopedSessionService(storage)
        keys = await session_keys(adapter)
        for key in keys:
            await adapter.events.append(key, {"role": "user", "content": "And what now?"})
            delta = {"progress": b"done", "steps": 3}
            await service.append_event(key, Event(role="assistant", content="Nothing <more>.", state_delta=delta))
        expected = {key: canonical().canon_sha(await adapter.events.read(key)) for key in keys}
    facts = await copied(ours, url, overwrite_conflicts=True)
    assert counts(facts, "copied", "mismatched") == (20, 0)
    dump = dumped(empty_redis)
    found = sessions_in(dump, b"prod:" if "prefix" in stored.name else b"")
    assert {SessionKey(*key): canonical().canon_sha(conversation(events)) for key, events in found.items()} == expected
    assert dump.keys() == before.keys()
    kept = [(event, after) for key in found for event, after in zip(said(before, key), found[key], strict=False)]
    assert all(event == after for event, after in kept)


def said(dump: dict[str, tuple[str, Any]], key: tuple[str, str, str]) -> list[dict[str, Any]]:
    prefix = b"prod:" if any(str(name).startswith("prod:") for name in dump) else b""
    return sessions_in(dump, prefix)[key]


async def session_keys(adapter: SessionStorageAdapter) -> list[SessionKey]:
    page = await adapter.page_sessions({}, limit=100)
    return [item["key"] for item in page.items if isinstance(item["key"], SessionKey)]


async def test_the_source_is_only_read(
    stored: FixtureStore, empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    before = {key: empty_redis.dump(key) for key in empty_redis.scan_iter()}
    monitor = Monitor([empty_redis.connection_pool.connection_kwargs["port"]])
    async with monitor.listening() as told:
        await copied(url_of(stored, redis_server), ours)
    assert set(told.names()) <= READING
    assert {key: empty_redis.dump(key) for key in empty_redis.scan_iter()} == before


async def test_tracks_states_and_summaries_are_there(
    stored: FixtureStore, redis_server: str, empty_redis: redis.Redis, ours: str
) -> None:
    facts = await copied(url_of(stored, redis_server), ours)
    assert facts["others"]["copied"] == 22, "two apps, twenty users"
    tracked = {one["session_id"] for one in stored.manifest["conversations"] if one["tracks"]}
    summed = {one["session_id"] for one in stored.manifest["conversations"] if one["summaries"]}
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        assert (await service.list_app_states("tau_airline"))["domain"] == b'"tau_airline"'
        found = {key.session_id: key for key in await session_keys(SessionStorageAdapter(storage))}
        for session_id, key in found.items():
            session = await service.get_session(key)
            assert session is not None
            assert session.state["raw"] == b"\xff\x00\xfe"
            assert session.state["empty"] is None
            record = await storage.load((await storage.list({"metadata.session_id": session_id}))[0]["id"])
            assert record is not None
            assert ("summary" in record["data"]) == (session_id in summed)
            logs = [log async for batch in storage.logs(f"track:ui/{record['id']}") for log in batch]
            assert bool(logs) == (session_id in tracked)


# by hand


def event(id: str, role: str, text: str, at: str, **further: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": role, "content": text}}
    return {"id": id, "invocationId": "r1", "author": role, "timestamp": at, "choices": [choice], **further}


def write_v2(client: redis.Redis, key: SessionKey, *events: tuple[dict[str, Any] | str, float]) -> None:
    own = {"id": key.session_id, "appName": key.app_name, "userID": key.user_id, "state": {}}
    place = f"{key.app_name}:{{{key.user_id}}}:{key.session_id}"
    client.set(f"hashidx:meta:{place}", json.dumps(own))
    for number, (told, score) in enumerate(events):
        name = told["id"] if isinstance(told, dict) else f"torn{number}"
        client.hset(f"hashidx:evtdata:{place}", name, json.dumps(told) if isinstance(told, dict) else told)
        client.zadd(f"hashidx:evtidx:time:{place}", {name: score})


def write_v1(client: redis.Redis, key: SessionKey, *events: tuple[dict[str, Any] | str, float]) -> None:
    own = json.dumps({"id": key.session_id, "state": {}})
    client.hset(f"sess:{{{key.app_name}}}:{key.user_id}", key.session_id, own)
    for told, score in events:
        text = json.dumps(told) if isinstance(told, dict) else told
        client.zadd(f"event:{{{key.app_name}}}:{key.user_id}:{key.session_id}", {text: score})


async def contents(url: str, key: SessionKey) -> list[Any]:
    async with open_storage(url) as storage:
        return [each["content"] for each in await SessionStorageAdapter(storage).events.read(key)]


@pytest.mark.parametrize("write", [write_v1, write_v2])
@pytest.mark.parametrize(
    "key",
    [
        KEY,
        SessionKey("a:b", "u:v", "s:t"),
        SessionKey("café ☕", "😀", "s/{1}"),
        SessionKey("x" * 255, "y" * 255, "z" * 255),
    ],
)
async def test_names_are_taken_as_they_are(
    empty_redis: redis.Redis, redis_server: str, ours: str, write: Any, key: SessionKey
) -> None:
    write(empty_redis, key, (event("e1", "user", "Hello", "2024-05-15T20:00:00Z"), 1.7e18))
    before = dumped(empty_redis)
    await copied(f"trpc-agent+{redis_server}", ours)
    assert await contents(ours, key) == ["Hello"]
    empty_redis.flushall()
    await copied(ours, f"{'trpc-v1' if write is write_v1 else 'trpc-v2'}+{redis_server}")
    assert dumped(empty_redis) == before


@pytest.mark.parametrize("write", [write_v1, write_v2])
async def test_events_go_by_their_own_times_to_the_nanosecond(
    empty_redis: redis.Redis, redis_server: str, ours: str, write: Any
) -> None:
    """Scores are doubles: they hold 256 nanoseconds, and were seconds once."""
    score = 1715860931127279000.0
    write(
        empty_redis,
        KEY,
        (event("a", "assistant", "third", "2024-05-16T12:02:11.127279003Z"), score),
        (event("c", "user", "first", "2024-05-16T12:02:11.127279001Z"), score),
        (event("b", "assistant", "second", "2024-05-16T12:02:11.127279002Z"), score),
        (event("e0", "user", "before", "2024-05-16T12:02:10Z"), 1715860930.0),
    )
    await copied(f"trpc-agent+{redis_server}", ours)
    assert await contents(ours, KEY) == ["before", "first", "second", "third"]


async def test_arguments_of_older_writers_are_read(empty_redis: redis.Redis, redis_server: str, ours: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "eyJpdGVtIjoidGVhIn0="}}
    message = {"role": "assistant", "tool_calls": [call]}
    told = event("e1", "assistant", "", "2024-05-16T12:02:10Z", choices=[{"message": message}])
    write_v1(empty_redis, KEY, (told, 1715860930.0))
    await copied(f"trpc-agent+{redis_server}", ours)
    async with open_storage(ours) as storage:
        [shown] = await SessionStorageAdapter(storage).events.read(KEY)
    assert shown["tool_calls"][0]["function"]["arguments"] == '{"item":"tea"}'


async def test_answers_of_several_tools_in_one_event_are_several_events(
    empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    choices = [
        {"index": at, "message": {"role": "tool", "content": text, "tool_id": f"c{at}", "tool_name": "find"}}
        for at, text in enumerate(("tea", "milk"))
    ]
    told = event("e1", "assistant", "", "2024-05-16T12:02:10Z", choices=choices)
    write_v2(empty_redis, KEY, (told, 1.7e18))
    await copied(f"trpc-agent+{redis_server}", ours)
    async with open_storage(ours) as storage:
        shown = await SessionStorageAdapter(storage).events.read(KEY)
    assert [(each["content"], each["tool_call_id"], each["id"]) for each in shown] == [
        ("tea", "c0", "e1"),
        ("milk", "c1", None),
    ]


async def test_what_nobody_can_tell_apart_is_quarantined(
    empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    for user, id in (("a:b", "c"), ("a", "b:c")):
        write_v1(empty_redis, SessionKey("shop", user, id), (event("e1", "user", "x", "2024-05-16T12:02:10Z"), 1.0))
    empty_redis.zadd("event:{shop}:bob:gone", {"{}": 1})
    empty_redis.hset("sess:{a}:}:b", "s1", "{}")
    empty_redis.hset("sess:{shop}:bad", mapping={"s1": "{", "s2": "[]", "s3": b"\xff"})
    empty_redis.set("sess:{shop}:text", "x")
    empty_redis.set("event:{shop}:eve:s1", "no sorted set")
    empty_redis.hset("sess:{shop}:eve", "s1", "{}")
    write_v1(empty_redis, KEY, (event("e1", "user", "Hello", "2024-05-16T12:02:10Z"), 1.0), ("{", 2.0))
    facts = await copied(f"trpc-agent+{redis_server}", ours)
    told = sorted(
        (item["file"], item["id"], *item["reasons"]) for item in facts["items"] if item["outcome"] == "quarantined"
    )
    assert told == [
        ("event:{shop}:bob:gone", None, "events_without_session"),
        ("sess:{a}:}:b", "s1", "ambiguous_key"),
        ("sess:{shop}:a", "b:c", "ambiguous_events"),
        ("sess:{shop}:a:b", "c", "ambiguous_events"),
        ("sess:{shop}:bad", "s1", "invalid_json"),
        ("sess:{shop}:bad", "s2", "invalid_shape"),
        ("sess:{shop}:bad", "s3", "encoding"),
        ("sess:{shop}:eve", "s1", "unreadable"),
    ]
    assert await contents(ours, KEY) == ["Hello"]
    [item] = [item for item in facts["items"] if item["id"] == "s1" and item["outcome"] == "copied"]
    assert "event_invalid_json" in item["reasons"]


async def test_a_session_from_elsewhere_becomes_one_that_its_reader_knows(
    empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY, state={"cart": ["tea"], "user:lang": "de", "app:shop": "x", "blob": b"\xff"})
        for text in ("one", "two", "three"):
            await service.append_event(KEY, Event(role="user", content=text, id=None if text == "two" else text))
    for word in ("trpc-v1", "trpc-v2"):
        empty_redis.flushall()
        facts = await copied(ours, f"{word}+{redis_server}")
        assert counts(facts, "copied", "mismatched") == (1, 0)
        found = sessions_in(dumped(empty_redis), b"")
        assert [each["content"] for each in conversation(found["shop", "ann", "s1"])] == ["one", "two", "three"]
        assert len({each["id"] for each in found["shop", "ann", "s1"]}) == 3
        again = await copied(ours, f"{word}+{redis_server}")
        assert counts(again, "equal", "conflict") == (1, 0)


async def test_sessions_of_a_user_expire_not_before_the_last_of_them(
    empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    async with open_storage(ours) as storage:
        for id, ttl in (("s1", 1000), ("s2", 5000), ("s3", 2000)):
            await ScopedSessionService(storage, session_ttl=ttl).create_session(SessionKey("shop", "ann", id))
    await copied(ours, f"trpc-v1+{redis_server}")
    assert 4000 < int(empty_redis.ttl("sess:{shop}:ann")) <= 5000
    async with open_storage(ours) as storage:
        await ScopedSessionService(storage).create_session(SessionKey("shop", "ann", "s4"))
    await copied(ours, f"trpc-v1+{redis_server}")
    assert empty_redis.ttl("sess:{shop}:ann") == -1


async def test_a_track_that_went_on_is_written_with_the_next_number(
    empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    write_v2(empty_redis, KEY, (event("e1", "user", "Hello", "2024-05-15T20:00:00Z"), 1.7e18))
    place = "shop:{ann}:s1"
    clicked = {"track": "ui", "payload": 1, "timestamp": "2024-05-15T20:00:00Z"}
    empty_redis.sadd(f"hashidx:trkidx:names:{place}", "ui")
    empty_redis.hset(f"hashidx:trkdata:{place}:ui", mapping={"1": json.dumps(clicked), "_seq": "1"})
    empty_redis.zadd(f"hashidx:trkidx:time:{place}:ui", {"1": 1.7e18})
    url = f"trpc-agent+{redis_server}"
    await copied(url, ours)
    async with open_storage(ours) as storage:
        [record] = await storage.list({"type": "session"})
        await storage.append(f"track:ui/{record['id']}", [{"body": {"click": 2, "timestamp": "2024-05-15T20:00:05Z"}}])
    facts = await copied(ours, url, overwrite_conflicts=True)
    assert counts(facts, "copied", "mismatched") == (1, 0)
    data = empty_redis.hgetall(f"hashidx:trkdata:{place}:ui")
    assert set(data) == {b"1", b"2", b"_seq"}
    assert data[b"_seq"] == b"2"
    assert json.loads(data[b"2"])["payload"]["click"] == 2
