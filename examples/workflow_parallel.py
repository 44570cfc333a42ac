"""Branches that run at the same time, and what becomes of their states: ``python examples/workflow_parallel.py``."""

from __future__ import annotations

import asyncio

from session_adapter.workflow import ExecutionContext, Parallel, Step, Workflow


def asking(shop: str, seconds: float, price: int) -> Step:
    async def ask(ctx: ExecutionContext) -> ExecutionContext:
        await asyncio.sleep(seconds)
        ctx.set_session_state(f"price_{shop}", price)
        ctx.set_session_state("asked", ctx.session_state["asked"] + 1)
        ctx.set_session_state("last_answer", shop)
        return ctx

    return Step(shop, ask)


async def cheapest(ctx: ExecutionContext) -> ExecutionContext:
    state = ctx.session_state.get_all()
    ctx.output = min((price, key) for key, price in state.items() if key.startswith("price_"))
    return ctx


async def main() -> None:
    shops = Parallel("shops", policies={"asked": "sum"})
    for shop, seconds, price in (("mill", 0.02, 42), ("bakery", 0.01, 39), ("market", 0.0, 45)):
        shops.add_node(asking(shop, seconds, price))
    workflow = Workflow("prices").add_step(shops).add_step(Step("cheapest", cheapest))
    ctx = await workflow.execute(ExecutionContext("rye", session_state={"asked": 10}))
    print(ctx.output, ctx.session_state["asked"], ctx.session_state["last_answer"])
    for conflict in ctx.conflicts:
        print(conflict.key, conflict.branches, conflict.values, conflict.policy)


asyncio.run(main())
