"""What the error numbers of MySQL and MariaDB mean to us."""

from __future__ import annotations

import re
from typing import Any

from asyncmy import errors

from unified_storage.errors import (
    StorageCapacityError,
    StorageConfigurationError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StoragePermissionError,
    StorageTimeoutError,
)

LATER = (1040, 1047, 1053, 1203, 1226)
"""The server is there, but has too many connections, is not ready, or stops."""
NO_WRITES = (1290, 1836)
"""The server is a primary no longer."""
_NUMBERS: dict[type[StorageError], tuple[int, ...]] = {
    # lock wait, deadlock, NOWAIT, row changed, duplicate (somebody inserted first), table altered since the snapshot,
    # statement to be prepared anew, certification of a replication group
    StorageConflictError: (1205, 1213, 3572, 1020, 1062, 1412, 1615, 3101),
    StorageTimeoutError: (1969, 3024),
    # no right to it, unknown host, read-only transaction, account locked or expired
    StoragePermissionError: (1044, 1045, 1130, 1141, 1142, 1143, 1227, 1370, 1698, 1792, 1820, 1862, 3118),
    # unknown database, variable, value of a variable; no such way to log in
    StorageConfigurationError: (1049, 1193, 1231, 1251, 2059),
    # full, not ready (Galera), shut down, host blocked, killed, idle for too long, lost, and a primary no longer
    StorageConnectionError: (*LATER, 1042, 1043, 1129, 1927, 3169, 4031, *range(1156, 1162), *NO_WRITES),
    # disk or table full, packet, value or row too large, memory, prepared statements
    StorageCapacityError: (1021, 1037, 1038, 1041, 1114, 1118, 1153, 1406, 1461),
    StorageIntegrityError: (1034, 1035, 1194, 1195, 1712, 1817, 1877, 1932),
}
_KINDS = {number: kind for kind, numbers in _NUMBERS.items() for number in numbers}
_RETRYABLE = (StorageConflictError, StorageTimeoutError, StorageConnectionError)
_QUOTES_NAMES_ONLY = frozenset(
    {*_NUMBERS[StoragePermissionError], *_NUMBERS[StorageConfigurationError], *_NUMBERS[StorageConnectionError], 1146}
)
_QUOTED = re.compile("['\"`].*['\"`]", re.DOTALL)
_PASSWORD_GIVEN = {"(using password: YES)": "(with a password)", "(using password: NO)": "(without a password)"}
"""In words of which none is taken for the password itself and masked."""
_OF_THE_CLIENT = range(2000, 3000)
_ENDS_THE_SESSION = frozenset({*_NUMBERS[StorageConnectionError], 1153} - {1047})
_IS_THERE_ALREADY = frozenset({1022, 1050, 1060, 1061, 1062, 1826})
_INTERRUPTED = 1317
REPREPARE, TOO_MANY_PREPARED = 1615, 1461


def number_of(error: BaseException) -> int | None:
    """The server's or the client library's error number; None for an error without one."""
    number = error.args[0] if isinstance(error, errors.MySQLError) and error.args else None
    return number if isinstance(number, int) and number else None


def is_there_already(error: errors.MySQLError) -> bool:
    """Whether a table, column, index or row was made by somebody else before."""
    return number_of(error) in _IS_THERE_ALREADY


def ends_the_session(error: errors.MySQLError) -> bool:
    """Whether the connection cannot be used after *error*; one to a server that takes no writes is no use either."""
    number = number_of(error)
    return number is None or number in _OF_THE_CLIENT or number in _ENDS_THE_SESSION


def translated_error(error: Exception, *, in_cluster: bool = False) -> StorageError | None:
    """Our error for one of asyncmy's or of the socket's, which stays its cause; None for any other.

    Args:
        in_cluster: the server is a node of a cluster. There an interrupted statement was in the way of what another
            node did first, and nobody's deliberate end of it.
    """
    if isinstance(error, errors.MySQLError):
        return _translated_mysql(error, StorageConflictError if in_cluster else StorageTimeoutError)
    if isinstance(error, UnicodeDecodeError):
        # Its text holds the bytes, which are nobody's business.
        return StorageIntegrityError("MySQL: a stored text is not UTF-8", details={"engine": "mysql"})
    if isinstance(error, OSError | EOFError):
        return StorageConnectionError(f"MySQL: {str(error) or type(error).__name__}", cause=error)
    return None


def _translated_mysql(error: errors.MySQLError, interrupted: type[StorageError]) -> StorageError:
    number = number_of(error)
    known = StorageConnectionError if number is None or number in _OF_THE_CLIENT else StorageError
    kind = interrupted if number == _INTERRUPTED else _KINDS.get(number or 0, known)
    text = _without_values(error, number)
    details: dict[str, Any] = {"engine": "mysql", "code": number, "sqlstate": getattr(error, "sqlstate", None)}
    return kind(f"MySQL: {text}", details=details, cause=error, retryable=kind in _RETRYABLE)


def _without_values(error: errors.MySQLError, number: int | None) -> str:
    """The message, in the error itself too, without what it quotes of a statement or a value."""
    text = str(error.args[-1]) if error.args else type(error).__name__
    if number not in _QUOTES_NAMES_ONLY and number not in _OF_THE_CLIENT:
        text = _QUOTED.sub("'...'", text)
    for said, ours in _PASSWORD_GIVEN.items():
        text = text.replace(said, ours)
    if number is not None:
        error.args = (number, text)
        return f"{text} ({number})"
    return text
