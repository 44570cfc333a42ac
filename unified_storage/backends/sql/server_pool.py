"""The connections of one storage to its server: a few for each event loop, each lent to one task at a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable

from unified_storage.backends.sql.driver import Connection
from unified_storage.errors import StorageClosedError, StorageTimeoutError
from unified_storage.transactions import to_the_end

log = logging.getLogger(__name__)
Connect = Callable[[], Awaitable[Connection]]
_LONGEST_IDLE = 300.0
"""Seconds after which an idle connection is not trusted: whatever stands between us and the server forgets it."""
_TIME_TO_END = 5.0


class Lease:
    """One connection, lent to one task until it is given back or dropped; whatever comes later is ignored."""

    def __init__(self, connection: Connection, of: LoopConnections) -> None:
        self.connection = connection
        self._of = of
        self._is_over = False

    def give_back(self) -> None:
        """Somebody else may have it; one that is not usable any more is dropped."""
        if not self._is_over:
            self._is_over = True
            self._of.take_back(self.connection)

    def drop(self) -> None:
        """Nobody shall have it again."""
        if not self._is_over:
            self._is_over = True
            self._of.drop(self.connection)

    def lost(self) -> None:
        """Drop it because the server has gone: those that lay idle meanwhile are no better."""
        self._of.drop_idle()
        self.drop()

    def __del__(self) -> None:
        # A transaction that nobody ended, found by the garbage collector: in any thread, at any moment.
        if not self._is_over:
            self._of.abandon(self.connection)


class LoopConnections:
    """The connections of one event loop; used on that loop only, unless it says otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.loop = loop
        self._size = size
        self._slots_taken = 0
        self._idle: list[tuple[float, Connection]] = []
        self._lent: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._is_closing = False
        self._is_left_behind = False
        self._all_back: asyncio.Future[None] | None = None

    # Nobody waits while a connection is idle or a slot is free: what becomes free goes to the one that waits longest.

    async def lend(self, connect: Connect, timeout: float) -> Lease | None:
        """A usable connection after at most *timeout* seconds in the queue; None when this was closed meanwhile.

        *connect* makes a new one where none is idle and there may be one more; its errors are passed on.
        """
        if self._is_closing:
            return None
        connection = self._idle_one()
        if connection is None and self._slots_taken < self._size:
            self._slots_taken += 1
        elif connection is None:
            connection = await self._turn(timeout)
        if connection is None:
            connection = await self._connected(connect)
        return None if connection is None else Lease(connection, self)

    def _idle_one(self) -> Connection | None:
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_usable and time.monotonic() - since < _LONGEST_IDLE:
                self._lent.add(connection)
                return connection
            self._slots_taken -= 1
            connection.terminate()
        return None

    async def _turn(self, timeout: float) -> Connection | None:
        """A connection that came back, or None: then the slot of one that was dropped is ours."""
        mine: asyncio.Future[Connection | None] = self.loop.create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(timeout):
                return await mine
        except BaseException as error:
            self._give_way(mine)
            if isinstance(error, TimeoutError):
                raise StorageTimeoutError(
                    f"all {self._size} connections have been busy for {timeout:.3g} s: raise pool_size, "
                    "or end transactions sooner",
                    details={"pool_size": self._size},
                ) from error
            raise

    def _give_way(self, mine: asyncio.Future[Connection | None]) -> None:
        """Leave the queue; what was given to us meanwhile goes to the next."""
        if mine.done() and not mine.cancelled():
            handed = mine.result()
            if handed is None:
                self._free_slot()
            else:
                self.take_back(handed)
        else:
            with contextlib.suppress(ValueError):
                self._waiting.remove(mine)

    async def _connected(self, connect: Connect) -> Connection | None:
        if self._is_closing:
            return None
        try:
            connection = await connect()
        except BaseException:
            self._free_slot()
            raise
        if self._is_closing:
            connection.terminate()
            return None
        self._lent.add(connection)
        return connection

    def _next_waiting(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _free_slot(self) -> None:
        waiter = self._next_waiting()
        if waiter is None:
            self._slots_taken -= 1
        else:
            waiter.set_result(None)

    def take_back(self, connection: Connection) -> None:
        """What :meth:`Lease.give_back` does; after a fork it leaves the parent's connections alone."""
        if self._is_left_behind:
            return
        if self._is_closing or not connection.is_usable:
            self.drop(connection)
            return
        waiter = self._next_waiting()
        if waiter is not None:
            waiter.set_result(connection)
            return
        self._lent.discard(connection)
        now = time.monotonic()
        self._idle.append((now, connection))
        while now - self._idle[0][0] > _LONGEST_IDLE:
            self._slots_taken -= 1
            self._idle.pop(0)[1].terminate()

    def drop(self, connection: Connection) -> None:
        if self._is_left_behind:
            return
        self._lent.discard(connection)
        connection.terminate()
        self._free_slot()
        if self._all_back is not None and not self._lent and not self._all_back.done():
            self._all_back.set_result(None)

    def drop_idle(self) -> None:
        if self._is_left_behind:
            return
        idle, self._idle = self._idle, []
        self._slots_taken -= len(idle)
        for _, connection in idle:
            connection.terminate()

    def abandon(self, connection: Connection) -> None:
        """Drop a connection from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed
            if self.loop.is_running():
                self.loop.call_soon_threadsafe(self.drop, connection)
                return
        self.drop(connection)

    async def close(self, most: float) -> None:
        """End every connection; one that is lent has *most* seconds to come back, then it is terminated."""
        self._is_closing = True
        while (waiter := self._next_waiting()) is not None:
            waiter.set_result(None)
        self._all_back = self.loop.create_future()
        try:
            async with asyncio.timeout(most):
                idle = [connection for _, connection in self._idle]
                await asyncio.gather(*(connection.close() for connection in idle), return_exceptions=True)
                if self._lent:
                    await self._all_back
        except TimeoutError:
            log.warning("connections were terminated: they were still in use %g s after close()", most)
        finally:
            self.terminate()
        await asyncio.sleep(0)  # lets the loop close the sockets of what was terminated

    def terminate(self) -> None:
        """End every connection at once; from any thread where the loop does not run."""
        self._is_closing = True
        for connection in [*(connection for _, connection in self._idle), *self._lent]:
            connection.terminate()
        self._idle.clear()
        self._lent.clear()

    def leave_behind(self) -> list[Connection]:
        """In the child of a fork: the parent's connections, which are not ours to use or to end."""
        self._is_left_behind = True
        return [*(connection for _, connection in self._idle), *self._lent]


class ServerPool:
    """The connections of one storage, for every event loop that uses it.

    Args:
        size: connections for each loop, at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._guard = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopConnections] = {}
        self._is_closed = False
        _pools.add(self)

    async def lend(self, connect: Connect, timeout: float) -> Lease:
        """A connection for the running loop, made by *connect* where there is none.

        Raises:
            StorageTimeoutError: all were busy for *timeout* seconds.
            StorageClosedError: after :meth:`close`.
        """
        while True:
            lease = await self._of_this_loop().lend(connect, timeout)
            if lease is not None:
                return lease

    def _of_this_loop(self) -> LoopConnections:
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            with self._guard:
                if self._is_closed:
                    raise StorageClosedError("this storage was closed")
                self._forget_closed_loops()
                found = self._by_loop[loop] = LoopConnections(loop, self._size)
        return found

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            self._by_loop.pop(loop).terminate()

    async def close(self) -> None:
        """End every connection, on its own loop where that runs; nothing can be lent afterwards."""
        with self._guard:
            self._is_closed = True
        await self.let_go()

    async def let_go(self) -> None:
        """End every connection, within a few seconds; new ones are made when they are asked for."""
        with self._guard:
            by_loop, self._by_loop = self._by_loop, {}
        await to_the_end(_all_ended([*by_loop.values()]))

    def leave_behind(self) -> list[Connection]:
        """Start empty in the child of a fork; the parent's connections."""
        by_loop, self._by_loop = self._by_loop, {}
        self._guard = threading.Lock()
        return [connection for each in by_loop.values() for connection in each.leave_behind()]


async def _all_ended(each_loop: list[LoopConnections]) -> None:
    """Close the connections of each loop, on that loop where it runs; at most for some seconds."""
    ending: dict[asyncio.Future[None], LoopConnections] = {}
    for each in each_loop:
        if each.loop is asyncio.get_running_loop():
            ending[asyncio.ensure_future(each.close(_TIME_TO_END * 0.9))] = each
        elif each.loop.is_running():
            ending[asyncio.wrap_future(_closed_elsewhere(each))] = each
        else:
            each.terminate()
    if ending:
        _, late = await asyncio.wait(ending, timeout=_TIME_TO_END)
        for future in late:
            if not ending[future].loop.is_running():  # it has stopped meanwhile; one that hangs will find it to be done
                ending[future].terminate()


def _closed_elsewhere(each: LoopConnections) -> concurrent.futures.Future[None]:
    """Have another loop close its connections; done when it has, or never where that loop stops meanwhile."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def start() -> None:
        task = each.loop.create_task(each.close(_TIME_TO_END * 0.9))
        task.add_done_callback(lambda _: done.set_result(None))

    try:
        each.loop.call_soon_threadsafe(start)
    except RuntimeError:  # it was closed just now
        each.terminate()
        done.set_result(None)
    return done


_pools: weakref.WeakSet[ServerPool] = weakref.WeakSet()
_left_behind: list[Connection] = []
"""The connections of the parent process. Closing one, or its being collected, would say goodbye to the server on the
socket that both processes share, and take it out of the parent's event loop."""


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        _left_behind.extend(pool.leave_behind())
    # One reference more than there are: not even the end of the interpreter finalises them.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_left_behind))


os.register_at_fork(after_in_child=_after_fork_in_child)
