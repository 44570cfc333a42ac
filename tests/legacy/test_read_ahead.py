"""A copy reads what comes next while it writes, and leaves nothing running behind it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from legacy.migration.copy import read_ahead


class Batches:
    """Three batches; says what it began to read, and whether it was closed."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.is_closed = False
        self._fails_at = fails_at

    async def each(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                self.begun.append(number)
                await asyncio.sleep(0.01)
                if number == self._fails_at:
                    raise OSError("unreadable")
                self.ended.append(number)
                yield number
        finally:
            self.is_closed = True


async def test_the_next_batch_is_read_while_one_is_used() -> None:
    batches, seen = Batches(), list[tuple[int, list[int]]]()
    async for number in read_ahead(batches.each()):
        await asyncio.sleep(0.05)
        seen.append((number, list(batches.ended)))
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
    assert batches.is_closed


async def test_a_batch_that_cannot_be_read_fails_behind_those_before_it() -> None:
    batches, seen = Batches(fails_at=1), list[int]()
    with pytest.raises(OSError, match="unreadable"):
        async for number in read_ahead(batches.each()):
            seen = [*seen, number]
    assert seen == [0]
    assert batches.is_closed


async def test_whoever_stops_waits_for_what_is_being_read() -> None:
    batches = Batches()
    with pytest.raises(ZeroDivisionError):
        async with aclosing(read_ahead(batches.each())) as ahead:
            async for _ in ahead:
                await asyncio.sleep(0)
                raise ZeroDivisionError
    assert batches.begun == batches.ended == [0, 1]
    assert batches.is_closed


async def test_a_cancelled_reader_waits_for_what_is_being_read() -> None:
    batches = Batches()

    async def reading() -> None:
        async with aclosing(read_ahead(batches.each())) as ahead:
            async for _ in ahead:
                raise AssertionError("cancelled before")

    task = asyncio.create_task(reading())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert batches.begun == batches.ended == [0]
    assert batches.is_closed
