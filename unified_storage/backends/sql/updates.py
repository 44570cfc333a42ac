"""Updates of one record that come while another is under way are written together, each with its own end."""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unified_storage.backends.sql.loops import forget_closed_loops
from unified_storage.errors import StorageError, StorageTimeoutError
from unified_storage.transactions import to_the_end

_MOST_TOGETHER = 64
Key = tuple[str, str | None]
"""What an update names: an id, and a type or any."""


@dataclass(slots=True, eq=False)
class Change:
    """What one caller wants of a record, and what became of it."""

    updates: Mapping[str, Any]
    expected_version: int | None
    verdict: bool | StorageError | None = None
    """What it comes to, once the transaction is committed; None where it has not been looked at."""
    due: float = 0.0
    outcome: asyncio.Future[bool] | None = None
    flight: asyncio.Task[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether its caller still waits for it."""
        return self.outcome is None or not self.outcome.done()

    def settle(self) -> None:
        if self.outcome is None or self.outcome.done() or self.verdict is None:
            return
        if isinstance(self.verdict, StorageError):
            self.outcome.set_exception(self.verdict)
        else:
            self.outcome.set_result(self.verdict)


Together = Callable[[Sequence[Change]], Awaitable[None]]
"""Writes several changes of one record in one transaction, and gives each its verdict."""


@dataclass(slots=True, eq=False)
class _Queue:
    waiting: deque[Change] = field(default_factory=deque)
    flight: asyncio.Task[None] | None = None


_Queues = dict[Key, _Queue]


class Updates:
    """The updates under way, by event loop and by what they name.

    Args:
        timeout: seconds that an update has.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queues] = weakref.WeakKeyDictionary()

    async def update(self, key: Key, change: Change, alone: Callable[[], Awaitable[bool]], together: Together) -> bool:
        """Carry out *change*: *alone*, where nobody else has the record in hand, else *together* with those who wait.

        A cancelled caller's change is wholly done, or not and never to be.
        """
        loop = asyncio.get_running_loop()
        queues = self._by_loop.get(loop)
        if queues is None:
            forget_closed_loops(self._by_loop)
            queues = self._by_loop[loop] = {}
        if key not in queues:
            queue = queues[key] = _Queue()
            try:
                return await alone()
            finally:
                self._go_on(queues, key, queue, together)
        change.due, change.outcome = loop.time() + self._timeout, loop.create_future()
        queues[key].waiting.append(change)
        try:
            return await change.outcome
        except asyncio.CancelledError:
            # Before its turn it is left out; after it, it is on its way to be committed.
            if change.verdict is not None and change.flight is not None:
                await to_the_end(asyncio.wait([change.flight]))
            raise

    def _go_on(self, queues: _Queues, key: Key, queue: _Queue, together: Together) -> None:
        taken = _taken(queue)
        if not taken:
            del queues[key]
            return
        queue.flight = asyncio.get_running_loop().create_task(self._fly(queues, key, queue, together, taken))
        for change in taken:
            change.flight = queue.flight

    async def _fly(self, queues: _Queues, key: Key, queue: _Queue, together: Together, taken: list[Change]) -> None:
        try:
            await _written(together, taken)
            for change in taken:
                change.settle()
            queue.waiting.extendleft(change for change in reversed(taken) if change.is_wanted)
        except BaseException as error:
            for change in taken:
                # each its own: whoever raises one adds to it
                change.verdict = copy.copy(error) if isinstance(error, StorageError) else None
                change.settle()
                if change.outcome is not None and not change.outcome.done():
                    change.outcome.set_exception(error)
            if not isinstance(error, StorageError):
                raise
        finally:
            # A turn later: those whose updates are done may be about to make another.
            asyncio.get_running_loop().call_soon(self._go_on, queues, key, queue, together)


async def _written(together: Together, taken: Sequence[Change]) -> None:
    """Write them together; and each by itself, where the server refuses one of them and with it all."""
    try:
        await together(taken)
    except StorageError as error:
        if error.retryable or "outcome" in error.details or len(taken) == 1:
            raise
        for change in taken:
            change.verdict = None
            if change.is_wanted:
                await _written_alone(together, change)


async def _written_alone(together: Together, change: Change) -> None:
    try:
        await together([change])
    except StorageError as error:
        change.verdict = error
    # at once, since whoever is cancelled later must find it as it is told
    change.settle()


def _taken(queue: _Queue) -> list[Change]:
    """What is written together now; who has waited for too long is told so."""
    now = asyncio.get_running_loop().time()
    taken: list[Change] = []
    while queue.waiting and len(taken) < _MOST_TOGETHER:
        change = queue.waiting.popleft()
        if change.is_wanted and change.due <= now:
            change.verdict = StorageTimeoutError("updates of the same record by others took too long")
            change.settle()
        elif change.is_wanted:
            taken.append(change)
    return taken
