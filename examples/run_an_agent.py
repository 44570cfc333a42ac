"""An agent whose conversation stays with its session: ``python examples/run_an_agent.py [URL]``.

Run again with the URL of a database, it knows what was said before.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from session_adapter import Event, RunContext, Runner, ScopedSessionService


class Baker:
    """Stands for a model with a tool: it would be sent ``context.messages``."""

    async def run(self, context: RunContext) -> AsyncIterator[Event]:
        call = {"id": "c1", "type": "function", "function": {"name": "oven", "arguments": "{}"}}
        yield Event(role="assistant", tool_calls=[call])
        yield Event(role="tool", tool_call_id="c1", name="oven", content="two loaves")
        loaves = context.state.get("loaves", 0) + 2
        before = [event.content for event in context.history if event.role == "user"]
        answer = f"{loaves} loaves; asked before: {before}"
        yield Event(role="assistant", content=answer, state_delta={"loaves": loaves})


async def main(url: str) -> None:
    async with ScopedSessionService(url) as service:
        async for event in Runner("bakery", Baker(), service).run("ann", "s1", "Is my bread done?"):
            print(event.seq, event.role, event.content or "calls")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
