"""Work for a connection's thread, and how its outcome gets back to the task that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextvars import Context
from typing import Any, Generic, TypeVar

from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.sqlite_alarms import alarm_of
from unified_storage.errors import StorageTimeoutError

T = TypeVar("T")


class Job(Generic[T]):
    """Steps to be run on a connection's thread for a task of some event loop.

    A job is taken once: by the thread, which then runs it to its end, or by the waiting task, which withdraws it.
    The one task that waits for it takes it for a future, by the names that asyncio asks every future-like object
    for: it goes on in the turn of its loop in which it is told, which a real future costs one turn more.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancelled",
        "_context",
        "_outcome",
        "_taken",
        "_told",
        "_wake",
        "loop",
        "steps",
        "timeout",
    )

    def __init__(self, steps: StepsOf[T], timeout: float) -> None:
        self.steps = steps
        self.timeout = timeout
        self.loop = asyncio.get_running_loop()
        self._taken = threading.Lock()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._told = False
        self._wake: Callable[[Job[T]], object] | None = None
        self._context: Context | None = None
        self._asyncio_future_blocking = False

    # -- for the thread ------------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Whether the job is now the caller's."""
        return self._taken.acquire(blocking=False)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Note the outcome; :func:`deliver` tells the task."""
        self._outcome = (result, error)

    # -- for the task --------------------------------------------------------------------------------------------

    async def outcome(self, most: float | None = None) -> T:
        """The result, or the error, of the steps.

        A job that nobody has begun is withdrawn when the task is cancelled or *most* seconds are over. One that is
        running is waited for to its end, and only then a cancellation goes on.
        """
        if most is None:
            return await self
        alarm = alarm_of(self.loop)
        alarm.set(self, most)
        try:
            return await self
        finally:
            alarm.lift(self)

    def given(self) -> Any:
        """What the steps gave, None as long as they did not."""
        return None if self._outcome is None else self._outcome[0]

    def withdraw_late(self, most: float) -> None:
        """Give it up after *most* seconds, unless it has been begun."""
        if self.take():
            self.finish(None, StorageTimeoutError(f"the storage was busy for more than {most} s"))
            self.tell_soon()

    def tell(self) -> None:
        """Let the waiting task go on, at once; the outcome is final. Runs on its loop."""
        if self._told:
            return
        self._told = True
        if self._wake is not None and self._context is not None:
            self._context.run(self._wake, self)

    def tell_soon(self) -> None:
        """As :meth:`tell`, in the next turn of the loop: a task that ends the loop keeps none of the others waiting."""
        if self._told:
            return
        self._told = True
        if self._wake is not None:
            self.loop.call_soon(self._wake, self, context=self._context)

    # -- what asyncio asks of a future ---------------------------------------------------------------------------

    def __await__(self) -> Generator[Job[T], None, T]:
        if not self._told:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(self, wake: Callable[[Job[T]], object], *, context: Context) -> None:
        self._wake, self._context = wake, context

    def cancel(self, msg: Any = None) -> bool:
        """The waiting task is cancelled: withdraw what nobody has begun; else it is told at the end."""
        if self._told:
            return False
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        if self.take():
            self.tell_soon()
        return True

    def result(self) -> T:
        if self._cancelled is not None:
            raise self._cancelled
        assert self._outcome is not None  # it has been told
        result, error = self._outcome
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # what its steps gave


def deliver(jobs: Sequence[Job[Any]]) -> None:
    """Tell every task its outcome, which is final: one wake-up for each event loop."""
    if len(jobs) == 1:
        _on_its_loop(jobs[0].loop, jobs[0].tell)
        return
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, told in by_loop.items():
        _on_its_loop(loop, _tell_all, told)


def _on_its_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return  # that loop is closed: nobody waits any more


def _tell_all(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.tell_soon()
