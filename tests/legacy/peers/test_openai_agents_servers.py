"""SQLAlchemySession's tables on servers: written here, read and gone on with by the library, and read again."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from legacy.stores.peers.registry import opening_of
from legacy.stores.peers.rows import Rows, open_rows
from session_adapter import SessionStorageAdapter
from tests.engines import engine_url
from tests.legacy.peers.fixture_stores import FixtureStore, canonical
from tests.legacy.peers.openai_stores import made, user
from tests.legacy.peers.test_openai_agents import ITEMS, SPOKEN, conversation, found_by_the_library
from tests.legacy.test_copy import copied, counts
from tests.places import engines
from unified_storage import open_storage

DRIVERS = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy"}


class Server:
    """Two tables of their own on a server."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.place = engine_url(engine)
        name = f"peer_{secrets.token_hex(6)}"
        self.sessions, self.items = f"{name}_sessions", f"{name}_items"
        self.url = f"openai-sqlalchemy+{self.place}?tables={self.sessions},{self.items}"

    def found_by_the_library(self, ids: Any, **options: str) -> dict[str, dict[str, Any]]:
        place = self.place.replace(self.place.partition("://")[0], DRIVERS[self.engine], 1)
        tables = {"sessions_table": self.sessions, "messages_table": self.items}
        return found_by_the_library(f"openai-sqlalchemy+{place}", ids, **tables, **options)

    async def rows(self) -> Rows:
        return await open_rows(replace(opening_of(self.url), to_write=True))

    async def execute(self, *statements: str) -> None:
        rows = await self.rows()
        try:
            for statement in statements:
                async with rows.written():
                    await rows.execute(statement)
        finally:
            await rows.close()


@pytest.fixture(params=engines("postgresql", "mysql"))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    server = Server(request.param)
    try:
        yield server
    finally:
        await server.execute(f"DROP TABLE IF EXISTS {server.items}", f"DROP TABLE IF EXISTS {server.sessions}")


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


async def test_a_store_moves_to_a_server_and_the_library_goes_on_with_it(
    server: Server, fixtures_dir: Path, tmp_path: Path, ours: str
) -> None:
    store = FixtureStore("openai_sqlite")
    ids = [*store.conversations]
    await copied(f"openai-agents+sqlite:///{store.copied_to(tmp_path)}", ours)
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).events.append(ids[0], SPOKEN)
        times = {record["id"]: record["created_at"] for record in await storage.list({"type": "session"})}
    report = await copied(ours, server.url)
    assert counts(report, "copied", "verified", "mismatched") == (20, 20, 0), report["items"]
    assert counts(await copied(ours, server.url), "equal") == (20,)
    found = server.found_by_the_library(ids, add="yes")
    of = canonical()
    for id, told in store.conversations.items():
        items = found[id]["items"]
        if id == ids[0]:
            assert items[-len(ITEMS) :] == ITEMS
            items = items[: -len(ITEMS)]
        assert of.strict_sha(conversation(items)) == told["strict_sha256"], id
        assert found[id]["added"] == [user("One more")]
    facts = await copied(server.url, f"{ours}.2")
    assert counts(facts, "copied", "quarantined") == (20, 0)
    async with open_storage(f"{ours}.2") as storage:
        assert {record["id"]: record["created_at"] for record in await storage.list({"type": "session"})} == times
        events = SessionStorageAdapter(storage).events
        for id, told in store.conversations.items():
            shown = await events.read(id)
            assert of.canon_sha(shown[: told["messages"]]) == told["sha256"], id


async def test_odd_ids_and_times_survive_on_a_server(server: Server, tmp_path: Path, ours: str) -> None:
    ids = ["a:b", "{x}", "%s ? $1", "🙂 é", "É", "' OR 1=1 --", "e" * 255]
    await copied(made(tmp_path / "theirs.db", {id: [user(f"I am {id[:9]}"), "{cut"] for id in ids}), ours)
    facts = await copied(ours, server.url)
    assert counts(facts, "copied", "mismatched", "quarantined") == (len(ids), 0, 0), facts["items"]
    assert counts(await copied(server.url, f"{ours}.2"), "copied") == (len(ids),)
    async with open_storage(f"{ours}.2") as storage:
        events = SessionStorageAdapter(storage).events
        for id in ids:
            [event] = await events.read(id)
            assert (event["content"], event["timestamp"]) == (f"I am {id[:9]}", "2024-05-15T20:37:00.000000+00:00")


async def test_an_id_that_has_no_place_is_refused_by_name(server: Server, tmp_path: Path, ours: str) -> None:
    ids = ["e" * 256, "blank ", "blank"]
    await copied(made(tmp_path / "theirs.db", {id: [user("Hello")] for id in ids}), ours)
    facts = await copied(ours, server.url)
    refused = ids[:2] if server.engine == "mysql" else []
    assert counts(facts, "copied", "mismatched") == (3 - len(refused), 0)
    told = {item["id"]: item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined"}
    assert told == {id: ["not_storable"] for id in refused}


async def test_ids_that_the_tables_take_for_one_are_one_session(server: Server, tmp_path: Path, ours: str) -> None:
    """As the library reads them: in tables that somebody made with MySQL's usual collation."""
    if server.engine != "mysql":
        pytest.skip("others tell them apart")
    await server.execute(
        f"CREATE TABLE {server.sessions} (session_id VARCHAR(255) PRIMARY KEY, created_at TIMESTAMP NOT NULL,"
        " updated_at TIMESTAMP NOT NULL) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        f"CREATE TABLE {server.items} (id INTEGER AUTO_INCREMENT PRIMARY KEY, session_id VARCHAR(255) NOT NULL,"
        " message_data TEXT NOT NULL, created_at TIMESTAMP NOT NULL)"
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        f"INSERT INTO {server.sessions} VALUES ('Ann', now(), now())",
        *(
            f"INSERT INTO {server.items} (session_id, message_data, created_at)"
            f""" VALUES ('{id}', '{{"role": "user", "content": "{id}"}}', now())"""
            for id in ("Ann", "ÄNN")
        ),
    )
    assert counts(await copied(server.url, ours), "copied", "quarantined") == (1, 0)
    async with open_storage(ours) as storage:
        assert [event["content"] for event in await SessionStorageAdapter(storage).events.read("Ann")] == ["Ann", "ÄNN"]


async def test_wall_times_of_postgresql_are_those_of_its_zone(server: Server, tmp_path: Path, ours: str) -> None:
    """The library lets the server cut CURRENT_TIMESTAMP to a wall time."""
    if server.engine != "postgresql":
        pytest.skip("MySQL's TIMESTAMP is a moment")
    await copied(made(tmp_path / "theirs.db", {"s1": [user("Hello")]}), ours)
    await copied(ours, server.url)
    await server.execute(f"UPDATE {server.sessions} SET created_at = TIMESTAMP '2024-05-15 20:37:00.123456'")
    await copied(server.url, f"{ours}.2", source_timezone="America/New_York")
    async with open_storage(f"{ours}.2") as storage:
        record = await storage.load("s1", type="session")
    assert record is not None
    assert record["created_at"].isoformat() == "2024-05-16T00:37:00.123456+00:00"


async def test_what_a_server_cannot_hold_is_quarantined(server: Server, tmp_path: Path, ours: str) -> None:
    theirs: dict[str, list[Any]] = {"nul": ["{\0"], "fine": [user("with \0 in it")]}
    await copied(made(tmp_path / "theirs.db", theirs), ours)
    async with open_storage(ours) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("early", {"session_id": "early"})
        await sessions.events.append("early", {"role": "user", "content": "x", "timestamp": "1960-01-01T00:00:00Z"})
    refused = {"postgresql": "nul", "mysql": "early"}[server.engine]
    facts = await copied(ours, server.url)
    assert counts(facts, "copied", "quarantined", "mismatched") == (2, 1, 0)
    assert [item["id"] for item in facts["items"] if item["outcome"] == "quarantined"] == [refused]
    assert counts(await copied(ours, server.url), "equal", "quarantined") == (2, 1)
