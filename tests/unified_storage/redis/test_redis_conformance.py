"""Redis, one server and a cluster, keeps every promise, and answers alike however much it reads at once."""

from collections.abc import AsyncIterator

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage import open_storage
from unified_storage.backends.redis import listing, store, streams, walks
from unified_storage.testing import StorageConformance, assert_same_answers, generated_cases
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.differential import INDEXED

pytestmark = pytest.mark.servers


@pytest.fixture
def engine() -> str:
    """Which server; a class or a parameter may say another one."""
    return "redis"


@pytest.fixture
async def namespace(engine: str) -> AsyncIterator[str]:
    """One of the test's own, whose keys go afterwards."""
    name = fresh_namespace("rs")
    yield name
    await drop_namespace(engine_url(engine), name)


class TestRedis(StorageConformance):
    """S0.29."""

    @pytest.fixture
    def open_store(self, engine: str, namespace: str):
        url = engine_url(engine)
        return lambda **options: open_storage(url, namespace=namespace, **options)


class TestRedisCluster(StorageConformance):
    """S0.29, S1.28."""

    missing = frozenset({"transactions over partitions", "batches over partitions"})

    @pytest.fixture
    def engine(self) -> str:
        return "redis-cluster"

    @pytest.fixture
    def open_store(self, engine: str, namespace: str):
        url = engine_url(engine)
        return lambda **options: open_storage(url, namespace=namespace, **options)


@pytest.mark.scaled
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ["redis", "redis-cluster"])
async def test_answers_do_not_depend_on_how_much_is_read_at_once(
    engine: str, namespace: str, scaled, monkeypatch
) -> None:
    """Walks that go on in the middle of a tie, of a type, of what is sorted here and of what is not."""
    for module, name, value in (
        (walks, "_LOOKED_AT", 3),
        (walks, "_LOOKED_AT_WITH_DATA", 2),
        (streams, "_LOOKED_AT", 4),
        (listing, "_ASKED_AT_ONCE", 3),
        (listing, "_FEW", 6),
        (store, "_RECORDS_AT_ONCE", 2),
    ):
        monkeypatch.setattr(module, name, value)
    clock = ManualClock()
    async with (
        open_storage("memory://", indexed=INDEXED, clock=clock) as memory,
        open_storage(engine_url(engine), namespace=namespace, indexed=INDEXED, clock=clock) as redis,
    ):
        cases = generated_cases(scaled(1000, minimum=40), scaled(200, minimum=10), seed=5000)
        tally = await assert_same_answers(memory, redis, cases)
    assert tally.found_something > tally.asked // 10
