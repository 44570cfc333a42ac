"""agno-go's table on SQLite in all its states; what its library reads of it is in ``test_agno``."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import CopyReport, copy_store
from session_adapter import SessionStorageAdapter
from session_adapter.formats.agno_go import iso_time, sql_time
from session_adapter.timestamps import read_time
from tests.legacy.peers.agno_stores import run
from tests.legacy.peers.readers import agno_go
from unified_storage import open_storage

TABLE = """CREATE TABLE {} (session_id TEXT PRIMARY KEY, agent_id TEXT, team_id TEXT, workflow_id TEXT, user_id TEXT,
    name TEXT, metadata TEXT, state TEXT, agent_data TEXT, runs TEXT, summary TEXT, created_at DATETIME,
    updated_at DATETIME)"""
GO_RUN = {"run_id": "g", "status": "completed", "messages": [{"id": "m", "role": "user", "content": "Hello <b> & ü"}]}
ROW: dict[str, Any] = {
    "session_id": "s1",
    "user_id": "ann",
    "name": "N",
    **dict.fromkeys(("metadata", "state", "agent_data", "summary"), b"null"),
    "runs": b"[]",
    "created_at": "2024-05-15 20:00:00+00:00",
    "updated_at": "2024-05-15 20:01:00+00:00",
}


def store(path: Path, *rows: dict[str, Any], table: str = "sessions") -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(TABLE.format(table))
        for row in rows:
            values = {**ROW, **row}
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    return f"agno-go+sqlite:///{path}"


def selected(path: Path, select: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(select).fetchall()


async def copied(url: str, tmp_path: Path) -> CopyReport:
    return await copy_store(url, f"sqlite:///{tmp_path}/ours.db")


async def written_back(tmp_path: Path) -> Path:
    report = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno-go+sqlite:///{tmp_path}/back.db")
    assert report.ledger.verified == report.ledger.read, [*report.items]
    return tmp_path / "back.db"


async def test_every_spelling_of_a_column_comes_back(tmp_path: Path) -> None:
    """What is NULL, ``null``, no JSON, or escaped as Go does it stays so."""
    row = {
        "metadata": None,
        "state": b"null",
        "summary": b"{torn",
        "runs": b'[{"run_id":"g","messages":[{"role":"user","content":"\\u003cb\\u003e \\u0026 \xc3\xbc"}]}]',
        "created_at": "2024-05-15 22:00:00.5 +0200 CEST m=+0.01",
    }
    report = await copied(store(tmp_path / "go.db", row), tmp_path)
    assert {item.id: item.reasons for item in report.items} == {"s1": ("summary_invalid_json",)}
    back = await written_back(tmp_path)
    everything = "SELECT * FROM sessions"
    assert selected(back, everything) == selected(tmp_path / "go.db", everything)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        [event] = await SessionStorageAdapter(storage).events.read("s1")
        record = await storage.load("s1")
    assert event["content"] == "<b> & ü"
    assert record is not None
    assert record["created_at"].isoformat() == "2024-05-15T20:00:00.500000+00:00"


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("2024-05-15 20:00:00+00:00", "2024-05-15T20:00:00+00:00"),
        ("2026-11-21 00:54:09.424475649+00:00", "2026-11-21T00:54:09.424475+00:00"),
        ("2024-05-15T22:00:00.25+02:00", "2024-05-15T20:00:00.250000+00:00"),
        ("2024-05-15 20:00:00 +0000 UTC", "2024-05-15T20:00:00+00:00"),
        ("2024-05-15 16:00:00.000000001 -0400 EDT m=+3.5", "2024-05-15T20:00:00+00:00"),
        ("2024-05-15T20:00:00Z", "2024-05-15T20:00:00+00:00"),
    ],
)
def test_times_are_read_as_drivers_spell_them(told: str, moment: str) -> None:
    found = read_time(iso_time(told), None).moment
    assert found is not None
    assert found.isoformat() == moment
    assert read_time(iso_time(sql_time(found)), None).moment == found


async def test_runs_that_python_wrote_stand_beside_those_of_go(tmp_path: Path) -> None:
    runs = json.dumps([GO_RUN, run("p", "from Python", status="COMPLETED")]).encode()
    await copied(store(tmp_path / "go.db", {"runs": runs}), tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        events = await SessionStorageAdapter(storage).events.read("s1")
    assert [(event["run_id"], event["content"]) for event in events] == [("g", "Hello <b> & ü"), ("p", "from Python")]


async def test_a_message_goes_into_the_run_that_it_names(tmp_path: Path) -> None:
    await copied(store(tmp_path / "go.db", {"runs": json.dumps([GO_RUN, run("p", "x")]).encode()}), tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        said = {"role": "assistant", "content": "Hi", "run_id": "g", "usage": {"total_tokens": 3}}
        await SessionStorageAdapter(storage).events.append("s1", said)
    back = await written_back(tmp_path)
    [(stored,)] = selected(back, "SELECT runs FROM sessions")
    first, second = json.loads(stored)
    assert first["messages"][1] == {"role": "assistant", "content": "Hi", "metadata": {"usage": {"total_tokens": 3}}}
    assert second == run("p", "x")


async def test_go_reads_what_its_types_would_refuse_as_others_said_it(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("s1", {"session_id": "s1", "summary": {"summary": 5, "run_count": "many"}})
        odd = {"name": 5, "tool_call_id": [1], "metadata": "m", "reasoning_content": 1, "tool_calls": [{"name": "f"}]}
        await sessions.events.append("s1", [{"role": "user", "content": [{"text": "Hi"}], **odd}])
        await sessions.runs.append("s1", {"run_id": "r", "status": 7, "content": {}, "metadata": [], "messages": []})
    [found] = agno_go.conversations(await written_back(tmp_path)).values()
    assert [message["content"] for message in found["messages"]] == ['[{"text": "Hi"}]']
    assert found["summary"] == {"content": "5"}


@pytest.mark.parametrize("runs", [b"{torn", b'{"a": 1}', b'"text"', b"\xff"])
async def test_a_row_whose_runs_are_none_is_quarantined(tmp_path: Path, runs: bytes) -> None:
    report = await copied(store(tmp_path / "go.db", {"runs": runs}, {"session_id": "good"}), tmp_path)
    assert (report.ledger.copied, report.ledger.quarantined) == (1, 1)


async def test_a_table_of_another_name_is_found_and_made(tmp_path: Path) -> None:
    url = store(tmp_path / "go.db", {"runs": json.dumps([GO_RUN]).encode()}, table="mine")
    assert (await copied(url, tmp_path)).ledger.copied == 1
    await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno-go+sqlite:///{tmp_path}/new.db?tables=theirs")
    assert selected(tmp_path / "new.db", "SELECT session_id, name FROM theirs") == [("s1", "N")]
