"""The Redis client on a cluster: every key where it belongs, and masters that come and go."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis.crc import key_slot

from tests.engines import private_server, redis_client
from tests.servers import Server
from tests.servers.wire import redis_call
from tests.unified_storage.redis.clients import COUNT, VALUE, Counted, client_on
from unified_storage import StorageConfigurationError, StorageConnectionError, StorageError
from unified_storage.backends.redis.client import Client, Script
from unified_storage.backends.redis.node import Node


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server("redis-cluster-ha") as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with client_on(server.url, connect_timeout=30) as client:
        yield client


@pytest.fixture
def tag() -> str:
    return f"test:{uuid4()}"


def keys_of(tag: str) -> list[str]:
    """One key in each of 64 partitions, which lie on every node."""
    return [f"{tag}:{{p{partition:02}}}" for partition in range(64)]


def master_of(server: Server, key: str) -> Any:
    """The node that serves *key* now."""
    slot = key_slot(key.encode())
    for node in server.nodes:
        if not node.process.alive:
            continue
        for first, last, (_, port, *_), *_ in redis_call(node.port, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(other for other in server.nodes if other.port == port)
    raise AssertionError("nobody serves it")


async def test_every_key_goes_to_its_node_and_one_question_asks_them_all(
    client: Client, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.partitions == 64
    for key in keys_of(tag):
        assert await client.run(COUNT, [key], [], timeout=5) == 1
    commands = [("GET", key) for key in keys_of(tag)] + [VALUE.reading([key], []) for key in keys_of(tag)]
    await client.ask(commands, timeout=5)  # every node knows the script now
    asked = []
    request = Node.request

    def counted(node: Node, *arguments: Any, **options: Any) -> Any:
        asked.append(node.address)
        return request(node, *arguments, **options)

    monkeypatch.setattr(Node, "request", counted)
    assert await client.ask(commands, timeout=5) == [b"1"] * 128
    assert len(asked) == len(set(asked)) == 3


async def test_the_facts_are_those_of_all_masters(server: Server, client: Client) -> None:
    facts = await client.facts()
    assert (facts["mode"], facts["masters"], facts["durability"]) == ("cluster", 3, "full")
    await client.ping(5)
    redis_call(server.nodes[1].port, "CONFIG", "SET", "appendfsync", "everysec")
    redis_call(server.nodes[2].port, "CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    try:
        facts = await client.facts()
        assert (facts["durability"], facts["eviction"]) == ("every second", "volatile-ttl")
        assert "volatile-ttl" in facts["warning"]
    finally:
        redis_call(server.nodes[1].port, "CONFIG", "SET", "appendfsync", "always")
        redis_call(server.nodes[2].port, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_one_node_is_enough_to_find_the_others(server: Server, tag: str) -> None:
    for node in server.nodes:
        async with client_on(f"redis+cluster://127.0.0.1:1,127.0.0.1:{node.port}") as client:
            for key in keys_of(tag)[:8]:
                await client.run(COUNT, [key], [], timeout=5)
    async with client_on("redis+cluster://127.0.0.1:1,127.0.0.1:2") as client:
        begun = time.monotonic()
        with pytest.raises(StorageConnectionError):
            await client.ask([("GET", "x")], timeout=30)
        assert time.monotonic() - begun < 1


async def test_keys_of_several_slots_are_refused(client: Client, tag: str) -> None:
    with pytest.raises(StorageError) as refusal:
        await client.run(COUNT, keys_of(tag)[:2], [], timeout=5)
    assert (refusal.value.error_code, refusal.value.retryable) == ("CROSSSLOT", False)


async def test_a_cluster_has_one_database(server: Server) -> None:
    with pytest.raises(StorageConfigurationError, match="database 0"):
        async with client_on(f"{server.url}/1"):
            pass


async def test_a_slot_that_moves_is_followed_without_a_lost_or_repeated_count(
    server: Server, client: Client, tag: str
) -> None:
    """MOVED, ASK and TRYAGAIN: the keys go one by one to another node while others count on them."""
    keys = [f"{tag}:{{moving}}:{n}" for n in range(20)]
    both = Script("redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])")
    slot = key_slot(keys[0].encode())
    stop = asyncio.Event()
    done = dict.fromkeys(keys, 0)

    async def load(number: int) -> None:
        one, other = keys[number], keys[(number + 7) % 20]
        for turn in itertools.count():
            if stop.is_set():
                return
            await client.run(both, [one, other], [], timeout=10)
            assert await client.run(COUNT, [f"{one}:{turn}"], [], timeout=10) == 1
            assert await client.ask([("GET", f"{one}:{turn}"), ("EXISTS", one)], timeout=10) == [b"1", 1]
            done[one] += 1
            done[other] += 1

    for node in server.nodes:
        redis_call(node.port, "CONFIG", "RESETSTAT")
    tasks = [asyncio.create_task(load(number)) for number in range(20)]
    for _ in range(2):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(_move_slot, server, slot, keys[0])
    await asyncio.sleep(0.2)
    stop.set()
    await asyncio.gather(*tasks)
    values = await client.ask([("GET", key) for key in keys], timeout=5)
    assert sum(map(int, values)) == sum(done.values())
    assert min(done.values()) > 0
    assert _refusals(server) >= {"MOVED", "ASK", "TRYAGAIN"}


def _refusals(server: Server) -> set[str]:
    """The codes of the errors that the nodes have answered with."""
    lines = [
        line for node in server.nodes for line in redis_call(node.port, "INFO", "errorstats").decode().splitlines()
    ]
    return {line.partition(":")[0].removeprefix("errorstat_") for line in lines}


def _move_slot(server: Server, slot: int, key: str) -> None:
    source = master_of(server, key)
    masters = [node for node in server.nodes if b"master" in redis_call(node.port, "ROLE")[:1]]
    target = next(node for node in masters if node is not source)
    ids = {node.port: redis_call(node.port, "CLUSTER", "MYID").decode() for node in masters}
    redis_call(target.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    redis_call(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    redis_call(source.port, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    time.sleep(0.1)  # whoever asks for this key and another one has to wait until they are together again
    while found := redis_call(source.port, "CLUSTER", "GETKEYSINSLOT", slot, 10):
        names = [name.decode() for name in found]
        redis_call(source.port, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
    for node in (target, source, *masters):
        redis_call(node.port, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])


async def test_a_planned_failover_costs_nobody_an_error_and_no_count(server: Server, client: Client, tag: str) -> None:
    key = keys_of(tag)[0]
    counted = Counted(client, key)
    load = [asyncio.create_task(counted.go_on(3)) for _ in range(8)]
    await asyncio.sleep(0.3)
    before = master_of(server, key)
    replica = await asyncio.to_thread(_replica_of, server, before)
    redis_call(replica.port, "CLUSTER", "FAILOVER")
    await asyncio.gather(*load)
    assert master_of(server, key) is replica
    assert (counted.unknown, counted.refused) == (0, [])
    assert await client.ask([("GET", key)], timeout=5) == [str(counted.acknowledged).encode()]
    assert counted.acknowledged > 100


def _replica_of(server: Server, master: Any) -> Any:
    return next(
        node
        for node in server.nodes
        if (role := redis_call(node.port, "ROLE"))[0] == b"slave" and role[2] == master.port and role[3] == b"connected"
    )


async def test_a_killed_master_costs_no_acknowledged_count_and_its_replica_goes_on(
    server: Server, client: Client, tag: str
) -> None:
    keys = keys_of(tag)
    counted = [Counted(client, key) for key in keys[:16]]
    before = master_of(server, keys[0])
    replica = await asyncio.to_thread(_replica_of, server, before)
    load = [asyncio.create_task(one.go_on(6)) for one in counted for _ in range(4)]
    reads = asyncio.create_task(_read_on(client, keys[:16], 6))
    await asyncio.sleep(0.5)
    before.kill()
    try:
        await asyncio.gather(*load)
        slowest = await reads
        assert master_of(server, keys[0]) is replica
        assert slowest > 1  # it had to wait for the new master
        values = await client.ask([("GET", key) for key in keys[:16]], timeout=5)
    finally:
        await asyncio.to_thread(server.start)
    for one, value in zip(counted, values, strict=True):
        # replication is asynchronous: in theory the engine itself may lose what it acknowledged right before it died
        assert one.acknowledged <= int(value) <= one.acknowledged + one.unknown
        assert one.refused == []


async def test_a_master_that_falls_silent_is_left_for_its_replica(server: Server, client: Client, tag: str) -> None:
    """As when its machine lost power or its network: no connection is refused and none ends."""
    key = keys_of(tag)[0]
    silent = master_of(server, key)
    replica = await asyncio.to_thread(_replica_of, server, silent)
    counted = Counted(client, key, timeout=60)
    load = [asyncio.create_task(counted.go_on(8)) for _ in range(8)]
    reads = [asyncio.create_task(_read_on(client, [key], 8, timeout=60)) for _ in range(8)]
    await asyncio.sleep(0.5)
    begun = time.monotonic()
    os.kill(silent.process.pid, signal.SIGSTOP)
    try:
        slowest = max(await asyncio.gather(*reads))
        await asyncio.gather(*load)
        assert time.monotonic() - begun < 20  # their own time would be three times that
        assert slowest > 1
        value = int((await client.ask([("GET", key)], timeout=5))[0])
    finally:
        os.kill(silent.process.pid, signal.SIGCONT)
        await asyncio.to_thread(server.settle)
    assert master_of(server, key) is replica
    assert counted.acknowledged <= value <= counted.acknowledged + counted.unknown
    assert counted.refused == []
    assert counted.acknowledged > 100


async def _read_on(client: Client, keys: list[str], seconds: float, timeout: float = 15) -> float:
    """Read until the time is up; seconds that the slowest read took."""
    till, slowest = time.monotonic() + seconds, 0.0
    while time.monotonic() < till:
        begun = time.monotonic()
        await client.ask([("GET", key) for key in keys], timeout=timeout)
        slowest = max(slowest, time.monotonic() - begun)
    return slowest


async def test_a_node_that_hangs_keeps_only_its_own_keys_waiting(server: Server, client: Client, tag: str) -> None:
    keys = keys_of(tag)
    for key in keys:
        await client.run(COUNT, [key], [], timeout=5)
    hanging = master_of(server, keys[0])
    others = [key for key in keys if master_of(server, key) is not hanging]
    async with redis_client(f"redis://127.0.0.1:{hanging.port}") as raw:
        await raw.client_pause(1000, all=True)
    begun = time.monotonic()
    waiting = asyncio.create_task(client.ask([("GET", keys[0])], timeout=10))
    assert await client.ask([("GET", key) for key in others], timeout=5) == [b"1"] * len(others)
    assert time.monotonic() - begun < 0.7
    assert await waiting == [b"1"]
    assert time.monotonic() - begun > 0.7
