"""Many tasks, threads and processes on the same sessions."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from session_adapter import Run, Session, SessionAlreadyExistsError, SessionNotFoundError, SessionRepository
from tests.places import EMBEDDED, ON_DISK, SERVERS, Place, engines, place_on
from tests.support import REPOSITORY

MANY = 50


async def _made(repository: SessionRepository, number: int, runs: list[Run]) -> int | None:
    """*number* where this call made the session, None where somebody else had."""
    try:
        session = Session(session_id="s1", state={"maker": number}, runs=runs)
        await repository.create(session, if_exists="error")
    except SessionAlreadyExistsError:
        return None
    return number


@pytest.mark.parametrize("with_runs", [False, True])
async def test_of_many_who_create_one_session_exactly_one_does(repository: SessionRepository, with_runs: bool) -> None:
    """S0.12."""
    runs = [[Run(run_id=f"r{number}")] if with_runs else [] for number in range(MANY)]
    answers = await asyncio.gather(*(_made(repository, number, runs[number]) for number in range(MANY)))
    [winner] = [answer for answer in answers if answer is not None]
    found = await repository.get("s1")
    assert found.state == {"maker": winner}
    assert found.runs == runs[winner]


async def test_many_who_create_or_update_one_session_are_all_served(repository: SessionRepository) -> None:
    made = await asyncio.gather(
        *(repository.create(Session(session_id="s1", runs=[Run(run_id=f"r{number}")])) for number in range(20))
    )
    assert len({session.created_at for session in made}) == 1
    assert sorted(run.run_id for run in (await repository.get("s1")).runs) == sorted(f"r{n}" for n in range(20))


CREATE = """
import asyncio, json, sys
from session_adapter import Session, SessionAlreadyExistsError, SessionRepository

async def made(repository, name):
    try:
        await repository.create(Session(session_id=name, state={"maker": sys.argv[3]}), if_exists="error")
    except SessionAlreadyExistsError:
        return False
    return True

async def main():
    async with SessionRepository(sys.argv[1], namespace=sys.argv[2]) as repository:
        print("ready", flush=True)
        sys.stdin.readline()
        names = [f"s{n}" for n in range(10)]
        answers = await asyncio.gather(*(made(repository, name) for name in names))
        print(json.dumps([name for name, answer in zip(names, answers) if answer]))

asyncio.run(main())
"""


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_of_two_processes_that_create_one_session_exactly_one_does(engine: str, tmp_path: Any) -> None:
    """S0.12, S0.27: what one process wrote, the other reads."""
    async with place_on(engine, tmp_path) as place:
        async with place.open() as storage:
            await storage.count()
        programs = await asyncio.gather(*(_program(place, str(number)) for number in range(2)))
        for program in programs:
            assert program.stdout is not None
            assert await program.stdout.readline() == b"ready\n"
        said = await asyncio.gather(*(program.communicate(b"\n") for program in programs))
        answers = [json.loads(output) for output, _ in said]
        assert [program.returncode for program in programs] == [0, 0]
        assert sorted(answers[0] + answers[1]) == [f"s{n}" for n in range(10)]
        async with SessionRepository(place.url, namespace=place.namespace) as repository:
            for number, names in enumerate(answers):
                for name in names:
                    assert (await repository.get(name)).state == {"maker": str(number)}


async def _program(place: Place, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CREATE, place.url, place.namespace, name),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _write_whole_versions(repository: SessionRepository, writer: int, times: int) -> None:
    for time in range(times):
        session = await repository.get("s1")
        mark = f"{writer}-{time}"
        session.state = {"mark": mark, "again": [mark]}
        session.add_run({"run_id": "marked", "mark": mark, "messages": [{"role": "user", "content": mark}] * 3})
        await repository.update(session)


def _is_one_version(session: Session) -> bool:
    """Whether document and runs were written together, by one writer."""
    [run] = session.runs
    marks = {session.state["mark"], *session.state["again"], *(message["content"] for message in run.messages)}
    return marks == {run.mark}  # type: ignore[attr-defined]  # a run's own further key


async def _begun(repository: SessionRepository) -> None:
    run = Run.model_validate({"run_id": "marked", "mark": "", "messages": []})
    await repository.create(Session(session_id="s1", state={"mark": "", "again": []}, runs=[run]))


async def test_every_read_is_one_complete_version(repository: SessionRepository) -> None:
    """S0.24."""
    await _begun(repository)
    seen: list[bool] = []

    async def read() -> None:
        for _ in range(6):
            seen.append(_is_one_version(await repository.get("s1")))
            [listed] = await repository.list()
            seen.append(_is_one_version(listed))

    writers = [_write_whole_versions(repository, writer, 3) for writer in range(5)]
    await asyncio.gather(*writers, *(read() for _ in range(5)))
    assert seen == [True] * 60


async def test_many_tasks_at_once_lose_nothing(repository: SessionRepository, scaled: Callable[..., int]) -> None:
    """S0.24: 200 tasks on ten sessions, each adds a run to one that it read."""
    tasks = scaled(200, minimum=40)
    for number in range(10):
        await repository.create(Session(session_id=f"s{number}"))

    async def add(number: int) -> None:
        session = await repository.get(f"s{number % 10}")
        session.add_run({"run_id": f"r{number}"})
        await repository.update(session)
        await repository.list()

    await asyncio.gather(*(add(number) for number in range(tasks)))
    found = {run.run_id for session in await repository.list() for run in session.runs}
    assert found == {f"r{number}" for number in range(tasks)}


@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SERVERS))
async def test_one_store_serves_many_threads(engine: str, tmp_path: Any) -> None:
    """S0.24: each thread has an event loop of its own."""
    async with place_on(engine, tmp_path) as place, place.open() as storage:
        repository = SessionRepository(storage)
        await _begun(repository)

        async def work(number: int) -> bool:
            await _write_whole_versions(repository, number, 2)
            return _is_one_version(await repository.get("s1"))

        def in_a_loop_of_its_own(number: int) -> bool:
            return asyncio.run(work(number))

        with ThreadPoolExecutor(5) as threads:
            loop = asyncio.get_running_loop()
            working = [loop.run_in_executor(threads, in_a_loop_of_its_own, number) for number in range(5)]
            answers = await asyncio.gather(*working)
        assert answers == [True] * 5
        assert _is_one_version(await repository.get("s1"))


async def test_one_that_is_deleted_while_it_is_updated_does_not_come_back(repository: SessionRepository) -> None:
    for _ in range(5):
        session = await repository.create(Session(session_id="s1", runs=[Run(run_id="a")]))
        session.add_run({"run_id": "b"})
        await asyncio.gather(repository.update(session), repository.delete("s1"), return_exceptions=True)
        with pytest.raises(SessionNotFoundError):
            await repository.get("s1")
        assert [log async for batch in repository.storage.logs() for log in batch] == []
