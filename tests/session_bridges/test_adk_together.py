"""Many writers of one session of ADK, in one process and in several: no event is lost, whoever is told to try again."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

import pytest

from session_bridges.adk import UnifiedSessionService
from tests.places import ON_DISK, Place, engines
from tests.session_bridges.adk_program import written
from tests.session_bridges.adk_services import NAMED, stored
from tests.support import REPOSITORY

pytestmark = pytest.mark.filterwarnings("default")  # what the framework is warned of is its own

WRITERS = 16
WAYS = ["error", "merge"]


async def check(url: str, writers: list[str], count: int) -> None:
    """Every event is there once, each writer's in its order, and so is every key that they have set."""
    async with UnifiedSessionService(url) as service:
        found = await stored(service)
        names = [event.custom_metadata["name"] for event in found.events]
        assert len(names) == len(writers) * count
        for who in writers:
            assert [name for name in names if name.startswith(f"{who} ")] == [f"{who} {at}" for at in range(count)]
        keys = {f"{level}{who} {at}" for who in writers for at in range(0, count, 3) for level in ("", "user:", "app:")}
        assert found.state.keys() == keys


@pytest.mark.parametrize("conflict", WAYS)
async def test_16_writers_in_one_process_lose_nothing(place: Place, conflict: Any, scaled: Callable[..., int]):
    count = scaled(50, minimum=3)
    names = [f"w{number}" for number in range(WRITERS)]
    async with place.open() as storage:
        service = UnifiedSessionService(storage, conflict=conflict)
        await service.create_session(**NAMED)
        loads = await asyncio.gather(*(written(service, name, count) for name in names))
        assert (sum(loads) > 0) is (conflict == "error")
        if place.engine != "memory":
            await check(place.address, names, count)
        else:
            assert len((await stored(service)).events) == WRITERS * count


@pytest.mark.parametrize("conflict", WAYS)
@pytest.mark.parametrize("place", engines(*(name for name in ON_DISK if name != "redis-cluster")), indirect=True)
async def test_16_writers_in_two_processes_lose_nothing(place: Place, conflict: str, scaled: Callable[..., int]):
    count = scaled(50, minimum=3)
    async with UnifiedSessionService(place.address) as service:
        await service.create_session(**NAMED)
    processes = [await program(place, "write", conflict, who, str(count), str(WRITERS // 2)) for who in "ab"]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    loads = await asyncio.gather(*map(finished, processes))
    assert (sum(loads) > 0) is (conflict == "error")
    await check(place.address, [f"{who}{task}" for who in "ab" for task in range(WRITERS // 2)], count)


async def program(place: Place, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.session_bridges.adk_program", place.address, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        cwd=REPOSITORY,
    )


async def finished(process: Process) -> int:
    printed, _ = await process.communicate(b"go\n")
    assert process.returncode == 0
    return int(printed)
