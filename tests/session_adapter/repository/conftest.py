"""Typed sessions on every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_adapter import SessionRepository
from tests.places import EMBEDDED, SERVERS, Place, engines, place_on
from unified_storage import IUnifiedStorage
from unified_storage.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty store on every engine."""
    async with place_on(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    async with place.open() as opened:
        yield opened


@pytest.fixture
def repository(storage: IUnifiedStorage) -> SessionRepository:
    return SessionRepository(storage)
