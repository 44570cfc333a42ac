"""How connections to MySQL or MariaDB are lost, and what they keep."""

import asyncio
import gc

import pytest
from asyncmy import errors

from tests.unified_storage.mysql.sessions import as_user, driver_for, failure_of, is_connected, note
from unified_storage import open_storage
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageConnectionError, StorageTimeoutError

pytestmark = pytest.mark.servers


async def test_an_idle_connection_that_the_server_ended_is_known_for_lost(connect) -> None:
    killed, killer = await connect(), await connect()
    assert killed.is_usable
    await killer.run(Call(f"KILL CONNECTION {killed.session.number}"))
    await asyncio.sleep(0.1)
    assert not killed.is_open
    assert not killed.is_usable
    error = await failure_of(killed, "SELECT ?", 1)
    assert isinstance(error, StorageConnectionError)
    assert error.retryable


async def test_a_busy_connection_that_the_server_ended_is_lost(connect) -> None:
    killed, killer = await connect(), await connect()
    failing = asyncio.create_task(failure_of(killed, "SELECT SLEEP(10), ?", 1))
    await asyncio.sleep(0.1)
    await killer.run(Call(f"KILL CONNECTION {killed.session.number}"))
    error = await failing
    assert isinstance(error, StorageConnectionError)
    assert error.retryable
    assert not killed.is_open


async def test_a_statement_that_somebody_ended_costs_no_connection(connect) -> None:
    killed, killer = await connect(), await connect()
    failing = asyncio.create_task(failure_of(killed, "SELECT SLEEP(10), ?", 1))
    await asyncio.sleep(0.1)
    await killer.run(Call(f"KILL QUERY {killed.session.number}"))
    assert isinstance(await failing, StorageTimeoutError)
    assert killed.is_usable
    assert await killed.run(Call("SELECT ?", [5])) == [[5]]


async def test_a_store_goes_on_after_all_its_connections_were_ended(home, own_user, url) -> None:
    async with open_storage(**{**home, "url": as_user(url, own_user)}, pool_size=3) as storage:
        await asyncio.gather(*(storage.save(note(f"n{number}")) for number in range(9)))
        await _end_sessions_of(own_user, url)
        await asyncio.gather(*(storage.update(f"n{number}", {"data": {"n": 1}}, type="note") for number in range(9)))
        assert [record["data"]["n"] for record in await storage.list({"type": "note"})] == [1] * 9


async def _end_sessions_of(user: str, url: str) -> None:
    connection = await driver_for(url).connect(5)
    rows = await connection.run(Call("SELECT id FROM information_schema.processlist WHERE user = ?", [user]))
    assert rows
    for (number,) in rows:
        await connection.run(Call(f"KILL CONNECTION {number}"))
    await connection.close()


async def test_closing_says_goodbye_and_dropping_leaves_at_once(connect) -> None:
    observer, polite, dropped = await connect(), await connect(), await connect()
    await polite.close()
    await polite.close()
    dropped.terminate()
    dropped.terminate()
    for _ in range(100):
        if not (await is_connected(observer, polite) or await is_connected(observer, dropped)):
            break
        await asyncio.sleep(0.02)
    assert not await is_connected(observer, polite)
    assert not await is_connected(observer, dropped)
    assert not polite.is_open
    assert not dropped.is_open


def test_a_connection_is_dropped_after_its_loop_was_closed(url) -> None:
    """Without a warning of a socket that nobody closed, which would be an error here."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(driver_for(url).connect(5))
    loop.close()
    connection.terminate()
    assert not connection.is_open
    del connection
    gc.collect()


def test_a_connection_is_dropped_while_its_loop_stands_still(url) -> None:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(driver_for(url).connect(5))
    connection.terminate()

    async def seen() -> bool:
        observer = await driver_for(url).connect(5)
        for _ in range(100):
            if not await is_connected(observer, connection):
                break
            await asyncio.sleep(0.02)
        there = await is_connected(observer, connection)
        await observer.close()
        return there

    assert not asyncio.run(seen())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gc.collect()


# -- prepared ---


async def test_a_connection_keeps_few_statements_prepared(private) -> None:
    connection = await driver_for(private.url).connect(5)
    for number in range(200):
        assert await connection.run(Call(f"SELECT ?, {number}", [1])) == [[1, number]]
    ((_, count),) = await connection.run(Call("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'"))
    assert 1 < int(count) <= 64
    await connection.close()


async def test_a_server_that_takes_no_more_prepared_statements_is_asked_for_fewer(private) -> None:
    connection = await driver_for(private.url).connect(5)
    await connection.run(Call("SET GLOBAL max_prepared_stmt_count = 3"))
    try:
        for number in range(20):
            assert await connection.run(Call(f"SELECT ?, {number}", [1])) == [[1, number]]
    finally:
        await connection.run(Call("SET GLOBAL max_prepared_stmt_count = 16382"))
        await connection.close()


async def test_a_statement_outlives_a_change_of_its_table(connect, table) -> None:
    connection, changer = await connect(), await connect()
    put = Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", ["a", 1])
    get = Call(f"SELECT * FROM {table} WHERE id = ?", ["a"])
    await connection.run(put)
    ((*before,),) = await connection.run(get)
    await changer.run(Call(f"ALTER TABLE {table} ADD COLUMN extra INT DEFAULT 7, MODIFY v VARBINARY(20)"))
    ((*after,),) = await connection.run(get)
    assert (before[3], after[3], after[5]) == (1, "1", 7)


async def test_a_statement_that_the_server_gave_up_is_prepared_anew(connect) -> None:
    class Stale:
        closed = False

        async def execute(self, values):
            raise errors.OperationalError(1615, "Prepared statement needs to be re-prepared")

        async def close(self) -> None:
            self.closed = True

    connection, stale = await connect(), Stale()
    connection._prepared["SELECT ?"] = stale
    assert await connection.run(Call("SELECT ?", [3])) == [[3]]
    assert stale.closed
    assert connection.is_usable
