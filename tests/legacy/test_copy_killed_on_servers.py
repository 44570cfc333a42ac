"""Copies into servers that are killed, interrupted, or in each other's way (S2.52)."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from legacy.migration import AnotherRunError, exit_code_of
from session_adapter import SessionStorageAdapter
from tests.legacy.folders import document, parsed, write, write_many
from tests.legacy.test_copy import copied, counts
from tests.legacy.test_copy_crash import ended, started
from tests.legacy.test_verify import verified
from tests.places import SERVERS, Place, engines, place_on

pytestmark = pytest.mark.parametrize("engine", engines(*SERVERS))


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(engine, tmp_path) as found:
        yield found


async def test_a_killed_copy_is_finished_by_running_it_again(
    place: Place, tmp_path: Path, scaled: Callable[..., int]
) -> None:
    """20 000 files and 30 kills in full."""
    files, kills, source = scaled(20_000, minimum=400), scaled(30, minimum=4), tmp_path / "source"
    write_many(source, files)
    whole = await seconds_of_a_copy(source, place.engine, tmp_path)
    killed = 0
    for number in range(kills):
        process = started(source, place.address)
        await asyncio.sleep(whole * (0.3 + 0.7 * (number + random.random()) / kills))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed, "each copy was over before it was killed"
    ledger = await asyncio.to_thread(ended, started(source, place.address))
    assert ledger["read"] == files
    assert ledger["copied"] + ledger["equal"] == ledger["verified"] == files
    assert ledger["exit_code"] == 0
    assert counts(await copied(source, place.address), "equal") == (files,)
    await check_complete(source, place)


async def seconds_of_a_copy(source: Path, engine: str, folder: Path) -> float:
    """How long a copy takes that nobody disturbs."""
    async with place_on(engine, folder) as beside:
        begun = time.monotonic()
        await asyncio.to_thread(ended, started(source, beside.address))
        return time.monotonic() - begun


async def check_complete(source: Path, place: Place) -> None:
    """The target holds what the source holds, each message once, and nothing else."""
    wanted = parsed(source)
    async with place.open(create=False) as storage:
        assert await storage.count({"type": "session"}) == await storage.count({"type": "_copy"}) == len(wanted)
        assert await storage.count() == len(wanted)
        assert not await storage.exists("copy", type="_copy_run")
        sessions = SessionStorageAdapter(storage)
        for name, saved in wanted.items():
            events = await sessions.events.read(name.removesuffix(".json"))
            said = [message["content"] for message in saved["workflow_state"]["messages"]]
            assert [event["content"] for event in events] == said
            assert [event["seq"] for event in events] == [*range(1, len(said) + 1)]


async def test_a_second_copy_into_the_same_target_is_refused_while_one_runs(place: Place, tmp_path: Path) -> None:
    write_many(tmp_path / "source", 60)
    first = started(tmp_path / "source", place.address, "10")
    try:
        await until_taken(place)
        with pytest.raises(AnotherRunError) as refusal:
            await copied(tmp_path / "source", place.address)
        assert exit_code_of(refusal.value) == 5
        first.kill()
        first.communicate()
        facts = await copied(tmp_path / "source", place.address)  # at once: the process is known to have ended
    finally:
        first.kill()
        first.communicate()
    assert counts(facts, "read", "verified", "mismatched") == (60, 60, 0)
    await check_complete(tmp_path / "source", place)


async def until_taken(place: Place) -> None:
    """Wait until a copy of another process has begun to write."""
    async with place.open() as storage:
        for _ in range(3_000):
            if await storage.exists("copy", type="_copy_run"):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the first copy never wrote")


async def test_ctrl_c_ends_a_copy_and_gives_its_right_back(place: Place, tmp_path: Path) -> None:
    write_many(tmp_path / "source", 60)
    process = started(tmp_path / "source", place.address, "10")
    await until_taken(place)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert "KeyboardInterrupt" in errors
    async with place.open(create=False) as storage:
        assert not await storage.exists("copy", type="_copy_run")
    assert counts(await copied(tmp_path / "source", place.address), "verified") == (60,)
    await check_complete(tmp_path / "source", place)


async def test_copies_from_two_sources_at_once_take_turns(place: Place, tmp_path: Path) -> None:
    """The one that comes late is refused, and run again until it is its turn; each session comes once."""
    for name in ("one", "other"):
        for number in range(300):
            write(tmp_path / name, document(f"{name}{number:03}"))
        write(tmp_path / name, document("shared", text=name))
    done = await asyncio.gather(*(until_done(tmp_path / name, place) for name in ("one", "other")))
    assert sorted(counts["conflict"] for counts in done) == [0, 1]
    async with place.open(create=False) as storage:
        assert await storage.count({"type": "session"}) == await storage.count({"type": "_copy"}) == 601
    assert {(await verified(tmp_path / name, place.address))["missing"] for name in ("one", "other")} == {0}


async def until_done(source: Path, place: Place) -> dict[str, int]:
    while True:
        try:
            facts = await copied(source, place.address)
        except AnotherRunError:
            await asyncio.sleep(0.05)
        else:
            ledger: dict[str, int] = facts["ledger"]
            assert ledger["copied"] + ledger["equal"] + ledger["conflict"] == 301
            return ledger
