"""A process that forks with open connections: `python -W error -m tests.unified_storage.postgresql.fork_program URL`.

Prints the server's numbers of two connections before and after the child has lived, and that of the child's.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import asyncpg.connection  # type: ignore[import-untyped]  # it ships no types

from unified_storage.backends.sql.postgresql import PostgreSQLDriver, server_of
from unified_storage.backends.sql.server_engine import ServerEngine, ServerTransaction
from unified_storage.backends.sql.statements import Call, Steps
from unified_storage.opening import parse_url


def _pid() -> Steps[Any]:
    rows = yield Call("SELECT pg_backend_pid()", is_all=True)
    return rows[0][0]


def _nothing() -> Steps[None]:
    yield Call("SELECT 1")


def main(url: str) -> None:
    driver = PostgreSQLDriver(server_of(parse_url(url), {}), 30)
    engine = ServerEngine(driver, pool_size=3, connect_timeout=10, lock="fork")
    loop = asyncio.new_event_loop()
    transaction = loop.run_until_complete(engine.begin(_nothing, 30))
    before = loop.run_until_complete(_pids(engine, transaction))
    child = os.fork()
    if child == 0:
        asyncpg.connection.Connection.__del__ = _collected
        print("child", asyncio.run(_in_child(engine)), flush=True)
        return  # on through the whole end of the interpreter, which collects what it inherited
    _, status = os.waitpid(child, 0)
    after = loop.run_until_complete(_pids(engine, transaction))
    loop.run_until_complete(transaction.commit())
    print("parent", *before, *after, os.waitstatus_to_exitcode(status), flush=True)
    loop.run_until_complete(engine.close())
    loop.close()


async def _pids(engine: ServerEngine, transaction: ServerTransaction) -> list[int]:
    """One connection in use, and one that lies idle."""
    return [await transaction.run(_pid), await engine.read(_pid, 10)]


def _collected(connection: Any, write: Callable[[int, bytes], int] = os.write) -> None:
    """Tells of an open connection that is finalised, which would say goodbye to the server in its parent's name."""
    if not connection.is_closed():
        write(1, b"child: it was collected\n")


async def _in_child(engine: ServerEngine) -> int:
    pid: int = await engine.read(_pid, 10)
    await engine.close()
    return pid


if __name__ == "__main__":
    main(sys.argv[1])
