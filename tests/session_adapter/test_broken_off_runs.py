"""A run that is broken off leaves a consistent session, whatever breaks it off (S1.23)."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from session_adapter import (
    Event,
    RunContext,
    Runner,
    ScopedSessionService,
    SessionKey,
    SessionNotFoundError,
    SessionStorageAdapter,
)
from tests.places import EMBEDDED, ON_DISK, SERVERS, Place, engines, place_on
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
from tests.session_adapter.delegates import Failing, Spy
from tests.session_adapter.transcripts import fault
from tests.support import REPOSITORY
from unified_storage import IUnifiedStorage, StorageError, open_storage
from unified_storage.delegate import Delegate
from unified_storage.testing import ManualClock

T = TypeVar("T")
PROGRAM = "tests.session_adapter.runner_program"
NO_RESULT = ("tool", "The run was interrupted before this had a result.")
THE_END = ("assistant", "The run was interrupted.")
PIECE = {"role": "assistant", "content": "I lo", "partial": True}
STEPS = (PIECE, calls("c1", "c2", text="I look"), found("c2"), found("c1"), said("here it is"))


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


@pytest.fixture
def service(storage: IUnifiedStorage) -> ScopedSessionService:
    return ScopedSessionService(storage)


async def open_runs(storage: IUnifiedStorage) -> list[str]:
    records = await storage.list({"type": "session"})
    return [run for record in records for run in record["metadata"]["~"].get("open_runs", {})]


async def check_closed(service: ScopedSessionService) -> list[dict[str, Any]]:
    """The session is consistent, and says how its one run ended."""
    assert await open_runs(service.storage) == []
    if await service.get_session(KEY) is None:
        return []
    events = await stored(service)
    check_consistent(events)
    if events and (events[-1]["content"], len(events)) != ("here it is", 5):
        assert (events[-1]["role"], events[-1]["status"]) == ("assistant", "interrupted")
        assert len({event["run_id"] for event in events}) == 1
    return events


# by its listener


@pytest.mark.parametrize("heard_events", range(1, 6))
async def test_a_stream_that_is_closed_ends_its_run(service: ScopedSessionService, heard_events: int) -> None:
    agent = Waiting(*STEPS)
    events = Runner("shop", agent, service).run("ann", "s1", "hello")
    for _ in range(heard_events):
        await anext(events)
    await events.aclose()
    assert agent.ended == ["GeneratorExit"]
    whole = [
        ("user", "hello"),
        ("assistant", "I look"),
        ("tool", "found"),
        ("tool", "found"),
        ("assistant", "here it is"),
    ]
    missing = [NO_RESULT] * (0, 0, 2, 1, 0, 0)[heard_events]
    assert told(await stored(service)) == [*whole[:heard_events], *missing, THE_END]
    check_consistent(await stored(service))
    assert await open_runs(service.storage) == []


async def test_what_is_told_of_a_run_that_was_broken_off(service: ScopedSessionService) -> None:
    events = Runner("shop", Waiting(*STEPS), service).run("ann", "s1", "hello")
    await anext(events)
    await anext(events)
    await events.aclose()
    message, _, first, second, last = await stored(service)
    for result, call in ((first, "c1"), (second, "c2")):
        assert (result["role"], result["tool_call_id"], result["name"]) == ("tool", call, "look")
        assert (result["status"], result["interrupted"]) == ("error", True)
    assert (last["role"], last["status"], last["reason"]) == ("assistant", "interrupted", "closed")
    assert {event["run_id"] for event in (first, second, last)} == {message["run_id"]}


async def test_a_listener_that_leaves_ends_its_run(service: ScopedSessionService) -> None:
    """Without a word: the stream is closed as soon as nobody holds it."""
    agent = Waiting(*STEPS)
    async for event in Runner("shop", agent, service).run("ann", "s1", "hello"):
        if event.tool_calls:
            break
    del event
    gc.collect()
    for _ in range(200):
        if agent.ended and await open_runs(service.storage) == []:
            break
        await asyncio.sleep(0.02)
    assert told(await check_closed(service))[2:] == [NO_RESULT, NO_RESULT, THE_END]


async def test_a_cancelled_listener_ends_its_run(service: ScopedSessionService) -> None:
    agent = Waiting(*STEPS[:3], None)
    task = asyncio.create_task(heard(Runner("shop", agent, service)))
    await agent.waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert agent.ended == ["CancelledError"]
    events = await check_closed(service)
    assert told(events)[2:] == [("tool", "found"), NO_RESULT, THE_END]
    assert events[-1]["reason"] == "cancelled"


@pytest.mark.parametrize("cancels", [1, 2, 3])
async def test_a_cancellation_at_any_moment_leaves_a_consistent_session(cancels: int) -> None:
    """In every step of the event loop, also while the run is being closed."""
    ended = 0
    for moment in range(400):
        async with ScopedSessionService() as service:
            task = asyncio.create_task(heard(Runner("shop", Waiting(*STEPS), service)))
            for step in range(moment + cancels):
                await asyncio.sleep(0)
                if step >= moment:
                    task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            ended += not task.cancelled()
            await check_closed(service)
        if ended > 2:
            break
    assert moment > 10
    assert ended > 2


async def test_a_cancellation_at_some_moment_leaves_a_consistent_session(service: ScopedSessionService) -> None:
    """The same where storing takes its time."""
    for moment in range(12):
        task = asyncio.create_task(heard(Runner("shop", Waiting(*STEPS), service)))
        await asyncio.sleep(moment * 0.004)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await check_closed(service)
        await service.delete_session(KEY)


async def test_a_run_that_takes_too_long_is_cancelled_and_closed(service: ScopedSessionService) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await heard(Runner("shop", Waiting(*STEPS[:2], None), service))
    assert told(await check_closed(service))[2:] == [NO_RESULT, NO_RESULT, THE_END]


# by the agent


@pytest.mark.parametrize("steps", range(6))
async def test_an_agent_that_raises_ends_its_run(service: ScopedSessionService, steps: int) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        for event in STEPS[:steps]:
            yield event
        raise failure

    failure = LookupError("no such tea")
    with pytest.raises(LookupError) as raised:
        await heard(Runner("shop", Function(run), service))
    assert raised.value is failure
    events = await stored(service)
    check_consistent(events)
    assert (events[-1]["status"], events[-1]["reason"]) == ("interrupted", "LookupError")
    assert await open_runs(service.storage) == []


async def test_an_agent_may_survive_a_cancellation(service: ScopedSessionService) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        waits.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield said("I go on")

    waits = asyncio.Event()
    task = asyncio.create_task(heard(Runner("shop", Function(run), service)))
    await waits.wait()
    task.cancel()
    assert [event.content for event in await task] == ["I go on"]
    assert told(await stored(service)) == [("user", "hello"), ("assistant", "I go on")]


async def test_an_agent_without_a_generator_is_run_too(service: ScopedSessionService) -> None:
    class Once:
        def __init__(self) -> None:
            self.left = [said("hi")]

        def __aiter__(self) -> Once:
            return self

        async def __anext__(self) -> Event:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    await heard(Runner("shop", Function(lambda _: Once()), service))
    assert told(await check_closed_by_its_end(service)) == [("user", "hello"), ("assistant", "hi")]


async def check_closed_by_its_end(service: ScopedSessionService) -> list[dict[str, Any]]:
    assert await open_runs(service.storage) == []
    return await stored(service)


# by the storage


async def test_a_failing_storage_is_told_and_the_next_run_closes_the_last_one(storage: IUnifiedStorage) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        yield calls("c1")
        broken._verbs = ()  # from here on all of them fail
        yield found("c1")

    failure = StorageError("the disk is full")
    broken = Failing(storage, failure, "no verb yet")
    runner = Runner("shop", Function(run), ScopedSessionService(broken))
    with pytest.raises(StorageError) as raised:
        await heard(runner)
    assert raised.value is failure
    service = ScopedSessionService(storage)
    assert [*failure.__notes__] == [
        "closing the run failed too, so the next run of the session closes it: the disk is full",
    ]
    assert len(await open_runs(storage)) == 1
    await heard(Runner("shop", Scripted(), service), "again")
    assert told(await stored(service))[2:4] == [NO_RESULT, THE_END]
    assert await open_runs(storage) == []


async def test_a_session_that_is_deleted_meanwhile_ends_its_run(service: ScopedSessionService) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        await service.delete_session(KEY)
        yield said("into the void")

    with pytest.raises(SessionNotFoundError) as raised:
        await heard(Runner("shop", Function(run), service))
    assert not getattr(raised.value, "__notes__", [])
    assert await service.get_session(KEY) is None


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("role", ["assistant", "tool"])
async def test_a_session_that_is_deleted_while_its_run_is_closed_leaves_nothing(
    service: ScopedSessionService, monkeypatch: pytest.MonkeyPatch, role: str, anew: bool
) -> None:
    append_of_run = service.append_of_run

    async def deleted_first(key: SessionKey, event: Any, **options: Any) -> int:
        if event["role"] == role and event.get("status"):
            await service.delete_session(key)
            if anew:
                await service.create_session(key)
        return await append_of_run(key, event, **options)

    monkeypatch.setattr(service, "append_of_run", deleted_first)
    events = Runner("shop", Waiting(*STEPS), service).run("ann", "s1", "hello")
    await anext(events)
    await anext(events)
    await events.aclose()
    if anew:
        await check_untouched(service, [], 1)
    else:
        assert await service.get_session(KEY) is None


async def check_untouched(service: ScopedSessionService, contents: list[Any], version: int) -> None:
    """The session is as its maker left it."""
    assert [content for _, content in told(await stored(service))] == contents
    [record] = await service.storage.list({"type": "session"})
    assert record["version"] == version
    assert await open_runs(service.storage) == []


async def made_anew(service: ScopedSessionService, events: int) -> None:
    await service.delete_session(KEY)
    await service.create_session(KEY)
    for number in range(events):
        await service.append_event(KEY, {"role": "user", "content": f"new {number}"})


@pytest.mark.parametrize("events", [0, 1, 5])
@pytest.mark.parametrize("delta", [{}, {"cart": ["tea"], "user:n": 1, "app:n": 1}])
async def test_a_run_does_not_go_on_in_a_session_that_was_made_anew(
    service: ScopedSessionService, events: int, delta: dict[str, Any]
) -> None:
    """What belongs to the conversation that was deleted is not told to its successor."""

    async def run(context: RunContext) -> AsyncIterator[Told]:
        yield calls("c1")
        await made_anew(service, events)
        yield found("c1") | {"state_delta": delta}

    with pytest.raises(SessionNotFoundError) as raised:
        await heard(Runner("shop", Function(run), service))
    assert not getattr(raised.value, "__notes__", [])
    await check_untouched(service, [f"new {number}" for number in range(events)], 1 + events)
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {}


async def test_a_run_that_ends_leaves_a_session_that_was_made_anew_alone(service: ScopedSessionService) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        yield said("hi")
        await made_anew(service, 2)

    await heard(Runner("shop", Function(run), service))
    await check_untouched(service, ["new 0", "new 1"], 3)


async def test_a_run_goes_on_in_a_session_that_was_saved_meanwhile(service: ScopedSessionService) -> None:
    async def run(context: RunContext) -> AsyncIterator[Told]:
        sessions = SessionStorageAdapter(service.storage)
        document = await sessions.require_session(KEY)
        await sessions.save_session(KEY, document | {"session_name": "tea"})
        yield said("hi")

    await heard(Runner("shop", Function(run), service))
    assert told(await stored(service)) == [("user", "hello"), ("assistant", "hi")]


async def test_closing_a_run_reads_no_further_than_it_reaches(storage: IUnifiedStorage) -> None:
    spy = Spy(storage)
    service = ScopedSessionService(spy)
    await service.create_session(KEY)
    await SessionStorageAdapter(storage).events.append(KEY, [{"role": "user", "content": "old"}] * 500)
    events = Runner("shop", Waiting(*STEPS), service, history_limit=0).run("ann", "s1", "hello")
    await anext(events)
    await anext(events)
    spy.forget()
    await events.aclose()
    read = spy.numbers["read"]
    assert told(await stored(service))[-4:] == [("assistant", "I look"), NO_RESULT, NO_RESULT, THE_END]
    assert read < 10


async def test_a_session_that_is_deleted_as_its_run_begins_is_told(
    service: ScopedSessionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deleted(key: SessionKey, number: int, **_: Any) -> None:
        await service.delete_session(key)

    monkeypatch.setattr(service, "session_at", deleted)
    with pytest.raises(SessionNotFoundError):
        await heard(Runner("shop", Scripted(), service))
    assert await open_runs(service.storage) == []


async def test_a_run_that_has_ended_is_struck_off_though_it_is_cancelled(storage: IUnifiedStorage) -> None:
    class Held(Delegate):
        async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
            if agent.ended:
                waits.set()
                await goes_on.wait()
            return await super().atomically(fn, attempts=attempts)

    waits, goes_on = asyncio.Event(), asyncio.Event()
    service, agent = ScopedSessionService(Held(storage)), Waiting(said("hi"))
    task = asyncio.create_task(heard(Runner("shop", agent, service)))
    await waits.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert len(await open_runs(storage)) == 1
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await open_runs(storage) == []
    assert told(await stored(service)) == [("user", "hello"), ("assistant", "hi")]


# by the end of its process


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_a_killed_run_is_closed_by_the_next_one(engine: str, tmp_path: Path) -> None:
    """S1.22, S1.23: kill -9 in the middle of a run; the next one begins at once, in a process of its own."""
    async with place_on(engine, tmp_path) as place:
        with started(place, "waits", "where is it?") as process:
            assert await line_of(process) == "ready\n"
            process.kill()
        conversation = [["user", "where is it?", None], ["assistant", "I look", None]]
        results = [["tool", "found", "c1"], ["tool", NO_RESULT[1], "c2"], [*THE_END, None]]
        assert await given(place, "hello?") == [*conversation, *results, ["user", "hello?", None]]
        said_then = [["user", "hello?", None], ["assistant", "answered", None], ["user", "and now?", None]]
        assert await given(place, "and now?") == [*conversation, *results, *said_then]
        async with place.open() as storage:
            events = await stored(ScopedSessionService(storage))
            assert fault(events) is None
            assert [event["reason"] for event in events if event["status"] == "interrupted"] == ["lost"]
            assert await open_runs(storage) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_a_run_of_a_living_process_is_left_alone(engine: str, tmp_path: Path) -> None:
    """S1.19: two processes at once, both end; nothing is lost."""
    async with place_on(engine, tmp_path) as place:
        with started(place, "waits", "one") as process:
            assert await line_of(process) == "ready\n"
            assert await given(place, "two") == [
                ["user", "one", None],
                ["assistant", "I look", None],
                ["tool", "found", "c1"],
                ["user", "two", None],
            ]
            _, errors = await asyncio.to_thread(process.communicate, "go on\n")
            assert process.returncode == 0, errors
        async with place.open() as storage:
            service = ScopedSessionService(storage)
            assert [content for _, content in told(await stored(service))] == [
                *("one", "I look", "found", "two", "answered", "found", "here it is"),
            ]
            assert await open_runs(storage) == []
            runs = await SessionStorageAdapter(storage).runs.read(KEY)
            assert [len(run["messages"]) for run in runs] == [5, 2]


@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_run_of_another_machine_is_closed_when_it_is_lost(
    monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    clock = ManualClock()
    async with open_storage("memory://", clock=clock) as storage:
        service = ScopedSessionService(storage)
        elsewhere = {"host": "elsewhere", "pid": 1, "started": "1"}
        agent = Waiting(calls("c1"), None, found("c1", "late"), said("at last"))
        with monkeypatch.context() as patched:
            patched.setattr("session_adapter.open_runs.this_process", lambda: elsewhere)
            task = asyncio.create_task(heard(Runner("shop", agent, service)))
            await agent.waits.wait()
        patched.setattr("session_adapter.open_runs._under_way", set())
        clock.advance(minutes=59)
        await heard(Runner("shop", Scripted(), service), "is it there?")
        assert len(await open_runs(storage)) == 1
        clock.advance(minutes=2)
        await heard(Runner("shop", Scripted(), service), "and now?")
        assert await open_runs(storage) == []
        texts = told(await stored(service))
        assert texts[4:6] == [NO_RESULT, THE_END]
        # It was not lost after all.
        if goes_on:
            agent.goes_on.set()
            await task
            assert told(await stored(service)) == [*texts, ("tool", "late"), ("assistant", "at last")]
        else:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert told(await stored(service)) == texts  # what it ends with is there already


async def test_a_run_that_is_closed_twice_is_closed_once(storage: IUnifiedStorage) -> None:
    """Two runs that begin at once find the same lost one."""
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    note = {
        "process": {"host": "elsewhere", "pid": 1, "started": "1"},
        "began": "2020-01-01T00:00:00+00:00",
        "after": 0,
    }
    [record] = await storage.list({"type": "session"})
    await storage.update(record["id"], {"metadata": {"~": {"open_runs": {"lost": note}}}}, type="session")
    for event in ({"role": "user", "content": "hello"}, calls("c1", "c2")):
        await service.append_event(KEY, event | {"run_id": "lost"})
    await asyncio.gather(*[heard(Runner("shop", Scripted(said("hi")), service), "?") for _ in range(8)])
    closed = [event for event in told(await stored(service)) if event in (NO_RESULT, THE_END)]
    assert closed == [NO_RESULT, NO_RESULT, THE_END]
    assert await open_runs(storage) == []


async def test_a_run_of_which_nothing_was_stored_leaves_nothing(
    service: ScopedSessionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was broken off between its note and its first event."""

    async def never(*_: Any, **__: Any) -> int:
        noted.set_result(await open_runs(service.storage))
        return await asyncio.Event().wait()

    noted = asyncio.get_running_loop().create_future()
    with monkeypatch.context() as patched:
        patched.setattr(service, "append_of_run", never)
        task = asyncio.create_task(heard(Runner("shop", Scripted(), service)))
        assert len(await noted) == 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert await open_runs(service.storage) == []
    assert await stored(service) == []


def started(place: Place, agent: str, message: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", PROGRAM, place.url, place.namespace, agent, message]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    if not line:
        _, errors = await asyncio.to_thread(process.communicate)
        raise AssertionError(errors)
    return line


async def given(place: Place, message: str) -> Any:
    """What an agent is given in a run of another process."""
    with started(place, "answers", message) as process:
        out, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    return json.loads(out)
