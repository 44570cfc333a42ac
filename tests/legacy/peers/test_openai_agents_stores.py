"""Stores of openai-agents: damage in them, their tables and keys by other names, times, branches, envelopes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

from legacy.migration import inspect_place
from legacy.stores.opening import open_source
from legacy.stores.peers.kinds import Unit
from legacy.stores.peers.openai_envelopes import Envelopes, NotAuthentic
from legacy.stores.peers.registry import open_to_read, opening_of
from legacy.stores.places import place_of
from session_adapter import SessionStorageAdapter
from tests.cli.running import run
from tests.legacy.peers.openai_stores import (
    LATER,
    TOLD,
    TYPED_TABLES,
    add_item,
    add_session,
    changing,
    made,
    user,
)
from tests.legacy.test_copy import copied, counts
from tests.support import scaled
from tests.unified_storage.redis.monitor import Monitor
from unified_storage import StorageConfigurationError, open_storage

SECRET = "a key of the tests"
CALL = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
SAID = {"role": "assistant", "content": [{"type": "output_text", "text": "Wait", "annotations": []}], "type": "message"}


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


async def shown(ours: str, id: str) -> list[tuple[str, Any]]:
    async with open_storage(ours) as storage:
        return [(event["role"], event["content"]) for event in await SessionStorageAdapter(storage).events.read(id)]


async def entries(ours: str, id: str) -> list[Any]:
    async with open_storage(ours) as storage:
        return [entry["body"]["value"] for entry in await storage.read(f"history/{id}")]


def reasons(facts: dict[str, Any]) -> dict[str | None, list[str]]:
    return {item["id"]: item["reasons"] for item in facts["items"] if item["reasons"]}


def texts(path: Path, id: str) -> list[Any]:
    with changing(path) as db:
        select = "SELECT message_data FROM agent_messages WHERE session_id = ? ORDER BY id"
        return [text for (text,) in db.execute(select, (id,))]


# damage


async def test_damaged_items_are_kept_and_told(tmp_path: Path, ours: str) -> None:
    """The library skips them; nothing is lost here, and nothing of them is shown."""
    deep = "[" * 300 + "]" * 300
    odd = ['{"role": "user", "content": "cut o', "", deep, "[" * 100_000, "9" * 5000, '"a text"', "[1]", "NaN", "5"]
    url = made(tmp_path / "theirs.db", {"s1": [user("Hello"), *odd, user("Bye")], "s2": [user("Hi")]})
    facts = await copied(url, ours)
    assert counts(facts, "copied", "quarantined") == (2, 0)
    assert await shown(ours, "s1") == [("user", "Hello"), ("user", "Bye")]
    assert set(reasons(facts)["s1"]) == {
        *("item_invalid_json", "item_empty_file", "item_nesting_too_deep", "item_number_too_long"),
    }
    assert "s2" not in reasons(facts)
    back = tmp_path / "back.db"
    facts = await copied(ours, f"openai-sqlite+sqlite:///{back}")
    assert counts(facts, "copied", "mismatched") == (2, 0), facts
    assert texts(back, "s1") == texts(tmp_path / "theirs.db", "s1")


async def test_what_cannot_be_stored_is_quarantined_and_the_rest_copied(
    tmp_path: Path, ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs.db"
    url = made(path, {"good": [user("Hello")], "big": [user("x" * (64 << 20))]})
    with changing(path) as db:
        add_session(db, None)
        for id in ("latin", "blob"):
            add_session(db, id)
        db.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('latin', CAST(x'7BFF7D' AS TEXT))")
        add_item(db, "blob", b'{"role": "user", "content": "as bytes"}')
        add_session(db, "x" * 255)
        add_session(db, "a\x00b")
        add_session(db, "y" * 1001)
        db.execute("INSERT INTO agent_sessions (session_id) VALUES (CAST(x'FFFE' AS TEXT))")
        db.execute("INSERT INTO agent_sessions (session_id) VALUES (x'6162')")
    ran = await asyncio.to_thread(run, capsys, "copy", url, ours, "--json")
    assert ran.code == 3
    facts = await copied(url, f"{ours}.2")
    assert counts(facts, "copied", "quarantined") == (3, 7)
    told = {item["id"]: item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined"}
    assert told.pop("big") == ["too_large"]
    assert told.pop("latin") == ["encoding"]
    assert told.pop(None) == ["no_session_id"]
    assert [*told.values()] == [["invalid_session_id"]] * 4
    assert await shown(f"{ours}.2", "blob") == [("user", "as bytes")]
    assert await shown(f"{ours}.2", "x" * 255) == []


async def test_items_whose_session_has_no_row_are_a_session_all_the_same(tmp_path: Path, ours: str) -> None:
    """The library reads them, whatever stands in the other table."""
    path = tmp_path / "theirs.db"
    url = made(path, {"s1": []})
    with changing(path) as db:
        add_item(db, "alone", user("Hello"))
    facts = await copied(url, ours)
    assert counts(facts, "copied") == (2,)
    assert reasons(facts) == {"alone": ["no_session_row", "created_at_unknown", "updated_at_unknown"]}
    assert await shown(ours, "alone") == [("user", "Hello")]
    assert await shown(ours, "s1") == []
    assert counts(await copied(ours, f"openai-sqlalchemy+sqlite:///{tmp_path}/back.db"), "copied") == (2,)


ODD_IDS = ["a:b", "a/b/../c", "{x}", "%2F", "🙂 é", "~tilde", "agents:session:x", "' OR 1=1 --", "e" * 255, "é" * 255]


async def test_odd_ids_survive(tmp_path: Path, ours: str) -> None:
    url = made(tmp_path / "theirs.db", {id: [user(f"I am {id[:9]}")] for id in ODD_IDS})
    assert counts(await copied(url, ours), "copied") == (len(ODD_IDS),)
    back = tmp_path / "back.db"
    assert counts(await copied(ours, f"openai-sqlite+sqlite:///{back}"), "copied", "mismatched") == (len(ODD_IDS), 0)
    for id in ODD_IDS:
        assert await shown(ours, id) == [("user", f"I am {id[:9]}")]
        assert texts(back, id) == [json.dumps(user(f"I am {id[:9]}"))]


async def test_an_answer_is_withdrawn_with_all_its_items(tmp_path: Path, ours: str) -> None:
    await copied(made(tmp_path / "theirs.db", {"s1": [user("Hello"), SAID, CALL, RESULT]}), ours)
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        assert [event["role"] for event in await events.read("s1", last=2)] == ["assistant", "tool"]
        for role in ("tool", "assistant"):
            popped = await events.pop("s1")
            assert popped is not None
            assert popped["role"] == role
        assert await events.read("s1", last=5) == await events.read("s1", limit=5)
    back = tmp_path / "back.db"
    assert counts(await copied(ours, f"openai-sqlite+sqlite:///{back}"), "mismatched") == (0,)
    assert texts(back, "s1") == [json.dumps(user("Hello"))]


PEERS = ("openai-sqlite", "openai-sqlalchemy", "openai-advanced", "openai-encrypted")


@pytest.mark.parametrize("first", PEERS)
@pytest.mark.parametrize("then", PEERS)
async def test_a_conversation_may_change_its_class(
    tmp_path: Path, ours: str, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    """Items are carried over as they are, from any class to any other."""
    monkeypatch.setenv("SECRET", SECRET)
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    items = [user("Hello"), thought, SAID, CALL, RESULT, user("Bye é")]
    await copied(made(tmp_path / "theirs.db", {"s1": items}), ours)
    one, other = (f"{word}+sqlite:///{tmp_path}/{word}.{at}?key_env=SECRET" for at, word in enumerate((first, then)))
    one, other = (url if "encrypted" in url else url.partition("?")[0] for url in (one, other))
    assert counts(await copied(ours, one), "copied", "mismatched") == (1, 0)
    assert counts(await copied(one, f"{ours}.2"), "copied") == (1,)
    assert counts(await copied(f"{ours}.2", other), "copied", "mismatched") == (1, 0)
    await copied(other, f"{ours}.3")
    assert [element["item"] for element in await entries(f"{ours}.3", "s1")] == items
    assert await shown(f"{ours}.3", "s1") == await shown(ours, "s1")


# times and order


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
async def test_times_are_utc_whatever_this_machine_thinks(tmp_path: Path, ours: str) -> None:
    url = made(tmp_path / "theirs.db", {"s1": [user("Hello")]})
    await copied(url, ours)
    async with open_storage(ours) as storage:
        record = await storage.load("s1", type="session")
        assert record is not None
        [event] = await SessionStorageAdapter(storage).events.read("s1")
    assert record["created_at"].isoformat() == "2024-05-15T20:37:00+00:00"
    assert record["updated_at"].isoformat() == "2024-05-15T20:38:00+00:00"
    assert event["timestamp"] == "2024-05-15T20:37:00.000000+00:00"


@pytest.mark.parametrize(
    "spelled", ["2024-05-15 20:37:00.000000", "2024-05-15T20:37:00Z", "yesterday", 1715805420, None, ""]
)
async def test_a_time_that_is_spelled_otherwise_goes_back_as_it_was(tmp_path: Path, ours: str, spelled: Any) -> None:
    path, back = tmp_path / "theirs.db", tmp_path / "back.db"
    url = made(path, {})
    with changing(path) as db:
        add_session(db, "s1")
        add_item(db, "s1", user("Hello"), spelled)
    await copied(url, ours)
    facts = await copied(ours, f"openai-sqlite+sqlite:///{back}")
    assert counts(facts, "copied", "mismatched") == (1, 0)
    with changing(back) as db:
        [(told,)] = db.execute("SELECT created_at FROM agent_messages")
    assert told == (TOLD if spelled is None else spelled)


async def test_sqlalchemys_items_stand_in_the_order_of_their_times(tmp_path: Path, ours: str) -> None:
    path, back = tmp_path / "theirs.db", tmp_path / "back.db"
    url = made(path, {}, TYPED_TABLES)
    with changing(path) as db:
        add_session(db, "s1")
        for text, told in (("third", f"{LATER}.000000"), ("first", TOLD), ("second", LATER)):
            add_item(db, "s1", user(text), told)
    await copied(url, ours)
    assert await shown(ours, "s1") == [("user", text) for text in ("first", "second", "third")]
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        for text, when in {"early": "2020-01-01T00:00:00Z", "same": "2024-05-15T20:38:00Z", "now": None}.items():
            await events.append("s1", {"role": "user", "content": text, "timestamp": when})
    facts = await copied(ours, f"openai-sqlalchemy+sqlite:///{back}")
    assert counts(facts, "copied", "mismatched") == (1, 0)
    with changing(back) as db:
        rows = db.execute("SELECT message_data FROM agent_messages ORDER BY created_at, id").fetchall()
    said = [json.loads(text)["content"] for (text,) in rows]
    assert said == ["first", "second", "third", "early", "same", "now"]


# places


async def test_tables_may_have_other_names(tmp_path: Path, ours: str) -> None:
    path = tmp_path / "theirs.db"
    made(path, {"s1": [user("of others")]})
    with changing(path) as db:
        db.executescript(
            "CREATE TABLE my_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP, updated_at TIMESTAMP);"
            "CREATE TABLE my_messages (id INTEGER PRIMARY KEY, session_id TEXT, message_data TEXT, created_at);"
        )
        insert = "INSERT INTO my_messages (session_id, message_data) VALUES ('s1', ?)"
        db.execute(insert, (json.dumps(user("mine")),))
    with pytest.raises(StorageConfigurationError, match="tables="):
        await copied(f"openai-agents+sqlite:///{path}", ours)
    await copied(f"openai-agents+sqlite:///{path}?tables=my_sessions,my_messages", ours)
    assert await shown(ours, "s1") == [("user", "mine")]
    with pytest.raises(StorageConfigurationError, match="names two"):
        await copied(f"openai-agents+sqlite:///{path}?tables=my_sessions", ours)


async def test_a_store_of_another_class_is_not_written_as_one_of_this(tmp_path: Path, ours: str) -> None:
    url = made(tmp_path / "theirs.db", {"s1": [user("Hello")]})
    await copied(url, ours)
    with pytest.raises(StorageConfigurationError, match="openai-sqlite"):
        await copied(ours, url.replace("openai-agents", "openai-advanced"))


async def test_where_no_such_tables_are_nothing_is_read(tmp_path: Path, ours: str) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(StorageConfigurationError):
        await copied(f"openai-agents+sqlite:///{tmp_path}/empty.db", ours)


# branches


ADVANCED = """
    CREATE TABLE message_structure (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
        message_id INTEGER NOT NULL, branch_id TEXT NOT NULL DEFAULT 'main', message_type TEXT NOT NULL,
        sequence_number INTEGER NOT NULL, user_turn_number INTEGER, branch_turn_number INTEGER, tool_name TEXT,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE turn_usage (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
        branch_id TEXT NOT NULL DEFAULT 'main', user_turn_number INTEGER NOT NULL, requests INTEGER DEFAULT 0,
        input_tokens INTEGER DEFAULT 0, output_tokens INTEGER DEFAULT 0, total_tokens INTEGER DEFAULT 0,
        input_tokens_details JSON, output_tokens_details JSON, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        UNIQUE(session_id, branch_id, user_turn_number));
"""
"""What an older library made: without reservations and generations."""


def branched(path: Path) -> str:
    """Two turns; the branch ``a/b@1`` takes the first, and says something else. One item is in no branch."""
    items = [user("One"), SAID, CALL, RESULT, user("Two"), user("Other two"), user("Nowhere")]
    url = made(path, {"s1": items, "s2": [user("Alone")]})
    places = [("main", number, number) for number in range(1, 6)]
    places += [("a/b@1", number, number + 5) for number in range(1, 5)] + [("a/b@1", 6, 10), ("main", 99, 11)]
    with changing(path) as db:
        db.executescript(ADVANCED)
        for branch, item, number in places:
            turn = 1 if item < 5 else 2
            row = ("s1", item, branch, "user" if item in (1, 5, 6) else "other", number, turn, turn)
            db.execute(
                "INSERT INTO message_structure (session_id, message_id, branch_id, message_type, sequence_number,"
                " user_turn_number, branch_turn_number) VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        db.execute("INSERT INTO message_structure VALUES (NULL, 's2', 8, 'main', 'user', 1, 1, 1, NULL, NULL)")
        db.execute(
            "INSERT INTO turn_usage (session_id, user_turn_number, requests, input_tokens_details)"
            " VALUES ('s1', 1, 2, '{\"cached_tokens\": 5}')"
        )
    return url


async def test_branches_are_logs_beside_the_conversation(tmp_path: Path, ours: str) -> None:
    facts = await copied(branched(tmp_path / "theirs.db"), ours)
    assert reasons(facts) == {"s1": ["place_without_item", "items_of_no_branch"]}
    assert await shown(ours, "s1") == [("user", "One"), ("assistant", "Wait"), ("tool", "3"), ("user", "Two")]
    async with open_storage(ours) as storage:
        log = await storage.read("branch:a%2Fb%401/s1")
        [_, *rows] = await storage.read("raw/s1")
    items = [entry["body"]["value"]["item"] for entry in log]
    assert items == [user("One"), SAID, CALL, RESULT, user("Other two")]
    assert {entry["body"]["format"] for entry in log} == {"openai-advanced"}
    lists = [(row["body"]["list"], row["body"]["value"]) for row in rows]
    assert [name for name, _ in lists] == ["turn_usage", "unplaced"]
    assert lists[0][1]["input_tokens_details"] == {"cached_tokens": 5}
    assert lists[1][1]["item"] == user("Nowhere")


async def test_a_branch_goes_on_and_goes_back_sharing_its_items(tmp_path: Path, ours: str) -> None:
    await copied(branched(tmp_path / "theirs.db"), ours)
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).events.append("s1", {"role": "user", "content": "Three"})
        said = {"role": "assistant", "content": "Other answer"}
        await storage.append("branch:a%2Fb%401/s1", [{"body": said}])
        await storage.append("branch:new/s1", [{"body": user("Brand new")}])
        await storage.append("track:a/s1", [{"body": {"no": "branch"}}])
    back = tmp_path / "back.db"
    facts = await copied(ours, f"openai-advanced+sqlite:///{back}")
    assert counts(facts, "copied", "mismatched") == (2, 0), facts
    assert facts["lossy"] == {"tracks": 1}
    assert counts(await copied(ours, f"openai-advanced+sqlite:///{back}"), "equal") == (2,)
    with changing(back) as db:
        select = (
            "SELECT branch_id, message_id, json_extract(message_data, '$.content'), branch_turn_number, message_type"
            " FROM message_structure AS s JOIN agent_messages AS m ON m.id = message_id WHERE s.session_id = 's1'"
            " ORDER BY branch_id, sequence_number"
        )
        rows = db.execute(select).fetchall()
        usage = db.execute("SELECT requests, input_tokens_details FROM turn_usage").fetchall()
        [(number,)] = db.execute("SELECT count(*) FROM agent_messages WHERE session_id = 's1'")
    places = {branch: [row[1] for row in rows if row[0] == branch] for branch in ("main", "a/b@1", "new")}
    assert places["main"][:4] == places["a/b@1"][:4], "shared rows stay shared"
    assert len({*places["main"], *places["a/b@1"], *places["new"]}) == number - 1, "and one is in no branch"
    assert [row[2:] for row in rows if row[0] == "main"][-2:] == [("Two", 2, "user"), ("Three", 3, "user")]
    assert [row[2:] for row in rows if row[0] == "a/b@1"][-2:] == [
        ("Other two", 2, "user"),
        ("Other answer", 2, "assistant"),
    ]
    assert [row[2:] for row in rows if row[0] == "new"] == [("Brand new", 1, "user")]
    assert usage == [(2, '{"cached_tokens": 5}')]


@pytest.mark.parametrize("word", ["openai-sqlite", "openai-sqlalchemy", "openai-advanced"])
async def test_one_branch_can_be_exported_and_imported(tmp_path: Path, ours: str, word: str) -> None:
    url = branched(tmp_path / "theirs.db")
    await copied(url, ours)
    back = f"{word}+sqlite:///{tmp_path}/back.db"
    facts = await copied(ours, f"{back}?branch=a/b@1")
    assert counts(facts, "copied", "mismatched") == (1, 0), facts
    await copied(back, f"{ours}.2")
    told = [("user", "One"), ("assistant", "Wait"), ("tool", "3"), ("user", "Other two")]
    assert await shown(f"{ours}.2", "s1") == told
    facts = await copied(f"{url}?branch=a/b@1", f"{ours}.3")
    assert await shown(f"{ours}.3", "s1") == told
    assert reasons(facts)["s2"] == ["no_such_branch"]


async def test_an_item_put_among_old_ones_keeps_its_place(tmp_path: Path, ours: str) -> None:
    await copied(branched(tmp_path / "theirs.db"), ours)
    async with open_storage(ours) as storage:
        old = await storage.read("history/s1")
        bodies = [{"body": entry["body"]} for entry in old]
        await storage.rewrite("history/s1", [bodies[0], {"body": user("Between")}, *bodies[1:]])
    back = f"openai-advanced+sqlite:///{tmp_path}/back.db"
    assert counts(await copied(ours, back), "mismatched") == (0,)
    await copied(back, f"{ours}.2")
    assert [text for _, text in await shown(f"{ours}.2", "s1")] == ["One", "Between", "Wait", "3", "Two"]


# envelopes


def sealed(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of which each item is encrypted, the first long ago; one is of another session, and one is plain."""
    monkeypatch.setenv("SECRET", SECRET)
    own = Envelopes(SECRET)

    def seal(item: Any, id: str = "s1", seconds: int = 1715805420) -> dict[str, Any]:
        return own.sealed(id, json.dumps(item, ensure_ascii=False, separators=(",", ":")), seconds)

    items = [seal(user("Zoë")), seal(CALL, seconds=1715805480), seal(user("Whose?"), "s2"), user("Plain")]
    cut = seal(user("Cut"))
    return made(path, {"s1": [*items, {**cut, "payload": cut["payload"][:-4]}, {**cut, "v": 2}, {**cut, "payload": 5}]})


async def test_with_the_key_items_are_read_and_sealed_again_at_their_time(
    tmp_path: Path, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, back = tmp_path / "theirs.db", tmp_path / "back.db"
    url = sealed(path, monkeypatch)
    facts = await copied(f"{url}?key_env=SECRET", ours)
    assert reasons(facts) == {"s1": ["not_authentic"]}
    assert await shown(ours, "s1") == [("user", "Zoë"), ("assistant", None), ("user", "Plain")]
    async with open_storage(ours) as storage:
        now = {"role": "user", "content": "Now", "timestamp": "2024-06-01T00:00:00Z"}
        await SessionStorageAdapter(storage).events.append("s1", now)
    facts = await copied(ours, f"openai-encrypted+sqlite:///{back}?key_env=SECRET")
    assert counts(facts, "copied", "mismatched") == (1, 0)
    before, after = ([json.loads(text) for text in texts(one, "s1")] for one in (path, back))
    own = Envelopes(SECRET)
    assert [own.opened("s1", after[at]) for at in (0, 1, 7)] == [
        ('{"role":"user","content":"Zoë"}', 1715805420),
        (json.dumps(CALL, separators=(",", ":")), 1715805480),
        ('{"role":"user","content":"Now"}', 1717200000),
    ]
    assert after[2:7] == before[2:7], "what nobody could open, and what was never sealed"


async def test_without_the_key_envelopes_travel_unopened_and_that_is_told(
    tmp_path: Path, ours: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, back = tmp_path / "theirs.db", tmp_path / "back.db"
    url = sealed(path, monkeypatch)
    ran = await asyncio.to_thread(run, capsys, "copy", url, ours)
    assert ran.code == 0
    assert "encrypted_without_key" in ran.out + ran.err
    assert await shown(ours, "s1") == [("user", "Plain")]
    facts = await copied(ours, f"openai-encrypted+sqlite:///{back}")
    assert counts(facts, "copied", "mismatched") == (1, 0)
    assert texts(back, "s1") == texts(path, "s1")
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).events.append("s1", user("New"))
    with pytest.raises(StorageConfigurationError, match="key_env"):
        await copied(ours, f"openai-encrypted+sqlite:///{back}", overwrite_conflicts=True)


async def test_what_was_encrypted_is_written_plain_where_that_is_asked_for(
    tmp_path: Path, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await copied(f"{sealed(tmp_path / 'theirs.db', monkeypatch)}?key_env=SECRET", ours)
    back = tmp_path / "back.db"
    assert counts(await copied(ours, f"openai-sqlite+sqlite:///{back}"), "copied", "mismatched") == (1, 0)
    assert texts(back, "s1")[:2] == [json.dumps(user("Zoë")), json.dumps(CALL)]


async def test_a_wrong_key_opens_nothing(tmp_path: Path, ours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = sealed(tmp_path / "theirs.db", monkeypatch)
    monkeypatch.setenv("SECRET", "another")
    facts = await copied(f"{url}?key_env=SECRET", ours)
    assert reasons(facts) == {"s1": ["not_authentic"]}
    assert await shown(ours, "s1") == [("user", "Plain")]


async def test_a_key_that_is_not_there_is_asked_for(tmp_path: Path, ours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = sealed(tmp_path / "theirs.db", monkeypatch)
    monkeypatch.delenv("SECRET")
    with pytest.raises(StorageConfigurationError, match="SECRET"):
        await copied(f"{url}?key_env=SECRET", ours)
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(StorageConfigurationError, match=r"pip install 'unified-storage\[crypto\]'"):
        await copied(f"{url}?key_env=SECRET", ours)


def test_a_key_is_32_bytes_in_base64_or_any_text() -> None:
    key = Fernet.generate_key().decode()
    envelope = Envelopes(key).sealed("s1", "Hello", 5)
    assert Envelopes(key).opened("s1", envelope) == ("Hello", 5)
    with pytest.raises(NotAuthentic):
        Envelopes(key.rstrip("=")).opened("s1", envelope)
    with pytest.raises(NotAuthentic):
        Envelopes(key).opened("s2", envelope)


# size


@pytest.mark.parametrize("sessions", [scaled(1_000, minimum=200), scaled(100_000, minimum=2_000)])
async def test_reading_takes_the_same_memory_for_any_number_of_sessions(tmp_path: Path, sessions: int) -> None:
    url = made(tmp_path / "theirs.db", {f"s{number}": [user("Hello"), SAID, CALL] for number in range(sessions)})
    store = await open_to_read(opening_of(url))
    tracemalloc.start()
    try:
        found = 0
        async for units in store.units():
            for at in range(0, len(units), 50):
                some = [unit for unit in units[at : at + 50] if isinstance(unit, Unit)]
                found += len(await store.read(some))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await store.close()
    assert found == sessions
    assert peak < 3 << 20


async def test_a_batch_of_sessions_is_read_with_few_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = made(tmp_path / "theirs.db", {f"s{number}": [user("Hello")] for number in range(120)})
    asked: list[str] = []
    connect = sqlite3.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr("legacy.stores.peers.rows.sqlite3.connect", connected)
    async with open_source(place_of(url)) as source:
        assert await source.survey() == 120
        asked.clear()
        parcels = [parcel async for batch in source.batches() for parcel in batch]
    assert len(parcels) == 120
    of_the_store = [sql for sql in asked if "agent_" in sql]
    assert len(of_the_store) == 6, "two for each fifty"


# Redis


def in_redis(client: redis.Redis, id: str, *items: Any, prefix: str = "agents:session") -> None:
    begin = f"{prefix}:{id}"
    client.hset(begin, mapping={"session_id": id, "created_at": "1715805420", "updated_at": "1715805480"})
    client.rpush(f"{begin}:messages", *(json.dumps(item, separators=(",", ":")) for item in items))


async def test_keys_of_ids_with_colons_are_told_apart(empty_redis: redis.Redis, redis_server: str, ours: str) -> None:
    ids = ["a", "b:messages", "a:counter", "messages", "2024:05:15", "x:messages:messages", "é*[1]?", "{tag}:1"]
    for id in ids:
        in_redis(empty_redis, id, user(f"I am {id}"))
    empty_redis.set("agents:session:a:counter:counter", "7")
    empty_redis.rpush("agents:session:listed:messages", json.dumps(user("without a hash")))
    in_redis(empty_redis, "nested", user("of another prefix"), prefix="agents:session:v2")
    empty_redis.sadd("agents:session:odd", "a set")
    before = {key: empty_redis.dump(key) for key in empty_redis.scan_iter()}
    facts = await copied(f"openai-agents+{redis_server}", ours)
    assert counts(facts, "copied", "quarantined") == (len(ids) + 1, 0)
    told = {item["file"]: item["reasons"] for item in facts["items"] if item["outcome"] == "ignored"}
    assert told == {"agents:session:odd": ["wrong_type"], "agents:session:v2:nested": ["other_prefix"]}
    for id in ids:
        assert await shown(ours, id) == [("user", f"I am {id}")]
    assert await shown(ours, "listed") == [("user", "without a hash")]
    assert {key: empty_redis.dump(key) for key in empty_redis.scan_iter()} == before
    back = f"openai-redis+{redis_server}?prefix=back"
    assert counts(await copied(ours, back), "copied", "mismatched") == (len(ids) + 1, 0)
    assert empty_redis.hget("back:a", "created_at") == b"1715805420"
    assert empty_redis.get("back:a:counter:counter") == b"7"
    assert empty_redis.lrange("back:b:messages:messages", 0, -1) == [b'{"role":"user","content":"I am b:messages"}']


async def test_what_expires_there_expires_here_and_back(empty_redis: redis.Redis, redis_server: str, ours: str) -> None:
    in_redis(empty_redis, "s1", user("Hello"))
    in_redis(empty_redis, "s2", user("Hello"))
    for key in ("agents:session:s1", "agents:session:s1:messages"):
        empty_redis.pexpireat(key, 4_102_444_800_123)
    await copied(f"openai-agents+{redis_server}", ours)
    async with open_storage(ours) as storage:
        times = {record["id"]: record["expires_at"] for record in await storage.list({"type": "session"})}
    assert times["s1"].isoformat() == "2100-01-01T00:00:00.123000+00:00"
    assert times["s2"] is None
    await copied(ours, f"openai-redis+{redis_server}?prefix=back")
    assert empty_redis.pexpiretime("back:s1") == empty_redis.pexpiretime("back:s1:messages") == 4_102_444_800_123
    assert empty_redis.pexpiretime("back:s2:messages") == -1


async def test_redis_is_only_read_until_it_is_written(empty_redis: redis.Redis, redis_server: str, ours: str) -> None:
    in_redis(empty_redis, "s1", user("Hello"))
    monitor = Monitor([empty_redis.connection_pool.connection_kwargs["port"]])
    async with monitor.listening() as told:
        await copied(f"openai-agents+{redis_server}", ours)
        facts = await inspect_place(f"openai-agents+{redis_server}")
    assert (facts.kind, facts.sessions) == ("openai-redis", 1)
    assert set(told.names()) <= {"SCAN", "TYPE", "HGET", "HGETALL", "LRANGE", "LINDEX", "GET", "PEXPIRETIME"}


async def test_encrypted_items_may_lie_in_redis(
    empty_redis: redis.Redis, redis_server: str, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    in_redis(empty_redis, "s1", Envelopes(SECRET).sealed("s1", json.dumps(user("Hello")), 1715805420))
    await copied(f"openai-agents+{redis_server}?key_env=SECRET", ours)
    assert await shown(ours, "s1") == [("user", "Hello")]
    back = f"openai-encrypted+{redis_server}?prefix=back&key_env=SECRET"
    assert counts(await copied(ours, back), "copied", "mismatched") == (1, 0)
    [text] = empty_redis.lrange("back:s1:messages", 0, -1)
    assert Envelopes(SECRET).opened("s1", json.loads(text)) == (json.dumps(user("Hello")), 1715805420)


async def test_a_session_whose_key_is_another_ones_is_refused(
    empty_redis: redis.Redis, redis_server: str, ours: str
) -> None:
    """The library refuses it too; nothing of the other session is touched."""
    ids = ["a", "a:messages", "b", "b:counter", "c:messages"]
    async with open_storage(ours) as storage:
        sessions = SessionStorageAdapter(storage)
        for id in ids:
            await sessions.save_session(id, {"session_id": id})
            await sessions.events.append(id, user(f"I am {id}"))
    in_redis(empty_redis, "c", user("was there"), prefix="p")
    target = f"openai-redis+{redis_server}?prefix=p"
    facts = await copied(ours, target)
    assert counts(facts, "copied", "quarantined", "mismatched") == (3, 2, 0)
    told = {item["id"]: item["outcome"] for item in facts["items"]}
    assert told == {
        "a": "copied",
        "a:messages": "quarantined",
        "b": "copied",
        "b:counter": "copied",
        "c:messages": "quarantined",
    }
    assert empty_redis.lrange("p:a:messages", 0, -1) == [b'{"role":"user","content":"I am a"}']
    assert empty_redis.lrange("p:b:counter:messages", 0, -1) == [b'{"role":"user","content":"I am b:counter"}']
    assert counts(await copied(ours, target), "equal", "quarantined") == (3, 2)
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).events.append("b", user("And more"))
    facts = await copied(ours, target, overwrite_conflicts=True)
    assert counts(facts, "copied", "equal", "quarantined", "mismatched") == (1, 2, 2, 0)
    assert empty_redis.hget("p:b:counter", "session_id") == b"b:counter"
    assert empty_redis.lrange("p:c:messages", 0, -1) == [b'{"role":"user","content":"was there"}']


async def test_what_has_no_time_is_sealed_at_that_of_its_session(
    empty_redis: redis.Redis, redis_server: str, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed long ago, as it was said, but not in 1970: the library drops what is older than its ``ttl``."""
    monkeypatch.setenv("SECRET", SECRET)
    in_redis(empty_redis, "s1", user("Hello"))
    await copied(f"openai-agents+{redis_server}", ours)
    async with open_storage(ours) as storage:
        early = {"role": "user", "content": "Early", "timestamp": "1960-01-01T00:00:00Z"}
        await SessionStorageAdapter(storage).events.append("s1", early)
    back = f"openai-encrypted+{redis_server}?prefix=back&key_env=SECRET"
    assert counts(await copied(ours, back), "copied", "mismatched") == (1, 0)
    envelopes = [json.loads(text) for text in empty_redis.lrange("back:s1:messages", 0, -1)]
    assert [Envelopes(SECRET).opened("s1", one)[1] for one in envelopes] == [1715805420, 0]
