"""Taking turns across tasks, event loops and threads."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque

from unified_storage.errors import StorageTimeoutError
from unified_storage.portal import leave_behind

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Turns:
    """A fair lock that tasks of different event loops and threads may wait for; nobody has it in a forked child."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[_Waiter] = deque()
        _all.add(self)

    def take_now(self) -> bool:
        """Take the turn when nobody has it; never waits."""
        with self._guard:
            if self._taken:
                return False
            self._taken = True
            return True

    async def take(self, timeout: float | None = None) -> None:
        """Wait for the turn, first come first served; ``StorageTimeoutError`` after *timeout* seconds."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, mine))
        try:
            async with asyncio.timeout(timeout):
                await mine
        except BaseException as error:
            self._give_way(loop, mine)
            if isinstance(error, TimeoutError):
                raise StorageTimeoutError(f"waited more than {timeout} s for a transaction to end") from error
            raise

    def _give_way(self, loop: asyncio.AbstractEventLoop, mine: asyncio.Future[None]) -> None:
        """Leave the queue; a turn that was given to us meanwhile goes to the next."""
        with self._guard:
            try:
                self._waiting.remove((loop, mine))
                return
            except ValueError:
                pass  # already out of the queue: the turn is ours
        self.leave()

    def leave(self) -> None:
        """Pass the turn on to the one that waits longest."""
        with self._guard:
            while self._waiting:
                loop, next_one = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_wake, next_one)
                    return  # still taken, by them
                except RuntimeError:
                    continue  # that loop was closed; its tasks are gone
            self._taken = False

    def leave_behind(self) -> None:
        """In a forked child: whoever has the turn, or waits for it, is the parent's."""
        leave_behind(self._waiting)
        self._guard, self._taken, self._waiting = threading.Lock(), False, deque()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _after_fork_in_child() -> None:
    for turns in [*_all]:
        turns.leave_behind()


_all: weakref.WeakSet[Turns] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
