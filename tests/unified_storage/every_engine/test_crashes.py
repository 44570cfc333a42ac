"""A server that is killed under load and started again, and one whose standby takes over."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.engines import Server, fresh_namespace, private_server
from tests.places import SERVERS, engines
from unified_storage import IUnifiedStorage, StorageConnectionError, StorageError, StorageTimeoutError, open_storage

WRITERS = 12
BEFORE, AFTER = 30, 10
"""Acknowledged writes of each writer before the crash at least, and after it."""


@dataclass
class Load:
    """Writers that go on until they are told to stop, and what they were told."""

    storage: IUnifiedStorage
    over: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: list[list[str]] = field(default_factory=lambda: [[] for _ in range(WRITERS)])
    unknown: set[str] = field(default_factory=set)
    errors: list[StorageError] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def prepare(self) -> None:
        for writer in range(WRITERS):
            await self.storage.save({"id": f"w{writer}", "type": "note", "data": {}})

    async def write(self, writer: int) -> None:
        """Append entries of which each has its own body, and never one twice."""
        while not self.over.is_set():
            body = f"{writer}-{next(self._numbers)}"
            try:
                await self.storage.append(f"log@note/w{writer}", [{"body": body}])
            except StorageError as error:
                self.errors.append(error)
                if error.details.get("outcome") == "unknown":
                    self.unknown.add(body)
                await asyncio.sleep(0.02)
            else:
                self.acknowledged[writer].append(body)

    async def until_each_wrote(self, count: int) -> None:
        marks = [len(written) + count for written in self.acknowledged]
        async with asyncio.timeout(60):
            for written, mark in zip(self.acknowledged, marks, strict=True):
                while len(written) < mark:
                    await asyncio.sleep(0.01)

    async def check(self, *, everything: bool = True) -> None:
        """All that was acknowledged is there, nothing twice, and nothing that was refused for certain."""
        for writer, acknowledged in enumerate(self.acknowledged):
            entries = await self.storage.read(f"log@note/w{writer}")
            stored = [entry["body"] for entry in entries]
            assert max(Counter(stored).values()) == 1
            assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
            assert set(stored) <= set(acknowledged) | self.unknown
            if everything:
                assert set(acknowledged) <= set(stored)
        for error in self.errors:
            assert isinstance(error, StorageConnectionError | StorageTimeoutError), repr(error)
            assert error.retryable is (error.details.get("outcome") != "unknown"), repr(error)


async def _under_load(storage: IUnifiedStorage, crash) -> Load:
    """Writers before, during and after *crash*, on one storage that is never opened again."""
    load = Load(storage)
    await load.prepare()
    writers = [asyncio.create_task(load.write(writer)) for writer in range(WRITERS)]
    try:
        await load.until_each_wrote(BEFORE)
        await crash()
        await load.until_each_wrote(AFTER)
    finally:
        load.over.set()
        await asyncio.gather(*writers)
    return load


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_what_was_acknowledged_survives_a_kill_of_the_server(engine: str) -> None:
    with private_server(engine) as server:
        async with open_storage(server.url, namespace=fresh_namespace(), connect_timeout=20) as storage:
            assert (await storage.health_check())["durability"] == "full"

            async def crash() -> None:
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.start)

            load = await _under_load(storage, crash)
            await load.check()
            assert len(load.unknown) <= WRITERS  # at most what was on its way at that moment
            # patience was enough: nobody heard of it but those whose commit was on its way
            assert [error for error in load.errors if error.details.get("outcome") != "unknown"] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.servers) for k in ("postgresql-ha", "redis-cluster-ha")]
)
async def test_a_standby_takes_over(kind: str) -> None:
    """PostgreSQL's has every commit, since the primary waited for it; a replica of Redis may lack the last ones."""
    with private_server(kind) as server:
        async with open_storage(server.url, namespace=fresh_namespace(), connect_timeout=30) as storage:

            async def crash() -> None:
                await asyncio.to_thread(server.nodes[0].kill)
                if kind == "postgresql-ha":
                    await asyncio.to_thread(_promote, server)

            load = await _under_load(storage, crash)
            await load.check(everything=kind == "postgresql-ha")


def _promote(server: Server) -> None:
    server.promote()  # type: ignore[attr-defined]  # only the pair has a standby


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_a_server_that_is_away_is_a_clear_error_soon_and_no_reason_to_open_again(engine: str) -> None:
    with private_server(engine) as server:
        async with open_storage(server.url, namespace=fresh_namespace(), connect_timeout=1) as storage:
            await storage.save({"id": "a", "type": "note", "data": {}})
            await asyncio.to_thread(server.kill)
            async with asyncio.timeout(20):
                for call in (storage.load("a"), storage.save({"id": "a", "type": "note", "data": {}})):
                    with pytest.raises(StorageConnectionError):
                        await call
                with pytest.raises(StorageConnectionError) as failure:
                    await storage.health_check()
            assert failure.value.retryable
            assert any(str(node.port) in str(failure.value) for node in server.nodes)
            await asyncio.to_thread(server.start)
            assert await storage.exists("a", type="note")
