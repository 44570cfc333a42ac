"""The old store that keeps everything in this process: for tests, and for programs that keep nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from legacy.failures import Failures, OnError, check_session_data, check_session_id
from legacy.listings import newest_first, summary_of
from legacy.store import ISessionStore


class MemorySessionStore(ISessionStore):
    """Sessions in a dict, copied in and copied out, for any number of threads.

    A value that cannot be copied is a failure: False and ``last_error``. Arguments of a wrong type raise ``TypeError``.

    Args:
        strict: raise failures.
        on_error: called with every failure.
    """

    def __init__(self, *, strict: bool = False, on_error: OnError | None = None) -> None:
        # single dict operations are atomic, and no stored document is ever changed: no lock is needed
        self._sessions: dict[str, dict[str, Any]] = {}
        self._failures = Failures(strict=strict, on_error=on_error)

    @property
    def last_error(self) -> Exception | None:
        """Why this thread's last call failed; None when it did not."""
        return self._failures.last

    def save_session(self, session_id: str, session_data: dict[str, Any]) -> bool:
        check_session_id(session_id)
        check_session_data(session_data)
        return self._failures.answered("save_session", lambda: self._save(session_id, session_data), False)

    def get_session(self, session_id: str) -> dict[str, Any] | None:
        check_session_id(session_id)
        return self._failures.answered("get_session", lambda: deepcopy(self._sessions.get(session_id)), None)

    def delete_session(self, session_id: str) -> bool:
        """Remove the session; False when there was none."""
        check_session_id(session_id)
        return self._failures.answered(
            "delete_session", lambda: self._sessions.pop(session_id, None) is not None, False
        )

    def list_sessions(self) -> list[dict[str, Any]]:
        """The summaries, last updated first."""
        return self._failures.answered("list_sessions", self._summaries, [])

    def session_exists(self, session_id: str) -> bool:
        check_session_id(session_id)
        return self._failures.answered("session_exists", lambda: session_id in self._sessions, False)

    def _save(self, session_id: str, session_data: dict[str, Any]) -> bool:
        self._sessions[session_id] = deepcopy(session_data)
        return True

    def _summaries(self) -> list[dict[str, Any]]:
        sessions = self._sessions.copy()
        return newest_first(deepcopy(summary_of(session_id, session)) for session_id, session in sessions.items())
