"""Redis's refusals and lost connections, in our words: the one place that knows what each means."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from unified_storage.errors import (
    StorageCapacityError,
    StorageConfigurationError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StoragePermissionError,
    StorageTimeoutError,
)

_FORBIDDEN = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_FORBIDDEN_TO_A_SCRIPT = "The user executing the script can't"
"""Redis 7.0 has no code for it."""
_FULL = frozenset({"OOM", "MISCONF"})
_NO_SUCH_DATABASE = "DB index is out of range"
_DAMAGED = "DAMAGED"
"""Of our own scripts."""
COMES_BACK = frozenset({"LOADING", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY", "NOSCRIPT"})
"""Codes of answers that say "not executed, not now": the same command is worth sending again."""

_UNAVAILABLE = COMES_BACK | {"MASTERDOWN", "READONLY", "NOREPLICAS"}


class Unanswered(Exception):
    """No answer; *late* when the caller's time ended first."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late

    @property
    def refusal(self) -> Exception | None:
        """What the server answered when it let nobody in."""
        cause = self.__cause__
        return cause if isinstance(cause, Exception) and _is_answer(cause) else None


class NotSent(Unanswered):
    """The server cannot have executed the command: no connection, or none was free in time."""


class Lost(Unanswered):
    """The command was sent and no answer came: it may have been executed."""


def code_of(error: Exception) -> str:
    """The word an error answer begins with, such as ``MOVED``; empty when it is none of the server's answers."""
    status: str | None = getattr(error, "status_code", None)
    if status:
        return status
    word = str(error).partition(" ")[0]
    return word if word.isupper() and isinstance(error, RedisError) else ""


def translated(error: Exception) -> StorageError:
    """Our error for one of Redis, its driver or the network, with it as cause."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, Unanswered):
        if error.refusal is not None:
            return _answer_translated(error.refusal)
        kind = StorageTimeoutError if error.late else StorageConnectionError
        return kind(str(error), cause=error, retryable=True)
    return _answer_translated(error)


def refused(said: bytes) -> StorageError:
    """Our error for what a script was refused, or refused itself, as it tells it."""
    return translated(ResponseError(said.decode("utf-8", "replace")))


def outcome_unknown(error: Lost) -> StorageConnectionError:
    """For what writes: nobody can say whether it was done, so it is not sent again."""
    return StorageConnectionError(
        f"{error}; whether it was carried out is unknown", details={"outcome": "unknown"}, cause=error, retryable=False
    )


def _is_forbidden(error: Exception, code: str) -> bool:
    named = isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError)
    return named or code in _FORBIDDEN or _FORBIDDEN_TO_A_SCRIPT in str(error)


def _is_answer(error: Exception) -> bool:
    return isinstance(error, AuthenticationError | AuthorizationError) or bool(code_of(error))


def _answer_translated(error: Exception) -> StorageError:
    code = code_of(error)
    # Redis repeats the arguments of an unknown command, and with them what somebody wanted to store.
    said = str(error).partition(", with args beginning with")[0].removeprefix(f"{code} ")
    message, details = f"Redis: {code} {said}" if code else f"Redis: {said}", {"code": code} if code else {}
    if code == _DAMAGED:
        kind, id, _ = said.split("\t", 2)
        return StorageIntegrityError(
            f"record {id!r} of type {kind!r} is unreadable: its head is damaged", details={"id": id, "type": kind}
        )
    if _is_forbidden(error, code):
        return StoragePermissionError(message, details=details, cause=error)
    if _NO_SUCH_DATABASE in said:
        return StorageConfigurationError(f"{message}: the server has fewer databases", details=details, cause=error)
    if code in _FULL:
        return StorageCapacityError(message, details=details, cause=error)
    if code == "BUSY" or isinstance(error, TimeoutError):
        return StorageTimeoutError(message, details=details, cause=error, retryable=True)
    if code in _UNAVAILABLE or isinstance(error, RedisConnectionError | OSError):
        return StorageConnectionError(message, details=details, cause=error)
    return StorageError(message, error_code=code or None, details=details, cause=error)
