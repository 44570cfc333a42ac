"""The races of ``test_races`` between two services on AgentOS's own tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from session_api.found_tables import AGNO
from tests.places import engines
from tests.session_api.agno_places import agno_database
from tests.session_api.processes import running
from tests.session_api.test_races import (
    Services,
    test_metadata_and_name_changed_at_once_both_stay,
    test_of_four_creations_of_one_id_one_succeeds,
    test_state_and_name_changed_at_once_both_stay,
    trials,
)

__all__ = [
    "test_metadata_and_name_changed_at_once_both_stay",
    "test_of_four_creations_of_one_id_one_succeeds",
    "test_state_and_name_changed_at_once_both_stay",
    "trials",
]


@pytest.fixture(params=engines("sqlite", "postgresql"))
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Services]:
    """Clients of two service processes on one database of AgentOS's."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(agno_database(request.param, tmp_path))
        clients = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            address, *_ = stack.enter_context(running(AGNO + url, tmp_path / name))
            clients.append(await stack.enter_async_context(httpx.AsyncClient(base_url=address, timeout=60)))
        yield clients
