"""What others have written is told to agents as items, and what agents wrote everything else reads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents.memory import SQLiteSession

from legacy.migration.copy import copy_store
from session_adapter import (
    Event,
    ScopedSessionService,
    SessionKey,
    SessionRepository,
    SessionStorageAdapter,
    UserKey,
)
from session_bridges.openai_agents import UnifiedSession
from tests.places import Place, engines
from tests.session_api.clients import client_of, database
from unified_storage import open_storage

ANSWER: list[Any] = [
    {"role": "assistant", "content": "I look it up"},
    {"type": "function_call", "call_id": "c1", "name": "price", "arguments": '{"of": "tea"}'},
    {"type": "function_call", "call_id": "c2", "name": "price", "arguments": '{"of": "milk"}'},
]
RESULTS: list[Any] = [
    {"type": "function_call_output", "call_id": "c1", "output": "3"},
    {"type": "function_call_output", "call_id": "c2", "output": "4"},
]
TALK: list[Any] = [{"role": "user", "content": "Tea or milk?"}, *ANSWER, *RESULTS]
NOT_READ = ["{broken", ""]
SPELLED_ELSEHOW = '{"content":"Tea","role":"user"}'
KEY = SessionKey("shop", "ann", "s1")


async def _made_by_the_sdk(path: Path) -> None:
    session = SQLiteSession("s1", path)
    await session.add_items(TALK)
    session.close()
    with closing(sqlite3.connect(path)) as db, db:
        for text in (*NOT_READ, SPELLED_ELSEHOW):
            db.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('s1', ?)", (text,))


def rows(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT session_id, message_data FROM agent_messages ORDER BY id").fetchall()


# copies of the SDK's own stores


@pytest.mark.parametrize("place", engines("sqlite", "postgresql", "redis"), indirect=True)
async def test_a_copied_session_goes_on_here_and_back_there(place: Place, tmp_path: Path):
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    await _made_by_the_sdk(old)
    theirs = SQLiteSession("s1", old)
    await copy_store(f"openai-agents+sqlite:///{old}", place.address)
    async with UnifiedSession("s1", place.address) as session:
        assert await session.get_items() == await theirs.get_items()
        for limit in range(1, 9):
            assert await session.get_items(limit=limit) == await theirs.get_items(limit=limit)
        await session.add_items([{"role": "user", "content": "Well?"}])
    await copy_store(place.address, f"openai-agents+sqlite:///{new}")
    assert rows(new) == [*rows(old), ("s1", '{"role": "user", "content": "Well?"}')]
    theirs.close()


async def test_items_of_a_copied_session_are_popped_as_the_sdk_pops_them(tmp_path: Path):
    old = tmp_path / "old.db"
    await _made_by_the_sdk(old)
    await copy_store(f"openai-agents+sqlite:///{old}", f"sqlite:///{tmp_path}/ours.db")
    theirs = SQLiteSession("s1", old)
    async with UnifiedSession("s1", f"sqlite:///{tmp_path}/ours.db") as session:
        while (item := await theirs.pop_item()) is not None:
            assert await session.pop_item() == item
            assert await session.get_items() == await theirs.get_items()
        assert await session.pop_item() is None
    theirs.close()


# what others read


async def test_every_view_reads_what_an_agent_wrote(place: Place):
    async with place.open() as storage:
        await UnifiedSession("s1", storage, user_id="ann", app_name="shop").add_items(TALK)
        events = await SessionStorageAdapter(storage).events.read(KEY)
        assert [event["role"] for event in events] == ["user", "assistant", "tool", "tool"]
        assert all(event["timestamp"] for event in events)
        scoped = await ScopedSessionService(storage).get_session(KEY)
        assert scoped is not None
        assert [event.content for event in scoped.events] == ["Tea or milk?", "I look it up", "3", "4"]
        assert scoped.state == {}
        page = await ScopedSessionService(storage).list_sessions(UserKey("shop", "ann"))
        assert [session.session_id for session in page.items] == ["s1"]
        typed = await SessionRepository(storage).get(KEY)
        assert (typed.session_id, typed.user_id, typed.app_name) == ("s1", "ann", "shop")
        [summary] = (await SessionStorageAdapter(storage).page_sessions({"user_id": "ann"})).items
        assert summary["key"] == KEY


async def test_what_no_chat_has_is_told_by_its_type_and_envelopes_are_not_told(place: Place):
    async with place.open() as storage:
        session = UnifiedSession("s1", storage)
        thought: Any = {"type": "reasoning", "id": "r1", "summary": []}
        envelope: Any = {"__enc__": 1, "v": 1, "kid": "k", "payload": "x"}
        search: Any = {"type": "web_search_call", "id": "w1", "status": "completed"}
        await session.add_items([thought, envelope, search])
        events = await SessionStorageAdapter(storage).events.read("s1")
        assert [(event["role"], event["content"], event["type"]) for event in events] == [
            ("assistant", None, "reasoning"),
            ("assistant", None, "web_search_call"),
        ]
        assert await session.get_items() == [thought, envelope, search]


async def test_the_http_service_shows_what_an_agent_wrote(place: Place):
    async with place.open() as storage:
        await UnifiedSession("s1", storage, user_id="ann", app_name="shop").add_items(TALK)
        async with client_of(database(storage)) as client:
            listed = (await client.get("/sessions", params={"user_id": "ann"})).json()["data"]
            assert [(session["session_id"], session["session_name"]) for session in listed] == [("s1", "Tea or milk?")]
            shown = (await client.get("/sessions/s1", params={"user_id": "ann"})).json()
        assert [message["content"] for message in shown["chat_history"]] == ["Tea or milk?", "I look it up"]


async def test_an_event_that_is_popped_takes_all_its_items_along(place: Place):
    async with place.open() as storage:
        session = UnifiedSession("s1", storage)
        await session.add_items(TALK[:4])
        event = await SessionStorageAdapter(storage).events.pop("s1")
        assert event is not None
        assert event["content"] == "I look it up"
        assert await session.get_items() == TALK[:1]
        assert await session.pop_item() == TALK[0]


# what others wrote


async def test_events_of_others_are_told_as_items(place: Place):
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY, {"lang": "de"})
        called = [
            {"id": "c1", "type": "function", "function": {"name": "price", "arguments": '{"of": "tea"}'}},
            {"id": "c2", "type": "function", "function": {"name": "price", "arguments": '{"of": "milk"}'}},
        ]
        for event in (
            Event(role="user", content="Tea or milk?"),
            Event(role="assistant", content="I look it up", tool_calls=called),
            Event(role="tool", tool_call_id="c1", content="3"),
            Event(role="tool", tool_call_id="c2", content="4", state_delta={"seen": True}),
        ):
            await service.append_event(KEY, event)
        session = UnifiedSession("s1", storage, "ann", "shop")
        assert await session.get_items() == TALK
        for limit in range(1, 8):
            assert await session.get_items(limit=limit) == TALK[-limit:]
        await session.add_items(ANSWER[:1])
        assert await session.get_items(limit=2) == [RESULTS[1], ANSWER[0]]
        stored = await service.get_session(KEY)
        assert stored is not None
        assert stored.state == {"lang": "de", "seen": True}
        assert [event.role for event in stored.events] == ["user", "assistant", "tool", "tool", "assistant"]


async def test_items_of_others_are_popped_one_by_one(place: Place):
    async with place.open() as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("s1", {"session_id": "s1"})
        await sessions.events.append("s1", {"role": "user", "content": "Tea or milk?"})
        calls = [{"id": item["call_id"], **_function(item)} for item in ANSWER[1:]]
        await sessions.events.append("s1", {"role": "assistant", "content": "I look it up", "tool_calls": calls})
        session = UnifiedSession("s1", storage)
        for left in range(3, -1, -1):
            assert await session.pop_item() == TALK[left]
            assert await session.get_items() == TALK[:left]
        assert await session.pop_item() is None


def _function(item: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": item["name"], "arguments": item["arguments"]}}


async def test_whole_runs_are_told_message_by_message(place: Place):
    async with place.open() as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("s1", {"session_id": "s1"})
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        await sessions.runs.append("s1", {"run_id": "r1", "messages": messages})
        session = UnifiedSession("s1", storage)
        assert await session.get_items() == messages
        assert await session.get_items(limit=1) == messages[1:]
        await session.add_items(TALK)
        assert await session.get_items() == [*messages, *TALK]
        await session.clear_session()
        assert await session.get_items() == []


async def test_a_document_with_a_message_list_shows_what_agents_added(place: Place):
    async with place.open() as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session(
            "s1", {"workflow_state": {"messages": [{"role": "user", "content": "Hi"}]}, "metadata": {"user_id": "ann"}}
        )
        session = UnifiedSession("s1", storage)
        await session.add_items([{"role": "assistant", "content": "Hello"}])
        document = await sessions.get_session("s1")
        assert document is not None
        assert [message["content"] for message in document["workflow_state"]["messages"]] == ["Hi", "Hello"]
        document["workflow_state"]["messages"].append({"role": "user", "content": "Bye"})
        await sessions.save_session("s1", document)
        assert [item["content"] for item in await session.get_items()] == ["Hi", "Hello", "Bye"]
        popped = await session.pop_item()
        assert popped is not None
        assert popped["content"] == "Bye"
        document = await sessions.get_session("s1")
        assert document is not None
        assert [message["content"] for message in document["workflow_state"]["messages"]] == ["Hi", "Hello"]


async def test_a_read_of_the_newest_reads_no_more_than_it_shows(tmp_path: Path):
    """Counted, not timed: how many entries the storage is asked for."""
    async with open_storage("memory://") as storage:
        session = UnifiedSession("s1", storage)
        for number in range(50):
            await session.add_items([{"role": "user", "content": str(number)}] * 20)
        asked: list[Any] = []
        read = storage.read

        async def counted(log_id: str, **bounds: Any) -> Any:
            found = await read(log_id, **bounds)
            asked.append(len(found))
            return found

        storage.read = counted  # type: ignore[method-assign]
        await session.get_items(limit=20)
        assert asked == [20]
