"""Promises about ``async with storage.transaction() as tx``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from unified_storage.errors import (
    StorageConflictError,
    StorageError,
    StorageTimeoutError,
    StorageTransactionError,
    StorageValidationError,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, gathered, ids, note, save_all, session, stored, together
from unified_storage.testing.harness import Harness
from unified_storage.testing.promises.upkeep import VERBS

MANY = "transactions over partitions"
LOG = "events/s"


class Upset(Exception):
    """An error that has nothing to do with storages."""


class TransactionPromises(Harness):
    """Commit on leaving, roll back on anything else."""

    async def test_leaving_the_block_commits(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as tx:
            assert await tx.save(session("s", {"x": 1})) == "s"
            assert await tx.update("s", {"data": {"y": 2}}) is True
            assert await tx.append(LOG, [body(1)]) == [1]
        record = await stored(storage, "s")
        assert (record["data"], record["version"]) == ({"x": 1, "y": 2}, 3)
        assert await bodies(storage, LOG) == [1]

    async def test_a_transaction_over_many_records_commits_as_one(self, storage: IUnifiedStorage) -> None:
        with self.promised(MANY):
            async with storage.transaction() as tx:
                for n in range(8):
                    await tx.save(note(f"{n}"))
            assert await storage.count() == 8

    async def test_a_transaction_over_many_records_is_undone_as_one(self, storage: IUnifiedStorage) -> None:
        with self.promised(MANY):
            await save_all(storage, [note(f"{n}") for n in range(4)])
            before = await storage.list()
            with pytest.raises(Upset):
                async with storage.transaction() as tx:
                    for n in range(8):
                        await tx.save(note(f"{n}", {"x": 1}))
                    await tx.delete("2")
                    raise Upset
            assert await storage.list() == before

    async def test_every_verb_sees_what_the_transaction_wrote(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as tx:
            await tx.save(session("s", {"x": 1}, session_id="s", thread_id="t"))
            await tx.append(LOG, [body(1), body(2)])
            assert (await stored(tx, "s"))["version"] == 2
            assert await tx.exists("s") is True
            assert ids(await tx.list({"data.x": 1})) == ["s"]
            assert ids((await tx.page()).items) == ["s"]
            assert ids(await gathered(tx.stream_list())) == ["s"]
            assert ids(await tx.query("data.x = 1")) == ["s"]
            assert await tx.count() == 1
            assert ids(await tx.get_by_session("s")) == ids(await tx.get_by_thread("t")) == ["s"]
            assert await bodies(tx, LOG) == [1, 2]
            assert [*await tx.read_many([LOG])] == [LOG]
            assert await tx.log_info(LOG) == {"first_seq": 1, "last_seq": 2, "count": 2}
            assert await gathered(tx.logs()) == [LOG]
            assert (await tx.pop(LOG) or {})["body"] == 2
            assert await tx.rewrite(LOG, [body(3)]) == [3]
            assert await tx.batch_save([session("s", {"x": 2})]) == ["s"]
            assert (await stored(tx, "s"))["data"] == {"x": 2}
            assert await tx.batch_delete(["s"]) == 1
            assert await tx.load("s") is None
            assert await tx.purge_expired() == 0
            assert (await tx.health_check())["status"] == "ok"
        assert await storage.count() == 0

    async def test_what_a_transaction_hands_out_is_a_copy(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as tx:
            await tx.save(note("a", {"tags": ["x"]}))
            (await stored(tx, "a"))["data"]["tags"].append("y")
            assert (await stored(tx, "a"))["data"] == {"tags": ["x"]}

    async def test_an_exception_undoes_everything_and_goes_on_unchanged(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"x": 1}))
        await storage.append(LOG, [body(1, "k")])
        before, entries, upset = await stored(storage, "s"), await storage.read(LOG), Upset("mine")
        with pytest.raises(Upset) as raised:
            async with storage.transaction() as tx:
                await tx.update("s", {"data": {"x": 2}})
                await tx.append(LOG, [body(2)], keep_last=1)
                await tx.pop(LOG)
                await tx.append("runs/s", [body(3)])
                raise upset
        assert raised.value is upset
        assert await stored(storage, "s") == before
        assert await storage.read(LOG) == entries
        assert await gathered(storage.logs()) == [LOG]
        assert await storage.append(LOG, [body("next")]) == [2]

    async def test_cancellation_undoes_everything_and_goes_on(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"x": 1}))
        inside = asyncio.Event()

        async def work() -> None:
            async with storage.transaction() as tx:
                await tx.save(session("s", {"x": 2}))
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await stored(storage, "s"))["data"] == {"x": 1}
        await storage.save(session("s", {"x": 3}))

    async def test_a_timeout_undoes_everything_while_the_block_still_runs(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"x": 1}))
        with pytest.raises(StorageTransactionError) as failure:
            async with storage.transaction(timeout=0.05) as tx:
                await tx.save(session("s", {"x": 2}))
                await asyncio.sleep(0.3)
                outsider = asyncio.create_task(storage.update("s", {"data": {"y": 1}}))
                assert await asyncio.wait_for(outsider, 10) is True
                with pytest.raises(StorageTransactionError):
                    await tx.load("s")
        assert isinstance(failure.value.cause, StorageTimeoutError)
        assert (await stored(storage, "s"))["data"] == {"x": 1, "y": 1}

    async def test_after_a_verb_raised_the_transaction_is_doomed(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"x": 1}))
        with pytest.raises(StorageTransactionError) as failure:
            async with storage.transaction() as tx:
                await tx.update("s", {"data": {"x": 2}})
                with pytest.raises(StorageConflictError) as first:
                    await tx.save(session("s"), expected_version=99)
                for call in (tx.load("s"), tx.save(session("t")), tx.list(), gathered(tx.stream_list())):
                    with pytest.raises(StorageTransactionError):
                        await call
        assert failure.value.cause is first.value
        assert failure.value.retryable is False
        assert (await stored(storage, "s"))["data"] == {"x": 1}
        assert await storage.count() == 1

    async def test_a_refused_argument_dooms_it_too(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageTransactionError):
            async with storage.transaction() as tx:
                await tx.save(session("s"))
                with pytest.raises(StorageValidationError):
                    await tx.save({"id": "x"})
        assert await storage.count() == 0

    async def test_a_transaction_that_is_over_refuses_every_verb(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as committed:
            await committed.save(note("a"))
        with pytest.raises(Upset):
            async with storage.transaction() as undone:
                raise Upset
        for tx in (committed, undone):
            for call in (tx.load("a"), tx.save(note("b")), tx.read(LOG), gathered(tx.stream_list())):
                with pytest.raises(StorageTransactionError):
                    await call
        assert ids(await storage.list()) == ["a"]

    async def test_a_transaction_cannot_be_closed(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as tx:
            await tx.save(note("a"))
            with pytest.raises(StorageTransactionError):
                await tx.close()
        assert await storage.exists("a")

    async def test_nobody_outside_sees_what_is_not_committed(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"x": 1}))
        with pytest.raises(Upset):
            async with storage.transaction() as tx:
                await tx.save(session("s", {"x": 2}))
                await tx.append(LOG, [body(1)])
                # A backend may answer at once, or let the reader wait for the end.
                reader = asyncio.create_task(storage.load("s"))
                entries = asyncio.create_task(storage.read(LOG))
                await asyncio.wait([reader, entries], timeout=0.1)
                raise Upset
        assert ((await reader) or {})["data"] == {"x": 1}
        assert await entries == []

    async def test_one_verb_runs_at_a_time_and_others_queue(self, storage: IUnifiedStorage) -> None:
        async with storage.transaction() as tx:
            await tx.save(session("s"))
            numbers = await together(*(tx.append(LOG, [body(n)]) for n in range(20)))
            await together(*(tx.update("s", {"data": {f"k{n}": n}}) for n in range(20)))
        assert sorted(number for (number,) in numbers) == list(range(1, 21))
        assert (await stored(storage, "s"))["data"] == {f"k{n}": n for n in range(20)}


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
                        await inner.save(session("s2"))
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
