"""``Runner``: an agent on sessions that are made, loaded and stored for it (S1.20 to S1.23)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from session_adapter import (
    AppNameRequiredError,
    Event,
    Runner,
    ScopedSessionService,
    SessionIdRequiredError,
    SessionKey,
    SessionStorageAdapter,
    UserIdRequiredError,
    UserKey,
)
from session_adapter.runner import Agent, RunContext
from tests.places import EMBEDDED, SERVERS, engines, place_on
from tests.session_adapter.agents import (
    KEY,
    Function,
    Scripted,
    Told,
    Waiting,
    calls,
    check_consistent,
    found,
    heard,
    said,
    stored,
    told,
)
from tests.session_adapter.transcripts import fault
from tests.session_adapter.workflow.test_examples import run as run_example
from unified_storage import (
    DELETE,
    IUnifiedStorage,
    StorageAlreadyExistsError,
    StorageClosedError,
    StorageValidationError,
)


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


@pytest.fixture
def service(storage: IUnifiedStorage) -> ScopedSessionService:
    return ScopedSessionService(storage)


# what a run does


async def test_a_runner_without_a_service_keeps_sessions_in_memory() -> None:
    """S1.20."""
    agent = Scripted()
    async with Runner("shop", agent) as runner:
        assert [event.content for event in await heard(runner, "hello")] == ["re: hello"]
        assert [event.content for event in await heard(runner, "again")] == ["re: again"]
        assert told(await stored(runner.session_service)) == [
            ("user", "hello"),
            ("assistant", "re: hello"),
            ("user", "again"),
            ("assistant", "re: again"),
        ]
    with pytest.raises(StorageClosedError):
        await heard(runner)


async def test_the_first_run_makes_the_session(service: ScopedSessionService) -> None:
    """S1.21: the caller does nothing else."""
    runner = Runner("shop", Scripted(said("hi")), service)
    [answer] = await heard(runner, "hello")
    assert (answer.role, answer.content, answer.seq, answer.index) == ("assistant", "hi", 2, 0)
    session = await service.get_session(KEY)
    assert session is not None
    assert session.key == KEY
    assert [event.content for event in session.events] == ["hello", "hi"]
    assert session.events[1] == answer
    assert all(event.timestamp is not None for event in session.events)


async def test_a_run_goes_on_in_a_session_that_is_there(service: ScopedSessionService) -> None:
    await service.create_session(KEY, {"cart": ["tea"], "app:shop": "open", "user:lang": "de"})
    agent = Scripted()
    await heard(Runner("shop", agent, service))
    assert agent.seen[0].state == {"cart": ["tea"], "app:shop": "open", "user:lang": "de"}
    assert agent.seen[0].key == KEY


async def test_the_second_run_is_given_the_conversation_of_the_first(service: ScopedSessionService) -> None:
    """S1.22."""
    agent = Scripted(calls("c1"), found("c1"), said("here it is"))
    runner = Runner("shop", agent, service)
    await heard(runner, "where is my tea?")
    await heard(runner, "thanks")
    first, second = agent.seen
    assert first.history == []
    assert [event.content for event in first.messages] == ["where is my tea?"]
    assert [event.content for event in second.history] == ["where is my tea?", None, "found", "here it is"]
    assert second.history == (await service.get_session(KEY)).events[:4]  # type: ignore[union-attr]
    assert second.message.content == "thanks"
    assert second.messages == [*second.history, second.message]
    assert len({first.run_id, second.run_id}) == 2


@pytest.mark.parametrize(("limit", "given"), [(0, 0), (1, 4), (4, 4), (5, 8), (None, 12)])
async def test_the_history_is_turn_safe_and_limited(limit: int | None, given: int) -> None:
    """T1.7: at most the rest of one turn more than the limit."""
    agent = Scripted(calls("c1"), found("c1"), said("here it is"))
    async with ScopedSessionService() as service:
        runner = Runner("shop", agent, service, history_limit=limit)
        for _ in range(4):
            await heard(runner)
    history = agent.seen[-1].history
    assert len(history) == given
    assert fault([event.model_dump() for event in history]) is None


async def test_pieces_of_a_message_are_passed_on_and_not_stored(service: ScopedSessionService) -> None:
    """S1.23: the complete message is stored once."""
    pieces = [Event.model_validate({"role": "assistant", "content": text, "partial": True}) for text in ("He", "llo")]
    runner = Runner(
        "shop", Scripted(*pieces, {"role": "assistant", "content": "…", "partial": True}, said("Hello")), service
    )
    events = await heard(runner)
    assert [(event.content, event.seq) for event in events] == [("He", None), ("llo", None), ("…", None), ("Hello", 2)]
    assert len({event.run_id for event in events}) == 1
    assert told(await stored(service)) == [("user", "hello"), ("assistant", "Hello")]


async def test_an_event_is_stored_before_it_is_heard(service: ScopedSessionService) -> None:
    runner = Runner("shop", Scripted(calls("c1"), found("c1"), said("hi")), service)
    async with aclosing(runner.run("ann", "s1", "hello")) as events:
        async for event in events:
            assert (await stored(service))[-1]["id"] == event.id
    check_consistent(await stored(service))


async def test_the_events_of_a_run_are_one_run(service: ScopedSessionService) -> None:
    runner = Runner("shop", Scripted(calls("c1"), found("c1") | {"run_id": "mine"}, said("hi")), service)
    await heard(runner)
    await heard(runner)
    runs = await SessionStorageAdapter(service.storage).runs.read(KEY)
    assert [len(run["messages"]) for run in runs] == [4, 4]
    assert [run["messages"][0]["content"] for run in runs] == ["hello", "hello"]


async def test_a_run_that_ended_leaves_no_note(service: ScopedSessionService) -> None:
    await heard(Runner("shop", Scripted(), service))
    await heard(Runner("shop", Scripted(), service))
    assert await open_runs(service.storage) == {}


async def open_runs(storage: IUnifiedStorage) -> dict[str, Any]:
    [record] = await storage.list({"type": "session"})
    noted: dict[str, Any] = record["metadata"]["~"]["open_runs"]
    return noted


async def test_a_limit_of_events_holds_in_runs_too() -> None:
    """S1.18: what is left of a turn whose beginning is gone is told to no agent."""
    agent = Scripted(calls("c1"), found("c1"), said("hi"))
    async with ScopedSessionService(session_event_limit=3) as service:
        runner = Runner("shop", agent, service)
        await heard(runner, "one")
        await heard(runner, "two")
        events = runner.run("ann", "s1", "three")
        await anext(events)
        await events.aclose()
        assert [context.history for context in agent.seen] == [[], [], []]
        assert [context.messages[0].content for context in agent.seen] == ["one", "two", "three"]
        assert [event["role"] for event in await stored(service)] == ["assistant", "tool", "assistant"]
        assert await open_runs(service.storage) == {}


# state


async def test_an_agent_changes_the_state_by_its_events(service: ScopedSessionService) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        states.append(dict(context.state))
        yield Event(role="assistant", content="a", state_delta={"cart": ["tea"], "user:lang": "de", "temp:step": 1})
        states.append(dict(context.state))
        yield {"role": "assistant", "content": "b", "state_delta": {"cart": DELETE, "temp:step": DELETE, "app:n": 1}}
        states.append(dict(context.state))

    states: list[dict[str, Any]] = []
    await heard(Runner("shop", Function(run), service))
    assert states == [{}, {"cart": ["tea"], "user:lang": "de", "temp:step": 1}, {"user:lang": "de", "app:n": 1}]
    assert await service.list_user_states(UserKey("shop", "ann")) == {"lang": "de"}


async def test_a_message_brings_state_too(service: ScopedSessionService) -> None:
    agent = Scripted()
    delta = {"cart": ["tea"], "temp:place": "till"}
    await heard(Runner("shop", agent, service), {"content": "hello", "state_delta": delta})
    assert agent.seen[0].state == delta
    assert (agent.seen[0].message.role, agent.seen[0].message.content) == ("user", "hello")
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {"cart": ["tea"]}


async def test_what_an_agent_does_with_its_context_is_not_stored(service: ScopedSessionService) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        context.state["cart"] = ["stolen"]
        context.message.content = "never said"
        context.history.clear()
        yield said("a")

    await heard(Runner("shop", Function(run), service))
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {}
    assert [event.content for event in session.events] == ["hello", "a"]


# results from outside


async def test_a_call_that_a_run_leaves_open_is_answered_by_the_next_message(service: ScopedSessionService) -> None:
    agent = Scripted(calls("c1", "c2"), found("c1"), said("I ask somebody"))
    await heard(Runner("shop", agent, service), "may I?")
    assert told(await stored(service))[-1] == ("assistant", "I ask somebody")
    await heard(Runner("shop", agent, service), found("c2", "you may"))
    asked = agent.seen[1]
    assert [event.content for event in asked.messages] == ["may I?", None, "found", "you may", "I ask somebody"]
    assert [event.content for event in asked.history] == ["may I?", None, "found", "I ask somebody"]
    assert asked.message.content == "you may"
    assert fault([event.model_dump() for event in asked.messages]) is None


# two at once


async def test_two_runs_at_once_lose_nothing_and_both_end(service: ScopedSessionService) -> None:
    """Their events stand in the order in which they were stored."""
    waiting = Waiting(calls("c1"), None, found("c1"), said("slow"))
    slow = asyncio.create_task(heard(Runner("shop", waiting, service), "one"))
    await waiting.waits.wait()
    quick = Scripted(calls("c1"), found("c1"), said("quick"))
    await heard(Runner("shop", quick, service), "two")
    waiting.goes_on.set()
    await slow
    assert told(await stored(service)) == [
        ("user", "one"),
        ("assistant", None),
        ("user", "two"),
        ("assistant", None),
        ("tool", "found"),
        ("assistant", "quick"),
        ("tool", "found"),
        ("assistant", "slow"),
    ]
    assert [event.content for event in quick.seen[0].messages] == ["one", "two"]
    runs = await SessionStorageAdapter(service.storage).runs.read(KEY)
    assert [[message["content"] for message in run["messages"]] for run in runs] == [
        ["one", None, "found", "slow"],
        ["two", None, "found", "quick"],
    ]
    assert await open_runs(service.storage) == {}


async def test_many_runs_at_once_lose_nothing(service: ScopedSessionService) -> None:
    agent = Scripted(calls("c1"), Event(role="tool", tool_call_id="c1", content="found"), said("hi"))
    runner = Runner("shop", agent, service)
    heards = await asyncio.gather(*[heard(runner, f"{number}") for number in range(16)])
    assert [len(events) for events in heards] == [3] * 16
    session = await service.get_session(KEY)
    assert session is not None
    assert [event.seq for event in session.events] == [*range(1, 65)]
    assert {event.content for event in session.events if event.role == "user"} == {f"{number}" for number in range(16)}
    assert not [event for event in session.events if event.status == "interrupted"]
    for context in agent.seen:
        assert fault([event.model_dump() for event in context.messages]) is None
        assert context.messages[-1] == context.message
    assert await open_runs(service.storage) == {}


@pytest.mark.parametrize(("limit", "given"), [(0, ["second"]), (1, ["first", "second"]), (None, ["first", "second"])])
async def test_what_comes_after_the_message_is_not_told_with_it(
    service: ScopedSessionService, monkeypatch: pytest.MonkeyPatch, limit: int | None, given: list[str]
) -> None:
    """What other runs store between the message and the look at the session takes no place in the window."""
    session_at = service.session_at

    async def late(*named: Any, **wanted: Any) -> Any:
        await service.append_event(KEY, found("c1", "too late"))
        for number in range(9):
            await service.append_event(KEY, {"role": "user", "content": f"other {number}"})
        return await session_at(*named, **wanted)

    await service.create_session(KEY)
    await service.append_event(KEY, {"role": "user", "content": "first"})
    await service.append_event(KEY, calls("c1"))
    monkeypatch.setattr(service, "session_at", late)
    agent = Scripted()
    await heard(Runner("shop", agent, service, history_limit=limit), "second")
    assert [event.content for event in agent.seen[0].messages] == given
    assert agent.seen[0].messages[-1] == agent.seen[0].message


@pytest.mark.parametrize("limit", [0, 1, 5])
async def test_every_run_is_given_its_own_message(service: ScopedSessionService, limit: int) -> None:
    agent = Scripted()
    runner = Runner("shop", agent, service, history_limit=limit)
    await asyncio.gather(*[heard(runner, f"{number}") for number in range(12)])
    assert len(agent.seen) == 12
    for context in agent.seen:
        assert context.messages[-1] == context.message
        assert context.messages[:-1] == context.history
        assert len(context.history) <= limit + 2 * 12


async def test_an_event_whose_id_another_run_has_stored_meanwhile_is_not_heard(service: ScopedSessionService) -> None:
    """It was not stored: the one of that id, by somebody else, was."""
    waiting = Waiting(None, said("A said").model_copy(update={"id": "a1"}))
    listening = asyncio.ensure_future(anext(Runner("shop", waiting, service).run("ann", "s1", "A")))
    await waiting.waits.wait()
    await heard(Runner("shop", Scripted({"id": "a1", "role": "assistant", "content": "B said"}), service), "B")
    waiting.goes_on.set()
    with pytest.raises(StorageAlreadyExistsError) as raised:
        await listening
    assert raised.value.details == {"path": "event.id", "id": "a1"}
    assert [content for _, content in told(await stored(service))] == ["A", "B", "B said", "The run was interrupted."]


async def test_of_one_message_that_is_said_several_times_at_once_one_is_heard(service: ScopedSessionService) -> None:
    agent = Scripted()
    runner = Runner("shop", agent, service)
    click = {"id": "click-1", "content": "buy", "state_delta": {"clicks": 1, "app:clicks": 1}}
    ends = await asyncio.gather(*[heard(runner, click) for _ in range(8)], return_exceptions=True)
    assert [type(end) for end in ends if not isinstance(end, list)] == [StorageAlreadyExistsError] * 7
    assert len(agent.seen) == 1
    assert told(await stored(service)) == [("user", "buy"), ("assistant", "re: buy")]
    assert await open_runs(service.storage) == {}


# what is refused


async def test_an_agent_is_whatever_has_a_run() -> None:
    assert isinstance(Scripted(), Agent)
    with pytest.raises(StorageValidationError) as raised:
        Runner("shop", object())  # type: ignore[arg-type]
    assert raised.value.details["path"] == "agent"


async def test_a_runner_has_an_app() -> None:
    with pytest.raises(AppNameRequiredError):
        Runner("", Scripted())
    wrong: dict[str, Any]
    for wrong in ({"history_limit": -1}, {"lost_after": 0}, {"lost_after": "1 h"}):
        with pytest.raises(StorageValidationError) as raised:
            Runner("shop", Scripted(), **wrong)
        assert [raised.value.details["path"]] == [*wrong]


@pytest.mark.parametrize(
    ("user_id", "session_id", "error"), [("", "s1", UserIdRequiredError), ("ann", "", SessionIdRequiredError)]
)
async def test_a_run_names_its_session(user_id: str, session_id: str, error: type[Exception]) -> None:
    agent = Scripted()
    async with Runner("shop", agent) as runner:
        with pytest.raises(error) as raised:
            await heard(runner, "hello", SessionKey("shop", user_id, session_id))
    assert agent.seen == []
    assert not getattr(raised.value, "__notes__", [])


@pytest.mark.parametrize("message", [None, 5, ["hello"], {"role": ""}, {"role": 5}])
async def test_a_message_is_a_text_or_an_event(message: Any) -> None:
    agent = Scripted()
    async with Runner("shop", agent) as runner:
        with pytest.raises(StorageValidationError):
            await heard(runner, message)
    assert agent.seen == []


@pytest.mark.parametrize("partial", [True, 1])
async def test_a_piece_of_a_message_is_said_to_nobody(service: ScopedSessionService, partial: Any) -> None:
    agent = Scripted()
    with pytest.raises(StorageValidationError) as raised:
        await heard(Runner("shop", agent, service), {"content": "hel", "partial": partial})
    assert raised.value.details["path"] == "message.partial"
    assert agent.seen == []
    assert await service.get_session(KEY) is None


@pytest.mark.parametrize("role", ["system", "assistant", "developer"])
async def test_a_first_message_that_is_not_the_users_is_heard(service: ScopedSessionService, role: str) -> None:
    """No turn begins with it, but it is what was said."""
    agent = Scripted(said("hi"))
    for text in ("be kind", "be brief"):
        await heard(Runner("shop", agent, service), {"role": role, "content": text})
    assert [[event.content for event in context.messages] for context in agent.seen] == [["be kind"], ["be brief"]]
    assert [context.messages[0] == context.message for context in agent.seen] == [True, True]
    await heard(Runner("shop", agent, service), "hello")
    await heard(Runner("shop", agent, service), {"role": role, "content": "be quick"})
    assert [event.content for event in agent.seen[3].messages] == ["hello", "hi", "be quick"]


async def test_a_result_whose_call_nobody_made_is_not_told(service: ScopedSessionService) -> None:
    """No model takes it."""
    agent = Scripted()
    await heard(Runner("shop", agent, service), found("c1"))
    assert (agent.seen[0].message.content, agent.seen[0].messages) == ("found", [])


async def test_an_id_that_the_session_has_is_refused(service: ScopedSessionService) -> None:
    """Storing it again would change nothing, so that what is said now would be lost."""
    runner = Runner("shop", Scripted(Event(role="assistant", content="hi", id="a1")), service)
    await heard(runner, {"id": "m1", "content": "hello"})
    with pytest.raises(StorageAlreadyExistsError) as raised:
        await heard(runner, {"id": "m1", "content": "hello?"})
    assert raised.value.details["id"] == "m1"
    assert told(await stored(service)) == [("user", "hello"), ("assistant", "hi")]
    with pytest.raises(StorageAlreadyExistsError):
        await heard(runner, {"id": "m2", "content": "hello?"})
    assert told(await stored(service))[2:] == [("user", "hello?"), ("assistant", "The run was interrupted.")]


async def test_an_event_that_cannot_be_stored_is_refused(service: ScopedSessionService) -> None:
    with pytest.raises(StorageValidationError):
        await heard(Runner("shop", Scripted({"content": "no role"}), service))
    with pytest.raises(StorageValidationError):
        await heard(Runner("shop", Scripted(5), service))  # type: ignore[arg-type]
    assert told(await stored(service))[1::2] == [("assistant", "The run was interrupted.")] * 2


# the example


def test_the_bakers_conversation_stays_with_the_session(tmp_path: Path) -> None:
    """S1.21, S1.22."""
    url = f"sqlite:///{tmp_path}/bakery.db"
    assert run_example("run_an_agent.py", url)[-1] == "4 assistant 2 loaves; asked before: []"
    assert run_example("run_an_agent.py", url)[-1] == "8 assistant 4 loaves; asked before: ['Is my bread done?']"
