"""Whole runs in their writer's form, as imports bring them: seen, added to and taken from like those of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from session_adapter import SessionRepository, SessionStorageAdapter, Summaries
from session_adapter.entries import events_of, history_of, is_run
from session_adapter.events import WHOLE_RUNS
from session_adapter.history import mark
from tests.places import EMBEDDED, SERVERS, engines, place_on
from tests.session_adapter.delegates import Spy
from tests.session_adapter.summary_models import Told
from unified_storage import IUnifiedStorage

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
ASKED = {"id": "m1", "role": "user", "content": "Where is it?", "from_history": False, "created_at": 1715803200}
CALLED = {"id": "m2", "role": "assistant", "tool_calls": [CALL], "metrics": {"total_tokens": 7}}
FOUND = {"id": "m3", "role": "tool", "content": "here", "tool_call_id": "c1", "tool_name": "look"}
HIDDEN = [
    {"role": "system", "content": "Be kind"},
    {"id": "m0", "role": "user", "content": "old", "from_history": True},
]
RUN = {"run_id": "r1", "agent_id": "a", "status": "COMPLETED", "messages": [*HIDDEN, ASKED, CALLED, FOUND]}
INNER = {"run_id": "i1", "agent_id": "a", "parent_run_id": "w1", "messages": [*HIDDEN, ASKED]}
WORKFLOW = {"run_id": "w1", "workflow_id": "w", "step_executor_runs": [INNER], "metrics": {"steps": {}}}
GO_RUN = {
    "run_id": "g1",
    "status": "completed",
    "started_at": "2024-05-15T20:00:00Z",
    "messages": [{"id": "g", "role": "user", "content": "Hello"}],
}
MEMORY_RUN = {"message": {"role": "user", "content": "Hi"}, "response": {"run_id": "o1", "messages": [*HIDDEN, ASKED]}}
FURTHER = {"role": "assistant", "content": "It is here", "id": "m4", "run_id": "r1"}


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


@pytest.fixture
def sessions(storage: IUnifiedStorage) -> SessionStorageAdapter:
    return SessionStorageAdapter(storage)


def entry(run: dict[str, Any], format: str = "agno3") -> dict[str, Any]:
    return {"body": {"format": format, "value": run}, "key": run.get("run_id")}


async def imported(storage: IUnifiedStorage, *entries: dict[str, Any]) -> None:
    """A session as an import leaves it."""
    await SessionStorageAdapter(storage).save_session("s1", {"session_id": "s1"})
    await storage.append(history_of("s1"), entries)
    async with storage.transaction() as tx:
        record = await tx.load("s1", type="session")
        assert record is not None
        await mark(tx, record, **{WHOLE_RUNS: True})


async def contents(sessions: SessionStorageAdapter, **bounds: Any) -> list[tuple[Any, Any]]:
    return [(event["run_id"], event["content"]) for event in await sessions.events.read("s1", **bounds)]


async def test_its_messages_are_its_events(storage: IUnifiedStorage, sessions: SessionStorageAdapter) -> None:
    await imported(storage, entry(RUN))
    asked, called, found = await sessions.events.read("s1")
    assert (asked["id"], asked["role"], asked["run_id"], asked["seq"], asked["index"]) == ("m1", "user", "r1", 1, 0)
    assert asked["timestamp"] == "2024-05-15T20:00:00.000000+00:00"
    assert (called["tool_calls"], called["usage"], called["timestamp"]) == ([CALL], {"total_tokens": 7}, None)
    assert (found["tool_call_id"], found["name"], found["content"]) == ("c1", "look", "here")


async def test_the_runs_of_steps_show_and_runs_inside_others_do_not(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter
) -> None:
    await imported(storage, entry(WORKFLOW), entry(RUN | {"run_id": "member", "parent_run_id": "w1"}))
    assert await contents(sessions) == [("w1", "Where is it?")]


@pytest.mark.parametrize(
    ("run", "format", "run_id", "said"),
    [
        (GO_RUN, "agno-go", "g1", "Hello"),
        (MEMORY_RUN, "agno1", "o1", "Where is it?"),
        (RUN, "agno2", "r1", "Where is it?"),
    ],
)
def test_every_form_of_runs_shows_its_messages(run: dict[str, Any], format: str, run_id: str, said: str) -> None:
    body = entry(run, format)["body"]
    assert is_run(body)
    first = events_of(body)[0]
    assert (first["run_id"], first["content"]) == (run_id, said)


async def test_it_is_handed_out_as_its_writer_had_it(storage: IUnifiedStorage, sessions: SessionStorageAdapter) -> None:
    await imported(storage, entry(RUN), entry(WORKFLOW))
    assert await sessions.runs.read("s1") == [RUN, WORKFLOW]
    assert await sessions.runs.get("s1", "w1") == WORKFLOW


async def test_a_message_added_to_it_shows_in_both(storage: IUnifiedStorage, sessions: SessionStorageAdapter) -> None:
    """S1.12."""
    await imported(storage, entry(RUN))
    await sessions.events.append("s1", FURTHER)
    assert (await contents(sessions))[-1] == ("r1", "It is here")
    [run] = await sessions.runs.read("s1")
    assert [message.get("id") for message in run["messages"]] == [None, "m0", "m1", "m2", "m3", "m4"]


async def test_a_message_that_stands_in_it_is_told_once(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter
) -> None:
    await imported(storage, entry(RUN), entry(WORKFLOW))
    await sessions.events.append("s1", [FURTHER | {"id": "m3"}, FURTHER | {"id": "m1", "run_id": "w1"}])
    assert [event["id"] for event in await sessions.events.read("s1")] == ["m1", "m2", "m3", "m1"]
    assert [event["id"] for event in await sessions.events.read("s1", last=2)] == ["m3", "m1"]
    assert await sessions.runs.read("s1") == [RUN, WORKFLOW]


@pytest.mark.parametrize("length", [10, 2000])
async def test_adding_a_message_costs_the_same_at_any_length(storage: IUnifiedStorage, length: int) -> None:
    """S1.12."""
    runs = [RUN | {"run_id": f"r{at}"} for at in range(length)]
    await imported(storage, *map(entry, runs))
    spy = Spy(storage)
    await SessionStorageAdapter(spy).events.append("s1", FURTHER | {"run_id": f"r{length - 1}"})
    assert spy.numbers["appended"] == 1
    assert spy.numbers["bytes"] < 1000
    assert spy.numbers.get("read", 0) == spy.numbers.get("rewritten", 0) == 0


async def test_a_run_is_replaced_by_its_id(storage: IUnifiedStorage, sessions: SessionStorageAdapter) -> None:
    await imported(storage, entry(RUN), entry(WORKFLOW))
    assert await sessions.runs.append("s1", RUN | {"messages": [ASKED]}) == 1
    assert await contents(sessions) == [("r1", "Where is it?"), ("w1", "Where is it?")]
    await sessions.runs.delete("s1", "w1")
    assert [run["run_id"] for run in await sessions.runs.read("s1")] == ["r1"]


async def test_pop_takes_the_last_message_out_of_it(storage: IUnifiedStorage, sessions: SessionStorageAdapter) -> None:
    before = deepcopy(RUN)
    await imported(storage, entry(RUN), entry(WORKFLOW))
    popped = [await sessions.events.pop("s1") for _ in range(4)]
    assert [event and event["id"] for event in popped] == ["m1", "m3", "m2", "m1"]
    assert await sessions.events.read("s1") == []
    assert before == RUN
    assert await sessions.events.pop("s1") is None


async def test_what_is_left_of_it_keeps_its_writers_form(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter
) -> None:
    await imported(storage, entry(RUN))
    await sessions.events.pop("s1")
    [left] = await storage.read(history_of("s1"))
    assert left["body"] == {"format": "agno3", "value": RUN | {"messages": [*HIDDEN, ASKED, CALLED]}}


async def test_a_typed_session_rewrites_no_run_but_those_that_changed(storage: IUnifiedStorage) -> None:
    await imported(storage, entry(RUN), entry(WORKFLOW))
    before = await storage.read(history_of("s1"))
    repository = SessionRepository(storage)
    session = await repository.get("s1")
    assert [(run.run_id, run.status) for run in session.runs] == [("r1", "COMPLETED"), ("w1", None)]
    session.name = "named"
    await repository.update(session)
    assert await storage.read(history_of("s1")) == before
    session.runs[0].status = "ERROR"
    await repository.update(session)
    first, second = await storage.read(history_of("s1"))
    assert (first["body"], second) == (RUN | {"status": "ERROR"}, before[1])


async def test_it_is_summed_up_as_a_run(storage: IUnifiedStorage) -> None:
    await imported(storage, entry(RUN), entry(WORKFLOW), entry(MEMORY_RUN | {"run_id": "o1"}, "agno1"))
    model = Told()
    summary = await Summaries(storage).update("s1", model)
    assert summary is not None
    assert (summary.run_count, summary.total_tokens) == (3, 7)
    assert summary.boundary is not None
    assert [run.run_id for run in summary.boundary.watched] == ["r1", "w1", "o1"]
    assert model.texts[0].count("user: Where is it?") == 3
    assert "tool (look): here" in model.texts[0]
