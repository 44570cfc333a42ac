"""Promises about copies: what the caller holds and what is stored never share anything."""

from __future__ import annotations

from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import body, note, session, stored
from unified_storage.testing.harness import Harness


class AliasingPromises(Harness):
    """Nothing is shared, at any depth, in either direction."""

    async def test_save_changes_nothing_of_the_callers(self, storage: IUnifiedStorage) -> None:
        inner = {"tags": ["x"]}
        draft = {"type": "note", "data": {"inner": inner}, "metadata": {"m": [1]}}
        await storage.save(draft)
        await storage.batch_save([draft])
        assert draft == {"type": "note", "data": {"inner": {"tags": ["x"]}}, "metadata": {"m": [1]}}
        assert draft["data"]["inner"] is inner  # type: ignore[index]  # a dict of dicts

    async def test_save_keeps_no_reference_to_the_callers_dict(self, storage: IUnifiedStorage) -> None:
        draft = note("a", {"runs": [{"tags": ["x"]}]}, metadata={"m": [1]})
        await storage.save(draft)
        draft["data"]["runs"][0]["tags"].append("y")
        draft["metadata"]["m"].append(2)
        record = await stored(storage, "a")
        assert (record["data"], record["metadata"]) == ({"runs": [{"tags": ["x"]}]}, {"m": [1]})

    async def test_what_is_handed_out_can_be_changed_without_effect(self, storage: IUnifiedStorage) -> None:
        await storage.save(
            session("s", {"runs": [{"tags": ["x"]}]}, metadata={"m": [1]}, session_id="s", thread_id="t")
        )
        handed_out = [
            *(await storage.load("s") or {}, *await storage.list(), *(await storage.page()).items),
            *(*await storage.query("type = 'session'"), *await storage.get_by_session("s")),
            *await storage.get_by_thread("t"),
            *[record async for batch in storage.stream_list() for record in batch],
        ]
        assert len(handed_out) == 7
        for record in handed_out:
            assert record["data"] == {"runs": [{"tags": ["x"]}]}
            record["data"]["runs"][0]["tags"].append("y")
            record["metadata"]["m"].append(2)
        assert (await stored(storage, "s"))["data"] == {"runs": [{"tags": ["x"]}]}
        assert await storage.count({"metadata.m": {"$contains": 2}}) == 0

    async def test_update_keeps_no_reference_to_what_it_was_given(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        updates = {"data": {"list": [1], "map": {"k": [1]}}}
        await storage.update("a", updates)
        assert updates == {"data": {"list": [1], "map": {"k": [1]}}}
        updates["data"]["list"].append(2)  # type: ignore[attr-defined]  # a list
        assert (await stored(storage, "a"))["data"] == {"list": [1], "map": {"k": [1]}}

    async def test_entries_are_copies_in_and_out(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        given = body({"tags": ["x"]})
        await storage.append("events/s", [given])
        given["body"]["tags"].append("y")
        (read,) = await storage.read("events/s")
        read["body"]["tags"].append("z")
        assert await storage.pop("events/s") == read | {"body": {"tags": ["x"]}}
