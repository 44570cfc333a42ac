"""``.events``: every entry as an event, whoever wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from session_adapter import Event, SessionKey, SessionNotFoundError, SessionStorageAdapter
from session_adapter.entries import FLAT
from session_adapter.formats import G1, G3
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from unified_storage import (
    IUnifiedStorage,
    StorageAlreadyExistsError,
    StorageConflictError,
    StorageValidationError,
)

HELLO = {"role": "user", "content": "hello"}


@pytest.fixture
async def started(sessions: SessionStorageAdapter) -> SessionStorageAdapter:
    await sessions.save_session("s1", {"session_id": "s1"})
    return sessions


async def said(sessions: SessionStorageAdapter, **bounds: Any) -> list[str]:
    return [event["content"] for event in await sessions.events.read("s1", **bounds)]


async def test_an_event_shows_all_its_keys(started: SessionStorageAdapter) -> None:
    call = {"id": "c1", "name": "look", "arguments": "{}"}
    when = "2024-05-15T16:37:00+02:00"
    event = {"id": "e1", "role": "assistant", "content": None, "tool_calls": [call], "timestamp": when, "mood": "calm"}
    assert await started.events.append("s1", event) == 1
    [shown] = await started.events.read("s1")
    assert [*shown] == [*FLAT, "mood"]
    assert {key: value for key, value in shown.items() if value is not None} == {
        "seq": 1,
        "index": 0,
        "id": "e1",
        "role": "assistant",
        "tool_calls": [call],
        "timestamp": "2024-05-15T14:37:00.000000+00:00",
        "mood": "calm",
    }


async def test_an_event_is_stored_as_it_is(started: SessionStorageAdapter, storage: IUnifiedStorage) -> None:
    await started.events.append("s1", HELLO | {"id": "e1", "timestamp": "2024-05-15T16:37:00Z"})
    await started.events.append("s1", Event(role="assistant", content="hi"))
    await started.events.append("s1", {"role": "user", "seq": 9, "index": 9, "id": "", "n": 2**70})
    first, second, third = await storage.read("history/s1")
    assert first["body"] == HELLO | {"id": "e1", "timestamp": "2024-05-15T16:37:00Z"}
    assert (first["key"], first["created_at"]) == ("e1", datetime(2024, 5, 15, 16, 37, tzinfo=UTC))
    assert second["body"] == {"role": "assistant", "content": "hi"}
    assert (third["body"], third["key"]) == ({"role": "user", "id": "", "n": 2**70}, None)


async def test_an_event_that_was_read_can_be_added_again(started: SessionStorageAdapter) -> None:
    await started.events.append("s1", HELLO | {"timestamp": "2024-05-15T16:37:00Z"})
    [shown] = await started.events.read("s1")
    await started.events.append("s1", shown)
    first, second = await started.events.read("s1")
    assert first | {"seq": 2} == second


async def test_a_naive_time_is_fixed_when_it_is_stored(storage: IUnifiedStorage) -> None:
    writer = SessionStorageAdapter(storage, source_timezone="America/New_York")
    await writer.save_session("s1", {})
    await writer.events.append("s1", [HELLO | {"timestamp": "2024-05-15T16:37:00"}, HELLO | {"timestamp": "soon"}])
    for zone in ("UTC", "Asia/Tokyo"):
        shown = await SessionStorageAdapter(storage, source_timezone=zone).events.read("s1")
        assert [event["timestamp"] for event in shown] == ["2024-05-15T20:37:00.000000+00:00", None]
    assert [event["content"] for event in await writer.events.read("s1", since=datetime(2024, 5, 16, tzinfo=UTC))] == [
        "hello"
    ]


async def test_several_events_are_one_step(started: SessionStorageAdapter) -> None:
    assert await started.events.append("s1", [HELLO, HELLO | {"id": "e1"}]) == [1, 2]
    assert await started.events.append("s1", []) == []
    with pytest.raises(StorageAlreadyExistsError):
        await started.events.append("s1", [HELLO | {"content": "new"}, HELLO | {"id": "e1"}])
    assert await started.events.count("s1") == 2


async def test_an_id_makes_a_retry_idempotent(started: SessionStorageAdapter) -> None:
    found = await started.get_session("s1", with_version=True)
    assert found is not None
    first = HELLO | {"id": "e1"}
    assert await started.events.append("s1", first, expected_version=found[1]) == 1
    assert await started.events.append("s1", first, on_duplicate="skip", expected_version=found[1]) == 1
    assert await started.events.append("s1", first | {"content": "bye"}, on_duplicate="replace") == 1
    assert await said(started) == ["bye"]
    with pytest.raises(StorageConflictError):
        await started.events.append("s1", HELLO, expected_version=found[1])


async def test_keep_last_keeps_the_newest_entries(started: SessionStorageAdapter) -> None:
    for number in range(5):
        await started.events.append("s1", {"role": "user", "content": str(number)}, keep_last=3)
    assert await said(started) == ["2", "3", "4"]


@pytest.mark.parametrize(
    "bad", [None, 5, "hello", {"content": "no role"}, {"role": ""}, {"role": 1}, [HELLO, {}]], ids=repr
)
async def test_what_is_no_event_is_refused(started: SessionStorageAdapter, bad: Any) -> None:
    with pytest.raises(StorageValidationError):
        await started.events.append("s1", bad)
    with pytest.raises(StorageValidationError):
        await started.events.append("s1", {"role": "user", "content": object()})
    with pytest.raises(StorageValidationError):
        await started.events.append("s1", {"role": "user", "id": 5})
    assert await started.events.read("s1") == []


async def test_a_missing_session_takes_no_events_and_shows_none(sessions: SessionStorageAdapter) -> None:
    for name in ("s1", SessionKey("shop", "ann", "s1")):
        for call in (
            sessions.events.append(name, HELLO),
            sessions.events.append(name, HELLO, on_duplicate="replace"),
            sessions.events.append(name, HELLO | {"run_id": "r1"}),
            sessions.events.pop(name),
        ):
            with pytest.raises(SessionNotFoundError) as raised:
                await call
            assert raised.value.session_id == "s1"
        assert await sessions.events.read(name) == []
        assert await sessions.events.count(name) == 0


async def test_bounds_of_a_read(started: SessionStorageAdapter) -> None:
    await started.events.append("s1", [{"role": "user", "content": str(number)} for number in range(1, 8)])
    assert await said(started, last=2) == ["6", "7"]
    assert await said(started, last=0) == []
    assert await said(started, last=100) == ["1", "2", "3", "4", "5", "6", "7"]
    assert await said(started, limit=2) == ["1", "2"]
    assert await said(started, limit=0) == []
    assert await said(started, after=2, before=6) == ["3", "4", "5"]
    assert await said(started, after=2, before=6, last=1) == ["5"]
    assert await said(started, after=2, limit=1) == ["3"]
    wrong: list[dict[str, Any]] = [{"last": -1}, {"limit": -1}, {"last": 1, "limit": 1}, {"after": -1}, {"last": "1"}]
    wrong += [{"since": datetime(2024, 5, 15)}]
    for bounds in wrong:
        with pytest.raises(StorageValidationError):
            await started.events.read("s1", **bounds)


async def test_last_counts_events_and_not_entries(started: SessionStorageAdapter, storage: IUnifiedStorage) -> None:
    await started.events.append("s1", {"role": "user", "content": "0"})
    messages = [{"role": "user", "content": f"r{number}"} for number in range(3)]
    await started.runs.append("s1", {"run_id": "r1", "messages": messages})
    await storage.append(
        "history/s1", [{"body": unreadable} for unreadable in (5, None, "text", {"run_id": "none"})] * 9
    )
    assert await said(started, last=2) == ["r1", "r2"]
    assert await said(started, last=4) == ["0", "r0", "r1", "r2"]
    assert await said(started, limit=2) == ["0", "r0"]
    assert await said(started, limit=3) == ["0", "r0", "r1"]
    await storage.append("history/s1", [{"body": HELLO}])
    assert await said(started, last=1) == ["hello"]
    assert await said(started, last=2) == ["r2", "hello"]
    assert await started.events.count("s1") == 5


async def test_a_limit_goes_on_past_entries_that_show_no_event(
    started: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    odd: list[Any] = [5, None, "text", []]
    await storage.append("history/s1", [{"body": unreadable} for unreadable in odd])
    await started.events.append("s1", [{"role": "user", "content": str(number)} for number in range(4)])
    for limit in range(6):
        assert await said(started, limit=limit) == ["0", "1", "2", "3"][:limit]
    assert await said(started, limit=3, before=7) == ["0", "1"]


async def test_pop_withdraws_the_newest_event(started: SessionStorageAdapter) -> None:
    await started.events.append("s1", [HELLO | {"id": "e1"}, HELLO | {"content": "bye", "id": "e2"}])
    popped = await started.events.pop("s1")
    assert popped is not None
    assert (popped["content"], popped["id"], popped["seq"]) == ("bye", "e2", 2)
    assert await started.events.append("s1", HELLO | {"id": "e2"}) == 3
    assert [await started.events.pop("s1") is None for _ in range(3)] == [False, False, True]


async def test_pop_takes_the_last_message_out_of_its_run(
    started: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    messages = [{"role": "system", "content": "be kind"}, HELLO, HELLO | {"content": "bye"}]
    await started.runs.append("s1", {"run_id": "r1", "messages": messages, "status": "completed"})
    popped = await started.events.pop("s1")
    assert popped is not None
    assert (popped["content"], popped["run_id"]) == ("bye", "r1")
    assert await started.runs.read("s1") == [{"run_id": "r1", "messages": messages[:2], "status": "completed"}]
    assert (await started.events.pop("s1") or {})["content"] == "hello"
    assert await started.runs.read("s1") == []
    assert await started.events.pop("s1") is None


async def test_pop_goes_past_entries_that_show_no_event(
    started: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    await started.events.append("s1", [HELLO, HELLO | {"content": "bye"}])
    await storage.append("history/s1", [{"body": 5}, {"body": {"run_id": "r1", "messages": []}, "key": "r1"}])
    assert (await started.events.pop("s1") or {})["content"] == "bye"
    assert [entry["body"] for entry in await storage.read("history/s1")] == [HELLO, 5, {"run_id": "r1", "messages": []}]
    assert (await started.events.pop("s1") or {})["content"] == "hello"
    assert await started.events.pop("s1") is None


async def test_an_event_that_looks_like_a_wrapping_is_an_event(started: SessionStorageAdapter) -> None:
    odd = {"role": "user", "content": {"format": "legacy-g1", "value": {"type": "HumanMessage", "content": "x"}}}
    await started.events.append("s1", odd)
    [shown] = await started.events.read("s1")
    assert shown["content"] == odd["content"]


@pytest.mark.parametrize("name", [name for name, format in SAMPLE_FORMATS.items() if format.history_path])
async def test_a_documents_messages_and_appended_events_are_one_history(
    sessions: SessionStorageAdapter, name: str
) -> None:
    format = SAMPLE_FORMATS[name]
    await sessions.save_session("s1", sample(name))
    count = await sessions.events.count("s1")
    await sessions.events.append("s1", HELLO | {"id": "e1"})
    shown = await sessions.events.read("s1")
    assert [event["seq"] for event in shown] == [*range(1, count + 2)]
    elements = format.history(await sessions.require_session("s1"))
    assert elements is not None
    assert elements[-1] == format.from_event(HELLO | {"id": "e1"})
    assert (await sessions.events.pop("s1") or {})["content"] == "hello"
    assert format.history(await sessions.require_session("s1")) == format.history(sample(name))


async def test_entries_of_every_form_show_in_a_list_in_its_own(
    sessions: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    await sessions.save_session("s1", sample("g1"))
    before = len(sample("g1")["state"]["messages"])
    g3 = {"interaction_type": "user_request", "content": "from a service", "interaction_id": "i1"}
    await storage.append("history/s1", [{"body": {"format": "legacy-g3", "value": g3}}])
    await storage.append("history/s1", [{"body": {"format": "from-the-future", "value": {}}}])
    await sessions.runs.append("s1", {"run_id": "r1", "messages": [HELLO, HELLO | {"role": "assistant"}]})
    session = await sessions.require_session("s1")
    shown = session["state"]["messages"][before:]
    event = G3.to_event(g3)
    assert event is not None
    assert shown[0] == G1.from_event(event)
    assert [message["type"] for message in shown[1:]] == ["HumanMessage", "AIMessage"]
    log = await storage.read("history/s1")
    session["state"]["messages"].append({"type": "HumanMessage", "content": "more"})
    await sessions.save_session("s1", session)
    assert (await storage.read("history/s1"))[:-1] == log  # all of it was seen, and stays in its own form
    del session["state"]["messages"][before]
    await sessions.save_session("s1", session)
    bodies = [entry["body"] for entry in await storage.read("history/s1")]
    assert {"format": "legacy-g3", "value": g3} not in bodies
    assert {"format": "from-the-future", "value": {}} in bodies  # it was never shown, so its absence says nothing
    assert log[-1]["body"] in bodies


async def test_conversations_hash_as_in_the_manifest(
    sessions: SessionStorageAdapter,
    clean: list[tuple[dict[str, Any], dict[str, Any]]],
    canon_sha: Callable[[list[Any]], str],
) -> None:
    """The 60 files, saved, read back whole and as events."""
    for case, document in clean:
        await sessions.save_session(case["session_id"], document)
        shown = await sessions.require_session(case["session_id"])
        assert {key: value for key, value in shown.items() if key != "metadata"} == {
            key: value for key, value in document.items() if key != "metadata"
        }
        times = {name: shown["metadata"][name] for name in ("created_at", "updated_at")}
        assert shown["metadata"] == document.get("metadata", {}) | times
        assert canon_sha(await sessions.events.read(case["session_id"])) == case["sha256"]


async def test_sixty_four_concurrent_appends_lose_nothing(started: SessionStorageAdapter) -> None:
    numbers = await asyncio.gather(*(started.events.append("s1", HELLO | {"id": f"e{n}"}) for n in range(64)))
    assert sorted(numbers) == [*range(1, 65)]
    assert {event["id"] for event in await started.events.read("s1")} == {f"e{n}" for n in range(64)}
