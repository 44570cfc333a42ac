"""A program that appends until it is killed: ``python -m`` this module, with the ADDRESS of a store and a RUN's number.

Each task appends to a log of its own and to one of all in turn, and has one append on its way at a time. What it was
told is done is a line on stdout, written at once.
"""

import asyncio
import itertools
import os
import sys

from unified_storage import IUnifiedStorage, open_storage

TASKS = 64
SHARED = "log@note/shared"


def own_log(task: int) -> str:
    return f"log@note/n{task}"


async def _write(storage: IUnifiedStorage, run: int, task: int) -> None:
    for turn in itertools.count():
        log = SHARED if turn % 2 else own_log(task)
        await storage.append(log, [{"body": [run, task, turn]}])
        os.write(1, b"%d %d\n" % (task, turn))


async def main(address: str, run: str) -> None:
    async with open_storage(address) as storage, asyncio.TaskGroup() as tasks:
        for task in range(TASKS):
            tasks.create_task(_write(storage, int(run), task))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
