"""Promises about ``delete``, about ids that several types share, and about system records."""

from __future__ import annotations

import pytest

from unified_storage.errors import StorageNotFoundError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, gathered, ids, keys, note, save_all, session, stored
from unified_storage.testing.harness import Harness


async def _save_a_system_record_and_a_session(storage: IUnifiedStorage) -> None:
    system = {"id": "sys", "type": "_copy", "data": {"x": 1}, "session_id": "s", "thread_id": "t"}
    await save_all(storage, [system, session("s", {"x": 1}, session_id="s", thread_id="t")])
    await storage.append("places@_copy/sys", [body(1)])


class DeletePromises(Harness):
    """Removing records, with their logs and with what is grouped under them."""

    async def test_delete_says_whether_something_went(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        assert await storage.delete("a") is True
        assert await storage.load("a") is None
        assert await storage.delete("a") is False

    async def test_delete_with_another_type_leaves_the_record(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        assert await storage.delete("a", type="session") is False
        assert await storage.exists("a")

    async def test_delete_takes_the_logs_of_the_record_and_of_no_other(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), note("s"), session("s2")])
        for log_id in ("events/s", "runs/s", "events@note/s", "events/s2"):
            await storage.append(log_id, [body(log_id)])
        await storage.delete("s", type="session")
        assert await bodies(storage, "events/s") == []
        assert await storage.log_info("runs/s") is None
        assert await gathered(storage.logs()) == ["events/s2", "events@note/s"]
        assert await bodies(storage, "events@note/s") == ["events@note/s"]

    async def test_a_record_made_again_is_new(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append("events/s", [body(1), body(2)])
        await storage.delete("s")
        with pytest.raises(StorageNotFoundError):
            await storage.append("events/s", [body(3)])
        await storage.save(session("s"))
        assert (await stored(storage, "s"))["version"] == 1
        assert await bodies(storage, "events/s") == []
        assert await storage.append("events/s", [body(3)]) == [1]

    async def test_cascade_takes_what_is_grouped_under_a_session(self, storage: IUnifiedStorage) -> None:
        """S2.23."""
        await save_all(
            storage,
            [
                session("s", session_id="s"),
                note("under", session_id="s"),
                {"id": "thread", "type": "thread", "data": {}, "session_id": "s"},
                note("by-thread", thread_id="s"),
                note("other", session_id="S"),
            ],
        )
        await storage.append("events@note/under", [body(1)])
        await storage.append("events@note/other", [body(1)])
        assert await storage.delete("s", cascade=True) is True
        assert ids(await storage.list()) == ["by-thread", "other"]
        assert await gathered(storage.logs()) == ["events@note/other"]

    async def test_cascade_takes_what_is_grouped_under_a_thread(self, storage: IUnifiedStorage) -> None:
        thread = {"id": "t", "type": "thread", "data": {}, "session_id": "s"}
        await save_all(
            storage, [session("s", session_id="s"), thread, note("under", thread_id="t"), note("x", session_id="t")]
        )
        assert await storage.delete("t", type="thread", cascade=True) is True
        assert ids(await storage.list()) == ["s", "x"]

    async def test_cascade_of_another_type_takes_the_record_alone(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a"), note("b", session_id="a", thread_id="a")])
        assert await storage.delete("a", cascade=True) is True
        assert ids(await storage.list()) == ["b"]

    async def test_without_cascade_what_is_grouped_stays(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s", session_id="s"), note("under", session_id="s")])
        await storage.delete("s")
        assert ids(await storage.get_by_session("s")) == ["under"]

    async def test_cascade_of_what_is_not_there_takes_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("under", session_id="s"))
        assert await storage.delete("s", type="session", cascade=True) is False
        assert await storage.exists("under")


class SharedIdPromises(Harness):
    """``type=None`` means any type, as long as there is only one."""

    async def test_without_a_type_any_single_one_is_found(self, storage: IUnifiedStorage) -> None:
        await storage.save({"id": "a", "type": "checkpoint", "data": {"x": 1}})
        assert (await stored(storage, "a"))["type"] == "checkpoint"
        assert await storage.update("a", {"data": {"y": 2}}) is True
        assert await storage.delete("a") is True

    async def test_without_a_type_a_shared_id_is_refused(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a"), session("a")])
        for call in (storage.load("a"), storage.update("a", {}), storage.delete("a"), storage.exists("a")):
            with pytest.raises(StorageValidationError):
                await call
        assert keys(await storage.list()) == [("a", "note"), ("a", "session")]
        assert [record["version"] for record in await storage.list()] == [1, 1]

    async def test_with_a_type_a_shared_id_is_no_question(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a"), session("a")])
        assert await storage.delete("a", type="note") is True
        assert (await stored(storage, "a"))["type"] == "session"

    async def test_a_system_record_never_makes_an_id_shared(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a"), {"id": "a", "type": "_copy", "data": {}}])
        assert (await stored(storage, "a"))["type"] == "note"
        assert await storage.delete("a") is True
        assert await storage.exists("a", type="_copy")


class SystemRecordPromises(Harness):
    """Records of a type ``_...`` are seen only by those who name the type."""

    async def test_verbs_without_a_type_do_not_see_them(self, storage: IUnifiedStorage) -> None:
        await _save_a_system_record_and_a_session(storage)
        assert await storage.load("sys") is None
        assert await storage.exists("sys") is False
        assert await storage.update("sys", {"data": {"x": 2}}) is False
        assert await storage.delete("sys") is False
        assert (await stored(storage, "sys", "_copy"))["data"] == {"x": 1}

    async def test_listings_do_not_see_them(self, storage: IUnifiedStorage) -> None:
        await _save_a_system_record_and_a_session(storage)
        assert ids(await storage.list()) == ["s"]
        assert ids(await storage.list({"data.x": 1})) == ["s"]
        assert ids(await storage.list({"type": {"$ne": "note"}})) == ["s"]
        assert ids((await storage.page()).items) == ["s"]
        assert ids(await gathered(storage.stream_list())) == ["s"]
        assert ids(await storage.query("data.x = 1")) == ["s"]
        assert await storage.count() == 1
        assert ids(await storage.get_by_session("s")) == ["s"]
        assert ids(await storage.get_by_thread("t")) == ["s"]

    async def test_who_names_the_type_sees_them(self, storage: IUnifiedStorage) -> None:
        await _save_a_system_record_and_a_session(storage)
        assert await storage.exists("sys", type="_copy")
        assert ids(await storage.list({"type": "_copy"})) == ["sys"]
        assert ids(await storage.list({"type": {"$in": ["session", "_copy"]}})) == ["s", "sys"]
        assert ids(await storage.query("type = '_copy' AND data.x = 1")) == ["sys"]
        assert ids((await storage.page({"type": "_copy"})).items) == ["sys"]
        assert await storage.count({"type": "_copy"}) == 1
        assert ids(await gathered(storage.stream_list({"type": "_copy"}))) == ["sys"]
        assert await storage.update("sys", {"data": {"x": 2}}, type="_copy") is True
        assert await storage.delete("sys", type="_copy") is True

    async def test_naming_one_system_type_shows_no_other(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [{"id": "a", "type": type, "data": {}} for type in ("_copy", "_move", "note")])
        assert keys(await storage.list({"type": {"$in": ["_move", "note"]}})) == [("a", "_move"), ("a", "note")]

    async def test_their_logs_are_listed_only_by_a_prefix_that_names_the_type(self, storage: IUnifiedStorage) -> None:
        await _save_a_system_record_and_a_session(storage)
        await storage.append("events/s", [body(1)])
        assert await gathered(storage.logs()) == ["events/s"]
        assert await gathered(storage.logs("places")) == []
        assert await gathered(storage.logs("places@_copy/")) == ["places@_copy/sys"]
        assert await bodies(storage, "places@_copy/sys") == [1]

    async def test_cascade_leaves_them(self, storage: IUnifiedStorage) -> None:
        await _save_a_system_record_and_a_session(storage)
        await storage.delete("s", cascade=True)
        assert await storage.exists("sys", type="_copy")
        assert await bodies(storage, "places@_copy/sys") == [1]
