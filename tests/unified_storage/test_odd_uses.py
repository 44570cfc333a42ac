"""What nobody should do, and what must not happen when somebody does."""

import asyncio
import math
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest

from unified_storage import (
    StorageCapacityError,
    StorageClosedError,
    StorageConflictError,
    StorageError,
    StorageTransactionError,
    StorageValidationError,
    open_storage,
)
from unified_storage.layers import Cache
from unified_storage.opening import SESSION_PATHS

NOTE = {"id": "a", "type": "note", "data": {"x": 1}}
SESSION = {"id": "s", "type": "session", "data": {}, "metadata": {}}


@pytest.fixture(params=["memory", "sqlite", "sqlite in memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/odd.db", "sqlite in memory": "sqlite:///:memory:"}
    return urls[request.param]


@pytest.fixture
async def storage(url: str):
    async with open_storage(url) as opened:
        yield opened


@pytest.mark.parametrize("timeout", [None, "5", 0, -1, math.inf, math.nan, 1e10, True], ids=ascii)
async def test_a_timeout_that_is_none_is_refused_and_harms_nobody(storage, timeout) -> None:
    with pytest.raises(StorageValidationError):
        async with storage.transaction(timeout=timeout):
            pass
    async with asyncio.timeout(5):
        await storage.save(NOTE)
        async with storage.transaction(timeout=1) as tx:
            await tx.update("a", {})


async def test_what_becomes_of_handed_in_updates_changes_nothing(storage) -> None:
    await storage.save(NOTE)
    mine: dict = {"data": {"x": 2, "deep": {"list": [1]}}}
    updating = asyncio.ensure_future(storage.update("a", mine))
    await asyncio.sleep(0)
    mine["data"]["x"] = 999
    mine["data"]["deep"]["list"].append(object())
    await updating
    operations: list[dict] = [{"type": "save", "data": {"id": "b", "type": "note", "data": {"y": 1}}}]
    running = asyncio.ensure_future(storage.transaction(operations))
    await asyncio.sleep(0)
    operations[0]["data"]["data"]["y"] = 999
    await running
    assert [record["data"] for record in await storage.list()] == [{"x": 2, "deep": {"list": [1]}}, {"y": 1}]


async def test_the_keys_of_a_record_are_those_of_what_was_saved(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/keys.db") as storage:
        mine: dict = {**SESSION, "metadata": {"user_id": "ann"}}
        saving = asyncio.ensure_future(storage.save(mine))
        await asyncio.sleep(0)
        mine["metadata"]["user_id"] = "bob"
        await saving
        assert await storage.count({"type": "session", "metadata.user_id": "ann"}) == 1
        assert await storage.count({"type": "session", "metadata.user_id": "bob"}) == 0


def endless() -> dict:
    value: dict = {}
    value["again"] = value
    return value


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"d": value}
    return value


@pytest.mark.parametrize("value", [endless(), deep(2000), deep(300)], ids=["endless", "2000", "300"])
async def test_updates_without_end_are_refused_in_words(storage, value) -> None:
    await storage.save(NOTE)
    with pytest.raises(StorageValidationError):
        await storage.update("a", {"data": value})
    record = await storage.load("a")
    assert record is not None
    assert record["data"] == {"x": 1}


@pytest.mark.parametrize(
    "values",
    [
        [UUID(int=1), UUID(int=2)],
        [date(2024, 1, 1), date(2024, 1, 2)],
        ["x" * 600 + "a", "x" * 600 + "b"],
        [b"a", b"b"],
    ],
    ids=["uuid", "date", "long text", "bytes"],
)
async def test_pages_tell_values_apart_that_an_index_does_not(storage, values) -> None:
    path = SESSION_PATHS[-2]
    for number, value in enumerate(values):
        await storage.save(SESSION | {"id": f"s{number}", "metadata": {path.partition(".")[2]: value}})
    page = await storage.page({"type": "session", path: {"$in": values}}, order_by="id")
    assert [record["id"] for record in page.items] == ["s0", "s1"]


async def test_a_filter_of_any_size_has_its_answer(storage) -> None:
    await storage.save(NOTE)
    many = [{"data.x": number} for number in range(500)]
    assert await storage.count({"$or": [{"$or": many}, *({"data.y": n} for n in range(499))]}) == 1
    lists = [{"id": {"$in": [f"{n}-{m}" for m in range(4000)] + ["a"]}} for n in range(20)]
    assert await storage.count({"$and": lists}) == 1


@pytest.mark.parametrize("limit", [2**63 - 1, 2**62])
async def test_the_highest_limits_are_limits(storage, limit) -> None:
    await storage.save(NOTE)
    assert len(await storage.list(limit=limit)) == 1
    assert len((await storage.page(limit=limit, skip=0)).items) == 1
    with pytest.raises(StorageValidationError):
        await storage.list(limit=2**63)


async def test_odd_prefixes_and_spans_are_answered(storage) -> None:
    await storage.save(NOTE)
    assert [ids async for ids in storage.logs("\ud800")] == []
    assert await storage.cleanup_old_data(10**7, type="note") == 0
    with pytest.raises(StorageValidationError):
        await storage.read("a%ff/x")


async def test_after_the_last_moment_a_record_stays_readable(storage) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    await storage.restore([SESSION | {"created_at": last, "updated_at": last}])
    await storage.append("history/s", [{"body": 1}])
    record = await storage.load("s")
    assert record is not None
    assert record["updated_at"] == last
    assert record["version"] == 2


async def test_restoring_a_log_alone_is_a_change_of_its_owner(storage) -> None:
    await storage.save(SESSION)
    await storage.restore([], [{"log_id": "history/s", "last_seq": 3, "entries": []}])
    record = await storage.load("s")
    assert record is not None
    assert record["version"] == 2
    with pytest.raises(StorageConflictError):
        await storage.update("s", {}, expected_version=1)


async def test_a_write_that_began_before_the_close_leaves_nothing_open(tmp_path: Path) -> None:
    before = threading.active_count()
    storage = open_storage(f"sqlite:///{tmp_path}/closing.db")
    outcomes = await asyncio.gather(storage.save(NOTE), storage.close(), return_exceptions=True)
    assert outcomes[0] == "a" or isinstance(outcomes[0], StorageClosedError)
    await storage.close()
    assert threading.active_count() == before


async def test_closing_inside_ones_own_transaction_is_refused_at_once(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/own.db") as storage:
        async with asyncio.timeout(3), storage.transaction() as tx:
            await tx.save(NOTE)
            with pytest.raises(StorageTransactionError):
                await storage.close()
        assert await storage.exists("a")


async def test_closing_ends_a_transaction_that_somebody_holds_too_long(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("unified_storage.backends.sql.sqlite._TIME_TO_END", 0.2)
    storage = open_storage(f"sqlite:///{tmp_path}/held.db")
    begun = asyncio.Event()

    async def hold() -> None:
        async with storage.transaction(timeout=60) as tx:
            await tx.save(NOTE)
            begun.set()
            await asyncio.sleep(2)

    holding = asyncio.create_task(hold())
    await begun.wait()
    async with asyncio.timeout(1.5):
        await storage.close()
    with pytest.raises(StorageError):
        await holding
    async with open_storage(f"sqlite:///{tmp_path}/held.db") as again:
        assert await again.list() == []


async def test_an_opening_that_failed_leaves_nothing_open_and_hinders_nobody(tmp_path: Path) -> None:
    before = threading.active_count()
    url = f"sqlite:///{tmp_path}/new.db"
    with pytest.raises(StorageError):
        await open_storage(url, create=False).load("a")
    assert threading.active_count() == before
    refused = open_storage(url, create=False)
    with pytest.raises(StorageError):
        await refused.load("a")
    async with open_storage(url) as storage:
        await storage.save(NOTE)


async def test_contention_lasts_until_the_statement_timeout_whatever_else_is_said(tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "busy.db"
    async with open_storage(f"sqlite:///{file}?connect_timeout=0.1&statement_timeout=10") as storage:
        await storage.save(NOTE)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(storage.update("a", {"data": {"y": 1}}))
        await asyncio.sleep(0.6)
        other.execute("COMMIT")
        other.close()
        assert await writing


async def test_a_full_disk_fails_what_did_not_fit_and_nothing_else(tmp_path: Path) -> None:
    """SQLite undoes the whole transaction then: what was told to have failed must not be stored, nor the reverse."""
    async with open_storage(f"sqlite:///{tmp_path}/full.db") as storage:
        await storage.save(SESSION)
        await storage._engine.write(_limit_pages, 5)  # type: ignore[attr-defined]
        outcomes = await asyncio.gather(
            storage.append("history/s", [{"body": 1}]),
            storage.save({"id": "big", "type": "note", "data": {"text": "x" * 6_000_000}}),
            storage.append("history/s", [{"body": 2}]),
            return_exceptions=True,
        )
        stored = [entry["body"] for entry in await storage.read("history/s")]
    assert isinstance(outcomes[1], StorageCapacityError)
    assert stored == [body for body, outcome in ((1, outcomes[0]), (2, outcomes[2])) if isinstance(outcome, list)]
    assert stored == [1, 2]


def _limit_pages():
    from unified_storage.backends.sql.statements import Call

    yield Call("PRAGMA max_page_count = 400")


async def test_a_cache_does_not_answer_inside_a_transaction_that_its_task_holds(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/cached.db") as inner:
        cache = Cache(inner)
        await cache.save(NOTE)
        await cache.load("a", type="note")
        async with cache.transaction() as tx:
            await tx.save(NOTE)
            with pytest.raises(StorageTransactionError):
                await cache.load("a", type="note")


async def test_a_column_that_is_indexed_as_a_path_is_asked_as_it_is_now(url: str) -> None:
    """An append moves the version and the time of a record, and no key of it."""
    async with open_storage(url, indexed={"note": ["version", "updated_at", "session_id"]}) as storage:
        await storage.save(NOTE | {"session_id": "s"})
        await storage.append("log@note/a", [{"body": 1}])
        record = await storage.load("a", type="note")
        assert record is not None
        for name in ("version", "updated_at", "session_id"):
            assert await storage.count({"type": "note", name: record[name]}) == 1
            assert await storage.count({"type": "note", name: {"$in": [record[name]]}}) == 1
        assert [batch async for batch in storage.examine()] == []
