"""A store on the engine that a test names."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.places import Place, place_on


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty store on the test's parameter ``engine``."""
    async with place_on(engine, tmp_path) as found:
        yield found
