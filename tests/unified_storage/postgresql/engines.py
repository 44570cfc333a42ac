"""Engines on a real server, steps for them, and what the server says of their connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any

from unified_storage.backends.sql.postgresql import PostgreSQLDriver, server_of
from unified_storage.backends.sql.server_engine import ServerEngine
from unified_storage.backends.sql.statements import Call, Steps
from unified_storage.opening import parse_url


class Witness:
    """A connection beside the engines', which asks the server about those."""

    def __init__(self, connection: Any, name: str) -> None:
        self.connection = connection
        self.name = name
        """The application name by which the server knows the test's connections."""

    async def pids(self) -> set[int]:
        rows = await self.connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = $1", self.name)
        return {row["pid"] for row in rows}

    async def count(self) -> int:
        return len(await self.pids())

    async def states(self) -> list[str]:
        rows = await self.connection.fetch("SELECT state FROM pg_stat_activity WHERE application_name = $1", self.name)
        return sorted(row["state"] for row in rows)

    async def sees(self, count: int) -> None:
        """Wait until the server has *count* connections of the test; it needs a moment to notice that one is gone."""
        async with asyncio.timeout(10):
            while await self.count() != count:
                await asyncio.sleep(0.01)

    async def sees_state(self, state: str) -> None:
        """Wait until one of the test's connections is in this state."""
        async with asyncio.timeout(10):
            while state not in await self.states():
                await asyncio.sleep(0.005)

    async def terminate(self, pids: Iterable[int], *, wait: bool = True) -> None:
        """End connections on the server; return when they are gone, unless told not to *wait*."""
        for pid in pids:
            await self.connection.execute("SELECT pg_terminate_backend($1, $2)", pid, 5000 if wait else 0)


class Engines:
    """Makes engines that share the test's table of marks, and closes them."""

    def __init__(self, url: str, witness: Witness) -> None:
        self.url = url
        self._witness = witness
        self._made: list[ServerEngine] = []
        self.table = witness.name.replace("-", "_")

    async def __aenter__(self) -> Engines:
        await self._witness.connection.execute(f"CREATE TABLE {self.table} (mark text PRIMARY KEY)")
        return self

    async def __aexit__(self, *_: object) -> None:
        for engine in self._made:
            await engine.close()
        await self._witness.connection.execute(f"DROP TABLE {self.table}")

    def __call__(
        self, *, pool_size: int = 3, statement_timeout: float = 30, connect_timeout: float = 10
    ) -> ServerEngine:
        driver = PostgreSQLDriver(
            server_of(parse_url(self.url), {"application_name": self._witness.name}), statement_timeout
        )
        engine = ServerEngine(driver, pool_size=pool_size, connect_timeout=connect_timeout, lock=self.table)
        self._made.append(engine)
        return engine

    async def marks(self) -> set[str]:
        rows = await self._witness.connection.fetch(f"SELECT mark FROM {self.table}")
        return {row["mark"] for row in rows}

    def adding(self, *marks: str) -> Callable[[], Steps[None]]:
        """Steps that insert marks, one statement each."""
        return lambda: calls(*(Call(f"INSERT INTO {self.table} VALUES (?)", [mark]) for mark in marks))


def calls(*given: Call) -> Steps[None]:
    for call in given:  # noqa: UP028 (a tuple takes no rows)
        yield call


def asking(sql: str, *values: Any, is_all: bool = False) -> Callable[[], Steps[Any]]:
    """Steps that give the first value of one statement."""

    def steps() -> Steps[Any]:
        rows = yield Call(sql, values, is_all=is_all)
        return rows[0][0]

    return steps


class CancelledAt:
    """Awaits a coroutine in the running task, which is cancelled when it waits for the *point*-th time, from 0."""

    def __init__(self, work: Coroutine[Any, Any, Any], point: int) -> None:
        self._work = work
        self._point = point
        self.was_reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        turn: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731 (it changes)
        for number in range(1_000_000):
            try:
                waits_for = turn()
            except StopIteration as done:
                return done.value
            if number == self._point:
                self.was_reached = True
                asyncio.get_running_loop().call_soon(task.cancel)
            turn = yield from _next_turn(self._work, waits_for)
        raise AssertionError("it never ends")


def _next_turn(work: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Callable[[], Any]]:
    try:
        answer = yield waits_for
    except BaseException as error:  # noqa: BLE001 (goes on where it belongs)
        thrown = error
        return lambda: work.throw(thrown)
    return lambda: work.send(answer)


async def cancelled_at(work: Coroutine[Any, Any, Any], point: int) -> bool:
    """Whether *work* went on to wait for the *point*-th time, when it was cancelled; its own outcome does not count."""
    cut = CancelledAt(work, point)

    async def run() -> None:
        await cut

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.create_task(run())
    return cut.was_reached
