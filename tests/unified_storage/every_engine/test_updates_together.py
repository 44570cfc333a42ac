"""Updates of one record that come together are written together on a server, and each ends by itself."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.places import Place, engines
from unified_storage.backends.sql import records
from unified_storage.clock import utc_now
from unified_storage.errors import StorageCapacityError, StorageConflictError, StorageValidationError

pytestmark = pytest.mark.parametrize("engine", engines("postgresql", "mysql"))


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[Any]:
    async with place.open(pool_size=4) as storage:
        await storage.save({"id": "a", "type": "note", "data": {"n": 0}})
        yield storage


@pytest.fixture
def written(storage: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each transaction from here on."""
    told: list[int] = []
    inner = storage._engine.write

    async def write(*given: Any) -> Any:
        told.append(1)
        return await inner(*given)

    monkeypatch.setattr(storage._engine, "write", write)
    return told


def update(storage: Any, **fields: Any) -> Any:
    return storage.update("a", {"data": fields}, type="note")


async def data(storage: Any) -> Any:
    return (await storage.load("a", type="note"))["data"]


async def test_those_that_wait_share_a_transaction(storage: Any, written: list[int]) -> None:
    async def change(task: int) -> None:
        for number in range(5):
            assert await update(storage, **{f"t{task}": number})

    before = await storage.load("a")
    await asyncio.gather(*(change(task) for task in range(16)))
    assert len(written) <= 20
    record = await storage.load("a")
    assert record["data"] == {"n": 0, **{f"t{task}": 4 for task in range(16)}}
    assert record["version"] == before["version"] + 80
    assert record["updated_at"] >= before["updated_at"] + timedelta(microseconds=80)


async def test_each_ends_as_it_does_alone(storage: Any, written: list[int]) -> None:
    outcomes = await asyncio.gather(
        update(storage, first=1),
        update(storage, second=2),
        storage.update("a", {"data": {"bad": object()}}, type="note"),
        storage.update("a", {"data": {"third": 3}}, type="note", expected_version=3),
        storage.update("a", {"data": {"stale": 3}}, type="note", expected_version=1),
        storage.update("a", {"version": 9}, type="note"),
        update(storage, fourth=4),
        storage.update("nobody", {"data": {}}),
        storage.update("nobody", {"data": {}}),
        storage.update("nobody", {"data": {}}, expected_version=2),
        return_exceptions=True,
    )
    assert [outcome if isinstance(outcome, bool) else type(outcome) for outcome in outcomes] == [
        True,
        True,
        StorageValidationError,
        True,
        StorageConflictError,
        StorageValidationError,
        True,
        False,
        False,
        StorageConflictError,
    ]
    assert await data(storage) == {"n": 0, "first": 1, "second": 2, "third": 3, "fourth": 4}


async def test_who_comes_after_the_end_of_a_record_finds_none(storage: Any) -> None:
    outcomes = await asyncio.gather(
        update(storage, first=1),
        update(storage, second=2),
        storage.update("a", {"expires_at": utc_now() - timedelta(seconds=1)}, type="note"),
        update(storage, late=3),
        update(storage, later=4),
    )
    assert [*outcomes] == [True, True, True, False, False]
    assert await storage.load("a") is None


async def test_cancelled_ones_are_done_or_never_to_be_and_disturb_nobody(storage: Any) -> None:
    told: dict[str, Any] = {}
    for round in range(8):
        tasks = {f"r{round}t{n}": asyncio.create_task(update(storage, **{f"r{round}t{n}": 1})) for n in range(20)}
        await asyncio.sleep(0.003 * round)
        for name in [*tasks][::3]:
            tasks[name].cancel()
        told.update(zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True))
    found = await data(storage)
    await asyncio.sleep(0.1)
    assert await data(storage) == found, "something was done after its caller was told"
    assert {name for name, outcome in told.items() if outcome is True} <= found.keys()
    assert all(outcome is True or isinstance(outcome, asyncio.CancelledError) for outcome in told.values())
    assert sum(outcome is True for outcome in told.values()) >= 8 * 13
    assert (await storage.load("a"))["version"] == len(found)  # the first has the version 1 and one field


async def test_a_held_record_is_waited_for_once_and_a_cancelled_one_does_not_wait(storage: Any) -> None:
    async with storage.transaction() as tx:
        await tx.update("a", {"data": {"block": 1}}, type="note")
        waiting = [asyncio.create_task(update(storage, **{f"t{n}": n})) for n in range(12)]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            await asyncio.create_task(storage.save({"id": "b", "type": "note", "data": {}}))
            for task in waiting[:6]:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert await asyncio.gather(*waiting[6:]) == [True] * 6
    assert await data(storage) == {"n": 0, "block": 1, **{f"t{n}": n for n in range(6, 12)}}


async def test_one_that_the_server_refuses_spoils_no_other(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its packets are smaller than our largest record."""
    inner = records.update_all

    def refused(store: Any, id: str, kind: Any, changes: Any) -> Any:
        yield from inner(store, id, kind, changes)
        if any(change.is_wanted and "big" in change.updates["data"] for change in changes):
            raise StorageCapacityError("too large a packet")

    monkeypatch.setattr(records, "update_all", refused)
    outcomes = await asyncio.gather(
        *(update(storage, **{name: 1}) for name in ("first", "small", "big", "other")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [bool, bool, StorageCapacityError, bool]
    assert await data(storage) == {"n": 0, "first": 1, "small": 1, "other": 1}


async def test_loops_that_are_over_are_forgotten(place: Place) -> None:
    """A program that calls ``asyncio.run`` again and again keeps nothing of the runs before."""
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    storage = place.open()

    async def work() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await storage.save({"id": "a", "type": "note", "data": {}})
        await asyncio.gather(*(storage.append("log@note/a", [{"body": n}]) for n in range(4)))
        await asyncio.gather(*(storage.update("a", {"data": {"n": n}}, type="note") for n in range(4)))

    for _ in range(4):
        await asyncio.to_thread(asyncio.run, work())
    await asyncio.to_thread(asyncio.run, storage.close())
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1
