"""Promises about values: what goes in comes out, or is refused with its path."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from unified_storage.errors import StorageCapacityError, StorageError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, ids, note, session, stored
from unified_storage.testing.harness import Harness
from unified_storage.values import MAX_ENCODED, encode, equal

KEPT: dict[str, Any] = {
    "nothing": [None, True, False, [], {}, "", [[]], [{}], {"": {}}],
    "integers": [0, -1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**4299],
    "floats": [0.1, -0.0, 0.0, 1.0, 1e22, 1.7976931348623157e308, 5e-324, 9007199254740993.0, 1e16, 3.0000000000000004],
    "not numbers": [float("nan"), float("inf"), float("-inf")],
    "texts": [
        "\x00",
        "a\x00b",
        "\ud800",
        "\udfff\ud800",
        "\ud83d\ude00",
        "😀",
        "\uffff",
        "\u2028",
        '"\\/\b\f\n\r\t',
        "%s",
    ],
    "bytes": [b"", b"\x00\xff", b"zh-CN"],
    "times": [
        datetime(2024, 5, 15, 12, 0, 0, 1, tzinfo=UTC),
        datetime(2024, 5, 15, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2024, 5, 15, 12, 0, 0, 1),  # noqa: DTZ001  # naive ones are values too
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max,  # noqa: DTZ901
        date(2024, 2, 29),
    ],
    "decimals": [
        Decimal("1.10"),
        Decimal("1.1"),
        Decimal("-0"),
        Decimal("1E+400"),
        Decimal("NaN"),
        Decimal("Infinity"),
    ],
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
    "tuples": [(), (1, (2, [3])), ({"a": (1,)},)],
    "sets": [set(), {1, "a", b"b", (1, 2)}],
    "our own marks": {"$type": "bytes", "value": "AP8="},
    "marks inside": [{"$type": 1}, {"$type": {"$type": []}}, {"$ref": 1, "$set": {"x": 1}}],
    "keys": {"a.b": 1, "": 2, 'q"uote': 3, "\x00": 4, "\ud800": 5, "🙂": 6, "$": 7, "it's": 8, "back\\slash": 9},
    "key order": {"z": 1, "a": 2, "M": 3, "10": 4, "9": 5},
}


class Shade(enum.IntEnum):
    """An int that is more than an int."""

    RED = 1


REFUSED: dict[str, tuple[Any, str]] = {
    "an object": ({"a": [0, {"b": object()}]}, "data.a[1].b"),
    "a key that is no text": ({"a": {1: 2}}, "data.a"),
    "a key of None": ({None: 1}, "data"),
    "an enum": ({"a": Shade.RED}, "data.a"),
    "a time of day": ({"a": time(12)}, "data.a"),
    "a duration": ({"a": timedelta(1)}, "data.a"),
    "a complex number": ({"a": 1j}, "data.a"),
    "a frozen set": ({"a": frozenset({1})}, "data.a"),
    "a byte array": ({"a": bytearray(b"x")}, "data.a"),
    "a class": ({"a": int}, "data.a"),
    "a function": ({"a": [print]}, "data.a[0]"),
    "an iterator": ({"a": iter([1])}, "data.a"),
}


def nested(depth: int) -> dict[str, Any]:
    """A document of *depth* levels."""
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value  # type: ignore[no-any-return]  # a dict from the first line on


def exactly(kept: Any, given: Any) -> bool:
    """Same types, content and order of keys."""
    return equal(kept, given) and (isinstance(given, set) or _keys_in_order(kept, given))


def _keys_in_order(kept: Any, given: Any) -> bool:
    if isinstance(given, dict):
        return [*kept] == [*given] and all(_keys_in_order(kept[key], given[key]) for key in given)
    if isinstance(given, list | tuple):
        return all(_keys_in_order(one, other) for one, other in zip(kept, given, strict=True))
    return True


class ValuePromises(Harness):
    """Exact values, in documents, in metadata and in entries."""

    @pytest.mark.parametrize("name", KEPT)
    async def test_values_come_back_as_they_went_in(self, storage: IUnifiedStorage, name: str) -> None:
        value = KEPT[name]
        await storage.save(session("s", {"v": value, "after": 1}, metadata={"v": value}))
        await storage.append("events/s", [body(value)])
        record = await stored(storage, "s")
        assert exactly(record["data"], {"v": value, "after": 1})
        assert exactly(record["metadata"], {"v": value})
        assert exactly((await storage.list())[0]["data"]["v"], value)
        assert exactly((await bodies(storage, "events/s"))[0], value)
        assert exactly((await storage.pop("events/s") or {})["body"], value)

    @pytest.mark.parametrize("name", KEPT)
    async def test_update_and_rewrite_keep_values_exactly(self, storage: IUnifiedStorage, name: str) -> None:
        value = KEPT[name]
        await storage.save(session("s", {"beside": value}))
        await storage.update("s", {"data": {"list": [value]}})
        await storage.rewrite("events/s", [body(value, "k")])
        await storage.append("events/s", [body([value], "k")], on_duplicate="replace")
        assert exactly((await stored(storage, "s"))["data"], {"beside": value, "list": [value]})
        assert exactly(await bodies(storage, "events/s"), [[value]])

    @pytest.mark.parametrize("name", REFUSED)
    async def test_what_cannot_be_kept_is_refused_with_its_path(self, storage: IUnifiedStorage, name: str) -> None:
        value, path = REFUSED[name]
        with pytest.raises(StorageValidationError) as refusal:
            await storage.save(note("a", value))
        assert str(refusal.value.path).startswith(path)
        assert await storage.load("a") is None

    async def test_a_refused_entry_is_named_and_none_is_stored(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        for write in (storage.append, storage.rewrite):
            with pytest.raises(StorageValidationError) as refusal:
                await write("events/s", [body(1), body({"x": [object()]})])
            assert "[1].body.x[0]" in str(refusal.value.path)
        assert await storage.log_info("events/s") is None

    async def test_a_value_that_holds_itself_is_refused(self, storage: IUnifiedStorage) -> None:
        loop: dict[str, Any] = {}
        loop["loop"] = loop
        with pytest.raises(StorageError):
            await storage.save(note("a", loop))

    async def test_the_deepest_document_is_kept_and_a_deeper_one_refused(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s", nested(256), metadata=nested(256)))
        await storage.append("events/s", [body(nested(256))])
        record = await stored(storage, "s")
        assert record["data"] == record["metadata"] == (await bodies(storage, "events/s"))[0] == nested(256)
        for call in (
            storage.save(note("b", nested(257))),
            storage.save(note("b", metadata=nested(257))),
            storage.append("events/s", [body(nested(257))]),
            storage.update("s", {"data": nested(257)}),
            storage.save(note("b", nested(100_000))),
        ):
            with pytest.raises(StorageValidationError):
                await call

    async def test_the_longest_integer_is_kept_and_a_longer_one_refused(self, storage: IUnifiedStorage) -> None:
        longest = 10**4300 - 1
        await storage.save(note("a", {"n": [longest, -longest]}))
        assert (await stored(storage, "a"))["data"] == {"n": [longest, -longest]}
        for number in (longest + 1, -longest - 1):
            with pytest.raises(StorageValidationError):
                await storage.save(note("b", {"n": number}))

    async def test_the_largest_record_is_kept_and_a_larger_one_refused(self, storage: IUnifiedStorage) -> None:
        assert MAX_ENCODED == 15 * 1024 * 1024
        frame = len(encode({"t": ""}))
        largest = {"t": "é" * ((MAX_ENCODED - frame) // 2)}
        await storage.save(session("s", largest))
        await storage.append("events/s", [body(largest)])
        assert (await stored(storage, "s"))["data"] == largest
        assert await bodies(storage, "events/s") == [largest]
        larger = {"t": largest["t"] + "xx"}
        with pytest.raises(StorageCapacityError):
            await storage.save(note("b", larger))
        with pytest.raises(StorageCapacityError):
            await storage.save(note("b", largest, metadata={"x": 1}))
        with pytest.raises(StorageCapacityError):
            await storage.append("events/s", [body(larger)])
        assert ids(await storage.list(with_data=False)) == ["s"]
        assert await storage.log_info("events/s") == {"first_seq": 1, "last_seq": 1, "count": 1}
