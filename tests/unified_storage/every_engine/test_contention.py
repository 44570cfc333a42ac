"""Many writers on one record and one log: nothing lost, no gap, and nobody hears of the contention."""

import asyncio
import random
import sys
from typing import Any

import pytest

from tests.places import EMBEDDED, ON_DISK, SERVERS, Place, engines
from tests.support import REPOSITORY

WRITERS = 64
UPDATES = 500
FIELDS = 40


@pytest.mark.scaled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SERVERS))
async def test_random_field_updates_of_one_record_all_survive(place: Place, scaled) -> None:
    """64 writers x 500 updates: each field ends with a value its last writer could have written last."""
    rounds = scaled(UPDATES, minimum=10)
    # Each writer has fields of its own, so what must stand there in the end is known without an order among writers.
    expected: dict[str, int] = {}
    async with place.open() as storage:
        await storage.save({"id": "one", "type": "note", "data": {}})

        async def write(writer: int) -> None:
            source = random.Random(writer)
            for number in range(rounds):
                field = f"w{writer}f{source.randrange(FIELDS)}"
                expected[field] = number
                assert await storage.update("one", {"data": {field: number}}, type="note")

        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        record = await storage.load("one", type="note")
    assert record is not None
    assert record["data"] == expected
    assert record["version"] == 1 + WRITERS * rounds


APPENDER = """
import asyncio, sys
from unified_storage import open_storage

async def main(url, namespace, name, tasks, rounds):
    async with open_storage(url, namespace=namespace) as storage:
        async def add(task):
            for number in range(rounds):
                (seq,) = await storage.append("events@note/one", [{"body": [name, task, number]}])
                print(seq, task, number)
        await asyncio.gather(*(add(task) for task in range(tasks)))

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], 8, int(sys.argv[4])))
"""


@pytest.mark.scaled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_two_processes_append_to_one_log_without_a_gap(place: Place, scaled) -> None:
    """16 tasks in 2 processes: the numbers are 1..n, each writer's entries stand in its order, all are there."""
    rounds = scaled(500, minimum=20)
    async with place.open() as storage:
        await storage.save({"id": "one", "type": "note", "data": {}})
        told = await asyncio.gather(*(_appended(place, name, rounds) for name in ("left", "right")))
        entries = await storage.read("events@note/one")
        info = await storage.log_info("events@note/one")
        record = await storage.load("one", type="note")
    total = 2 * 8 * rounds
    assert [entry["seq"] for entry in entries] == [*range(1, total + 1)]
    assert info == {"first_seq": 1, "last_seq": total, "count": total}
    assert record is not None
    assert record["version"] == 1 + total
    by_writer: dict[tuple[str, int], list[int]] = {}
    for entry in entries:
        name, task, number = entry["body"]
        by_writer.setdefault((name, task), []).append(number)
    assert by_writer == {(name, task): [*range(rounds)] for name in ("left", "right") for task in range(8)}
    stored = {entry["seq"]: entry["body"] for entry in entries}
    for name, lines in zip(("left", "right"), told, strict=True):
        assert all(stored[seq] == [name, task, number] for seq, task, number in lines)


async def _appended(place: Place, name: str, rounds: int) -> list[Any]:
    """What a process of its own was told of its entries: number, writer, place."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-c", APPENDER, place.url, place.namespace, name, str(rounds)),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [tuple(map(int, line.split())) for line in out.decode().splitlines()]
