"""Promises about upkeep: clean-up by age, health, closing, reopening."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from unified_storage.errors import StorageClosedError, StorageTransactionError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import bodies, body, gathered, ids, note, save_all, session, stored
from unified_storage.testing.harness import Harness, OpenStore

VERBS: dict[str, Callable[[IUnifiedStorage], Any]] = {
    "save": lambda storage: storage.save(session("s")),
    "load": lambda storage: storage.load("s"),
    "update": lambda storage: storage.update("s", {}),
    "delete": lambda storage: storage.delete("s"),
    "exists": lambda storage: storage.exists("s"),
    "list": lambda storage: storage.list(),
    "page": lambda storage: storage.page(),
    "stream_list": lambda storage: gathered(storage.stream_list()),
    "query": lambda storage: storage.query(""),
    "count": lambda storage: storage.count(),
    "batch_save": lambda storage: storage.batch_save([note("a")]),
    "batch_delete": lambda storage: storage.batch_delete(["a"]),
    "get_by_session": lambda storage: storage.get_by_session("s"),
    "get_by_thread": lambda storage: storage.get_by_thread("t"),
    "append": lambda storage: storage.append("events/s", [body(1)]),
    "pop": lambda storage: storage.pop("events/s"),
    "read": lambda storage: storage.read("events/s"),
    "read_many": lambda storage: storage.read_many(["events/s"]),
    "rewrite": lambda storage: storage.rewrite("events/s", []),
    "log_info": lambda storage: storage.log_info("events/s"),
    "logs": lambda storage: gathered(storage.logs()),
    "restore": lambda storage: storage.restore([note("a", created_at=NOON, updated_at=NOON)]),
    "cleanup_old_data": lambda storage: storage.cleanup_old_data(1),
    "purge_expired": lambda storage: storage.purge_expired(),
    "examine": lambda storage: gathered(storage.examine()),
    "health_check": lambda storage: storage.health_check(),
}
"""A call of every verb, by its name; each of them works on a storage that holds a session ``s``."""


async def _save_idle_and_active_sessions(timed: IUnifiedStorage, clock: ManualClock) -> None:
    """Sessions idle for 40 days, active ones, and notes under both."""
    clock.now = NOON - timedelta(days=40)
    await save_all(timed, [session(id, session_id=id) for id in ("idle", "updated", "appended", "kept")])
    await save_all(timed, [note("under-idle", session_id="idle"), note("alone"), note("under-kept", session_id="kept")])
    await timed.append("events/idle", [body(1)])
    await timed.append("events/appended", [body(1)])
    clock.now = NOON
    await timed.update("updated", {"data": {"x": 1}})
    await timed.append("events/appended", [body(2)])
    await timed.save(session("kept"))


class CleanupPromises(Harness):
    """``cleanup_old_data``."""

    async def test_clean_up_goes_by_the_last_activity(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        """S2.30, T2.24."""
        await _save_idle_and_active_sessions(timed, clock)
        assert await timed.cleanup_old_data(30) == 1
        assert ids(await timed.list()) == ["alone", "appended", "kept", "under-kept", "updated"]
        assert await gathered(timed.logs()) == ["events/appended"]
        assert await timed.cleanup_old_data(30) == 0

    async def test_a_dry_run_only_counts(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await _save_idle_and_active_sessions(timed, clock)
        before = await timed.list()
        assert await timed.cleanup_old_data(30, dry_run=True) == 1
        assert await timed.list() == before

    async def test_clean_up_keeps_to_its_type(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await _save_idle_and_active_sessions(timed, clock)
        assert await timed.cleanup_old_data(30, type="note") == 3
        assert ids(await timed.list()) == ["appended", "idle", "kept", "updated"]

    async def test_what_is_exactly_as_old_as_allowed_stays(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.save(session("s"))
        clock.advance(days=7)
        assert await timed.cleanup_old_data(7) == 0
        clock.advance(microseconds=1)
        assert await timed.cleanup_old_data(7) == 1

    async def test_clean_up_of_many_goes_in_batches(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await save_all(timed, [session(f"{n:03}") for n in range(230)])
        clock.advance(days=2)
        await timed.save(session("new"))
        assert await timed.cleanup_old_data(1) == 230
        assert ids(await timed.list()) == ["new"]

    async def test_what_is_made_anew_during_a_clean_up_stays(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        """It has the version 1 again, as when the clean-up listed it."""
        names = [f"{n:02}" for n in range(40)]

        async def make_anew() -> None:
            for name in reversed(names):  # the clean-up comes from the other end
                await timed.delete(name, type="session")
                await timed.save(session(name, {"new": True}))

        for _ in range(3):
            await save_all(timed, [session(name) for name in names])
            clock.advance(days=2)
            await asyncio.gather(timed.cleanup_old_data(1), make_anew())
            assert ids(await timed.list()) == names

    @pytest.mark.parametrize("days", [0, -1, 1.5, "7", True], ids=repr)
    async def test_days_that_are_none_are_refused(self, storage: IUnifiedStorage, days: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.cleanup_old_data(days)
        with pytest.raises(StorageValidationError):
            await storage.cleanup_old_data(days, dry_run=True)

    async def test_system_records_go_only_when_they_are_named(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.save({"id": "sys", "type": "_copy", "data": {}})
        clock.advance(days=99)
        assert await timed.cleanup_old_data(1) == 0
        assert await timed.cleanup_old_data(1, type="_copy") == 1


class LifetimePromises(Harness):
    """Health, closing, reopening."""

    async def test_health_says_what_it_is_and_how_fast(self, storage: IUnifiedStorage) -> None:
        """S2.31."""
        health = await storage.health_check()
        assert health["status"] == "ok"
        assert isinstance(health["backend"], str)
        assert health["latency_ms"] >= 0
        assert "password" not in json.dumps(health).lower()

    async def test_what_verbs_alone_have_written_has_no_findings(self, open_store: OpenStore) -> None:
        """S2.43: nothing is found, and nothing touched, also where it could be mended."""
        async with open_store(indexed={"note": ["data.n"]}) as storage:
            await save_all(storage, [session(id, {"n": 1}, metadata={"user_id": id}) for id in "stu"])
            await save_all(storage, [note(id, {"n": id}, session_id="s", thread_id="t") for id in "abc"])
            await storage.append("events/s", [body(n, f"k{n}") for n in range(5)], keep_last=3)
            await storage.append("events@note/a", [body(1)])
            await storage.pop("events/s")
            await storage.rewrite("events@note/a", [])
            await storage.update("t", {"metadata": {"user_id": "x"}, "expires_at": NOON})
            await storage.delete("b", type="note")
            async with storage.transaction() as tx:
                await tx.append("events/u", [body(1)])
                await tx.save(session("u"))
            before = await storage.list(), await storage.read("events/s"), await gathered(storage.logs())
            assert await gathered(storage.examine(repair=True)) == []
            assert (await storage.list(), await storage.read("events/s"), await gathered(storage.logs())) == before

    async def test_inside_a_transaction_a_store_is_not_examined(self, storage: IUnifiedStorage) -> None:
        with pytest.raises(StorageTransactionError):
            async with storage.transaction() as tx:
                with pytest.raises(StorageTransactionError):
                    await gathered(tx.examine())

    @pytest.mark.parametrize("verb", VERBS)
    async def test_every_verb_works_while_open_and_is_refused_when_closed(
        self, open_store: OpenStore, verb: str
    ) -> None:
        storage = open_store()
        try:
            await storage.save(session("s"))
            await VERBS[verb](storage)
        finally:
            await storage.close()
        with pytest.raises(StorageClosedError):
            await VERBS[verb](storage)

    async def test_a_closed_storage_begins_no_transaction(self, storage: IUnifiedStorage) -> None:
        await storage.close()
        with pytest.raises(StorageClosedError):
            async with storage.transaction():
                raise AssertionError("a transaction began")
        with pytest.raises(StorageClosedError):
            await storage.transaction([{"type": "load", "id": "a"}])
        with pytest.raises(StorageClosedError):
            await storage.atomically(lambda tx: tx.load("a"))

    async def test_closing_twice_is_fine(self, storage: IUnifiedStorage) -> None:
        await storage.close()
        await storage.close()

    async def test_closing_what_was_never_used_is_fine(self, open_store: OpenStore) -> None:
        await open_store().close()

    async def test_a_block_opens_and_closes(self, open_store: OpenStore) -> None:
        async with open_store() as storage:
            await storage.save(note("a"))
            assert isinstance(storage, IUnifiedStorage)
        with pytest.raises(StorageClosedError):
            await storage.load("a")

    async def test_what_was_stored_is_there_when_it_is_opened_again(self, open_store: OpenStore) -> None:
        async with open_store() as storage:
            await storage.save(session("s", {"n": 2**63, "t": "é\x00"}, metadata={"m": 1}))
            await storage.append("events/s", [body(1, "k"), body({"x": [1.5]})])
            await storage.pop("events/s")
            record, entries = await stored(storage, "s"), await storage.read("events/s")
        async with open_store() as again:
            if "persistence" in self.missing:
                assert await again.count() == 0
                return
            assert await stored(again, "s") == record
            assert await again.read("events/s") == entries
            assert await again.append("events/s", [body(3)]) == [3]

    async def test_two_storages_open_at_once_see_each_others_writes(self, open_store: OpenStore) -> None:
        async with open_store() as one, open_store() as other:
            await one.save(session("s", {"n": 1}))
            if "persistence" in self.missing:
                assert await other.load("s") is None
                return
            assert (await stored(other, "s"))["data"] == {"n": 1}
            await other.update("s", {"data": {"n": 2}})
            await other.append("events/s", [body("theirs")])
            assert (await stored(one, "s"))["data"] == {"n": 2}
            assert await bodies(one, "events/s") == ["theirs"]
            assert await one.append("events/s", [body("ours")]) == [2]
