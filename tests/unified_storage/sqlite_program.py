"""What other processes do in the SQLite tests: `python -m tests.unified_storage.sqlite_program WHAT URL ...`."""

import asyncio
import sys

from unified_storage import open_storage


async def update_keys(url: str, first: str, count: str) -> None:
    """Set keys first..first+count of one record, all at once."""
    async with open_storage(url) as storage:
        keys = range(int(first), int(first) + int(count))
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(storage.update("shared", {"data": {f"k{key}": key}}) for key in keys))


async def append(url: str, mark: str, tasks: str, each: str) -> None:
    """Append from several tasks to one log."""
    async with open_storage(url) as storage:
        print("ready", flush=True)
        sys.stdin.readline()

        async def write(task: int) -> None:
            for turn in range(int(each)):
                await storage.append("history/shared", [{"body": [mark, task, turn]}])

        await asyncio.gather(*(write(task) for task in range(int(tasks))))


async def acknowledge(url: str) -> None:
    """Append for ever from 8 tasks, and say each number only when it is acknowledged."""
    async with open_storage(url) as storage:

        async def write(task: int) -> None:
            for turn in range(1_000_000):
                key = f"{task}-{turn}"
                await storage.append("history/shared", [{"body": key, "key": key}])
                print(key, flush=True)

        await asyncio.gather(*(write(task) for task in range(8)))


async def hang_in_a_transaction(url: str) -> None:
    """Do half of a transaction, say so, and wait."""
    async with open_storage(url) as storage, storage.transaction(timeout=60) as tx:
        await tx.save({"id": "half", "type": "note", "data": {}})
        await tx.append("history/shared", [{"body": "half"}])
        await tx.delete("shared")
        print("half", flush=True)
        await asyncio.sleep(60)


async def only_open(url: str) -> None:
    """Open the store at once with others, and write one record."""
    print("ready", flush=True)
    sys.stdin.readline()
    async with open_storage(url) as storage:
        await storage.save({"type": "note", "data": {}})


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
