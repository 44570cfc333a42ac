"""A workflow of two steps whose state stays with the session: ``python examples/workflow_orders.py [URL]``.

Run again with the URL of a database, it begins with what it left there.
"""

from __future__ import annotations

import asyncio
import sys

from session_adapter import SessionKey, SessionStorageAdapter
from session_adapter.workflow import ExecutionContext, Step, Workflow, new_execution_context_with_session
from unified_storage import open_storage


async def user_info(ctx: ExecutionContext) -> ExecutionContext:
    ctx.set_session_state("user", {"name": "Ann", "customer": 7})
    return ctx


async def orders(ctx: ExecutionContext) -> ExecutionContext:
    user, _ = ctx.get_session_state("user")
    placed = ctx.session_state.get_value("orders", [])
    ctx.set_session_state("orders", [*placed, f"{user['customer']}-{len(placed) + 1}"])
    ctx.output = f"{user['name']} has placed {len(placed) + 1}"
    return ctx


async def main(url: str) -> None:
    async with open_storage(url) as storage:
        workflow = Workflow("orders", sessions=SessionStorageAdapter(storage))
        workflow.add_step(Step("user info", user_info)).add_step(Step("orders", orders))
        ctx = new_execution_context_with_session("Two rye loaves", SessionKey("bakery", "ann", "s1"))
        print((await workflow.execute(ctx)).output, ctx.session_state["orders"])


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
