"""Agents of the OpenAI Agents SDK on this storage: ``python examples/bridge_openai_agents.py [URL]``.

Run again with the URL of a database, the agent knows what was said before. A scripted model stands in for a real one,
so it asks nobody.
"""

from __future__ import annotations

import asyncio
import sys

from agents import Agent, RunConfig, Runner
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message

from session_bridges.openai_agents import UnifiedSession


def answer(call: ModelCall) -> list[object]:
    said = [item["content"] for item in call.input if item["role"] == "user"]
    return [assistant_message(f"You have said {len(said)} things, the first was {said[0]!r}")]


async def main(url: str) -> None:
    clerk = Agent(name="clerk", model=ScriptedModel([ModelStep.respond(answer)] * 2))
    # before: session = SQLiteSession("ann-1", "app.db")
    session = UnifiedSession("ann-1", url)
    async with session:
        for text in ("Two rye loaves, please", "And milk"):
            result = await Runner.run(clerk, text, session=session, run_config=RunConfig(tracing_disabled=True))
            print(result.final_output)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
