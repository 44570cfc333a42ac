"""Promises about ``async with storage.transaction() as tx``."""

from __future__ import annotations

import asyncio

import pytest

from unified_storage.errors import (
    StorageConflictError,
    StorageTimeoutError,
    StorageTransactionError,
    StorageValidationError,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, gathered, ids, note, save_all, session, stored, together
from unified_storage.testing.harness import Harness

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
        """S2.27."""
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
        """S2.26."""
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
