"""Promises about ``page``: orders, ties, cursors that stay true while records come and go."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import body, ids, keys, note, save_all, session
from unified_storage.testing.harness import Harness, OpenStore


async def walked(storage: IUnifiedStorage, filters: Any = None, *, limit: int = 3, **options: Any) -> list[Any]:
    """The records of all pages, one after the other."""
    found: list[Any] = []
    cursor = None
    for _ in range(1000):
        page = await storage.page(filters, limit=limit, cursor=cursor, **options)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == limit
    raise AssertionError("the pages do not end")


class PagePromises(Harness):
    """Page by page in any order."""

    async def test_pages_show_the_newest_first_unless_told_otherwise(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        for id in "bdac":
            await timed.save(note(id))
            clock.advance(seconds=1)
        await timed.update("d", {})
        assert ids((await timed.page()).items) == ["d", "c", "a", "b"]
        assert ids((await timed.page(order_by="updated_at")).items) == ["b", "a", "c", "d"]
        assert ids((await timed.page(order_by="created_at")).items) == ["b", "d", "a", "c"]
        assert ids((await timed.page(order_by="-created_at")).items) == ["c", "a", "d", "b"]
        assert ids((await timed.page(order_by="id")).items) == ["a", "b", "c", "d"]
        assert ids((await timed.page(order_by="-id")).items) == ["d", "c", "b", "a"]

    async def test_an_append_makes_its_session_the_newest(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        for id in "abc":
            await timed.save(session(id))
            clock.advance(seconds=1)
        await timed.append("events/a", [body(1)])
        assert ids((await timed.page({"type": "session"})).items) == ["a", "c", "b"]

    @pytest.mark.parametrize("order_by", ["id", "-id", "created_at", "-created_at", "updated_at", "-updated_at"])
    async def test_pages_together_show_every_record_once(
        self, timed: IUnifiedStorage, clock: ManualClock, order_by: str
    ) -> None:
        for n in range(20):
            await timed.save(note(f"{n * 7 % 20:02}"))
            clock.advance(seconds=n % 3)  # every third pair shares a time
        found = await walked(timed, order_by=order_by)
        assert len(found) == 20
        assert keys(found) == keys((await timed.page(limit=100, order_by=order_by)).items)
        assert sorted(ids(found)) == [f"{n:02}" for n in range(20)]

    @pytest.mark.parametrize("order_by", ["updated_at", "-updated_at", "created_at", "-created_at"])
    async def test_ties_go_by_id_and_type_ascending_in_both_directions(
        self, timed: IUnifiedStorage, order_by: str
    ) -> None:
        await save_all(timed, [make(id) for id in "cabd" for make in (session, note)])
        expected = [(id, type) for id in "abcd" for type in ("note", "session")]
        assert keys(await walked(timed, order_by=order_by)) == expected

    async def test_types_of_one_id_are_ties_of_an_order_by_id(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [make(id) for id in "ab" for make in (session, note)])
        assert keys(await walked(storage, order_by="-id", limit=1)) == [
            *[("b", "note"), ("b", "session"), ("a", "note"), ("a", "session")]
        ]

    async def test_the_last_page_has_no_cursor(self, storage: IUnifiedStorage) -> None:
        assert await storage.page() == type(await storage.page())([], None)
        await save_all(storage, [note(id) for id in "abcd"])
        assert (await storage.page(limit=4)).next_cursor is None
        assert (await storage.page(limit=5)).next_cursor is None
        assert (await storage.page(limit=3)).next_cursor is not None

    async def test_limit_zero_is_an_empty_page(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        assert (await storage.page(limit=0)).items == []

    async def test_skip_leaves_records_out_before_the_page(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(id) for id in "abcdefgh"])
        page = await storage.page(limit=2, order_by="id", skip=3)
        assert ids(page.items) == ["d", "e"]
        following = await storage.page(limit=2, order_by="id", cursor=page.next_cursor)
        assert ids(following.items) == ["f", "g"]
        skipped = await storage.page(limit=2, order_by="id", cursor=page.next_cursor, skip=1)
        assert ids(skipped.items) == ["g", "h"]
        assert (await storage.page(order_by="id", skip=99)).items == []
        with pytest.raises(StorageValidationError):
            await storage.page(skip=-1)

    async def test_filters_hold_on_every_page(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{n:02}", {"odd": n % 2}) for n in range(20)])
        found = await walked(storage, {"data.odd": 1}, order_by="-id")
        assert ids(found) == [f"{n:02}" for n in range(19, 0, -2)]

    async def test_records_that_come_and_go_disturb_no_page(self, storage: IUnifiedStorage) -> None:
        names = [f"{n:02}" for n in range(0, 40, 2)]
        await save_all(storage, [note(name) for name in names])
        seen: list[str] = []
        cursor = None
        while True:
            page = await storage.page(limit=4, order_by="id", cursor=cursor)
            seen += ids(page.items)
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
            await storage.delete(seen[-1])  # the very record the cursor stands on
            await storage.save(note("00-behind"))
            await storage.delete("38")
        assert seen == [name for name in names if name != "38"]

    async def test_a_cursor_is_text_for_a_url(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(id) for id in ("a", "é🙂/ ?&", "z")])
        for order_by in ("id", "-updated_at"):
            cursor = (await storage.page(limit=2, order_by=order_by)).next_cursor
            assert cursor is not None
            assert cursor.replace("-", "").replace("_", "").isalnum()
            assert cursor.isascii()

    async def test_a_cursor_is_refused_with_other_filters_or_another_order(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(id, {"x": 1}) for id in "abcd"])
        cursor = (await storage.page({"data.x": 1}, limit=2, order_by="id")).next_cursor
        assert cursor is not None
        assert len((await storage.page({"data.x": 1}, limit=9, order_by="id", cursor=cursor)).items) == 2
        for filters, order_by in (
            ({"data.x": 2}, "id"),
            (None, "id"),
            ({"data.x": 1}, "-id"),
            ({"data.x": 1}, "created_at"),
        ):
            with pytest.raises(StorageValidationError):
                await storage.page(filters, order_by=order_by, cursor=cursor)

    async def test_a_damaged_cursor_is_refused(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(id) for id in "abcd"])
        cursor = (await storage.page(limit=2)).next_cursor
        assert cursor is not None
        swapped = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
        damaged: list[Any] = ["", "x", "not a cursor", cursor[:-1], cursor + "A", swapped, "é", 5]
        for text in damaged:
            with pytest.raises(StorageValidationError):
                await storage.page(cursor=text)

    @pytest.mark.parametrize(
        "order_by", ["", "-", "--id", "data.x", "metadata.other", "colour", "version", "id desc", "id;--", 5, None]
    )
    async def test_an_order_that_is_none_is_refused(self, storage: IUnifiedStorage, order_by: Any) -> None:
        await storage.save(note("a"))
        with pytest.raises(StorageValidationError):
            await storage.page(order_by=order_by)


# In the order of pages: missing and null, bools, numbers, texts, datetimes, all else. A group has one key.
IN_ORDER: list[list[Any]] = [
    [None],
    [False],
    [True],
    [float("-inf")],
    [-(10**30)],
    [-2.5],
    [-1, Decimal("-1.0")],
    [-0.0, 0],
    [Decimal("1E-400")],
    [0.1],
    [1, 1.0, Decimal("1.00")],
    [2**53],
    [2**53 + 1],
    [2**63, float(2**63)],
    [2**63 + 1],
    [10**400],
    [float("inf")],
    [float("nan")],
    [""],
    ["\x00"],
    ["A"],
    ["Z"],
    ["a"],
    ["a\x00"],
    ["a "],
    ["aa"],
    ["é"],
    ["\ud800"],
    ["\uffff"],
    ["🙂"],
    [NOON - timedelta(microseconds=1)],
    [NOON],
    [b"x", [1], {"k": 1}, NOON.date()],
]


def _documents_of_every_kind() -> list[dict[str, Any]]:
    """A document for every value; in ``data.rank`` its place, and names that do not follow the order."""
    values = [(rank, value) for rank, group in enumerate(IN_ORDER) for value in group] + [(0, "missing")]
    return [
        note(f"{n * 31 % 100:03}", {"rank": rank} if value == "missing" else {"rank": rank, "v": value})
        for n, (rank, value) in enumerate(values)
    ]


class IndexedOrderPromises(Harness):
    """Pages by an indexed path order values of every kind."""

    @pytest.mark.parametrize("filters", [None, {"type": "note"}], ids=["all types", "its type"])
    @pytest.mark.parametrize("sign", ["", "-"])
    async def test_an_indexed_path_orders_values_of_every_kind(
        self, open_store: OpenStore, sign: str, filters: Any
    ) -> None:
        async with open_store(indexed={"note": ["data.v"]}) as storage:
            documents = _documents_of_every_kind()
            await save_all(storage, documents)
            direction = -1 if sign else 1
            expected = sorted(documents, key=lambda record: (direction * record["data"]["rank"], record["id"]))
            assert ids(await walked(storage, filters, order_by=f"{sign}data.v", limit=4)) == ids(expected)

    async def test_long_texts_that_begin_alike_are_ties(self, open_store: OpenStore) -> None:
        async with open_store(indexed={"note": ["data.v"]}) as storage:
            texts = {"a": "L" * 600 + "z", "b": "L" * 600 + "a", "c": "L" * 600, "d": "L" * 100, "e": "M"}
            await save_all(storage, [note(id, {"v": text}) for id, text in texts.items()])
            assert ids(await walked(storage, order_by="data.v", limit=1)) == ["d", "a", "b", "c", "e"]
            assert ids(await walked(storage, order_by="-data.v", limit=1)) == ["e", "a", "b", "c", "d"]

    async def test_sessions_page_by_their_status(self, storage: IUnifiedStorage) -> None:
        states = {"s1": "paused", "s2": "active", "s3": None, "s4": "active"}
        await save_all(storage, [session(id, metadata={"status": status}) for id, status in states.items()])
        await save_all(storage, [session("s5"), note("n", metadata={"status": "zzz"})])
        by_status: dict[str, Any] = {"order_by": "metadata.status", "limit": 2}
        assert ids(await walked(storage, {"type": "session"}, **by_status)) == ["s3", "s5", "s2", "s4", "s1"]
        assert ids(await walked(storage, **by_status)) == ["s3", "s5", "s2", "s4", "s1", "n"]

    async def test_a_changed_value_moves_its_record(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session(id, metadata={"name": name}) for id, name in (("a", "1"), ("b", "2"))])
        await storage.update("a", {"metadata": {"name": "3"}})
        assert ids((await storage.page({"type": "session"}, order_by="metadata.name")).items) == ["b", "a"]
        assert ids(await storage.list({"type": "session", "metadata.name": "1"})) == []
