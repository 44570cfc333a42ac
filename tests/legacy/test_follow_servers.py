"""`copy --follow` of databases on PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legacy.migration import copy_store
from session_adapter import SessionKey, SessionStorageAdapter
from tests.engines import engine_url, postgresql_connection
from tests.legacy.following import differing, followed_once
from tests.legacy.following import following as followed
from tests.legacy.peers.adk_stores import V1, add_event, add_session, said
from tests.legacy.peers.adk_stores import database as sqlite_database
from tests.legacy.peers.agno_stores import agno3, run, run_row
from tests.places import SERVERS, place_on

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("engine", SERVERS)
async def test_what_vanished_is_deleted_on_every_engine(tmp_path: Path, engine: str) -> None:
    """On a cluster too, whose records are not changed together."""
    with sqlite_database(tmp_path / "adk.db", V1) as connection:
        for id in ("a", "b", "c", "d"):
            add_session(connection, id)
        connection.execute("INSERT INTO app_states VALUES ('shop', '{\"open\": true}', '2024-05-15 20:00:00')")
    source = f"adk+sqlite:///{tmp_path}/adk.db"
    async with place_on(engine, tmp_path) as place:
        await followed_once(source, place.address)
        async with place.open() as storage:
            key = SessionKey("shop", "ann", "b")
            await SessionStorageAdapter(storage).events.append(key, {"role": "user", "content": "By others"})
        with sqlite_database(tmp_path / "adk.db") as connection:
            connection.execute("DELETE FROM sessions WHERE id < 'd'")
            connection.execute("DELETE FROM app_states")
        done = await followed_once(source, place.address, delete=True, max_delete=4)
        assert (done.deleted, done.copy.ledger.conflict) == (3, 1)
        async with place.open() as storage:
            assert await storage.count({"type": "session"}) == 2
            assert await storage.count({"type": "app_state"}) == 0
            assert await storage.count({"type": "_copy"}) == 2, "nothing is kept about what is gone"


@pytest.fixture
async def database() -> AsyncIterator[str]:
    """The URL of a database of the test's own."""
    url, name = engine_url("postgresql"), f"peer_{secrets.token_hex(6)}"
    async with postgresql_connection(url) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{url.rpartition('/')[0]}/{name}"
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_name_that_agno_changes_without_a_new_time_comes_over(tmp_path: Path, database: str) -> None:
    """On PostgreSQL its ``rename_session`` touches nothing but the name, whenever the session was last in use."""
    middle, target = f"sqlite:///{tmp_path}/middle.db", f"sqlite:///{tmp_path}/target.db"
    sessions = [{"session_id": f"s{at}"} for at in range(3)]
    (
        await copy_store(agno3(tmp_path / "agno.db", sessions, [run_row(run("r1", "Hi"), session_id="s0")]), middle)
    ).close()
    (await copy_store(middle, f"agno3+{database}")).close()
    source = f"agno+{database}"
    named = 'session_data || \'{"session_name": "new"}\''
    rename = f"UPDATE ai.agno_sessions SET session_data = {named} WHERE session_id = 's1'"
    async with followed(source, target) as watch, postgresql_connection(database) as connection:
        await watch.quiet()
        await connection.execute(rename)
        assert (await watch.until(lambda done: done.copied)).copied == 1
        await connection.execute("UPDATE ai.agno_runs SET status = 'PAUSED'")
        done = await watch.until(lambda done: done.copied)
        assert (done.read, done.copied) == (1, 1)
        assert (await watch.quiet()).read == 0
    assert await differing(source, target) == {}


async def test_events_and_states_of_adk_come_over(tmp_path: Path, database: str) -> None:
    middle, target = f"sqlite:///{tmp_path}/middle.db", f"sqlite:///{tmp_path}/target.db"
    with sqlite_database(tmp_path / "adk.db", V1) as connection:
        add_session(connection, "s1")
        add_event(connection, "s1", "e1", said("Hello"))
        connection.execute("INSERT INTO app_states VALUES ('shop', '{\"open\": true}', '2024-05-15 20:00:00')")
    (await copy_store(f"adk+sqlite:///{tmp_path}/adk.db", middle)).close()
    (await copy_store(middle, f"adk+{database}")).close()
    source = f"adk+{database}"
    async with followed(source, target, delete=True) as watch, postgresql_connection(database) as server:
        await watch.quiet()
        await server.execute("UPDATE app_states SET state = '{\"open\": false}'")
        assert (await watch.until(lambda done: done.copied)).copied == 1
        await server.execute("DELETE FROM app_states")
        assert (await watch.until(lambda done: done.deleted)).deleted == 1
        await server.execute(
            "INSERT INTO events SELECT 'e2', app_name, user_id, session_id, 'i2', timestamp, event_data FROM events"
        )
        assert (await watch.until(lambda done: done.copied)).copied == 1
        await watch.quiet()
    assert watch.ended.exit_code == 0
    assert await differing(source, target) == {}
