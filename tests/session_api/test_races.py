"""Two services on one database, written to at the same time: the races in which AgentOS loses updates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import httpx
import pytest

from tests.places import engines, place_on
from tests.session_api.processes import running

TRIALS = 80
Services = list[httpx.AsyncClient]


@pytest.fixture(params=engines("sqlite", "postgresql", "mysql", "redis"))
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Services]:
    """Clients of two service processes on one store."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(place_on(request.param, tmp_path))
        with ExitStack() as services:
            urls = []
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                urls.append(services.enter_context(running(place.address, tmp_path / name))[0])
            clients = [httpx.AsyncClient(base_url=url, timeout=60) for url in urls]
            yield [await stack.enter_async_context(client) for client in clients]


@pytest.fixture
def trials(scaled: Callable[..., int]) -> range:
    return range(scaled(TRIALS, minimum=8))


async def test_metadata_and_name_changed_at_once_both_stay(two: Services, trials: range):
    for n in trials:
        await two[0].post("/sessions", json={"session_id": f"s{n}", "session_name": "old", "metadata": {"old": 1}})
        answers = await asyncio.gather(
            two[0].patch(f"/sessions/s{n}", json={"metadata": {"new": n}}),
            two[1].patch(f"/sessions/s{n}", json={"session_name": f"new {n}"}),
        )
        found = (await two[n % 2].get(f"/sessions/s{n}")).json()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert (found["metadata"], found["session_name"]) == ({"new": n}, f"new {n}")


async def test_state_and_name_changed_at_once_both_stay(two: Services, trials: range):
    for n in trials:
        await two[0].post("/sessions", json={"session_id": f"s{n}", "session_state": {"old": 1}})
        answers = await asyncio.gather(
            two[0].patch(f"/sessions/s{n}", json={"session_state": {"new": n}}),
            two[1].post(f"/sessions/s{n}/rename", json={"session_name": f"new {n}"}),
        )
        found = (await two[n % 2].get(f"/sessions/s{n}")).json()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert (found["session_state"], found["session_name"]) == ({"new": n}, f"new {n}")


@pytest.mark.parametrize("users", [("ann",) * 4, ("ann", "bob", "cem", "dora")])
async def test_of_four_creations_of_one_id_one_succeeds(two: Services, trials: range, users: tuple[str, ...]):
    for n in trials:
        bodies = [
            {"session_id": f"s{n}", "user_id": user, "session_state": {"by": at}} for at, user in enumerate(users)
        ]
        sent = [two[at % 2].post("/sessions", json=body) for at, body in enumerate(bodies)]
        answers = await asyncio.gather(*sent)
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        [winner] = [answer.json() for answer in answers if answer.status_code == 201]
        assert (await two[n % 2].get(f"/sessions/s{n}")).json() == winner
