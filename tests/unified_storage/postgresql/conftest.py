"""An engine on the real server, whose connections the server itself can count."""

import secrets
from collections.abc import AsyncIterator

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from tests.namespaces import without_query
from tests.unified_storage.postgresql.engines import Engines, Witness


@pytest.fixture
def url() -> str:
    return engine_url("postgresql")


@pytest.fixture
async def namespace(url: str) -> AsyncIterator[str]:
    """One of the test's own, whose tables go afterwards."""
    name = fresh_namespace("pg")
    yield name
    await drop_namespace(url, name)


@pytest.fixture
async def witness(url: str) -> AsyncIterator[Witness]:
    """What the server says of the connections that the test's engines have."""
    connection = await asyncpg.connect(without_query(url))
    yield Witness(connection, f"test-{secrets.token_hex(6)}")
    await connection.close()


@pytest.fixture
async def engines(url: str, witness: Witness) -> AsyncIterator[Engines]:
    """Makes engines, which are closed afterwards, and the table `marks` of the test's own for them."""
    async with Engines(url, witness) as made:
        yield made
