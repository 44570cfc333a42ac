"""Carrying out steps on a server: on a connection of the pool, in a transaction, and again where that is right."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from unified_storage.backends.sql import logs
from unified_storage.backends.sql.appends import Appending, Appends
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.driver import Connection, Driver, Kind
from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.server_pool import Connect, Lease, ServerPool
from unified_storage.backends.sql.statements import Call, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.errors import (
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageTransactionError,
)
from unified_storage.placing import Append
from unified_storage.transactions import to_the_end

T = TypeVar("T")
log = logging.getLogger(__name__)
_GRACE = 2.0
"""Seconds that a server which keeps its own time limits has for saying so."""
_TIME_TO_UNDO = 5.0
_LONGEST_LOOK = 3.0
"""Seconds that a look at the server's health may take."""
_MOST_LOSSES = 10
"""A verb that loses this many connections may be what brings the server down."""
_ANYTHING = Call("SELECT 1")


class Patience:
    """The time that one verb has, and the pauses between its attempts."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._due = time.monotonic() + timeout
        self._conflicts = 0
        self._losses = 0

    @property
    def left(self) -> float:
        """Seconds until the verb has to be done."""
        return max(0.0, self._due - time.monotonic())

    async def before_next(self, error: StorageError) -> None:
        """Wait for the next attempt after *error*, which is raised where there is none."""
        if not error.retryable:
            raise error
        if isinstance(error, StorageConnectionError):
            self._losses += 1
            # At once the first time: most likely the server was restarted while the connection lay idle.
            pause = 0.0 if self._losses == 1 else min(1.0, 0.005 * 2**self._losses)
        elif isinstance(error, StorageConflictError):
            self._conflicts += 1
            pause = min(0.25, 0.001 * 2 ** min(self._conflicts, 10))
        else:
            raise error
        if self._losses >= _MOST_LOSSES or pause > self.left:
            raise error
        await asyncio.sleep(random.uniform(0, pause))


Attempt = Callable[[Lease, Patience, asyncio.Timeout], Awaitable[T]]
"""One attempt at a verb; gives the connection back when it succeeds."""


class ServerEngine:
    """The engine of one storage on a server.

    Args:
        pool_size: connections for each event loop, at most.
        connect_timeout: seconds for making a connection, and for waiting for a server that was there before.
        lock: names what schema upgrades of the same tables take turns by.
    """

    def __init__(self, driver: Driver, *, pool_size: int, connect_timeout: float, lock: str) -> None:
        self._driver = driver
        self._pool = ServerPool(pool_size)
        self._connect_timeout = connect_timeout
        self._lock = lock
        self._was_connected = False
        self._appends: Appends | None = None

    @property
    def dialect(self) -> Dialect:
        return self._driver.dialect

    # -- the verbs of an engine ----------------------------------------------------------------------------------

    async def read(self, steps: StepsOf[T], timeout: float) -> T:
        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> T:
            with self.translated():
                result = await _read(lease.connection, steps(), timeout)
            lease.give_back()
            return result

        return await self._carried_out(attempt, timeout)

    async def write(self, steps: StepsOf[T], timeout: float) -> T:
        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> T:
            result = await self._begun(lease.connection, "write", steps, timeout)
            limit.reschedule(None)  # a commit has its own time limit, since its outcome has to be waited for
            await self.commit(lease.connection, patience.left + _GRACE)
            lease.give_back()
            return result

        return await self._carried_out(attempt, timeout)

    async def append(self, store: Store, asked: Append, timeout: float) -> list[int]:
        async def step_by_step(asked: Append) -> list[int]:
            return await self.write(lambda: logs.append(store, asked), timeout)

        if self._appends is None:
            appender = self._driver.appender(store.statements.prefix)
            self._appends = Appends(store, appender, partial(self.at_once, timeout=timeout), timeout)
        return await self._appends.append(asked, step_by_step)

    async def at_once(self, appending: Appending[T], *, timeout: float) -> T | None:
        """Carry out what is a transaction of its own, once; None where another writer was in its way.

        Raises:
            StorageConnectionError: as :meth:`commit`, where the connection was lost in its last part.
        """

        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> T | None:
            try:
                with self.translated():
                    if not lease.connection.is_quiet:
                        # One that is lost is better known before anything was sent that counts.
                        await lease.connection.run(_ANYTHING)
                    result = await appending(lease.connection, _Finish(self, patience, limit))
            except StorageConflictError:
                await to_the_end(undone(lease))
                return None
            lease.give_back()
            return result

        return await self._carried_out(attempt, timeout)

    async def write_long(self, steps: StepsOf[T], timeout: float) -> T:
        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> T:
            limit.reschedule(None)
            with self.translated():
                await lease.connection.begin("write", timeout)
                await lease.connection.lift_time_limit(timeout)
                result = await _run(lease.connection, steps())
            await self.commit(lease.connection, timeout + _GRACE)
            lease.give_back()
            return result

        return await self._carried_out(attempt, timeout)

    async def upgrade(self, steps: StepsOf[T], timeout: float) -> T:
        if self.dialect.schema_is_transactional:
            return await self.write_long(lambda: self._in_turn(steps), timeout)

        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> T:
            limit.reschedule(None)
            with self.translated():
                await lease.connection.lift_time_limit(timeout)
                result = await _run(lease.connection, self._in_turn(steps))
            lease.drop()  # and with it what the session may have locked
            return result

        return await self._carried_out(attempt, timeout)

    def _in_turn(self, steps: StepsOf[T]) -> Steps[T]:
        for call in self._driver.upgrade_calls(self._lock):  # noqa: UP028 (a list takes no rows)
            yield call
        return (yield from steps())

    async def begin(self, before: StepsOf[None], timeout: float) -> ServerTransaction:
        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> ServerTransaction:
            await self._begun(lease.connection, "transaction", before, timeout)
            return ServerTransaction(self, lease, timeout)

        return await self._carried_out(attempt, timeout)

    async def facts(self) -> dict[str, Any]:
        """As :meth:`Engine.facts`; does not wait for a server that is away."""

        async def attempt(lease: Lease, patience: Patience, limit: asyncio.Timeout) -> dict[str, Any]:
            with self.translated():
                facts = await self._driver.facts(lease.connection)
            lease.give_back()
            return facts

        return await self._carried_out(attempt, _LONGEST_LOOK, self._connected_once)

    async def let_go(self) -> None:
        await self._pool.let_go()

    async def close(self) -> None:
        await self._pool.close()

    # -- how -----------------------------------------------------------------------------------------------------

    async def _carried_out(self, attempt: Attempt[T], timeout: float, connect: Connect | None = None) -> T:
        patience = Patience(timeout)
        try:
            async with asyncio.timeout(timeout + _GRACE) as limit:
                while True:
                    lease = await self._pool.lend(connect or self._connected, patience.left)
                    try:
                        return await self._attempted(attempt, lease, patience, limit)
                    except StorageError as error:
                        await patience.before_next(error)
                        limit.reschedule(asyncio.get_running_loop().time() + patience.left + _GRACE)
        except TimeoutError as error:
            raise StorageTimeoutError(f"the server did not answer within {timeout + _GRACE:g} s") from error

    async def _attempted(self, attempt: Attempt[T], lease: Lease, patience: Patience, limit: asyncio.Timeout) -> T:
        """An attempt, after which the connection is back in the pool, or dropped, whatever happens."""
        try:
            return await attempt(lease, patience, limit)
        except StorageConnectionError:
            lease.lost()
            raise
        except GeneratorExit:  # the task is thrown away: nothing can be awaited any more
            lease.drop()
            raise
        except BaseException:
            if limit.expired():  # the server, which should have noticed long ago, does not listen
                lease.drop()
            await to_the_end(undone(lease))
            raise

    async def _begun(self, connection: Connection, kind: Kind, steps: StepsOf[T], timeout: float) -> T:
        with self.translated():
            await connection.begin(kind, timeout)
            return await _run(connection, steps())

    async def commit(self, connection: Connection, most: float) -> None:
        """Commit within *most* seconds, whatever happens to us meanwhile.

        Raises:
            StorageConnectionError: the connection was lost; ``details["outcome"]`` is ``unknown``, and trying again
                is wrong, when that was after the commit had been sent.
        """
        if not connection.is_open:
            raise StorageConnectionError("the connection was lost before the commit")
        await to_the_end(self._commit(connection, most))

    async def _commit(self, connection: Connection, most: float) -> None:
        try:
            async with asyncio.timeout(most):
                with self.translated():
                    await connection.commit()
        except (StorageConnectionError, TimeoutError) as error:
            if isinstance(error, StorageError) and self._driver.takes_no_writes(error):
                raise
            raise _unknown(error) from error

    async def _connected(self) -> Connection:
        """A new connection; a server that was there before, or asks for it, is waited for."""
        due = time.monotonic() + self._connect_timeout
        pause = 0.05
        while True:
            try:
                return await self._connected_once(due - time.monotonic())
            except StorageConnectionError as error:
                is_worth_it = self._was_connected or self._driver.says_later(error)
                if not is_worth_it or time.monotonic() + pause > due:
                    raise
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(1.0, pause * 2)

    async def _connected_once(self, most: float = _LONGEST_LOOK) -> Connection:
        with self.translated():
            connection = await self._driver.connect(most)
        self._was_connected = True
        return connection

    def leaves_unknown(self, error: Exception) -> bool:
        """Whether after *error*, ours or the driver's, nobody knows what was done: the connection was lost."""
        ours = error if isinstance(error, StorageError) else self._driver.translated(error)
        return isinstance(ours, StorageConnectionError) and not self._driver.takes_no_writes(ours)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raises our error instead of the driver's."""
        try:
            yield
        except Exception as error:
            ours = self._driver.translated(error)
            if ours is None:
                raise
            raise ours from error


class ServerTransaction:
    """An open transaction; its connection goes back to the pool once, with its end."""

    def __init__(self, engine: ServerEngine, lease: Lease, timeout: float) -> None:
        self._engine = engine
        self._lease: Lease | None = lease
        self._timeout = timeout
        self._due = time.monotonic() + timeout

    async def run(self, steps: StepsOf[T]) -> T:
        connection = self._open().connection
        try:
            async with asyncio.timeout(max(0.0, self._due - time.monotonic())):
                with self._engine.translated():
                    return await _run(connection, steps())
        except TimeoutError as error:
            raise StorageTimeoutError(f"the transaction was open for more than {self._timeout:g} s") from error
        except StorageConnectionError:
            self._ended().lost()
            raise

    async def commit(self) -> None:
        lease = self._ended()
        try:
            await self._engine.commit(lease.connection, max(0.0, self._due - time.monotonic()) + _GRACE)
        except StorageConnectionError:
            lease.lost()
            raise
        except BaseException:
            await to_the_end(undone(lease))
            raise
        lease.give_back()

    async def rollback(self) -> None:
        if self._lease is not None:
            await to_the_end(undone(self._ended()))

    def _open(self) -> Lease:
        if self._lease is None:
            raise StorageTransactionError("the transaction is over")
        return self._lease

    def _ended(self) -> Lease:
        lease, self._lease = self._open(), None
        return lease


class _Finish:
    """A block around what commits."""

    def __init__(self, engine: ServerEngine, patience: Patience, limit: asyncio.Timeout) -> None:
        self._engine = engine
        self._patience = patience
        self._limit = limit

    @property
    def timeout(self) -> float:
        return self._patience.timeout

    @property
    def left(self) -> float:
        return self._patience.left + _GRACE

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncio.CancelledError) and self._limit.expired():
            raise _unknown(TimeoutError()) from error
        if isinstance(error, Exception) and self._engine.leaves_unknown(error):
            raise _unknown(error) from error


def _unknown(error: Exception) -> StorageConnectionError:
    return StorageConnectionError(
        f"no answer to a commit: whether it was done is not known ({str(error) or 'time-out'})",
        details={"outcome": "unknown"},
        retryable=False,
    )


async def undone(lease: Lease) -> None:
    """Undo what is open and give the connection back; one that cannot is dropped, which undoes it as well.

    Not to be cancelled: a statement that still runs would go on, with its locks, on a server that nobody has told.
    """
    try:
        if lease.connection.is_open and not lease.connection.is_usable:
            async with asyncio.timeout(_TIME_TO_UNDO):
                await lease.connection.rollback()
    except Exception as error:
        log.debug("a connection was dropped: it could not roll back", exc_info=error)
        lease.drop()
    finally:
        lease.give_back()


async def _read(connection: Connection, steps: Steps[T], timeout: float) -> T:
    """Steps that change nothing: one statement by itself, or several on one state of the database."""
    try:
        call = next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    if call.is_all:
        return await _run(connection, steps, call)
    await connection.begin("read", timeout)
    result = await _run(connection, steps, call)
    await connection.commit()
    return result


async def _run(connection: Connection, steps: Steps[T], call: Call | None = None) -> T:
    """Carry out steps, from *call* on where they have begun."""
    try:
        call = call or next(steps)
        while True:
            call = steps.send(await connection.run(call))
    except StopIteration as done:
        result: T = done.value
        return result
