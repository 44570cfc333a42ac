"""PostgreSQL servers that restart, freeze, are full or change places: single verbs wait, and give up in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.engines import private_server
from tests.servers.postgresql import PostgreSQLPair
from tests.unified_storage.postgresql.engines import Engines, Witness, asking
from tests.unified_storage.postgresql.gate import Gate, fatal
from unified_storage import IUnifiedStorage, open_storage
from unified_storage.backends.sql import server_engine
from unified_storage.errors import (
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
    StorageTimeoutError,
)

pytestmark = pytest.mark.servers
pid = asking("SELECT pg_backend_pid()", is_all=True)
nothing = asking("SELECT 1")
STARTING = fatal("57P03", "the database system is starting up")


@pytest.fixture
async def gate(url: str) -> AsyncIterator[Gate]:
    async with Gate(url) as opened:
        yield opened


@pytest.fixture
async def engines(gate: Gate, engines: Engines) -> Engines:
    """Engines that connect through the gate."""
    engines.url = gate.url
    return engines


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for in good faith: shorter, so that the tests are."""
    monkeypatch.setattr(server_engine, "_GRACE", 0.3)
    monkeypatch.setattr(server_engine, "_TIME_TO_UNDO", 0.3)
    monkeypatch.setattr(server_engine, "_LONGEST_LOOK", 0.3)


class Took:
    """How long a block takes, in seconds."""

    seconds = 0.0

    def __enter__(self) -> "Took":
        self._begun = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._begun


# -- starting, full, away ----------------------------------------------------------------------------------------


async def test_a_server_that_starts_is_waited_for(gate: Gate, engines: Engines) -> None:
    gate.answers += [STARTING, fatal("57P01", "terminating"), fatal("57P02", "crash"), STARTING]
    assert await engines().read(pid, 10)
    assert gate.asked > 4


async def test_a_server_that_starts_for_too_long_says_why(gate: Gate, engines: Engines) -> None:
    gate.answers += [STARTING] * 100
    with Took() as took, pytest.raises(StorageConnectionError, match="starting up") as caught:
        await engines(connect_timeout=0.5).read(pid, 10)
    assert took.seconds < 1.5
    assert caught.value.retryable
    assert f"127.0.0.1:{gate.port}" in str(caught.value)


async def test_a_full_server_is_waited_for(gate: Gate, engines: Engines) -> None:
    gate.answers += [fatal("53300", "sorry, too many clients already")] * 3
    assert await engines().read(pid, 10)


async def test_a_server_that_was_never_there_is_not_waited_for(gate: Gate, engines: Engines) -> None:
    await gate.close()
    with Took() as took, pytest.raises(StorageConnectionError) as caught:
        await engines(connect_timeout=5).read(pid, 10)
    assert took.seconds < 1
    assert caught.value.retryable
    assert f"127.0.0.1:{gate.port}" in str(caught.value)


async def test_a_server_that_was_there_is_waited_for(gate: Gate, engines: Engines) -> None:
    engine = engines(connect_timeout=10)
    await asyncio.gather(*(engine.read(asking("SELECT pg_sleep(0.1)"), 10) for _ in range(3)))
    await gate.close()
    work = [asyncio.create_task(engine.write(engines.adding(f"{n}"), 10)) for n in range(9)]
    await asyncio.sleep(0.7)
    assert not any(task.done() for task in work)
    await gate.open()
    await asyncio.gather(*work)
    assert len(await engines.marks()) == 9


async def test_a_server_that_does_not_come_back_is_told_in_time(gate: Gate, engines: Engines) -> None:
    engine = engines(connect_timeout=0.7)
    await engine.read(pid, 10)
    await gate.close()
    with Took() as took, pytest.raises(StorageConnectionError) as caught:
        await engine.read(pid, 10)
    assert 0.3 < took.seconds < 2
    assert caught.value.retryable
    assert f"127.0.0.1:{gate.port}" in str(caught.value)
    with Took() as took, pytest.raises(StorageConnectionError):
        await engine.facts()
    assert took.seconds < 0.3
    await gate.open()
    assert await engine.read(pid, 10)


# -- silent ------------------------------------------------------------------------------------------------------


async def test_a_server_that_falls_silent_in_a_statement_costs_no_more_than_the_verbs_time(
    gate: Gate, engines: Engines, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engine, "_TIME_TO_UNDO", 5)  # nobody asks a silent server to undo anything
    engine = engines(pool_size=1)
    await engine.read(pid, 10)
    gate.freeze()
    with Took() as took, pytest.raises(StorageTimeoutError) as caught:
        await engine.write(engines.adding("x"), 0.5)
    assert 0.5 < took.seconds < 1.5
    assert caught.value.retryable
    gate.thaw()
    assert await engine.read(pid, 10)
    await witness.sees(1)
    assert await engines.marks() == set()


async def test_a_server_that_falls_silent_in_the_commit_leaves_the_outcome_unknown(
    gate: Gate, engines: Engines
) -> None:
    engine = engines(pool_size=1)
    await engine.read(pid, 10)

    def steps() -> Any:
        yield from engines.adding("x")()
        gate.freeze()

    with Took() as took, pytest.raises(StorageConnectionError) as caught:
        await engine.write(steps, 0.5)
    assert took.seconds < 2
    assert caught.value.details["outcome"] == "unknown"
    assert not caught.value.retryable
    gate.thaw()
    assert await engine.read(pid, 10)


async def test_a_cancellation_goes_on_also_where_the_commit_fails_after_it(gate: Gate, engines: Engines) -> None:
    engine = engines(pool_size=1)
    frozen = asyncio.Event()

    def steps() -> Any:
        yield from engines.adding("x")()
        gate.freeze()
        frozen.set()

    writing = asyncio.create_task(engine.write(steps, 0.5))
    await frozen.wait()
    await asyncio.sleep(0.1)
    writing.cancel()
    with Took() as took, pytest.raises(asyncio.CancelledError):
        await writing
    assert 0.2 < took.seconds < 2
    gate.thaw()


async def test_cancelling_does_not_wait_long_for_a_silent_server(
    gate: Gate, engines: Engines, witness: Witness
) -> None:
    engine = engines(pool_size=1)
    writing = asyncio.create_task(engine.write(asking("SELECT pg_sleep(60)"), 90))
    await witness.sees_state("active")
    gate.freeze()
    writing.cancel()
    with Took() as took, pytest.raises(asyncio.CancelledError):
        await writing
    assert took.seconds < 1.5
    gate.thaw()
    assert await engine.read(pid, 10)


async def test_a_transaction_on_a_silent_server_ends_in_time(gate: Gate, engines: Engines) -> None:
    engine = engines(pool_size=1)
    transaction = await engine.begin(nothing, 0.5)
    gate.freeze()
    with Took() as took:
        with pytest.raises(StorageTimeoutError):
            await transaction.run(nothing)
        await transaction.rollback()
    assert took.seconds < 2
    gate.thaw()
    assert await engine.read(pid, 10)


async def test_a_health_check_does_not_wait_for_a_silent_server(gate: Gate, engines: Engines) -> None:
    engine = engines(pool_size=1)
    assert (await engine.facts())["version"]
    gate.freeze()
    with Took() as took, pytest.raises(StorageError):
        await engine.facts()
    assert took.seconds < 1.5


async def test_the_health_of_a_storage_is_told_soon(gate: Gate, namespace: str) -> None:
    async with open_storage(gate.url, namespace=namespace) as storage:
        assert (await storage.health_check())["backend"] == "postgresql"
        await gate.close()
        with Took() as took, pytest.raises(StorageConnectionError):
            await storage.health_check()
        assert took.seconds < 0.5
        await gate.open()
        assert (await storage.health_check())["status"] == "ok"


async def test_a_silent_server_does_not_hold_up_close(gate: Gate, engines: Engines) -> None:
    engine = engines(pool_size=2)
    await asyncio.gather(engine.read(asking("SELECT pg_sleep(0.1)"), 10), engine.read(pid, 10))
    gate.freeze()
    with Took() as took:
        await engine.close()
    assert took.seconds < 6


async def test_connections_that_are_cut_off_are_replaced(gate: Gate, engines: Engines) -> None:
    engine = engines(pool_size=3)
    for _ in range(5):
        await asyncio.gather(*(engine.read(asking("SELECT pg_sleep(0.02)"), 10) for _ in range(6)))
        await gate.cut()


# -- restarts, failover, passwords -------------------------------------------------------------------------------


async def _write_and_read(storage: IUnifiedStorage, task: int, over: asyncio.Event, done: set[str]) -> None:
    """Append until it is over; note what was acknowledged, and let only an unknown outcome pass."""
    number = 0
    while not over.is_set():
        key = f"{task}-{number}"
        try:
            await storage.append("history/s", [{"body": key, "key": key}], on_duplicate="skip")
        except StorageConnectionError as error:
            if error.details.get("outcome") != "unknown":
                raise
            continue  # by its key the entry can be appended again
        done.add(key)
        number += 1
        assert (await storage.log_info("history/s"))["count"] > 0  # type: ignore[index]  # it is there


async def _went_on(storage: IUnifiedStorage, crash: Any) -> None:
    """What a crash in the middle of 6 writers' work leaves: everything acknowledged, once."""
    await storage.save({"id": "s", "type": "session", "data": {}})
    over, done = asyncio.Event(), set[str]()
    working = [asyncio.create_task(_write_and_read(storage, task, over, done)) for task in range(6)]
    await asyncio.sleep(0.5)
    before = len(done)
    await asyncio.to_thread(crash)
    async with asyncio.timeout(90):
        while len(done) < before + 30:
            await asyncio.sleep(0.01)
    over.set()
    await asyncio.gather(*working)
    entries = await storage.read("history/s")
    keys = [entry["key"] for entry in entries]
    assert len(keys) == len(set(keys))
    assert set(keys) >= done
    assert before > 0


@pytest.mark.timeout(300)
async def test_a_server_killed_and_started_again_is_not_noticed() -> None:
    with private_server("postgresql") as server:
        await asyncio.to_thread(server.start)

        def crash() -> None:
            server.kill()
            server.start()

        async with open_storage(server.url, pool_size=4, connect_timeout=30) as storage:
            for _ in range(2):
                await _went_on(storage, crash)


@pytest.mark.timeout(300)
async def test_after_a_failover_the_new_primary_is_used() -> None:
    with private_server("postgresql-ha") as server:
        assert isinstance(server, PostgreSQLPair)
        await asyncio.to_thread(server.start)

        def fail_over() -> None:
            server.primary.kill()
            server.promote()

        async with open_storage(server.url, pool_size=4, connect_timeout=30) as storage:
            await _went_on(storage, fail_over)


@pytest.mark.timeout(300)
async def test_a_wrong_password_is_refused_and_never_shown() -> None:
    with private_server("postgresql") as server:
        await asyncio.to_thread(server.start)
        await _demand_passwords(server.url, server.nodes[0].folder / "data" / "pg_hba.conf", "right-s3cret")
        async with open_storage(server.url, password="right-s3cret") as storage:
            assert await storage.count() == 0
        with Took() as took, pytest.raises(StoragePermissionError) as caught:
            async with open_storage(server.url.replace("://postgres@", "://postgres:wrong-s3cret@")):
                pass
    assert took.seconds < 3
    assert "s3cret" not in f"{caught.value} {caught.value!r} {caught.value.to_dict()}"
    assert caught.value.details["sqlstate"] == "28P01"


async def _demand_passwords(url: str, rules: Path, password: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"ALTER ROLE postgres PASSWORD '{password}'")
        rules.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.3)  # the server reads its rules when it gets to it
    finally:
        await connection.close()
