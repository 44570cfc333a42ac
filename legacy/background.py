"""An asynchronous session service in the background, for synchronous callers: opened, called and closed there."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

from legacy.engines import lives_in_memory
from session_adapter.service import ISessionService
from session_adapter.sessions import SessionStorageAdapter
from unified_storage.errors import StorageClosedError
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage, parse_url
from unified_storage.portal import leave_behind, shared_portal

T = TypeVar("T")
Served = ISessionService | IUnifiedStorage | str

CLOSE_SECONDS = 10.0
_EXIT_SECONDS = 0.9

log = logging.getLogger(__name__)


class BackgroundService:
    """A session service on the shared portal, used on its loop alone.

    Args:
        served: a service, a storage, or the URL of one. Only what is opened here, from a URL, is closed here; in a
            forked child it is opened anew.
    Raises:
        TypeError: *served* is none of these.
        StorageConfigurationError: no storage has this URL.
    """

    def __init__(self, served: Served) -> None:
        self._url = served if isinstance(served, str) else None
        self._own: IUnifiedStorage | None = None
        self._service = self._opened() if self._url is not None else _service_of(served)
        self._process = os.getpid()
        self._guard = threading.Lock()
        self._closed = False
        self._closing = False
        self._ended = threading.Event()
        self._portal = shared_portal().open()
        _open_ones.add(self)

    def call(self, ask: Callable[[ISessionService], Awaitable[T]], timeout: float | None) -> T:
        """What ``ask(service)`` gives, awaited on the portal's loop; raises as ``Portal.call`` does."""
        if self._closed:
            raise StorageClosedError("this session store was closed")
        return self._portal.call(self._ask(ask), timeout)

    def close(self) -> None:
        """Close what was opened here, and leave the portal. Calling it again is fine."""
        self._portal.refuse_own_thread()
        self._closed = True
        if not self._first_to_close():
            return
        try:
            self._close_storage(CLOSE_SECONDS)
        finally:
            self._portal.close()
            self._ended.set()

    def abandon(self) -> None:
        """Close without waiting, from any thread: nobody can call any more."""
        if self._first_to_close():
            self._portal.post(self._close_and_leave())

    def close_at_exit(self, seconds: float) -> None:
        """Close the storage, or wait until it is, in *seconds* at most; calls that come later find it closed."""
        if not self._first_to_close():
            self._ended.wait(seconds)
            return
        try:
            self._close_storage(seconds)
        except Exception:
            log.exception("a session store was not closed at exit")

    async def _ask(self, ask: Callable[[ISessionService], Awaitable[T]]) -> T:
        if self._process != os.getpid():  # only the loop's thread comes here, so one call alone sees the difference
            self._open_anew()
        return await ask(self._service)

    def _opened(self) -> ISessionService:
        assert self._url is not None
        self._own = open_storage(self._url)
        return SessionStorageAdapter(self._own)

    def _open_anew(self) -> None:
        self._process = os.getpid()
        # of what lives in memory a child has its own copy, and a new one would be empty
        if self._url is not None and not lives_in_memory(parse_url(self._url)):
            leave_behind(self._own)
            self._service = self._opened()

    def _first_to_close(self) -> bool:
        with self._guard:
            first, self._closing = not self._closing, True
        return first

    def _close_storage(self, seconds: float) -> None:
        if self._own is not None and not self._left_to_parent():
            self._portal.call(self._own.close(), seconds)

    async def _close_and_leave(self) -> None:
        try:
            if self._own is not None and not self._left_to_parent():
                await self._own.close()
        except Exception:
            log.exception("a session store that nobody uses any more was not closed")
        finally:
            self._portal.close()
            self._ended.set()

    def _left_to_parent(self) -> bool:
        """Whether the storage is the one of the process that forked this one, which never opened it anew."""
        if self._process == os.getpid():
            return False
        leave_behind(self._own)
        return True


def _service_of(served: object) -> ISessionService:
    if isinstance(served, IUnifiedStorage):
        return SessionStorageAdapter(served)
    if isinstance(served, ISessionService):
        return served
    raise TypeError(f"a session service, a storage or a URL is needed, not {type(served).__name__}")


_open_ones: weakref.WeakSet[BackgroundService] = weakref.WeakSet()


@atexit.register
def _close_all_at_exit() -> None:
    end = time.monotonic() + _EXIT_SECONDS
    for service in [*_open_ones]:
        if (left := end - time.monotonic()) <= 0:
            return  # what holds one up holds up the exit no longer; its connections end with the process
        service.close_at_exit(left)
