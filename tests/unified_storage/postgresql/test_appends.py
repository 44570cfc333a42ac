"""Appends on PostgreSQL: one statement each when alone, one for many when they come together, each with its own end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.namespaces import without_query
from tests.unified_storage.postgresql.engines import Witness
from tests.unified_storage.postgresql.statements import noted
from unified_storage import open_storage
from unified_storage.backends.sql import appends
from unified_storage.errors import StorageConflictError, StorageConnectionError

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
def sent(storage: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the connections send from here on: a word of each statement."""
    return noted(monkeypatch)


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


async def test_an_append_that_expects_a_version_is_one_round_trip_too(storage: Any, sent: list[str]) -> None:
    for version in range(1, 6):
        assert await storage.append(log(0), [{"body": version, "key": f"k{version}"}], expected_version=version)
    assert sent == ["owner"] * 5
    sent.clear()
    with pytest.raises(StorageConflictError) as caught:
        await storage.append(log(0), [{"body": 0}], expected_version=5)
    assert (caught.value.expected, caught.value.found) == (5, 6)
    assert await storage.append(log(0), [{"body": 0, "key": "k2"}], expected_version=2, on_duplicate="skip") == [2]
    assert await stored(storage, 0) == [1, 2, 3, 4, 5]


async def test_of_many_that_expect_one_version_one_is_taken(storage: Any) -> None:
    for version in range(1, 6):
        appends = (storage.append(log(0), [{"body": n}], expected_version=version) for n in range(16))
        told = await asyncio.gather(*appends, return_exceptions=True)
        assert sorted(type(each).__name__ for each in told) == ["StorageConflictError"] * 15 + ["list"]
    assert len(await stored(storage, 0)) == 5


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

    await asyncio.gather(*(add(task) for task in range(16)))
    assert len(sent) < 20 * 3


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
        statements: Any = storage._engine._driver.appender(storage._tables.prefix)  # type: ignore[attr-defined]
    connection = await asyncpg.connect(without_query(url), server_settings={"plan_cache_mode": "force_generic_plan"})
    try:
        for name in ("_alone", "_together"):
            arguments = ", ".join(["NULL"] * (8 if name == "_alone" else 10))
            await connection.execute(f"PREPARE p{name} AS {getattr(statements, name)}")
            rows = await connection.fetch(f"EXPLAIN EXECUTE p{name}({arguments})")
            plan = [row[0] for row in rows if " on unified_" in row[0]]
            assert not any("Seq Scan" in line for line in plan), plan
            scans = [line for line in plan if "Scan" in line and "records" in line]
            assert scans
            assert all("by_id" in line or "records_pkey" in line for line in scans), plan
    finally:
        await connection.close()


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
