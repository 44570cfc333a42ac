"""Sessions of openai-agents in several processes: nothing is lost between writers, nor between turns."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_bridges.openai_agents import UnifiedSession
from session_bridges.openai_agents_storages import SHARED
from tests.places import ON_DISK, Place, engines
from tests.support import REPOSITORY
from unified_storage.errors import StorageClosedError

PROGRAM = "tests.session_bridges.openai_program"
USER: Any = {"role": "user", "content": "hello"}


async def program(place: Place, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", PROGRAM, place.address, *arguments, stdin=PIPE, stdout=PIPE, cwd=REPOSITORY
    )


async def finished(process: Process) -> bytes:
    printed, _ = await process.communicate(b"go\n")
    assert process.returncode == 0
    return printed


def pairs(items: list[Any]) -> list[str]:
    """The names of the pairs in *items*, which have to stand together."""
    contents = [item["content"] for item in items]
    assert contents[::2] == contents[1::2]
    assert {item["role"] for item in items[::2]} == {"user"}
    return contents[::2]


@pytest.mark.parametrize("place", engines(*ON_DISK), indirect=True)
async def test_two_processes_with_16_writers_lose_nothing(place: Place):
    processes = [await program(place, "write", who, "40", "8") for who in "ab"]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    await asyncio.gather(*map(finished, processes))
    async with UnifiedSession("s1", place.address) as session:
        found = pairs(await session.get_items())
    assert sorted(found) == sorted(f"{who}{number}" for who in "ab" for number in range(40))


async def test_16_writers_in_one_process_lose_nothing(place: Place, scaled: Callable[..., int]):
    count = scaled(100, minimum=5)
    async with place.open() as storage:

        async def write(who: int) -> None:
            session = UnifiedSession("s1", storage)
            for number in range(count):
                name = f"{who} {number}"
                await session.add_items([{"role": "user", "content": name}, {"role": "assistant", "content": name}])

        await asyncio.gather(*map(write, range(16)))
        found = pairs(await UnifiedSession("s1", storage).get_items())
    assert sorted(found) == sorted(f"{who} {number}" for who in range(16) for number in range(count))
    for who in range(16):  # each writer's own stand in its order
        own = [name for name in found if name.startswith(f"{who} ")]
        assert own == [f"{who} {number}" for number in range(count)]


@pytest.mark.parametrize("place", engines("sqlite", "postgresql", "redis"), indirect=True)
async def test_a_talk_goes_on_in_the_next_process(place: Place):
    first = await finished(await program(place, "turn", "Hi", "Hello"))
    second = await finished(await program(place, "turn", "Where were we?", "At hello"))
    assert [item["content"] for item in json.loads(first)[0]] == ["Hi"]
    contents = [item["content"] for item in json.loads(second)[0]]
    assert contents[0] == "Hi"
    assert contents[1][0]["text"] == "Hello"
    assert contents[2] == "Where were we?"


# storages by URL


async def test_sessions_of_one_url_share_a_storage_which_the_last_one_closes(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/app.db"
    one, other = UnifiedSession("one", url), UnifiedSession("other", url)
    assert one._storage is other._storage
    await one.add_items([USER])
    await one.close()
    await one.close()
    await other.add_items([USER])
    await other.close()
    with pytest.raises(StorageClosedError):
        await other.get_items()
    async with UnifiedSession("one", url) as again:
        assert await again.get_items() == [USER]


async def test_a_session_that_was_forgotten_keeps_no_storage_open(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/app.db"
    await UnifiedSession("forgotten", url).add_items([USER])
    gc.collect()
    async with UnifiedSession("one", url) as session:
        assert await session.get_items() == []
    assert url not in SHARED._opened


async def test_a_storage_in_memory_lasts_from_one_session_to_the_next():
    url = "memory://?namespace=one_turn_after_another"
    await UnifiedSession("s1", url).add_items([USER])
    gc.collect()
    async with UnifiedSession("s1", url) as session:
        assert await session.get_items() == [USER]


async def test_a_storage_that_was_given_is_not_closed(place: Place):
    async with place.open() as storage:
        async with UnifiedSession("s1", storage) as session:
            await session.add_items([USER])
        assert await UnifiedSession("s1", storage).get_items() == [USER]
