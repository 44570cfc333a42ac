"""Many writers of one session, in one process and in several: nothing is lost, and nobody hears of the others."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from session_adapter import Event, ScopedSessionService, SessionKey, UserKey
from tests.places import EMBEDDED, ON_DISK, SERVERS, Place, engines, place_on
from tests.session_adapter.scoped.writing_program import KEY
from tests.support import REPOSITORY
from unified_storage import DELETE

PROGRAM = "tests.session_adapter.scoped.writing_program"
EVERYWHERE = engines(*EMBEDDED, *SERVERS)


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(engine, tmp_path) as found:
        yield found


@asynccontextmanager
async def program(place: Place, who: str, count: int, *, tasks: int, limit: int = 0) -> AsyncIterator[Process]:
    """A process that is ready to write; gone afterwards."""
    arguments = [place.url, place.namespace, who, str(count), str(tasks), str(limit)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", PROGRAM, *arguments, stdin=PIPE, stdout=PIPE, cwd=REPOSITORY
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def begin(*processes: Process) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")


async def told(process: Process) -> list[str]:
    """What it says until its end."""
    assert process.stdout is not None
    text = await process.stdout.read()
    await process.wait()
    return text.decode().split()


def levels(names: set[str]) -> dict[str, int]:
    return {f"{prefix}{name}": value for name in names for prefix, value in (("", 1), ("user:", 2), ("app:", 3))}


async def stored(service: ScopedSessionService) -> Any:
    session = await service.get_session(KEY)
    assert session is not None
    return session


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
@pytest.mark.parametrize("limit", [0, 30])
async def test_two_processes_append_to_one_session(place: Place, limit: int) -> None:
    """S1.17, S1.18, S1.19: 50 events at once, numbered without gaps, all deltas applied, the limit kept."""
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY)
        async with (
            program(place, "a", 25, tasks=25, limit=limit) as one,
            program(place, "b", 25, tasks=25, limit=limit) as other,
        ):
            begin(one, other)
            acknowledged = {*await told(one), *await told(other)}
            assert (one.returncode, other.returncode) == (0, 0)
        names = {f"{who}{number}" for who in "ab" for number in range(25)}
        assert acknowledged == names
        found = await stored(service)
        assert found.state == levels(names)
        assert [event.seq for event in found.events] == [*range(1, 51)][-limit:]
        assert {event.content for event in found.events} <= names


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_a_process_that_is_killed_loses_nothing_acknowledged_and_leaves_no_half_step(place: Place) -> None:
    """S1.17, S1.19: events and deltas of a session and its user are there together, or not at all."""
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY)
        async with program(place, "a", 0, tasks=5) as killed, program(place, "b", 60, tasks=5) as other:
            begin(killed, other)
            assert killed.stdout is not None
            acknowledged = [(await killed.stdout.readline()).decode().strip() for _ in range(20)]
            killed.send_signal(signal.SIGKILL)
            acknowledged += (await told(killed))[:-1]  # the last line may be cut off
            finished = await told(other)
            assert other.returncode == 0
            assert {*finished} == {f"b{number}" for number in range(60)}
        found = await stored(service)
        names = [event.content for event in found.events]
        assert {*acknowledged, *finished} <= {*names}
        assert len(names) == len({*names})
        assert [event.seq for event in found.events] == [*range(1, len(names) + 1)]
        app = {key: value for key, value in found.state.items() if key.startswith("app:")}
        assert found.state == levels({*names}) | app
        extra = {key.removeprefix("app:") for key in app} - {*names}
        if place.engine != "redis-cluster":  # there they are written first: of events that were under way
            assert not extra
        assert len(extra) <= 5
        await service.append_event(KEY, Event(role="user", content="goes on", state_delta={"still": True}))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", EVERYWHERE)
async def test_updates_of_different_keys_equal_those_of_one_after_the_other(place: Place, scaled) -> None:
    """S1.16, S1.19: 64 writers, each with keys of its own, values and deletions, by updates and by events."""
    rounds = scaled(1000, minimum=10)

    async def write(service: ScopedSessionService, writer: int) -> dict[str, Any]:
        chance = random.Random(writer)
        mine: dict[str, Any] = {}
        for number in range(rounds):
            key = f"{chance.choice(['', '', 'user:', 'app:'])}w{writer}k{chance.randrange(4)}"
            value = chance.choice([number, {"n": number}, [number], DELETE])
            if chance.random() < 0.8:
                await service.update_session_state(KEY, {key: value})
            else:
                await service.append_event(KEY, {"role": "user", "state_delta": {key: value}})
            mine[key] = value
        return {key: value for key, value in mine.items() if value is not DELETE}

    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY, {"other": 1, "user:other": 2, "app:other": 3})
        reference = await asyncio.gather(*(write(service, writer) for writer in range(64)))
        expected = {"other": 1, "user:other": 2, "app:other": 3}
        for part in reference:
            expected |= part
        assert (await stored(service)).state == expected


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", EVERYWHERE)
async def test_the_first_writers_of_an_app_and_of_a_user_meet(place: Place) -> None:
    """T1.10, S1.16: by updates, by new sessions, by events; all of them at once, none refused."""
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY)

        async def write(n: int) -> None:
            match n % 4:
                case 0:
                    await service.update_app_state("shop", {f"a{n}": n})
                    await service.update_user_state(KEY.user, {f"u{n}": n})
                case 1:
                    await service.create_session(SessionKey("shop", "ann", f"n{n}"), {f"app:a{n}": n, f"user:u{n}": n})
                case 2:
                    await service.append_event(KEY, {"role": "user", "state_delta": {f"app:a{n}": n, f"user:u{n}": n}})
                case 3:
                    await service.update_session_state(KEY, {f"app:a{n}": n, f"user:u{n}": n})

        await asyncio.gather(*(write(n) for n in range(24)))
        assert await service.list_app_states("shop") == {f"a{n}": n for n in range(24)}
        assert await service.list_user_states(UserKey("shop", "ann")) == {f"u{n}": n for n in range(24)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", EVERYWHERE)
async def test_one_of_many_creates_the_session(place: Place) -> None:
    """S1.6."""
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        outcomes = await asyncio.gather(
            *(service.create_session(KEY, {"n": n} | ({"user:n": n} if n % 2 else {})) for n in range(20)),
            return_exceptions=True,
        )
        made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(made) == 1
        assert {type(outcome).__name__ for outcome in outcomes} == {"Session", "SessionAlreadyExistsError"}
        found = await stored(service)
        n = found.state["n"]
        assert found.state == {"n": n} | ({"user:n": n} if n % 2 else {})


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", EVERYWHERE)
async def test_a_reader_sees_state_and_events_that_belong_together(place: Place) -> None:
    """S0.24: each event sets ``n`` to its number, so that what is read of both must agree."""
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY, {"n": 0})
        over = asyncio.Event()

        async def read() -> int:
            looks = 0
            while not over.is_set():
                for session in (
                    await service.get_session(KEY, event_num=3),
                    *(await service.list_sessions(KEY.user, with_events=True)).items,
                ):
                    assert session is not None
                    last = session.events[-1].seq if session.events else 0
                    assert session.state["n"] == last
                    looks += 1
            return looks

        readers = [asyncio.create_task(read()) for _ in range(3)]
        for number in range(1, 41):
            await service.append_event(KEY, {"role": "user", "state_delta": {"n": number}})
        over.set()
        assert sum(await asyncio.gather(*readers)) > 5


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", EVERYWHERE)
async def test_a_cancelled_append_is_wholly_done_or_not_at_all(place: Place) -> None:
    async with place.open() as storage:
        service = ScopedSessionService(storage)
        await service.create_session(KEY)

        def append(name: str) -> asyncio.Task[int]:
            delta = {name: 1, f"user:{name}": 2}
            return asyncio.create_task(
                service.append_event(KEY, {"role": "user", "content": name, "state_delta": delta})
            )

        tasks: dict[str, asyncio.Task[int]] = {}
        for round in range(6):
            now = {f"r{round}t{n}": append(f"r{round}t{n}") for n in range(6)}
            await asyncio.sleep(0.004 * round)
            for task in [*now.values()][::2]:
                task.cancel()
            await asyncio.gather(*now.values(), return_exceptions=True)
            tasks |= now
        found = await stored(service)
        names = [event.content for event in found.events]
        assert found.state == {f"{prefix}{name}": value for name in names for prefix, value in (("", 1), ("user:", 2))}
        assert {name for name, task in tasks.items() if not task.cancelled()} <= {*names}
        assert [event.seq for event in found.events] == [*range(1, len(names) + 1)]
