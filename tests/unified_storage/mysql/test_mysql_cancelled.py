"""A cancelled statement on MySQL or MariaDB ends soon: here, and on the server, which asyncmy would not tell."""

import asyncio
import gc
import random
import time
from dataclasses import replace

import pytest

from tests.unified_storage.mysql.sessions import as_user, driver_for, is_connected, note
from unified_storage import open_storage
from unified_storage.backends.sql.mysql_connection import MySQLConnection
from unified_storage.backends.sql.statements import Call

pytestmark = pytest.mark.servers


async def cancel(task: asyncio.Task, times: int = 1) -> float:
    """The seconds until a cancelled task has ended."""
    began = time.monotonic()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    return time.monotonic() - began


async def running(connection: MySQLConnection, sql: str, *values) -> asyncio.Task:
    """A task in the middle of a statement."""
    task = asyncio.create_task(connection.run(Call(sql, values)))
    await asyncio.sleep(0.1)
    assert not task.done()
    return task


async def is_ended(observer: MySQLConnection, other: MySQLConnection) -> bool:
    """Whether the server has no such session any more, after at most a few seconds."""
    for _ in range(150):
        if not await is_connected(observer, other):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_statement_that_ends_soon_costs_no_connection(connect) -> None:
    connection = await connect()
    for _ in range(3):
        assert await cancel(await running(connection, "SELECT SLEEP(0.3), ?", 1)) < 0.45
        assert connection.is_usable
        assert await connection.run(Call("SELECT ?, CONNECTION_ID()", [2])) == [[2, connection.session.number]]


async def test_a_long_statement_is_left_and_ended_on_the_server(connect, table) -> None:
    connection, observer = await connect(), await connect()
    sleeping = await running(connection, "SELECT SLEEP(15), ?", 1)
    assert await cancel(sleeping) < 1.5
    assert not connection.is_open
    assert not connection.is_usable
    assert await is_ended(observer, connection)


async def test_a_cancelled_wait_for_a_lock_lets_go_of_its_own_locks(connect, table) -> None:
    holder, waiter, observer = await connect(), await connect(), await connect()
    for name in ("held", "own"):
        await holder.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", [name, 0]))
    await holder.begin("transaction", 20)
    await holder.run(Call(f"SELECT v FROM {table} WHERE id = ? FOR UPDATE", ["held"]))
    await waiter.begin("transaction", 20)
    await waiter.run(Call(f"UPDATE {table} SET v = 1 WHERE id = ?", ["own"]))
    await cancel(await running(waiter, f"UPDATE {table} SET v = 1 WHERE id = ?", "held"))
    async with asyncio.timeout(5):
        await observer.run(Call(f"UPDATE {table} SET v = v + 10 WHERE id = ?", ["own"]))
    await holder.commit()
    assert await observer.run(Call(f"SELECT v FROM {table} ORDER BY id")) == [[0], [10]]


async def test_a_task_cancelled_twice_does_not_wait_for_the_statement(connect) -> None:
    connection, observer = await connect(), await connect()
    assert await cancel(await running(connection, "SELECT SLEEP(15), ?", 1), times=2) < 0.4
    assert not connection.is_open
    assert await is_ended(observer, connection)


async def test_a_connection_dropped_in_the_middle_is_ended_on_the_server(connect) -> None:
    connection, observer = await connect(), await connect()
    task = await running(connection, "SELECT SLEEP(15), ?", 1)
    connection.terminate()
    assert await is_ended(observer, connection)
    with pytest.raises(Exception, match=r"(?i)lost|not connected|gone"):
        await task


async def test_no_stranger_on_another_server_is_ended(connect) -> None:
    """Behind a proxy the number of our session may be somebody else's."""
    connection, observer, stranger = await connect(), await connect(), await connect()
    elsewhere = ("another", *connection.session.server[1:])
    connection.session = replace(connection.session, number=stranger.session.number, server=elsewhere)
    await cancel(await running(connection, "SELECT SLEEP(3), ?", 1))
    assert not connection.is_open
    await asyncio.sleep(0.5)
    assert await is_connected(observer, stranger)
    assert stranger.is_open


async def test_a_cancelled_login_leaves_no_session(url, own_user) -> None:
    driver = driver_for(as_user(url, own_user))
    source = random.Random(11)
    began = time.monotonic()
    await (await driver.connect(5)).close()
    once = time.monotonic() - began
    made = 0
    for _ in range(60):
        connecting = asyncio.create_task(driver.connect(5))
        await asyncio.sleep(source.uniform(0, once))
        if connecting.cancel():
            await asyncio.wait([connecting])
        if not connecting.cancelled():
            made += 1
            await connecting.result().close()
    assert made < 60
    assert await sessions_left(url, own_user, 0) == 0


async def test_three_hundred_cancelled_transactions_leave_no_session_and_no_half(home, own_user, url) -> None:
    """Each moves one from left to right; some wait for each other's locks when they are cancelled."""
    url_of_user = as_user(url, own_user)
    async with open_storage(url_of_user, namespace=home["namespace"], pool_size=4) as storage:
        await storage.batch_save([note("left", 1000), note("right", 0)])
        source = random.Random(7)
        await move(storage)
        began = time.monotonic()
        await move(storage)
        once = time.monotonic() - began
        for _ in range(100):
            moving = [asyncio.create_task(move(storage)) for _ in range(3)]
            for task in moving:
                await asyncio.sleep(source.uniform(0, once))
                task.cancel()
            outcomes = await asyncio.gather(*moving, return_exceptions=True)
            assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
        left, right = await number(storage, "left"), await number(storage, "right")
        assert left + right == 1000
        assert 2 < right < 302, "every one of them was cut off, or none: the test hits no interesting moment"
        assert await sessions_left(url, own_user, 4) <= 4
        for _ in range(12):
            await move(storage)
    assert await sessions_left(url, own_user, 0) == 0


async def move(storage) -> None:
    async def one(tx) -> None:
        await tx.save(note("left", await number(tx, "left") - 1))
        await tx.save(note("right", await number(tx, "right") + 1))

    await storage.atomically(one, attempts=50)


async def number(storage, id: str) -> int:
    return (await storage.load(id, type="note"))["data"]["n"]


async def sessions_left(url: str, user: str, most: int) -> int:
    """How many sessions of a user the server has, when they are not more than *most*, or after some seconds."""
    observer = await driver_for(url).connect(5)
    for _ in range(150):
        sql = "SELECT count(*) FROM information_schema.processlist WHERE user = ?"
        ((count,),) = await observer.run(Call(sql, [user]))
        if count <= most:
            break
        await asyncio.sleep(0.02)
    await observer.close()
    return count


def test_a_loop_that_ends_in_the_middle_leaves_no_session_and_no_warning(home, own_user, url) -> None:
    """asyncio.run cancels what is left; the storage is closed in another loop, where nobody can wait for the first."""
    storage = open_storage(as_user(url, own_user), namespace=home["namespace"])

    async def main() -> None:
        await storage.save(note("one"))
        block = storage.transaction()
        tx = await block.__aenter__()
        await tx.update("one", {"data": {"n": 1}}, type="note")
        waiting.append(asyncio.create_task(storage.update("one", {"data": {"n": 2}}, type="note")))
        await asyncio.sleep(0.1)

    waiting: list[asyncio.Task] = []
    asyncio.run(main())
    assert waiting.pop().cancelled()
    asyncio.run(storage.close())
    gc.collect()
    assert asyncio.run(sessions_left(url, own_user, 0)) == 0
