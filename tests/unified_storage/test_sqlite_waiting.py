"""Waiting for SQLite's threads: everyone is told once, in time, and a cancellation is never lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from unified_storage.backends.sql.sqlite_alarms import alarm_of
from unified_storage.backends.sql.sqlite_jobs import Job, deliver
from unified_storage.errors import StorageTimeoutError


def _no_steps() -> Any:
    return iter(())


def _job() -> Job[int]:
    return Job(_no_steps, 30)


def _done_by_a_thread(jobs: list[Job[int]], after: float = 0.0) -> threading.Thread:
    """Takes the jobs at once, and delivers each one's place in the list together a little later."""

    def work() -> None:
        taken = [job for job in jobs if job.take()]
        time.sleep(after)
        for place, job in enumerate(taken):
            job.finish(place, None)
        deliver(taken)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


async def test_each_of_several_gets_its_own_outcome() -> None:
    jobs = [_job() for _ in range(5)]
    _done_by_a_thread(jobs, 0.01)
    assert await asyncio.gather(*(job.outcome(5) for job in jobs)) == [0, 1, 2, 3, 4]


async def test_what_was_delivered_before_anybody_waited_is_there() -> None:
    job = _job()
    _done_by_a_thread([job]).join()
    await asyncio.sleep(0.01)
    assert await job.outcome(5) == 0


async def test_an_error_is_raised_where_the_task_waits() -> None:
    job = _job()
    assert job.take()
    job.finish(None, KeyError("gone"))
    deliver([job])
    with pytest.raises(KeyError, match="gone"):
        await job.outcome(5)


async def test_the_waiting_task_goes_on_in_its_own_context() -> None:
    import contextvars

    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nobody")

    async def waited(name: str) -> tuple[str, asyncio.Task[Any] | None]:
        seen.set(name)
        job = _job()
        _done_by_a_thread([job], 0.01)
        await job.outcome(5)
        return seen.get(), asyncio.current_task()

    tasks = [asyncio.create_task(waited(name)) for name in ("ann", "bob")]
    assert await asyncio.gather(*tasks) == [("ann", tasks[0]), ("bob", tasks[1])]


async def test_a_job_that_nobody_has_begun_is_withdrawn_when_its_time_is_over() -> None:
    short, long = _job(), _job()
    waiting = asyncio.create_task(long.outcome(60))
    await asyncio.sleep(0)
    begun = time.monotonic()
    with pytest.raises(StorageTimeoutError, match=r"more than 0\.05 s"):
        await short.outcome(0.05)
    assert 0.04 < time.monotonic() - begun < 2
    assert not short.take()
    assert not waiting.done()  # the same timer serves it, and its time is not over
    _done_by_a_thread([long])
    assert await waiting == 0


async def test_those_that_wait_behind_a_shorter_wait_are_withdrawn_in_their_own_time() -> None:
    jobs = {seconds: _job() for seconds in (0.15, 0.05, 0.1)}
    begun = time.monotonic()
    ended: list[tuple[float, float]] = []

    async def waited(seconds: float) -> None:
        with pytest.raises(StorageTimeoutError):
            await jobs[seconds].outcome(seconds)
        ended.append((seconds, time.monotonic() - begun))

    await asyncio.gather(*map(waited, jobs))
    assert [seconds for seconds, _ in ended] == [0.05, 0.1, 0.15]
    assert all(took >= seconds * 0.9 for seconds, took in ended)


async def test_a_job_that_has_begun_is_not_given_up() -> None:
    job = _job()
    _done_by_a_thread([job], 0.15)
    await asyncio.sleep(0.02)
    assert await job.outcome(0.05) == 0


async def test_many_waits_share_one_timer() -> None:
    jobs = [_job() for _ in range(50)]
    waiting = [asyncio.create_task(job.outcome(60)) for job in jobs]
    await asyncio.sleep(0)
    timers: list[Any] = [*asyncio.get_running_loop()._scheduled]  # type: ignore[attr-defined]  # there is no other way to see them
    assert len([timer for timer in timers if not timer.cancelled()]) <= 1 + 1  # the test's own time limit
    _done_by_a_thread(jobs)
    await asyncio.gather(*waiting)
    assert not alarm_of(asyncio.get_running_loop())._due


async def test_a_cancelled_task_withdraws_what_nobody_has_begun() -> None:
    job = _job()
    waiting = asyncio.create_task(job.outcome(60))
    await asyncio.sleep(0)
    waiting.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await waiting
    assert not job.take()


async def test_a_cancelled_task_waits_for_what_has_begun_and_is_cancelled_then() -> None:
    job = _job()
    waiting = asyncio.create_task(job.outcome(60))
    await asyncio.sleep(0)
    _done_by_a_thread([job], 0.1)
    await asyncio.sleep(0.02)
    waiting.cancel()
    waiting.cancel()  # once more changes nothing
    await asyncio.sleep(0.02)
    assert not waiting.done()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert job.given() == 0


async def test_one_that_is_cancelled_before_it_is_told_with_the_others_is_cancelled() -> None:
    jobs = [_job(), _job()]
    waiting = [asyncio.create_task(job.outcome(60)) for job in jobs]
    await asyncio.sleep(0)
    for place, job in enumerate(jobs):
        assert job.take()
        job.finish(place, None)
        job.tell_soon()
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    assert await waiting[1] == 1


async def test_a_time_limit_of_the_caller_ends_the_wait_as_its_own_error() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await _job().outcome(60)


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_one_thread_may_run_one_loop_after_the_other(other_loop: asyncio.AbstractEventLoop) -> None:
    async def waited() -> str:
        with pytest.raises(StorageTimeoutError):
            await _job().outcome(0.03)
        return "over"

    assert other_loop.run_until_complete(waited()) == "over"
    assert asyncio.run(waited()) == "over"
    assert other_loop.run_until_complete(waited()) == "over"
