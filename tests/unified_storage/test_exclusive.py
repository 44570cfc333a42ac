"""One in at a time: what a backend without locks and transactions of its own stands on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from unified_storage import (
    IUnifiedStorage,
    StorageClosedError,
    StorageTimeoutError,
    StorageTransactionError,
    open_storage,
)
from unified_storage.exclusive import Exclusive, Work


@pytest.fixture
async def verbs():
    async with open_storage("memory://") as storage:
        yield storage


def broken() -> None:
    raise RuntimeError("broken")


async def somebody_gets_in(exclusive: Exclusive) -> bool:
    async with exclusive:
        return True


async def test_one_call_at_a_time() -> None:
    exclusive, inside, seen = Exclusive(), 0, []

    async def call() -> None:
        nonlocal inside
        async with exclusive:
            inside += 1
            seen.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(call() for _ in range(20)))
    assert seen == [1] * 20


@pytest.mark.parametrize("fails", [False, True])
async def test_a_transaction_keeps_everybody_out_until_its_end(verbs: IUnifiedStorage, fails: bool) -> None:
    exclusive, done = Exclusive(), []
    work = Work(verbs, commit=lambda: done.append("committed"), rollback=lambda: done.append("rolled back"))

    async def call() -> None:
        async with exclusive:
            done.append("call")

    with suppress(RuntimeError):
        async with exclusive.transaction(lambda: work, None, 5):
            waiting = asyncio.create_task(call())
            await asyncio.sleep(0.01)
            assert done == []
            if fails:
                broken()
    await waiting
    assert done == ["rolled back" if fails else "committed", "call"]


@pytest.mark.parametrize("where", ["begin", "commit", "rollback"])
async def test_a_transaction_whose_backend_fails_lets_the_next_one_in(verbs: IUnifiedStorage, where: str) -> None:
    exclusive = Exclusive(timeout=1)
    ends: dict[str, Callable[[], object]] = {"commit": lambda: None, "rollback": lambda: None, where: broken}

    def begin() -> Work:
        if where == "begin":
            broken()
        return Work(verbs, ends["commit"], ends["rollback"])

    with pytest.raises(RuntimeError, match="broken"):
        async with exclusive.transaction(begin, None, 5):
            if where == "rollback":
                raise KeyError("given up")
    assert await somebody_gets_in(exclusive)


async def test_a_call_of_the_task_that_holds_the_transaction_is_refused(verbs: IUnifiedStorage) -> None:
    exclusive = Exclusive()
    async with exclusive.transaction(lambda: Work(verbs, lambda: None), None, 5):
        with pytest.raises(StorageTransactionError):
            await somebody_gets_in(exclusive)
    assert await somebody_gets_in(exclusive)


async def test_who_waits_too_long_is_told_so(verbs: IUnifiedStorage) -> None:
    exclusive = Exclusive(timeout=0.02)
    async with exclusive.transaction(lambda: Work(verbs, lambda: None), None, 5):
        waiting = asyncio.create_task(somebody_gets_in(exclusive))
        await asyncio.wait([waiting], timeout=5)
        with pytest.raises(StorageTimeoutError):
            await waiting
    assert await somebody_gets_in(exclusive)


async def test_a_call_that_fails_lets_the_next_one_in() -> None:
    exclusive = Exclusive(timeout=1)
    with pytest.raises(RuntimeError):
        async with exclusive:
            broken()
    assert await somebody_gets_in(exclusive)


async def test_closing_refuses_who_comes_and_who_waits(verbs: IUnifiedStorage) -> None:
    exclusive = Exclusive()
    async with exclusive.transaction(lambda: Work(verbs, lambda: None), None, 5):
        waiting = asyncio.create_task(somebody_gets_in(exclusive))
        await asyncio.sleep(0.01)
        exclusive.close()
        exclusive.close()
    for call in (waiting, somebody_gets_in(exclusive)):
        with pytest.raises(StorageClosedError):
            await call
    with pytest.raises(StorageClosedError):
        async with exclusive.transaction(lambda: Work(verbs, lambda: None), None, 5):
            pass
