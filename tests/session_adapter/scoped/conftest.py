"""Scoped sessions on every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_adapter import ScopedSessionService
from tests.places import EMBEDDED, SERVERS, engines, place_on
from unified_storage import IUnifiedStorage
from unified_storage.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[IUnifiedStorage]:
    """An empty storage on every engine, whose clock the test moves."""
    async with place_on(request.param, tmp_path) as place, place.open(clock=clock) as opened:
        yield opened


@pytest.fixture
def service(storage: IUnifiedStorage) -> ScopedSessionService:
    return ScopedSessionService(storage)
