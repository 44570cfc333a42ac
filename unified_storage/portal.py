"""Asynchronous code for callers that are not: calls into one event loop, which runs in a daemon thread of its own.

The rules that keep such calls from hanging: the thread is a daemon, so that the interpreter can always exit; whatever
interrupts the waiting caller cancels the coroutine; a call from the loop's own thread is refused; and a forked child,
which has no such thread, starts a new one at its first call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Coroutine
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from unified_storage.errors import StorageClosedError, StorageTimeoutError

T = TypeVar("T")

CANCEL_SECONDS = 1.0
"""How long a cancelled coroutine is waited for, so that its end is known."""
_STOP_SECONDS = 5.0
_PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


class WouldDeadlockError(RuntimeError):
    """A call from the portal's own loop: it would wait for itself. Await the coroutine there instead."""


class Portal:
    """An event loop in a background thread, and synchronous calls into it, from any thread and any number of them.

    ``open()`` and ``close()`` come in pairs, as ``with`` makes them; while anybody has it open calls are taken. The
    thread starts at the first call and is gone, its loop closed, when the last one has closed the portal.
    """

    def __init__(self) -> None:
        # re-entrant: a finalizer may close the portal in the middle of a call's first lines
        self._guard = threading.RLock()
        self._users = 0
        self._worker: _Worker | None = None
        self._warned = False
        _portals.add(self)

    def open(self) -> Self:
        """Begin to use the portal; nothing is started yet."""
        with self._guard:
            self._users += 1
        return self

    def close(self) -> None:
        """End what ``open`` began. The last one ends the thread and cancels what still runs (5 s at most).

        On the portal's own thread it returns at once; the thread then ends by itself.
        """
        with self._guard:
            if not self._users:
                return
            self._users -= 1
            if self._users or self._worker is None:
                return
            worker, self._worker = self._worker, None
        worker.stop()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run *coroutine* on the loop and wait for its result; context variables go in, none comes out.

        It works inside a running event loop, which stands still meanwhile (said once in the log).

        Args:
            timeout: seconds; None waits as long as it takes.
        Raises:
            StorageTimeoutError: time was up and the coroutine was cancelled; what it had done by then is done. One
                that ends by itself after all gives its result.
            StorageClosedError: nobody has the portal open, or the last one closed it during the call.
            WouldDeadlockError: called on the portal's own thread.
            BaseException: whatever the coroutine raised. What interrupts the caller, Ctrl-C above all, cancels the
                coroutine and is raised when that has ended, after ``CANCEL_SECONDS`` at the latest.
        """
        call = _Call(coroutine)
        try:
            self.refuse_own_thread()
            self._warn_of_blocked_loop()
            self._submit(call)
            in_time = call.wait(timeout)
        except BaseException:  # Ctrl-C, or what another signal's handler raises; the coroutine's errors come below
            call.give_up()
            raise
        return call.result() if in_time else call.late_result(timeout)

    def post(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Have *coroutine* run on the loop some time, without waiting: from any thread, finalizers included."""
        call = _Call(coroutine)
        try:
            self._submit(call)
        except BaseException:
            call.give_up()
            raise

    def refuse_own_thread(self) -> None:
        """Raise ``WouldDeadlockError`` on the portal's own thread."""
        worker = self._worker
        if worker is not None and worker.is_this_thread():
            raise WouldDeadlockError("a synchronous call from the portal's own loop would wait for itself: await there")

    def _submit(self, call: _Call[Any]) -> None:
        with self._guard:
            if not self._users:
                raise StorageClosedError("the portal is closed")
            if self._worker is None:
                self._worker = _Worker()
            self._worker.submit(call)

    def _warn_of_blocked_loop(self) -> None:
        if not self._warned and asyncio._get_running_loop() is not None:
            self._warned = True
            log.warning("a synchronous call blocks the event loop of its thread; use the asynchronous interface there")

    def pause(self) -> _Pause | None:
        """Stop the loop between two steps of its coroutines until the pause is over; None where no loop runs."""
        worker = self._worker
        return None if worker is None or worker.is_this_thread() else worker.pause()

    def forget_worker(self) -> None:
        """In a forked child: the thread stayed in the parent, and what belongs to its loop must not be touched."""
        if self._worker is not None:
            leave_behind(self._worker)
        self._worker = None
        self._guard = threading.RLock()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """A loop and the daemon thread that runs it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._calls: set[_Call[Any]] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="unified-storage-portal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or an interpreter that is about to end
            self._loop.close()
            raise StorageClosedError(f"the portal's thread cannot be started: {error}") from error

    def is_this_thread(self) -> bool:
        return self._thread.ident == threading.get_ident()

    def submit(self, call: _Call[Any]) -> None:
        call.hand_over(self._loop, self._calls)

    def pause(self) -> _Pause:
        pause = _Pause()
        try:
            self._loop.call_soon_threadsafe(pause.hold)
        except RuntimeError:
            return pause  # the loop was closed meanwhile: nothing runs there
        pause.begun.wait(_PAUSE_SECONDS)
        return pause

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        if self.is_this_thread():
            return
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("the portal's thread does not end: something blocks its loop", extra={"seconds": _STOP_SECONDS})

    def _stop(self) -> None:
        self._stopping = True
        self._loop.stop()

    def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    self._loop.run_forever()
                except (KeyboardInterrupt, SystemExit):
                    continue  # a coroutine raised it and its caller gets it; the others go on
            self._loop.run_until_complete(self._end_calls())
        finally:
            self._loop.close()

    async def _end_calls(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for call in self._calls:
            call.closed = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        for call in [*self._calls]:
            call.abandon()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


class _Call(Generic[T]):
    """One coroutine on its way through the loop, and the caller who waits for it."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.closed = False
        self._coroutine = coroutine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[_Call[Any]] = set()
        self._ended = threading.Event()
        self._task: asyncio.Task[T] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    # on the caller's thread

    def hand_over(self, loop: asyncio.AbstractEventLoop, running: set[_Call[Any]]) -> None:
        """Have *loop* run it. Interrupted at any point in here, ``give_up`` still ends it."""
        self._loop, self._running = loop, running
        loop.call_soon_threadsafe(self._start, loop, context=copy_context())

    def wait(self, timeout: float | None) -> bool:
        return self._ended.wait(timeout)

    def give_up(self) -> None:
        """Cancel it and wait for its end, ``CANCEL_SECONDS`` at most."""
        if self._loop is None:
            self._coroutine.close()
            return
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            return  # that loop was closed meanwhile, and with it this call ended
        self._ended.wait(CANCEL_SECONDS)

    def late_result(self, timeout: float | None) -> T:
        """Its result if it ends by itself after all, when time is up."""
        self.give_up()
        if not self._ended.is_set() or isinstance(self._error, asyncio.CancelledError):
            raise StorageTimeoutError(
                f"no answer within {timeout:g} s", details={"timeout": timeout, "outcome": "unknown"}
            )
        return self.result()

    def result(self) -> T:
        error, self._error = self._error, None
        if error is None:
            return cast(T, self._value)
        try:
            raise error
        finally:
            del error  # or its traceback and this frame would keep each other alive

    # on the loop's thread

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._running.add(self)
        self._task = loop.create_task(self._coroutine)
        self._task.add_done_callback(self._settle)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # interrupted on its way here: it will never start
            self._coroutine.close()
            self._ended.set()

    def _settle(self, task: asyncio.Task[T]) -> None:
        self._running.discard(self)
        if task.cancelled():
            self._error = _closed_meanwhile() if self.closed else asyncio.CancelledError()
        else:
            self._error = task.exception()
            self._value = None if self._error is not None else task.result()
        self._ended.set()

    def abandon(self) -> None:
        """Let the caller go although the task would not end."""
        self._running.discard(self)
        self._error = _closed_meanwhile()
        self._ended.set()


def _closed_meanwhile() -> StorageClosedError:
    return StorageClosedError("the portal was closed during the call", details={"outcome": "unknown"})


class _Pause:
    """A moment in which no coroutine of a loop runs, so that none of its locks is held."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._over = threading.Event()

    def hold(self) -> None:
        self.begun.set()
        self._over.wait(_STOP_SECONDS)

    def end(self) -> None:
        self._over.set()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()
_pauses: list[_Pause] = []
_left_behind: list[object] = []
_shared = Portal()


def shared_portal() -> Portal:
    """The portal that everybody in this process shares; ``open`` it before the first call."""
    return _shared


def leave_behind(thing: object) -> None:
    """Keep *thing*, which belongs to the parent of this forked process, from being finalized here.

    Its finalizer would close connections and watched files that the parent still uses.
    """
    _left_behind.append(thing)


def _before_fork() -> None:
    _pauses.extend(pause for portal in [*_portals] if (pause := portal.pause()) is not None)


def _after_fork_in_parent() -> None:
    while _pauses:
        _pauses.pop().end()


def _after_fork_in_child() -> None:
    _pauses.clear()
    for portal in [*_portals]:
        portal.forget_worker()


# Registered with the package, before any backend: so backends prepare for a fork first, while their loops still run.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
