"""Promises about ``restore``: an import keeps times, numbers and keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from unified_storage.errors import StorageError, StorageNotFoundError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import bodies, body, gathered, ids, note, session, stored
from unified_storage.testing.harness import Harness

OLD = datetime(2019, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)
LOG = "events/s"


def old_session(id: str = "s", data: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A session of long ago, with its times."""
    return session(id, data, **{"created_at": OLD, "updated_at": OLD + timedelta(days=1), **fields})


def entry(seq: int, value: Any, key: str | None = None) -> dict[str, Any]:
    """An entry as ``read`` gives it."""
    return {"seq": seq, "key": key, "created_at": OLD + timedelta(minutes=seq), "body": value}


def log(*entries: dict[str, Any], log_id: str = LOG, last_seq: int | None = None) -> dict[str, Any]:
    """A log as ``restore`` takes it."""
    newest = entries[-1]["seq"] if entries else 0
    return {"log_id": log_id, "last_seq": newest if last_seq is None else last_seq, "entries": list(entries)}


class RestorePromises(Harness):
    """Importing records and logs as they were."""

    async def test_records_keep_their_times_and_get_a_version(self, timed: IUnifiedStorage) -> None:
        expires = NOON + timedelta(days=1)
        record = old_session(data={"x": 1}, metadata={"m": 1}, session_id="s", thread_id="t", expires_at=expires)
        assert await timed.restore([record | {"version": 70}]) == 1
        assert await stored(timed, "s") == record | {"version": 1}

    async def test_restored_over_a_record_the_version_goes_on(self, timed: IUnifiedStorage) -> None:
        await timed.save(session("s", {"x": 1, "y": 2}, metadata={"m": 1}))
        await timed.update("s", {})
        await timed.restore([old_session(data={"z": 3})])
        record = await stored(timed, "s")
        assert (record["version"], record["data"], record["metadata"]) == (3, {"z": 3}, None)
        assert (record["created_at"], record["updated_at"]) == (OLD, OLD + timedelta(days=1))
        await timed.restore([old_session(data={"z": 3})])
        assert (await stored(timed, "s"))["version"] == 4

    async def test_any_aware_time_is_kept_as_its_instant(self, storage: IUnifiedStorage) -> None:
        india = OLD.astimezone(timezone(timedelta(hours=5, minutes=30)))
        await storage.restore([old_session(created_at=india, updated_at=datetime(1, 1, 1, tzinfo=UTC))])
        record = await stored(storage, "s")
        assert (record["created_at"], record["updated_at"]) == (OLD, datetime(1, 1, 1, tzinfo=UTC))

    async def test_logs_keep_numbers_keys_and_times_and_go_on_behind_them(self, timed: IUnifiedStorage) -> None:
        entries = [entry(3, "three", "k"), entry(5, {"five": 5})]
        assert await timed.restore([old_session()], [log(*entries, last_seq=9)]) == 1
        assert await timed.read(LOG) == entries
        assert await timed.log_info(LOG) == {"first_seq": 3, "last_seq": 9, "count": 2}
        record = await stored(timed, "s")
        assert (record["version"], record["updated_at"]) == (1, OLD + timedelta(days=1))
        assert await timed.append(LOG, [body("new"), body("again", "k")], on_duplicate="skip") == [10, 3]

    async def test_an_empty_log_keeps_its_counter(self, storage: IUnifiedStorage) -> None:
        await storage.restore([old_session()], [log(last_seq=4)])
        assert await storage.log_info(LOG) == {"first_seq": None, "last_seq": 4, "count": 0}
        assert await storage.append(LOG, [body(1)]) == [5]

    async def test_a_named_log_is_replaced_whole_and_others_stay(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body("old", "a"), body("older", "b")])
        await storage.append("runs/s", [body("stays")])
        await storage.restore([old_session()], [log(entry(1, "new", "b"))])
        assert await storage.read(LOG) == [entry(1, "new", "b")]
        assert await bodies(storage, "runs/s") == ["stays"]
        assert await storage.append(LOG, [body("free", "a")]) == [2]

    async def test_a_log_of_a_record_that_is_stored_can_come_alone(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        assert await storage.restore([], [log(entry(1, "x"))]) == 0
        assert await bodies(storage, LOG) == ["x"]

    async def test_a_log_without_an_owner_is_refused_with_everything(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageNotFoundError):
            await storage.restore([], [log(entry(1, "x"), log_id="events/nobody")])
        with pytest.raises(StorageError):
            await storage.restore([old_session()], [log(entry(1, "x"), log_id="events/nobody")])
        assert await gathered(storage.logs()) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            log(entry(2, "x"), entry(1, "y")),
            log(entry(1, "x"), entry(1, "y")),
            log(entry(0, "x")),
            log(entry(5, "x"), last_seq=4),
            log(entry(1, "x"), last_seq=1 << 53),
            log(entry(1, "x", "k"), entry(2, "y", "k")),
            log({"seq": 1, "body": 1}),
            log({"body": 1, "created_at": OLD, "seq": "1"}),
            log(entry(1, object())),
            {"log_id": LOG, "entries": []},
            log(log_id="no log id"),
            5,
        ],
        ids=lambda wrong: ascii(wrong)[:60],
    )
    async def test_a_log_that_is_none_is_refused_before_anything_is_written(
        self, storage: IUnifiedStorage, wrong: Any
    ) -> None:
        with pytest.raises(StorageValidationError):
            await storage.restore([old_session()], [wrong])
        assert await storage.count() == 0

    @pytest.mark.parametrize("updated_at", ["2024-01-01", OLD.replace(tzinfo=None), 5], ids=repr)
    async def test_a_time_that_is_none_is_refused(self, storage: IUnifiedStorage, updated_at: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.restore([old_session(updated_at=updated_at)])
        assert await storage.count() == 0

    async def test_a_record_that_is_none_is_refused_before_anything_is_written(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageValidationError) as refusal:
            await storage.restore([old_session("a"), old_session("b") | {"colour": 1}])
        assert refusal.value.details["index"] == 1
        assert await storage.count() == 0

    async def test_many_records_come_in_one_call(self, storage: IUnifiedStorage) -> None:
        records = (old_session(f"{n:03}") for n in range(120))
        logs = (log(entry(1, n), log_id=f"events/{n:03}") for n in range(120))
        assert await storage.restore(records, logs) == 120
        assert ids(await storage.list()) == [f"{n:03}" for n in range(120)]
        assert await bodies(storage, "events/007") == [7]

    async def test_an_expired_record_is_restored_as_expired(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.restore([old_session(expires_at=NOON - timedelta(days=1))], [log(entry(1, "x"))])
        assert await timed.load("s") is None
        clock.now = NOON - timedelta(days=2)
        assert await bodies(timed, LOG) == ["x"]
        clock.now = NOON
        assert await timed.purge_expired() == 1

    async def test_restored_over_an_expired_record_it_is_a_new_one(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        await timed.save(session("s", expires_at=NOON + timedelta(hours=1)))
        await timed.append(LOG, [body("old")])
        clock.advance(days=1)
        with pytest.raises(StorageNotFoundError):
            await timed.restore([], [log(entry(1, "x"))])
        await timed.restore([old_session()], [log(entry(1, "x"), log_id="runs/s")])
        assert (await stored(timed, "s"))["version"] == 1
        assert await timed.log_info(LOG) is None
        assert await bodies(timed, "runs/s") == ["x"]

    async def test_a_store_can_be_carried_over(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", {"n": 2**70}, metadata={"m": 1}))
        await storage.append(LOG, [body(n, f"k{n}") for n in range(1, 6)], keep_last=3)
        await storage.save(note("n", created_at=OLD))
        records, entries, info = await storage.list(), await storage.read(LOG), await storage.log_info(LOG)
        assert info is not None
        await storage.delete("s")
        await storage.delete("n")
        await storage.restore([records[0]])
        await storage.restore(records[1:], [{"log_id": LOG, "last_seq": info["last_seq"], "entries": entries}])
        same = [record | {"version": 1} for record in records]
        assert await storage.list() == same
        assert await storage.read(LOG) == entries
        assert await storage.log_info(LOG) == info
