"""A program that is killed while many of its tasks append: what it was told is done stays done."""

import asyncio
import sys
from collections import defaultdict

import pytest

from tests.places import ON_DISK, Place, engines
from tests.unified_storage.every_engine.appending_program import SHARED, TASKS, own_log
from unified_storage import IUnifiedStorage

KILLED_AFTER = (1, TASKS + 7, 500, 1500)
"""Acknowledged appends, after which a program is killed; the next one goes on with what it left."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_what_was_acknowledged_survives_a_kill_of_the_program(place: Place) -> None:
    async with place.open() as storage:
        for owner in ("shared", *(f"n{task}" for task in range(TASKS))):
            await storage.save({"id": owner, "type": "note", "data": {}})

    acknowledged = [await _killed(place, run, count) for run, count in enumerate(KILLED_AFTER)]

    async with place.open() as storage:
        stored = await _stored(storage)
    for run, of_tasks in enumerate(acknowledged):
        for task in range(TASKS):
            # in its order, without a gap and none twice: all it was told of, and at most the one on its way
            turns = stored[run, task]
            assert turns == [*range(len(turns))]
            assert of_tasks[task] == turns[: len(of_tasks[task])]
            assert len(turns) - len(of_tasks[task]) in (0, 1)


async def _killed(place: Place, run: int, count: int) -> list[list[int]]:
    """Run the program and kill it; the turns of each task that were acknowledged, *count* in all or more."""
    program = "tests.unified_storage.every_engine.appending_program"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", program, place.address, str(run), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        lines = [await process.stdout.readline() for _ in range(count)]
    finally:
        process.kill()
    lines += (await process.stdout.read()).splitlines()
    assert await process.wait() == -9, "it ended by itself"
    acknowledged: list[list[int]] = [[] for _ in range(TASKS)]
    for line in lines:
        task, turn = map(int, line.split())
        acknowledged[task].append(turn)
    return acknowledged


async def _stored(storage: IUnifiedStorage) -> dict[tuple[int, int], list[int]]:
    """The turns that are there by run and task; every log is numbered without a gap, and its owner moved with it."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for log in (*map(own_log, range(TASKS)), SHARED):
        owner = log.rpartition("/")[2]

        async def look(tx: IUnifiedStorage, log: str = log, owner: str = owner) -> tuple[list, int]:
            record = await tx.load(owner, type="note")
            assert record is not None
            return await tx.read(log), record["version"]

        entries, version = await storage.atomically(look, attempts=10)
        assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
        assert version == 1 + len(entries)
        for entry in entries:
            run, task, turn = entry["body"]
            found[run, task].append(turn)
    for key, turns in found.items():
        even, odd = [turn for turn in turns if turn % 2 == 0], [turn for turn in turns if turn % 2]
        assert (even, odd) == (sorted(even), sorted(odd)), "each log has a task's own entries in their order"
        found[key] = sorted(turns)
    return found
