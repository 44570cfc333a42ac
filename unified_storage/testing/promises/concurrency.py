"""Promises about many tasks, threads and event loops at once, and about calls that are cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from unified_storage.errors import StorageConflictError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, note, save_all, session, stored, together
from unified_storage.testing.harness import Harness

LOG = "events/s"


async def patiently(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat a call until no engine conflict undoes it."""
    for _ in range(200):
        try:
            await call()
            return
        except StorageConflictError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(random.uniform(0, 0.01))
    raise AssertionError("200 conflicts in a row")


async def _slow_increment(storage: IUnifiedStorage) -> None:
    async with storage.transaction() as tx:
        record = await tx.load("counter", type="note")
        await asyncio.sleep(0.05)
        await tx.save(note("counter", {"n": (record["data"]["n"] if record else 0) + 1}))


def _numbers_in(record: dict[str, Any]) -> set[int]:
    return {record["data"]["left"], record["data"]["right"], record["metadata"]["n"]}


class IsolationPromises(Harness):
    """No lost update, whoever else is writing."""

    async def test_twenty_increments_in_transactions_make_twenty(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("counter", {"n": 0}))

        async def increment() -> None:
            async with storage.transaction() as tx:
                n = (await stored(tx, "counter"))["data"]["n"]
                await asyncio.sleep(0)
                await tx.save(note("counter", {"n": n + 1}))

        await together(*(patiently(increment) for _ in range(20)))
        assert (await stored(storage, "counter"))["data"] == {"n": 20}

    async def test_a_read_that_found_nothing_counts_as_a_read(self, storage: IUnifiedStorage) -> None:
        async def increment() -> None:
            async with storage.transaction() as tx:
                record = await tx.load("counter", type="note")
                await asyncio.sleep(0)
                await tx.save(note("counter", {"n": 1 if record is None else record["data"]["n"] + 1}))

        await together(*(patiently(increment) for _ in range(12)))
        record = await stored(storage, "counter")
        assert (record["data"], record["version"]) == ({"n": 12}, 12)

    async def test_two_that_read_before_either_writes_never_both_win(self, storage: IUnifiedStorage) -> None:
        for existing in (True, False):
            if existing:
                await storage.save(note("counter", {"n": 0}))
            outcomes = await asyncio.gather(*(_slow_increment(storage) for _ in range(2)), return_exceptions=True)
            errors = [outcome for outcome in outcomes if outcome is not None]
            assert all(isinstance(error, StorageConflictError) and error.retryable for error in errors)
            assert (await stored(storage, "counter"))["data"] == {"n": 2 - len(errors)}
            await storage.delete("counter")

    async def test_transactions_that_read_a_log_before_they_append_lose_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))

        async def number_the_next() -> None:
            async with storage.transaction() as tx:
                info = await tx.log_info(LOG)
                await asyncio.sleep(0)
                await tx.append(LOG, [body((info["count"] if info else 0) + 1)])

        await together(*(patiently(number_the_next) for _ in range(12)))
        assert await bodies(storage, LOG) == list(range(1, 13))

    async def test_atomically_hides_conflicts(self, storage: IUnifiedStorage) -> None:
        async def increment(tx: IUnifiedStorage) -> None:
            record = await tx.load("counter", type="note")
            await tx.save(note("counter", {"n": (record["data"]["n"] if record else 0) + 1}))

        await together(*(storage.atomically(increment, attempts=100) for _ in range(20)))
        assert (await stored(storage, "counter"))["data"] == {"n": 20}

    async def test_updates_and_appends_of_one_record_never_disturb_each_other(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        updates = [storage.update("s", {"data": {f"k{n}": n}}) for n in range(40)]
        appends = [storage.append(LOG, [body(n)]) for n in range(40)]
        await together(*(call for pair in zip(updates, appends, strict=True) for call in pair))
        record = await stored(storage, "s")
        assert record["data"] == {f"k{n}": n for n in range(40)}
        assert record["version"] == 81
        assert [entry["seq"] for entry in await storage.read(LOG)] == list(range(1, 41))

    async def test_single_verbs_and_transactions_share_one_record(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))

        async def increment(tx: IUnifiedStorage) -> None:
            n = (await stored(tx, "s"))["data"].get("n", 0)
            await tx.update("s", {"data": {"n": n + 1}})

        await together(
            *(storage.atomically(increment, attempts=100) for _ in range(10)),
            *(storage.update("s", {"data": {f"k{n}": n}}) for n in range(10)),
        )
        assert (await stored(storage, "s"))["data"] == {"n": 10} | {f"k{n}": n for n in range(10)}

    async def test_of_many_with_one_expected_version_one_wins(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        calls: list[Awaitable[Any]] = [storage.save(session("s"), expected_version=1) for _ in range(5)]
        calls += [storage.update("s", {}, expected_version=1) for _ in range(5)]
        calls += [storage.append(LOG, [body(1)], expected_version=1) for _ in range(5)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(errors) == 14
        assert all(isinstance(error, StorageConflictError) and not error.retryable for error in errors)
        assert (await stored(storage, "s"))["version"] == 2

    async def test_readers_see_whole_versions_only(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"left": 0, "right": 0}, metadata={"n": 0}))
        halves: list[Any] = []

        async def write(writer: int) -> None:
            for n in range(15):
                value = writer * 100 + n
                await storage.save(note("a", {"left": value, "right": value}, metadata={"n": value}))

        async def watch() -> None:
            for _ in range(30):
                record = await stored(storage, "a")
                (listed,) = await storage.list()
                halves.extend(seen for seen in (record, listed) if len(_numbers_in(seen)) != 1)

        await together(*(write(writer) for writer in range(5)), *(watch() for _ in range(5)))
        assert halves == []
        assert (await stored(storage, "a"))["version"] == 76

    async def test_two_hundred_tasks_of_every_kind_end_without_an_error(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session(f"s{n}") for n in range(5)])

        async def work(n: int) -> None:
            id = f"s{n % 5}"
            match n % 8:
                case 0:
                    await storage.save(session(id, {"n": n}))
                case 1:
                    await storage.update(id, {"data": {"n": n}})
                case 2:
                    await storage.append(f"events/{id}", [body(n)])
                case 3:
                    await storage.list({"type": "session"})
                case 4:
                    await storage.read(f"events/{id}")
                case 5:
                    await storage.page(limit=2)
                case 6:
                    await storage.pop(f"runs/{id}")
                case _:
                    await storage.batch_save([note(f"n{n}")])

        await together(*(work(n) for n in range(200)))
        assert await storage.count({"type": "session"}) == 5
        assert await storage.count({"type": "note"}) == 25
        numbers = [entry["seq"] for n in range(5) for entry in await storage.read(f"events/s{n}")]
        assert sorted(numbers) == sorted([*range(1, 6)] * 5)


class CancellationPromises(Harness):
    """A cancelled verb is wholly done or not done, and hurts nobody else."""

    async def test_a_cancelled_append_is_wholly_done_or_not_done(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        chance = random.Random(5)
        for call in range(40):
            task = asyncio.create_task(storage.append(LOG, [body(call), body(call), body(call)]))
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            seen = (await bodies(storage, LOG)).count(call)
            assert seen in (0, 3)
            await asyncio.sleep(0.001)
            assert (await bodies(storage, LOG)).count(call) == seen, "it went on after it had ended"
        found = await bodies(storage, LOG)
        assert [entry["seq"] for entry in await storage.read(LOG)] == list(range(1, len(found) + 1))
        assert (await stored(storage, "s"))["version"] == 1 + len(found) // 3
        assert await storage.append(LOG, [body("after")]) == [len(found) + 1]

    async def test_a_cancelled_batch_is_wholly_done_or_not_done(self, storage: IUnifiedStorage) -> None:
        with self.promised("batches over partitions"):
            chance = random.Random(6)
            for call in range(30):
                task = asyncio.create_task(storage.batch_save([note(f"{call:02}-{n}") for n in range(8)]))
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() * 0.003)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await storage.count({"id": {"$like": f"{call:02}-%"}}) in (0, 8)
            # One that nobody cancels, so that a storage without batches cannot pass by being slow to refuse.
            await storage.batch_save([note(f"whole-{n}") for n in range(8)])

    async def test_cancelled_transactions_leave_the_storage_free(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"n": 0}))
        chance = random.Random(7)

        async def work() -> None:
            async with storage.transaction() as tx:
                await tx.update("s", {"data": {"n": (await stored(tx, "s"))["data"]["n"] + 1}})
                await tx.append(LOG, [body(1)])

        for _ in range(30):
            task = asyncio.create_task(work())
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        record, entries = await stored(storage, "s"), await bodies(storage, LOG)
        assert record["data"]["n"] == len(entries)
        assert record["version"] == 1 + 2 * len(entries)
        await asyncio.wait_for(work(), 10)

    async def test_who_waits_and_is_cancelled_keeps_nobody_waiting(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        async with storage.transaction() as tx:
            await tx.update("a", {})
            waiting = [asyncio.create_task(storage.update("a", {"data": {f"k{n}": n}})) for n in range(6)]
            await asyncio.wait(waiting, timeout=0.05)
            for task in waiting[::2]:
                task.cancel()
            await asyncio.wait(waiting[::2], timeout=5)
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        assert outcomes[1::2] == [True] * 3
        assert {"k1", "k3", "k5"} <= (await stored(storage, "a"))["data"].keys()


class ThreadPromises(Harness):
    """A storage opened once serves several threads and event loops."""

    async def test_several_threads_with_loops_of_their_own_lose_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))

        async def work(thread: int) -> None:
            for n in range(8):
                await storage.append(LOG, [body([thread, n])])
                await storage.update("s", {"data": {f"{thread}-{n}": n}})
                await storage.save(note(f"{thread}-{n}"))

        await together(*(asyncio.to_thread(asyncio.run, work(thread)) for thread in range(4)), work(4))
        entries = await storage.read(LOG)
        assert [entry["seq"] for entry in entries] == list(range(1, 41))
        for thread in range(5):
            assert [entry["body"][1] for entry in entries if entry["body"][0] == thread] == list(range(8))
        assert len((await stored(storage, "s"))["data"]) == 40
        assert await storage.count({"type": "note"}) == 40

    async def test_transactions_of_several_threads_exclude_each_other(self, storage: IUnifiedStorage) -> None:
        async def increment() -> None:
            async with storage.transaction() as tx:
                record = await tx.load("counter", type="note")
                await asyncio.sleep(0.001)
                await tx.save(note("counter", {"n": (record["data"]["n"] if record else 0) + 1}))

        async def work() -> None:
            for _ in range(4):
                await patiently(increment)

        await together(*(asyncio.to_thread(asyncio.run, work()) for _ in range(4)))
        assert (await stored(storage, "counter"))["data"] == {"n": 16}

    async def test_a_loop_that_is_gone_leaves_the_storage_usable(self, storage: IUnifiedStorage) -> None:
        async def leave_things_open() -> None:
            stream = storage.stream_list(batch_size=1)
            await anext(stream)
            task = asyncio.create_task(storage.update("a", {"data": {"x": 1}}))
            await asyncio.sleep(0)
            del task, stream

        await save_all(storage, [note(id) for id in "abc"])
        for _ in range(3):
            await asyncio.to_thread(asyncio.run, leave_things_open())
        assert await asyncio.wait_for(storage.update("a", {"data": {"y": 1}}), 10) is True
        async with asyncio.timeout(10), storage.transaction() as tx:
            await tx.save(note("d"))
        assert await storage.count() == 4
        with pytest.raises(StopAsyncIteration):
            await anext(storage.stream_list(after="d"))
