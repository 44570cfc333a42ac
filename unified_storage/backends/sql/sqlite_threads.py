"""The threads of one SQLite file: a writer that commits what waits together, and readers beside it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from copy import copy
from typing import Any, TypeVar

from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.sqlite_appends import AppendJob
from unified_storage.backends.sql.sqlite_connection import SQLiteConnection
from unified_storage.backends.sql.sqlite_groups import HalfDoneError, run_apart, run_one, run_together
from unified_storage.backends.sql.sqlite_jobs import Job, deliver
from unified_storage.errors import StorageCapacityError, StorageError, StorageTransactionError

T = TypeVar("T")
log = logging.getLogger(__name__)
_MOST_TOGETHER = 256
_PLAIN = (Job, AppendJob)
"""Writes that can share a transaction."""
_GRACE = 5.0
"""Seconds after its own time-out at which the writer itself ends a transaction that nobody ends."""


class Pause:
    """Asks a thread to close its connection and to wait, so that the process can fork."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()


class Stop:
    """Asks a thread to end."""


class ReadJob(Job[T]):
    """Steps that only read."""

    __slots__ = ()


class ConnectionThread(threading.Thread):
    """Serves a queue with one connection, opened when it is first needed."""

    def __init__(self, name: str, jobs: queue.SimpleQueue[Any], connect: Any) -> None:
        super().__init__(name=name, daemon=True)
        self._jobs = jobs
        self._connect = connect
        self._connection: SQLiteConnection | None = None

    def connection(self) -> SQLiteConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def run(self) -> None:
        while True:
            job = self._jobs.get()
            if isinstance(job, Stop):
                self._disconnect()
                return
            if isinstance(job, Pause):
                self._wait_for_fork(job)
            else:
                self._served(job)
            del job  # nothing of a job outlives it here

    def _served(self, job: Any) -> None:
        try:
            self.serve(job)
        except Exception:  # without this thread nobody could use the file any more
            log.exception("a job could not be served")

    def serve(self, job: Any) -> None:
        raise NotImplementedError

    def _wait_for_fork(self, pause: Pause) -> None:
        self._disconnect()
        pause.reached.set()
        pause.over.wait()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Reader(ConnectionThread):
    """Runs reads, each on the state of the last commit."""

    idle = 0

    def serve(self, job: ReadJob[Any]) -> None:
        serve_read(self, job)


def serve_read(thread: ConnectionThread, job: ReadJob[Any]) -> None:
    if not job.take():
        return
    try:
        job.finish(thread.connection().run_reading(job.steps, job.timeout), None)
    except Exception as error:  # noqa: BLE001 (raised where the task waits)
        job.finish(None, error)
    deliver([job])


class LoneJob(Job[T]):
    """A write that shares its transaction with no other."""

    __slots__ = ()


class BeginJob(Job["OpenTransaction"]):
    """Opens a transaction, which then has the writer to itself."""

    __slots__ = ()


class OpenTransaction:
    """A transaction on the writer's thread: its verbs, then its end, come through a queue of its own."""

    def __init__(self, timeout: float) -> None:
        self.jobs: queue.SimpleQueue[_Part] = queue.SimpleQueue()
        self._timeout = timeout
        self._guard = threading.Lock()
        self._over = False

    async def run(self, steps: StepsOf[T]) -> T:
        result: T = await self._outcome(_Part("run", steps, self._timeout))
        return result

    async def commit(self) -> None:
        await self._outcome(_Part("commit", _no_steps, self._timeout))

    async def rollback(self) -> None:
        await self._outcome(_Part("rollback", _no_steps, self._timeout))

    @property
    def is_over(self) -> bool:
        return self._over

    def give_back(self) -> None:
        """Roll back without waiting for it."""
        self.jobs.put(_Part("rollback", _no_steps, self._timeout))

    async def _outcome(self, part: _Part) -> Any:
        with self._guard:
            if self._over:
                if part.verb == "rollback":
                    return None
                raise StorageTransactionError("the transaction was ended: it was open for too long")
            self.jobs.put(part)
        return await part.outcome()

    def end(self) -> list[_Part]:
        """No more parts are taken; those that still wait."""
        with self._guard:
            self._over = True
        left = []
        while not self.jobs.empty():
            left.append(self.jobs.get_nowait())
        return left


class _Part(Job[Any]):
    """A verb of an open transaction, or its end."""

    __slots__ = ("verb",)

    def __init__(self, verb: str, steps: StepsOf[Any], timeout: float) -> None:
        super().__init__(steps, timeout)
        self.verb = verb


def _no_steps() -> Any:
    return iter(())


class Writer(ConnectionThread):
    """Runs writes: what waits is committed together, and each fails or succeeds for itself."""

    def serve(self, job: Any) -> None:
        if isinstance(job, ReadJob):
            serve_read(self, job)
        elif isinstance(job, BeginJob):
            self._serve_transaction(job)
        elif isinstance(job, LoneJob):
            self._commit_together([job])
        else:
            together, other = self._waiting_with(job)
            self._commit_together(together)
            if other is not None:
                self._next(other)

    def _next(self, other: Any) -> None:
        if isinstance(other, Stop):
            self._jobs.put(other)  # nothing can follow it
        elif isinstance(other, Pause):
            self._wait_for_fork(other)
        else:
            self.serve(other)

    def _waiting_with(self, job: Job[Any]) -> tuple[list[Job[Any]], Any]:
        """The writes that wait, and the first job that is no plain write."""
        together = [job]
        while len(together) < _MOST_TOGETHER and not self._jobs.empty():
            other = self._jobs.get()  # nobody else takes from this queue
            if type(other) not in _PLAIN:
                return together, other
            together.append(other)
        return together, None

    def _commit_together(self, jobs: list[Job[Any]]) -> None:
        taken = [job for job in jobs if job.take()]
        if not taken:
            return
        try:
            self._commit(taken)
        except HalfDoneError:
            self._commit_apart(taken)
        except Exception as error:  # noqa: BLE001 (raised where the tasks wait)
            self._failed(taken, error)
        deliver(taken)

    def _commit_apart(self, jobs: list[Job[Any]]) -> None:
        """As :meth:`_commit`, with a savepoint before each, which costs too much where none is needed."""
        try:
            self._commit(jobs, apart=True)
        except Exception as error:  # noqa: BLE001 (raised where the tasks wait)
            self._failed(jobs, error)

    def _failed(self, jobs: list[Job[Any]], error: Exception) -> None:
        if len(jobs) > 1 and isinstance(error, StorageCapacityError):
            for job in jobs:  # which of them was too much shows when each has a transaction to itself
                self._commit_alone(job)
        else:
            for job in jobs:
                # each its own: whoever raises one adds to it
                job.finish(None, copy(error) if isinstance(error, StorageError) else error)

    def _commit(self, jobs: list[Job[Any]], *, apart: bool = False) -> None:
        connection = self.connection()
        connection.begin()
        try:
            if len(jobs) == 1:
                run_one(connection, jobs[0])
            elif apart:
                run_apart(connection, jobs)
            else:
                run_together(connection, jobs)
            connection.commit()
        except BaseException:
            self._undo(connection)
            raise

    def _commit_alone(self, job: Job[Any]) -> None:
        try:
            self._commit([job])
        except Exception as error:  # noqa: BLE001 (raised where the task waits)
            job.finish(None, error)

    def _undo(self, connection: SQLiteConnection) -> None:
        """Roll back what is open; a connection that cannot is given up, which undoes it as well."""
        try:
            connection.rollback()
        except StorageError:
            log.exception("a connection was given up", extra={"path": connection.path})
            self._disconnect()

    def _serve_transaction(self, begin: BeginJob) -> None:
        if not begin.take():
            return
        transaction = OpenTransaction(begin.timeout)
        try:
            connection = self.connection()
            connection.begin()
            try:
                connection.run(begin.steps)
            except BaseException:
                self._undo(connection)
                raise
        except Exception as error:  # noqa: BLE001 (raised where the task waits)
            begin.finish(None, error)
            deliver([begin])
            return
        begin.finish(transaction, None)
        deliver([begin])
        try:
            self._serve_parts(connection, transaction, time.monotonic() + begin.timeout + _GRACE)
        finally:
            self._undo(connection)
            left = transaction.end()
            for part in left:
                part.finish(None, StorageTransactionError("the transaction is over"))
            deliver(left)

    def _serve_parts(self, connection: SQLiteConnection, transaction: OpenTransaction, deadline: float) -> None:
        while True:
            try:
                part = transaction.jobs.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if not part.take():
                continue
            try:
                part.finish(_carried_out(connection, part), None)
            except Exception as error:  # noqa: BLE001 (raised where the task waits)
                part.finish(None, error)
            over = part.verb != "run"
            deliver([part])
            if over:
                return


def _carried_out(connection: SQLiteConnection, part: _Part) -> Any:
    if part.verb == "commit":
        return connection.commit()
    if part.verb == "rollback":
        return connection.rollback()
    return connection.run(part.steps)
