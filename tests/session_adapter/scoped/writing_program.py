"""A process that appends to a session: ``python -m ... URL NAMESPACE WHO COUNT TASKS LIMIT``, COUNT 0 for ever.

It says ``ready``, waits for a line, and prints the name of each event when its append is acknowledged. Each event sets
a key of its own name on each level.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from session_adapter import Event, ScopedSessionService, SessionKey

KEY = SessionKey("shop", "ann", "s1")


def event(name: str) -> Event:
    return Event(id=name, role="user", content=name, state_delta={name: 1, f"user:{name}": 2, f"app:{name}": 3})


async def main(url: str, namespace: str, who: str, count: str, tasks: str, limit: str) -> None:
    numbers = iter(range(int(count))) if int(count) else itertools.count()

    async def write(service: ScopedSessionService) -> None:
        for number in numbers:
            name = f"{who}{number}"
            await service.append_event(KEY, event(name))
            print(name, flush=True)

    async with ScopedSessionService(url, namespace=namespace, session_event_limit=int(limit) or None) as service:
        await service.get_session(KEY)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(write(service) for _ in range(int(tasks))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
