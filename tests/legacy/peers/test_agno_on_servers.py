"""agno's and agno-go's stores on PostgreSQL, where their JSON lies in JSONB."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import copy_store, inspect_place
from session_adapter import SessionStorageAdapter
from tests.engines import engine_url, postgresql_connection
from tests.legacy.peers.agno_stores import agno3, run, run_row
from tests.legacy.peers.conftest import load_rows
from tests.legacy.peers.fixture_stores import FixtureStore, canonical
from tests.legacy.peers.readers import agno_go
from tests.legacy.peers.test_agno import KINDS, TWO_TURNS, agno_reads, conversation_hash
from unified_storage import open_storage


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


def for_sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


async def hashes(url: str) -> dict[str, str]:
    async with open_storage(url) as storage:
        events = SessionStorageAdapter(storage).events
        ids = [record["id"] for record in await storage.list({"type": "session"})]
        return {id: canonical().canon_sha(await events.read(id)) for id in ids}


@pytest.mark.parametrize("form", ["agno3", "agno2"])
async def test_a_store_is_made_there_as_agno_makes_it(
    fixtures_dir: Path, tmp_path: Path, database: str, form: str
) -> None:
    """Written, read by agno itself, read again by us, all of it the same; also after the conversation went on."""
    store = FixtureStore(form)
    ours = f"sqlite:///{tmp_path}/ours.db"
    await copy_store(f"agno+sqlite:///{store.copied_to(tmp_path)}", ours)
    async with open_storage(ours) as storage:
        for id in KINDS:
            await SessionStorageAdapter(storage).events.append(id, TWO_TURNS[:4])
    written = await copy_store(ours, f"{form}+{database}")
    assert written.ledger.verified == written.ledger.copied == 20, [*written.items]
    facts = await inspect_place(f"agno+{database}")
    assert (facts.kind, facts.sessions) == (form, 20)
    if form == "agno3":
        found = agno_reads(for_sqlalchemy(database))
        expected = await hashes(ours)
        assert {id: conversation_hash(one["messages"]) for id, one in found.items()} == expected
    again = f"sqlite:///{tmp_path}/again.db"
    read = await copy_store(f"agno+{database}", again)
    assert read.ledger.verified == 20
    assert await hashes(again) == await hashes(ours)
    assert (await copy_store(ours, f"{form}+{database}")).ledger.equal == 20


async def test_runs_without_an_index_keep_their_place(tmp_path: Path, database: str) -> None:
    """SQLite sorts them before all others, PostgreSQL behind them."""
    rows = [run_row(run("a", "1"), None), run_row(run("b", "2"), 0), run_row(run("c", "3"), 1)]
    ours = f"sqlite:///{tmp_path}/ours.db"
    await copy_store(agno3(tmp_path / "agno.db", [{}], rows), ours)
    report = await copy_store(ours, f"agno3+{database}")
    assert (report.ledger.verified, report.ledger.mismatched) == (1, 0), [*report.items]
    found = agno_reads(for_sqlalchemy(database))
    assert [message["content"] for message in found["s1"]["messages"]] == ["1", "2", "3"]
    back = f"agno3+sqlite:///{tmp_path}/back.db"
    assert (await copy_store(f"agno+{database}", back)).ledger.verified == 1
    assert [message["content"] for message in agno_reads(back[6:])["s1"]["messages"]] == ["1", "2", "3"]


async def test_agno_finds_its_tables_in_its_schema(tmp_path: Path, database: str) -> None:
    await copy_store(agno3(tmp_path / "agno.db", [{}], [run_row(run("a", "x"))]), f"sqlite:///{tmp_path}/ours.db")
    await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno+{database}")
    async with postgresql_connection(database) as connection:
        tables = await connection.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'ai'")
    assert {row["table_name"] for row in tables} == {"agno_sessions", "agno_runs", "agno_schema_versions"}


@pytest.mark.parametrize("form", ["agno3", "agno2", "agno-go", "agno-go-service"])
async def test_what_jsonb_does_not_take_is_refused_and_the_rest_written(
    tmp_path: Path, database: str, form: str
) -> None:
    states: dict[str, Any] = {"nul": "a\0b", "infinite": float("inf"), "lone": "\ud800", "good": "a\\u0000b"}
    ours = f"sqlite:///{tmp_path}/ours.db"
    async with open_storage(ours) as storage:
        for id, value in states.items():
            await SessionStorageAdapter(storage).save_session(id, {"session_id": id, "state": {"x": value}})
        await SessionStorageAdapter(storage).save_session("name", {"session_id": "name", "user_id": "a\0"})
    report = await copy_store(ours, f"{form}+{database}")
    assert {item.id: item.outcome for item in report.items if item.outcome != "copied"} == dict.fromkeys(
        ("nul", "infinite", "lone", "name"), "quarantined"
    )
    assert report.ledger.verified == 1


async def test_the_rows_of_agno_gos_service_come_back_as_they_were(
    fixtures_dir: Path, tmp_path: Path, database: str
) -> None:
    store = FixtureStore("agnogo_postgres")
    async with postgresql_connection(database) as connection:
        await connection.execute("CREATE SCHEMA theirs")
        await load_rows(database, "theirs", store)
        ours = f"sqlite:///{tmp_path}/ours.db"
        await copy_store(f"agno-go+{database}?tables=theirs.agno_sessions", ours)
        back = await copy_store(ours, f"agno-go-service+{database}?tables=agno_sessions")
        assert back.ledger.verified == 20, [*back.items]
        theirs = [dict(row) for row in await connection.fetch("SELECT * FROM theirs.agno_sessions ORDER BY session_id")]
        written = [dict(row) for row in await connection.fetch("SELECT * FROM agno_sessions ORDER BY session_id")]
    assert written == theirs


async def test_agno_go_reads_its_librarys_table(fixtures_dir: Path, tmp_path: Path, database: str) -> None:
    store = FixtureStore("agnogo_sqlite")
    ours = f"sqlite:///{tmp_path}/ours.db"
    await copy_store(f"agno-go+sqlite:///{store.copied_to(tmp_path)}", ours)
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).events.append(KINDS[0], TWO_TURNS[:4])
    assert (await copy_store(ours, f"agno-go+{database}")).ledger.verified == 20
    async with postgresql_connection(database) as connection:
        rows = await connection.fetch("SELECT * FROM agno_agentos_sessions")
    found = {row["session_id"]: agno_go.conversation(dict(row)) for row in rows}
    assert {id: conversation_hash(one["messages"]) for id, one in found.items()} == await hashes(ours)
    again = f"sqlite:///{tmp_path}/again.db"
    assert (await copy_store(f"agno-go+{database}", again)).ledger.verified == 20
    assert await hashes(again) == await hashes(ours)
