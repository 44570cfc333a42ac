"""Promises about ``batch_save`` and ``batch_delete``: all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from unified_storage.errors import StorageCapacityError, StorageError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import body, gathered, ids, keys, note, save_all, session, stored
from unified_storage.testing.harness import Harness
from unified_storage.testing.naming import named

BATCHES = "batches over partitions"


class BatchPromises(Harness):
    """Many records in one step."""

    async def test_a_batch_is_saved_and_its_ids_come_in_order(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            names = [f"{n * 37 % 100:03}" for n in range(100)]
            assert await storage.batch_save([note(id, {"mine": id}) for id in names]) == names
            assert ids(await storage.list()) == sorted(names)
            assert {record["version"] for record in await storage.list()} == {1}

    async def test_a_batch_makes_the_ids_that_are_missing(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            made = await storage.batch_save([{"type": "note", "data": {"n": n}} for n in range(8)])
            assert len(set(made)) == 8
            assert [(await stored(storage, id))["data"]["n"] for id in made] == [*range(8)]

    async def test_a_batch_saves_as_save_does(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            await storage.save(note("a", {"x": 1}, metadata={"m": 1}))
            before = await stored(storage, "a")
            await storage.batch_save([note("a", {"y": 2}), session("a"), *(note(id) for id in "bcdefg")])
            after = await stored(storage, "a", "note")
            assert (after["data"], after["metadata"], after["version"]) == ({"y": 2}, None, 2)
            assert after["created_at"] == before["created_at"]
            assert after["updated_at"] > before["updated_at"]

    async def test_the_last_of_two_in_one_batch_wins(self, storage: IUnifiedStorage) -> None:
        assert await storage.batch_save([note("a", {"n": 1}), note("a", {"n": 2})]) == ["a", "a"]
        record = await stored(storage, "a")
        assert (record["data"], record["version"]) == ({"n": 2}, 2)

    async def test_a_batch_may_be_empty_or_any_iterable(self, storage: IUnifiedStorage) -> None:
        assert await storage.batch_save([]) == []
        assert await storage.batch_delete([]) == 0
        with self.promised(BATCHES):
            assert await storage.batch_save(note(f"{n}") for n in range(8)) == [f"{n}" for n in range(8)]
            assert await storage.batch_delete(f"{n}" for n in range(8)) == 8

    @pytest.mark.parametrize("wrong", [note("x" * 2000), {"id": "bad"}, note("bad", {"x": object()}), 5], ids=named)
    async def test_one_wrong_record_refuses_the_batch_and_is_named(self, storage: IUnifiedStorage, wrong: Any) -> None:
        await storage.save(note("before"))
        batch = [note(f"{n:03}") for n in range(20)]
        batch.insert(13, wrong)
        with pytest.raises(StorageValidationError) as refusal:
            await storage.batch_save(batch)
        assert refusal.value.details["index"] == 13
        if isinstance(wrong, dict):
            assert refusal.value.details["id"] == wrong["id"]
        assert ids(await storage.list()) == ["before"]

    async def test_one_record_too_large_refuses_the_batch(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageCapacityError) as refusal:
            await storage.batch_save([note("a"), note("b", {"t": "x" * (16 * 1024 * 1024)})])
        assert refusal.value.details["index"] == 1
        assert await storage.count() == 0

    async def test_batch_delete_counts_what_was_there(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            await save_all(storage, [note(f"{n}") for n in range(10)])
            assert await storage.batch_delete(["1", "3", "missing", "1", "5", "7", "9"]) == 5
            assert ids(await storage.list()) == ["0", "2", "4", "6", "8"]

    async def test_batch_delete_takes_logs_along(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            await save_all(storage, [session(f"s{n}") for n in range(8)])
            for n in range(8):
                await storage.append(f"events/s{n}", [body(n)])
            assert await storage.batch_delete([f"s{n}" for n in range(7)]) == 7
            assert await gathered(storage.logs()) == ["events/s7"]

    async def test_batch_delete_keeps_to_its_type(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            await save_all(storage, [make(f"{n}") for n in range(8) for make in (note, session)])
            assert await storage.batch_delete([f"{n}" for n in range(8)], type="note") == 8
            assert {type for _, type in keys(await storage.list())} == {"session"}

    async def test_batch_delete_of_a_shared_id_is_refused_whole(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [*(note(f"{n}") for n in range(8)), session("7")])
        with pytest.raises(StorageError):
            await storage.batch_delete([f"{n}" for n in range(8)])
        assert await storage.count() == 9

    async def test_batch_delete_cascades(self, storage: IUnifiedStorage) -> None:
        with self.promised(BATCHES):
            await save_all(storage, [session(f"s{n}", session_id=f"s{n}") for n in range(8)])
            await save_all(storage, [note(f"under-{n}", session_id=f"s{n}") for n in range(8)])
            assert await storage.batch_delete([f"s{n}" for n in range(7)], cascade=True) == 7
            assert ids(await storage.list()) == ["s7", "under-7"]
