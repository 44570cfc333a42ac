"""Promises about ``update``: what merges, what replaces, what deletes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from unified_storage.errors import StorageCapacityError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.record import DELETE, REPLACE
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import ids, note, save_all, session, stored, together
from unified_storage.testing.harness import Harness
from unified_storage.testing.naming import named

BEFORE = {"a": 1, "list": [1, 2], "map": {"x": 1, "deep": {"y": 2}}, "null": None}
MERGED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a value replaces a value", {"a": 2}, {"a": 2}),
    ("a new key is added", {"b": 3}, {"b": 3}),
    ("null is a value", {"a": None}, {"a": None}),
    ("a list replaces a list", {"list": [3]}, {"list": [3]}),
    ("a mapping merges into a mapping", {"map": {"z": 3}}, {"map": {"x": 1, "deep": {"y": 2}, "z": 3}}),
    ("at every depth", {"map": {"deep": {"z": 3}}}, {"map": {"x": 1, "deep": {"y": 2, "z": 3}}}),
    ("an empty mapping merges too", {"map": {}}, {}),
    ("a value replaces a mapping", {"map": 1}, {"map": 1}),
    ("a mapping replaces a value", {"a": {"k": 1}}, {"a": {"k": 1}}),
    ("a mapping replaces null", {"null": {"k": 1}}, {"null": {"k": 1}}),
    ("a mapping replaces a list", {"list": {"0": 9}}, {"list": {"0": 9}}),
    ("REPLACE replaces a mapping whole", {"map": REPLACE({"z": 1})}, {"map": {"z": 1}}),
    ("REPLACE empties a mapping", {"map": REPLACE({})}, {"map": {}}),
    ("REPLACE deep inside", {"map": {"deep": REPLACE({"q": 1})}}, {"map": {"x": 1, "deep": {"q": 1}}}),
    ("REPLACE of a plain value", {"a": REPLACE(5)}, {"a": 5}),
    ("odd keys are only keys", {"a.b": 1, "$set": 2, "": 3, 'q"': 4}, {"a.b": 1, "$set": 2, "": 3, 'q"': 4}),
]


class UpdatePromises(Harness):
    """Merging into a record that is there."""

    @pytest.mark.parametrize(("updates", "changed"), [case[1:] for case in MERGED], ids=[case[0] for case in MERGED])
    async def test_update_merges_mappings_and_replaces_the_rest(
        self, storage: IUnifiedStorage, updates: dict[str, Any], changed: dict[str, Any]
    ) -> None:
        await storage.save(note("a", BEFORE, metadata=BEFORE))
        assert await storage.update("a", {"data": updates}) is True
        assert await storage.update("a", {"metadata": updates}) is True
        record = await stored(storage, "a")
        assert record["data"] == BEFORE | changed
        assert record["metadata"] == BEFORE | changed

    async def test_delete_takes_a_key_out_at_any_depth(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", BEFORE))
        await storage.update("a", {"data": {"a": DELETE, "map": {"deep": {"y": DELETE}}, "never": DELETE}})
        expected = {"list": [1, 2], "map": {"x": 1, "deep": {}}, "null": None}
        assert (await stored(storage, "a"))["data"] == expected

    async def test_a_delete_inside_a_new_mapping_adds_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        await storage.update("a", {"data": {"new": {"k": 1, "gone": DELETE}}})
        assert (await stored(storage, "a"))["data"] == {"new": {"k": 1}}

    async def test_the_order_of_keys_is_kept_and_new_ones_come_last(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"z": 1, "a": 1, "m": 1}))
        await storage.update("a", {"data": {"b": 1, "a": 2}})
        assert [*(await stored(storage, "a"))["data"]] == ["z", "a", "m", "b"]

    async def test_update_changes_only_what_it_names(self, storage: IUnifiedStorage) -> None:
        far = NOON.replace(year=9000)
        draft = note("a", {"x": 1}, metadata={"m": 1}, session_id="s", thread_id="t", expires_at=far)
        await storage.save(draft)
        before = await stored(storage, "a")
        await storage.update("a", {"data": {"y": 2}})
        after = await stored(storage, "a")
        assert after == before | {"data": {"x": 1, "y": 2}, "version": 2, "updated_at": after["updated_at"]}

    async def test_columns_can_be_set_and_cleared(self, storage: IUnifiedStorage) -> None:
        far = NOON.replace(year=9000)
        await storage.save(note("a"))
        await storage.update("a", {"session_id": "s", "thread_id": "t", "expires_at": far, "metadata": {"m": 1}})
        record = await stored(storage, "a")
        assert (record["session_id"], record["thread_id"], record["expires_at"]) == ("s", "t", far)
        assert record["metadata"] == {"m": 1}
        assert ids(await storage.get_by_session("s")) == ["a"]
        await storage.update("a", {"session_id": None, "thread_id": DELETE, "expires_at": None, "metadata": DELETE})
        record = await stored(storage, "a")
        assert [record[name] for name in ("session_id", "thread_id", "expires_at", "metadata")] == [None] * 4
        assert await storage.get_by_session("s") == []

    async def test_an_empty_update_moves_version_and_updated_at(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        await timed.save(note("a", {"x": 1}))
        clock.advance(hours=1)
        assert await timed.update("a", {}) is True
        record = await stored(timed, "a")
        assert (record["version"], record["updated_at"]) == (2, NOON + timedelta(hours=1))
        assert (record["data"], record["created_at"]) == ({"x": 1}, NOON)

    async def test_updating_what_is_not_there_is_false_and_makes_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        assert await storage.update("b", {"data": {"x": 1}}) is False
        assert await storage.update("a", {"data": {"x": 1}}, type="session") is False
        assert await storage.count() == 1
        assert (await stored(storage, "a"))["data"] == {}

    async def test_update_finds_its_type_among_records_of_one_id(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a"), session("a")])
        assert await storage.update("a", {"data": {"x": 1}}, type="note") is True
        assert (await stored(storage, "a", "session"))["data"] == {}
        assert (await stored(storage, "a", "note"))["data"] == {"x": 1}

    @pytest.mark.parametrize(
        "updates",
        [
            {"id": "b"},
            {"type": "session"},
            {"version": 3},
            {"created_at": NOON},
            {"updated_at": NOON},
            {"colour": "red"},
            {"data": None},
            {"data": [1]},
            {"data": DELETE},
            {"data": REPLACE([1])},
            {"metadata": "text"},
            {"session_id": 5},
            {"session_id": ""},
            {"thread_id": "a\nb"},
            {"expires_at": "tomorrow"},
            {"expires_at": datetime(2024, 1, 1)},  # noqa: DTZ001  # naive is the point
            {"data": {"x": object()}},
            {"data": {"x": {1: 2}}},
            {"data": {"x": [DELETE]}},
            {"data": {"x": REPLACE({"y": DELETE})}},
            {"data": {1: 2}},
            None,
            [],
            "data",
        ],
        ids=named,
    )
    async def test_what_update_cannot_do_is_refused_and_changes_nothing(
        self, storage: IUnifiedStorage, updates: Any
    ) -> None:
        await storage.save(note("a", {"x": 1}))
        before = await stored(storage, "a")
        with pytest.raises(StorageValidationError):
            await storage.update("a", updates)
        assert await stored(storage, "a") == before

    async def test_an_update_that_makes_the_record_too_large_is_refused(self, storage: IUnifiedStorage) -> None:
        half = "x" * (8 * 1024 * 1024)
        await storage.save(note("a", {"one": half}))
        with pytest.raises(StorageCapacityError):
            await storage.update("a", {"data": {"two": half}})
        record = await stored(storage, "a")
        assert (list(record["data"]), record["version"]) == (["one"], 1)

    async def test_a_hundred_updates_of_a_hundred_keys_at_once_all_survive(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"deep": {}}))
        await together(*(storage.update("a", {"data": {"deep": {f"k{n}": n}}}) for n in range(100)))
        record = await stored(storage, "a")
        assert record["data"]["deep"] == {f"k{n}": n for n in range(100)}
        assert record["version"] == 101
