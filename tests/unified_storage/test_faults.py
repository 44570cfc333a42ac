"""Faults on purpose do what they say, and nothing else."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.places import EMBEDDED, SERVERS, engines, place_on
from unified_storage import (
    StorageConflictError,
    StorageConnectionError,
    StorageTimeoutError,
    StorageTransactionError,
    open_storage,
)
from unified_storage.testing import FaultyStorage, StorageConformance, kill_at_random_moments
from unified_storage.testing.drafts import bodies, body, gathered, note, save_all, session, stored

LOST = StorageConnectionError("the connection was lost")


class TestFaultyWithoutFaults(StorageConformance):
    """With nothing planned it is the storage behind it."""

    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: FaultyStorage(open_storage("memory://", **options))


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def faulty(request: pytest.FixtureRequest, tmp_path: Path):
    async with place_on(request.param, tmp_path) as place, FaultyStorage(place.open()) as storage:
        yield storage


async def test_a_verb_fails_at_the_chosen_call_and_only_then(faulty: FaultyStorage) -> None:
    faulty.fail("save", LOST, call=2)
    await faulty.save(note("a"))
    with pytest.raises(StorageConnectionError):
        await faulty.save(note("b"))
    await faulty.save(note("c"))
    assert [record["id"] for record in await faulty.list()] == ["a", "c"]
    assert faulty.calls["save"] == 3


async def test_calls_are_counted_from_the_moment_of_planning(faulty: FaultyStorage) -> None:
    await save_all(faulty, [note("a"), note("b")])
    faulty.fail("save", LOST)
    with pytest.raises(StorageConnectionError):
        await faulty.save(note("c"))
    await faulty.save(note("c"))


async def test_every_call_can_fail_until_it_is_healed(faulty: FaultyStorage) -> None:
    faulty.fail("*", LOST, call=None)
    for call in (faulty.save(note("a")), faulty.load("a"), gathered(faulty.stream_list()), faulty.health_check()):
        with pytest.raises(StorageConnectionError):
            await call
    faulty.heal()
    await faulty.save(note("a"))


async def test_an_answer_can_be_lost_after_the_work_was_done(faulty: FaultyStorage) -> None:
    faulty.fail("save", LOST, after=True)
    with pytest.raises(StorageConnectionError):
        await faulty.save(note("a"))
    assert await faulty.exists("a")


async def test_a_call_can_be_cancelled_from_inside(faulty: FaultyStorage) -> None:
    faulty.fail("load", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await faulty.load("a")


async def test_a_call_can_dawdle(faulty: FaultyStorage) -> None:
    faulty.delay("load", 30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await faulty.load("a")
    assert await faulty.exists("a") is False


async def test_a_stream_can_break_in_the_middle(faulty: FaultyStorage) -> None:
    await save_all(faulty, [note(f"{n}") for n in range(6)])
    faulty.fail("stream_list", LOST, call=2)
    seen = []
    with pytest.raises(StorageConnectionError):
        async for batch in faulty.stream_list(batch_size=2):
            seen += [record["id"] for record in batch]
    assert seen == ["0", "1"]


async def test_a_verb_that_fails_in_a_transaction_undoes_it(faulty: FaultyStorage) -> None:
    await faulty.save(session("s"))
    faulty.fail("append", LOST)
    with pytest.raises(StorageConnectionError):
        async with faulty.transaction() as tx:
            await tx.update("s", {"data": {"x": 1}})
            await tx.append("events/s", [body(1)])
    assert (await stored(faulty, "s"))["version"] == 1


async def test_a_caught_failure_dooms_the_transaction(faulty: FaultyStorage) -> None:
    faulty.fail("append", LOST)
    with pytest.raises(StorageTransactionError) as failure:
        async with faulty.transaction() as tx:
            await tx.save(session("s"))
            with pytest.raises(StorageConnectionError):
                await tx.append("events/s", [body(1)])
            with pytest.raises(StorageTransactionError):
                await tx.load("s")
    assert failure.value.cause is LOST
    assert await faulty.load("s") is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_commit_can_fail_before_or_after_it_is_done(faulty: FaultyStorage, after: bool) -> None:
    faulty.fail("commit", LOST, after=after)
    with pytest.raises(StorageConnectionError):
        async with faulty.transaction() as tx:
            await tx.save(note("a"))
    assert await faulty.exists("a") is after
    async with faulty.transaction() as tx:
        await tx.save(note("b"))
    assert await faulty.exists("b")


async def test_operations_of_a_list_fail_with_their_index(faulty: FaultyStorage) -> None:
    faulty.fail("append", StorageTimeoutError("too slow"))
    with pytest.raises(StorageTransactionError) as failure:
        await faulty.transaction(
            [
                {"type": "save", "data": session("s")},
                {"type": "append", "log_id": "events/s", "entries": [body(1)]},
            ]
        )
    assert (failure.value.index, failure.value.retryable) == (1, True)
    assert await faulty.load("s") is None


async def test_conflicts_on_purpose_are_repeated_by_atomically(faulty: FaultyStorage) -> None:
    await faulty.save(session("s"))
    for call in (1, 2):
        faulty.fail("commit", StorageConflictError("busy", retryable=True), call=call)

    async def work(tx):
        await tx.append("events/s", [body(1)])

    await faulty.atomically(work)
    assert await bodies(faulty, "events/s") == [1]
    assert faulty.calls["commit"] == 3


async def test_a_joined_transaction_fails_as_a_whole(faulty: FaultyStorage) -> None:
    faulty.fail("update", LOST)
    with pytest.raises(StorageTransactionError):
        async with faulty.transaction() as outer:
            await outer.save(note("a"))
            with pytest.raises(StorageConnectionError):
                async with outer.transaction() as inner:
                    await inner.update("a", {})
    assert await faulty.count() == 0


# -- processes ------------------------------------------------------------------------------------------------------

WRITER = """
import sys, time
while True:
    with open(sys.argv[1], "a") as file:
        file.write("x")
    time.sleep(0.001)
"""


def test_processes_are_killed_at_random_moments(tmp_path: Path) -> None:
    seen = []
    file = tmp_path / "written"
    runs = kill_at_random_moments(
        [sys.executable, "-c", WRITER, str(file)],
        times=4,
        longest=0.4,
        seed=2,
        after_each=lambda run: seen.append((run, file.stat().st_size if file.exists() else 0)),
    )
    assert [run for run, _ in seen] == runs
    assert all(run.killed and run.seconds < 5 for run in runs)
    assert len({round(run.seconds, 2) for run in runs}) > 1
    time.sleep(0.05)
    assert (file.stat().st_size if file.exists() else 0) == seen[-1][1]


def test_a_process_that_ends_in_time_has_to_end_well() -> None:
    (run,) = kill_at_random_moments([sys.executable, "-c", "pass"], times=1, longest=60, seed=1)
    assert run.killed is False
    with pytest.raises(subprocess.CalledProcessError) as failure:
        kill_at_random_moments([sys.executable, "-c", "raise SystemExit(3)"], times=1, longest=60, seed=1)
    assert failure.value.returncode == 3


def test_what_the_command_started_is_killed_with_it(tmp_path: Path) -> None:
    file = tmp_path / "child"
    program = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(file)!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    for seed in range(20):
        kill_at_random_moments([sys.executable, "-c", program], times=1, longest=3, seed=seed)
        if file.exists() and file.read_text():
            break
    child = int(file.read_text())
    for _ in range(200):
        if not _is_alive(child):
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child outlived its parent")


def _is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to look does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
