"""A process that uses one session: ``python -m ... URL turn TEXT ANSWER``, or ``... URL write WHO COUNT TASKS``.

A turn is one of an agent whose model says ANSWER; what the model was told is printed as JSON. A writer says ``ready``,
waits for a line, and adds COUNT pairs of items.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from agents import Runner
from agents.testing import assistant_message

from session_bridges.openai_agents import UnifiedSession
from tests.session_bridges.openai_talks import QUIET, agent, told


async def turn(url: str, text: str, answer: str) -> None:
    clerk = agent([assistant_message(answer)])
    async with UnifiedSession("s1", url) as session:
        await Runner.run(clerk, text, session=session, run_config=QUIET)
    print(json.dumps(told(clerk)))


async def write(url: str, who: str, count: str, tasks: str) -> None:
    numbers = iter(range(int(count)))

    async def added(session: UnifiedSession) -> None:
        for number in numbers:
            name = f"{who}{number}"
            await session.add_items([{"role": "user", "content": name}, {"role": "assistant", "content": name}])

    async with UnifiedSession("s1", url) as session:
        await session.get_items(limit=1)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(added(session) for _ in range(int(tasks))))


if __name__ == "__main__":
    acts: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"turn": turn, "write": write}
    url, act, *arguments = sys.argv[1:]
    asyncio.run(acts[act](url, *arguments))
