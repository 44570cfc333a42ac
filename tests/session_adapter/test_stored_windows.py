"""Turn-safe windows of stored sessions: read backwards, no further than they reach."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from session_adapter import Event, ScopedSessionService, SessionKey, SessionStorageAdapter
from session_adapter.events import Events
from session_adapter.windows import safe_window, turn_safe
from tests.places import EMBEDDED, SERVERS, engines, place_on
from tests.session_adapter.delegates import Spy
from tests.session_adapter.transcripts import fault, transcript
from unified_storage import IUnifiedStorage, StorageValidationError, open_storage

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


async def filled(storage: IUnifiedStorage, events: list[dict[str, Any]], session: str = "s1") -> Events:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session(session, {"session_id": session})
    if events:
        await sessions.events.append(session, events)
    return sessions.events


def long_history(turns: int) -> list[dict[str, Any]]:
    """Turns of four events, a second apart."""
    events: list[dict[str, Any]] = []
    for turn in range(turns):
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        events += [
            {"role": "user", "content": f"question {turn}"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "found"},
            {"role": "assistant", "content": f"answer {turn}"},
        ]
    return [event | {"timestamp": START + timedelta(seconds=at)} for at, event in enumerate(events)]


async def test_a_stored_window_is_that_of_the_whole_history(
    storage: IUnifiedStorage, scaled: Callable[..., int]
) -> None:
    """T1.7, with every limit."""
    for seed in range(scaled(200)):
        events = await filled(storage, transcript(seed), f"s{seed}")
        every = await events.read(f"s{seed}")
        for last in (None, *range(len(every) + 2)):
            window = await safe_window(events, f"s{seed}", last=last)
            assert window == turn_safe(every, last), f"seed {seed}, last {last}"
            assert fault(window) is None
        assert await events.read(f"s{seed}") == every


async def test_real_conversations_are_cut_so_that_models_take_them(fixtures_dir: Path) -> None:
    """T1.7: 22 of them use an id of a call twice; nine have results whose call has been lost."""
    shorter: dict[str, list[str]] = {}
    lines = gzip.decompress((fixtures_dir / "tau_bench" / "conversations.jsonl.gz").read_bytes()).splitlines()
    assert len(lines) == 100
    async with open_storage("memory://") as storage:
        for line in lines:
            told = json.loads(line)
            events = await filled(storage, told["messages"], told["session_id"])
            every = await events.read(told["session_id"])
            for last in range(1, len(every) + 1):
                window = turn_safe(every, last)
                assert fault(window) is None
                seqs = [event["seq"] for event in window]
                assert seqs == sorted(seqs)
                if lost := {*range(seqs[0], len(every) + 1)} - {*seqs}:
                    shorter[told["session_id"]] = [event["role"] for event in every if event["seq"] in lost]
    assert len(shorter) == 9
    assert all(roles == ["tool"] for roles in shorter.values())


async def test_a_window_reads_no_further_than_it_reaches(storage: IUnifiedStorage) -> None:
    """S1.12: of 2 000 events a window of 20 reads some thirty, by one verb; a long turn takes a few more."""
    spy = Spy(storage)
    await filled(storage, long_history(500))
    for last in (1, 20, 21, 22, 23):
        spy.forget()
        window = await SessionStorageAdapter(spy).events.read("s1", last=last, turn_safe=True)
        assert window[0]["content"].startswith("question")
        assert last <= len(window) < last + 4
        assert spy.verbs == ["read"]
        assert spy.numbers["read"] <= last + 8
    call, found = long_history(1)[1:3]
    await SessionStorageAdapter(storage).events.append("s1", [{"role": "user", "content": "go"}, *[call, found] * 100])
    spy.forget()
    assert len(await safe_window(SessionStorageAdapter(spy).events, "s1", last=5)) == 201
    assert spy.numbers["read"] < 2 * 201 + 8
    assert len(spy.verbs) <= 5


async def test_a_window_since_a_time_begins_with_its_turn(storage: IUnifiedStorage) -> None:
    """S1.11, S1.12: the time first, then the newest, then the turn."""
    events = await filled(storage, long_history(50))

    async def seqs(**bounds: Any) -> list[int]:
        return [event["seq"] for event in await events.read("s1", turn_safe=True, **bounds)]

    since = START + timedelta(seconds=190)  # event 191, the third of its turn
    assert await seqs(since=since) == [*range(189, 201)]
    assert await seqs(since=since, last=2) == [*range(197, 201)]
    assert await seqs(since=since, last=100) == [*range(189, 201)]
    assert await seqs(since=since, last=0) == []
    assert await seqs(since=START + timedelta(days=1)) == []
    assert await seqs(since=START) == [*range(1, 201)]


async def test_a_window_that_begins_inside_a_run_takes_its_turn_from_there(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"session_id": "s1"})
    messages = [{"role": "user", "content": "q"}, *[{"role": "assistant", "content": f"a{at}"} for at in range(30)]]
    for run in range(3):
        await sessions.runs.append("s1", {"run_id": f"r{run}", "messages": messages})
    every = await sessions.events.read("s1")
    for last in range(1, len(every) + 1):
        assert await sessions.events.read("s1", last=last, turn_safe=True) == turn_safe(every, last)


async def test_a_message_that_stands_in_its_run_too_is_told_once(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"session_id": "s1"})
    loose = {"id": "m0", "run_id": "r1", "role": "assistant", "content": "a"}
    run = {"run_id": "r1", "messages": [{"id": f"m{at}", "role": "assistant", "content": "a"} for at in range(20)]}
    bodies = [{"role": "user", "content": "q"}, loose, *[{"role": "assistant", "content": "b"}] * 5, run]
    await storage.append("history/s1", [{"body": body} for body in bodies])
    every = await sessions.events.read("s1")
    assert len(every) == 26
    for last in range(1, len(every) + 1):
        assert await sessions.events.read("s1", last=last, turn_safe=True) == turn_safe(every, last)


async def test_the_start_of_a_turn_is_looked_for_within_bounds(storage: IUnifiedStorage) -> None:
    """S1.12: of 2 000 events without a turn no more than the thousand before the window are read."""
    spy = Spy(storage)
    said = [{"role": "assistant", "content": f"said {number}"} for number in range(2_000)]
    await filled(storage, said)
    service = ScopedSessionService(spy)
    key = SessionKey("shop", "ann", "s1")
    await service.create_session(key)
    await SessionStorageAdapter(storage).events.append(key, said)
    spy.forget()
    session = await service.get_session(key, event_num=5, turn_safe=True)
    assert session is not None
    assert session.events == []
    assert spy.numbers["read"] <= 1_005
    for since in (START, datetime.now(UTC) - timedelta(days=1)):
        spy.forget()
        events = SessionStorageAdapter(spy).events
        assert await safe_window(events, "s1", last=5, since=since) == []
        assert spy.numbers["read"] < 2_000


@pytest.mark.parametrize(("turn", "window"), [(1_000, 1_004), (1_001, 2)])
async def test_a_turn_that_begins_too_far_back_is_not_shown(storage: IUnifiedStorage, turn: int, window: int) -> None:
    """Then the window begins with the first turn in it."""
    said = [{"role": "assistant", "content": "said"}] * turn
    events = await filled(
        storage,
        [{"role": "user", "content": "old"}, *said[1:], *said[:2], {"role": "user", "content": "new"}, said[0]],
    )
    found = await safe_window(events, "s1", last=4)
    assert len(found) == window
    assert found == turn_safe(await events.read("s1"), 4)
    assert turn_safe(found, 4) == found


async def test_a_window_may_end_before_the_end(storage: IUnifiedStorage) -> None:
    events = await filled(storage, long_history(20))
    every = await events.read("s1")
    for before in (1, 2, 30, 80, 81, 90):
        for last in (None, 0, 1, 5, 100):
            window = await safe_window(events, "s1", last=last, before=before)
            assert window == turn_safe(every[: before - 1], last), f"before {before}, last {last}"


async def test_there_is_no_window_of_a_session_that_is_not_there(storage: IUnifiedStorage) -> None:
    assert await SessionStorageAdapter(storage).events.read("s1", last=5, turn_safe=True) == []


@pytest.mark.parametrize("bounds", [{"after": 1}, {"before": 9}, {"limit": 3}, {"last": -1}])
async def test_a_window_is_bounded_by_last_and_since_alone(bounds: dict[str, Any]) -> None:
    async with open_storage("memory://") as storage:
        with pytest.raises(StorageValidationError):
            await SessionStorageAdapter(storage).events.read("s1", turn_safe=True, **bounds)


async def test_a_scoped_session_shows_a_turn_safe_window(storage: IUnifiedStorage) -> None:
    """T1.7: ``event_num`` alone is exact, ``turn_safe`` widens."""
    service, key = ScopedSessionService(storage), SessionKey("shop", "ann", "s1")
    await service.create_session(key)
    for event in long_history(3):
        await service.append_event(key, Event(**event))

    async def seqs(**window: Any) -> list[int | None]:
        session = await service.get_session(key, **window)
        assert session is not None
        return [event.seq for event in session.events]

    assert await seqs(event_num=2) == [11, 12]
    assert await seqs(event_num=2, turn_safe=True) == [9, 10, 11, 12]
    assert await seqs(event_time=START + timedelta(seconds=6), turn_safe=True) == [*range(5, 13)]
    assert await seqs(turn_safe=True) == [*range(1, 13)]
