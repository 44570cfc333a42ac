"""Scoped sessions in a Redis laid out by hand: ``appdata:``, ``userdata:``, ``session:`` and ``events:``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from legacy.migration import inspect_place, inspect_session, verify_stores
from legacy.stores import known_formats
from session_adapter import ScopedSessionService, SessionKey, UserKey
from session_adapter.formats import SCOPED_REDIS
from session_adapter.models import Event
from session_adapter.session import Session
from tests.cli.running import run
from tests.legacy.test_copy import copied, counts
from tests.unified_storage.redis.monitor import Monitor
from unified_storage import StorageConfigurationError, StorageUnsupportedError, open_storage
from unified_storage.interface import IUnifiedStorage

Values = dict[str, str | bytes]
ANN = SessionKey("shop", "ann", "s1")
READING = {"SCAN", "HSCAN", "TYPE", "HGET", "HGETALL", "ZRANGE", "PEXPIRETIME"}
TIME = 1715803200.25


def event(id: str, role: str, content: Any, **further: Any) -> str:
    return json.dumps({"id": id, "role": role, "content": content, **further})


@pytest.fixture
def layout(empty_redis: redis.Redis) -> redis.Redis:
    """The four shapes, written by hand."""
    hashes: dict[str, Values] = {
        "appdata:shop": {"currency": "EUR", "flags": '{"beta": true}', "logo": b"\x00\xff"},
        "appdata:bank": {"currency": "CHF"},
        "userdata:shop:ann": {"lang": "de"},
        "userdata:shop:bob": {"lang": "fr"},
        "session:shop:ann": {
            "s1": json.dumps(
                {
                    "id": "s1",
                    "appName": "shop",
                    "userId": "ann",
                    "state": {"cart": ["tea"], "steps": 3, "note": None},
                    "metadata": {"channel": "web"},
                    "createdAt": "2024-05-15T20:00:00Z",
                    "updatedAt": "2024-05-15T20:05:00.5Z",
                    "etag": "x1",
                }
            ),
            "s2": '{"state": {}}',
        },
        "session:bank:ann": {"s1": '{"state": {"step": 1}}'},
    }
    for name, fields in hashes.items():
        empty_redis.hset(name, mapping=fields)  # type: ignore[arg-type]  # bytes are values too
    events = {
        event("e1", "user", "A tea, please", run_id="r1"): TIME,
        event("e2", "assistant", "Here it is", run_id="r1", state_delta={"cart": ["tea"]}): TIME + 1,
        event("e0", "user", "Thanks"): TIME + 1,
        event("e9", "user", "Bye"): TIME + 0.5,
    }
    empty_redis.zadd("events:shop:ann:s1", events)
    empty_redis.zadd("events:bank:ann:s1", {event("e1", "user", "My balance?"): 1})
    empty_redis.set("other", "of another program")
    return empty_redis


@pytest.fixture
def source(layout: redis.Redis, redis_server: str) -> str:
    return f"scoped+{redis_server}"


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


async def session_in(url: str, key: SessionKey) -> Session:
    async with open_storage(url) as storage:
        found = await ScopedSessionService(storage).get_session(key)
    assert found is not None
    return found


def said(session: Session) -> list[tuple[str, Any]]:
    return [(each.role, each.content) for each in session.events]


def reasons(facts: dict[str, Any], outcome: str = "quarantined") -> dict[str, list[str]]:
    return {item["file"]: item["reasons"] for item in facts["items"] if item["outcome"] == outcome}


async def test_the_four_shapes_are_read_completely(source: str, ours: str) -> None:
    """S1.27."""
    facts = await copied(source, ours)
    assert counts(facts, "read", "copied", "quarantined") == (3, 3, 0)
    session = await session_in(ours, ANN)
    assert session.state == {
        "cart": ["tea"],
        "steps": 3,
        "note": None,
        "app:currency": "EUR",
        "app:flags": '{"beta": true}',
        "app:logo": b"\x00\xff",
        "user:lang": "de",
    }
    assert said(session) == [
        ("user", "A tea, please"),
        ("user", "Bye"),
        ("user", "Thanks"),
        ("assistant", "Here it is"),
    ], "by score, then by member"
    assert [each.id for each in session.events] == ["e1", "e9", "e0", "e2"]
    assert session.events[0].timestamp is not None
    assert session.events[0].timestamp.timestamp() == TIME
    assert session.events[3].state_delta == {"cart": ["tea"]}
    assert session.created_at.isoformat() == "2024-05-15T20:00:00+00:00"
    assert session.updated_at.isoformat() == "2024-05-15T20:05:00.500000+00:00"
    assert session.metadata["channel"] == "web"
    other = await session_in(ours, SessionKey("bank", "ann", "s1"))
    assert other.state == {"step": 1, "app:currency": "CHF"}
    assert said(other) == [("user", "My balance?")]
    assert said(await session_in(ours, SessionKey("shop", "ann", "s2"))) == []
    async with open_storage(ours) as storage:
        assert await ScopedSessionService(storage).list_user_states(UserKey("shop", "bob")) == {"lang": "fr"}
        listed = await ScopedSessionService(storage).list_sessions(UserKey("shop", "ann"))
    assert {each.session_id for each in listed.items} == {"s1", "s2"}


async def test_what_was_copied_goes_on_as_any_other_session(source: str, ours: str) -> None:
    await copied(source, ours)
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        await service.append_event(
            ANN, Event(role="user", content="Again", state_delta={"steps": 4, "user:lang": "en"})
        )
        await service.append_event(ANN, Event(id="e1", role="user", content="A tea, please"))  # is there already
    session = await session_in(ours, ANN)
    assert [each.id for each in session.events][:4] == ["e1", "e9", "e0", "e2"]
    assert len(session.events) == 5
    assert (session.state["steps"], session.state["user:lang"]) == (4, "en")


async def test_a_second_copy_finds_everything_equal(source: str, ours: str) -> None:
    first = await copied(source, ours)
    facts = await copied(source, ours)
    assert counts(facts, "read", "equal") == (3, 3)
    assert facts["others"]["equal"] == first["others"]["copied"] == 4
    report = await verify_stores(source, ours)
    assert (report.equal, report.different, report.missing, report.only_in_target) == (7, 0, 0, 0)
    report.differences.close()


async def test_nothing_that_the_store_says_is_lost(source: str, ours: str) -> None:
    """Fields that nobody knows stand in the raw log, members in the form they had."""
    await copied(source, ours)
    async with open_storage(ours) as storage:
        [record] = await storage.list({"metadata.session_id": "s1", "metadata.app_name": "shop"})
        [raw] = await storage.read(f"raw/{record['id']}")
        assert raw["body"]["value"]["session"]["etag"] == "x1"
        entries = await storage.read(f"history/{record['id']}")
    kept = {"score": TIME, "event": {"id": "e1", "role": "user", "content": "A tea, please", "run_id": "r1"}}
    assert entries[0]["body"] == {"format": "scoped", "value": kept}
    assert entries[0]["key"] == "e1"


async def test_the_source_is_only_read(source: str, ours: str, layout: redis.Redis) -> None:
    before = {key: layout.dump(key) for key in layout.scan_iter()}
    monitor = Monitor([layout.connection_pool.connection_kwargs["port"]])
    async with monitor.listening() as told:
        await copied(source, ours)
        await inspect_place(source)
    assert set(told.names()) <= READING
    assert {key: layout.dump(key) for key in layout.scan_iter()} == before


async def test_keys_are_scanned_in_parts(layout: redis.Redis, source: str, ours: str) -> None:
    """In bounded memory: neither all keys nor all sessions of a user are asked for at once."""
    many = {f"m{at}": json.dumps({"state": {"at": at}, "note": "x" * 100}) for at in range(700)}
    layout.hset("session:shop:many", mapping=many)  # type: ignore[arg-type]
    monitor = Monitor([layout.connection_pool.connection_kwargs["port"]])
    async with monitor.listening() as told:
        facts = await copied(source, ours)
    assert counts(facts, "copied") == (703,)
    assert told.names()["HSCAN"] >= 7
    asked = [command for command in told.commands if command.name == "SCAN"]
    assert asked
    assert all("MATCH" in command.words for command in asked)


# expiry


async def test_what_expires_there_expires_here(source: str, ours: str, layout: redis.Redis) -> None:
    layout.pexpireat("session:shop:ann", 4_102_444_800_123)
    layout.pexpireat("userdata:shop:ann", 4_102_444_800_000)
    facts = await copied(source, ours)
    async with open_storage(ours) as storage:
        times = {
            (record["type"], record["metadata"].get("session_id")): record["expires_at"]
            for record in await _scoped(storage)
        }
    assert times[("session", "s1")].isoformat() == "2100-01-01T00:00:00.123000+00:00"
    assert times[("user_state", None)].isoformat() == "2100-01-01T00:00:00+00:00"
    assert times[("app_state", None)] is None
    warned = [item["id"] for item in facts["items"] if "events_expire_otherwise" in item["reasons"]]
    assert warned == [], "events that live on are no loss"
    assert counts(await copied(source, ours), "equal") == (3,)


async def _scoped(storage: IUnifiedStorage) -> list[dict[str, Any]]:
    records = await storage.list({"type": {"$in": ["session", "user_state", "app_state"]}})
    return [each for each in records if each["data"]["app_name"] == "shop" and each["data"].get("user_id") != "bob"]


async def test_events_that_expire_before_their_session_are_told(source: str, ours: str, layout: redis.Redis) -> None:
    layout.pexpireat("events:shop:ann:s1", 4_102_444_800_000)
    facts = await copied(source, ours)
    warned = [item["id"] for item in facts["items"] if "events_expire_otherwise" in item["reasons"]]
    assert warned == ["s1"]
    assert (await session_in(ours, ANN)).events


# keys whose parts hold a ":"


async def test_a_colon_in_a_part_is_told_by_the_sessions_json(layout: redis.Redis, source: str, ours: str) -> None:
    """T1.1: the same key may hold sessions of several users."""
    sessions = {
        "s1": json.dumps({"appName": "a:b", "userId": "c", "state": {"of": 1}}),
        "s2": json.dumps({"app_name": "a", "user_id": "b:c", "state": {"of": 2}}),
        "s3": json.dumps({"appName": "a:b", "state": {"of": 3}}),
        "s4": json.dumps({"userID": "b:c", "state": {"of": 4}}),
        "s5": json.dumps({"state": {"of": 5}}),
        "s6": json.dumps({"appName": "other", "userId": "c"}),
        "s7": "{",
        "s8": json.dumps({"appName": "a", "userId": "c"}),
    }
    layout.hset("session:a:b:c", mapping=sessions)  # type: ignore[arg-type]
    layout.zadd("events:a:b:c:s1", {event("e1", "user", "Hello"): 1})
    facts = await copied(source, ours)
    assert counts(facts, "copied", "quarantined") == (7, 4)
    assert (await session_in(ours, SessionKey("a:b", "c", "s1"))).state == {"of": 1}
    assert said(await session_in(ours, SessionKey("a:b", "c", "s1"))) == [("user", "Hello")]
    assert (await session_in(ours, SessionKey("a", "b:c", "s2"))).state == {"of": 2}
    assert (await session_in(ours, SessionKey("a:b", "c", "s3"))).state == {"of": 3}
    assert (await session_in(ours, SessionKey("a", "b:c", "s4"))).state == {"of": 4}
    told = {item["id"]: item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined"}
    open_to_doubt = {id: ["ambiguous_key"] for id in ("s5", "s6", "s8")}
    assert told == open_to_doubt | {"s7": ["invalid_json"]}


async def test_a_colon_in_a_session_id_is_none_of_a_key(layout: redis.Redis, source: str, ours: str) -> None:
    layout.hset("session:shop:ann", "2024:05:15", '{"state": {"of": 1}}')
    layout.zadd("events:shop:ann:2024:05:15", {event("e1", "user", "Hello"): 1})
    facts = await copied(source, ours)
    assert counts(facts, "copied", "quarantined") == (4, 0)
    assert said(await session_in(ours, SessionKey("shop", "ann", "2024:05:15"))) == [("user", "Hello")]


async def test_events_that_two_sessions_may_own_are_nobodys(layout: redis.Redis, source: str, ours: str) -> None:
    layout.hset("session:a:b", "c:d", "{}")
    layout.hset("session:a:b:c", "d", json.dumps({"appName": "a", "userId": "b:c"}))
    facts = await copied(source, ours)
    assert counts(facts, "copied", "quarantined") == (5, 0), "as long as there are none"
    layout.zadd("events:a:b:c:d", {event("e1", "user", "Whose?"): 1})
    facts = await copied(source, f"{ours}.2")
    assert counts(facts, "copied", "quarantined") == (3, 2)
    assert reasons(facts) == {"session:a:b": ["ambiguous_events"], "session:a:b:c": ["ambiguous_events"]}


async def test_the_state_of_a_user_is_told_by_the_sessions_of_its_key(
    layout: redis.Redis, source: str, ours: str
) -> None:
    layout.hset("userdata:a:b:c", "lang", "de")
    layout.hset("userdata:x:y:z", "lang", "en")
    layout.hset("session:a:b:c", "s1", json.dumps({"appName": "a:b", "userId": "c"}))
    facts = await copied(source, ours)
    assert reasons(facts) == {"userdata:x:y:z": ["ambiguous_key"]}
    async with open_storage(ours) as storage:
        assert await ScopedSessionService(storage).list_user_states(UserKey("a:b", "c")) == {"lang": "de"}
    layout.hset("session:a:b:c", "s2", json.dumps({"appName": "a", "userId": "b:c"}))
    facts = await copied(source, f"{ours}.2")
    assert reasons(facts)["userdata:a:b:c"] == ["ambiguous_key"]


async def test_a_session_that_names_another_owner_than_its_key_is_told(
    layout: redis.Redis, source: str, ours: str
) -> None:
    layout.hset("session:shop:ann", "s2", '{"appName": "shop", "userId": "bob", "state": {"of": "ann"}}')
    facts = await copied(source, ours)
    [warned] = [item["reasons"] for item in facts["items"] if item["id"] == "s2"]
    assert warned[0] == "owner_mismatch"
    assert (await session_in(ours, SessionKey("shop", "ann", "s2"))).state["of"] == "ann"


# damage


async def test_damage_is_quarantined_and_the_rest_copied(
    layout: redis.Redis, source: str, ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """S1.27: with the reason, and exit code 3."""
    damaged: Values = {
        "cut": '{"state": {"cart"',
        "list": "[1]",
        "empty": "",
        "latin": '{"name": "Zoë"}'.encode("latin-1"),
        "deep": "[" * 300 + "]" * 300,
    }
    layout.hset("session:shop:bad", mapping=damaged)  # type: ignore[arg-type]
    layout.hset("session:shop:bad", b"\xff\xfe", "{}")
    layout.hset("session:nobody", "s1", "{}")
    layout.hset("session::ann", "s1", "{}")
    layout.hset("userdata:nobody", "a", "b")
    layout.hset("userdata:shop:cyd", b"\xff", "b")
    layout.zadd("events:shop:ann:gone", {event("e1", "user", "Lost"): 1})
    layout.set("session:shop:text", "no hash")
    ran = await asyncio.to_thread(run, capsys, "copy", source, ours, "--json")
    assert ran.code == 3
    assert (ran.facts["ledger"]["copied"], ran.facts["ledger"]["quarantined"]) == (3, 9)
    facts = await copied(source, f"{ours}.2")
    told = {(item["file"], item["id"]): item["reasons"][0] for item in facts["items"] if item["outcome"] != "copied"}
    of_bad = {id: reason for (file, id), reason in told.items() if file == "session:shop:bad"}
    assert of_bad == {
        "cut": "invalid_json",
        "list": "invalid_shape",
        "empty": "empty_file",
        "latin": "encoding",
        "deep": "nesting_too_deep",
        "\\xff\\xfe": "invalid_session_id",
    }
    others = {file: reason for (file, _), reason in told.items() if file != "session:shop:bad"}
    assert others == {
        "session:nobody": "invalid_key",
        "session::ann": "invalid_session_id",
        "userdata:nobody": "invalid_key",
        "userdata:shop:cyd": "invalid_state_key",
        "events:shop:ann:gone": "events_without_session",
        "session:shop:text": "wrong_type",
    }


async def test_a_member_that_is_no_json_is_kept_and_told(layout: redis.Redis, source: str, ours: str) -> None:
    layout.zadd("events:shop:ann:s1", {"{cut": TIME - 1})
    layout.zadd("events:shop:ann:s1", {b"\xff": TIME - 2})
    facts = await copied(source, ours)
    assert counts(facts, "copied", "quarantined") == (3, 0)
    [warned] = [item["reasons"] for item in facts["items"] if (item["file"], item["id"]) == ("session:shop:ann", "s1")]
    assert set(warned) == {"event_invalid_json", "event_encoding"}
    session = await session_in(ours, ANN)
    assert len(session.events) == 4
    async with open_storage(ours) as storage:
        [record] = await storage.list({"metadata.session_id": "s1", "metadata.app_name": "shop"})
        entries = await storage.read(f"history/{record['id']}", limit=2)
    assert [entry["body"]["value"]["event"] for entry in entries] == [b"\xff", "{cut"]


async def test_events_that_share_an_id_are_all_kept(layout: redis.Redis, source: str, ours: str) -> None:
    layout.zadd("events:shop:ann:s1", {event("e1", "user", "Once more"): TIME + 9})
    assert counts(await copied(source, ours), "copied") == (3,)
    assert ("user", "Once more") in said(await session_in(ours, ANN))


# the place


async def test_keys_may_have_a_prefix(empty_redis: redis.Redis, redis_server: str, ours: str) -> None:
    empty_redis.hset("p[1]:session:shop:ann", "s1", '{"state": {"of": "p"}}')
    empty_redis.hset("p1:session:shop:ann", "s1", '{"state": {"of": "another"}}')
    empty_redis.hset("session:shop:ann", "s1", '{"state": {"of": "none"}}')
    assert counts(await copied(f"scoped+{redis_server}?prefix=p[1]", ours), "read", "copied") == (1, 1)
    assert (await session_in(ours, ANN)).state == {"of": "p"}


async def test_a_place_and_a_session_of_it_can_be_inspected(source: str) -> None:
    facts = await inspect_place(source)
    assert dict(facts.records) == {"session": 3, "user_state": 2, "app_state": 2}
    shown = await inspect_session(source, "s2")
    assert "s2" in json.dumps(shown.to_dict() if hasattr(shown, "to_dict") else shown, default=str)


async def test_it_is_only_read(source: str, ours: str) -> None:
    await copied(source, ours)
    with pytest.raises(StorageUnsupportedError, match="only read"):
        await copied(ours, source)
    [listed] = [each for each in known_formats() if each.name == "scoped"]
    assert (listed.reads, listed.writes, listed.url) == (True, False, "scoped+redis://host:6379/0")


@pytest.mark.parametrize("url", ["scoped+redis://localhost/0?colour=red", "scoped+sqlite:///x.db"])
async def test_what_means_nothing_there_is_refused(url: str, ours: str) -> None:
    with pytest.raises((StorageConfigurationError, StorageUnsupportedError)):
        await copied(url, ours)


# events in the forms that writers of such layouts use


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"author": "user", "content": "Hi"}, {"role": "user", "author": "user", "content": "Hi"}),
        (
            {"author": "helper", "message": {"content": "Hi"}},
            {"role": "assistant", "author": "helper", "content": "Hi"},
        ),
        (
            {"id": "e", "author": "helper", "choices": [{"message": {"role": "assistant", "content": "Hi"}}]},
            {"id": "e", "role": "assistant", "author": "helper", "content": "Hi"},
        ),
        (
            {"author": "helper", "content": {"role": "model", "parts": [{"text": "Hi"}]}, "invocationId": "r"},
            {"role": "assistant", "run_id": "r", "content": {"role": "model", "parts": [{"text": "Hi"}]}},
        ),
        (
            {"role": "assistant", "toolCalls": [{"id": "c", "name": "find", "args": {"q": 1}}]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}],
            },
        ),
        (
            {"role": "tool", "toolCallId": "c", "toolName": "find", "content": "3", "stateDelta": {"a": 1}},
            {"role": "tool", "tool_call_id": "c", "name": "find", "content": "3", "state_delta": {"a": 1}},
        ),
        ({"content": "Hi", "mood": "good"}, {"role": "unknown", "content": "Hi", "mood": "good"}),
    ],
)
def test_events_are_read_in_the_forms_that_writers_use(body: dict[str, Any], shown: dict[str, Any]) -> None:
    event = SCOPED_REDIS.to_event({"score": 5, "event": body})
    assert event is not None
    assert {name: event[name] for name in shown} == shown
    assert event["timestamp"] == 5


@pytest.mark.parametrize(
    ("score", "timestamp"),
    [
        (1715803200.25, 1715803200.25),
        (1715803200250, 1715803200250),
        (1715803200250000, 1715803200250.0),
        (1715803200250000000, 1715803200250.0),
        (None, None),
        (True, None),
    ],
)
def test_a_score_is_a_time_whatever_its_unit(score: Any, timestamp: Any) -> None:
    event = SCOPED_REDIS.to_event({"score": score, "event": {"role": "user"}})
    assert event is not None
    assert event["timestamp"] == timestamp


@pytest.mark.parametrize("element", [None, 5, "text", {}, {"event": "text"}, {"event": [1]}, {"role": "user"}])
def test_what_is_no_event_is_none(element: Any) -> None:
    assert SCOPED_REDIS.to_event(element) is None
    assert SCOPED_REDIS.entry_key(element) is None
