"""Named instances: several storages on one client (S1.26)."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace, redis_client
from unified_storage import (
    RedisInstance,
    StorageClosedError,
    StorageConfigurationError,
    create_storage,
    instances,
    open_storage,
    register_redis_instance,
)
from unified_storage.testing.drafts import note


@pytest.fixture
def url() -> str:
    return engine_url("redis")


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(instances, "_instances", {})


@pytest.fixture
async def namespace(url: str) -> AsyncIterator[str]:
    namespace = fresh_namespace("instances")
    yield namespace
    await drop_namespace(url, namespace)


@pytest.fixture
async def shared(url: str, namespace: str) -> AsyncIterator[RedisInstance]:
    async with register_redis_instance(
        "shared", url=url, pool_size=2, client_name=namespace, namespace=namespace
    ) as instance:
        yield instance


async def connections(url: str, name: str) -> int:
    async with redis_client(url) as raw:
        await asyncio.sleep(0.05)
        return Counter(found["name"] for found in await raw.client_list())[name]


async def test_two_storages_on_one_instance_use_one_pool_and_closing_one_leaves_the_other_working(
    url: str, shared: RedisInstance, namespace: str
) -> None:
    one, other = (open_storage(instance_name="shared") for _ in range(2))
    async with other:
        async with one:
            await asyncio.gather(*(one.save(note(f"a{n}")) for n in range(20)))
            await asyncio.gather(*(other.save(note(f"b{n}")) for n in range(20)))
            assert 1 <= await connections(url, namespace) <= 2
        with pytest.raises(StorageClosedError):
            await one.load("a1")
        assert await other.count() == 40
    assert 1 <= await connections(url, namespace) <= 2  # nobody but its owner closes it
    async with open_storage(instance_name="shared") as third:
        assert await third.exists("a1")


async def test_its_owner_closes_it_and_frees_the_name(url: str, namespace: str) -> None:
    async with register_redis_instance("mine", url=url, client_name=namespace, namespace=namespace):
        storage = open_storage(instance_name="mine")
        await storage.save(note("a"))
    assert await connections(url, namespace) == 0
    with pytest.raises(StorageClosedError):
        await storage.load("a")
    with pytest.raises(StorageConfigurationError, match="'mine'"):
        open_storage(instance_name="mine")
    await storage.close()
    register_redis_instance("mine", url=url, namespace=namespace)
    async with instances.named_instance("mine"), open_storage(instance_name="mine") as again:
        assert await again.exists("a")


async def test_closing_an_instance_twice_does_not_free_its_successor(url: str) -> None:
    first = register_redis_instance("mine", url=url)
    await first.close()
    async with register_redis_instance("mine", url=url):
        await first.close()
        open_storage(instance_name="mine")


async def test_an_unknown_name_is_refused_with_the_known_ones(shared: RedisInstance, url: str) -> None:
    async with register_redis_instance("another", url=url):
        with pytest.raises(StorageConfigurationError) as refusal:
            open_storage(instance_name="nobody")
    assert refusal.value.details["known"] == ["another", "shared"]
    assert "'nobody'" in refusal.value.message
    assert "another, shared" in refusal.value.message


async def test_a_url_wins_over_a_name(shared: RedisInstance) -> None:
    async with open_storage("memory://", instance_name="shared") as storage:
        assert (await storage.health_check())["backend"] == "memory"
    async with open_storage("memory://", instance_name="nobody") as storage:
        await storage.save(note("a"))


async def test_a_storage_may_have_a_namespace_of_its_own_but_no_connections(
    shared: RedisInstance, namespace: str, url: str
) -> None:
    own = fresh_namespace("own")
    async with (
        open_storage(instance_name="shared", namespace=own) as apart,
        open_storage(instance_name="shared") as one,
    ):
        await apart.save(note("a"))
        assert not await one.exists("a")
    await drop_namespace(url, own)
    with pytest.raises(StorageConfigurationError, match="pool_size"):
        open_storage(instance_name="shared", pool_size=5)
    with pytest.raises(StorageConfigurationError, match="colour"):
        open_storage(instance_name="shared", colour="red")


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("redis://h", {"colour": "red"}, "colour"),
        ("redis://h?colour=red", {}, "colour"),
        ("sqlite:///x.db", {}, "sqlite"),
        ("redis://h:port", {}, "host:port"),
        ("h:6379", {}, "no storage URL"),
    ],
)
def test_what_cannot_be_a_client_is_refused_when_it_is_registered(url: str, options: Any, said: str) -> None:
    with pytest.raises(StorageConfigurationError, match=said):
        register_redis_instance("wrong", url=url, **options)
    with pytest.raises(StorageConfigurationError, match="known: none"):
        open_storage(instance_name="wrong")


async def test_a_name_is_given_once(shared: RedisInstance, url: str) -> None:
    with pytest.raises(StorageConfigurationError, match="already"):
        register_redis_instance("shared", url=url)
    open_storage(instance_name="shared")


def test_no_password_is_shown() -> None:
    instance = register_redis_instance("secret", url="redis://u:hunter2@h")
    assert "hunter2" not in repr(instance)
    assert "secret" in repr(instance)


async def test_a_storage_made_of_a_type_and_settings_may_name_an_instance(shared: RedisInstance, url: str) -> None:
    async with create_storage("redis", {"instance_name": "shared"}) as storage:
        await storage.save(note("a"))
        async with open_storage(instance_name="shared") as other:
            assert await other.exists("a")
    with pytest.raises(StorageConfigurationError, match="not of type"):
        create_storage("sqlite", {"instance_name": "shared"})


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_threads_with_loops_of_their_own_use_one_instance(url: str, threads: ThreadPoolExecutor) -> None:
    namespace = fresh_namespace("threads")
    instance = register_redis_instance("threads", url=url, namespace=namespace)

    async def work(number: int) -> int:
        async with open_storage(instance_name="threads") as storage:
            for n in range(10):
                await storage.save(note(f"{number}-{n}"))
            return await storage.count()

    counts = [*threads.map(lambda number: asyncio.run(work(number)), range(8))]
    assert max(counts) == 80
    asyncio.run(instance.close())
    asyncio.run(drop_namespace(url, namespace))


def test_the_name_is_imported_without_redis_until_something_is_registered() -> None:
    program = (
        "import sys; from unified_storage import register_redis_instance as register;"
        "assert 'redis' not in sys.modules and 'asyncio' not in sys.modules;"
        "register('a', url='redis://h'); assert 'redis' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
