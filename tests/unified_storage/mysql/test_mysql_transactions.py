"""What transactions on MySQL or MariaDB see, and what they wait for."""

import asyncio
import time

import pytest
from asyncmy import errors

from tests.unified_storage.mysql.sessions import failure_of, note
from unified_storage import open_storage
from unified_storage.backends.sql import mysql_connection
from unified_storage.backends.sql.mysql import MYSQL
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageConflictError, StorageTimeoutError

pytestmark = pytest.mark.servers


async def test_a_read_sees_one_state_and_changes_nothing(connect, table) -> None:
    reader, writer = await connect(), await connect()
    await writer.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", ["a", 1]))
    await reader.begin("read", 10)
    await writer.run(Call(f"UPDATE {table} SET v = ? WHERE id = ?", [2, "a"]))
    await writer.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", ["b", 2]))
    assert await reader.run(Call(f"SELECT v FROM {table}")) == [[1]]
    with pytest.raises(errors.MySQLError, match="READ ONLY"):
        await reader.run(Call(f"UPDATE {table} SET v = ?", [3]))
    await reader.commit()
    assert await reader.run(Call(f"SELECT v FROM {table} ORDER BY v")) == [[2], [2]]


async def test_the_snapshot_is_of_the_beginning_not_of_the_first_look(connect, table) -> None:
    reader, writer = await connect(), await connect()
    await reader.begin("read", 10)
    await writer.run(Call(f"INSERT INTO {table} (id) VALUES (?)", ["late"]))
    assert await reader.run(Call(f"SELECT id FROM {table}")) == []
    await reader.rollback()


async def test_a_writer_sees_what_stands_there_after_it_waited(connect, table) -> None:
    first, second = await connect(), await connect()
    await first.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", ["a", 1]))
    locking = Call(f"SELECT v FROM {table} WHERE id = ? FOR UPDATE", ["a"])
    await first.begin("write", 10)
    await second.begin("write", 10)
    assert await second.run(Call(f"SELECT v FROM {table}")) == [[1]]
    assert await first.run(locking) == [[1]]
    waiting = asyncio.create_task(second.run(locking))
    await first.run(Call(f"UPDATE {table} SET v = ? WHERE id = ?", [2, "a"]))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await first.commit()
    assert await waiting == [[2]]
    await second.rollback()


async def test_a_transaction_makes_a_connection_unfit_for_others_until_it_ends(connect, table) -> None:
    connection, observer = await connect(), await connect()
    for kind, end in (("read", "commit"), ("write", "rollback"), ("transaction", "commit")):
        await connection.begin(kind, 10)
        assert connection.is_open
        assert not connection.is_usable
        await getattr(connection, end)()
        assert connection.is_usable
    await connection.begin("write", 10)
    await connection.run(Call(f"INSERT INTO {table} (id) VALUES (?)", ["gone"]))
    await connection.rollback()
    assert await observer.run(Call(f"SELECT id FROM {table}")) == []


async def test_the_barrier_waits_for_everybody_who_has_read_the_table(connect, table) -> None:
    writer, reader, changer = await connect(), await connect(), await connect()
    await writer.begin("write", 10)
    await writer.run(Call(f"SELECT v FROM {table} WHERE n = ?", [1]))
    await reader.begin("write", 10)  # has begun, and read nothing yet: need not be waited for

    async def all_of_it() -> None:
        for text in MYSQL.barrier(table):
            await changer.run(Call(text))

    barrier = asyncio.create_task(all_of_it())
    await asyncio.sleep(0.3)
    assert not barrier.done()
    await writer.commit()
    async with asyncio.timeout(5):
        await barrier
    assert changer.is_usable
    assert await reader.run(Call(f"SELECT count(*) FROM {table}")) == [[0]]
    await reader.commit()


async def test_the_barrier_waits_again_the_next_time(connect, table) -> None:
    """A change that changes nothing may be left out by a server."""
    for _ in range(2):
        writer, changer = await connect(), await connect()
        await writer.begin("write", 10)
        await writer.run(Call(f"SELECT v FROM {table} WHERE n = ?", [1]))
        barrier = asyncio.create_task(changer.run(Call(MYSQL.barrier(table)[0])))
        await asyncio.sleep(0.3)
        assert not barrier.done()
        await writer.commit()
        await barrier


# -- made already - - -


@pytest.mark.parametrize(
    "again",
    [
        "CREATE TABLE {table} (n BIGINT)",
        "ALTER TABLE {table} ADD COLUMN v BIGINT",
        "CREATE INDEX by_id ON {table} (id)",
        "INSERT INTO {table} (n, id) VALUES (1, 'a')",
    ],
)
async def test_what_may_be_there_already_is_no_error_only_where_it_is_said(connect, table, again) -> None:
    connection = await connect()
    sql = again.format(table=table)
    await connection.run(Call(f"INSERT INTO {table} (n, id) VALUES (?, ?)", [1, "a"]))
    assert await connection.run(Call(sql, may_exist=True)) == []
    with pytest.raises(errors.MySQLError):
        await connection.run(Call(sql))
    assert connection.is_usable


async def test_another_error_is_one_also_where_something_may_be_there(connect) -> None:
    connection = await connect()
    with pytest.raises(errors.MySQLError, match="doesn't exist"):
        await connection.run(Call("CREATE INDEX i ON us_test_no_such_table (n)", may_exist=True))


# -- waited for in vain ---


async def test_a_statement_that_takes_too_long_is_a_time_out(connect) -> None:
    connection = await connect(statement_timeout=0.3)
    began = time.monotonic()
    error = await failure_of(connection, "SELECT SLEEP(5), ?", 1)
    assert isinstance(error, StorageTimeoutError)
    assert error.retryable
    assert time.monotonic() - began < 3
    assert connection.is_usable


async def test_a_lock_that_is_waited_for_in_vain_is_a_conflict(connect, table) -> None:
    holder, waiter = await connect(), await connect()
    await holder.run(Call(f"INSERT INTO {table} (id) VALUES (?)", ["a"]))
    await holder.begin("transaction", 10)
    await holder.run(Call(f"SELECT n FROM {table} WHERE id = ? FOR UPDATE", ["a"]))
    await waiter.run(Call("SET SESSION innodb_lock_wait_timeout = 1"))
    await waiter.begin("write", 10)
    error = await failure_of(waiter, f"SELECT n FROM {table} WHERE id = ? FOR UPDATE", "a")
    assert isinstance(error, StorageConflictError)
    assert error.retryable
    await waiter.rollback()
    assert waiter.is_usable
    await holder.rollback()


async def test_two_blocks_that_lock_each_other_out_conflict_and_one_is_done(home) -> None:
    async with open_storage(**home) as storage:
        await storage.batch_save([note("left"), note("right")])
        both_hold_one = asyncio.Barrier(2)

        async def change(first: str, second: str) -> None:
            async with storage.transaction() as tx:
                await tx.update(first, {"data": {"by": first}}, type="note")
                await both_hold_one.wait()
                await tx.update(second, {"data": {"by": first}}, type="note")

        outcomes = await asyncio.gather(change("left", "right"), change("right", "left"), return_exceptions=True)
        failed = [outcome for outcome in outcomes if outcome is not None]
        assert len(failed) == 1, outcomes
        assert isinstance(failed[0], StorageConflictError)
        assert failed[0].retryable
        records = [await storage.load(id, type="note") for id in ("left", "right")]
        assert len({record["data"]["by"] for record in records if record}) == 1


async def test_a_silent_transaction_is_ended_by_the_server(connect, table, monkeypatch) -> None:
    """Else a program that hangs would keep its locks from everybody."""
    monkeypatch.setattr(mysql_connection, "_LATER_THAN_THE_CLIENT", 0)
    silent, other = await connect(), await connect()
    await silent.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", ["a", 1]))
    if not silent.session.ends_idle_transactions:
        pytest.skip("MySQL has no time limit for idle transactions")
    await silent.begin("transaction", 0.9)
    await silent.run(Call(f"UPDATE {table} SET v = ? WHERE id = ?", [2, "a"]))
    async with asyncio.timeout(10):
        await other.run(Call(f"UPDATE {table} SET v = v + 10 WHERE id = ?", ["a"]))
    assert await other.run(Call(f"SELECT v FROM {table}")) == [[11]]
    assert not silent.is_open


async def test_each_transaction_has_its_own_time_to_be_silent(connect) -> None:
    connection = await connect()
    if not connection.session.ends_idle_transactions:
        pytest.skip("MySQL has no time limit for idle transactions")
    for timeout, least in ((100, 100), (3, 3), (3, 3), (40, 40)):
        await connection.begin("transaction", timeout)
        ((allowed,),) = await connection.run(Call("SELECT @@idle_transaction_timeout"))
        assert least < allowed <= least + 10
        await connection.rollback()
