"""One PostgreSQL connection by asyncpg, and what its errors mean."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it has types, and does not say so

from unified_storage.backends.sql.driver import Kind
from unified_storage.backends.sql.sockets import has_unread, sever
from unified_storage.backends.sql.statements import Call, Row
from unified_storage.errors import (
    StorageCapacityError,
    StorageConfigurationError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageTransactionError,
)

T = TypeVar("T")
_BEGIN: dict[Kind, str] = {
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "write": "BEGIN ISOLATION LEVEL READ COMMITTED",
    "transaction": "BEGIN ISOLATION LEVEL READ COMMITTED",
}
_LATER_THAN_THE_CLIENT = 5.0
"""Seconds after a transaction's own end at which the server ends it: then its client hangs, or is cut off."""
_MOST_MILLISECONDS = 2**31 - 1
_TIME_FOR_GOODBYE = 2.0
_WORTH_COPYING = 16
"""Rows from which on COPY, which takes messages of its own, is faster than as many inserts."""

_CONFLICTS = ("40001", "40P01", "55P03", "23505")  # the last: another writer inserted it a moment ago
NO_WRITES = "25006"
"""The server is a primary no longer."""
_LOST = ("08", "57P01", "57P02", "57P03", "57P05", NO_WRITES, "40003")
_NOT_PREPARED = ("26000", "42P05")
"""Another server process than the one that prepared the statement: a pooler hands them out by the transaction."""
LATER = ("57P01", "57P02", "57P03", "53300")
_KINDS: tuple[tuple[str, type[StorageError]], ...] = (
    *((state, StorageConflictError) for state in _CONFLICTS),
    *((state, StorageConnectionError) for state in (*_LOST, *LATER)),
    ("57014", StorageTimeoutError),
    ("25P03", StorageTimeoutError),
    ("25P02", StorageTransactionError),
    ("53", StorageCapacityError),
    ("54", StorageCapacityError),
    ("28", StoragePermissionError),
    ("42501", StoragePermissionError),
    ("3D000", StorageConfigurationError),
    *((state, StorageConfigurationError) for state in _NOT_PREPARED),
    ("XX001", StorageIntegrityError),
    ("XX002", StorageIntegrityError),
)
"""Which of our errors a SQLSTATE means that begins so; the first that fits."""
_RETRYABLE = (StorageConflictError, StorageConnectionError, StorageTimeoutError)


def translated_error(error: Exception, place: str) -> StorageError | None:
    """Our error for one of asyncpg's or of the socket's; None for any other."""
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, place)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return StorageConfigurationError(f"PostgreSQL {place}: {error}", cause=error)
    if isinstance(error, asyncpg.OutdatedSchemaCacheError):
        return _made(StorageConflictError, error, place)
    # asyncio's streams and asyncpg itself let OSError and TimeoutError through as they are.
    if isinstance(error, OSError | EOFError | asyncpg.TargetServerAttributeNotMatched):
        return _made(StorageConnectionError, error, place)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return _made(StorageError, error, place)
    return None


def _of_server(error: asyncpg.PostgresError, place: str) -> StorageError:
    state = getattr(error, "sqlstate", None) or ""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        kind: type[StorageError] = StorageConflictError  # the tables were altered: asyncpg has forgotten its plans
    else:
        kind = next((kind for beginning, kind in _KINDS if state.startswith(beginning)), StorageError)
    return _made(kind, error, place, sqlstate=state)


def _made(kind: type[StorageError], error: Exception, place: str, **facts: Any) -> StorageError:
    said = getattr(error, "message", None) or str(error) or type(error).__name__
    if facts.get("sqlstate") in _NOT_PREPARED:
        said += "; behind a pooler that shares connections between transactions set statement_cache_size=0"
    details = {"engine": "postgresql", "server": place, **facts}
    return kind(f"PostgreSQL {place}: {said}", details=details, cause=error, retryable=issubclass(kind, _RETRYABLE))


@lru_cache(maxsize=4096)
def numbered(sql: str) -> str:
    """The statement with its ``?`` as ``$1``, ``$2``...; there is none in a literal."""
    if "?" not in sql:
        return sql
    first, *rest = sql.split("?")
    return first + "".join(f"${number}{part}" for number, part in zip(itertools.count(1), rest, strict=False))


class PostgreSQLConnection:
    """An asyncpg connection for one task at a time."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.asyncpg = connection
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.BaseTransport = connection._transport  # there is no public way to it
        self._has_begun = False
        self._was_interrupted = False

    @property
    def is_open(self) -> bool:
        return not self.asyncpg.is_closed()

    @property
    def is_usable(self) -> bool:
        return self.is_open and not self._was_interrupted and not self._has_begun

    @property
    def is_quiet(self) -> bool:
        return self.is_open and not has_unread(self._transport)

    async def run(self, call: Call) -> list[Row]:
        if call.may_exist and self._has_begun:
            return await self._run_apart(call)
        return await self._run(call)

    async def _run(self, call: Call) -> list[Row]:
        if call.into is not None and len(call.values) >= _WORTH_COPYING:
            table, columns = call.into
            await self._answered(self.asyncpg.copy_records_to_table(table, records=call.values, columns=columns))
            return []
        if call.many:
            await self._answered(self.asyncpg.executemany(numbered(call.sql), call.values))
            return []
        rows: list[Row] = await self._answered(self.asyncpg.fetch(numbered(call.sql), *call.values))
        return rows

    async def _run_apart(self, call: Call) -> list[Row]:
        """A call that may fail because what it makes is there, without taking the transaction down."""
        await self._answered(self.asyncpg.execute("SAVEPOINT made"))
        try:
            rows = await self._run(call)
        except (asyncpg.DuplicateTableError, asyncpg.DuplicateColumnError, asyncpg.DuplicateObjectError):
            rows = await self._undone_apart()
        except asyncpg.UniqueViolationError:
            rows = await self._undone_apart()
        await self._answered(self.asyncpg.execute("RELEASE SAVEPOINT made"))
        return rows

    async def _undone_apart(self) -> list[Row]:
        await self._answered(self.asyncpg.execute("ROLLBACK TO SAVEPOINT made"))
        return []

    async def begin(self, kind: Kind, timeout: float) -> None:
        alone = min(_MOST_MILLISECONDS, round((timeout + _LATER_THAN_THE_CLIENT) * 1000))
        self._has_begun = True
        await self._answered(
            self.asyncpg.execute(f"{_BEGIN[kind]}; SET LOCAL idle_in_transaction_session_timeout = {alone}")
        )

    async def lift_time_limit(self, longest_wait: float) -> None:
        longest = min(_MOST_MILLISECONDS, max(1, round(longest_wait * 1000)))
        await self._answered(
            self.asyncpg.execute(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {longest}")
        )

    async def commit(self) -> None:
        status = await self._answered(self.asyncpg.execute("COMMIT"))
        self._has_begun = False
        if status != "COMMIT":  # the server says ROLLBACK, and no error, where a statement had failed
            raise asyncpg.InFailedSQLTransactionError("the transaction was rolled back")

    async def rollback(self) -> None:
        # After an interruption this waits until the server has cancelled the statement.
        await self._answered(self.asyncpg.execute("ROLLBACK" if self._has_begun else "SELECT 1"))
        self._has_begun = self._was_interrupted = False

    async def _answered(self, work: Awaitable[T]) -> T:
        """What the server answers; notes when we do not know what it is doing."""
        try:
            return await work
        except asyncpg.InterfaceError as error:
            if self.is_open:
                raise
            raise asyncpg.ConnectionDoesNotExistError("the connection was lost") from error
        except asyncpg.OutdatedSchemaCacheError:
            raise
        except asyncpg.InternalClientError as error:  # said where the server went away between two messages of its own
            self.terminate()
            raise asyncpg.ConnectionDoesNotExistError("the connection was lost") from error
        except asyncio.CancelledError:
            self._was_interrupted = True
            raise

    async def close(self) -> None:
        await self.asyncpg.close(timeout=_TIME_FOR_GOODBYE)

    def terminate(self) -> None:
        if self._loop.is_running():
            self.asyncpg.terminate()
        elif self.is_open:
            sever(self._transport)
            if self.is_open:  # over TLS it learns of it by its loop
                with contextlib.suppress(RuntimeError):
                    self.asyncpg.terminate()
