"""openai-agents: what its library wrote is copied, goes on here, and goes back to where the library reads it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from session_adapter import SessionStorageAdapter
from tests.legacy.peers.conftest import KEY
from tests.legacy.peers.fixture_stores import FixtureStore, canonical, load_dump
from tests.legacy.peers.libraries import found_by
from tests.legacy.test_copy import copied, counts
from unified_storage import open_storage

STORES = ("openai_sqlite", "openai_sqlalchemy", "openai_advanced", "openai_redis", "openai_encrypted")
SPOKEN: list[dict[str, Any]] = [
    {"role": "user", "content": "And a coffee?"},
    {
        "role": "assistant",
        "content": "One moment.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"what":"coffee"}'}},
            {"id": "c2", "type": "function", "function": {"name": "bill", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "ordered"},
    {"role": "tool", "tool_call_id": "c2", "content": ""},
    {"role": "assistant", "content": "There it is."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "You are welcome."},
]
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "And a coffee?"},
    {"role": "assistant", "content": "One moment."},
    {"type": "function_call", "call_id": "c1", "name": "order", "arguments": '{"what":"coffee"}'},
    {"type": "function_call", "call_id": "c2", "name": "bill", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "ordered"},
    {"type": "function_call_output", "call_id": "c2", "output": ""},
    {"role": "assistant", "content": "There it is."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "You are welcome."},
]
"""What the library is told of SPOKEN."""


def found_by_the_library(url: str, ids: Iterable[str], **options: str) -> dict[str, dict[str, Any]]:
    """What it reads in the store at *url*, in a process of its own."""
    word, _, rest = url.partition("+")
    kind = word.removeprefix("openai-").replace("encrypted", "redis" if rest.startswith("redis") else "sqlite")
    place = rest.partition("?")[0]
    if kind != "redis" and place.startswith("sqlite:///"):
        path = place.removeprefix("sqlite:///")
        place = f"sqlite+aiosqlite:///{path}" if kind == "sqlalchemy" else path
    told = [f"{name}={value}" for name, value in options.items()]
    found: dict[str, dict[str, Any]] = found_by("openai_agents.py", "agents", kind, place, *told, told=[*ids])
    return found


def conversation(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Items as messages of a chat, told apart from ours: a call joins the message right before it."""
    messages: list[dict[str, Any]] = []
    for item in items:
        if item.get("type") == "function_call":
            call = {"id": item["call_id"], "function": {"name": item["name"], "arguments": item["arguments"]}}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
        elif item.get("type") == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        else:
            content = item["content"]
            text = content if isinstance(content, str) else "".join(part["text"] for part in content)
            messages.append({"role": item["role"], "content": text})
    return messages


_WRITTEN: dict[str, dict[str, dict[str, Any]]] = {}


class Peer:
    """A store that the library wrote, where it is read, and an empty place of the same kind."""

    def __init__(self, store: FixtureStore, url: str, empty: str) -> None:
        self.store = store
        self.url = url
        self.empty = empty
        self.ids = [*store.conversations]
        key = store.manifest.get("encryption_key")
        self.options = {"key": key} if key else {}

    def as_the_library_wrote_it(self) -> dict[str, dict[str, Any]]:
        """Looked up once for all tests: that takes the library seconds."""
        if self.store.name not in _WRITTEN:
            _WRITTEN[self.store.name] = found_by_the_library(self.url, self.ids, **self.options)
        return _WRITTEN[self.store.name]

    def as_it_went_back(self, **options: str) -> dict[str, dict[str, Any]]:
        return found_by_the_library(self.empty, self.ids, **self.options, **options)


@pytest.fixture(params=STORES)
def peer(
    request: pytest.FixtureRequest, fixtures_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Peer]:
    store = FixtureStore(request.param)
    name = request.param.replace("_", "-")
    if store.lives_on == "redis":
        client: redis.Redis = request.getfixturevalue("empty_redis")
        server: str = request.getfixturevalue("redis_server")
        load_dump(client, store.dump())
        yield Peer(store, f"{name}+{server}", f"{name}+{server.removesuffix('/0')}/1")
        return
    monkeypatch.setenv(KEY, store.manifest.get("encryption_key") or "unused")
    query = f"?key_env={KEY}" if "encryption_key" in store.manifest else ""
    path = store.copied_to(tmp_path)
    yield Peer(store, f"{name}+sqlite:///{path}{query}", f"{name}+sqlite:///{tmp_path}/back.db{query}")


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


# there and back


async def test_the_library_finds_what_it_wrote(peer: Peer, ours: str) -> None:
    await copied(peer.url, ours)
    report = await copied(ours, peer.empty)
    assert counts(report, "copied", "verified", "mismatched") == (20, 20, 0), report["items"]
    assert report["lossy"] == {}
    assert counts(await copied(ours, peer.empty), "equal") == (20,)
    back = peer.as_it_went_back()
    assert back == peer.as_the_library_wrote_it()
    of = canonical()
    for id, told in peer.store.conversations.items():
        assert of.canon_sha(conversation(back[id]["items"])) == told["sha256"], id
        assert of.strict_sha(conversation(back[id]["items"])) == told["strict_sha256"], id


async def test_events_are_the_messages_of_the_manifest_also_strictly(peer: Peer, ours: str) -> None:
    await copied(peer.url, ours)
    of = canonical()
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        for id, told in peer.store.conversations.items():
            shown = await events.read(id)
            assert len(shown) == told["messages"]
            assert of.strict_sha(shown) == told["strict_sha256"], id
            entries = await storage.read(f"history/{id}")
            assert len(entries) == told["items"]


async def test_a_conversation_that_went_on_here_goes_back(peer: Peer, ours: str) -> None:
    await copied(peer.url, ours)
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        for id in peer.ids:
            await events.append(id, SPOKEN)
    report = await copied(ours, peer.empty)
    assert counts(report, "copied", "verified", "mismatched") == (20, 20, 0), report["items"]
    assert counts(await copied(ours, peer.empty), "equal") == (20,)
    before, back = peer.as_the_library_wrote_it(), peer.as_it_went_back(add="yes")
    for id in peer.ids:
        assert back[id]["items"] == [*before[id]["items"], *ITEMS]
        assert back[id]["added"] == [{"role": "user", "content": "One more"}]
        assert back[id]["popped"] == {"role": "user", "content": "One more"}
        assert back[id]["left"] == len(back[id]["items"])


async def test_it_goes_back_to_where_it_came_from(peer: Peer, ours: str) -> None:
    """What only the store itself knows of a session that did not change stays as it is."""
    await copied(peer.url, ours)
    assert counts(await copied(ours, peer.url), "equal", "conflict") == (20, 0)
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).events.append(peer.ids[0], SPOKEN)
    assert counts(await copied(ours, peer.url), "equal", "conflict") == (19, 1)
    report = await copied(ours, peer.url, overwrite_conflicts=True)
    assert counts(report, "equal", "copied", "mismatched") == (19, 1, 0)
    assert counts(await copied(ours, peer.url), "equal") == (20,)


@pytest.mark.parametrize("word", ["openai-sqlalchemy", "openai-advanced", "openai-redis", "openai-encrypted"])
async def test_another_class_of_the_library_takes_the_conversations_over(
    fixtures_dir: Path, tmp_path: Path, ours: str, word: str, request: pytest.FixtureRequest
) -> None:
    """Its turns and tools are those that the library itself would have noted."""
    store = FixtureStore("openai_sqlite")
    await copied(f"openai-agents+sqlite:///{store.copied_to(tmp_path)}", ours)
    key = {"key": "any text"} if word == "openai-encrypted" else {}
    request.getfixturevalue("monkeypatch").setenv(KEY, "any text")
    place = request.getfixturevalue("redis_server") if word == "openai-redis" else f"sqlite:///{tmp_path}/back.db"
    if word == "openai-redis":
        request.getfixturevalue("empty_redis")
    target = f"{word}+{place}" + (f"?key_env={KEY}" if key else "")
    assert counts(await copied(ours, target), "copied", "mismatched") == (20, 0)
    found = found_by_the_library(target, store.conversations, **key)
    of = canonical()
    for id, told in store.conversations.items():
        assert of.strict_sha(conversation(found[id]["items"])) == told["strict_sha256"]
    if word == "openai-advanced":
        written = FixtureStore("openai_advanced")
        by_itself = found_by_the_library(
            f"openai-advanced+sqlite:///{written.copied_to(tmp_path)}", store.conversations
        )
        for id in store.conversations:
            for name in ("by_turn", "tools"):
                assert found[id][name]["main"] == by_itself[id][name]["main"]


@pytest.mark.parametrize("peer", ["openai_sqlite", "openai_sqlalchemy", "openai_advanced"], indirect=True)
async def test_rows_are_the_same_to_the_byte(peer: Peer, ours: str) -> None:
    await copied(peer.url, ours)
    await copied(ours, peer.empty)
    assert rows_in(peer.empty) == rows_in(peer.url)


def rows_in(url: str) -> dict[str, list[Any]]:
    """The rows of every table, without the ids that another file gives them; what refers to one is resolved."""
    with sqlite3.connect(path_of(url)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, list[Any]] = {}
        for table in sorted({*tables} - {"sqlite_sequence"}):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            kept = [name for name in names if name not in ("id", "message_id")]
            item = ", (SELECT message_data FROM agent_messages WHERE id = message_id)" if "message_id" in names else ""
            rows = db.execute(f"SELECT {', '.join(kept)}{item} FROM {table}")
            found[table] = sorted(map(repr, rows))
        return found


def path_of(url: str) -> str:
    return url.partition("sqlite:///")[2].partition("?")[0]


def said(path: Path | str, session_id: str) -> list[str]:
    with sqlite3.connect(path) as db:
        select = "SELECT message_data FROM agent_messages WHERE session_id = ? ORDER BY id"
        return [text for (text,) in db.execute(select, (session_id,))]
