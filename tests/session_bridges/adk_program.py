"""A process that uses one session of ADK: ``python -m ... URL turn TEXT``, ``... URL write CONFLICT WHO COUNT TASKS``.

A turn is one of an agent with a scripted model; the last text is printed. A writer says ``ready``, waits for a line,
and has each of its tasks add events; one that is told that it is stale loads the session again, and how often that was
is printed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from google.adk.errors import StaleSessionError
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig

from session_bridges.adk import UnifiedSessionService
from tests.session_bridges.adk_agents import runner_of, turn, waiter
from tests.session_bridges.adk_services import changed, said, stored

HEAD = GetSessionConfig(num_recent_events=0)


async def written(service: BaseSessionService, who: str, count: int) -> int:
    """Add events, every third with a delta of its own key; how often the session had to be loaded again."""
    session, loads = await stored(service, config=HEAD), 0
    for at in range(count):
        name = f"{who} {at}"
        event = said(name) if at % 3 else changed({name: at, f"user:{name}": at, f"app:{name}": at})
        event.custom_metadata = {"name": name}
        while True:
            try:
                await service.append_event(session, event)
                break
            except StaleSessionError:
                session, loads = await stored(service, config=HEAD), loads + 1
    return loads


async def write(url: str, conflict: Any, who: str, count: str, tasks: str) -> None:
    async with UnifiedSessionService(url, conflict=conflict) as service:
        await stored(service)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        loads = await asyncio.gather(*(written(service, f"{who}{task}", int(count)) for task in range(int(tasks))))
        print(sum(loads))


async def one_turn(url: str, text: str) -> None:
    async with UnifiedSessionService(url) as service:
        events = await turn(runner_of(service, waiter()), text)
        print(events[-1].content.parts[0].text)


if __name__ == "__main__":
    acts: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"turn": one_turn, "write": write}
    url, act, *arguments = sys.argv[1:]
    asyncio.run(acts[act](url, *arguments))
