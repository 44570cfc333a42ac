"""``python -m tests.session_adapter.runner_program URL NAMESPACE AGENT MESSAGE``: one run in a process of its own.

AGENT ``answers`` tells what it was given and ends; ``waits`` makes two calls, answers one, says ``ready`` and goes on
when it reads a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

from session_adapter import RunContext, Runner, ScopedSessionService
from tests.session_adapter.agents import KEY, Function, Told, calls, found, said
from unified_storage import open_storage


async def answers(context: RunContext) -> AsyncIterator[Told]:
    given = [[event.role, event.content, event.tool_call_id] for event in context.messages]
    print(json.dumps(given), flush=True)
    yield said("answered")


async def waits(context: RunContext) -> AsyncIterator[Told]:
    yield {"role": "assistant", "content": "I lo", "partial": True}
    yield calls("c1", "c2", text="I look")
    yield found("c1")
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    yield found("c2")
    yield said("here it is")


async def main(url: str, namespace: str, agent: str, message: str) -> None:
    async with open_storage(url, namespace=namespace) as storage:
        runner = Runner(KEY.app_name, Function(globals()[agent]), ScopedSessionService(storage))
        async with aclosing(runner.run(KEY.user_id, KEY.session_id, message)) as events:
            async for _ in events:
                pass


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
