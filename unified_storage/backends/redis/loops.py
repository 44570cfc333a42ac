"""A client's connections on each event loop that uses it; a forked child has none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from unified_storage.backends.redis.line import close_for
from unified_storage.backends.redis.node import Nodes
from unified_storage.errors import StorageClosedError
from unified_storage.portal import leave_behind

_TIME_TO_END = 5.0
"""Seconds that what was sent has to end in when its client is closed."""
_TIME_TO_NOTICE = 1.0
"""Seconds within which a loop of another thread is expected to have a turn."""
_unfinished: list[tuple[asyncio.AbstractEventLoop, asyncio.WriteTransport]] = []
"""Transports cut while their loop did not run: it closes them if it ever runs again, else we do once it is closed."""


class OfOneLoop(Protocol):
    """What a client keeps for one event loop."""

    @property
    def nodes(self) -> Nodes: ...


T = TypeVar("T", bound=OfOneLoop)


class PerLoop(Generic[T]):
    """One of something for each event loop, whichever thread runs it; *make* makes it when it is first needed."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, T] = {}
        self._is_closed = False
        _all.add(self)

    def here(self) -> T:
        """The running loop's; ``StorageClosedError`` after :meth:`close`."""
        loop = asyncio.get_running_loop()
        ours = self._by_loop.get(loop)
        if ours is not None:
            return ours
        with self._guard:
            if self._is_closed:
                raise StorageClosedError("the Redis client is closed")
            for dead in [other for other in self._by_loop if other.is_closed()]:
                _abandon(dead, self._by_loop.pop(dead).nodes)
            ours = self._by_loop[loop] = self._make()
            return ours

    async def close(self) -> None:
        """End all connections, for good."""
        self._is_closed = True
        await self.let_go()

    async def let_go(self) -> None:
        """End all connections, those of other running loops on their loops; the next call connects again."""
        with self._guard:
            by_loop, self._by_loop = self._by_loop, {}
        here = asyncio.get_running_loop()
        try:
            while by_loop:
                loop, ours = by_loop.popitem()
                if loop is here:
                    await ours.nodes.close(_TIME_TO_END)
                elif not loop.is_running() or not await _carried_out(loop, partial(ours.nodes.close, _TIME_TO_END)):
                    _abandon(loop, ours.nodes)
        finally:
            for loop, ours in by_loop.items():  # whoever waits for them no longer leaves none of them behind
                _abandon(loop, ours.nodes)
            _finish_of_closed_loops()

    def leave_behind(self) -> None:
        """In a forked child: the connections are the parent's, and so is the lock that one of its threads may hold."""
        leave_behind(self._by_loop)
        self._by_loop = {}
        self._guard = threading.Lock()


async def _carried_out(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Whether *loop*, of another thread, has done *work*; it may stop before or meanwhile."""
    done = asyncio.Event()
    here = asyncio.get_running_loop()

    async def work_and_tell() -> None:
        try:
            await work()
        finally:
            with suppress(RuntimeError):  # nobody waits any more
                here.call_soon_threadsafe(done.set)

    def begin() -> None:  # a coroutine made here and never run would warn
        tasks.append(loop.create_task(work_and_tell()))

    tasks: list[asyncio.Task[None]] = []
    try:
        loop.call_soon_threadsafe(begin)
        async with asyncio.timeout(_TIME_TO_END + _TIME_TO_NOTICE):
            await done.wait()
    except (RuntimeError, TimeoutError):  # closed, or stopped
        return False
    return True


def _abandon(loop: asyncio.AbstractEventLoop, nodes: Nodes) -> None:
    """End the connections of a loop that does not run (or hangs, and then hears of it when it goes on)."""
    if loop.is_running():
        loop.call_soon_threadsafe(nodes.cut)
        return
    _unfinished.extend((loop, transport) for transport in nodes.cut())
    _finish_of_closed_loops()


def _finish_of_closed_loops() -> None:
    for loop, transport in [*_unfinished]:
        if loop.is_closed():
            _unfinished.remove((loop, transport))
            close_for(loop, transport)


def _after_fork_in_child() -> None:
    leave_behind([*_unfinished])
    _unfinished.clear()
    for connections in [*_all]:
        connections.leave_behind()


_all: weakref.WeakSet[PerLoop[Any]] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
