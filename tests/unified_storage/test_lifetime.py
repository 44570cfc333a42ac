"""The lifetime of a storage: opened once by whoever comes first, also where opening fails, and closed once."""

import asyncio
import threading
from pathlib import Path

import pytest

from unified_storage import StorageClosedError, StorageTransactionError, open_storage
from unified_storage.errors import StorageConnectionError
from unified_storage.lifetime import Lifetime


class Place:
    """Counts what is done to it; opening fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.done: list[str] = []
        self.failures = failures
        self.lifetime = Lifetime(let_go=self.let_go, end=self.end, timeout=5)

    async def begin(self) -> None:
        self.done.append("begin")
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise StorageConnectionError("away")

    async def let_go(self) -> None:
        self.done.append("let go")

    async def end(self) -> None:
        await asyncio.sleep(0.01)
        self.done.append("end")

    async def ready(self) -> None:
        await self.lifetime.ready(self.begin)


async def test_many_at_once_open_it_once_and_it_is_closed_once() -> None:
    place = Place()
    await asyncio.gather(*(place.ready() for _ in range(20)))
    await place.lifetime.close()
    await place.lifetime.close()
    assert place.done == ["begin", "end"]


async def test_after_an_opening_that_failed_the_next_one_tries_again() -> None:
    place = Place(failures=2)
    told = await asyncio.gather(*(place.ready() for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in told] == [StorageConnectionError] * 2 + [type(None)] * 3
    assert place.done == ["begin", "let go"] * 2 + ["begin"]


async def test_an_opening_that_is_cancelled_leaves_nothing_behind() -> None:
    place = Place()
    opening = asyncio.create_task(place.ready())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert place.done == ["begin", "let go"]
    await place.ready()
    assert place.done[2:] == ["begin"]


async def test_what_was_closed_is_not_opened_also_by_those_who_were_waiting() -> None:
    place = Place(failures=1)
    opening = [asyncio.create_task(place.ready()) for _ in range(3)]
    await asyncio.sleep(0)
    await place.lifetime.close()
    told = await asyncio.gather(*opening, return_exceptions=True)
    assert [type(each) for each in told] == [StorageConnectionError, StorageClosedError, StorageClosedError]
    with pytest.raises(StorageClosedError):
        await place.ready()
    assert place.done.count("begin") == 1


async def test_a_task_that_holds_a_transaction_neither_uses_nor_closes_it() -> None:
    place = Place()
    await place.ready()
    task = place.lifetime.holders.enter()
    with pytest.raises(StorageTransactionError):
        await place.ready()
    with pytest.raises(StorageTransactionError):
        await place.lifetime.close()
    await asyncio.create_task(place.ready())
    place.lifetime.holders.leave(task)
    await place.lifetime.close()
    assert place.done == ["begin", "end"]


async def test_a_close_that_is_cancelled_ends_before_the_cancellation_goes_on() -> None:
    place = Place()
    await place.ready()
    closing = asyncio.create_task(place.lifetime.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await place.lifetime.close()
    assert place.done == ["begin", "end"]


async def test_a_file_whose_close_was_cancelled_is_let_go(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/records.db")
    before = threading.active_count()
    async with storage.transaction() as tx:  # what the close waits for
        await tx.save({"id": "a", "type": "note", "data": {}})
        assert threading.active_count() > before
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.sleep(0.05)
        assert not closing.done()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert threading.active_count() == before
    assert [found.name for found in tmp_path.iterdir()] == ["records.db"]
