"""The old synchronous interface over the new asynchronous services."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from legacy.background import BackgroundService, Served
from legacy.failures import Failures, OnError, check_session_data, check_session_id
from legacy.listings import documents, summaries
from legacy.store import ISessionStore
from session_adapter.service import ISessionService
from unified_storage.errors import StorageNotFoundError

T = TypeVar("T")
Listing = Literal["summary", "full"]


class LegacySessionStoreAdapter(ISessionStore):
    """``ISessionStore`` over a session service, a storage or a URL: old programs change their construction line.

    It may be used from any thread, inside a running event loop (which stands still meanwhile), and in forked
    children. A storage opened from a URL is closed by ``close()``, when the adapter is no longer used, or at exit.

    A failure gives False, None or an empty list, and its reason as ``last_error``; None in ``last_error`` says that
    nothing failed. Arguments of a wrong type raise ``TypeError``; a call from the portal's own loop raises
    ``WouldDeadlockError``; interruption and cancellation are never held back.

    Args:
        session_service: any ``ISessionService``, an ``IUnifiedStorage``, or the URL of one.
        strict: raise failures.
        missing_delete_returns: what deleting a missing session returns; the old file store returned True.
        listing: ``summary`` lists what the old stores did, ``full`` whole sessions.
        timeout: seconds a call may take, None for as long as it does; then ``StorageTimeoutError``.
        on_error: called with every failure.
    Raises:
        TypeError, ValueError: an argument of no use.
        StorageConfigurationError: no storage has this URL.
    """

    def __init__(
        self,
        session_service: Served,
        *,
        strict: bool = False,
        missing_delete_returns: bool = False,
        listing: Listing = "summary",
        timeout: float | None = None,
        on_error: OnError | None = None,
    ) -> None:
        if listing not in ("summary", "full"):
            raise ValueError(f"listing must be 'summary' or 'full', not {listing!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, not {timeout!r}")
        self._failures = Failures(strict=strict, on_error=on_error)
        self._missing_delete_returns = missing_delete_returns
        self._listing = listing
        self._timeout = timeout
        self._background = BackgroundService(session_service)
        # old programs know no close(): what they drop is closed all the same
        self._finalizer = weakref.finalize(self, self._background.abandon)
        self._finalizer.atexit = False

    @property
    def last_error(self) -> Exception | None:
        """Why this thread's last call failed; None when it did not."""
        return self._failures.last

    def save_session(self, session_id: str, session_data: dict[str, Any]) -> bool:
        check_session_id(session_id)
        check_session_data(session_data)

        async def save(service: ISessionService) -> bool:
            await service.save_session(session_id, session_data)
            return True

        return self._call("save_session", save, False)

    def get_session(self, session_id: str) -> dict[str, Any] | None:
        check_session_id(session_id)
        return self._call("get_session", lambda service: service.get_session(session_id), None)

    def delete_session(self, session_id: str) -> bool:
        """Remove the session; ``missing_delete_returns`` when there is none."""
        check_session_id(session_id)

        async def delete(service: ISessionService) -> bool:
            try:
                await service.delete_session(session_id)
            except StorageNotFoundError:
                return self._missing_delete_returns
            return True

        return self._call("delete_session", delete, False)

    def list_sessions(self) -> list[dict[str, Any]]:
        """The sessions, last updated first: their summaries, or whole where ``listing="full"``."""
        return self._call("list_sessions", documents if self._listing == "full" else summaries, [])

    def session_exists(self, session_id: str) -> bool:
        """Whether there is such a session; a record of another type is none."""
        check_session_id(session_id)
        return self._call("session_exists", lambda service: service.session_exists(session_id), False)

    def close(self) -> None:
        """End: what a URL opened is closed, and later calls fail. Calling it again is fine."""
        self._background.close()
        self._finalizer.detach()

    def _call(self, verb: str, ask: Callable[[ISessionService], Awaitable[T]], otherwise: T) -> T:
        return self._failures.answered(verb, lambda: self._background.call(ask, self._timeout), otherwise)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
