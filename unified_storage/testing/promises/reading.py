"""Promises about what a log holds: reading parts of it, withdrawing, rewriting, listing logs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON
from unified_storage.testing.drafts import bodies, body, gathered, note, save_all, session, stored
from unified_storage.testing.harness import Harness

LOG = "events/s"
PARTS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5, 6]),
    ({"after": 4}, [5, 6]),
    ({"after": 6}, []),
    ({"after": 600}, []),
    ({"before": 3}, [1, 2]),
    ({"before": 1}, []),
    ({"before": 99}, [1, 2, 3, 4, 5, 6]),
    ({"after": 2, "before": 5}, [3, 4]),
    ({"after": 3, "before": 3}, []),
    ({"last": 2}, [5, 6]),
    ({"last": 0}, []),
    ({"last": 99}, [1, 2, 3, 4, 5, 6]),
    ({"before": 5, "last": 2}, [3, 4]),
    ({"after": 4, "last": 5}, [5, 6]),
    ({"limit": 2}, [1, 2]),
    ({"limit": 0}, []),
    ({"after": 2, "limit": 2}, [3, 4]),
    ({"after": 2, "before": 6, "limit": 9}, [3, 4, 5]),
    ({"since": NOON + timedelta(minutes=4)}, [4, 5, 6]),
    ({"since": NOON + timedelta(minutes=4, microseconds=1)}, [5, 6]),
    ({"since": NOON - timedelta(days=1)}, [1, 2, 3, 4, 5, 6]),
    ({"since": NOON + timedelta(minutes=2), "last": 2}, [5, 6]),
    ({"since": NOON + timedelta(minutes=2), "limit": 2}, [2, 3]),
    ({"since": NOON + timedelta(minutes=2), "after": 3, "before": 6}, [4, 5]),
    ({"since": NOON + timedelta(days=1)}, []),
]


class ReadPromises(Harness):
    """Reading parts of a log."""

    async def test_every_part_of_a_log_can_be_read(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(n, created_at=NOON + timedelta(minutes=n)) for n in range(1, 7)])
        for part, expected in PARTS:
            assert [entry["seq"] for entry in await storage.read(LOG, **part)] == expected, part

    async def test_since_looks_at_times_and_not_at_numbers(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        minutes = [5, 1, 9, 3]
        await storage.append(LOG, [body(n, created_at=NOON + timedelta(minutes=n)) for n in minutes])
        since = NOON + timedelta(minutes=4)
        assert [entry["body"] for entry in await storage.read(LOG, since=since)] == [5, 9]
        assert [entry["body"] for entry in await storage.read(LOG, since=since, last=1)] == [9]
        assert [entry["body"] for entry in await storage.read(LOG, since=since, limit=1)] == [5]

    @pytest.mark.parametrize(
        "part",
        [
            *({"after": -1}, {"before": -1}, {"last": -1}, {"limit": -1}, {"last": 1, "limit": 1}, {"after": "1"}),
            *({"since": "2024"}, {"since": datetime(2024, 1, 1)}, {"last": True}, {"limit": 1.0}),  # noqa: DTZ001
        ],
        ids=repr,
    )
    async def test_a_part_that_is_none_is_refused(self, storage: IUnifiedStorage, part: dict[str, Any]) -> None:
        await storage.save(session("s"))
        with pytest.raises(StorageValidationError):
            await storage.read(LOG, **part)

    async def test_a_log_that_never_was_is_empty(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        assert await storage.read(LOG) == []
        assert await storage.pop(LOG) is None
        assert await storage.log_info(LOG) is None
        assert (await stored(storage, "s"))["version"] == 1

    async def test_several_logs_are_read_together(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), session("s2")])
        await storage.append(LOG, [body(1), body(2)])
        await storage.append("events/s2", [body(3)])
        read = await storage.read_many([LOG, "events/s2", "events/none"])
        assert {name: [entry["body"] for entry in entries] for name, entries in read.items()} == {
            LOG: [1, 2],
            "events/s2": [3],
            "events/none": [],
        }
        assert read[LOG] == await storage.read(LOG)

    async def test_the_newest_entries_of_several_logs_are_read_together(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), session("s2"), session("s3")])
        await storage.append(LOG, [body(n) for n in (1, 2, 3)])
        await storage.pop(LOG)
        await storage.append("events/s2", [body(4)])
        await storage.append("events/s3", [body(5)])
        await storage.pop("events/s3")
        wanted = [LOG, "events/s2", "events/s3", "events/none"]
        for last in (0, 1, 2, 5):
            read = await storage.read_many(wanted, last=last)
            assert read == {log_id: await storage.read(log_id, last=last) for log_id in wanted}
        async with storage.transaction() as tx:
            await tx.append(LOG, [body(6)])
            assert [entry["body"] for entry in (await tx.read_many([LOG], last=2))[LOG]] == [2, 6]

    async def test_the_oldest_entries_of_several_logs_are_read_together(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), session("s2"), session("s3")])
        await storage.append(LOG, [body(n) for n in (1, 2, 3)])
        await storage.append("events/s2", [body(n) for n in (4, 5, 6)], keep_last=2)
        await storage.append("events/s3", [body(7)])
        await storage.pop("events/s3")
        wanted = [LOG, "events/s2", "events/s3", "events/none"]
        for limit in (0, 1, 2, 5):
            read = await storage.read_many(wanted, limit=limit)
            assert read == {log_id: await storage.read(log_id, limit=limit) for log_id in wanted}
        with pytest.raises(StorageValidationError):
            await storage.read_many(wanted, last=1, limit=1)
        async with storage.transaction() as tx:
            await tx.pop(LOG)
            assert [entry["body"] for entry in (await tx.read_many([LOG], limit=5))[LOG]] == [1, 2]


class WithdrawPromises(Harness):
    """``pop`` and ``rewrite``."""

    async def test_pop_withdraws_the_newest_entry(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "a"), body(2, "b")])
        newest = (await storage.read(LOG))[-1]
        assert await storage.pop(LOG) == newest
        assert await bodies(storage, LOG) == [1]
        assert (await stored(storage, "s"))["version"] == 3

    async def test_popping_an_empty_log_is_none_and_changes_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1)])
        await storage.pop(LOG)
        before = await stored(storage, "s")
        assert await storage.pop(LOG) is None
        assert await stored(storage, "s") == before
        assert await storage.log_info(LOG) == {"first_seq": None, "last_seq": 1, "count": 0}

    async def test_no_number_is_ever_used_twice(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(n) for n in (1, 2, 3)])
        await storage.pop(LOG)
        assert await storage.append(LOG, [body("after pop")]) == [4]
        assert [entry["seq"] for entry in await storage.read(LOG)] == [1, 2, 4]
        assert await storage.rewrite(LOG, [body("x"), body("y")]) == [5, 6]
        assert await storage.append(LOG, [body("z")], keep_last=1) == [7]
        assert await storage.rewrite(LOG, []) == []
        assert await storage.append(LOG, [body("last")]) == [8]
        assert await storage.log_info(LOG) == {"first_seq": 8, "last_seq": 8, "count": 1}

    async def test_rewrite_replaces_all_entries(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "a"), body(2, "b")])
        then = NOON - timedelta(days=1)
        assert await storage.rewrite(LOG, [body(3, "b", created_at=then), body(4)]) == [3, 4]
        entries = await storage.read(LOG)
        assert [(entry["seq"], entry["key"], entry["body"]) for entry in entries] == [(3, "b", 3), (4, None, 4)]
        assert entries[0]["created_at"] == then
        assert (await stored(storage, "s"))["version"] == 3

    async def test_rewrite_with_nothing_empties_a_log(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1), body(2)])
        assert await storage.rewrite(LOG, []) == []
        assert await bodies(storage, LOG) == []
        assert await storage.log_info(LOG) == {"first_seq": None, "last_seq": 2, "count": 0}

    async def test_rewrite_may_begin_a_log(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        assert await storage.rewrite(LOG, [body(1), body(2)]) == [1, 2]
        assert await bodies(storage, LOG) == [1, 2]

    async def test_saving_the_owner_again_leaves_its_logs(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"x": 1}))
        await storage.append(LOG, [body(1)])
        await storage.save(session("s", {"x": 2}))
        await storage.update("s", {"data": {"y": 1}})
        assert await bodies(storage, LOG) == [1]
        assert await storage.append(LOG, [body(2)]) == [2]


class LogListPromises(Harness):
    """``logs``."""

    async def test_logs_are_listed_by_code_point(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), session("S"), session("é"), note("s")])
        names = ["Events/s", "events/S", "events/s", "events/é", "events@note/s", "runs/s"]
        for name in reversed(names):
            await storage.append(name, [body(1)])
        assert await gathered(storage.logs()) == names

    async def test_a_prefix_chooses_among_logs(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), session("s2"), session("S")])
        for name in ("events/s", "events/s2", "events/S", "eventsx/s", "Events/s", "e_x/s", "runs/s"):
            await storage.append(name, [body(1)])
        assert await gathered(storage.logs("events/")) == ["events/S", "events/s", "events/s2"]
        assert await gathered(storage.logs("events/s")) == ["events/s", "events/s2"]
        assert await gathered(storage.logs("e_")) == ["e_x/s"]
        assert await gathered(storage.logs("e%")) == []
        assert await gathered(storage.logs("events/s2")) == ["events/s2"]
        assert await gathered(storage.logs("zzz")) == []

    async def test_many_logs_come_in_batches_each_once(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        names = [f"{n:04}/s" for n in range(250)]
        async with storage.transaction() as tx:
            for name in names:
                await tx.append(name, [body(1)])
        batches = [batch async for batch in storage.logs()]
        assert [name for batch in batches for name in batch] == names
        assert all(batches)

    async def test_an_emptied_log_is_still_listed(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1)])
        await storage.pop(LOG)
        assert await gathered(storage.logs()) == [LOG]
