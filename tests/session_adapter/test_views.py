"""One stored session, several views: what one of them writes, the others read. On every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_adapter import (
    Event,
    Run,
    Runner,
    ScopedSessionService,
    Session,
    SessionKey,
    SessionRepository,
    SessionStorageAdapter,
    Summaries,
    UserKey,
    record_id,
)
from session_adapter.workflow import ExecutionContext, Step, Workflow, new_execution_context_with_session
from tests.places import EMBEDDED, SERVERS, engines, place_on
from tests.session_adapter.agents import Scripted
from tests.session_adapter.delegates import Spy
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from tests.session_adapter.summary_models import Told
from unified_storage import IUnifiedStorage

KEY = SessionKey("shop", "ann", "s1")
ANN = UserKey("shop", "ann")
HELLO = {"role": "user", "content": "Hello"}
GOOD_DAY = {"role": "assistant", "content": "Good day"}


def agno_run(run_id: str, *texts: str) -> dict[str, Any]:
    """A run as agno writes it."""
    roles = ("user", "assistant")
    messages = [
        {"id": f"{run_id}-{at}", "role": roles[at % 2], "content": text, "created_at": 1715803200 + at}
        for at, text in enumerate(texts)
    ]
    return {
        "run_id": run_id,
        "agent_id": "helper",
        "status": "COMPLETED",
        "messages": messages,
        "metrics": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "duration": 0.25},
        "tools": [],
        "created_at": 1715803200,
    }


class Views:
    """Every view of the sessions on one storage."""

    def __init__(self, storage: IUnifiedStorage) -> None:
        self.storage = storage
        self.dicts = SessionStorageAdapter(storage)
        self.typed = SessionRepository(storage)
        self.scoped = ScopedSessionService(storage)
        self.summaries = Summaries(storage)

    async def document(self, session: str | SessionKey) -> dict[str, Any]:
        found = await self.dicts.get_session(session)
        assert found is not None
        return found

    async def scoped_session(self) -> Session:
        found = await self.scoped.get_session(KEY)
        assert found is not None
        return found

    async def said(self, session: str | SessionKey) -> list[Any]:
        return [event["content"] for event in await self.dicts.events.read(session)]

    async def run_ids(self, session: str | SessionKey) -> list[str]:
        return [run.run_id for run in (await self.typed.get(session)).runs]


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


@pytest.fixture
def views(storage: IUnifiedStorage) -> Views:
    return Views(storage)


@pytest.fixture
async def scoped(views: Views) -> Views:
    await views.scoped.create_session(KEY, state={"cart": [], "user:lang": "de", "app:currency": "EUR"})
    return views


# runs and events


async def test_runs_that_are_written_typed_are_read_as_runs_and_events(views: Views) -> None:
    session = Session(session_id="s1", agent_id="helper")
    session.add_run(agno_run("r1", "Hello", "Good day"))
    session.add_run(Run(run_id="r2", messages=[Event(role="user", content="Tea?")]))
    await views.typed.create(session)
    assert await views.said("s1") == ["Hello", "Good day", "Tea?"]
    events = await views.dicts.events.read("s1")
    assert [(event["seq"], event["index"], event["run_id"]) for event in events] == [
        (1, 0, "r1"),
        (1, 1, "r1"),
        (2, 0, "r2"),
    ]
    assert (await views.dicts.runs.get("s1", "r1")) == agno_run("r1", "Hello", "Good day")
    document = await views.document("s1")
    assert document["agent_id"] == "helper"
    assert "runs" not in document, "a history never stands in a record"


async def test_events_that_are_appended_one_by_one_are_read_as_typed_runs(views: Views) -> None:
    await views.dicts.save_session("s1", {"session_id": "s1"})
    await views.dicts.events.append("s1", [HELLO | {"run_id": "r1"}, GOOD_DAY | {"run_id": "r1"}])
    await views.dicts.events.append("s1", {"role": "user", "content": "of no run"})
    [run] = (await views.typed.get("s1")).runs
    assert run.run_id == "r1"
    assert [message["content"] for message in run.messages] == ["Hello", "Good day"]
    session = await views.typed.get("s1")
    session.add_run({"run_id": "r2", "messages": [GOOD_DAY | {"content": "Bye"}]})
    await views.typed.update(session)
    assert await views.said("s1") == ["Hello", "Good day", "of no run", "Bye"]
    assert await views.run_ids("s1") == ["r1", "r2"]


async def test_what_the_scoped_view_appends_is_read_by_all_others(scoped: Views) -> None:
    await scoped.scoped.append_event(KEY, Event(role="user", content="Hello", run_id="r1"))
    await scoped.scoped.append_event(
        KEY, Event(role="assistant", content="Good day", run_id="r1", state_delta={"cart": ["tea"], "user:lang": "en"})
    )
    await scoped.dicts.events.append(KEY, {"role": "user", "content": "Tea?"})
    session = await scoped.typed.get(KEY)
    assert [(run.run_id, len(run.messages)) for run in session.runs] == [("r1", 2)]
    assert session.key == KEY
    assert session.state == {"cart": ["tea"]}
    assert (await scoped.document(KEY))["state"] == {"cart": ["tea"]}
    shown = await scoped.scoped_session()
    assert [event.content for event in shown.events] == await scoped.said(KEY) == ["Hello", "Good day", "Tea?"]
    assert shown.state == {"cart": ["tea"], "user:lang": "en", "app:currency": "EUR"}


async def test_a_run_added_typed_to_a_scoped_session_is_among_its_events(scoped: Views) -> None:
    await scoped.scoped.append_event(KEY, HELLO)
    session = await scoped.typed.get(KEY)
    session.add_run(agno_run("r1", "Tea?", "Here"))
    await scoped.typed.update(session)
    assert [event.content for event in (await scoped.scoped_session()).events] == ["Hello", "Tea?", "Here"]
    listed = await scoped.scoped.list_sessions(ANN, with_events=True)
    assert [event.content for event in listed.items[0].events] == ["Hello", "Tea?", "Here"]


async def test_a_message_added_to_an_agno_run_is_in_both(views: Views) -> None:
    session = Session(session_id="s1")
    session.add_run(agno_run("r1", "Hello"))
    session.add_run(agno_run("r2", "Tea?", "Here"))
    await views.typed.create(session)
    await views.dicts.events.append("s1", {"id": "r1-1", "role": "assistant", "content": "Good day", "run_id": "r1"})
    [first, _] = (await views.typed.get("s1")).runs
    assert [message["content"] for message in first.messages] == ["Hello", "Good day"]
    assert first.metrics["total_tokens"] == 5
    assert sorted(await views.said("s1")) == ["Good day", "Hello", "Here", "Tea?"]
    whole = agno_run("r1", "Hello", "Good day", "Bye")
    await views.dicts.runs.append("s1", whole)
    assert await views.said("s1") == ["Hello", "Good day", "Bye", "Tea?", "Here"]
    assert await views.run_ids("s1") == ["r1", "r2"]


async def test_a_message_added_to_a_run_costs_the_same_at_any_length(storage: IUnifiedStorage) -> None:
    """Counted in verbs and bytes."""
    costs = []
    for session_id, length in (("short", 5), ("long", 200)):
        spy = Spy(storage)
        views = Views(spy)
        await views.dicts.save_session(session_id, {"session_id": session_id})
        await views.dicts.runs.append(session_id, [agno_run(f"r{at:03}", "Hello", "Good day") for at in range(length)])
        spy.forget()
        await views.dicts.runs.append(session_id, agno_run(f"r{length - 1:03}", "Hello", "Good day", "Bye"))
        costs.append((spy.verbs[:], dict(spy.numbers)))
        assert (await views.said(session_id))[-1] == "Bye"
        spy.forget()
        message = {"id": "late", "role": "user", "content": "Late", "run_id": f"r{length - 1:03}"}
        await views.dicts.events.append(session_id, message)
        await views.dicts.events.append(session_id, message | {"id": "later"})
        costs.append((spy.verbs[:], dict(spy.numbers)))
    assert costs[:2] == costs[2:]


async def test_a_run_added_typed_writes_that_run_alone_at_any_length(storage: IUnifiedStorage) -> None:
    costs = []
    for session_id, length in (("short", 5), ("long", 200)):
        spy = Spy(storage)
        typed = SessionRepository(spy)
        await typed.create(
            Session(
                session_id=session_id, runs=[Run.model_validate(agno_run(f"r{at:03}", "Hello")) for at in range(length)]
            )
        )
        session = await typed.get(session_id)
        session.add_run(agno_run("new", "Bye"))
        spy.forget()
        await typed.update(session)
        costs.append((spy.verbs[:], {name: spy.numbers.get(name, 0) for name in ("appended", "rewritten", "read")}))
    assert costs[0] == costs[1]
    assert costs[0][1] == {"appended": 1, "rewritten": 0, "read": 0}


# many at once


async def test_two_who_each_add_a_run_to_what_they_loaded_lose_neither(views: Views) -> None:
    await views.typed.create(Session(session_id="s1"))
    one, other = await views.typed.get("s1"), await views.typed.get("s1")
    one.add_run(agno_run("r1", "one"))
    other.add_run(agno_run("r2", "other"))
    await views.typed.update(one)
    await views.typed.update(other)
    assert await views.run_ids("s1") == ["r1", "r2"]
    assert await views.said("s1") == ["one", "other"]


async def test_writers_through_every_view_at_once_lose_nothing(scoped: Views) -> None:
    async def through_typed(at: int) -> None:
        session = await scoped.typed.get(KEY)
        session.add_run(agno_run(f"t{at}", f"typed {at}"))
        session.__pydantic_extra__ = {**(session.model_extra or {}), f"typed {at}": at}
        await scoped.typed.update(session)

    async def through_dicts(at: int) -> None:
        await scoped.dicts.update_session(KEY, {"state": {f"dict {at}": at}})
        await scoped.dicts.events.append(KEY, {"role": "user", "content": f"dict {at}"})
        await scoped.dicts.runs.append(KEY, agno_run(f"d{at}", f"run {at}"))

    async def through_scoped(at: int) -> None:
        delta = {f"scoped {at}": at, f"user:scoped {at}": at}
        await scoped.scoped.append_event(KEY, Event(role="user", content=f"scoped {at}", state_delta=delta))

    async def sum_up() -> None:
        await scoped.summaries.update(KEY, Told())

    writers = (through_typed, through_dicts, through_scoped)
    await asyncio.gather(*(write(at) for at in range(4) for write in writers), sum_up())
    session, numbers = await scoped.scoped_session(), range(4)
    assert session.state == {
        "cart": [],
        "user:lang": "de",
        "app:currency": "EUR",
        **{f"{name} {at}": at for name in ("dict", "scoped", "user:scoped") for at in numbers},
    }
    assert {f"typed {at}": at for at in numbers}.items() <= (session.model_extra or {}).items()
    said = await scoped.said(KEY)
    assert sorted(said) == sorted(f"{name} {at}" for name in ("typed", "dict", "run", "scoped") for at in numbers)
    assert set(await scoped.run_ids(KEY)) == {f"{letter}{at}" for letter in "td" for at in numbers}


# documents of every format


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
async def test_a_document_reads_the_same_through_every_view(views: Views, name: str) -> None:
    document = sample(name)
    await views.dicts.save_session("s1", document)
    session = await views.typed.get("s1")
    format = SAMPLE_FORMATS[name]
    shown = format.read(document).session
    for field in ("user_id", "agent_id", "workflow_id", "kind", "name"):
        assert getattr(session, field) == shown.get(field)
    assert session.state == shown.get("state", {})
    assert {key: value for key, value in session.metadata.items() if key not in ("created_at", "updated_at")} == {
        key: value for key, value in shown.get("metadata", {}).items() if key not in ("created_at", "updated_at")
    }
    elements = format.history(document) or []
    assert await views.dicts.events.count("s1") == len(elements)
    after = await views.document("s1")
    assert {key: after[key] for key in document if key != "metadata"} == {
        key: value for key, value in document.items() if key != "metadata"
    }


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
async def test_what_one_view_changes_of_a_document_stands_where_its_format_keeps_it(views: Views, name: str) -> None:
    document = sample(name)
    await views.dicts.save_session("s1", document)
    before = await views.document("s1")
    session = await views.typed.get("s1")
    session.state["added"] = {"by": "typed"}
    session.add_run(agno_run("r1", "Hello", "Good day"))
    await views.typed.update(session)
    after = await views.document("s1")
    format = SAMPLE_FORMATS[name]
    assert format.read(after).session["state"]["added"] == {"by": "typed"}
    assert (await views.said("s1"))[-2:] == ["Hello", "Good day"]
    elements = format.history(after)
    if elements is not None:
        assert elements[:-2] == format.history(before)
        assert [event["content"] for element in elements[-2:] if (event := format.to_event(element))] == [
            "Hello",
            "Good day",
        ]
    await views.dicts.save_session("s1", after)  # what was handed out is saved as it is: nothing changes
    assert await views.run_ids("s1") == ["r1"]
    assert (await views.typed.get("s1")).state == session.state


# state


async def test_state_of_the_levels_above_never_comes_into_the_session(scoped: Views) -> None:
    """T1.9: what was merged for reading is not saved back."""
    session = await scoped.scoped_session()
    session.state["cart"] = ["tea"]
    session.name = "Tea"
    await scoped.typed.update(session)
    await scoped.scoped.update_app_state("shop", {"currency": "CHF"})
    record = await scoped.storage.load(record_id(KEY), type="session")
    assert record is not None
    assert record["data"]["state"] == {"cart": ["tea"]}
    shown = await scoped.scoped_session()
    assert shown.state == {"cart": ["tea"], "user:lang": "de", "app:currency": "CHF"}
    assert shown.name == "Tea"


async def test_a_workflow_on_the_same_key_keeps_its_state_beside_that_of_the_session(scoped: Views) -> None:
    async def count(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("rounds", ctx.session_state.get_value("rounds", 0) + 1)
        await scoped.scoped.append_event(KEY, Event(role="user", content="meanwhile", state_delta={"cart": ["tea"]}))
        return ctx

    workflow = Workflow("orders", sessions=scoped.dicts).add_step(Step("count", count))
    held = await scoped.typed.get(KEY)
    held.name = "Tea"
    for _ in range(2):
        await workflow.execute(new_execution_context_with_session("go", KEY))
    await scoped.typed.update(held)
    document = await scoped.document(KEY)
    assert (document["workflow_state"], document["state"]) == ({"rounds": 2}, {"cart": ["tea"]})
    for session in (await scoped.typed.get(KEY), await scoped.scoped_session()):
        assert (session.model_extra or {})["workflow_state"] == {"rounds": 2}
        assert (session.state["cart"], session.name) == (["tea"], "Tea")
    assert await scoped.said(KEY) == ["meanwhile", "meanwhile"]


# runner and summaries


async def test_what_a_runner_stores_is_one_run_in_every_view(scoped: Views) -> None:
    runner = Runner("shop", Scripted(), scoped.scoped)
    told = [event async for event in runner.run("ann", "s1", "Hello")]
    [run] = (await scoped.typed.get(KEY)).runs
    assert run.run_id == told[-1].run_id
    assert [message["content"] for message in run.messages] == await scoped.said(KEY) == ["Hello", "re: Hello"]


async def test_a_stored_summary_is_the_same_in_every_view(scoped: Views) -> None:
    await scoped.scoped.append_event(KEY, HELLO)
    summary = await scoped.summaries.update(KEY, Told())
    assert summary is not None
    assert (await scoped.typed.get(KEY)).summary == summary
    assert (await scoped.scoped_session()).summary == summary
    assert (await scoped.document(KEY))["summary"]["content"] == "summary 1"


async def test_a_summary_made_in_hand_is_stored_and_gone_on_with(views: Views) -> None:
    session = Session(session_id="s1", runs=[Run.model_validate(agno_run("r1", "Hello", "Good day"))])
    await views.typed.create(session)
    held = await views.typed.get("s1")
    made = await held.generate_ai_summary(Told())
    await views.typed.update(held)
    assert await views.summaries.get("s1") == made
    assert (await views.typed.get("s1")).summary == made
    await views.dicts.runs.append("s1", agno_run("r2", "Bye"))
    model = Told()
    later = await views.typed.get("s1")
    await later.generate_ai_summary(model)
    assert model.texts == ["Summary so far:\nsummary 1\n\nSaid since then:\nuser: Bye"]
    summary = await views.summaries.update("s1", model)
    assert summary is not None
    assert summary.run_count == 2
    assert model.texts[1].startswith("Summary so far:\nsummary 1\n\n")


async def test_a_typed_update_of_something_else_leaves_a_newer_summary(views: Views) -> None:
    await views.typed.create(Session(session_id="s1"))
    await views.dicts.events.append("s1", HELLO)
    held = await views.typed.get("s1")
    summary = await views.summaries.update("s1", Told())
    held.name = "Tea"
    await views.typed.update(held)
    assert await views.summaries.get("s1") == summary
    assert (await views.document("s1"))["name"] == "Tea"
