"""LangGraph's checkpoints: read as data, and given back as they came or not at all."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from session_adapter import SessionStorageAdapter
from tests.legacy.peers.fixture_stores import FixtureStore, canonical
from tests.legacy.peers.libraries import found_by
from tests.legacy.test_copy import copied, counts
from unified_storage import open_storage

ROWS = {
    "checkpoints": "thread_id, checkpoint_ns, checkpoint_id",
    "writes": "thread_id, checkpoint_ns, checkpoint_id, task_id, idx",
}


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


@pytest.fixture
def stored(fixtures_dir: Path) -> FixtureStore:
    return FixtureStore("langgraph_sqlite")


def rows(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
            for table, order in ROWS.items()
        }


async def test_every_row_comes_back_as_it_was(stored: FixtureStore, tmp_path: Path, ours: str) -> None:
    source, back = stored.copied_to(tmp_path), tmp_path / "back.db"
    await copied(f"langgraph+sqlite:///{source}", ours)
    facts = await copied(ours, f"langgraph+sqlite:///{back}")
    assert counts(facts, "copied", "mismatched", "quarantined") == (6, 0, 0)
    assert rows(back) == rows(source)
    again = await copied(ours, f"langgraph+sqlite:///{back}")
    assert counts(again, "equal") == (6,)


async def test_its_own_saver_reads_what_came_back(stored: FixtureStore, tmp_path: Path, ours: str) -> None:
    source, back = stored.copied_to(tmp_path), tmp_path / "back.db"
    await copied(source, ours)
    await copied(ours, f"langgraph+sqlite:///{back}")
    found = found_by("langgraph_threads.py", "langgraph.checkpoint.sqlite", str(back))
    of = canonical().canon_sha
    expected = {id: (one["sha256"], one["checkpoints"]) for id, one in stored.conversations.items()}
    assert {id: (of(one["messages"]), one["checkpoints"]) for id, one in found.items()} == expected


async def test_a_thread_that_went_on_here_is_not_written_over(stored: FixtureStore, tmp_path: Path, ours: str) -> None:
    source, back = stored.copied_to(tmp_path), tmp_path / "back.db"
    await copied(source, ours)
    first, second, *_ = sorted(stored.conversations)
    async with open_storage(ours) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.events.append(first, {"role": "user", "content": "And now?"})
        await sessions.update_session(second, {"state": {"step": 9}})
        await sessions.save_session("of ours", {"session_id": "of ours"})
    facts = await copied(ours, f"langgraph+sqlite:///{back}")
    refused = {item["id"]: item["reasons"][-1] for item in facts["items"] if item["outcome"] == "quarantined"}
    changed, new = "langgraph_changed", "not_of_langgraph"
    assert refused == {first: changed, second: changed, "of ours": new}
    assert counts(facts, "copied", "mismatched") == (4, 0)
    assert {thread for thread, *_ in rows(back)["checkpoints"]} == stored.conversations.keys() - {first, second}


# by hand


def packed(value: Any) -> bytes:
    """A little MessagePack."""
    match value:
        case None:
            return b"\xc0"
        case str():
            text = value.encode()
            return b"\xdb" + struct.pack(">I", len(text)) + text
        case bytes():
            return value
        case list():
            return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(packed, value))
        case dict():
            inner = b"".join(packed(key) + packed(one) for key, one in value.items())
            return b"\xdf" + struct.pack(">I", len(value)) + inner
        case int():
            return b"\xd3" + struct.pack(">q", value)
    raise TypeError(value)


def object_of(code: int, *told: Any) -> bytes:
    """An extension, as the library writes an object."""
    inner = packed([*told])
    return b"\xc9" + struct.pack(">IB", len(inner), code) + inner


def human(text: str) -> bytes:
    kwargs = {"content": text, "type": "human", "id": None}
    return object_of(5, "langchain_core.messages.human", "HumanMessage", kwargs, "model_validate_json")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


@pytest.fixture
def database(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(
            "CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',"
            " checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,"
            " PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id))"
        )
        connection.execute(
            "CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',"
            " checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL,"
            " type TEXT, value BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx))"
        )
        yield connection


def checkpoint(
    database: sqlite3.Connection, thread: str, id: str, content: Any, *, type: str = "msgpack", ns: str = ""
) -> None:
    blob = content if isinstance(content, bytes | str) else packed(content)
    row = (thread, ns, id, None, type, blob, b"{}")
    database.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def holding(**channels: Any) -> dict[str, Any]:
    return {"v": 4, "ts": "2024-05-15T20:00:00.123456+00:00", "channel_values": channels}


async def said(url: str, thread: str) -> list[tuple[str, Any]]:
    async with open_storage(url) as storage:
        return [(each["role"], each["content"]) for each in await SessionStorageAdapter(storage).events.read(thread)]


async def test_the_newest_checkpoint_of_the_thread_itself_counts(
    database: sqlite3.Connection, file: Path, ours: str
) -> None:
    checkpoint(database, "t", "1", holding(messages=[human("old")]))
    checkpoint(database, "t", "3", holding(messages=[human("new"), human("newer")], step=3))
    checkpoint(database, "t", "2", holding(messages=[human("between")]))
    checkpoint(database, "t", "9", holding(messages=[human("of a part")]), ns="part")
    database.execute("INSERT INTO writes VALUES ('t', '', '3', 'task', 0, 'messages', 'pickle', x'80049500')")
    checkpoint(database, "empty", "1", holding(step=1))
    snapshot = packed([human("s")])
    checkpoint(database, "snapshot", "1", holding(messages=b"\xc9" + struct.pack(">IB", len(snapshot), 7) + snapshot))
    facts = await copied(file, ours)
    assert counts(facts, "quarantined") == (0,)
    assert await said(ours, "t") == [("user", "new"), ("user", "newer")]
    assert await said(ours, "empty") == []
    assert await said(ours, "snapshot") == [("user", "s")]
    async with open_storage(ours) as storage:
        record = await storage.load("t")
        assert record is not None
        assert record["data"]["state"] == {"step": 3}
        assert record["updated_at"].isoformat() == "2024-05-15T20:00:00.123456+00:00"
        kept = [entry["body"] for entry in await storage.read("raw/t")]
    assert len([body for body in kept if body.get("list") == "checkpoints"]) == 4
    assert len([body for body in kept if body.get("list") == "writes"]) == 1
    back = file.with_name("back.db")
    assert counts(await copied(ours, f"langgraph+sqlite:///{back}"), "mismatched", "quarantined") == (0, 0)
    assert rows(back)["checkpoints"] == rows(file)["checkpoints"]
    [write] = rows(back)["writes"]  # whose table has a column more by now
    assert [write[:4] + write[5:]] == rows(file)["writes"]


async def test_messages_of_older_writers_are_read(database: sqlite3.Connection, file: Path, ours: str) -> None:
    spelled = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": "Hello", "type": "ai", "tool_calls": []},
    }
    checkpoint(
        database, "t", "1", json.dumps(holding(messages=[spelled, {"role": "user", "content": "Hi"}])), type="json"
    )
    await copied(file, ours)
    assert await said(ours, "t") == [("assistant", "Hello"), ("user", "Hi")]


async def test_nothing_that_is_told_to_be_built_is_built(
    database: sqlite3.Connection, file: Path, ours: str, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    evil = {
        "single": object_of(0, "os", "system", f"touch {witness}"),
        "positional": object_of(1, "subprocess", "check_call", [["touch", str(witness)]]),
        "keywords": object_of(2, "subprocess", "run", {"args": ["touch", str(witness)]}),
        "method": object_of(3, "pathlib", "Path", str(witness), "touch"),
        "pydantic": object_of(5, "os", "system", {"command": f"touch {witness}"}, "model_validate_json"),
        "unknown": b"\xc7\x01\x63\x00",
    }
    checkpoint(database, "t", "1", holding(messages=[*evil.values(), human("still here")], **evil))
    facts = await copied(file, ours)
    assert counts(facts, "copied") == (1,)
    assert not witness.exists()
    assert ("user", "still here") in await said(ours, "t")
    async with open_storage(ours) as storage:
        record = await storage.load("t")
    assert record is not None
    assert record["data"]["state"]["single"] == {"module": "os", "class": "system", "args": f"touch {witness}"}


@pytest.mark.parametrize(
    ("type", "content", "reason"),
    [
        ("pickle", b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", "pickle"),
        ("msgpack", b"", "invalid_checkpoint"),
        ("msgpack", b"\xdd\xff\xff\xff\xff", "invalid_checkpoint"),
        ("msgpack", b"\x91" * 5000, "invalid_checkpoint"),
        ("msgpack", packed([1]), "invalid_checkpoint"),
        ("msgpack", "text instead of bytes", "invalid_checkpoint"),
        ("json", "[" * 100_000, "invalid_checkpoint"),
        ("json", "{", "invalid_checkpoint"),
        ("bytes", b"{}", "unknown_checkpoint"),
        ("msgpack", packed(holding(x="y" * (16 << 20))), "too_large"),
    ],
    ids=["pickle", "nothing", "announced", "deep", "list", "text", "deep json", "torn json", "bytes", "large"],
)
async def test_what_cannot_be_read_is_quarantined(
    database: sqlite3.Connection, file: Path, ours: str, type: str, content: Any, reason: str
) -> None:
    checkpoint(database, "bad", "1", content, type=type)
    checkpoint(database, "good", "1", holding(messages=[human("Hello")]))
    facts = await copied(file, ours)
    assert counts(facts, "copied", "quarantined") == (1, 1)
    [item] = [item for item in facts["items"] if item["outcome"] == "quarantined"]
    assert (item["id"], item["reasons"]) == ("bad", [reason])
    assert await said(ours, "good") == [("user", "Hello")]
