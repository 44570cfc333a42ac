"""Promises about ``expires_at``: what is past is invisible everywhere, and goes with ``purge_expired``."""

from __future__ import annotations

from datetime import timedelta

import pytest

from unified_storage.errors import StorageConflictError, StorageNotFoundError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import bodies, body, gathered, ids, keys, note, save_all, session, stored
from unified_storage.testing.harness import Harness

SOON = NOON + timedelta(minutes=1)
LOG = "events/s"


async def _let_a_session_expire(timed: IUnifiedStorage, clock: ManualClock) -> None:
    """A session with a log, and a note beside it; then the session's time is over."""
    await timed.save(session("s", {"x": 1}, session_id="s", thread_id="t", expires_at=SOON))
    await timed.save(note("beside"))
    await timed.append(LOG, [body(1), body(2)])
    clock.advance(minutes=1, microseconds=1)


class ExpiryPromises(Harness):
    """Records that end by themselves."""

    async def test_a_record_is_there_until_its_time(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.save(note("a", expires_at=SOON))
        clock.advance(seconds=59)
        assert (await stored(timed, "a"))["expires_at"] == SOON
        assert await timed.update("a", {"data": {"x": 1}}) is True
        clock.advance(seconds=2)
        assert await timed.load("a") is None

    async def test_an_expired_record_is_seen_by_no_verb(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await _let_a_session_expire(timed, clock)
        assert await timed.load("s") is None
        assert await timed.load("s", type="session") is None
        assert await timed.exists("s") is False
        assert ids(await timed.list()) == ["beside"]
        assert await timed.list({"type": "session"}) == []
        named = {"id": {"$in": ["s", "beside"]}, "type": {"$in": ["session", "note"]}}
        assert ids(await timed.list(named)) == ["beside"]
        assert await timed.list({"expires_at": {"$lt": clock()}}) == []
        assert ids((await timed.page()).items) == ["beside"]
        assert (await timed.page({"type": "session"})).items == []
        assert ids(await gathered(timed.stream_list())) == ["beside"]
        assert await timed.query("type = 'session'") == []
        assert await timed.count() == 1
        assert await timed.get_by_session("s") == []
        assert await timed.get_by_thread("t") == []

    async def test_of_two_types_with_one_id_the_living_one_is_counted(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        await timed.save(note("a", metadata={"status": "x"}, expires_at=SOON))
        await timed.save(session("a", metadata={"status": "x"}))
        clock.advance(minutes=2)
        assert await timed.count() == 1
        assert await timed.count({"type": "session"}) == 1
        assert await timed.count({"type": "note"}) == 0
        assert await timed.count({"type": {"$in": ["note", "session"]}}) == 1
        assert await timed.count({"type": "session", "metadata.status": "x"}) == 1
        assert await timed.count({"metadata.status": "x"}) == 1

    async def test_an_expired_record_cannot_be_changed(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await _let_a_session_expire(timed, clock)
        assert await timed.update("s", {"expires_at": None}) is False
        assert await timed.delete("s") is False
        assert await timed.batch_delete(["s"]) == 0
        with pytest.raises(StorageConflictError) as conflict:
            await timed.update("s", {}, expected_version=2)
        assert conflict.value.found == 0

    async def test_the_logs_of_an_expired_record_are_gone_too(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await _let_a_session_expire(timed, clock)
        assert await timed.read(LOG) == []
        assert await timed.log_info(LOG) is None
        assert await timed.pop(LOG) is None
        assert await gathered(timed.logs()) == []
        for call in (timed.append(LOG, [body(3)]), timed.rewrite(LOG, [body(3)])):
            with pytest.raises(StorageNotFoundError):
                await call

    async def test_saving_over_an_expired_record_starts_a_new_one(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        await _let_a_session_expire(timed, clock)
        await timed.save(session("s"), expected_version=0)
        record = await stored(timed, "s")
        assert (record["version"], record["created_at"], record["expires_at"]) == (1, clock(), None)
        assert await bodies(timed, LOG) == []
        assert await timed.log_info(LOG) is None
        assert await timed.append(LOG, [body("new")]) == [1]

    async def test_an_expired_type_does_not_make_an_id_shared(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await save_all(timed, [note("a", expires_at=SOON), session("a")])
        clock.advance(hours=1)
        assert (await stored(timed, "a"))["type"] == "session"

    async def test_a_record_may_be_saved_with_its_time_over(self, timed: IUnifiedStorage) -> None:
        assert await timed.save(note("a", expires_at=NOON - timedelta(days=1))) == "a"
        assert await timed.load("a") is None
        assert await timed.purge_expired() == 1

    async def test_an_expiry_can_be_moved_and_ended(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await save_all(timed, [note(id, expires_at=SOON) for id in "abcd"])
        await timed.update("a", {"expires_at": None})
        await timed.update("b", {"expires_at": SOON + timedelta(days=1)})
        await timed.save(note("c"))
        clock.advance(hours=1)
        assert ids(await timed.list()) == ["a", "b", "c"]

    async def test_an_update_can_end_a_record(self, timed: IUnifiedStorage) -> None:
        await timed.save(note("a"))
        assert await timed.update("a", {"expires_at": NOON - timedelta(seconds=1)}) is True
        assert await timed.load("a") is None

    async def test_purge_removes_what_has_expired_and_counts_it(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        assert await timed.purge_expired() == 0
        await _let_a_session_expire(timed, clock)
        await timed.save(note("later", expires_at=clock() + timedelta(days=1)))
        await timed.save({"id": "sys", "type": "_copy", "data": {}, "expires_at": NOON})
        assert await timed.purge_expired() == 2
        assert await timed.purge_expired() == 0
        clock.now = NOON  # nothing is left that could come back
        assert keys(await timed.list()) == [("beside", "note"), ("later", "note")]
        assert await timed.log_info(LOG) is None

    async def test_a_walk_leaves_out_what_expires_meanwhile(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await save_all(timed, [note(f"{n}", expires_at=None if n < 5 else SOON) for n in range(10)])
        seen = []
        async for batch in timed.stream_list(batch_size=3):
            seen += ids(batch)
            clock.advance(hours=1)
        assert seen == ["0", "1", "2", "3", "4"]

    async def test_a_transaction_sees_expiry_too(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await _let_a_session_expire(timed, clock)
        async with timed.transaction() as tx:
            assert await tx.load("s") is None
            await tx.save(session("s", {"new": True}))
        assert (await stored(timed, "s"))["version"] == 1
