"""What tests of the HTTP service share: an empty storage, a client of a service on it, one wherever sessions can be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from session_api.databases import Databases
from session_api.found_tables import AGNO, database_at
from tests.places import Place, engines, place_on
from tests.session_api.agno_places import agno_database
from tests.session_api.clients import client_of, database
from unified_storage import IUnifiedStorage

ENGINES = engines("memory", "sqlite", "postgresql", "mysql", "redis")
AGNOS = [pytest.param(AGNO + param.values[0], marks=param.marks) for param in engines("sqlite", "postgresql")]


@pytest.fixture(params=ENGINES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty place on every engine that can save any sessions together."""
    async with place_on(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    async with place.open() as opened:
        yield opened


@pytest.fixture
async def client(storage: IUnifiedStorage) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service on *storage*, without keys."""
    async with client_of(database(storage)) as ready:
        yield ready


@pytest.fixture(params=[*ENGINES, *AGNOS])
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Databases]:
    """One empty database wherever sessions can be: ours on every engine, and AgentOS's own tables."""
    async with AsyncExitStack() as stack:
        if request.param.startswith(AGNO):
            url = await stack.enter_async_context(agno_database(request.param.removeprefix(AGNO), tmp_path))
            yield Databases([database_at("primary", AGNO + url)])
        else:
            place = await stack.enter_async_context(place_on(request.param, tmp_path))
            yield database(place.open())


@pytest.fixture
async def anywhere(databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service on *databases*, without keys."""
    async with client_of(databases) as ready:
        yield ready
