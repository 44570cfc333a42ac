"""What the old interface does with a failure: its methods answer False, None or empty, and the reason is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from unified_storage.portal import WouldDeadlockError

T = TypeVar("T")
OnError = Callable[[Exception], None]

log = logging.getLogger(__name__)


def check_session_id(session_id: object) -> None:
    """Raise ``TypeError`` unless *session_id* is text."""
    if not isinstance(session_id, str):
        raise TypeError(f"session_id must be a str, not {type(session_id).__name__}")


def check_session_data(session_data: object) -> None:
    """Raise ``TypeError`` unless *session_data* is a dict."""
    if not isinstance(session_data, dict):
        raise TypeError(f"session_data must be a dict, not {type(session_data).__name__}")


class Failures:
    """The failures of one store's calls: never invisible, and raised where *strict*.

    Args:
        strict: raise instead of answering as if nothing were there.
        on_error: called with each failure, on the thread of the call; what it raises, the call raises.
    """

    def __init__(self, *, strict: bool, on_error: OnError | None) -> None:
        self._strict = strict
        self._on_error = on_error
        self._calls = threading.local()
        self._latest: Exception | None = None

    @property
    def last(self) -> Exception | None:
        """Why this thread's last call failed, None when it did not; to a thread without calls, the latest of all."""
        mine: Exception | None = getattr(self._calls, "failure", self._latest)
        return mine

    def answered(self, verb: str, call: Callable[[], T], otherwise: T) -> T:
        """What *call* returns; when it fails, *otherwise* (strict: its error), and the reason is kept."""
        self._calls.failure = None
        try:
            return call()
        except WouldDeadlockError:
            raise  # the program is wrong, not the store
        except Exception as error:
            self._report(verb, error)
            if self._strict:
                raise
            return otherwise

    def of_a_part(self, verb: str, error: Exception) -> None:
        """One of many things failed inside *call*: it goes on with the others (strict: raises *error*)."""
        if self._strict:
            raise error
        self._report(verb, error)

    def _report(self, verb: str, error: Exception) -> None:
        self._calls.failure = self._latest = error
        facts: dict[str, Any] = {"verb": verb, "error": type(error).__name__}
        log.warning("session store: %s failed: %s", verb, error, extra=facts)
        if self._on_error is not None:
            self._on_error(error)
