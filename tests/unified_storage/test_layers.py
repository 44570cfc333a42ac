"""Layers keep every promise of the storage behind them (S2.34, S2.54), and the one that they add."""

import asyncio
import random
from pathlib import Path

import prometheus_client
import pytest

from unified_storage import IUnifiedStorage, StorageValidationError, open_storage
from unified_storage.layers import Cache, Metrics
from unified_storage.layers.metrics import OpenTelemetryRecorder, PrometheusRecorder
from unified_storage.testing import StorageConformance

NOTE = {"id": "a", "type": "note", "data": {"tags": ["x"]}, "metadata": {"m": ["y"]}}


class TestCacheOverMemory(StorageConformance):
    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: Cache(open_storage("memory://", **options))


class TestMetricsOverMemory(StorageConformance):
    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: Metrics(open_storage("memory://", **options))


@pytest.fixture
async def behind(tmp_path: Path):
    async with open_storage(f"sqlite:///{tmp_path}/records.db") as storage:
        yield storage


async def test_a_second_load_comes_from_the_cache_and_shares_nothing(behind: IUnifiedStorage) -> None:
    cache = Cache(behind)
    await cache.save(NOTE)
    first = await cache.load("a", type="note")
    second = await cache.load("a", type="note")
    assert first == second == await behind.load("a", type="note")
    assert (cache.counts.hits, cache.counts.misses) == (1, 1)
    assert first is not None
    first["data"]["tags"].append("mine")
    first["metadata"]["m"].append("mine")
    assert await cache.load("a", type="note") == second


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.save(NOTE | {"data": {"new": 1}}),
        lambda s: s.update("a", {"data": {"new": 1}}),
        lambda s: s.delete("a"),
        lambda s: s.batch_save([NOTE]),
        lambda s: s.batch_delete(["a"]),
        lambda s: s.append("log@note/a", [{"body": 1}]),
        lambda s: s.rewrite("log@note/a", []),
        lambda s: s.restore([NOTE]),
        lambda s: s.transaction([{"type": "update", "id": "a", "data": {"data": {"new": 1}}}]),
    ],
)
async def test_what_was_written_through_it_is_never_hidden(behind: IUnifiedStorage, write) -> None:
    cache = Cache(behind)
    await cache.save(NOTE)
    await cache.load("a", type="note")
    await write(cache)
    assert await cache.load("a", type="note") == await behind.load("a", type="note")


async def test_a_load_that_a_write_overtook_is_not_remembered(behind: IUnifiedStorage) -> None:
    """The load read the old record, the write ended first: the old one must not stay."""

    class Slow(Cache):
        async def _call(self, verb, call):
            result = await super()._call(verb, call)
            if verb == "load":
                await overtaken.wait()
            return result

    overtaken = asyncio.Event()
    cache = Slow(behind)
    await cache.save(NOTE)
    loading = asyncio.create_task(cache.load("a", type="note"))
    await asyncio.sleep(0.05)
    await cache.update("a", {"data": {"new": 1}})
    overtaken.set()
    await loading
    record = await cache.load("a", type="note")
    assert record is not None
    assert record["data"]["new"] == 1


async def test_with_and_without_cache_everybody_reads_the_same(behind: IUnifiedStorage) -> None:
    """S2.34: the same random run twice, once through a small cache."""

    async def run(storage: IUnifiedStorage, prefix: str) -> list:
        source, seen = random.Random(5), []
        for step in range(400):
            name = f"{prefix}{source.randrange(6)}"
            match source.randrange(5):
                case 0:
                    await storage.save({"id": name, "type": "note", "data": {"step": step}})
                case 1:
                    await storage.update(name, {"data": {"more": step}}, type="note")
                case 2:
                    await storage.delete(name, type="note")
                case _:
                    record = await storage.load(name, type="note")
                    seen.append(record and record["data"])
        return seen

    assert await run(Cache(behind, size=3), "c") == await run(behind, "p")


async def test_the_cache_forgets_the_oldest(behind: IUnifiedStorage) -> None:
    cache = Cache(behind, size=2)
    await cache.batch_save([{"id": name, "type": "note", "data": {}} for name in "abc"])
    for name in "abca":
        await cache.load(name, type="note")
    assert cache.counts.hits == 0
    await cache.load("c", type="note")
    assert cache.counts.hits == 1


async def test_metrics_count_calls_errors_and_time(behind: IUnifiedStorage) -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = Metrics(behind, [PrometheusRecorder(registry), OpenTelemetryRecorder()])
    await metrics.save(NOTE)
    await metrics.load("a")
    with pytest.raises(StorageValidationError):
        await metrics.save({"id": "b"})
    async with metrics.transaction() as tx:
        await tx.load("a")
    await metrics.transaction([{"type": "load", "id": "a"}])
    seen = metrics.snapshot()
    assert {verb: (counts["calls"], counts["errors"]) for verb, counts in seen.items()} == {
        "save": (2, 1),
        "load": (1, 0),
        "transaction": (2, 0),
    }
    assert all(0 < counts["slowest"] <= counts["seconds"] for counts in seen.values())
    assert registry.get_sample_value("unified_storage_verb_seconds_count", {"verb": "save"}) == 2
    labels = {"verb": "save", "error": "STORAGE_VALIDATION_ERROR"}
    assert registry.get_sample_value("unified_storage_verb_errors_total", labels) == 1
