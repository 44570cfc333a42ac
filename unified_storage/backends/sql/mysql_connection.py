"""One connection to MySQL or MariaDB: values go beside the statement, a cancelled statement does no damage."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from asyncmy import errors

from unified_storage.backends.sql.driver import Kind
from unified_storage.backends.sql.mysql_errors import (
    REPREPARE,
    TOO_MANY_PREPARED,
    ends_the_session,
    is_there_already,
    number_of,
)
from unified_storage.backends.sql.mysql_settings import Session, unlimited
from unified_storage.backends.sql.sockets import has_unread, sever
from unified_storage.backends.sql.statements import Call, Row
from unified_storage.errors import StorageCapacityError

T = TypeVar("T")
Wire = Any
"""asyncmy's connection, whose own types are incomplete; so are those of its prepared statements."""
_TIME_TO_FINISH = 0.5
_TIME_TO_QUIT = 1.0
_LATER_THAN_THE_CLIENT = 5.0
"""Seconds after a transaction's own end at which the server ends it: then its client hangs, or is cut off."""
_MOST_PREPARED = 64
"""Prepared statements of one connection; all connections of a server share some 16 000."""
_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 1_000_000
_BESIDE_VALUES = 1_024
"""What of a packet is not values, at most, for a statement's head; and for each value:"""
_BESIDE_A_VALUE = 12
_BEGIN = {
    "read": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT",
    "write": "START TRANSACTION",
    "transaction": "START TRANSACTION",
}


class Effect(NamedTuple):
    """What a statement did."""

    rows: int
    """It selected, changed or inserted; two for one that it changed instead of inserting it."""
    number: int
    """The ``last_insert_id`` that it left."""


class MySQLConnection:
    """A connection for one task at a time.

    Args:
        end_elsewhere: ends this session on the server when it is dropped in the middle of a statement.
    """

    def __init__(self, wire: Wire, session: Session, end_elsewhere: Callable[[Session], None]) -> None:
        self.session = session
        self._wire = wire
        self._end_elsewhere = end_elsewhere
        self._prepared: dict[str, Any] = {}
        self._idle_timeout: int | None = None
        self._is_busy = False
        self._has_begun = False
        self._is_unlimited = False

    @property
    def is_open(self) -> bool:
        return bool(self._wire.connected) and not self._wire._stream_broken

    @property
    def is_usable(self) -> bool:
        return self.is_open and not self._is_busy and not self._has_begun and not self._is_unlimited

    @property
    def is_quiet(self) -> bool:
        return self.is_open and not has_unread(self._wire._transport)

    async def run(self, call: Call) -> list[Row]:
        """The rows of one call, every binary column as text: there are none but names in UTF-8.

        Raises:
            StorageCapacityError: the server would take no packet of this size.
        """
        return await self._uninterrupted(self._rows_of(call))

    async def begin(self, kind: Kind, timeout: float) -> None:
        await self._begin(_BEGIN[kind], timeout)

    async def begin_with(self, reads: str, timeout: float) -> list[list[Row]]:
        """Begin a transaction that writes, and the rows of each of *reads*, statements without places: in one trip."""
        return (await self._begin(f"{_BEGIN['write']}; {reads}", timeout))[-1 - reads.count(";") :]

    async def do_whole(self, writes: str) -> list[Effect]:
        """A transaction in one round trip: begin, and as :meth:`finish_with`."""
        self._has_begun = True
        return (await self.finish_with(f"{_BEGIN['write']}; {writes}"))[1:]

    async def finish_with(self, writes: str) -> list[Effect]:
        """Carry out statements without places, and commit: in one round trip. Nothing of it is done where one fails.

        Returns:
            What each of *writes* did.
        """
        effects = await self._uninterrupted(effects_of(self._wire, f"{writes}; COMMIT"))
        self._has_begun = False
        return effects[:-1]

    async def _begin(self, text: str, timeout: float) -> list[list[Row]]:
        most_idle = math.ceil(timeout + _LATER_THAN_THE_CLIENT)
        if self.session.ends_idle_transactions and self._idle_timeout != most_idle:
            text = f"SET SESSION idle_transaction_timeout = {most_idle}; {text}"
            self._idle_timeout = most_idle
        self._has_begun = True
        return await self._uninterrupted(told_all(self._wire, text))

    async def lift_time_limit(self, longest_wait: float) -> None:
        self._is_unlimited = True  # for its session: nobody else shall have it
        await self._uninterrupted(told(self._wire, unlimited(self.session, longest_wait)))

    async def commit(self) -> None:
        await self._uninterrupted(told(self._wire, "COMMIT"))
        self._has_begun = False

    async def rollback(self) -> None:
        await self._uninterrupted(told(self._wire, "ROLLBACK"))
        self._has_begun = False

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_TIME_TO_QUIT):
                await self._wire.ensure_closed()
        except (errors.MySQLError, OSError):
            pass  # it is gone already, or does not answer
        finally:
            drop(self._wire)

    def terminate(self) -> None:
        was_busy = self._is_busy and self._wire.connected
        drop(self._wire)
        if was_busy:
            self._end_elsewhere(self.session)

    # -- one at a time, wholly ---------------------------------------------------------------------------------------

    async def _uninterrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Do *work* in a task of its own: asyncmy could not go on after a cancellation in the middle of an answer."""
        loop = asyncio.get_running_loop()
        task, done = loop.create_task(self._alone(work)), loop.create_future()
        task.add_done_callback(lambda _: None if done.done() else done.set_result(None))
        task.add_done_callback(lambda _: work.close())  # of a task that was cancelled before it began
        try:
            await done
        except asyncio.CancelledError:
            await self._finish(task)
            raise
        return task.result()

    async def _alone(self, work: Coroutine[Any, Any, T]) -> T:
        self._is_busy = True
        try:
            return await work
        except BaseException as error:
            if not _leaves_it_whole(error):
                drop(self._wire)
            raise
        finally:
            self._is_busy = False

    async def _finish(self, task: asyncio.Task[Any]) -> None:
        """Let a statement that nobody waits for end, for a moment; then drop the connection, here and on the server."""
        try:
            await asyncio.wait([task], timeout=_TIME_TO_FINISH)
        finally:
            task.add_done_callback(_looked_at)
            if not task.done():
                self.terminate()
                task.cancel()

    # -- statements --------------------------------------------------------------------------------------------------

    async def _rows_of(self, call: Call) -> list[Row]:
        try:
            if call.many:
                await self._run_many(call.sql, call.values)
                return []
            if not call.values:
                return await told(self._wire, call.sql)
            result = await self._executed(call.sql, call.values)
        except errors.MySQLError as error:
            if call.may_exist and is_there_already(error):
                return []
            raise
        if call.wants_number:
            return [(result.insert_id,)]
        return _as_text(result.rows)

    async def _run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        head, values = _insert_parts(sql)
        if values is None:
            for row in rows:
                await self._executed(sql, row)
            return
        for part in _parts(rows, min(_BYTES_AT_ONCE, self.session.largest_packet // 4)):
            text = head + ", ".join([values] * len(part))
            await self._executed(text, [value for row in part for value in row])

    async def _executed(self, sql: str, values: Sequence[Any]) -> Any:
        self._check_size(values)
        statement = await self._statement(sql)
        try:
            return await statement.execute(values)
        except errors.MySQLError as error:
            if number_of(error) != REPREPARE:
                raise
        # The server gave the statement up after a table was altered; it has not run.
        await self._forget(sql)
        return await (await self._statement(sql)).execute(values)

    async def _statement(self, sql: str) -> Any:
        """The prepared statement of *sql*; the one longest unused goes when there are many."""
        statement = self._prepared.pop(sql, None) or await self._prepare(sql)
        self._prepared[sql] = statement
        if len(self._prepared) > _MOST_PREPARED:
            await self._forget(next(iter(self._prepared)))
        return statement

    async def _prepare(self, sql: str) -> Any:
        try:
            return await self._wire.prepare(sql)
        except errors.MySQLError as error:
            if number_of(error) != TOO_MANY_PREPARED or not self._prepared:
                raise
        for known in [*self._prepared]:
            await self._forget(known)
        return await self._wire.prepare(sql)

    async def _forget(self, sql: str) -> None:
        await self._prepared.pop(sql).close()

    def _check_size(self, values: Sequence[Any]) -> None:
        """Refuse what the server would answer by hanging up."""
        room = self.session.largest_packet - _BESIDE_VALUES - _BESIDE_A_VALUE * len(values)
        most = 4 * sum(len(value) for value in values if isinstance(value, str | bytes))
        if most <= room:
            return
        size = sum(_size(value) for value in values)
        if size > room:
            raise StorageCapacityError(
                f"MySQL: the server takes packets of {self.session.largest_packet} bytes (max_allowed_packet), "
                f"this one would have {size}",
                details={"max_allowed_packet": self.session.largest_packet, "size": size},
            )


async def told(wire: Wire, text: str) -> list[Row]:
    """The rows of the last statement of *text*, which has no values: not everything can be prepared."""
    return (await told_all(wire, text))[-1]


async def told_all(wire: Wire, text: str) -> list[list[Row]]:
    """The rows of each statement of *text*, which has no values."""
    async with wire.cursor() as cursor:
        await cursor.execute(text)
        rows = [_as_text(await cursor.fetchall())]
        while await cursor.nextset():
            rows.append(_as_text(await cursor.fetchall()))
        return rows


async def effects_of(wire: Wire, text: str) -> list[Effect]:
    """What each statement of *text*, which has no values, did."""
    async with wire.cursor() as cursor:
        await cursor.execute(text)
        effects = [Effect(cursor.rowcount, cursor.lastrowid)]
        while await cursor.nextset():
            effects.append(Effect(cursor.rowcount, cursor.lastrowid))
        return effects


def drop(wire: Wire) -> None:
    """Close the socket at once, also where its event loop is closed or stands still."""
    transport = wire._transport
    if transport is None:
        return
    if wire.loop.is_running():
        transport.abort()
    else:
        sever(transport)
    wire._transport = None
    wire.close()


def _leaves_it_whole(error: BaseException) -> bool:
    """Whether the connection can be used after *error*: it was said before anything was sent, or by the server."""
    if isinstance(error, errors.MySQLError):
        return not ends_the_session(error)
    return isinstance(error, StorageCapacityError)


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Nobody waits for its error any more."""
    if not task.cancelled():
        task.exception()


def _as_text(rows: Sequence[Row] | None) -> list[Row]:
    return [[value.decode() if type(value) is bytes else value for value in row] for row in rows or ()]


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8


def _insert_parts(sql: str) -> tuple[str, str | None]:
    """What stands before the values of an insert, and one row's places; None where it is no plain insert."""
    head, word, places = sql.rpartition(" VALUES ")
    is_plain = head.startswith("INSERT INTO") and places.strip("()?, ") == ""
    return (head + word, places) if is_plain else (sql, None)


def _parts(rows: Sequence[Sequence[Any]], most_bytes: int) -> Iterator[Sequence[Sequence[Any]]]:
    """*rows* in order, in parts of 1, 2, 4 ... rows: few lengths, since each is a statement of its own."""
    sizes = [sum(map(_size, row)) for row in rows]
    start = 0
    while start < len(rows):
        count = min(_ROWS_AT_ONCE, 1 << (len(rows) - start).bit_length() - 1)
        while count > 1 and sum(sizes[start : start + count]) > most_bytes:
            count //= 2
        yield rows[start : start + count]
        start += count
