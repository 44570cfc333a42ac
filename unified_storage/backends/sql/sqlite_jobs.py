"""Work for a connection's thread, and how its outcome gets back to the task that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from unified_storage.backends.sql.engine import StepsOf
from unified_storage.errors import StorageTimeoutError

T = TypeVar("T")


class Job(Generic[T]):
    """Steps to be run on a connection's thread for a task of some event loop.

    A job is taken once: by the thread, which then runs it to its end, or by the waiting task, which withdraws it.
    """

    __slots__ = ("_delivered", "_future", "_outcome", "_taken", "loop", "steps", "timeout")

    def __init__(self, steps: StepsOf[T], timeout: float) -> None:
        self.steps = steps
        self.timeout = timeout
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self.loop.create_future()
        self._taken = threading.Lock()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._delivered = False

    def take(self) -> bool:
        """Whether the job is now the caller's."""
        return self._taken.acquire(blocking=False)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Note the outcome; :func:`deliver` tells the task."""
        self._outcome = (result, error)

    def result(self) -> Any:
        """What the steps gave, None as long as they did not."""
        return None if self._outcome is None else self._outcome[0]

    def deliver(self) -> None:
        """The outcome is final from here on: what was written together is committed."""
        self._delivered = True

    def tell(self) -> None:
        """Wake the waiting task where the outcome is final; runs on its loop."""
        if self._future.done() or self._outcome is None or not self._delivered:
            return
        result, error = self._outcome
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)

    async def outcome(self, most: float | None = None) -> T:
        """The result, or the error, of the steps.

        A job that nobody has begun is withdrawn when the task is cancelled or *most* seconds are over. One that is
        running is waited for to its end, and only then a cancellation goes on.
        """
        alarm = None if most is None else self.loop.call_later(most, self._withdraw_late, most)
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                try:
                    result = await self._future
                    break
                except asyncio.CancelledError as error:
                    if self.take():
                        raise
                    cancelled = error
                    self._future = self.loop.create_future()
                    self.tell()
        except Exception:
            if cancelled is not None:
                raise cancelled from None
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        if cancelled is not None:
            raise cancelled
        return result

    def _withdraw_late(self, most: float) -> None:
        if self.take():
            # Noted as an outcome: a task that was cancelled in this very turn of the loop waits anew, and asks for it.
            self.finish(None, StorageTimeoutError(f"the storage was busy for more than {most} s"))
            self.deliver()
            self.tell()


def deliver(jobs: Sequence[Job[Any]]) -> None:
    """Tell every task its outcome: one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        job.deliver()
        by_loop.setdefault(job.loop, []).append(job)
    for loop, told in by_loop.items():
        try:
            if len(told) == 1:
                loop.call_soon_threadsafe(told[0].tell)
            else:
                loop.call_soon_threadsafe(_tell_all, told)
        except RuntimeError:
            continue  # that loop is closed: nobody waits any more


def _tell_all(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.tell()
