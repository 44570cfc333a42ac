"""Promises about filters: one table of what each of them finds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON
from unified_storage.testing.drafts import gathered, ids, note, save_all, session
from unified_storage.testing.harness import Harness, OpenStore
from unified_storage.testing.naming import named

INDIA = timezone(timedelta(hours=5, minutes=30))
BIG = 2**53
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "minus-zero": -0.0,
    "one": 1,
    "one-float": 1.0,
    "one-decimal": Decimal("1.00"),
    "big": BIG,
    "big-1": BIG + 1,
    "huge": 2**63 + 1,
    "huge-float": float(2**63),
    "tenth": 0.1,
    "tenth-decimal": Decimal("0.1"),
    "infinite": float("inf"),
    "nan": float("nan"),
    "text": "abc",
    "TEXT": "ABC",
    "padded": "abc ",
    "empty": "",
    "digit": "1",
    "word-true": "true",
    "word-null": "null",
    "percent": "50%_\\",
    "nul": "a\x00b",
    "surrogate": "\ud800",
    "accent": "É",
    "lines": "a\nb",
    "long-x": "L" * 600 + "x",
    "long-y": "L" * 600 + "y",
    "noon": NOON,
    "noon-india": NOON.astimezone(INDIA),
    "naive": NOON.replace(tzinfo=None),
    "noon-text": "2024-05-15T12:00:00Z",
    "day": date(2024, 5, 15),
    "bytes": b"abc",
    "uuid": UUID(int=7),
    "list": [1, "abc", None, [2]],
    "tuple": (1.0, "x"),
    "set": {"abc", 2},
    "empty-list": [],
    "map": {"k": 1},
    "empty-map": {},
}
ALL = {*VALUES, "missing"}
ONES = {"one", "one-float", "one-decimal"}
NUMBERS = {name for name, value in VALUES.items() if type(value) in (int, float, Decimal)} - {"nan"}
TEXTS = {name for name, value in VALUES.items() if type(value) is str}
NOONS = {"noon", "noon-india"}

# What stands at the path is tested by this, and found are those.
FOUND: list[tuple[Any, set[str]]] = [
    (None, {"null"}),
    (True, {"true"}),
    (1, ONES),
    (1.0, ONES),
    (Decimal(1), ONES),
    (0, {"zero", "minus-zero"}),
    (0.1, {"tenth"}),
    (Decimal("0.1"), {"tenth-decimal"}),
    (BIG, {"big"}),
    (float(BIG), {"big"}),
    (BIG + 1, {"big-1"}),
    (2**63, {"huge-float"}),
    (float("inf"), {"infinite"}),
    ("abc", {"text"}),
    ("abc ", {"padded"}),
    ("", {"empty"}),
    ("1", {"digit"}),
    ("a\x00b", {"nul"}),
    ("\ud800", {"surrogate"}),
    ("L" * 600 + "x", {"long-x"}),
    ("L" * 600, set()),
    (NOON, NOONS),
    (date(2024, 5, 15), {"day"}),
    (b"abc", {"bytes"}),
    (UUID(int=7), {"uuid"}),
    ({"$eq": "abc"}, {"text"}),
    ({"$ne": "abc"}, ALL - {"text"}),
    ({"$ne": None}, ALL - {"null"}),
    ({"$ne": 1}, ALL - ONES),
    ({"$in": ["abc", "ABC", "zzz"]}, {"text", "TEXT"}),
    ({"$in": [1, Decimal("0.1"), 2**63 + 1]}, {*ONES, "tenth-decimal", "huge"}),
    ({"$in": [None]}, {"null"}),
    ({"$in": []}, set()),
    ({"$nin": []}, ALL),
    ({"$nin": ["abc", "ABC"]}, ALL - {"text", "TEXT"}),
    ({"$nin": [True]}, ALL - {"true"}),
    ({"$gt": 1}, {"big", "big-1", "huge", "huge-float", "infinite"}),
    ({"$gte": 1}, {*ONES, "big", "big-1", "huge", "huge-float", "infinite"}),
    ({"$gt": BIG}, {"big-1", "huge", "huge-float", "infinite"}),
    ({"$gt": float(2**63)}, {"huge", "infinite"}),
    ({"$lt": 1}, {"zero", "minus-zero", "tenth", "tenth-decimal"}),
    ({"$lt": 0.1}, {"zero", "minus-zero", "tenth-decimal"}),
    ({"$lte": 0}, {"zero", "minus-zero"}),
    ({"$lt": float("-inf")}, set()),
    ({"$gt": -1, "$lt": float("inf")}, NUMBERS - {"infinite"}),
    ({"$gte": ""}, TEXTS),
    ({"$gt": "abc"}, {"padded", "word-true", "word-null", "surrogate", "accent"}),
    ({"$lt": "ABC"}, {"empty", "digit", "percent", "noon-text"}),
    ({"$gt": "L" * 600 + "x", "$lt": "M"}, {"long-y"}),
    ({"$gte": False}, {"true", "false"}),
    ({"$lt": True}, {"false"}),
    ({"$gte": NOON}, NOONS),
    ({"$gt": NOON - timedelta(microseconds=1), "$lt": NOON + timedelta(microseconds=1)}, NOONS),
    ({"$gt": NOON}, set()),
    ({"$like": "abc"}, {"text"}),
    ({"$like": "a%"}, {"text", "padded", "nul", "lines"}),
    ({"$like": "a_b"}, {"nul", "lines"}),
    ({"$like": "%b_"}, {"text"}),
    ({"$like": r"50\%\_\\"}, {"percent"}),
    ({"$like": "%"}, TEXTS),
    ({"$like": ""}, {"empty"}),
    ({"$like": "_"}, {"digit", "surrogate", "accent"}),
    ({"$ilike": "aBc"}, {"text", "TEXT"}),
    ({"$ilike": "é"}, set()),
    ({"$ilike": "É"}, {"accent"}),
    ({"$exists": True}, ALL - {"missing"}),
    ({"$exists": False}, {"missing"}),
    ({"$contains": "abc"}, {"text", "padded", "list", "set"}),
    ({"$contains": 1}, {"list", "tuple"}),
    ({"$contains": None}, {"list"}),
    ({"$contains": "\n"}, {"lines"}),
    ({"$contains": ""}, TEXTS),
    ({"$contains": True}, set()),
    ({"$gte": 1, "$lte": 1}, ONES),
    ({"$like": "a%", "$ne": "abc"}, {"padded", "nul", "lines"}),
]
REFUSED: list[Any] = [
    *({"colour": 1}, {"": 1}, {"data..": {"$nope": 1}}, {"id.x": 1}, {"DATA.x": 1}, {"data.x\\": 1}, {"data\\x": 1}),
    *({"data.x": {}}, {"data.x": {"$regex": "a"}}, {"data.x": {"eq": 1}}, {"data.x": {"$eq": 1, "y": 2}}),
    *(
        {"data.x": []},
        {"data.x": (1,)},
        {"data.x": {1, 2}},
        {"data.x": object()},
        {"data.x": NOON.replace(tzinfo=None)},
    ),
    *(
        {"data.x": {"$in": "abc"}},
        {"data.x": {"$in": [1, "a"]}},
        {"data.x": {"$nin": [True, 1]}},
        {"data.x": {"$in": 1}},
    ),
    *({"data.x": {"$in": [[1]]}}, {"data.x": {"$gt": None}}, {"data.x": {"$lte": [1]}}, {"data.x": {"$exists": 1}}),
    *({"data.x": {"$like": 1}}, {"data.x": {"$like": "a\\"}}, {"data.x": {"$contains": {}}}, {"data.x": {"$not": {}}}),
    *({"$and": []}, {"$or": {}}, {"$nor": [{}]}, {"$not": []}, {"$and": [1]}, {"$or": [{"colour": 1}]}, {5: 1}),
    *({"data.x' OR 1=1 --": {"$nope": 1}}, {"id) OR (1=1": 1}, {'x"; DROP TABLE records; --': 1}),
    *([], "type = 'note'", 5),
]


def _documents(field: str) -> list[dict[str, Any]]:
    return [note(name, **{field: {"v": value, "w": 1}}) for name, value in VALUES.items()] + [
        note("missing", **{field: {"w": 1}})
    ]


async def _ask_everything(storage: IUnifiedStorage, path: str, **others: Any) -> None:
    """Ask everything of :data:`FOUND`, and its opposite."""
    for asked, expected in FOUND:
        filters = {path: asked, **others}
        found = ids(await storage.list(filters))
        assert set(found) == expected, filters
        assert found == sorted(found)
        assert await storage.count(filters) == len(expected), filters
        assert ids(await gathered(storage.stream_list(filters, 5))) == found, filters
        assert ids((await storage.page(filters, limit=100, order_by="id")).items) == found, filters
        opposite = await storage.count({"$not": {path: asked}, **others})
        assert opposite == len(ALL) - len(expected), filters


class FilterPromises(Harness):
    """Every operator on every kind of value; on a plain path and on an indexed one."""

    async def test_every_filter_on_a_document_finds_what_it_says(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, _documents("data"))
        await _ask_everything(storage, "data.v")

    async def test_every_filter_on_metadata_finds_what_it_says(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, _documents("metadata"))
        await _ask_everything(storage, "metadata.v")

    async def test_every_filter_on_an_indexed_path_finds_what_it_says(self, open_store: OpenStore) -> None:
        async with open_store(indexed={"note": ["data.v", "metadata.v"]}) as storage:
            await save_all(storage, _documents("data"))
            await _ask_everything(storage, "data.v")
            await _ask_everything(storage, "data.v", type="note")

    async def test_a_path_that_is_indexed_later_finds_what_was_there_before(self, open_store: OpenStore) -> None:
        if "persistence" in self.missing:
            pytest.skip("this storage keeps nothing that could be indexed later")
        async with open_store() as storage:
            await save_all(storage, _documents("data"))
        async with open_store(indexed={"note": ["data.v"]}) as storage:
            await _ask_everything(storage, "data.v", type="note")

    async def test_session_owners_and_status_are_found(self, storage: IUnifiedStorage) -> None:
        owners = {f"{name}_id": f"{name}-1" for name in ("agent", "user", "team", "workflow")}
        await storage.save(session("s1", metadata={**owners, "status": "active", "tags": ["x", "y"]}))
        await storage.save(session("s2", metadata={"user_id": "user-2", "status": "active"}))
        for name, value in owners.items():
            assert ids(await storage.list({f"metadata.{name}": value, "type": "session"})) == ["s1"]
        assert ids(await storage.list({"type": "session", "metadata.status": "active"})) == ["s1", "s2"]
        assert ids(await storage.list({"metadata.tags": {"$contains": "y"}})) == ["s1"]
        assert ids(await storage.list({"metadata.status": "active", "metadata.user_id": "user-2"})) == ["s2"]

    async def test_columns_can_be_asked(self, timed: IUnifiedStorage) -> None:
        await timed.save(note("a", session_id="s", expires_at=NOON + timedelta(days=1)))
        await timed.save(note("b", thread_id="t", created_at=NOON - timedelta(days=1)))
        await timed.save(note("b", thread_id="t"))
        asked: list[tuple[dict[str, Any], list[str]]] = [
            ({"id": "a"}, ["a"]),
            ({"id": {"$in": ["b", "c"]}}, ["b"]),
            ({"id": {"$like": "%"}}, ["a", "b"]),
            ({"type": "note", "version": 2}, ["b"]),
            ({"version": {"$gt": 0.5, "$lt": 2}}, ["a"]),
            ({"session_id": "s"}, ["a"]),
            ({"session_id": None}, ["b"]),
            ({"thread_id": {"$ne": None}}, ["b"]),
            ({"session_id": {"$exists": True}}, ["a", "b"]),
            ({"created_at": NOON.astimezone(INDIA)}, ["a"]),
            ({"created_at": {"$lt": NOON}}, ["b"]),
            ({"updated_at": {"$gt": NOON}}, ["b"]),
            ({"updated_at": {"$gte": NOON.astimezone(INDIA)}}, ["a", "b"]),
            ({"updated_at": "2024-05-15T12:00:00Z"}, []),
            ({"created_at": {"$gte": "2024"}}, []),
            ({"expires_at": {"$gt": NOON}}, ["a"]),
            ({"expires_at": None}, ["b"]),
            ({"metadata": None}, ["a", "b"]),
            ({"data": {"$exists": True}}, ["a", "b"]),
            ({"id": 1}, []),
            ({"id": {"$gt": ""}}, ["a", "b"]),
        ]
        for filters, expected in asked:
            assert ids(await timed.list(filters)) == expected, filters

    async def test_paths_reach_into_mappings_and_never_into_lists(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("deep", {"a": {"b": {"c": 1}}}))
        await storage.save(note("dotted", {"a.b": {"c": 1}, "": {"": 2}, 'q"': 3, "back\\slash": 4, "it's": 5, "%": 6}))
        await storage.save(note("list", {"a": [{"b": {"c": 1}}], "0": 1}))
        await storage.save(note("text", {"a": "b"}))
        asked = {
            "data.a.b.c": ["deep"],
            r"data.a\.b.c": ["dotted"],
            "data.a.0.b.c": [],
        }
        for path, expected in asked.items():
            assert ids(await storage.list({path: 1})) == expected, path
        for path, value in (("data..", 2), ('data.q"', 3), (r"data.back\\slash", 4), ("data.it's", 5), ("data.%", 6)):
            assert ids(await storage.list({path: value})) == ["dotted"], path
        assert ids(await storage.list({"data.a.b": {"$exists": False}})) == ["dotted", "list", "text"]

    async def test_filters_combine(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(f"{x}{y}", {"x": x, "y": y}) for x in range(3) for y in range(3)])
        asked: list[tuple[dict[str, Any], list[str]]] = [
            ({"data.x": 1, "data.y": 2}, ["12"]),
            ({"$or": [{"data.x": 0}, {"data.y": 0}]}, ["00", "01", "02", "10", "20"]),
            ({"$and": [{"data.x": {"$gt": 0}}, {"data.y": {"$lt": 1}}]}, ["10", "20"]),
            ({"$not": {"data.x": {"$gt": 0}}}, ["00", "01", "02"]),
            ({"$not": {"data.x": 1, "data.y": 1}, "data.x": 1}, ["10", "12"]),
            (
                {"$or": [{"$and": [{"data.x": 2}, {"data.y": 2}]}, {"$not": {"data.x": {"$ne": 0}}}]},
                ["00", "01", "02", "22"],
            ),
            ({"data.x": 1, "$or": [{"data.y": 0}, {"data.y": 1}]}, ["10", "11"]),
            ({"$and": [{}]}, [f"{x}{y}" for x in range(3) for y in range(3)]),
            ({"$not": {}}, []),
        ]
        for filters, expected in asked:
            assert ids(await storage.list(filters)) == expected, filters

    @pytest.mark.parametrize("filters", REFUSED, ids=named)
    async def test_what_is_no_filter_is_refused_by_every_verb(self, storage: IUnifiedStorage, filters: Any) -> None:
        await storage.save(note("a", {"x": 1}))
        with pytest.raises(StorageValidationError):
            await storage.list(filters)
        with pytest.raises(StorageValidationError):
            await storage.count(filters)
        with pytest.raises(StorageValidationError):
            await storage.page(filters)
        with pytest.raises(StorageValidationError):
            await gathered(storage.stream_list(filters))

    async def test_odd_field_names_are_only_names(self, storage: IUnifiedStorage) -> None:
        attack = "x') OR 1=1; DROP TABLE records; --"
        await save_all(storage, [note("a", {attack: 1}), note("b", {"x": 1})])
        assert ids(await storage.list({f"data.{attack}": 1})) == ["a"]
        assert await storage.list({f"data.{attack}": "' OR '1'='1"}) == []
        assert await storage.count() == 2

    async def test_filters_are_not_changed(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"x": 1}))
        filters = {"$or": [{"data.x": {"$in": [1, 2]}}, {"id": "a"}]}
        await storage.list(filters)
        await storage.page(filters)
        assert filters == {"$or": [{"data.x": {"$in": [1, 2]}}, {"id": "a"}]}

    async def test_years_at_the_ends_of_time_compare(self, storage: IUnifiedStorage) -> None:
        first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
        await save_all(storage, [note("first", {"at": first}), note("last", {"at": last}, created_at=first)])
        assert ids(await storage.list({"data.at": {"$lt": NOON}})) == ["first"]
        assert ids(await storage.list({"data.at": {"$gte": last}})) == ["last"]
        assert ids(await storage.list({"created_at": {"$lte": first}})) == ["last"]
