"""``.runs``: runs that stand whole, and runs that stand message by message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from session_adapter import SessionNotFoundError, SessionStorageAdapter
from session_adapter.formats import G1
from tests.session_adapter.delegates import Spy
from tests.session_adapter.documents import sample
from unified_storage import IUnifiedStorage, StorageConflictError, StorageNotFoundError, StorageValidationError

HELLO = {"role": "user", "content": "hello"}
BYE = {"role": "assistant", "content": "bye"}


@pytest.fixture
async def started(sessions: SessionStorageAdapter) -> SessionStorageAdapter:
    await sessions.save_session("s1", {"session_id": "s1"})
    return sessions


async def said(sessions: SessionStorageAdapter) -> list[str]:
    return [event["content"] for event in await sessions.events.read("s1")]


async def test_a_run_is_handed_out_as_it_was_added(started: SessionStorageAdapter, storage: IUnifiedStorage) -> None:
    run = {"run_id": "r1", "status": "completed", "metrics": {"total_tokens": 5}, "messages": [HELLO, BYE]}
    assert await started.runs.append("s1", run) == 1
    assert await started.runs.read("s1") == [run] == [await started.runs.get("s1", "r1")]
    assert await started.runs.get("s1", "r2") is None
    [entry] = await storage.read("history/s1")
    assert (entry["key"], entry["body"]) == ("r1", run)
    shown = await started.events.read("s1")
    assert [(event["seq"], event["index"], event["run_id"]) for event in shown] == [(1, 0, "r1"), (1, 1, "r1")]


async def test_a_run_that_is_there_is_replaced_in_its_place(started: SessionStorageAdapter) -> None:
    """S0.4."""
    assert await started.runs.append("s1", [{"run_id": "a"}, {"run_id": "b"}]) == [1, 2]
    assert await started.runs.append("s1", {"run_id": "a", "status": "completed"}) == 1
    assert await started.runs.read("s1") == [{"run_id": "a", "status": "completed"}, {"run_id": "b"}]


async def test_a_run_without_an_id_is_always_added(started: SessionStorageAdapter) -> None:
    """S0.4."""
    for _ in range(2):
        await started.runs.append("s1", {"status": "completed"})
    first, second = await started.runs.read("s1")
    assert first.pop("run_id") != second.pop("run_id")
    assert first == second == {"status": "completed"}


async def test_messages_are_gathered_under_their_run(started: SessionStorageAdapter) -> None:
    await started.events.append("s1", HELLO)
    await started.events.append("s1", [HELLO | {"run_id": "r1", "id": "m1"}, BYE | {"run_id": "r2"}])
    await started.events.append("s1", BYE | {"run_id": "r1"})
    runs = await started.runs.read("s1")
    assert [run["run_id"] for run in runs] == ["r1", "r2"]
    assert [message["content"] for message in runs[0]["messages"]] == ["hello", "bye"]


async def test_a_message_whose_id_stands_in_its_run_is_shown_once(
    started: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    whole = {"run_id": "r1", "messages": [HELLO | {"id": "m1"}, BYE | {"id": "m2"}]}
    await started.runs.append("s1", whole)
    await started.events.append("s1", [HELLO | {"id": "m1", "run_id": "r1"}, BYE | {"id": "m3", "run_id": "r1"}])
    await started.events.append("s1", HELLO | {"id": "m1-of-nobody", "run_id": "r2"})
    assert [event["id"] for event in await started.events.read("s1")] == ["m1", "m2", "m3", "m1-of-nobody"]
    [first, _] = await started.runs.read("s1")
    assert [message["id"] for message in first["messages"]] == ["m1", "m2", "m3"]


async def test_a_run_replaces_its_single_messages(started: SessionStorageAdapter, storage: IUnifiedStorage) -> None:
    await started.events.append("s1", [BYE, HELLO | {"run_id": "r1"}, BYE | {"run_id": "r1"}, HELLO])
    whole = {"run_id": "r1", "messages": [HELLO | {"content": "whole"}]}
    await started.runs.append("s1", [whole, {"run_id": "r2", "messages": [BYE | {"content": "new"}]}])
    assert await said(started) == ["bye", "whole", "hello", "new"]
    await started.runs.append("s1", whole | {"status": "completed"})
    assert await said(started) == ["bye", "whole", "hello", "new"]
    assert await started.runs.get("s1", "r1") == whole | {"status": "completed"}


async def test_a_run_shows_its_own_messages_only(started: SessionStorageAdapter) -> None:
    """Runs inside another run, system messages and messages of earlier runs are no events of their own."""
    steps = [{"messages": [{"role": "assistant", "content": "step"}], "parent_run_id": "r1"}, 5]
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "earlier", "from_history": True},
        HELLO,
        "odd",
    ]
    await started.runs.append("s1", {"run_id": "r1", "messages": messages, "step_executor_runs": steps})
    await started.runs.append("s1", {"run_id": "r2", "parent_run_id": "r1", "messages": [BYE]})
    assert await said(started) == ["hello", "step"]
    assert len(await started.runs.read("s1")) == 2


async def test_delete_takes_a_run_in_either_form(started: SessionStorageAdapter, storage: IUnifiedStorage) -> None:
    await started.events.append("s1", [HELLO, HELLO | {"run_id": "r1"}])
    await started.runs.append("s1", {"run_id": "r2", "messages": [BYE]})
    await started.events.append("s1", [BYE | {"run_id": "r2", "content": "late"}, BYE | {"content": "end"}])
    await started.runs.delete("s1", "r2")
    assert await said(started) == ["hello", "hello", "end"]
    await started.runs.delete("s1", "r1")
    assert await said(started) == ["hello", "end"]
    assert await started.runs.read("s1") == []
    with pytest.raises(StorageNotFoundError) as raised:
        await started.runs.delete("s1", "r1")
    assert not isinstance(raised.value, SessionNotFoundError)


async def test_a_missing_session_has_no_runs(sessions: SessionStorageAdapter) -> None:
    assert await sessions.runs.read("s1") == []
    for call in (sessions.runs.append("s1", {"run_id": "r1"}), sessions.runs.delete("s1", "r1")):
        with pytest.raises(SessionNotFoundError):
            await call


async def test_versions_are_checked_and_an_honest_retry_does_not_conflict(started: SessionStorageAdapter) -> None:
    found = await started.get_session("s1", with_version=True)
    assert found is not None
    await started.runs.append("s1", {"run_id": "r1"}, expected_version=found[1])
    await started.runs.append("s1", {"run_id": "r1"}, expected_version=found[1])
    with pytest.raises(StorageConflictError):
        await started.runs.append("s1", {"run_id": "r2"}, expected_version=found[1])
    with pytest.raises(StorageConflictError):
        await started.runs.delete("s1", "r1", expected_version=found[1])
    await started.events.append("s1", HELLO | {"run_id": "r3"})
    with pytest.raises(StorageConflictError):
        await started.runs.append("s1", [{"run_id": "r3"}, {"run_id": "r4"}], expected_version=found[1])
    assert [run["run_id"] for run in await started.runs.read("s1")] == ["r1", "r3"]


@pytest.mark.parametrize("bad", [None, 5, "r1", {"role": "user", "content": "x"}, [{}, 5]], ids=repr)
async def test_what_is_no_run_is_refused(started: SessionStorageAdapter, bad: Any) -> None:
    with pytest.raises(StorageValidationError):
        await started.runs.append("s1", bad)
    assert await started.runs.read("s1") == []


async def test_adding_a_run_does_not_read_the_history(storage: IUnifiedStorage) -> None:
    spy = Spy(storage)
    sessions = SessionStorageAdapter(spy)
    await sessions.save_session("s1", {})
    await sessions.runs.append("s1", [{"run_id": f"r{number}"} for number in range(100)])
    spy.forget()
    await sessions.runs.append("s1", {"run_id": "r50", "status": "completed"})
    await sessions.runs.append("s1", {"run_id": "r100"})
    assert "read" not in spy.verbs


async def test_changes_by_runs_are_seen_by_the_next_list(storage: IUnifiedStorage) -> None:
    """What a list has held is still known after the log was rewritten, and what none has held stays."""
    sessions = SessionStorageAdapter(storage)
    document = sample("g1")
    await sessions.save_session("s1", document)
    held = G1.history(document)
    assert held is not None
    await sessions.events.append("s1", [BYE | {"run_id": "r1"}, BYE | {"content": "mine"}])
    await sessions.runs.delete("s1", "r1")
    await sessions.save_session("s1", document)
    shown = G1.history(await sessions.require_session("s1"))
    assert shown == [*held, G1.from_event(BYE | {"content": "mine"})]
    document["state"]["messages"] = []
    await sessions.save_session("s1", document)
    assert G1.history(await sessions.require_session("s1")) == [G1.from_event(BYE | {"content": "mine"})]


async def test_what_a_list_has_held_is_known_after_the_log_was_rewritten(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"metadata": {}, "state": {"messages": []}})
    await sessions.runs.append("s1", {"run_id": "r1", "messages": [HELLO]})
    await sessions.events.append("s1", [HELLO | {"content": str(number)} for number in range(10)])
    await sessions.save_session("s1", await sessions.require_session("s1"))  # held from now on
    await sessions.events.append("s1", HELLO | {"content": "mine"})
    await sessions.runs.delete("s1", "r1")
    await sessions.save_session("s1", {"metadata": {}, "state": {"messages": []}})
    assert await said(sessions) == ["mine"]


async def test_the_last_message_of_a_run_can_be_edited_in_a_list(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"metadata": {}, "state": {"messages": []}})
    await sessions.runs.append("s1", {"run_id": "r1", "messages": [HELLO, BYE]})
    await sessions.save_session("s1", await sessions.require_session("s1"))
    session = await sessions.require_session("s1")
    session["state"]["messages"][-1]["content"] = "good bye"
    await sessions.save_session("s1", session)
    assert await said(sessions) == ["hello", "good bye"]
    assert (await sessions.require_session("s1"))["state"] == session["state"]


async def test_a_save_between_does_not_hide_the_messages_of_a_run(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"x": 1})
    await sessions.events.append("s1", HELLO | {"run_id": "r1"})
    await sessions.save_session("s1", {"x": 2})
    await sessions.update_session("s1", {"x": 3})
    await sessions.runs.append("s1", {"run_id": "r1", "messages": [BYE]})
    assert await said(sessions) == ["bye"]


async def test_a_run_replaced_in_its_place_is_seen_by_the_next_list(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", sample("g1"))
    await sessions.runs.append("s1", {"run_id": "r1", "messages": [HELLO]})
    await sessions.save_session("s1", await sessions.require_session("s1"))
    stale = await sessions.require_session("s1")
    await sessions.runs.append("s1", {"run_id": "r1", "messages": [BYE]})
    fresh = await sessions.require_session("s1")
    assert fresh["state"]["messages"][-1]["content"] == "bye"
    await sessions.save_session("s1", stale)  # last writer wins
    assert (await sessions.require_session("s1"))["state"] == stale["state"]
    await sessions.save_session("s1", fresh)
    assert (await sessions.require_session("s1"))["state"] == fresh["state"]


async def test_concurrent_runs_all_arrive(started: SessionStorageAdapter) -> None:
    async def one(number: int) -> None:
        await started.events.append("s1", HELLO | {"run_id": f"r{number}"})
        await started.runs.append("s1", {"run_id": f"r{number}", "messages": [BYE]})

    await asyncio.gather(*(one(number) for number in range(20)))
    runs = await started.runs.read("s1")
    assert sorted(run["run_id"] for run in runs) == sorted(f"r{number}" for number in range(20))
    assert all(run["messages"] == [BYE] for run in runs)
