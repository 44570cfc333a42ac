"""A smoke of every engine: the one test of a server that `make test` runs. The others are marked `servers`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engines import SERVERS, engine_url, own_namespace
from unified_storage import StorageConflictError, open_storage

RECORD = {
    "id": "smoke",
    "type": "session",
    "data": {"texts": ["ä\0", "😀"], "number": 10**30},
    "metadata": {"kind": "a"},
}


@pytest.fixture(params=["sqlite", *SERVERS])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The URL of an engine that keeps what it is given, and a namespace there."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/records.db", ""
        return
    url = engine_url(request.param)
    async with own_namespace(url, "smoke") as namespace:
        yield url, namespace


async def test_records_logs_transactions_and_filters_on_every_engine(place: tuple[str, str]) -> None:
    url, namespace = place
    async with open_storage(url, namespace=namespace) as storage:
        await storage.save(RECORD)
        assert await storage.append("events/smoke", [{"body": {"n": 1}}, {"body": {"n": 2}}]) == [1, 2]
        with pytest.raises(StorageConflictError):
            await storage.update("smoke", {"data": {"number": 0}}, expected_version=1)
        with pytest.raises(RuntimeError, match="changed my mind"):
            async with storage.transaction() as tx:
                await tx.delete("smoke")
                raise RuntimeError("changed my mind")
    async with open_storage(url, namespace=namespace) as storage:
        loaded = await storage.load("smoke")
        assert loaded is not None
        assert loaded["data"] == RECORD["data"]
        assert loaded["version"] == 2
        assert [entry["body"] for entry in await storage.read("events/smoke", last=1)] == [{"n": 2}]
        assert [record["id"] for record in await storage.list({"metadata.kind": "a"})] == ["smoke"]
        assert await storage.count({"metadata.kind": "b"}) == 0
        assert await storage.delete("smoke")
        assert await storage.log_info("events/smoke") is None
