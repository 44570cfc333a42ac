"""A program with an agent of ADK: ``adk_program.py URL MESSAGE`` has it answer once, and prints the last text."""

from __future__ import annotations

import asyncio
import sys

from session_bridges.adk import UnifiedSessionService
from tests.session_bridges.adk_agents import runner_of, turn, waiter


async def main(url: str, said: str) -> None:
    async with UnifiedSessionService(url) as service:
        events = await turn(runner_of(service, waiter()), said)
        print(events[-1].content.parts[0].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
