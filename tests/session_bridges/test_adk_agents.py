"""Real agents of ADK on the bridge, with a model that follows a script; what they leave is what ADK's own keeps."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.apps.app import App, ResumabilityConfig
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.sessions.session import Session
from google.genai import types

from session_bridges.adk import UnifiedSessionService
from tests.places import Place
from tests.session_bridges.adk_agents import (
    message,
    one_after_the_other,
    runner_of,
    side_by_side,
    turn,
    waiter,
    with_a_cook,
)
from tests.session_bridges.adk_services import APP, ID, USER, changed, stored
from tests.support import REPOSITORY

pytestmark = pytest.mark.filterwarnings("default")  # what the framework is warned of is its own

CONVERSATIONS: list[tuple[Callable[[], BaseAgent], list[str]]] = [
    (waiter, ["Hello", "How are you?", "Good night"]),
    (waiter, ["stock green", "stock black white", "Thank you", "stock red"]),
    (with_a_cook, ["Hello", "ask cook", "Are you the cook?", "ask waiter", "stock green"]),
    (one_after_the_other, ["Write", "Write again"]),
]


@pytest.fixture
async def service(place: Place) -> AsyncIterator[UnifiedSessionService]:
    async with UnifiedSessionService(place.address) as opened:
        yield opened


def told(session: Session) -> list[Any]:
    """What the events of a session say, without what is made anew each time."""
    return [_told(event) for event in session.events]


def _told(event: Event) -> Any:
    parts = [part.model_dump(exclude_none=True) for part in (event.content.parts if event.content else None) or ()]
    for part in parts:
        for name in ("function_call", "function_response"):
            part.get(name, {}).pop("id", None)
    return event.author, event.branch, parts, event.actions.model_dump(exclude_none=True)


@pytest.mark.parametrize(("agent", "messages"), CONVERSATIONS, ids=["turns", "tools", "two-agents", "in-a-row"])
async def test_a_conversation_leaves_what_it_leaves_in_adks_own_service(
    service: UnifiedSessionService, agent: Callable[[], BaseAgent], messages: list[str]
):
    own = InMemorySessionService()
    answers = {}
    for one in (own, service):
        runner = runner_of(one, agent())
        answers[one] = [event.content for said in messages for event in await turn(runner, said)]
    assert len(answers[service]) == len(answers[own])
    ours, theirs = await stored(service), await stored(own)
    assert told(ours) == told(theirs)
    assert ours.state == theirs.state
    assert len({event.invocation_id for event in ours.events}) == len(messages)


async def test_a_tool_changes_the_state_on_every_level(service: UnifiedSessionService):
    runner = runner_of(service, waiter())
    await turn(runner, "stock green black")
    events = await turn(runner, "stock white")
    assert events[-1].content.parts[0].text == "stock says {'tea': 'white', 'tins': 3}"
    found = await stored(service)
    assert found.state["user:likes"] == "white"
    assert not any(key.startswith("temp:") for key in found.state)
    assert await service.get_user_state(app_name=APP, user_id=USER) == {"likes": "white"}


async def test_agents_side_by_side_lose_nothing(service: UnifiedSessionService):
    runner = runner_of(service, side_by_side())
    for _ in range(3):
        await turn(runner, "Sing")
    found = await stored(service)
    assert Counter(event.author for event in found.events) == {"user": 3} | {f"voice{n}": 3 for n in range(4)}
    assert {f"song{n}" for n in range(4)} <= found.state.keys()


async def test_streamed_pieces_are_heard_and_not_stored(service: UnifiedSessionService):
    streaming = RunConfig(streaming_mode=StreamingMode.SSE)
    events = await turn(runner_of(service, waiter()), "Hello", run_config=streaming)
    assert [event.partial for event in events].count(True) == 4
    assert [event.partial for event in (await stored(service)).events] == [None, None]


@pytest.mark.parametrize("leaves_after", [0, 1, 2])
async def test_who_stops_listening_leaves_a_session_that_goes_on(place: Place, leaves_after: int):
    async with place.open() as storage:
        runner = runner_of(UnifiedSessionService(storage), waiter())
        listening = runner.run_async(user_id=USER, session_id=ID, new_message=message("stock green"))
        async with aclosing(listening) as events:
            heard = 0
            async for _ in events:
                heard += 1
                if heard > leaves_after:
                    break
        after = UnifiedSessionService(storage)
        count = len((await stored(after)).events)
        assert count >= 1 + leaves_after
        (answer,) = await turn(runner_of(after, waiter()), "Still there?")
        assert answer.content.parts[0].text.startswith("answer to ")
        assert len((await stored(after)).events) == count + 2


async def test_an_agent_that_is_cancelled_in_the_middle_goes_on_later(service: UnifiedSessionService):
    runner = runner_of(service, waiter())
    for seconds in (0, 0.001, 0.005, 0.02):
        running = asyncio.create_task(turn(runner, "stock green"))
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.wait([running])
    before = await service.get_session(app_name=APP, user_id=USER, session_id=ID)
    count = 0 if before is None else len(before.events)
    await turn(runner, "Hello again")
    assert len((await stored(service)).events) == count + 2


async def test_a_call_that_waits_for_a_person_is_answered_after_a_restart(place: Place):
    if place.engine == "memory":
        pytest.skip("nothing is left of it after a restart")
    async with UnifiedSessionService(place.address) as service:
        events = await turn(runner_of(service, waiter()), "pay 7")
        (call,) = [call for event in events for call in event.get_function_calls()]
        assert events[0].long_running_tool_ids == {call.id}
    response = types.FunctionResponse(id=call.id, name="pay", response={"status": "paid"})
    answer = types.Content(role="user", parts=[types.Part(function_response=response)])
    async with UnifiedSessionService(place.address) as service:
        events = await turn(runner_of(service, waiter()), answer)
        assert events[-1].content.parts[0].text == "pay says {'status': 'paid'}"
        assert (await stored(service)).events[1].long_running_tool_ids == {call.id}


async def test_an_interrupted_invocation_is_resumed_by_its_id(place: Place):
    def runner(service: BaseSessionService) -> Runner:
        app = App(name=APP, root_agent=waiter(), resumability_config=ResumabilityConfig(is_resumable=True))
        return Runner(app=app, session_service=service, auto_create_session=True)

    async with place.open() as storage:
        service = UnifiedSessionService(storage)
        listening = runner(service).run_async(user_id=USER, session_id=ID, new_message=message("stock green"))
        async with aclosing(listening) as events:
            async for event in events:
                if event.get_function_responses():
                    break
        resumed = UnifiedSessionService(storage)
        told = [
            event
            async for event in runner(resumed).run_async(user_id=USER, session_id=ID, invocation_id=event.invocation_id)
        ]
        said = [part.text for event in told if event.content for part in event.content.parts]
        assert said == ["stock says {'tea': 'green', 'tins': 3}"]
        assert {one.invocation_id for one in (await stored(resumed)).events} == {event.invocation_id}


async def test_two_runs_at_once_are_told_or_merged(place: Place):
    """What ADK does where two requests for one session overlap: the one that comes second is told."""
    async with place.open() as storage:
        service = UnifiedSessionService(storage)
        await turn(runner_of(service, waiter()), "Hello")
        slow = runner_of(service, waiter()).run_async(user_id=USER, session_id=ID, new_message=message("stock a"))
        await anext(slow)
        await service.append_event(await stored(service), changed({"meanwhile": 1}))
        with pytest.raises(StaleSessionError):
            async for _ in slow:
                pass
        merging = UnifiedSessionService(storage, conflict="merge")
        slow = runner_of(merging, waiter()).run_async(user_id=USER, session_id=ID, new_message=message("stock b"))
        await anext(slow)
        await merging.append_event(await stored(merging), changed({"meanwhile": 2}))
        last = [event async for event in slow][-1]
        assert last.content.parts[0].text == "stock says {'tea': 'b', 'tins': 3}"
        assert (await stored(merging)).events[-1].id == last.id
        assert (await stored(merging)).state["meanwhile"] == 2


async def test_a_conversation_goes_on_in_another_process(place: Place):
    if place.engine == "memory":
        pytest.skip("other processes do not see it")

    async def answered(said: str) -> str:
        program = [sys.executable, "-m", "tests.session_bridges.adk_program", place.address, "turn", said]
        process = await asyncio.create_subprocess_exec(*program, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode().strip()

    assert await answered("Hello") == "answer to 1 messages"
    assert await answered("stock green") == "stock says {'tea': 'green', 'tins': 3}"
    assert await answered("And now?") == "answer to 7 messages"
    async with UnifiedSessionService(place.address) as service:
        found = await stored(service)
        assert (len(found.events), found.state["asked"]) == (8, ["green"])


async def test_a_runner_may_load_the_newest_events_alone(service: UnifiedSessionService):
    runner = runner_of(service, waiter())
    for _ in range(4):
        await turn(runner, "Hello")
    config = RunConfig(get_session_config=GetSessionConfig(num_recent_events=2))
    (event,) = await turn(runner, "What was said?", run_config=config)
    assert event.content.parts[0].text == "answer to 3 messages"
    assert len((await stored(service)).events) == 10
