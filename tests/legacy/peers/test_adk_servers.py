"""Sessions of Google ADK on PostgreSQL and MySQL, in databases of the tests' own."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from legacy.migration import copy_store, inspect_place
from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter
from tests.engines import engine_url
from tests.legacy.peers.adk_stores import actions_of, hash_of, read_by_adk
from tests.legacy.peers.fixture_stores import FixtureStore
from tests.namespaces import mysql_connection, postgresql_connection
from tests.places import engines
from unified_storage import open_storage

DRIVERS = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy"}
V0 = """
    CREATE TABLE sessions (app_name VARCHAR(128), user_id VARCHAR(128), id VARCHAR(128), state {json},
        create_time {time}, update_time {time}, PRIMARY KEY (app_name, user_id, id));
    CREATE TABLE app_states (app_name VARCHAR(128) PRIMARY KEY, state {json}, update_time {time});
    CREATE TABLE user_states (app_name VARCHAR(128), user_id VARCHAR(128), state {json}, update_time {time},
        PRIMARY KEY (app_name, user_id));
    CREATE TABLE events (id VARCHAR(128), app_name VARCHAR(128), user_id VARCHAR(128), session_id VARCHAR(128),
        invocation_id VARCHAR(256), author VARCHAR(256), timestamp {time}, content {json}, actions {bytes},
        partial BOOLEAN, PRIMARY KEY (id, app_name, user_id, session_id))
"""
TYPES = {
    "postgresql": {"json": "JSONB", "time": "TIMESTAMP", "bytes": "BYTEA"},
    "mysql": {"json": "LONGTEXT", "time": "DATETIME(6)", "bytes": "LONGBLOB"},
}
ANN = SessionKey("shop", "ann", "s1")


@dataclass(frozen=True)
class Server:
    """A database that is gone afterwards."""

    engine: str
    url: str

    @property
    def named_for_adk(self) -> str:
        return self.url.replace(self.engine, DRIVERS[self.engine], 1)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """``await run(sql)`` there."""
    if url.startswith("postgresql"):
        async with postgresql_connection(url) as connection:
            yield connection.execute
        return
    async with mysql_connection(url) as connection, connection.cursor() as cursor:
        yield cursor.execute


@pytest.fixture(params=engines("postgresql", "mysql"))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    engine, name = request.param, f"peer_{secrets.token_hex(6)}"
    url = engine_url(engine)
    async with connected(url) as run:
        await run(f"CREATE DATABASE {name}")
        try:
            yield Server(engine, urlunsplit(urlsplit(url)._replace(path=f"/{name}", query="")))
        finally:
            await run(f"DROP DATABASE {name}")


async def test_adk_goes_on_with_what_was_written_on_a_server(server: Server, tmp_path: Path) -> None:
    fixture = FixtureStore("adk_v1")
    ours, back = f"sqlite:///{tmp_path}/ours.db", f"adk+{server.url}"
    source = fixture.copied_to(tmp_path)
    await copy_store(f"adk+sqlite:///{source}", ours)
    one = next(iter(fixture.conversations.values()))
    key = SessionKey(one["app_name"], one["user_id"], one["session_id"])
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        await events.append(key, {"role": "user", "content": "Tea? \U0001f375"})
        await events.append(key, {"role": "assistant", "content": "Yes"})
        await ScopedSessionService(storage).update_session_state(key, {"cart": ["tea", 1.0, 1e22, -0.0, 2**70]})
    report = await copy_store(ours, back)
    assert (report.ledger.verified, report.others.verified, report.exit_code) == (20, 22, 0)
    apps = {one["app_name"] for one in fixture.conversations.values()}
    found = read_by_adk("adk-v1", server.named_for_adk, apps, appends=True)
    original = read_by_adk("adk-v1", source, apps)
    for id, conversation in fixture.conversations.items():
        theirs = found[id]["events"][: conversation["events"]]
        assert theirs == original[id]["events"], "JSONB has an order of keys of its own"
        assert server.engine == "postgresql" or hash_of(theirs) == conversation["sha256"]
        assert [theirs[0]["timestamp"], theirs[-1]["timestamp"]] == [
            conversation["first_timestamp"],
            conversation["last_timestamp"],
        ]
        assert found[id]["events"][-1]["id"] == "appended-by-adk"
    added = found[one["session_id"]]["events"][one["events"] : -1]
    assert [event["content"]["parts"] for event in added] == [[{"text": "Tea? \U0001f375"}], [{"text": "Yes"}]]
    # and what ADK went on with is read by us again
    report = await copy_store(back, f"sqlite:///{tmp_path}/again.db")
    assert (report.ledger.copied, report.others.copied, report.exit_code) == (20, 22, 0)
    async with open_storage(f"sqlite:///{tmp_path}/again.db") as storage:
        read = await SessionStorageAdapter(storage).events.read(key)
        assert [event["content"] for event in read][-3:] == ["Tea? \U0001f375", "Yes", "And one more thing"]
    facts = await inspect_place(back)
    assert (facts.kind, facts.version, facts.sessions) == ("adk-v1", "1", 20)


async def test_v0_on_a_server_is_read_in_the_zone_of_its_writer(server: Server, tmp_path: Path) -> None:
    """There the library wrote all its times in that zone."""
    content = json.dumps({"parts": [{"text": "Hello"}], "role": "user"})
    actions = actions_of({"a": 1}).hex()
    pickled = f"'\\x{actions}'" if server.engine == "postgresql" else f"x'{actions}'"
    times = "'2024-05-15 16:00:00.000001', '2024-05-15 16:00:02'"
    async with connected(server.url) as run:
        for statement in V0.format(**TYPES[server.engine]).split(";"):
            await run(statement)
        await run(f"INSERT INTO sessions VALUES ('shop', 'ann', 's1', '{{\"step\": 1}}', {times})")
        for at, id in enumerate(("e2", "e1")):
            values = (
                f"'{id}', 'shop', 'ann', 's1', 'i1', 'user', '2024-05-15 16:00:0{at}', '{content}', {pickled}, false"
            )
            await run(f"INSERT INTO events VALUES ({values})")
    ours = f"sqlite:///{tmp_path}/ours.db"
    report = await copy_store(f"adk+{server.url}", ours, source_timezone="America/New_York")
    assert (report.ledger.copied, report.exit_code) == (1, 0)
    async with open_storage(ours) as storage:
        events = await SessionStorageAdapter(storage).events.read(ANN)
        (record,) = await storage.list({"type": "session"})
    assert [(event["id"], event["timestamp"]) for event in events] == [
        ("e2", "2024-05-15T20:00:00.000000+00:00"),
        ("e1", "2024-05-15T20:00:01.000000+00:00"),
    ]
    assert events[0]["state_delta"] == {"a": 1}
    assert record["created_at"].isoformat() == "2024-05-15T20:00:00.000001+00:00"


async def test_ids_that_differ_in_case_or_blanks_are_two(server: Server, tmp_path: Path) -> None:
    ours = f"sqlite:///{tmp_path}/ours.db"
    ids = ["a", "A", "\u00e4", "a\U0001f600", "b%", "b_"]
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        for id in ids:
            await service.create_session(SessionKey("shop", "ann", id), {"id": id})
    report = await copy_store(ours, f"adk+{server.url}")
    assert (report.ledger.verified, report.exit_code) == (len(ids), 0), [*report.items]
    found = read_by_adk("adk-v1", server.named_for_adk, ["shop"])
    assert {id: session["state"] for id, session in found.items()} == {id: {"id": id} for id in ids}


async def test_what_a_servers_columns_do_not_hold_is_quarantined(server: Server, tmp_path: Path) -> None:
    ours = f"sqlite:///{tmp_path}/ours.db"
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        await service.create_session(SessionKey("shop", "ann", "x" * 129))
        await service.create_session(SessionKey("shop", "ann", "good"))
    report = await copy_store(ours, f"adk+{server.url}")
    assert (report.ledger.copied, report.ledger.quarantined, report.exit_code) == (1, 1, 3)
