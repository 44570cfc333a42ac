"""Appends on PostgreSQL: one statement each when alone, one for many when they come together, each with its own end."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.namespaces import without_query
from tests.unified_storage.postgresql.engines import Witness
from unified_storage import open_storage
from unified_storage.backends.sql import appends
from unified_storage.backends.sql.postgresql_connection import PostgreSQLConnection
from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageConnectionError,
    StorageNotFoundError,
    StorageTimeoutError,
)

pytestmark = pytest.mark.servers
POOL = 4


@pytest.fixture
async def storage(url: str, namespace: str, witness: Witness) -> AsyncIterator[Any]:
    """A store with the notes n0 to n63, on connections that the witness knows."""
    opened = open_storage(url, namespace=namespace, pool_size=POOL, application_name=witness.name)
    async with opened as storage:
        await storage.batch_save([{"id": f"n{n}", "type": "note", "data": {}} for n in range(64)])
        yield storage


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the connections send from here on: the beginning of each statement."""
    told: list[str] = []
    for name in ("run", "begin", "commit"):
        _note_calls(monkeypatch, name, told)
    return told


def _note_calls(monkeypatch: pytest.MonkeyPatch, name: str, told: list[str]) -> None:
    inner = getattr(PostgreSQLConnection, name)

    async def noting(self: PostgreSQLConnection, *given: Any) -> Any:
        told.append(given[0].sql.split()[1] if name == "run" else name)
        return await inner(self, *given)

    monkeypatch.setattr(PostgreSQLConnection, name, noting)


def log(n: int) -> str:
    return f"log@note/n{n}"


async def stored(storage: Any, n: int) -> list[Any]:
    """The bodies of a log, whose numbers are seen to have no gap."""
    entries = await storage.read(log(n))
    assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
    return [entry["body"] for entry in entries]


# -- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [{"body": 1}, {"body": 1, "key": "k"}])
async def test_an_append_alone_is_one_round_trip_from_the_first_entry_on(storage: Any, sent: list[str], entry) -> None:
    assert await storage.append(log(0), [entry]) == [1]
    assert await storage.append(log(0), [{"body": 2, "key": "other"}]) == [2]
    assert sent == ["owner", "owner"]


async def test_several_entries_are_one_round_trip_too(storage: Any, sent: list[str]) -> None:
    assert await storage.append(log(0), [{"body": n, "key": f"k{n}"} for n in range(5)]) == [1, 2, 3, 4, 5]
    assert sent == ["share"]
    assert await stored(storage, 0) == [0, 1, 2, 3, 4]


async def test_many_appends_to_their_own_logs_share_a_few_statements(storage: Any, sent: list[str]) -> None:
    numbers = await asyncio.gather(*(storage.append(log(n), [{"body": n}]) for n in range(64)))
    assert numbers == [[1]] * 64
    assert len(sent) <= 4
    assert [await stored(storage, n) for n in range(64)] == [[n] for n in range(64)]
    assert {record["version"] for record in await storage.list({"type": "note"})} == {2}


async def test_tasks_that_append_again_and_again_to_one_log_share_statements(storage: Any, sent: list[str]) -> None:
    async def add(task: int) -> None:
        for number in range(20):
            await storage.append(log(0), [{"body": [task, number]}])

    before = await storage.load("n0")
    await asyncio.gather(*(add(task) for task in range(16)))
    assert len(sent) < 20 * 3
    bodies = await stored(storage, 0)
    assert sorted(map(tuple, bodies)) == [*itertools.product(range(16), range(20))]
    for task in range(16):
        assert [number for writer, number in bodies if writer == task] == [*range(20)]
    record = await storage.load("n0")
    assert record["version"] == before["version"] + 320
    assert record["updated_at"] > before["updated_at"]


async def test_no_statement_carries_too_much(storage: Any, sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "_MOST_BYTES", 20_000)
    await asyncio.gather(*(storage.append(log(n), [{"body": "x" * 9_000}]) for n in range(20)))
    assert 10 <= len(sent) <= 20
    sent.clear()
    monkeypatch.setattr(appends, "_MOST_ENTRIES", 10)
    await asyncio.gather(*(storage.append(log(n), [{"body": 1}, {"body": 2}]) for n in range(20)))
    assert 4 <= len(sent) <= 20


async def test_the_statements_find_records_by_their_id_also_where_they_were_planned_on_empty_tables(
    url: str, namespace: str
) -> None:
    async with open_storage(url, namespace=namespace) as storage:
        statements: Any = storage._engine._driver.append_statements(storage._tables.prefix)  # type: ignore[attr-defined]
    connection = await asyncpg.connect(without_query(url), server_settings={"plan_cache_mode": "force_generic_plan"})
    try:
        for name in ("_alone", "_together"):
            arguments = ", ".join(["NULL"] * (7 if name == "_alone" else 10))
            await connection.execute(f"PREPARE p{name} AS {getattr(statements, name)}")
            rows = await connection.fetch(f"EXPLAIN EXECUTE p{name}({arguments})")
            plan = [row[0] for row in rows if " on unified_" in row[0]]
            assert not any("Seq Scan" in line for line in plan), plan
            scans = [line for line in plan if "Scan" in line and "records" in line]
            assert scans
            assert all("by_id" in line or "records_pkey" in line for line in scans), plan
    finally:
        await connection.close()


# -- each its own end --------------------------------------------------------------------------------------------


async def test_what_is_unusual_among_others_ends_as_it_does_alone(storage: Any) -> None:
    await storage.append(log(1), [{"body": "first", "key": "k"}])
    await storage.save({"id": "gone", "type": "note", "data": {}, "expires_at": storage.clock()})
    outcomes = await asyncio.gather(
        storage.append(log(0), [{"body": 0}]),
        storage.append("log@note/nobody", [{"body": 0}]),
        storage.append(log(1), [{"body": "again", "key": "k"}]),
        storage.append("log@note/gone", [{"body": 0}]),
        storage.append(log(1), [{"body": "again", "key": "k"}], on_duplicate="skip"),
        storage.append(log(2), [{"body": 1, "key": "twice"}, {"body": 2, "key": "twice"}]),
        storage.append(log(1), [{"body": "second", "key": "other"}]),
        storage.append(log(3), [{"body": 1}, {"body": 2}], keep_last=1),
        storage.append(log(4), [{"body": 4}]),
        storage.append(log(4), [{"body": "same key"}, {"body": 5, "key": "k"}]),
        storage.append(log(4), [{"body": "same key", "key": "k"}]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes[:4]] == [
        list,
        StorageNotFoundError,
        StorageAlreadyExistsError,
        StorageNotFoundError,
    ]
    assert outcomes[4] == [1]
    assert isinstance(outcomes[5], StorageAlreadyExistsError)
    assert outcomes[6] == [2]
    assert await storage.log_info(log(3)) == {"first_seq": 2, "last_seq": 2, "count": 1}
    assert [type(outcome) for outcome in outcomes[9:]] in (
        [list, StorageAlreadyExistsError],
        [StorageAlreadyExistsError, list],
    )
    assert await stored(storage, 1) == ["first", "second"]


async def test_a_key_that_is_added_while_an_append_waits_is_found(storage: Any) -> None:
    await storage.append(log(0), [{"body": "old"}])
    async with storage.transaction() as tx:
        await tx.append(log(0), [{"body": "block", "key": "k"}])
        late = [asyncio.create_task(storage.append(log(0), [{"body": n, "key": "k"}])) for n in range(3)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in late)
    outcomes = await asyncio.gather(*late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageAlreadyExistsError] * 3
    assert await stored(storage, 0) == ["old", "block"]


async def test_an_owner_made_anew_while_an_append_waits_gets_it(storage: Any) -> None:
    await storage.append(log(0), [{"body": "of the first"}])
    async with storage.transaction() as tx:
        await tx.delete("n0", type="note")
        await tx.save({"id": "n0", "type": "note", "data": {}})
        late = asyncio.create_task(storage.append(log(0), [{"body": "of the second"}]))
        await asyncio.sleep(0.2)
        assert not late.done()
    assert await late == [1]
    assert await stored(storage, 0) == ["of the second"]


# -- locked owners -----------------------------------------------------------------------------------------------


async def test_a_record_that_somebody_holds_keeps_up_only_its_own_appends(storage: Any) -> None:
    async with storage.transaction() as tx:
        await tx.append(log(0), [{"body": "block"}])
        waiting = [asyncio.create_task(storage.append(log(0), [{"body": n}])) for n in range(20)]
        async with asyncio.timeout(10):
            for _ in range(3):
                await asyncio.gather(*(storage.append(log(n), [{"body": n}]) for n in range(1, 40)))
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    bodies = await stored(storage, 0)
    assert bodies[0] == "block"
    assert sorted(bodies[1:]) == [*range(20)]


async def test_appends_to_a_held_record_give_up_in_time(url: str, namespace: str, storage: Any) -> None:
    hasty = open_storage(url, namespace=namespace, statement_timeout=0.5, pool_size=POOL)
    async with hasty, storage.transaction() as tx:
        await tx.update("n0", {"data": {"by": "block"}}, type="note")
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(
                *(hasty.append(log(0), [{"body": n}]) for n in range(8)), return_exceptions=True
            )
        assert [type(outcome) for outcome in outcomes] == [StorageTimeoutError] * 8
    assert await storage.read(log(0)) == []


async def test_blocks_beside_appends_lock_nobody_out(storage: Any) -> None:
    """Blocks take two records in either order, one of which loses at times; single appends never hear of it."""
    over = asyncio.Event()

    async def blocks(first: int, second: int) -> int:
        done = 0
        while not over.is_set():

            async def both(tx: Any) -> None:
                await tx.append(log(first), [{"body": "block"}])
                await tx.append(log(second), [{"body": "block"}])

            await storage.atomically(both, attempts=50)
            done += 1
            await asyncio.sleep(0.03)
        return done

    async def singles(task: int) -> None:
        for number in range(5):
            await storage.append(log((task + number) % 3), [{"body": "single"}])

    beside = [asyncio.create_task(blocks(0, 1)), asyncio.create_task(blocks(1, 0))]
    async with asyncio.timeout(60):
        await asyncio.gather(*(singles(task) for task in range(12)))
        over.set()
        rounds = sum(await asyncio.gather(*beside))
    bodies = [body for n in range(3) for body in await stored(storage, n)]
    assert bodies.count("single") == 12 * 5
    assert bodies.count("block") == 2 * rounds
    assert rounds > 0


# -- cancelled ---------------------------------------------------------------------------------------------------


async def test_cancelled_appends_are_whole_or_not_there_and_disturb_nobody(storage: Any) -> None:
    told: dict[int, Any] = {}
    for start in range(0, 300, 30):
        tasks = {
            n: asyncio.create_task(storage.append(log(n % 3), [{"body": n}, {"body": n}]))
            for n in range(start, start + 30)
        }
        await asyncio.sleep(0.0004 * (start % 90))
        for n in range(start, start + 30, 4):
            tasks[n].cancel()
        told.update(zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True))
    bodies = [body for n in range(3) for body in await stored(storage, n)]
    acknowledged = [n for n, outcome in told.items() if isinstance(outcome, list)]
    assert all(isinstance(outcome, list | asyncio.CancelledError) for outcome in told.values())
    assert {n for n in told if n % 30 % 4} <= {*acknowledged}, "one that nobody cancelled was not done"
    assert all(bodies.count(n) == 2 for n in acknowledged)
    assert all(bodies.count(n) in (0, 2) for n in told)
    async with asyncio.timeout(5):
        assert await storage.append(log(5), [{"body": 1}]) == [1]


async def test_a_cancelled_append_that_waits_for_a_lock_ends_at_once_and_the_next_goes_on(storage: Any) -> None:
    async with storage.transaction() as tx:
        await tx.append(log(0), [{"body": "block"}])
        waiting = [asyncio.create_task(storage.append(log(0), [{"body": n}])) for n in range(4)]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(2):
            for task in waiting[:3]:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert await waiting[3] == [2]
    assert await stored(storage, 0) == ["block", 3]


def test_a_loop_that_ends_in_the_middle_leaves_nothing_pending(url: str, namespace: str) -> None:
    storage = open_storage(url, namespace=namespace)

    async def begun() -> None:
        await storage.save({"id": "n0", "type": "note", "data": {}})
        for n in range(30):
            asyncio.get_running_loop().create_task(storage.append(log(0), [{"body": n}]))
        await asyncio.sleep(0.001)

    async def after() -> list[Any]:
        await storage.append(log(0), [{"body": "after"}])
        found = await stored(storage, 0)
        await storage.close()
        return found

    asyncio.run(begun())  # cancels what is left, and would say what it had to leave pending
    assert asyncio.run(after())[-1] == "after"


# -- lost connections --------------------------------------------------------------------------------------------


async def test_nobody_notices_that_idle_connections_were_ended(storage: Any, witness: Witness) -> None:
    for number in range(3):
        await asyncio.gather(*(storage.append(log(n), [{"body": number}]) for n in range(8)))
        await witness.terminate(await witness.pids())
        assert await storage.append(log(0), [{"body": "after"}])


async def test_a_connection_lost_under_appends_leaves_an_unknown_outcome_and_none_twice(
    storage: Any, witness: Witness
) -> None:
    """They wait for a lock on the whole table when their connections are ended."""
    gate = await asyncpg.connect(**_address(witness))
    try:
        await gate.execute(f"BEGIN; LOCK TABLE {storage._tables.entries.name} IN ACCESS EXCLUSIVE MODE")
        tasks = [asyncio.create_task(storage.append(log(n), [{"body": n}])) for n in range(10)]
        await witness.sees_state("active")
        await asyncio.sleep(0.1)
        await witness.terminate(await witness.pids())
        await gate.execute("ROLLBACK")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await gate.close()
    unknown = [outcome for outcome in outcomes if isinstance(outcome, StorageConnectionError)]
    assert unknown
    assert all(error.details["outcome"] == "unknown" and not error.retryable for error in unknown)
    assert len({id(error) for error in unknown}) == len(unknown), "each raises an error of its own"
    for n, outcome in enumerate(outcomes):
        assert await stored(storage, n) == ([n] if isinstance(outcome, list) else [])


def _address(witness: Witness) -> dict[str, Any]:
    host, port = witness.connection._addr
    return {
        "host": host,
        "port": port,
        "user": witness.connection._params.user,
        "database": witness.connection._params.database,
    }
