"""A Galera cluster: three servers that all take writes. It starts slowly, so these tests run where it is asked for."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.servers import MissingServer, start_private
from tests.servers.server import Server
from tests.unified_storage.mysql.sessions import driver_for, failure_of, note
from unified_storage import open_storage
from unified_storage.backends.sql.mysql import MYSQL
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageConflictError

pytestmark = [pytest.mark.servers, pytest.mark.stress]


@pytest.fixture(scope="module")
def galera() -> Iterator[Server]:
    try:
        server = start_private("galera")
    except MissingServer as error:
        pytest.skip(f"no Galera: {error}")
    with server:
        yield server


@pytest.fixture
def nodes(galera: Server) -> list[str]:
    return [f"mysql://root@127.0.0.1:{node.port}/test" for node in galera.nodes]


async def test_a_cluster_is_opened_and_used_on_all_nodes_at_once(nodes) -> None:
    stores = [open_storage(url, namespace="together") for url in nodes]
    try:
        await asyncio.gather(*(store.__aenter__() for store in stores))
        await stores[0].save(note("one"))

        async def more(tx) -> None:
            record = await tx.load("one", type="note")
            await tx.save(note("one", record["data"]["n"] + 1))

        await asyncio.gather(*(store.atomically(more, attempts=200) for store in stores * 15))
        await asyncio.gather(*(store.append("log@note/one", [{"body": 1}]) for store in stores * 10))
        for store in stores:
            record = await store.load("one", type="note")
            assert record is not None
            assert record["data"]["n"] == 45
            assert [entry["seq"] for entry in await store.read("log@note/one")] == [*range(1, 31)]
        assert (await stores[0].health_check())["galera"] == {"size": 3, "status": "Primary", "state": "Synced"}
    finally:
        for store in stores:
            await store.close()


async def test_what_one_node_acknowledged_the_next_one_shows(nodes) -> None:
    async with open_storage(nodes[0], namespace="stale") as first, open_storage(nodes[1], namespace="stale") as second:
        for number in range(200):
            await first.save(note("one", number))
            record = await second.load("one", type="note")
            assert record is not None
            assert record["data"]["n"] == number


async def test_the_barrier_reaches_the_writers_of_every_node(nodes) -> None:
    changer = await driver_for(nodes[0]).connect(5)
    await changer.run(Call("CREATE TABLE barrier (n BIGINT PRIMARY KEY) ENGINE = InnoDB"))
    try:
        for url in nodes[:2]:
            driver = driver_for(url)
            writer = await driver.connect(5)
            await writer.begin("write", 10)
            await writer.run(Call("SELECT n FROM barrier WHERE n = ?", [1]))
            await writer.run(Call("INSERT INTO barrier VALUES (?)", [1]))
            for text in MYSQL.barrier("barrier"):
                await changer.run(Call(text))
            error = await failure_of(writer, "SELECT ?", 1)
            assert isinstance(error, StorageConflictError)
            assert error.retryable
            await writer.close()
        assert await changer.run(Call("SELECT n FROM barrier")) == []
    finally:
        await changer.run(Call("DROP TABLE barrier"))
        await changer.close()


async def test_a_path_that_is_indexed_while_all_nodes_write_finds_every_record(nodes) -> None:
    stores = [open_storage(url, namespace="growing") for url in nodes]
    writing = True

    async def write(store, name: str) -> int:
        count = 0
        while writing:
            await store.save({"id": f"{name}{count}", "type": "doc", "data": {"tag": count % 5}})
            count += 1
        return count

    try:
        await stores[0].save(note("first"))
        tasks = [asyncio.create_task(write(store, name)) for store, name in zip(stores, "abc", strict=True)]
        await asyncio.sleep(1)
        async with open_storage(nodes[0], namespace="growing", indexed={"doc": ["data.tag"]}) as growing:
            await asyncio.sleep(1)
            writing = False
            written = sum(await asyncio.gather(*tasks))
            found = [await growing.count({"type": "doc", "data.tag": tag}) for tag in range(5)]
        assert sum(found) == written > 30
    finally:
        writing = False
        for store in stores:
            await store.close()


async def test_a_store_goes_on_when_a_node_dies(galera) -> None:
    """The last of the tests: the cluster has a node less afterwards."""
    async with open_storage(galera.url, namespace="dying") as store:
        await store.save(note("one"))
        galera.nodes[0].kill()
        for number in range(20):
            assert await store.update("one", {"data": {"n": number}}, type="note")
        record = await store.load("one", type="note")
        assert record is not None
        assert record["data"]["n"] == 19
