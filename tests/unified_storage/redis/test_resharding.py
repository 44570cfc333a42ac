"""A store on a cluster whose slots move to other nodes, key by key, while it is used."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.crc import key_slot

from tests.engines import drop_namespace, fresh_namespace, private_server
from tests.servers import Server
from tests.servers.server import Node
from tests.servers.wire import redis_call
from tests.unified_storage.redis.whole import assert_whole
from unified_storage import IUnifiedStorage, StorageConnectionError, open_storage
from unified_storage.backends.redis.partitions import Layout, key_prefix
from unified_storage.logs import log_id

pytestmark = pytest.mark.servers
PARTITIONS = 64
USER = "~app~user~"
"""What the ids of one user begin with: their records, logs and sorted sets share a slot."""
EVERYBODYS = log_id("events", f"{USER}all")
INDEXED = {"note": ["data.n", "metadata.tag"], "thread": ["data.n"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server("redis-cluster") as server:
        yield server


@dataclass
class Slot:
    """The slot of one user's partition: where it is, and how it gets elsewhere."""

    server: Server
    number: int
    meta: str

    @property
    def owner(self) -> Node:
        for node in self.server.nodes:
            for first, last, (_, port, *_), *_ in redis_call(node.port, "CLUSTER", "SLOTS"):
                if first <= self.number <= last:
                    return next(each for each in self.server.nodes if each.port == port)
        raise AssertionError("nobody serves it")

    @property
    def other(self) -> Node:
        owner = self.owner
        return next(node for node in self.server.nodes if node is not owner)

    def keys(self, node: Node) -> list[str]:
        return [key.decode() for key in redis_call(node.port, "CLUSTER", "GETKEYSINSLOT", self.number, 100_000)]

    def announce(self, source: Node, target: Node) -> None:
        redis_call(target.port, "CLUSTER", "SETSLOT", self.number, "IMPORTING", _id(source))
        redis_call(source.port, "CLUSTER", "SETSLOT", self.number, "MIGRATING", _id(target))

    def hand_over(self, source: Node, target: Node, keys: list[str]) -> None:
        redis_call(source.port, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def finish(self, source: Node, target: Node) -> None:
        for node in (target, source, *self.server.nodes):
            redis_call(node.port, "CLUSTER", "SETSLOT", self.number, "NODE", _id(target))

    @contextmanager
    def in_two_places(self, leaves: Callable[[str], bool]) -> Iterator[None]:
        """In the block, the keys that *leaves* says are with another node already."""
        source, target = self.owner, self.other
        self.announce(source, target)
        keys = self.keys(source)
        self.hand_over(source, target, [key for key in keys if leaves(key)])
        try:
            yield
        finally:
            self.hand_over(source, target, [key for key in keys if not leaves(key)])
            self.finish(source, target)

    def move(self, order: Callable[[list[str]], list[str]], seconds: float) -> None:
        """Take *seconds* to move it, key by key."""
        source, target = self.owner, self.other
        self.announce(source, target)
        keys = order(self.keys(source))
        for key in keys:
            self.hand_over(source, target, [key])
            time.sleep(seconds / len(keys))
        while left := self.keys(source):
            self.hand_over(source, target, left)
        self.finish(source, target)


def _id(node: Node) -> str:
    return str(redis_call(node.port, "CLUSTER", "MYID").decode())


@dataclass
class Place:
    """An empty store of the test's own."""

    server: Server
    namespace: str

    def open(self, **options: Any) -> Any:
        return open_storage(self.server.url, namespace=self.namespace, indexed=INDEXED, **options)

    @property
    def slot(self) -> Slot:
        layout = Layout(key_prefix(self.namespace), PARTITIONS)
        meta = layout.meta(layout.of(USER))
        return Slot(self.server, key_slot(meta.encode()), meta)


@pytest.fixture
async def place(server: Server) -> AsyncIterator[Place]:
    found = Place(server, fresh_namespace("rs"))
    yield found
    await drop_namespace(server.url, found.namespace)


class Workers:
    """Each goes on with records of its own, and finds after every step what it was told before."""

    def __init__(self, storage: IUnifiedStorage, stop: asyncio.Event) -> None:
        self.storage = storage
        self._stop = stop
        self.shared: dict[int, str] = {}
        """What was appended to the log of everybody, by the number that it was given."""
        self.turns: dict[str, int] = {}

    async def work(self, name: str, turn: Callable[[str, int], Awaitable[None]]) -> None:
        for number in itertools.count(1):
            if self._stop.is_set():
                return
            await turn(name, number)
            self.turns[name] = number

    async def save(self, name: str, number: int) -> None:
        note = {"id": USER + name, "type": "note", "data": {"n": number}, "metadata": {"tag": f"t{number % 3}"}}
        await self.storage.save(note, expected_version=number - 1)
        await self._check(name, "note", number, number)

    async def update(self, name: str, number: int) -> None:
        if number == 1:
            await self.storage.save({"id": USER + name, "type": "note", "data": {"n": 1}})
        else:
            assert await self.storage.update(USER + name, {"data": {"n": number}}, type="note")
        await self._check(name, "note", number, number)

    async def append(self, name: str, number: int) -> None:
        """To one log, with everybody."""
        text = f"{name} {number}"
        (seq,) = await self.storage.append(EVERYBODYS, [{"body": {"text": text}, "key": text}])
        assert seq not in self.shared
        self.shared[seq] = text

    async def pop(self, name: str, number: int) -> None:
        if number == 1:
            await self.storage.save({"id": USER + name, "type": "session", "data": {}})
        log = log_id("events", USER + name)
        first, second = await self.storage.append(log, [{"body": {"n": number}}, {"body": {"n": -number}}])
        popped = await self.storage.pop(log)
        assert popped is not None
        assert (first, popped["seq"]) == (2 * number - 1, second)
        assert [entry["seq"] for entry in await self.storage.read(log)] == [*range(1, 2 * number, 2)]

    async def delete(self, name: str, number: int) -> None:
        """A record that begins anew each time, with a log that begins anew too."""
        id, log = USER + name, log_id("events", USER + name)
        await self.storage.save({"id": id, "type": "session", "data": {"n": number}}, expected_version=0)
        assert await self.storage.append(log, [{"body": {"n": number}, "key": "same"}]) == [1]
        assert await self.storage.delete(id)
        assert await self.storage.load(id) is None
        assert await self.storage.read(log) == []

    async def transfer(self, name: str, number: int) -> None:
        """Two records and a log, together or not at all."""
        one, other = f"{name}-one", f"{name}-other"
        async with self.storage.transaction() as tx:
            stored = await tx.load(USER + one, type="thread")
            assert (0 if stored is None else stored["version"]) == 2 * (number - 1)
            for each in (one, other):
                await tx.save({"id": USER + each, "type": "thread", "data": {"n": number}})
            await tx.append(log_id("runs", USER + one, "thread"), [{"body": {"n": number}}])
        await self._check(other, "thread", number, number)

    async def look(self, name: str, number: int) -> None:
        """Lists by a path and by id, and counts."""
        told = {each: self.turns[each] for each in self.turns if each.startswith(("save", "update"))}
        ids = {record["id"] for record in await self.storage.list({"type": "note", "data.n": {"$gte": 1}})}
        assert {USER + each for each in told} <= ids
        listed = await self.storage.list({"type": "note"})
        assert all(record["data"]["n"] >= told.get(record["id"].removeprefix(USER), 0) for record in listed)
        assert await self.storage.count({"type": "note"}) >= len(told)

    async def _check(self, name: str, kind: str, version: int, number: int) -> None:
        record = await self.storage.load(USER + name, type=kind)
        assert record is not None
        assert (record["version"], record["data"]["n"]) == (version, number)


@asynccontextmanager
async def used(storage: IUnifiedStorage) -> AsyncIterator[Workers]:
    """Everybody at work, until the block ends; then whatever failed is raised."""
    stop = asyncio.Event()
    workers = Workers(storage, stop)
    await storage.save({"id": f"{USER}all", "type": "session", "data": {}})
    kinds = (workers.save, workers.update, workers.append, workers.pop, workers.delete, workers.transfer, workers.look)
    async with asyncio.TaskGroup() as group:
        for kind, copy in itertools.product(kinds, range(2)):
            group.create_task(workers.work(f"{kind.__name__}-{copy}", kind))
        yield workers
        stop.set()


async def _finds_nothing(place: Place, storage: IUnifiedStorage) -> None:
    await assert_whole(place.server.url, place.namespace, PARTITIONS)
    assert [finding async for batch in storage.examine() for finding in batch] == []


def _orders(meta: str) -> Iterator[Callable[[list[str]], list[str]]]:
    """At random, the key by which scripts find their partition before all others, and behind all others."""
    chance = random.Random(7)

    def at_random(keys: list[str]) -> list[str]:
        return chance.sample(sorted(keys), len(keys))

    yield at_random
    yield lambda keys: sorted(at_random(keys), key=lambda key: key != meta)
    yield lambda keys: sorted(at_random(keys), key=lambda key: key == meta)


@pytest.mark.timeout(180)
async def test_a_slot_that_moves_under_work_costs_nothing_that_was_acknowledged(place: Place) -> None:
    """S1.28: there and back, in different orders, each for some seconds; nobody sees an error."""
    async with place.open(statement_timeout=30) as storage:
        async with used(storage) as workers:
            for order in _orders(place.slot.meta):
                before = dict(workers.turns)
                await asyncio.sleep(1)
                assert all(workers.turns[name] > turns for name, turns in before.items())
                await asyncio.to_thread(place.slot.move, order, 2)
            await asyncio.sleep(1)
        log = await storage.read(EVERYBODYS)
        assert [entry["seq"] for entry in log] == [*range(1, len(log) + 1)]
        assert {entry["seq"]: entry["body"]["text"] for entry in log} == workers.shared
        all_records = {record["id"]: record for record in await storage.list()}
        for name, turns in workers.turns.items():
            match name.partition("-")[0]:
                case "save" | "update":
                    assert all_records[USER + name]["version"] == turns
                case "pop":
                    assert all_records[USER + name]["version"] == 1 + 2 * turns
                case "delete":
                    assert USER + name not in all_records
                case "transfer":
                    runs = await storage.read(log_id("runs", f"{USER}{name}-one", "thread"))
                    assert [run["body"]["n"] for run in runs] == [*range(1, turns + 1)]
        await _finds_nothing(place, storage)


@pytest.mark.parametrize("has_left", [True, False], ids=["meta", "all but meta"])
async def test_while_a_slot_is_in_two_places_reading_goes_on_and_writing_waits(place: Place, has_left: bool) -> None:
    """S1.28: a write whose time ends meanwhile was not made, and says that it is worth another attempt."""
    note, meta = {"id": f"{USER}all", "type": "session", "data": {"n": 1}}, place.slot.meta
    async with place.open(statement_timeout=1) as hasty, place.open() as patient:
        await hasty.save(note)
        await hasty.append(EVERYBODYS, [{"body": 1, "key": "one"}])
        with place.slot.in_two_places(lambda key: (key == meta) == has_left):
            async with place.open() as opened_meanwhile:
                for storage in (patient, opened_meanwhile):
                    record = await storage.load(note["id"], type="session")
                    assert record is not None
                    assert record["version"] == 2
                    assert [entry["body"] for entry in await storage.read(EVERYBODYS)] == [1]
            with pytest.raises(StorageConnectionError, match=r"TRYAGAIN|ASK") as refusal:
                await hasty.append(EVERYBODYS, [{"body": 2}])
            assert refusal.value.retryable
            waiting = asyncio.gather(
                patient.append(EVERYBODYS, [{"body": 3}]),
                patient.save({"id": f"{USER}new", "type": "note", "data": {"n": 1}}, expected_version=0),
                patient.exists(note["id"]),
                patient.count({"type": "session"}),
            )
            await asyncio.sleep(0.5)
            assert not waiting.done()
        assert [*await waiting] == [[2], f"{USER}new", True, 1]
        assert [entry["body"] for entry in await hasty.read(EVERYBODYS)] == [1, 3]
        await _finds_nothing(place, hasty)
