"""SQLite: one writer and a few readers for each file that this process has open."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

import unified_storage.portal  # noqa: F401  # its fork hooks have to be registered before ours
from unified_storage.backends.sql import logs
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.schema import STEPS
from unified_storage.backends.sql.sqlite_appends import AppendJob, goes_with_others
from unified_storage.backends.sql.sqlite_connection import MEMORY, SQLiteConnection
from unified_storage.backends.sql.sqlite_jobs import Job
from unified_storage.backends.sql.sqlite_threads import (
    BeginJob,
    LoneJob,
    OpenTransaction,
    Pause,
    Reader,
    ReadJob,
    Stop,
    Writer,
)
from unified_storage.backends.sql.storage import SQLStorage
from unified_storage.backends.sql.store import Store
from unified_storage.backends.sql.tables import table_prefix
from unified_storage.clock import Clock
from unified_storage.errors import StorageClosedError, StorageConfigurationError, StorageConnectionError
from unified_storage.interface import Indexed
from unified_storage.opening import StorageURL, no_store, number_option, refuse_unknown, switch_option
from unified_storage.placing import Append

T = TypeVar("T")
log = logging.getLogger(__name__)
SQLITE = Dialect(
    name="sqlite",
    sqlalchemy=SQLiteDialect_pysqlite(paramstyle="qmark"),
    has_table="SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
    index_hint=" INDEXED BY {}".format,
    index_names="SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ?",
    key_as_text="CASE typeof({0}) WHEN 'blob' THEN hex({0}) WHEN 'null' THEN NULL ELSE 'no bytes' END".format,
    raw_text="CAST({} AS BLOB)".format,
    asks_at_once=False,
    knows_counts=False,
)
_OLDEST = (3, 35)  # RETURNING
_TIME_TO_END = 5.0


def open_sqlite(url: StorageURL, *, indexed: Indexed, clock: Clock, **options: Any) -> SQLStorage:
    """The storage of ``sqlite:///file.db`` or ``sqlite:///:memory:``.

    Options: ``namespace``, ``pool_size`` (readers), ``connect_timeout`` and ``statement_timeout`` (seconds), and
    ``create`` (false: the store has to be there).
    """
    path = url.path or MEMORY
    prefix = table_prefix(str(options.pop("namespace", "")))
    statement_timeout = number_option(options, "statement_timeout", 30)
    number_option(options, "connect_timeout", statement_timeout)  # a file has nothing to connect to
    readers = max(1, int(number_option(options, "pool_size", 4)))
    create = switch_option(options, "create", True) or path == MEMORY
    refuse_unknown(options, url.scheme)
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StorageConfigurationError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed")
    engine = SQLiteEngine(path, create=create, busy_timeout=statement_timeout, readers=readers)
    return SQLStorage(
        engine,
        prefix,
        place=str(url),
        create=create,
        indexed=indexed,
        clock=clock,
        statement_timeout=statement_timeout,
    )


class SQLiteFile:
    """The threads that serve one file (or one database in memory) for all storages of this process."""

    def __init__(self, path: str, *, create: bool, busy_timeout: float, readers: int) -> None:
        self.path = path
        self.users = 0
        self.identity: tuple[int, int] | None = None
        self.is_left_behind = False
        self._create = create
        self._busy_timeout = busy_timeout
        self._most_readers = 0 if path == MEMORY else readers
        self._guard = threading.Lock()
        self._reads: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._writes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._readers: list[Reader] = []
        self._writer: Writer | None = None
        self._pauses: list[Pause] = []

    def may_serve(self, settings: dict[str, Any]) -> bool:
        """Whether others may use it too: once it is open, or when it would be opened the same way."""
        return self.identity is not None or self._create == settings["create"]

    def _connected(self) -> SQLiteConnection:
        if not self._create and not os.path.exists(self.path):
            raise no_store(f"sqlite:///{self.path}", "no such file", len(STEPS))
        folder = Path(self.path).parent
        if self.path != MEMORY and not folder.is_dir():
            raise StorageConnectionError(f"SQLite {self.path}: the folder {folder} does not exist")
        connection = SQLiteConnection(self.path, create=self._create, busy_timeout=self._busy_timeout)
        self.identity = self.identity or _identity(self.path)
        return connection

    def write(self, job: Job[Any]) -> None:
        if self._writer is None:
            with self._guard:
                if self._writer is None:
                    writer = Writer("unified-storage-writer", self._writes, self._connected)
                    writer.start()
                    self._writer = writer
        self._writes.put(job)

    def read(self, job: ReadJob[Any]) -> None:
        if not self._most_readers:
            self.write(job)
            return
        # One more reader as long as some wait; those there are take turns otherwise.
        if len(self._readers) < self._most_readers and (not self._readers or not self._reads.empty()):
            with self._guard:
                if len(self._readers) < self._most_readers:
                    reader = Reader("unified-storage-reader", self._reads, self._connected)
                    reader.start()
                    self._readers.append(reader)
        self._reads.put(job)

    def stop(self) -> list[threading.Thread]:
        """Ask every thread to end after what it has to do; the threads to wait for."""
        with self._guard:
            for _ in self._readers:
                self._reads.put(Stop())
            threads: list[threading.Thread] = [*self._readers]
            if self._writer is not None:
                self._writes.put(Stop())
                threads.append(self._writer)
            return threads

    def pause(self) -> list[Pause]:
        """Close every connection, so that a child of this process inherits none; undone by :meth:`resume`."""
        if self.path == MEMORY:
            return []
        self._guard.acquire()
        queues: list[queue.SimpleQueue[Any]] = [self._reads] * len(self._readers)
        if self._writer is not None:
            queues.append(self._writes)
        for jobs in queues:
            self._pauses.append(Pause())
            jobs.put(self._pauses[-1])
        return self._pauses

    def resume(self) -> None:
        if self.path == MEMORY:
            return
        for pause in self._pauses:
            pause.over.set()
        self._pauses = []
        self._guard.release()


class _Files:
    """The files that this process has open, by path; forking closes them before and opens them again after."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_path: dict[str, SQLiteFile] = {}
        self._all: list[SQLiteFile] = []

    def use(self, path: str, **settings: Any) -> SQLiteFile:
        with self._guard:
            file = self._by_path.get(path) if path != MEMORY else None
            if file is None or _was_replaced(file) or not file.may_serve(settings):
                file = SQLiteFile(path, **settings)
                self._all.append(file)
                if path != MEMORY:
                    self._by_path[path] = file
            file.users += 1
            return file

    def leave(self, file: SQLiteFile) -> list[threading.Thread]:
        """One user less; after the last one the threads that end now."""
        with self._guard:
            file.users -= 1
            if file.users or file.is_left_behind:
                return []
            self._all.remove(file)
            if self._by_path.get(file.path) is file:
                del self._by_path[file.path]
        return file.stop()

    def before_fork(self) -> None:
        self._guard.acquire()
        pauses = list(itertools.chain.from_iterable(file.pause() for file in self._all))
        for pause in pauses:
            if not pause.reached.wait(timeout=5):
                log.warning("forking while a transaction is open: the child must not use its file")

    def after_fork_in_parent(self) -> None:
        for file in self._all:
            file.resume()
        self._guard.release()

    def after_fork_in_child(self) -> None:
        for file in self._all:
            file.is_left_behind = True
        self._by_path = {}
        self._all = []
        self._guard = threading.Lock()
        for engine in [*_engines]:
            engine.after_fork_in_child()


def _was_replaced(file: SQLiteFile) -> bool:
    """Whether another file, or none, stands now where this one was opened."""
    return file.identity is not None and file.identity != _identity(file.path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        there = os.stat(path)
    except OSError:
        return None
    return (there.st_dev, there.st_ino)


_files = _Files()
_engines: weakref.WeakSet[SQLiteEngine] = weakref.WeakSet()
os.register_at_fork(
    before=_files.before_fork,
    after_in_parent=_files.after_fork_in_parent,
    after_in_child=_files.after_fork_in_child,
)


class SQLiteEngine:
    """Carries out steps on a SQLite file."""

    dialect = SQLITE

    def __init__(self, path: str, *, create: bool, busy_timeout: float, readers: int) -> None:
        self._path = path if path == MEMORY else os.path.realpath(path)
        self._settings = {"create": create, "busy_timeout": busy_timeout, "readers": readers}
        self._file: SQLiteFile | None = None
        self._guard = threading.Lock()
        self._begun: weakref.WeakSet[OpenTransaction] = weakref.WeakSet()
        self._closed = False
        _engines.add(self)

    def after_fork_in_child(self) -> None:
        self._guard = threading.Lock()  # a thread of the parent may have it, one that waits for the fork to be over

    def _current(self) -> SQLiteFile:
        if self._closed:
            raise StorageClosedError("this storage was closed")
        file = self._file
        if file is None or file.is_left_behind:
            with self._guard:
                if self._file is None or self._file.is_left_behind:
                    if self._file is not None and self._path == MEMORY:
                        raise StorageConnectionError("a database in memory is not there any more after a fork")
                    self._file = _files.use(self._path, **self._settings)
                file = self._file
        return file

    async def read(self, steps: StepsOf[T], timeout: float) -> T:
        job = ReadJob(steps, timeout)
        self._current().read(job)
        return await job.outcome(timeout)

    async def write(self, steps: StepsOf[T], timeout: float) -> T:
        job = Job(steps, timeout)
        self._current().write(job)
        return await job.outcome(timeout)

    async def append(self, store: Store, asked: Append, timeout: float) -> list[int]:
        if not goes_with_others(asked):
            return await self.write(lambda: logs.append(store, asked), timeout)
        job = AppendJob(store, asked, timeout)
        self._current().write(job)
        return await job.outcome(timeout)

    async def write_long(self, steps: StepsOf[T], timeout: float) -> T:
        return await self.write(steps, timeout)  # what has begun to write is never cut off

    async def upgrade(self, steps: StepsOf[T], timeout: float) -> T:
        job = LoneJob(steps, timeout)
        self._current().write(job)
        return await job.outcome(timeout)

    async def begin(self, before: StepsOf[None], timeout: float) -> OpenTransaction:
        job = BeginJob(before, timeout)  # type: ignore[arg-type]  # its outcome is the transaction, not the steps'
        self._current().write(job)
        try:
            transaction = await job.outcome(timeout)
            self._begun.add(transaction)
            return transaction
        except asyncio.CancelledError:
            begun: OpenTransaction | None = job.given()
            if begun is not None:
                begun.give_back()  # it was opened for a task that is gone
            raise

    async def facts(self) -> dict[str, Any]:
        return {"version": sqlite3.sqlite_version, "durability": "none" if self._path == MEMORY else "full"}

    async def close(self) -> None:
        self._closed = True
        await self._end_transactions()
        await self.let_go()

    async def let_go(self) -> None:
        with self._guard:
            file, self._file = self._file, None
        if file is not None:
            await _ended(_files.leave(file))

    async def _end_transactions(self) -> None:
        """Give transactions that others still hold a little time, then end them."""
        due = time.monotonic() + _TIME_TO_END
        while time.monotonic() < due and any(not begun.is_over for begun in self._begun):  # noqa: ASYNC110 (rare)
            await asyncio.sleep(0.01)
        for begun in self._begun:
            if not begun.is_over:
                begun.give_back()


async def _ended(threads: list[threading.Thread]) -> None:
    """Wait for threads that have been told to end, without holding up the loop."""
    # looked at again and again: while the interpreter exits no executor takes work any more
    while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110 (an event would need a waker)
        await asyncio.sleep(0.002)
