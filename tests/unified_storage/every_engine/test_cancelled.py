"""Cancelled work is wholly done or not done, and leaves nothing behind."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.places import ON_DISK, SQL, Place, engines

POOL = 5
IMPORTED = 40
THEN = datetime(2024, 5, 15, tzinfo=UTC)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_three_hundred_cancelled_transactions_leave_nothing(place: Place) -> None:
    """Each moves one from left to right in two records: the sum stands, whenever it was cancelled."""
    async with place.open(pool_size=POOL) as storage:
        # one routing key, so that a cluster can do it in one step
        await storage.batch_save([_note("~u~left", 1000), _note("~u~right", 0)])
        source = random.Random(3)
        longest = await _seconds_for_one(storage)
        for _ in range(300):
            moving = asyncio.create_task(_move(storage))
            await asyncio.sleep(source.uniform(0, longest))
            moving.cancel()
            done = await asyncio.gather(moving, return_exceptions=True)
            assert done[0] is None or isinstance(done[0], asyncio.CancelledError), repr(done[0])
        left, right = await _number(storage, "~u~left"), await _number(storage, "~u~right")
        assert left + right == 1000
        assert 0 < right < 300, "every one of them was cut off, or none: the test hits no interesting moment"
        await _the_pool_is_whole(storage)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_three_hundred_cancelled_verbs_are_wholly_done_or_not(place: Place) -> None:
    """An append moves the owner's version in the same step: the two never disagree."""
    async with place.open(pool_size=POOL) as storage:
        await storage.save(_note("one", 0))
        source = random.Random(5)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await storage.append("log@note/one", [{"body": 0}])
        longest = (loop.time() - begun) * 2
        acknowledged = 1
        for number in range(300):
            adding = asyncio.create_task(storage.append("log@note/one", [{"body": number}, {"body": number}]))
            await asyncio.sleep(source.uniform(0, longest))
            adding.cancel()
            (outcome,) = await asyncio.gather(adding, return_exceptions=True)
            acknowledged += 2 if isinstance(outcome, list) else 0
        entries = await storage.read("log@note/one")
        record = await storage.load("one", type="note")
        assert record is not None
        assert len(entries) % 2 == 1
        assert record["version"] == 2 + len(entries) // 2
        assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
        assert acknowledged <= len(entries)
        await _the_pool_is_whole(storage)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*SQL))
async def test_cancelled_imports_are_wholly_done_or_not(place: Place) -> None:
    """Also where rows go in by a way of their own, which has to be broken off by a way of its own."""
    async with place.open(pool_size=POOL) as storage:
        source, loop = random.Random(7), asyncio.get_running_loop()
        begun = loop.time()
        await storage.restore(*_import(0))
        longest, acknowledged = loop.time() - begun, [0]
        for number in range(1, 41):
            importing = asyncio.create_task(storage.restore(*_import(number)))
            await asyncio.sleep(source.uniform(0, longest))
            importing.cancel()
            (outcome,) = await asyncio.gather(importing, return_exceptions=True)
            assert outcome == IMPORTED or isinstance(outcome, asyncio.CancelledError), repr(outcome)
            acknowledged += [number] if outcome == IMPORTED else []
        await _the_pool_is_whole(storage)
        whole = []
        for number in range(41):
            entries = await storage.read_many([f"log@note/{number}-{n}" for n in range(IMPORTED)])
            there = await storage.count({"type": "note", "data.number": number})
            assert (there, {len(each) for each in entries.values()}) in ((0, {0}), (IMPORTED, {20}))
            whole += [number] if there else []
        assert {*acknowledged} <= {*whole}
        assert len(whole) < 41, "none of them was cut off: the test hits no interesting moment"


def _import(number: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    ids = [f"{number}-{n}" for n in range(IMPORTED)]
    entries = [{"seq": seq, "key": f"k{seq}", "created_at": THEN, "body": "x" * 300} for seq in range(1, 21)]
    records = [{"id": id, "type": "note", "data": {"number": number}, "created_at": THEN} for id in ids]
    return records, [{"log_id": f"log@note/{id}", "last_seq": 20, "entries": entries} for id in ids]


async def _seconds_for_one(storage) -> float:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await _move(storage)
    return (loop.time() - begun) * 1.5


def _note(id: str, n: int) -> dict:
    return {"id": id, "type": "note", "data": {"n": n}}


async def _number(storage, id: str) -> int:
    return (await storage.load(id, type="note"))["data"]["n"]


async def _move(storage) -> None:
    async with storage.transaction() as tx:
        await tx.save(_note("~u~left", await _number(tx, "~u~left") - 1))
        await tx.save(_note("~u~right", await _number(tx, "~u~right") + 1))


async def _the_pool_is_whole(storage) -> None:
    """As many transactions as there are connections can be open at once, and then everybody else still gets a turn."""
    async with asyncio.timeout(20):
        await asyncio.gather(*(storage.update("~pool", {"data": {}}, type="note") for _ in range(POOL * 4)))
        for _ in range(POOL * 2):
            async with storage.transaction() as tx:
                await tx.save(_note("~pool", 1))
        assert await storage.load("~pool", type="note") is not None
