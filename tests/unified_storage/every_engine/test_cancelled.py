"""Cancelled work is wholly done or not done, and leaves nothing behind."""

import asyncio
import random

import pytest

from tests.places import ON_DISK, Place, engines

POOL = 5


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
