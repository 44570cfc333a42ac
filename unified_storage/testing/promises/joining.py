"""Promises about who takes part in a transaction, and about ``atomically``, which repeats one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from unified_storage.errors import StorageConflictError, StorageError, StorageTransactionError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, note, session, stored
from unified_storage.testing.harness import Harness
from unified_storage.testing.promises.transactions import LOG, Upset
from unified_storage.testing.promises.upkeep import VERBS


class JoiningPromises(Harness):
    """Joining is by object; the storage's own verbs never do."""

    async def test_a_transaction_of_a_transaction_is_the_same_one(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(Upset):
            async with storage.transaction() as outer:
                async with outer.transaction() as inner:
                    await inner.save(session("s"))
                assert await outer.exists("s")
                assert await outer.transaction([{"type": "update", "id": "s", "data": {}}]) == [True]
                await outer.atomically(lambda tx: tx.append(LOG, [body(1)]))
                raise Upset
        assert await storage.count() == 0

    async def test_what_joined_commits_with_the_outermost(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as outer:
            async with outer.transaction() as inner:
                await inner.save(session("s"))
            await outer.transaction([{"type": "append", "log_id": LOG, "entries": [body(1)]}])
        assert await bodies(storage, LOG) == [1]

    async def test_a_failure_inside_gives_the_whole_up(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageTransactionError) as failure:
            async with storage.transaction() as outer:
                await outer.save(session("s"))
                with pytest.raises(Upset):
                    async with outer.transaction() as inner:
                        await inner.save(note("s"))
                        raise Upset
        assert isinstance(failure.value.cause, Upset)
        assert await storage.count() == 0

    async def test_a_failed_list_inside_gives_the_whole_up(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageTransactionError):
            async with storage.transaction() as outer:
                await outer.save(session("s"))
                with pytest.raises(StorageTransactionError) as inner:
                    await outer.transaction([{"type": "append", "log_id": "x/nobody", "entries": [body(1)]}])
                assert inner.value.index == 0
        assert await storage.count() == 0

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_verb_of_the_storage_is_refused_to_the_task_that_holds_a_transaction(
        self, storage: IUnifiedStorage, verb: str
    ) -> None:
        await storage.save(session("s"))
        async with storage.transaction() as tx:
            await tx.update("s", {"data": {"x": 1}})
            async with asyncio.timeout(5):
                with pytest.raises(StorageTransactionError):
                    await VERBS[verb](storage)
        assert (await stored(storage, "s"))["data"] == {"x": 1}

    async def test_a_second_transaction_is_refused_to_the_task_that_holds_one(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as tx, asyncio.timeout(5):
            await tx.save(note("a"))
            with pytest.raises(StorageTransactionError):
                async with storage.transaction():
                    raise AssertionError("a second transaction began")
            with pytest.raises(StorageTransactionError):
                await storage.transaction([{"type": "load", "id": "a"}])
            with pytest.raises(StorageTransactionError):
                await storage.atomically(lambda tx: tx.load("a"))
        assert await storage.exists("a")

    async def test_other_tasks_may_use_the_storage_meanwhile(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("b"))
        async with storage.transaction() as tx:
            await tx.load("nothing")
            other = asyncio.create_task(storage.update("b", {"data": {"x": 1}}))
            await asyncio.wait([other], timeout=0.05)
        assert await asyncio.wait_for(other, 10) is True

    async def test_after_the_block_the_storage_is_free_again(self, storage: IUnifiedStorage) -> None:
        for _ in range(3):
            async with storage.transaction() as tx:
                await tx.save(note("a"))
            await storage.save(note("a"))
            with pytest.raises(Upset):
                async with storage.transaction():
                    raise Upset
        assert (await stored(storage, "a"))["version"] == 6


class AtomicallyPromises(Harness):
    """``atomically`` repeats what an engine's conflict undid, and nothing else."""

    async def test_it_gives_the_result_and_commits(self, storage: IUnifiedStorage) -> None:
        async def work(tx: IUnifiedStorage) -> str:
            await tx.save(session("s"))
            await tx.append(LOG, [body(1)])
            return "done"

        assert await storage.atomically(work) == "done"
        assert await bodies(storage, LOG) == [1]

    async def test_a_retryable_conflict_is_tried_again_from_nothing(self, storage: IUnifiedStorage) -> None:
        attempts: list[int] = []

        async def work(tx: IUnifiedStorage) -> int:
            attempts.append(len(attempts))
            assert await tx.load("a") is None
            await tx.save(note("a", {"attempt": len(attempts)}))
            if len(attempts) < 3:
                raise StorageConflictError("somebody was faster", retryable=True)
            return len(attempts)

        assert await storage.atomically(work) == 3
        record = await stored(storage, "a")
        assert (record["data"], record["version"]) == ({"attempt": 3}, 1)

    async def test_the_last_conflict_is_raised(self, storage: IUnifiedStorage) -> None:
        attempts = 0

        async def work(tx: IUnifiedStorage) -> None:
            nonlocal attempts
            attempts += 1
            await tx.save(note("a"))
            raise StorageConflictError("somebody was faster", retryable=True)

        with pytest.raises(StorageConflictError):
            await storage.atomically(work, attempts=3)
        assert attempts == 3
        assert await storage.count() == 0

    @pytest.mark.parametrize(
        "error", [StorageConflictError("mismatch"), Upset("mine"), StorageError("other")], ids=repr
    )
    async def test_any_other_error_is_raised_at_once(self, storage: IUnifiedStorage, error: Exception) -> None:
        attempts = 0

        async def work(tx: IUnifiedStorage) -> None:
            nonlocal attempts
            attempts += 1
            await tx.save(note("a"))
            raise error

        with pytest.raises(type(error)) as raised:
            await storage.atomically(work)
        assert raised.value is error
        assert attempts == 1
        assert await storage.count() == 0

    @pytest.mark.parametrize("attempts", [0, -1])
    async def test_it_tries_at_least_once_or_refuses(self, storage: IUnifiedStorage, attempts: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.atomically(lambda tx: tx.load("a"), attempts=attempts)
