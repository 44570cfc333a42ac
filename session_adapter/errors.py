"""What session views raise besides the storage's own errors, and how anything else from below becomes one of those."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageError,
    StorageNotFoundError,
    StorageValidationError,
)


class SessionNotFoundError(StorageNotFoundError):
    """There is no such session; a record of another type under its id is none."""

    code = "SESSION_NOT_FOUND_ERROR"

    @property
    def session_id(self) -> str | None:
        """The id that the caller gave; a scoped session's own, without app and user."""
        return self.details.get("session_id")


class SessionAlreadyExistsError(StorageAlreadyExistsError):
    """A session that should be new is there already."""

    code = "SESSION_ALREADY_EXISTS_ERROR"

    @property
    def session_id(self) -> str | None:
        """The id that the caller gave; a scoped session's own, without app and user."""
        return self.details.get("session_id")


class AppNameRequiredError(StorageValidationError):
    """A scoped session or a state was named without its app."""

    code = "APP_NAME_REQUIRED_ERROR"


class UserIdRequiredError(StorageValidationError):
    """A scoped session or a user's state was named without its user."""

    code = "USER_ID_REQUIRED_ERROR"


class SessionIdRequiredError(StorageValidationError):
    """A scoped session was named without its id."""

    code = "SESSION_ID_REQUIRED_ERROR"


class InvalidSessionIdError(StorageValidationError):
    """What cannot name a session: no text, blank, over 1 000 bytes, or with control characters."""

    code = "INVALID_SESSION_ID_ERROR"


@contextmanager
def storage_failures(act: str) -> Iterator[None]:
    """Let storage errors and cancellation through; anything else from below becomes a ``StorageError`` with its cause.

    Args:
        act: what was being done, for the message: ``"save a session"``.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"could not {act}: {type(error).__name__}: {error}", cause=error) from error
