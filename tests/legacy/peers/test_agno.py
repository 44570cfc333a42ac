"""agno's stores: what was read is written back as it was, and agno itself reads what went on in between."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import copy_store
from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter, Summaries
from session_adapter.models import Event
from tests.legacy.peers.fixture_stores import FixtureStore, canonical
from tests.legacy.peers.libraries import found_by
from tests.legacy.peers.readers import agno_go
from tests.session_adapter.summary_models import Told
from unified_storage import open_storage

WRITTEN = {"agno3": "agno3", "agno2": "agno2", "agno2_upgraded": "agno3", "agno1": "agno"}
"""Fixture store -> the form in which it is written again."""
TWO_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "And my bag?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_x", "type": "function", "function": {"name": "find_bag", "arguments": '{"of": "me"}'}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    },
    {"role": "tool", "content": "", "tool_call_id": "call_x", "name": "find_bag"},
    {"role": "assistant", "content": "It is here.", "timestamp": "2024-06-01T10:00:00.250000+00:00"},
    {"role": "user", "content": {"parts": [{"text": "Thanks"}]}},
    {"role": "assistant", "content": "Bye"},
]
KINDS = ("tau-airline-t00-r0", "tau-airline-t30-r0", "tau-retail-fs02")
"""One session of an agent, of a team, of a workflow."""


def agno_reads(url: str, *tables: str) -> dict[str, dict[str, Any]]:
    """What agno itself finds there, in a process of its own."""
    found: dict[str, dict[str, Any]] = found_by("agno_sessions.py", "agno", url, *tables)
    return found


def rows_of(path: Path, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of tables of a SQLite file by their first column, columns in the order of their names."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = {}
        for table in tables:
            names = sorted(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            found[table] = sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)
        return found


@contextmanager
def changed(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


async def there_and_back(source: Path, form: str, folder: Path) -> Path:
    """A copy of *source* that went through our storage, and was not changed there."""
    family = "agno-go" if "agno-go" in form else "agno"
    await copy_store(f"{family}+sqlite:///{source}", f"sqlite:///{folder}/ours.db")
    return await written(form, folder)


async def written(form: str, folder: Path) -> Path:
    report = await copy_store(f"sqlite:///{folder}/ours.db", f"{form}+sqlite:///{folder}/theirs.db")
    assert report.ledger.verified == report.ledger.copied == report.ledger.read, [*report.items]
    assert not (folder / "theirs.db-wal").exists()
    return folder / "theirs.db"


# the way back


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("agno3", ("agno_sessions", "agno_runs")),
        ("agno2", ("agno_sessions",)),
        ("agno2_upgraded", ("agno_runs",)),
    ],
)
async def test_what_was_not_changed_is_byte_for_byte_as_it_was(
    fixtures_dir: Path, tmp_path: Path, name: str, tables: tuple[str, ...]
) -> None:
    source = FixtureStore(name).copied_to(tmp_path)
    back = await there_and_back(source, WRITTEN[name], tmp_path)
    assert rows_of(back, *tables) == rows_of(source, *tables)


@pytest.mark.parametrize("name", WRITTEN)
async def test_agno_reads_what_was_written(fixtures_dir: Path, tmp_path: Path, name: str) -> None:
    store = FixtureStore(name)
    back = await there_and_back(store.copied_to(tmp_path), WRITTEN[name], tmp_path)
    found = agno_reads(f"sqlite:///{back}")
    assert {id: canonical().canon_sha(one["messages"]) for id, one in found.items()} == {
        id: one["sha256"] for id, one in store.conversations.items()
    }
    assert {id: one["type"] for id, one in found.items()} == {
        id: one["type"] for id, one in store.conversations.items()
    }


@pytest.mark.parametrize("name", ["agno3", "agno2", "agno2_upgraded"])
async def test_agno_reads_a_conversation_that_went_on(fixtures_dir: Path, tmp_path: Path, name: str) -> None:
    source = FixtureStore(name).copied_to(tmp_path)
    await copy_store(f"agno+sqlite:///{source}", f"sqlite:///{tmp_path}/ours.db")
    expected: dict[str, str] = {}
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        for id in KINDS:
            await sessions.events.append(id, TWO_TURNS)
            run = {"run_id": f"{id}-new", "status": "completed", "messages": TWO_TURNS[:1], "content": "done"}
            await sessions.runs.append(id, run)
            first = (await sessions.runs.read(id))[0]["run_id"]
            await sessions.events.append(id, {"role": "user", "content": "One more", "run_id": first, "id": "more"})
            await sessions.update_session(id, {"state": {"turns": 99}, "name": "Went on"})
            await Summaries(storage).update(id, Told())
            expected[id] = conversation_hash(in_runs(await sessions.events.read(id), first))
    back = await written(WRITTEN[name], tmp_path)
    found = agno_reads(f"sqlite:///{back}")
    assert {id: conversation_hash(found[id]["messages"]) for id in KINDS} == expected
    assert {found[id]["name"] for id in KINDS} == {"Went on"}
    assert {found[id]["state"]["turns"] for id in KINDS} == {99}
    assert {found[id]["summary"] for id in KINDS[:2]} == {"summary 1"}
    assert changed_runs(source, back) == {} if name == "agno2" else len(changed_runs(source, back)) == len(KINDS)


def in_runs(events: list[dict[str, Any]], first: str) -> list[dict[str, Any]]:
    """*events* in the order that runs give them: one added to the first run stands at that run's end."""
    added = [event for event in events if event["id"] == "more"]
    others = [event for event in events if event["id"] != "more"]
    at = sum(event["run_id"] == first for event in others)
    return [*others[:at], *added, *others[at:]]


def conversation_hash(messages: list[dict[str, Any]]) -> str:
    plain = [{**message, "content": as_text(message["content"])} for message in messages]
    return str(canonical().canon_sha(plain))


def as_text(content: Any) -> Any:
    return json.dumps(content, ensure_ascii=False) if isinstance(content, dict) else content


def changed_runs(before: Path, after: Path) -> dict[str, tuple[Any, ...]]:
    """The runs of *before* whose row is another one in *after*."""
    with closing(sqlite3.connect(before)) as one, closing(sqlite3.connect(after)) as other:
        if not one.execute("SELECT 1 FROM sqlite_master WHERE name = 'agno_runs'").fetchone():
            return {}
        rows = {row[0]: row for row in other.execute("SELECT * FROM agno_runs")}
        return {row[0]: row for row in one.execute("SELECT * FROM agno_runs") if rows[row[0]] != row}


async def test_agno_reads_sessions_that_never_were_its_own(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        for kind in ("agent", "team", "workflow"):
            document = {
                "session_id": kind,
                f"{kind}_id": f"the-{kind}",
                "name": kind.title(),
                "state": {"x": [1, None]},
            }
            await sessions.save_session(kind, document)
            await sessions.events.append(kind, TWO_TURNS)
        await sessions.save_session("other", {"session_id": "other", "kind": "chat", "summary": {"content": "Short"}})
        await sessions.events.append("other", [{"role": "user", "content": "Hi", "run_id": "r", "audio": "a.wav"}])
        await sessions.save_session("empty", {"session_id": "empty"})
        scoped = ScopedSessionService(storage)
        await scoped.create_session(SessionKey("shop", "ann", "s1"))
        await scoped.append_event(SessionKey("shop", "ann", "s1"), Event(role="user", content="Hello"))
    found = agno_reads(f"sqlite:///{await written('agno', tmp_path)}")
    assert {id: one["type"] for id, one in found.items()} == {
        **{kind: kind for kind in ("agent", "team", "workflow")},
        **dict.fromkeys(("other", "empty", "s1"), "agent"),
    }
    expected = conversation_hash(TWO_TURNS)
    assert {conversation_hash(found[kind]["messages"]) for kind in ("agent", "team", "workflow")} == {expected}
    assert (found["agent"]["name"], found["agent"]["state"], len(found["agent"]["runs"])) == (
        "Agent",
        {"x": [1, None]},
        2,
    )
    assert found["other"]["summary"] == "Short"
    assert (found["s1"]["user_id"], found["s1"]["messages"][0]["content"]) == ("ann", "Hello")
    assert found["empty"]["messages"] == []


NASTY: dict[str, Any] = {
    "role": "user",
    "content": {"parts": [{"text": "Hi"}]},
    "name": ["n"],
    "tool_call_id": 5,
    "run_id": "r",
    "tool_name": {},
    "tool_calls": ["none", {"name": "f", "args": [1]}],
    "usage": "much",
    "timestamp": "never",
    "created_at": "late",
    "stop_after_tool_call": "x",
    "author": "ann",
    "further": {},
    **dict.fromkeys(("audio", "images", "videos", "files", "audio_output", "citations", "references"), "odd"),
    **dict.fromkeys(("metrics", "provider_data", "reasoning_content", "tool_call_error", "temporary"), 3.5),
}
"""An event with nearly everything in another type than agno wants."""


async def test_agno_reads_whatever_others_said(tmp_path: Path) -> None:
    """No event or run makes a whole session unreadable to agno."""
    names = ("status", "input", "content", "metrics", "created_at", "model", "tools", "events", "error")
    run = dict.fromkeys(names, 5)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        for kind in ("agent", "team", "workflow"):
            await sessions.save_session(kind, {"session_id": kind, "kind": kind, "summary": {"summary": 3, "more": 1}})
            await sessions.events.append(kind, [NASTY, {"role": "assistant", "content": [1, None]}])
            await sessions.runs.append(
                kind, [run | {"run_id": "odd", "messages": [NASTY | {"id": 7}]}, {"run_id": "bare"}]
            )
    found = agno_reads(f"sqlite:///{await written('agno', tmp_path)}")
    contents = [json.dumps(NASTY["content"]), [1, None], json.dumps(NASTY["content"])]
    assert [[message["content"] for message in one["messages"]] for one in found.values()] == [contents] * 3


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("adk_v1", "adk"),
        ("openai_sqlite", "openai-agents"),
        ("langchain_sql", "langchain"),
        ("langgraph_sqlite", "langgraph"),
    ],
)
async def test_agno_and_agno_go_read_what_came_from_others(
    fixtures_dir: Path, tmp_path: Path, name: str, family: str
) -> None:
    store = FixtureStore(name)
    await copy_store(f"{family}+sqlite:///{store.copied_to(tmp_path)}", f"sqlite:///{tmp_path}/ours.db")
    expected = {id: one["sha256"] for id, one in store.conversations.items()}
    of_agno = agno_reads(f"sqlite:///{await written('agno', tmp_path)}")
    assert {id: conversation_hash(one["messages"]) for id, one in of_agno.items()} == expected
    (tmp_path / "theirs.db").unlink()
    of_go = agno_go.conversations(await written("agno-go", tmp_path))
    assert {id: conversation_hash(one["messages"]) for id, one in of_go.items()} == expected


async def test_what_agno_adds_to_a_written_store_is_read_again(fixtures_dir: Path, tmp_path: Path) -> None:
    """A store of ours is agno's own: its tables are made as it makes them."""
    source = FixtureStore("agno3").copied_to(tmp_path)
    back = await there_and_back(source, "agno3", tmp_path)
    for table in ("agno_sessions", "agno_runs", "agno_schema_versions"):
        assert columns_of(back, table) == columns_of(source, table)
    assert indexes_of(back) == indexes_of(source)
    with closing(sqlite3.connect(back)) as connection:
        versions = connection.execute("SELECT table_name, version FROM agno_schema_versions ORDER BY 1").fetchall()
    assert versions == [("agno_runs", "3.0.0"), ("agno_sessions", "3.0.0")]


def columns_of(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')").fetchall()


def indexes_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(sql for (sql,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'"))


# agno-go


async def test_agno_gos_rows_are_byte_for_byte_as_they_were(fixtures_dir: Path, tmp_path: Path) -> None:
    source = FixtureStore("agnogo_sqlite").copied_to(tmp_path)
    back = await there_and_back(source, "agno-go", tmp_path)
    assert rows_of(back, "sessions") == rows_of(source, "sessions")


async def test_agno_go_reads_a_conversation_that_went_on(fixtures_dir: Path, tmp_path: Path) -> None:
    store = FixtureStore("agnogo_sqlite")
    source = store.copied_to(tmp_path)
    id = "tau-airline-t00-r0"
    await copy_store(f"agno-go+sqlite:///{source}", f"sqlite:///{tmp_path}/ours.db")
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.events.append(id, TWO_TURNS)
        await Summaries(storage).update(id, Told())
        expected = conversation_hash(await sessions.events.read(id))
    found = agno_go.conversations(await written("agno-go", tmp_path))
    assert conversation_hash(found[id]["messages"]) == expected
    assert found[id]["summary"]["content"] == "summary 1"
    assert found[id]["statuses"][-2:] == ["completed", "completed"]
    others = {other: conversation_hash(one["messages"]) for other, one in found.items() if other != id}
    assert others == {other: one["sha256"] for other, one in store.conversations.items() if other != id}


async def test_agno_go_reads_what_agno_wrote(fixtures_dir: Path, tmp_path: Path) -> None:
    store = FixtureStore("agno3")
    await copy_store(f"agno+sqlite:///{store.copied_to(tmp_path)}", f"sqlite:///{tmp_path}/ours.db")
    found = agno_go.conversations(await written("agno-go", tmp_path))
    hashes = {id: canonical().canon_sha(one["messages"]) for id, one in found.items()}
    assert hashes == {id: one["sha256"] for id, one in store.conversations.items()}


async def test_agno_reads_what_agno_go_wrote(fixtures_dir: Path, tmp_path: Path) -> None:
    store = FixtureStore("agnogo_sqlite")
    await copy_store(f"agno-go+sqlite:///{store.copied_to(tmp_path)}", f"sqlite:///{tmp_path}/ours.db")
    found = agno_reads(f"sqlite:///{await written('agno', tmp_path)}")
    hashes = {id: canonical().canon_sha(one["messages"]) for id, one in found.items()}
    assert hashes == {id: one["sha256"] for id, one in store.conversations.items()}
