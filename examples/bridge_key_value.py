"""A client of FastMCP goes on at another server: ``python examples/bridge_key_value.py [URL]``."""

from __future__ import annotations

import asyncio
import sys

from fastmcp import Client, FastMCP
from fastmcp.server.dependencies import get_session
from fastmcp.server.sessions import SessionId, SessionProvider

from session_bridges.key_value import UnifiedKeyValue


async def add(goods: str, session_id: SessionId) -> list[str]:
    session = await get_session(session_id)
    cart = [*await session.get("cart", []), goods]
    await session.set("cart", cart)
    return cart


def shop(store: UnifiedKeyValue) -> FastMCP:
    # before: mcp = FastMCP("shop", session_state_store=RedisStore(url="redis://localhost"))
    mcp = FastMCP("shop", session_state_store=store)
    mcp.add_provider(SessionProvider())
    mcp.tool(add)
    return mcp


async def main(url: str) -> None:
    session = None
    async with UnifiedKeyValue(url) as store:
        for goods in ("tea", "milk"):
            async with Client(shop(store)) as client:
                session = session or (await client.call_tool("create_session")).data
                print((await client.call_tool("add", {"goods": goods, "session_id": session})).data)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
