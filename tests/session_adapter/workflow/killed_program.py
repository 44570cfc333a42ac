"""A workflow of three steps that is killed: ``python -m ... URL NAMESPACE PLACE``, where PLACE is a step's name.

It takes the last run up, or begins one. In that step the process says so, and waits for its end; without PLACE it tells
what became of the run.
"""

from __future__ import annotations

import asyncio
import json
import sys

from session_adapter import SessionKey, SessionStorageAdapter
from session_adapter.workflow import ExecutionContext, Parallel, Step, Workflow, new_execution_context_with_session
from tests.session_adapter.workflow.models import UserInfo
from unified_storage import open_storage

SESSION = SessionKey("shop", "ann", "s1")
RAN: list[str] = []


def acting(name: str, deadly: str | None) -> Step:
    async def acts(ctx: ExecutionContext) -> ExecutionContext:
        RAN.append(name)
        ctx.set_session_state("steps", [*ctx.session_state.get_value("steps", []), name])
        ctx.set_session_state("user", UserInfo("Ann", len(RAN)))
        ctx.output = [*(ctx.output or []), name]
        ctx.data[name] = True
        if name == deadly:
            print(json.dumps(RAN), flush=True)
            await asyncio.sleep(60)
        return ctx

    return Step(name, acts)


def workflow(sessions: SessionStorageAdapter, deadly: str | None) -> Workflow:
    made = Workflow("orders", sessions=sessions, types={"user": UserInfo})
    for name in ("one", "two", "three"):
        made.add_step(acting(name, deadly))
    return made.add_step(Parallel("both").add_node(acting("left", deadly)).add_node(acting("right", deadly)))


async def main(url: str, namespace: str, deadly: str | None = None) -> None:
    async with open_storage(url, namespace=namespace) as storage:
        ctx = new_execution_context_with_session("go", SESSION)
        ctx.set_session_state("steps", [])
        ctx = await workflow(SessionStorageAdapter(storage), deadly).resume(ctx)
        user = ctx.get_typed("user", UserInfo)
        told = {"ran": RAN, "steps": ctx.session_state["steps"], "output": ctx.output, "data": [*ctx.data]}
        print(json.dumps(told | {"user": user.name}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
