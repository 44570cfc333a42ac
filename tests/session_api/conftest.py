"""What tests of the HTTP service share: an empty storage, and a client of a service on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.places import Place, engines, place_on
from tests.session_api.clients import client_of, database
from unified_storage import IUnifiedStorage


@pytest.fixture(params=engines("memory", "sqlite", "postgresql", "mysql", "redis"))
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
