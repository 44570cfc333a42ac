"""One SQLite connection: opened the way we need it, carrying out steps, its errors made ours."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from math import inf
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.errors import (
    StorageCapacityError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StoragePermissionError,
    StorageTimeoutError,
)

T = TypeVar("T")
MEMORY = ":memory:"
_STEPS_BETWEEN_LOOKS = 20_000
_VALUES_AT_ONCE = 250
"""Of an insert of several rows, which takes half the time of as many inserts; with more of them it gains no more."""
_NOT_UTF8 = "Could not decode to UTF-8"
_KINDS: dict[int, type[StorageError]] = {
    sqlite3.SQLITE_BUSY: StorageConflictError,
    sqlite3.SQLITE_LOCKED: StorageConflictError,
    sqlite3.SQLITE_FULL: StorageCapacityError,
    sqlite3.SQLITE_TOOBIG: StorageCapacityError,
    sqlite3.SQLITE_NOMEM: StorageCapacityError,
    sqlite3.SQLITE_CORRUPT: StorageIntegrityError,
    sqlite3.SQLITE_NOTADB: StorageIntegrityError,
    sqlite3.SQLITE_READONLY: StoragePermissionError,
    sqlite3.SQLITE_PERM: StoragePermissionError,
    sqlite3.SQLITE_AUTH: StoragePermissionError,
    sqlite3.SQLITE_INTERRUPT: StorageTimeoutError,
}
"""Which of our errors SQLite's primary result codes mean; any other is a StorageConnectionError."""


def translated_error(error: sqlite3.Error, path: str) -> StorageError:
    """Our error for one of SQLite's, which stays its cause."""
    if str(error).startswith(_NOT_UTF8):
        # Said by Python's own module, with the text itself, which is nobody's business.
        return StorageIntegrityError(f"SQLite {path}: a stored text is not UTF-8", details={"engine": "sqlite"})
    code = getattr(error, "sqlite_errorcode", None)
    kind = _KINDS.get((code or 0) & 0xFF, StorageConnectionError)
    return kind(
        f"SQLite {path}: {error}",
        details={"engine": "sqlite", "code": getattr(error, "sqlite_errorname", None)},
        cause=error,
        retryable=kind in (StorageConflictError, StorageTimeoutError),
    )


class SQLiteConnection:
    """A connection for one thread.

    Args:
        path: of the file, or ``:memory:``.
        create: whether a missing file is made.
        busy_timeout: seconds to wait for another process that writes.
    """

    def __init__(self, path: str, *, create: bool, busy_timeout: float) -> None:
        self.path = path
        self._deadline = inf
        with self.translated():
            self._sqlite = sqlite3.connect(
                _uri(path, create),
                uri=True,
                timeout=busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=512,
            )
        try:
            self._set_up(busy_timeout)
        except BaseException:
            self._sqlite.close()
            raise

    def _set_up(self, busy_timeout: float) -> None:
        with self.translated():
            self._sqlite.execute("PRAGMA synchronous = FULL")
            self._sqlite.execute("PRAGMA temp_store = MEMORY")
            self._sqlite.set_progress_handler(lambda: time.monotonic() > self._deadline, _STEPS_BETWEEN_LOOKS)
            if self.path != MEMORY:
                self._use_write_ahead_log(time.monotonic() + busy_timeout)

    def _use_write_ahead_log(self, deadline: float) -> None:
        # Changing the mode does not wait for others as statements do.
        while True:
            try:
                if self._sqlite.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    self._sqlite.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated_error(error, self.path) from error

    def _do(self, sql: str) -> None:
        try:
            self._sqlite.execute(sql)
        except sqlite3.Error as error:
            raise translated_error(error, self.path) from error

    def begin(self) -> None:
        """Take the lock for writing at once: a read that is followed by a write must not be overtaken."""
        self._do("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._do("COMMIT")

    @property
    def changes(self) -> int:
        """How many rows were inserted, updated or deleted since it was opened."""
        return self._sqlite.total_changes

    @property
    def in_transaction(self) -> bool:
        return self._sqlite.in_transaction

    def rollback(self) -> None:
        if self.in_transaction:
            self._do("ROLLBACK")

    def run(self, steps: StepsOf[T]) -> T:
        """Carry out steps in the transaction that is open."""
        return self._run(steps(), None)

    def _run(self, running: Steps[T], call: Call | None) -> T:
        """Carry out steps, from *call* on where they have begun."""
        try:
            call = call or next(running)
            while True:
                call = running.send(self._rows(call))
        except StopIteration as done:
            result: T = done.value
            return result
        except sqlite3.Error as error:
            raise translated_error(error, self.path) from error

    def run_apart(self, steps: StepsOf[T]) -> T:
        """Carry out steps as a part of the open transaction that alone is undone when it fails."""
        self._do("SAVEPOINT part")
        try:
            result = self.run(steps)
        except BaseException:
            if self.in_transaction:  # a full disk, for one, has ended it as a whole
                self._do("ROLLBACK TO part")
                self._do("RELEASE part")
            raise
        self._do("RELEASE part")
        return result

    def run_reading(self, steps: StepsOf[T], timeout: float) -> T:
        """Carry out steps that only read, on one state of the database, for at most *timeout* seconds."""
        running = steps()
        try:
            call = next(running)
        except StopIteration as done:
            result: T = done.value
            return result
        self._deadline = time.monotonic() + timeout
        try:
            if call.is_all:  # one statement sees one state by itself
                return self._run(running, call)
            self._do("BEGIN")
            try:
                return self._run(running, call)
            finally:
                if self._sqlite.in_transaction:
                    self._do("COMMIT")
        finally:
            self._deadline = inf

    def _rows(self, call: Call) -> list[Row]:
        if call.many:
            self._run_many(call.sql, call.values, are_inserts=call.into is not None)
            return []
        return self._sqlite.execute(call.sql, call.values).fetchall()

    def _run_many(self, sql: str, rows: Sequence[Row], *, are_inserts: bool) -> None:
        done = 0
        at_once = max(1, _VALUES_AT_ONCE // len(rows[0])) if are_inserts and rows else 1
        if 1 < at_once <= len(rows):
            done = len(rows) - len(rows) % at_once
            parts = [[*chain.from_iterable(rows[start : start + at_once])] for start in range(0, done, at_once)]
            self._sqlite.executemany(_of_several(sql, at_once), parts)
        self._sqlite.executemany(sql, rows[done:])

    def close(self) -> None:
        self._sqlite.close()


@lru_cache(maxsize=64)
def _of_several(sql: str, count: int) -> str:
    """An insert of one row as one of *count* rows."""
    head, word, places = sql.rpartition(" VALUES ")
    return head + word + ", ".join([places] * count)


def _uri(path: str, create: bool) -> str:
    if path == MEMORY:
        return "file::memory:"
    return f"file:{quote(str(Path(path).absolute()))}?mode={'rwc' if create else 'rw'}"
