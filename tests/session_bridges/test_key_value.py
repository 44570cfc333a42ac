"""What the stores of py-key-value agree on holds for ours: each promise is tried on theirs too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.errors import InvalidTTLError, SerializationError
from key_value.aio.protocols.key_value import AsyncCullProtocol, AsyncKeyValueProtocol
from key_value.aio.stores.filetree import FileTreeStore
from key_value.aio.stores.memory import MemoryStore
from key_value.aio.wrappers.encryption import FernetEncryptionWrapper
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper

from session_bridges.key_value import UnifiedKeyValue
from tests.places import Place, engines, place_on
from unified_storage import IUnifiedStorage, open_storage

ODD_NAMES = [
    *("", " ", "a/b", "a::b", "~x", "~~", "ünï\U0001f600", "line\nbreak\x00", "..", "%", "{a}", "\ud800"),
    *("x" * 5_000, "x" * 5_001),
]
VALUE = {"text": "ünï\x00", "n": 1, "f": 2.5, "none": None, "list": [1, {"a": []}], "$type": "bytes", "": True}


class Colour(StrEnum):
    RED = "red"


@pytest.fixture(params=[*engines("memory", "sqlite", "postgresql", "redis"), "MemoryStore", "FileTreeStore"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """Ours on each engine, and two that the framework brings."""
    if request.param == "MemoryStore":
        yield MemoryStore()
    elif request.param == "FileTreeStore":
        yield FileTreeStore(data_directory=tmp_path)
    else:
        async with place_on(request.param, tmp_path) as place, UnifiedKeyValue(place.address) as ours:
            yield ours


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


# what all stores agree on


async def test_a_store_is_one_of_the_protocol(store: Any):
    assert isinstance(store, AsyncKeyValueProtocol)


async def test_a_value_comes_back_as_it_was(store: Any):
    assert await store.get("k") is None
    await store.put("k", VALUE)
    assert await store.get("k") == VALUE
    assert await store.ttl("k") == (VALUE, None)


async def test_a_value_replaces_the_one_that_is_there(store: Any):
    await store.put("k", {"a": 1, "b": {"c": 2}}, ttl=60)
    await store.put("k", {"b": {"d": 3}})
    assert await store.ttl("k") == ({"b": {"d": 3}}, None)


async def test_a_value_is_what_json_makes_of_it(store: Any):
    await store.put("k", {"pair": (1, 2), "colour": Colour.RED, "inner": {1: "one"}})
    found = await store.get("k")
    assert found == {"pair": [1, 2], "colour": "red", "inner": {"1": "one"}}
    assert type(found["colour"]) is str


async def test_a_value_is_deleted_once(store: Any):
    await store.put("k", VALUE)
    assert await store.delete("k") is True
    assert await store.delete("k") is False
    assert await store.get("k") is None
    assert await store.ttl("k") == (None, None)


async def test_collections_do_not_see_each_other(store: Any):
    await store.put("k", {"in": "none"})
    await store.put("k", {"in": "one"}, collection="one")
    await store.put("k", {"in": "other"}, collection="other")
    assert await store.get("k") == await store.get("k", collection="default_collection") == {"in": "none"}
    assert await store.get("k", collection="one") == {"in": "one"}
    assert await store.delete("k", collection="one") is True
    assert await store.get("k", collection="other") == {"in": "other"}
    assert await store.get("k", collection="nowhere") is None
    assert await store.get_many(["k"], collection="one") == [None]


async def test_batches_answer_in_the_order_of_their_keys(store: Any):
    keys = [f"k{number}" for number in range(9)]
    await store.put_many(keys, [{"n": number} for number in range(9)], collection="c")
    asked = [*keys[::-1], "missing", "k3", "k3"]
    found = await store.get_many(asked, collection="c")
    assert found == [*({"n": number} for number in range(8, -1, -1)), None, {"n": 3}, {"n": 3}]
    assert await store.ttl_many(["missing", "k1"], collection="c") == [(None, None), ({"n": 1}, None)]
    assert await store.delete_many(["k1", "missing", "k2", "k2"], collection="c") == 2
    assert await store.get_many(["k0", "k1", "k2"], collection="c") == [{"n": 0}, None, None]


async def test_an_empty_batch_is_nothing(store: Any):
    assert await store.get_many([]) == []
    assert await store.ttl_many([]) == []
    assert await store.delete_many([]) == 0
    await store.put_many([], [])


async def test_of_two_values_for_one_key_the_later_stays(store: Any):
    await store.put_many(["a", "b", "a"], [{"n": 1}, {"n": 2}, {"n": 3}])
    assert await store.get_many(["a", "b"]) == [{"n": 3}, {"n": 2}]


async def test_as_many_values_as_keys_are_wanted(store: Any):
    with pytest.raises(ValueError, match="values"):
        await store.put_many(["a", "b"], [{"n": 1}])
    assert await store.get("a") is None


async def test_a_batch_of_more_than_one_query(store: Any):
    keys = [f"k{number}" for number in range(250)]
    await store.put_many(keys, [{"n": number} for number in range(250)], ttl=60)
    assert await store.get_many(keys) == [{"n": number} for number in range(250)]
    assert all(left is not None and 0 < left <= 60 for _, left in await store.ttl_many(keys))
    assert await store.delete_many(keys) == 250


async def test_the_time_that_is_left_counts_down(store: Any):
    await store.put("k", VALUE, ttl=60)
    value, left = await store.ttl("k")
    assert value == VALUE
    assert 30 < left <= 60
    await asyncio.sleep(0.01)
    assert (await store.ttl("k"))[1] < left


async def test_a_value_whose_time_is_over_is_gone(store: Any):
    await store.put("k", VALUE, ttl=0.05)
    await store.put_many(["a", "b"], [VALUE, VALUE], ttl=0.05)
    await store.put("stays", VALUE, ttl=60)
    await asyncio.sleep(0.1)
    assert await store.get("k") is None
    assert await store.ttl("k") == (None, None)
    assert await store.get_many(["a", "stays", "b"]) == [None, VALUE, None]
    await store.put("k", {"new": True})
    assert await store.get("k") == {"new": True}


@pytest.mark.parametrize("ttl", [0, -1, True, "soon"])
async def test_a_time_to_live_is_a_number_above_0(store: Any, ttl: Any):
    with pytest.raises((InvalidTTLError, TypeError, ValueError)):
        await store.put("k", VALUE, ttl=ttl)
    assert await store.get("k") is None


@pytest.mark.parametrize(
    "inside", [object(), b"bytes", datetime(2030, 1, 1, tzinfo=UTC)], ids=["object", "bytes", "time"]
)
async def test_what_is_no_json_is_refused(store: Any, inside: Any):
    with pytest.raises(SerializationError):
        await store.put("k", {"a": inside})
    assert await store.get("k") is None


@pytest.mark.parametrize("value", [["a"], "text", 1, None], ids=repr)
async def test_a_value_that_is_no_mapping_is_refused(store: Any, value: Any):
    with pytest.raises(TypeError):
        await store.put("k", value)


async def test_a_name_that_is_no_text_is_refused(store: Any):
    for call in (store.get(1), store.put(1, VALUE), store.delete(1), store.get("k", collection=1)):
        with pytest.raises(TypeError):
            await call


async def test_the_adapters_of_the_framework_stand_on_it(store: Any):
    adapter = PydanticAdapter[list[int]](key_value=store, pydantic_model=list[int], default_collection="lists")
    await adapter.put(key="k", value=[1, 2])
    assert await adapter.get(key="k") == [1, 2]


async def test_the_wrappers_of_the_framework_stand_on_it(store: Any):
    wrapped = PrefixKeysWrapper(
        key_value=FernetEncryptionWrapper(store, source_material="a secret", salt="salt"), prefix="p"
    )
    await wrapped.put("k", VALUE, ttl=60)
    assert await wrapped.get("k") == VALUE
    assert await wrapped.delete_many(["k", "none"]) == 1


# ours alone


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    async with place.open() as storage:
        yield storage


async def test_no_key_and_no_collection_is_too_long_or_too_odd(storage: IUnifiedStorage):
    ours = UnifiedKeyValue(storage)
    for collection in ODD_NAMES[1:]:
        for key in ODD_NAMES:
            await ours.put(key, {"of": [collection, key]}, collection=collection)
    for collection in ODD_NAMES[1:]:
        found = await ours.get_many(ODD_NAMES, collection=collection)
        assert found == [{"of": [collection, key]} for key in ODD_NAMES]


async def test_both_names_stand_in_the_record(storage: IUnifiedStorage):
    await UnifiedKeyValue(storage).put("k" * 3_000, {"a": 1}, collection="c")
    [record] = await storage.list({"type": "kv"})
    assert record["data"] == {"collection": "c", "key": "k" * 3_000, "value": {"a": 1}}
    assert await storage.list({"type": "kv", "data.collection": "c"}) == [record]


async def test_a_batch_is_stored_whole_or_not_at_all(storage: IUnifiedStorage):
    ours = UnifiedKeyValue(storage)
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(SerializationError):
        await ours.put_many(["a", "b"], [VALUE, deep])
    assert await ours.get_many(["a", "b"]) == [None, None]


async def test_time_is_that_of_the_storage(place: Place):
    clock = Clock()
    async with place.open(clock=clock) as storage:
        ours = UnifiedKeyValue(storage)
        await ours.put("k", VALUE, ttl=10)
        clock.move(4)
        assert await ours.ttl("k") == (VALUE, 6)
        clock.move(6)
        assert await ours.ttl("k") == (None, None)
        assert await ours.delete("k") is False


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), 1e15], ids=repr)
async def test_a_time_that_no_calendar_has_is_refused(ttl: float):
    async with UnifiedKeyValue("memory://") as ours:
        with pytest.raises(InvalidTTLError):
            await ours.put("k", VALUE, ttl=ttl)


async def test_culling_gives_the_room_of_what_is_over_back(place: Place):
    clock = Clock()
    async with place.open(clock=clock) as storage:
        ours = UnifiedKeyValue(storage)
        assert isinstance(ours, AsyncCullProtocol)
        await ours.put("over", VALUE, ttl=1)
        await ours.put("stays", VALUE, ttl=3)
        clock.move(2)
        await ours.cull()
        assert await storage.purge_expired() == 0
        assert await ours.get_many(["over", "stays"]) == [None, VALUE]


async def test_values_outlive_the_program(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/kv.db"
    async with UnifiedKeyValue(url) as ours:
        await ours.put("k", VALUE, collection="c")
    async with UnifiedKeyValue(url) as again:
        assert await again.get("k", collection="c") == VALUE


async def test_a_storage_that_was_given_stays_open(storage: IUnifiedStorage):
    async with UnifiedKeyValue(storage) as ours:
        await ours.put("k", VALUE)
    assert await UnifiedKeyValue(storage).get("k") == VALUE


async def test_another_default_collection(storage: IUnifiedStorage):
    ours = UnifiedKeyValue(storage, default_collection="mine")
    await ours.put("k", VALUE)
    assert await UnifiedKeyValue(storage).get("k", collection="mine") == VALUE
    assert await UnifiedKeyValue(storage).get("k") is None


async def test_a_collection_is_one_partition_of_a_cluster():
    from unified_storage.backends.redis.partitions import Layout

    async with open_storage("memory://") as storage:
        ours = UnifiedKeyValue(storage)
        for collection in "abcdefgh":
            await ours.put_many([f"k{at}" for at in range(20)], [VALUE] * 20, collection=collection)
        partitions: dict[str, set[int]] = {}
        layout = Layout("us:", 16)
        for record in await storage.list({"type": "kv"}):
            partitions.setdefault(record["data"]["collection"], set()).add(layout.of(record["id"]))
        assert all(len(found) == 1 for found in partitions.values())
        assert len(set.union(*partitions.values())) > 1


@pytest.mark.servers
async def test_batches_work_on_a_cluster(tmp_path: Path):
    async with place_on("redis-cluster", tmp_path) as place, place.open() as storage:
        ours = UnifiedKeyValue(storage)
        for collection in "abc":
            await ours.put_many(["x", "y"], [{"n": 1}, {"n": 2}], collection=collection)
        assert await ours.get_many(["y", "x"], collection="b") == [{"n": 2}, {"n": 1}]
        assert await ours.delete_many(["y", "x"], collection="b") == 2


async def test_writers_at_once_each_leave_a_whole_value(storage: IUnifiedStorage, scaled: Callable[..., int]):
    ours = UnifiedKeyValue(storage)
    count = scaled(400, minimum=24)
    await asyncio.gather(*(ours.put(f"k{at % 8}", {"a": at, "b": at}) for at in range(count)))
    for value in await ours.get_many([f"k{at}" for at in range(8)]):
        assert value is not None
        assert value["a"] == value["b"]
