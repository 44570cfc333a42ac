"""What tests of the live migration share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legacy.migration.live.rules import ALL
from tests.migration.by_hand import Play
from tests.migration.stores import Stores, stores_on
from tests.places import engines, place_on

TARGETS = ("sqlite", "postgresql", "mysql", "redis")


@pytest.fixture(params=engines("memory", *TARGETS))
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Both stores, on every engine that can be a target."""
    async with place_on(request.param, tmp_path) as place, stores_on(place, tmp_path) as opened:
        yield opened


@pytest.fixture
async def play(stores: Stores) -> AsyncIterator[Play]:
    """Programs whose every step the test decides."""
    play = Play(stores, ALL)
    yield play
    await play.end()
