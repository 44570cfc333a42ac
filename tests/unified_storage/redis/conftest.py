"""A Redis server for the tests of one module, which may do anything to it, and what is connected to it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.engines import private_server, redis_client
from tests.servers import Server
from tests.unified_storage.redis.clients import client_on
from unified_storage.backends.redis.client import Client


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server("redis") as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with client_on(server.url) as client:
        yield client


@pytest.fixture
async def raw(server: Server) -> AsyncIterator[Any]:
    """The driver itself."""
    async with redis_client(server.url) as raw:
        yield raw


@pytest.fixture
def key() -> str:
    return f"test:{uuid4()}"
