"""Appends that are sent together on a server: each ends by itself, as it would alone."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.places import Place, engines
from unified_storage.errors import StorageAlreadyExistsError, StorageNotFoundError, StorageTimeoutError

POOL = 4
pytestmark = pytest.mark.parametrize("engine", engines("postgresql", "mysql"))


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[Any]:
    """A store with the notes n0 to n63."""
    async with place.open(pool_size=POOL) as storage:
        await storage.batch_save([{"id": f"n{n}", "type": "note", "data": {}} for n in range(64)])
        yield storage


def log(n: int) -> str:
    return f"log@note/n{n}"


async def stored(storage: Any, n: int) -> list[Any]:
    """The bodies of a log, whose numbers are seen to have no gap."""
    entries = await storage.read(log(n))
    assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
    return [entry["body"] for entry in entries]


async def test_tasks_that_append_again_and_again_to_one_log_are_all_there(storage: Any) -> None:
    async def add(task: int) -> None:
        for number in range(20):
            await storage.append(log(0), [{"body": [task, number]}])

    before = await storage.load("n0")
    await asyncio.gather(*(add(task) for task in range(16)))
    bodies = await stored(storage, 0)
    assert sorted(map(tuple, bodies)) == [*itertools.product(range(16), range(20))]
    for task in range(16):
        assert [number for writer, number in bodies if writer == task] == [*range(20)]
    record = await storage.load("n0")
    assert record["version"] == before["version"] + 320
    assert record["updated_at"] > before["updated_at"]


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


async def test_appends_to_a_held_record_give_up_in_time(place: Place, storage: Any) -> None:
    hasty = place.open(statement_timeout=0.5, pool_size=POOL)
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


async def test_a_loop_that_ends_in_the_middle_leaves_nothing_pending(place: Place) -> None:
    await asyncio.to_thread(_ended_in_the_middle, place.open())


def _ended_in_the_middle(storage: Any) -> None:

    async def begun() -> None:
        await storage.save({"id": "n0", "type": "note", "data": {}})
        tasks = [asyncio.create_task(storage.append(log(0), [{"body": n}])) for n in range(30)]
        await asyncio.sleep(0.001)
        assert not tasks[-1].done()

    async def after() -> list[Any]:
        await storage.append(log(0), [{"body": "after"}])
        found = await stored(storage, 0)
        await storage.close()
        return found

    asyncio.run(begun())  # cancels what is left, and would say what it had to leave pending
    assert asyncio.run(after())[-1] == "after"
