"""Messages of a whole run that stand in entries of their own too: shown once, by every window, and popped once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from session_adapter import SessionStorageAdapter
from session_adapter.events import WHOLE_RUNS
from session_adapter.metadata import own_fields
from tests.session_adapter.delegates import Spy
from unified_storage import IUnifiedStorage


def message(event_id: str | None, run_id: str | None = None) -> dict[str, Any]:
    known = {"id": event_id, "run_id": run_id, "content": event_id}
    return {"role": "user"} | {name: value for name, value in known.items() if value is not None}


def run(run_id: str, *ids: str) -> dict[str, Any]:
    return {"run_id": run_id, "messages": [message(event_id) for event_id in ids]}


@pytest.fixture
async def started(sessions: SessionStorageAdapter) -> SessionStorageAdapter:
    await sessions.save_session("s1", {"session_id": "s1"})
    return sessions


async def shown(sessions: SessionStorageAdapter, **bounds: Any) -> list[str]:
    return [event["id"] for event in await sessions.events.read("s1", **bounds)]


async def assert_every_window_is_the_end_of_the_whole(sessions: SessionStorageAdapter) -> None:
    last_seq = max((event["seq"] for event in await sessions.events.read("s1")), default=0) + 1
    for after, before in ((0, None), (1, None), (last_seq // 2, None), (0, last_seq), (1, last_seq - 1)):
        whole = await shown(sessions, after=after, before=before)
        for last in range(1, len(whole) + 2):
            assert await shown(sessions, after=after, before=before, last=last) == whole[-last:]


async def test_a_window_does_not_show_again_what_stands_in_a_run_before_it(started: SessionStorageAdapter) -> None:
    await started.runs.append("s1", run("r", "m1", "m2", "m3", "m4", "m5"))
    await started.events.append("s1", [message("m2", "r"), message("e")])
    assert (await shown(started))[-2:] == ["m5", "e"]
    assert await shown(started, last=2) == ["m5", "e"]
    assert await shown(started, last=1) == ["e"]
    assert await shown(started, after=1, last=2) == ["m2", "e"]  # the run is none of what is left
    await assert_every_window_is_the_end_of_the_whole(started)


async def test_a_run_far_before_the_window_is_found(started: SessionStorageAdapter) -> None:
    await started.runs.append("s1", run("r", "m1", "m2"))
    await started.events.append("s1", [message(f"e{number}") for number in range(1200)])
    await started.events.append("s1", [message("m1", "r"), message("end")])
    assert await shown(started, last=3) == ["e1198", "e1199", "end"]


async def test_a_message_belongs_to_the_run_that_it_names(started: SessionStorageAdapter) -> None:
    await started.runs.append("s1", run("r", "m1", "m2"))
    await started.events.append("s1", [message("m1", "other"), message("m2")])
    assert await shown(started) == ["m1", "m2", "m1", "m2"]
    await assert_every_window_is_the_end_of_the_whole(started)


async def test_a_run_whose_messages_have_odd_ids_is_shown(started: SessionStorageAdapter) -> None:
    odd: list[Any] = [{}, [1], 5, None]
    messages = [{"role": "user", "content": str(event_id), "id": event_id} for event_id in odd]
    await started.runs.append("s1", {"run_id": "r", "messages": messages})
    await started.events.append("s1", message("m", "r"))
    assert [event["id"] for event in await started.events.read("s1")] == [*odd, "m"]


async def test_a_window_of_messages_of_runs_stays_small_where_no_run_stands_whole(storage: IUnifiedStorage) -> None:
    """S1.12."""
    spy = Spy(storage)
    sessions = SessionStorageAdapter(spy)
    await sessions.save_session("s1", {})
    await sessions.events.append("s1", [message(f"e{number}", "r") for number in range(2000)])
    spy.forget()
    assert len(await sessions.events.read("s1", last=5)) == 5
    assert spy.numbers["read"] == 5
    assert await sessions.events.pop("s1") is not None
    assert spy.numbers["read"] == 6


async def test_that_a_run_was_added_whole_is_kept_by_later_saves(
    started: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    await started.runs.append("s1", [])
    record = await storage.load("s1")
    assert record is not None
    assert WHOLE_RUNS not in own_fields(record)
    await started.runs.append("s1", run("r", "m1", "m2"))
    await started.save_session("s1", {"state": {"x": 1}})
    await started.update_session("s1", {"name": "n"})
    await started.events.append("s1", [message("m1", "r"), message("e")])
    assert await shown(started, last=2) == ["m2", "e"]


async def test_pop_withdraws_what_the_shown_history_ends_with(started: SessionStorageAdapter) -> None:
    await started.runs.append("s1", run("r", "m1", "m2", "m3"))
    await started.events.append("s1", [message("e"), message("m2", "r")])
    for expected in ("e", "m3", "m2", "m1"):
        assert (await shown(started))[-1] == expected
        popped = await started.events.pop("s1")
        assert popped is not None
        assert popped["id"] == expected
    assert await shown(started) == []
    assert await started.events.pop("s1") is None


async def test_pop_of_a_message_of_a_run_withdraws_it_wherever_it_stands(
    started: SessionStorageAdapter, storage: IUnifiedStorage
) -> None:
    await storage.append("history/s1", [{"body": message("m2", "r"), "key": "m2"}])
    await storage.append("history/s1", [{"body": run("r", "m1", "m2"), "key": "r"}])
    assert await shown(started) == ["m1", "m2"]
    assert (await started.events.pop("s1") or {})["id"] == "m2"
    assert await shown(started) == ["m1"]


@pytest.mark.parametrize("seed", range(15))
async def test_random_histories_with_repeated_messages_are_popped_to_the_end(
    started: SessionStorageAdapter, seed: int
) -> None:
    choose = random.Random(seed)
    for number in range(12):
        name = f"r{choose.randrange(3)}"
        if choose.random() < 0.4:
            ids = [f"{name}m{at}" for at in range(choose.randrange(1, 5))]
            await started.runs.append("s1", run(name, *ids))
        elif choose.random() < 0.6:
            event = message(f"{name}m{choose.randrange(5)}", name)
            await started.events.append("s1", event, on_duplicate="skip")
        else:
            await started.events.append("s1", message(f"e{number}"))
    await assert_every_window_is_the_end_of_the_whole(started)
    left = await shown(started)
    while left:
        popped = await started.events.pop("s1")
        assert popped is not None
        assert popped["id"] == left.pop()
        assert await shown(started) == left
    assert await started.events.pop("s1") is None
