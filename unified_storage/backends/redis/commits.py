"""Jobs that wait while others are under way are sent together, in one call of the script, and end each by itself."""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from unified_storage.backends.redis.client import Argument, RedisClient
from unified_storage.backends.redis.errors import refused
from unified_storage.backends.redis.partitions import Layout
from unified_storage.backends.redis.scripts import COMMIT
from unified_storage.errors import StorageError, StorageTimeoutError
from unified_storage.transactions import to_the_end

_MOST_TOGETHER = 32
_MOST_BYTES = 1 << 19
_UNDER_WAY = 2
"""Calls of one partition at once: while the server carries one out, the other is packed or its answers are read."""

Reply = list[Any]
"""What the script says of a job: a word, then what belongs to it."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job that is to be sent with others."""

    arguments: Sequence[bytes]
    due: float
    """The loop's time at which it is given up unsent."""
    outcome: asyncio.Future[Reply]
    is_taken: bool = False
    is_over: bool = False
    ended: asyncio.Future[None] | None = None
    """What a cancelled caller waits for: it has cancelled the outcome."""

    def settle(self, reply: bytes) -> None:
        try:
            found = _parsed(reply)
        except StorageError as error:
            self.fail(error)
            return
        if not self.outcome.done():
            self.outcome.set_result(found)
        self._end()

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
        self._end()

    def _end(self) -> None:
        self.is_over = True
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)


@dataclass(slots=True, eq=False)
class _Lane:
    """The jobs of one partition on one event loop."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    under_way: int = 0
    flights: set[asyncio.Task[None]] = field(default_factory=set)


class Commits:
    """Has jobs done, those that come together together."""

    def __init__(self, client: RedisClient, layout: Layout, timeout: float) -> None:
        self._client = client
        self._layout = layout
        self._timeout = timeout
        self._lanes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Lane]] = (
            weakref.WeakKeyDictionary()
        )

    async def done(self, partition: int, arguments: Sequence[bytes]) -> Reply:
        """Have one job done; a cancelled caller finds it wholly done, or not done and never to be."""
        lane = self._lane(partition)
        if lane.under_way:
            return await self._with_others(lane, partition, arguments)
        lane.under_way += 1
        try:
            (reply,) = await self._send(partition, [arguments])
        finally:
            self._land(lane, partition)
        return _parsed(reply)

    def _lane(self, partition: int) -> _Lane:
        lanes = self._lanes.setdefault(asyncio.get_running_loop(), {})
        lane = lanes.get(partition)
        if lane is None:
            lane = lanes[partition] = _Lane()
        return lane

    async def _send(self, partition: int, jobs: Sequence[Sequence[bytes]]) -> list[bytes]:
        arguments: list[Argument] = [len(jobs), *chain.from_iterable(jobs)]
        keys = self._layout.script_keys(partition)
        replies: list[bytes] = await self._client.run(COMMIT, keys, arguments, timeout=self._timeout)
        return replies

    async def _with_others(self, lane: _Lane, partition: int, arguments: Sequence[bytes]) -> Reply:
        loop = asyncio.get_running_loop()
        mine = _Waiting(arguments, loop.time() + self._timeout, loop.create_future())
        lane.waiting.append(mine)
        if lane.under_way < _UNDER_WAY:
            lane.under_way += 1
            self._take_off(lane, partition)
        try:
            return await mine.outcome
        except asyncio.CancelledError:
            if mine.is_over and not mine.outcome.cancelled():
                mine.outcome.exception()  # looked at: nobody else will
            elif mine.is_taken and not mine.is_over:
                mine.ended = loop.create_future()
                await to_the_end(mine.ended)
            elif mine in lane.waiting:
                lane.waiting.remove(mine)
            raise

    def _land(self, lane: _Lane, partition: int) -> None:
        """One call less is under way; the next one takes its place where jobs wait."""
        if lane.waiting:
            self._take_off(lane, partition)
        else:
            lane.under_way -= 1

    def _take_off(self, lane: _Lane, partition: int) -> None:
        """Send what waits, at the next turn of the loop: all whose answers came together have asked again by then."""
        flight = asyncio.get_running_loop().create_task(self._fly(lane, partition))
        lane.flights.add(flight)
        flight.add_done_callback(lane.flights.discard)

    async def _fly(self, lane: _Lane, partition: int) -> None:
        taken = _taken(lane)
        try:
            if taken:
                replies = await self._send(partition, [job.arguments for job in taken])
                for job, reply in zip(taken, replies, strict=True):
                    job.settle(reply)
        except BaseException as error:
            for job in taken:
                if not job.is_over:
                    # each its own: whoever raises one adds to it
                    job.fail(copy.copy(error) if isinstance(error, StorageError) else error)
            if not isinstance(error, StorageError):
                raise
        finally:
            self._land(lane, partition)


def _taken(lane: _Lane) -> list[_Waiting]:
    """The jobs that go together now."""
    now, size = asyncio.get_running_loop().time(), 0
    taken: list[_Waiting] = []
    while lane.waiting and len(taken) < _MOST_TOGETHER:
        job = lane.waiting[0]
        size += sum(map(len, job.arguments))
        if taken and size > _MOST_BYTES:
            break
        lane.waiting.popleft()
        if now < job.due:
            job.is_taken = True
            taken.append(job)
        else:
            job.fail(StorageTimeoutError("the server was busy with others for too long"))
    return taken


def _parsed(reply: bytes) -> Reply:
    """The reply to one job; what the server could not do is raised."""
    word, _, rest = reply.partition(b"\0")
    match word:
        case b"numbers":
            return [b"done", [*map(int, rest.split())]]
        case b"entry":
            return [b"done", rest]
        case b"version":
            return [word, int(rest)]
        case b"changed":
            return [word, *rest.split(b"\0")]
        case b"failed":
            raise refused(rest)
    return [word, rest]
