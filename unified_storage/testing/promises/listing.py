"""Promises about ``list``, ``stream_list``, ``count`` and the groupings: order, limits, resumption."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import gathered, ids, keys, note, save_all, session, stored
from unified_storage.testing.harness import Harness

# By code point; other collations put them elsewhere: case, accents, numbers, padding, UTF-16.
IN_ORDER = ["!", "1", "10", "9", "A", "Z", "_", "a", "a ", "a!", "aa", "b", "e\u0301", "é", "\uff5e", "\uffff", "🙂"]


class ListPromises(Harness):
    """All at once."""

    async def test_records_are_listed_by_id_and_type_in_the_order_of_code_points(
        self, storage: IUnifiedStorage
    ) -> None:
        mixed = IN_ORDER[1::2] + IN_ORDER[::2]
        await save_all(storage, [make(id) for id in mixed for make in (session, note)])
        expected = [(id, type) for id in IN_ORDER for type in ("note", "session")]
        assert keys(await storage.list()) == expected
        assert keys(await gathered(storage.stream_list(batch_size=3))) == expected

    async def test_types_are_ordered_by_code_point_too(self, storage: IUnifiedStorage) -> None:
        types = ["-", ".", "9", "Z", "a", "a-b", "a.b", "aB", "ab"]
        await save_all(storage, [{"id": "a", "type": type, "data": {}} for type in reversed(types)])
        assert [record["type"] for record in await storage.list()] == types

    async def test_an_empty_store_lists_nothing(self, storage: IUnifiedStorage) -> None:
        assert await storage.list() == []
        assert await gathered(storage.stream_list()) == []
        assert await storage.count() == 0

    async def test_a_limit_cuts_the_list(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(id) for id in "dbca"])
        assert ids(await storage.list(limit=2)) == ["a", "b"]
        assert ids(await storage.list({"id": {"$gt": "a"}}, 2)) == ["b", "c"]
        assert ids(await storage.list(limit=9)) == ["a", "b", "c", "d"]

    async def test_limit_zero_is_an_empty_list(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        assert await storage.list(limit=0) == []

    @pytest.mark.parametrize("limit", [-1, "1", 1.0, True], ids=repr)
    async def test_a_limit_that_is_no_count_is_refused(self, storage: IUnifiedStorage, limit: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.list(limit=limit)
        with pytest.raises(StorageValidationError):
            await storage.page(limit=limit)

    async def test_without_data_a_listing_has_everything_else(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"x": 1}, metadata={"m": 1}, session_id="s"))
        whole = await stored(storage, "a")
        del whole["data"]
        assert await storage.list(with_data=False) == [whole]
        assert (await storage.page(with_data=False)).items == [whole]
        assert await gathered(storage.stream_list(with_data=False)) == [whole]

    async def test_without_data_a_filter_may_still_look_into_it(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a", {"x": 1}), note("b", {"x": 2})])
        assert ids(await storage.list({"data.x": 2}, with_data=False)) == ["b"]
        assert ids(await gathered(storage.stream_list({"data.x": 2}, with_data=False))) == ["b"]

    async def test_count_counts_what_list_lists(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{n:03}", {"even": n % 2 == 0}) for n in range(25)])
        assert await storage.count() == 25
        assert await storage.count({"data.even": True}) == 13
        assert await storage.count({"type": "session"}) == 0

    async def test_groups_are_listed_by_id_and_type(self, storage: IUnifiedStorage) -> None:
        await save_all(
            storage,
            [
                session("s", session_id="s"),
                note("z", session_id="s", thread_id="t"),
                note("a", session_id="s"),
                note("b", session_id="S", thread_id="t"),
                note("c", thread_id="s"),
            ],
        )
        assert ids(await storage.get_by_session("s")) == ["a", "s", "z"]
        assert ids(await storage.get_by_thread("t")) == ["b", "z"]
        assert await storage.get_by_session("nobody") == []
        assert await storage.get_by_thread("nobody") == []

    async def test_a_group_of_several_types_shows_each_record_once_however_it_is_listed(
        self, storage: IUnifiedStorage
    ) -> None:
        members = [note("b"), session("a"), {"id": "a", "type": "thread", "data": {}}]
        await save_all(storage, [record | {"session_id": "s", "thread_id": "t"} for record in members])
        whole = [("a", "session"), ("a", "thread"), ("b", "note")]
        for group in ({"session_id": "s"}, {"thread_id": {"$in": ["t", "u"]}}):
            some = group | {"type": {"$in": ["note", "thread"]}}
            for filters, expected in ((group, whole), (some, whole[1:])):
                assert keys(await storage.list(filters)) == expected
                assert keys(await gathered(storage.stream_list(filters, 1))) == expected
                assert await storage.count(filters) == len(expected)
                for order in ("id", "-id", "created_at", "-updated_at"):
                    assert sorted(keys((await storage.page(filters, order_by=order)).items)) == expected

    async def test_records_named_by_id_and_type_are_those_that_have_one_of_each(self, storage: IUnifiedStorage) -> None:
        system = {"id": "a", "type": "_copy", "data": {"n": 0}}
        some = [session("a"), note("a", {"n": 1}, metadata={"m": 1}), note("b"), session("c"), note("🙂"), system]
        await save_all(storage, some)
        named = {"id": {"$in": ["b", "a", "nobody", "🙂", "a"]}, "type": {"$in": ["session", "note"]}}
        expected = [("a", "note"), ("a", "session"), ("b", "note"), ("🙂", "note")]
        whole = [await storage.load(id, type=type) for id, type in expected]
        for limit in (None, 4, 9, 10, 100):
            assert await storage.list(named, limit) == whole
        assert await storage.list(named, 3) == whole[:3]
        assert keys(await gathered(storage.stream_list(named, 2))) == expected
        assert await storage.list(named, with_data=False) == [
            {name: value for name, value in record.items() if name != "data"} for record in whole if record
        ]
        of_system = {"id": {"$in": ["a", "b"]}, "type": {"$in": ["_copy", "note"]}}
        assert keys(await storage.list(of_system)) == [("a", "_copy"), ("a", "note"), ("b", "note")]
        nothing: dict[str, Any]
        for nothing in ({"id": {"$in": ["\ud800"]}}, {"id": {"$in": []}}, {"id": {"$in": [5]}}):
            assert await storage.list(nothing | {"type": {"$in": ["note"]}}) == []
        async with storage.transaction() as tx:
            await tx.update("a", {"data": {"n": 2}}, type="note")
            found = await tx.list(named)
            assert (keys(found), found[0]["data"]) == (expected, {"n": 2})

    async def test_other_types_never_disturb_a_session_listing(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s1"), note("s1"), session("s2"), note("x")])
        assert keys(await storage.list({"type": "session"})) == [("s1", "session"), ("s2", "session")]


class StreamPromises(Harness):
    """Batch by batch, in bounded memory, whatever happens meanwhile."""

    async def test_batches_have_the_size_that_was_asked_for(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{n:02}") for n in range(10)])
        batches = [ids(batch) async for batch in storage.stream_list(batch_size=4)]
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert [id for batch in batches for id in batch] == [f"{n:02}" for n in range(10)]

    async def test_no_batch_is_empty(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{n:02}", {"n": n}) for n in range(8)])
        assert [len(batch) async for batch in storage.stream_list(batch_size=4)] == [4, 4]
        assert [ids(batch) async for batch in storage.stream_list({"data.n": {"$gte": 7}}, 2)] == [["07"]]

    @pytest.mark.parametrize("batch_size", [0, -1, "2"], ids=repr)
    async def test_a_batch_size_that_is_none_is_refused(self, storage: IUnifiedStorage, batch_size: Any) -> None:
        with pytest.raises(StorageValidationError):
            await gathered(storage.stream_list(batch_size=batch_size))

    async def test_after_an_id_it_goes_on_behind_all_its_types(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [make(id) for id in ("a", "b", "b!", "c") for make in (note, session)])
        assert ids(await gathered(storage.stream_list(after="b"))) == ["b!", "b!", "c", "c"]
        assert ids(await gathered(storage.stream_list(after="aa"))) == ["b", "b", "b!", "b!", "c", "c"]
        assert await gathered(storage.stream_list(after="c")) == []

    async def test_after_an_id_and_type_it_goes_on_behind_that_record(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [make(id) for id in ("a", "b") for make in (note, session)])
        assert keys(await gathered(storage.stream_list(after=("a", "note")))) == [
            *[("a", "session"), ("b", "note"), ("b", "session")]
        ]
        assert keys(await gathered(storage.stream_list(after=("a", "o")))) == [
            *[("a", "session"), ("b", "note"), ("b", "session")]
        ]
        assert await gathered(storage.stream_list(after=("b", "session"))) == []

    @pytest.mark.parametrize("after", ["", "a\nb", 5, ("a",), ("a", "b", "c"), ("a", ""), ["a", "note"]], ids=ascii)
    async def test_a_place_that_is_none_is_refused(self, storage: IUnifiedStorage, after: Any) -> None:
        with pytest.raises(StorageValidationError):
            await gathered(storage.stream_list(after=after))

    async def test_a_walk_goes_on_where_another_stopped(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [make(f"{n:02}") for n in range(9) for make in (note, session)])
        async with aclosing(storage.stream_list(batch_size=5)) as walk:  # type: ignore[type-var]  # a generator
            first = await anext(walk)
        rest = await gathered(storage.stream_list(batch_size=5, after=(first[-1]["id"], first[-1]["type"])))
        assert keys(first + rest) == keys(await storage.list())

    async def test_a_walk_that_deletes_behind_itself_sees_every_record_once(self, storage: IUnifiedStorage) -> None:
        names = [f"{n:03}" for n in range(60)]
        await save_all(storage, [note(name) for name in names])
        seen = []
        async for batch in storage.stream_list(batch_size=7):
            seen += ids(batch)
            for id in ids(batch):
                await storage.delete(id)
        assert seen == names
        assert await storage.count() == 0

    async def test_records_that_come_and_go_disturb_no_others(self, storage: IUnifiedStorage) -> None:
        names = [f"{n:03}" for n in range(0, 60, 2)]
        await save_all(storage, [note(name) for name in names])
        seen: list[str] = []
        async for batch in storage.stream_list(batch_size=5):
            seen += ids(batch)
            place = int(seen[-1])
            await storage.save(note("000-behind"))
            await storage.save(note(f"{place + 1:03}"))
            await storage.delete("058")
            await storage.update(seen[0], {"data": {"touched": place}})
        assert len(seen) == len(set(seen))
        assert seen == sorted(seen)
        assert set(names) - {"058"} <= set(seen)
        assert "058" not in seen

    async def test_a_walk_can_be_left_early(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{n:02}") for n in range(10)])
        async for _batch in storage.stream_list(batch_size=1):
            break
        async with aclosing(storage.stream_list(batch_size=1)) as walk:  # type: ignore[type-var]  # a generator
            await anext(walk)
        await storage.save(note("after"))
        assert await storage.count() == 11

    async def test_several_walks_at_once_do_not_disturb_each_other(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{n:02}") for n in range(10)])
        pairs = []
        async for outer in storage.stream_list(batch_size=5):
            pairs += [(one, other) for one in ids(outer) for other in ids(await gathered(storage.stream_list()))]
        assert len(set(pairs)) == 100
