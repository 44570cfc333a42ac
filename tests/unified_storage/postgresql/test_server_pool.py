"""The pool of a server's connections: bounded, fair, and nothing leaks whatever is cancelled, forked or closed."""

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest

from tests.unified_storage.postgresql.engines import Engines, Witness, asking, calls, cancelled_at
from unified_storage.backends.sql import server_pool
from unified_storage.backends.sql.server_engine import ServerEngine
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageClosedError, StorageError, StorageTimeoutError, StorageTransactionError

pytestmark = pytest.mark.servers
pid = asking("SELECT pg_backend_pid()", is_all=True)
sleep = asking("SELECT pg_sleep(0.2)", is_all=True)
nothing = asking("SELECT 1")


async def test_there_are_never_more_connections_than_asked_for(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=3)
    reading = [asyncio.create_task(engine.read(sleep, 10)) for _ in range(12)]
    most = 0
    while not all(task.done() for task in reading):
        most = max(most, await witness.count())
    await asyncio.gather(*reading)
    assert most == 3


async def test_one_after_the_other_needs_one_connection(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=3)
    used = {await engine.read(pid, 10) for _ in range(20)}
    assert len(used) == 1
    assert await witness.pids() == used


async def test_when_all_are_busy_the_error_says_so(engines: Engines) -> None:
    engine = engines(pool_size=2)
    held = [await engine.begin(nothing, 30) for _ in range(2)]
    with pytest.raises(StorageTimeoutError, match=r"all 2 connections have been busy for 0\.1 s") as caught:
        await engine.read(pid, 0.1)
    assert caught.value.retryable
    for transaction in held:
        await transaction.rollback()
    assert await engine.read(pid, 10)


async def test_who_waits_longest_is_next(engines: Engines) -> None:
    engine = engines(pool_size=1)
    held = await engine.begin(nothing, 30)
    order: list[int] = []

    async def wait(number: int) -> None:
        await engine.read(pid, 10)
        order.append(number)

    waiting = []
    for number in range(10):
        waiting.append(asyncio.create_task(wait(number)))
        await asyncio.sleep(0)
    waiting[3].cancel()
    await held.rollback()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_a_broken_connection_frees_its_slot_for_those_who_wait(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    held = await engine.begin(nothing, 30)
    first = await witness.pids()
    waiting = [asyncio.create_task(engine.read(pid, 10)) for _ in range(3)]
    await asyncio.sleep(0)
    await witness.terminate(first)
    with pytest.raises(StorageError):
        await held.run(nothing)
    found = set(await asyncio.gather(*waiting))
    assert len(found) == 1
    assert not found & first


async def _is_whole(engine: ServerEngine, witness: Witness, size: int) -> None:
    """As many transactions as the pool has connections can be open at once, and there are no more than these."""
    async with asyncio.timeout(10):
        held = [await engine.begin(nothing, 30) for _ in range(size)]
        for transaction in held:
            await transaction.rollback()
    await witness.sees(size)


@pytest.mark.parametrize("first_of_all", [True, False])
async def test_a_write_may_be_cancelled_wherever_it_waits(
    engines: Engines, witness: Witness, first_of_all: bool
) -> None:
    """At every point: connecting, beginning, running, committing. Both marks are there, or none."""
    for point in range(200):
        engine = engines(pool_size=2)
        if not first_of_all:
            await engine.read(pid, 10)
        was_cancelled = await cancelled_at(engine.write(engines.adding(f"{point}a", f"{point}b"), 10), point)
        there = (await engines.marks()) & {f"{point}a", f"{point}b"}
        assert len(there) in (0, 2)
        assert "idle in transaction" not in await witness.states()
        await _is_whole(engine, witness, 2)
        await engine.close()
        await witness.sees(0)
        if not was_cancelled:
            break
    assert len(there) == 2
    assert point >= (6 if first_of_all else 4)


async def test_a_transaction_may_be_cancelled_wherever_it_waits(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=2)

    async def whole(point: int) -> None:
        transaction = await engine.begin(nothing, 30)
        try:
            await transaction.run(engines.adding(f"{point}a"))
            await transaction.run(engines.adding(f"{point}b"))
            await transaction.commit()
        finally:
            await transaction.rollback()

    for point in range(200):
        was_cancelled = await cancelled_at(whole(point), point)
        there = (await engines.marks()) & {f"{point}a", f"{point}b"}
        assert len(there) in (0, 2)
        await _is_whole(engine, witness, 2)
        if not was_cancelled:
            break
    assert len(there) == 2
    assert point >= 4


async def test_a_read_may_be_cancelled_wherever_it_waits(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=2)
    for is_all in (True, False):
        for point in range(200):
            steps = asking("SELECT count(*) FROM pg_sleep(0.02)", is_all=is_all)
            was_cancelled = await cancelled_at(engine.read(steps, 10), point)
            await _is_whole(engine, witness, 2)
            assert await engine.read(asking("SELECT 17", is_all=True), 10) == 17
            if not was_cancelled:
                break
        assert point >= 1


@pytest.mark.parametrize("is_dropped", [True, False])
async def test_who_is_cancelled_in_the_queue_passes_on_what_it_was_given(
    engines: Engines, witness: Witness, is_dropped: bool
) -> None:
    """In the very moment when it is handed a connection, or the slot of one that was dropped."""
    engine = engines(pool_size=1)
    lease = await engine._pool.lend(engine._connected, 10)
    waiting = [asyncio.create_task(engine._pool.lend(engine._connected, 10)) for _ in range(2)]
    await asyncio.sleep(0)
    if is_dropped:
        lease.drop()
    else:
        lease.give_back()
    waiting[0].cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        (await waiting[1]).give_back()
    await _is_whole(engine, witness, 1)


async def test_a_connection_known_to_be_dead_is_given_to_nobody(engines: Engines, witness: Witness) -> None:
    """Neither to the next that comes, nor to one that waits for it."""
    engine = engines(pool_size=1)
    await engine.read(pid, 10)
    await witness.terminate(await witness.pids())
    await asyncio.sleep(0.05)
    lease = await engine._pool.lend(engine._connected, 10)
    assert lease.connection.is_usable
    waiting = asyncio.create_task(engine._pool.lend(engine._connected, 10))
    await asyncio.sleep(0)
    lease.connection.terminate()
    lease.give_back()
    other = await waiting
    assert other.connection.is_usable
    other.give_back()


async def test_a_connection_in_the_middle_of_something_is_given_to_nobody(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    lease = await engine._pool.lend(engine._connected, 10)
    await lease.connection.begin("write", 30)
    assert not lease.connection.is_usable
    lease.give_back()
    await witness.sees(0)
    lease = await engine._pool.lend(engine._connected, 10)
    running = asyncio.create_task(lease.connection.run(Call("SELECT pg_sleep(60)")))
    await witness.sees_state("active")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not lease.connection.is_usable
    await lease.connection.rollback()
    assert lease.connection.is_usable
    lease.give_back()


async def test_a_cancelled_statement_stops_on_the_server(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    writing = asyncio.create_task(engine.write(asking("SELECT pg_sleep(60)"), 90))
    await witness.sees_state("active")
    begun = time.monotonic()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert time.monotonic() - begun < 4
    assert await witness.states() == ["idle"]


async def test_whoever_is_cancelled_twice_leaks_nothing_either(engines: Engines, witness: Witness) -> None:
    """The second time while what was begun is being undone."""
    engine = engines(pool_size=2)
    for pause in (0, 0, 0.001, 0.002, 0.005, 0.01):
        writing = asyncio.create_task(
            engine.write(lambda: calls(*engines.adding("x")(), Call("SELECT pg_sleep(60)")), 90)
        )
        await witness.sees_state("active")
        writing.cancel()
        await asyncio.sleep(pause)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await engine.write(engines.adding("x"), 5)  # nobody holds a lock on it
        await engine.write(lambda: calls(Call(f"DELETE FROM {engines.table}")), 5)
        await _is_whole(engine, witness, 2)


async def test_loops_in_several_threads_have_connections_of_their_own(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=2)
    mine = await engine.read(pid, 10)
    found: list[int] = []
    together = threading.Barrier(2)

    async def work() -> None:
        found.append(await engine.read(pid, 10))
        await asyncio.to_thread(together.wait)
        await asyncio.gather(*(engine.write(engines.adding(f"{threading.get_ident()}-{n}"), 10) for n in range(50)))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, work()) for _ in range(2)))
    assert len({mine, *found}) == 3
    assert len(await engines.marks()) == 100


async def test_connections_of_loops_that_are_gone_are_ended(engines: Engines, witness: Witness) -> None:
    """A program that calls asyncio.run again and again, with one storage."""
    engine = engines(pool_size=2)
    for _ in range(5):
        await asyncio.to_thread(asyncio.run, _read_twice(engine))
    await engine.read(pid, 10)
    await witness.sees(1)


async def _read_twice(engine: ServerEngine) -> None:
    await asyncio.gather(engine.read(sleep, 10), engine.read(sleep, 10))


async def test_close_ends_connections_of_loops_that_do_not_run(engines: Engines, witness: Witness) -> None:
    """Without waiting for them, and without a warning when they are collected."""
    engine = engines(pool_size=2)
    standing, closed = asyncio.new_event_loop(), asyncio.new_event_loop()
    await asyncio.to_thread(standing.run_until_complete, _read_twice(engine))
    await asyncio.to_thread(closed.run_until_complete, _read_twice(engine))
    closed.close()
    await engine.read(pid, 10)
    begun = time.monotonic()
    await engine.close()
    assert time.monotonic() - begun < 1
    await witness.sees(0)
    standing.close()
    gc.collect()


async def test_close_ends_connections_of_other_loops_on_those(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=2)
    ready, over = threading.Event(), threading.Event()

    async def live() -> None:
        await engine.read(pid, 10)
        ready.set()
        await asyncio.to_thread(over.wait)
        with pytest.raises(StorageClosedError):
            await engine.read(pid, 10)

    living = asyncio.create_task(asyncio.to_thread(asyncio.run, live()))
    await asyncio.to_thread(ready.wait)
    begun = time.monotonic()
    await engine.close()
    assert time.monotonic() - begun < 1
    await witness.sees(0)
    over.set()
    await living


async def test_close_gives_those_in_use_time_to_finish(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    slowly = Call("SELECT pg_sleep(0.5)"), Call(f"INSERT INTO {engines.table} VALUES ('x')")
    writing = asyncio.create_task(engine.write(lambda: calls(*slowly), 10))
    await witness.sees_state("active")
    waiting = asyncio.create_task(engine.read(pid, 10))
    await asyncio.sleep(0)
    await engine.close()
    await writing
    assert await engines.marks() == {"x"}
    with pytest.raises(StorageClosedError):
        await waiting
    with pytest.raises(StorageClosedError):
        await engine.read(pid, 10)
    await witness.sees(0)


async def test_close_does_not_wait_for_ever(
    engines: Engines, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_pool, "_TIME_TO_END", 0.5)
    engine = engines(pool_size=2)
    held = await engine.begin(nothing, 30)
    begun = time.monotonic()
    await engine.close()
    assert 0.4 < time.monotonic() - begun < 2
    await witness.sees(0)
    with pytest.raises(StorageError):
        await held.run(nothing)
    await held.rollback()


async def test_after_let_go_it_connects_again(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=2)
    first = await engine.read(pid, 10)
    await engine.let_go()
    await witness.sees(0)
    assert await engine.read(pid, 10) != first


async def test_a_transaction_that_nobody_ends_gives_its_connection_up(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    begun = await engine.begin(engines.adding("lost"), 30)
    del begun
    gc.collect()
    assert await engine.read(pid, 10)
    assert await engines.marks() == set()
    await witness.sees(1)


async def test_a_task_thrown_away_with_its_loop_leaves_no_lock(engines: Engines, witness: Witness) -> None:
    """The loop stands still in the middle of a write; then everything is collected."""
    engine = engines(pool_size=2)
    loop = asyncio.new_event_loop()

    def work() -> None:
        task = loop.create_task(engine.write(asking("SELECT pg_sleep(0.3)"), 10))
        loop.run_until_complete(asyncio.sleep(0.1))
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is the point
        loop.close()

    await asyncio.to_thread(work)
    gc.collect()
    await engine.read(pid, 10)
    await witness.sees(1)


async def test_a_transaction_is_over_once(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    transaction = await engine.begin(nothing, 30)
    await transaction.commit()
    await transaction.rollback()
    other = await engine.begin(nothing, 30)
    await transaction.rollback()
    with pytest.raises(StorageTransactionError):
        await transaction.run(nothing)
    with pytest.raises(StorageTransactionError):
        await transaction.commit()
    assert await other.run(nothing) == 1
    await other.commit()


async def test_connections_that_lay_idle_for_long_are_not_used(
    engines: Engines, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(pool_size=2)
    first = await engine.read(pid, 10)
    assert await engine.read(pid, 10) == first
    monkeypatch.setattr(server_pool, "_LONGEST_IDLE", 0.05)
    await asyncio.sleep(0.1)
    assert await engine.read(pid, 10) != first
    await witness.sees(1)


def test_a_child_leaves_its_parents_connections_alone(url: str) -> None:
    """Also at its own end, when the interpreter takes everything apart."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-m", "tests.unified_storage.postgresql.fork_program", url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "collected" not in done.stdout
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    *pids, code = told["parent"].split()
    assert pids[:2] == pids[2:]
    assert told["child"] not in pids
    assert code == "0"
