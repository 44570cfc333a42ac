"""What nobody should have written is quarantined or kept as it is, and the session beside it is copied all the same."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from legacy.session_files import file_name
from session_adapter import SessionStorageAdapter
from session_adapter.identity import session_id_of, visible_id
from tests.legacy.peers import adk_stores, agno_stores, openai_stores
from tests.legacy.test_copy import copied, counts
from unified_storage import open_storage

Payload = str | bytes
GOOD, BAD = "good", "bad"
SAID = "Hello"
LIMIT = 15 << 20


def text_of(payload: Payload) -> bytes:
    return payload if isinstance(payload, bytes) else payload.encode("utf-8", "surrogatepass")


def as_text(connection: sqlite3.Connection, table: str, name: str) -> None:
    """Blobs become texts of the same bytes."""
    connection.execute(f"UPDATE {table} SET {name} = CAST({name} AS TEXT) WHERE typeof({name}) = 'blob'")


# one session with a good message, one with the payload as its message


def langchain_sql(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    good = json.dumps({"type": "human", "data": {"content": SAID}})
    with closing(sqlite3.connect(folder / "l.db")) as connection, connection:
        connection.execute("CREATE TABLE message_store (id INTEGER PRIMARY KEY, session_id TEXT, message TEXT)")
        rows = [(GOOD, good), (bad, text_of(payload))]
        connection.executemany("INSERT INTO message_store (session_id, message) VALUES (?, ?)", rows)
        as_text(connection, "message_store", "message")
    return f"langchain+sqlite:///{folder}/l.db"


def langchain_redis(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    client.rpush(f"message_store:{GOOD}", json.dumps({"type": "human", "data": {"content": SAID}}))
    client.rpush(f"message_store:{bad}", text_of(payload))
    return f"langchain+{server}"


def langchain_file(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    files = folder / "histories"
    files.mkdir()
    (files / f"{GOOD}.json").write_text(json.dumps([{"type": "human", "data": {"content": SAID}}]))
    if len(bad) < 200:
        (files / file_name(bad)).write_bytes(b"[" + text_of(payload) + b"]")
    return f"langchain+file://{files}"


def openai_sqlite(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    path = folder / "o.db"
    url = openai_stores.made(path, {GOOD: [openai_stores.user(SAID)], bad: [text_of(payload)]})
    with openai_stores.changing(path) as connection:
        as_text(connection, "agent_messages", "message_data")
    return url


def openai_redis(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    for id, item in ((GOOD, json.dumps(openai_stores.user(SAID)).encode()), (bad, text_of(payload))):
        for name, value in (("session_id", id), ("created_at", "1715803200"), ("updated_at", "1715803200")):
            client.hset(f"agents:session:{id}", name, value)
        client.rpush(f"agents:session:{id}:messages", item)
    return f"openai-agents+{server}"


def adk_v1(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    path = folder / "a.db"
    with adk_stores.database(path, adk_stores.V1) as connection, connection:
        for id, data in ((GOOD, adk_stores.said(SAID)), (bad, text_of(payload))):
            adk_stores.add_session(connection, id)
            adk_stores.add_event(connection, id, "e1", data)
        as_text(connection, "events", "event_data")
    return f"adk+sqlite:///{path}"


def agno3(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    path = folder / "g.db"
    good = agno_stores.run_row(agno_stores.run("r1", SAID, session_id=GOOD), session_id=GOOD)
    torn = agno_stores.run_row({"run_id": "r2"}, session_id=bad, run_data=text_of(payload))
    url = agno_stores.agno3(path, [{"session_id": GOOD}, {"session_id": bad}], [good, torn])
    with closing(sqlite3.connect(path)) as connection, connection:
        as_text(connection, "agno_runs", "run_data")
    return url


def trpc_v1(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    for id, event in ((GOOD, trpc_event()), (bad, text_of(payload))):
        client.hset("sess:{shop}:ann", id, json.dumps({"id": id, "state": {}}))
        client.zadd(f"event:{{shop}}:ann:{id}", {event: 1.7e18})
    return f"trpc-agent+{server}"


def trpc_v2(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    for id, event in ((GOOD, trpc_event()), (bad, text_of(payload))):
        place = f"shop:{{ann}}:{id}"
        client.set(f"hashidx:meta:{place}", json.dumps({"id": id, "appName": "shop", "userID": "ann", "state": {}}))
        client.hset(f"hashidx:evtdata:{place}", "e1", event)
        client.zadd(f"hashidx:evtidx:time:{place}", {"e1": 1.7e18})
    return f"trpc-agent+{server}"


def trpc_event() -> bytes:
    message = {"role": "user", "content": SAID}
    told = {"id": "e1", "timestamp": "2024-05-15T20:00:00Z", "choices": [{"index": 0, "message": message}]}
    return json.dumps(told).encode()


def scoped(folder: Path, client: redis.Redis, server: str, bad: str, payload: Payload) -> str:
    event = json.dumps({"id": "e1", "role": "user", "content": SAID})
    for id, told in ((GOOD, event.encode()), (bad, text_of(payload))):
        client.hset("session:shop:ann", id, json.dumps({"id": id, "appName": "shop", "userId": "ann", "state": {}}))
        client.zadd(f"events:shop:ann:{id}", {told: 1.0})
    return f"scoped+{server}"


Maker = Callable[[Path, redis.Redis, str, str, Payload], str]
MAKERS: list[Maker] = [
    *(langchain_sql, langchain_redis, langchain_file, openai_sqlite, openai_redis),
    *(adk_v1, agno3, trpc_v1, trpc_v2, scoped),
]
PAYLOADS: dict[str, Payload] = {
    "torn": '{"role": "user", "content": "x',
    "nothing": "",
    "blank": " \n",
    "no object": "[1, 2]",
    "text": '"just a text"',
    "null": "null",
    "true": "true",
    "wrong types": '{"role": 1, "content": {"parts": "x"}, "type": [], "data": 7, "messages": {}, "choices": "x"}',
    "wrong inside": '{"role": [], "content": {"role": {}, "parts": [1, null, {"text": []}]}, "data": {"type": {}},'
    ' "choices": [null, {"message": 3}, {"message": {"role": "user", "tool_calls": [1, {"function": 2}]}}]}',
    "deep": '{"a": ' * 300 + "1" + "}" * 300,
    "deeper": "[" * 100_000,
    "long number": '{"n": ' + "9" * 5_000 + "}",
    "odd numbers": '{"role": "user", "content": "x", "n": [NaN, Infinity, -Infinity, 1e999, -0.0]}',
    "lone surrogate": '{"role": "user", "content": "\\ud800"}',
    "controls": '{"role": "user", "content": "\\u0000\\u001b[2J"}',
    "the same key": '{"role": "user", "role": "assistant", "content": "x"}',
    "no text": b'{"role": "user", "content": "\xff\xfe"}',
    "utf-16": json.dumps({"role": "user", "content": "x"}).encode("utf-16"),
    "a pickle": pickle.dumps({"role": "user", "content": "x"}, 4),
    "our own tags": '{"role": "user", "content": {"$type": "bytes", "value": "%%%"}}',
    "a wrapping": '{"format": "adk-v1", "value": {"event_data": "{"}}',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
async def test_what_is_damaged_harms_nothing_beside_it(
    make: Maker, payload: Payload, tmp_path: Path, empty_redis: redis.Redis, redis_server: str
) -> None:
    source, ours = make(tmp_path, empty_redis, redis_server, BAD, payload), f"sqlite:///{tmp_path}/ours.db"
    facts = await copied(source, ours)
    told = {item["id"]: item for item in facts["items"]}
    assert sum(counts(facts, "copied", "quarantined")) == 2, facts["items"]
    assert counts(facts, "mismatched", "conflict") == (0, 0)
    assert told.get(GOOD, {"outcome": "copied"})["outcome"] == "copied"
    assert (await said(ours))[GOOD] == [SAID]
    if facts["ledger"]["quarantined"]:
        assert told[BAD]["reasons"], "it is told why"
    again = await copied(source, ours)
    assert counts(again, "copied", "equal", "quarantined") == (0, *counts(facts, "copied", "quarantined"))


async def said(url: str) -> dict[str, list[Any]]:
    async with open_storage(url) as storage:
        keys = [visible_id(record) for record in await storage.list({"type": "session"})]
        events = SessionStorageAdapter(storage).events
        return {session_id_of(key): [each["content"] for each in await events.read(key)] for key in keys}


@pytest.mark.parametrize("size", [LIMIT + 1_000, 64 << 20], ids=["just", "64MiB"])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
async def test_what_is_too_large_is_quarantined(
    make: Maker, size: int, tmp_path: Path, empty_redis: redis.Redis, redis_server: str
) -> None:
    large = json.dumps({"role": "user", "content": "x" * size})
    source, ours = make(tmp_path, empty_redis, redis_server, BAD, large), f"sqlite:///{tmp_path}/ours.db"
    facts = await copied(source, ours)
    assert counts(facts, "copied", "quarantined") == (1, 1)
    [item] = [item for item in facts["items"] if item["outcome"] == "quarantined"]
    assert (item["id"], item["reasons"]) == (BAD, ["too_large"])
    assert await said(ours) == {GOOD: [SAID]}


@pytest.mark.parametrize(
    "id", ["a:b:c", "a/b/../c", "{a}{", "}:", "😀 é", "x" * 255, "%41", "messages", "*?[a]\\", " a ", "~a", "__proto__"]
)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
async def test_ids_survive(make: Maker, id: str, tmp_path: Path, empty_redis: redis.Redis, redis_server: str) -> None:
    source, ours = make(tmp_path, empty_redis, redis_server, id, "{}"), f"sqlite:///{tmp_path}/ours.db"
    facts = await copied(source, ours)
    found = await said(ours)
    assert found[GOOD] == [SAID]
    if make is langchain_file and len(id) > 200:
        return  # no file can be called so
    refused = {item["id"] for item in facts["items"] if item["outcome"] == "quarantined"}
    assert id in found or id in refused
    assert not refused or make is scoped, "only the hand-written layout leaves it open whose a key is"


@pytest.mark.parametrize("id", ["", " ", "a\nb", "a\x00b", "x" * 2_000])
@pytest.mark.parametrize(
    "make", [langchain_sql, langchain_redis, openai_sqlite, adk_v1, agno3, trpc_v2], ids=lambda make: make.__name__
)
async def test_ids_that_are_none_are_refused(
    make: Maker, id: str, tmp_path: Path, empty_redis: redis.Redis, redis_server: str
) -> None:
    source, ours = make(tmp_path, empty_redis, redis_server, id, "{}"), f"sqlite:///{tmp_path}/ours.db"
    facts = await copied(source, ours)
    assert await said(ours) == {GOOD: [SAID]}
    others = [item for item in facts["items"] if item["outcome"] in ("quarantined", "ignored")]
    assert others, "it is told"
    assert all(item["reasons"] for item in others)
