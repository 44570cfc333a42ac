"""What a transaction was told of a record, also that there is none, holds until it writes; else it hears of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.places import EMBEDDED, SERVERS, Place, engines
from unified_storage import IUnifiedStorage
from unified_storage.errors import StorageConflictError, StorageValidationError

ROW_LOCKS = ("postgresql", "mysql")
TIME_TO_MEET = 0.3
"""Seconds in which a verb of another task surely reaches the row that is locked."""

Look = Callable[[IUnifiedStorage], Awaitable[Any]]
TOLD_OF_NOTHING: dict[str, Look] = {
    "load": lambda tx: tx.load("a", type="note"),
    "exists": lambda tx: tx.exists("a"),
    "update": lambda tx: tx.update("a", {"data": {}}, type="note"),
    "delete": lambda tx: tx.delete("a", type="note"),
    "delete of any type": lambda tx: tx.delete("a"),
    "batch_delete": lambda tx: tx.batch_delete(["a"], type="note"),
    "list": lambda tx: tx.list({"id": "a"}),
    "page": lambda tx: _items(tx),
    "query": lambda tx: tx.query("id = 'a' ORDER BY -updated_at"),
    "count": lambda tx: tx.count({"id": "a"}),
    "pop": lambda tx: tx.pop("events@note/a"),
    "read": lambda tx: tx.read("events@note/a"),
    "read_many": lambda tx: _entries(tx),
    "log_info": lambda tx: tx.log_info("events@note/a"),
}


async def _items(tx: IUnifiedStorage) -> list[dict[str, Any]]:
    return (await tx.page({"id": "a"})).items


async def _entries(tx: IUnifiedStorage) -> list[dict[str, Any]]:
    return (await tx.read_many(["events@note/a"]))["events@note/a"]


def note(id: str, **data: Any) -> dict[str, Any]:
    return {"id": id, "type": "note", "data": data}


async def elsewhere(work: Awaitable[Any]) -> Any:
    """What another task gets for *work*, a verb of the storage itself."""
    return await asyncio.ensure_future(work)


@pytest.mark.parametrize("verb", TOLD_OF_NOTHING)
@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_whoever_was_told_of_nothing_does_not_write_over_what_came(place: Place, verb: str) -> None:
    async with place.open() as storage:
        with pytest.raises(StorageConflictError) as raised:
            async with storage.transaction() as tx:
                assert not await TOLD_OF_NOTHING[verb](tx)
                await elsewhere(storage.save(note("a", by="somebody else")))
                await tx.save(note("a", by="the transaction"))
        assert raised.value.retryable
        record = await storage.load("a", type="note")
    assert record is not None
    assert record["data"] == {"by": "somebody else"}


@pytest.mark.parametrize("engine", engines(*ROW_LOCKS))
async def test_what_was_listed_and_changed_since_does_not_go_with_its_group(place: Place) -> None:
    async with place.open() as storage:
        await storage.save({"id": "s", "type": "session", "data": {}})
        await storage.save(note("part", n=1) | {"session_id": "s"})
        with pytest.raises(StorageConflictError) as raised:
            async with storage.transaction() as tx:
                assert len(await tx.get_by_session("s")) == 1
                await elsewhere(storage.update("part", {"data": {"n": 2}}, type="note"))
                await tx.delete("s", type="session", cascade=True)
        assert raised.value.retryable
        part = await storage.load("part", type="note")
        assert part is not None
        assert part["data"] == {"n": 2}
        assert await storage.exists("s")


LISTED: dict[str, Look] = {
    "list": lambda tx: tx.list({"type": "note"}),
    "list without data": lambda tx: tx.list(with_data=False),
    "page": lambda tx: tx.page(),
    "page of a type": lambda tx: tx.page({"type": "note", "thread_id": "t"}),
    "query": lambda tx: tx.query("type = 'note' ORDER BY -updated_at"),
    "get_by_thread": lambda tx: tx.get_by_thread("t"),
}
WRITTEN: dict[str, Look] = {
    "save": lambda tx: tx.save(note("a", n=10)),
    "update": lambda tx: tx.update("a", {"data": {"n": 10}}, type="note"),
    "delete": lambda tx: tx.delete("a"),
    "append": lambda tx: tx.append("events@note/a", [{"body": 1}]),
}


@pytest.mark.parametrize(
    ("look", "write"), [*((look, "save") for look in LISTED), *(("list", write) for write in WRITTEN)]
)
@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_what_was_listed_and_changed_since_is_not_written_over(place: Place, look: str, write: str) -> None:
    async with place.open() as storage:
        await storage.save(note("a", n=1) | {"thread_id": "t"})
        with pytest.raises(StorageConflictError) as raised:
            async with storage.transaction() as tx:
                await LISTED[look](tx)
                await elsewhere(storage.update("a", {"data": {"n": 2}}, type="note"))
                await WRITTEN[write](tx)
        assert raised.value.retryable
        record = await storage.load("a", type="note")
    assert record is not None
    assert record["data"] == {"n": 2}


@pytest.mark.parametrize("engine", engines(*ROW_LOCKS))
async def test_what_was_listed_and_deleted_since_is_a_conflict_not_an_absence(place: Place) -> None:
    async with place.open() as storage:
        await storage.save(note("a"))
        with pytest.raises(StorageConflictError) as raised:
            async with storage.transaction() as tx:
                assert len(await tx.list()) == 1
                await elsewhere(storage.delete("a"))
                await tx.update("a", {"data": {"n": 1}})
        assert raised.value.retryable


RESTORED = {"log_id": "other@note/a", "last_seq": 7, "entries": []}
ON_WHAT_IS_THERE: dict[str, tuple[Look, Any]] = {
    "update": (lambda storage: storage.update("a", {"data": {"n": 2}}, type="note"), True),
    "update of any type": (lambda storage: storage.update("a", {"data": {"n": 2}}), True),
    "delete": (lambda storage: storage.delete("a", type="note"), True),
    "delete of any type": (lambda storage: storage.delete("a"), True),
    "append": (lambda storage: storage.append("events@note/a", [{"body": 2}]), [2]),
    "pop": (lambda storage: _popped(storage), 1),
    "restore of a log": (lambda storage: storage.restore([], [RESTORED]), 0),
    "load in a transaction": (lambda storage: _loaded(storage), {"n": 1}),
}


async def _popped(storage: IUnifiedStorage) -> Any:
    entry = await storage.pop("events@note/a")
    return entry and entry["body"]


async def _loaded(storage: IUnifiedStorage) -> Any:
    async with storage.transaction() as tx:
        record = await tx.load("a", type="note")
    return record and record["data"]


@pytest.mark.parametrize("verb", ON_WHAT_IS_THERE)
@pytest.mark.parametrize("engine", engines(*ROW_LOCKS))
async def test_a_record_that_is_made_anew_in_one_step_is_never_absent(place: Place, verb: str) -> None:
    """Whoever waits for the transaction finds what it has made, though the row that was waited for is gone."""
    act, answer = ON_WHAT_IS_THERE[verb]
    async with place.open() as storage:
        await storage.save(note("a", n=0))
        async with storage.transaction() as tx:
            await tx.delete("a", type="note")
            await tx.save(note("a", n=1))
            await tx.append("events@note/a", [{"body": 1}])
            waiting = asyncio.ensure_future(act(storage))
            await asyncio.sleep(TIME_TO_MEET)
            assert not waiting.done()
        assert await waiting == answer


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud800", "_\0"])
@pytest.mark.parametrize("engine", engines(*EMBEDDED, *ROW_LOCKS))
async def test_a_name_that_nothing_can_have_finds_nothing(place: Place, name: str) -> None:
    async with place.open(indexed={"note": ["metadata.x"]}) as storage:
        await storage.save(note("a"))
        for filters in ({"type": name}, {"type": {"$in": [name]}}, {"id": name}, {"session_id": name}):
            assert await storage.list(filters) == []
            assert await storage.count(filters) == 0
            assert (await storage.page(filters)).items == []
            assert (await storage.page(filters, order_by="metadata.x")).items == []
        assert await storage.count({"type": {"$in": [name, "note"]}}) == 1
        assert [ids async for ids in storage.logs(name)] == []
        with pytest.raises(StorageValidationError):
            await storage.cleanup_old_data(1, type=name, dry_run=True)
        if place.engine in ROW_LOCKS:
            async with storage.transaction() as tx:
                assert await tx.list({"id": name}) == []


@pytest.mark.parametrize("engine", engines(*ROW_LOCKS))
async def test_what_is_given_more_time_is_not_purged(place: Place) -> None:
    """Purging waits for whoever is writing to an expired record, and looks at its time again."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    async with place.open(clock=lambda: now[0]) as storage:
        await storage.save(note("a") | {"expires_at": now[0] + timedelta(hours=1)})
        await storage.append("events@note/a", [{"body": 1}])
        async with storage.transaction() as tx:
            await tx.update("a", {"expires_at": now[0] + timedelta(hours=9)}, type="note")
            now[0] += timedelta(hours=2)
            purging = asyncio.ensure_future(storage.purge_expired())
            await asyncio.sleep(TIME_TO_MEET)
            assert not purging.done()
        assert await purging == 0
        assert await storage.exists("a")
        assert [entry["body"] for entry in await storage.read("events@note/a")] == [1]


@pytest.mark.parametrize("engine", engines(*ROW_LOCKS))
async def test_what_leaves_a_group_meanwhile_is_not_deleted_with_it(place: Place) -> None:
    async with place.open() as storage:
        await storage.save({"id": "s", "type": "session", "data": {}})
        await storage.save(note("part") | {"session_id": "s"})
        await storage.append("events@note/part", [{"body": 1}])
        async with storage.transaction() as tx:
            await tx.update("part", {"session_id": None}, type="note")
            deleting = asyncio.ensure_future(storage.delete("s", type="session", cascade=True))
            await asyncio.sleep(TIME_TO_MEET)
            assert not deleting.done()
        assert await deleting
        assert await storage.exists("part")
        assert [entry["body"] for entry in await storage.read("events@note/part")] == [1]
