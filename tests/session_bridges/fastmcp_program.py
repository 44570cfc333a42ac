"""A FastMCP server that keeps all it has on a storage: ``python -m ... URL PORT``."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.server.dependencies import get_session
from fastmcp.server.event_store import EventStore
from fastmcp.server.sessions import SessionId, SessionProvider

from session_bridges.key_value import UnifiedKeyValue


def server(store: UnifiedKeyValue) -> FastMCP:
    mcp = FastMCP("notes", session_state_store=store)
    mcp.add_provider(SessionProvider())

    @mcp.tool
    async def note(text: str, session_id: SessionId) -> list[str]:
        session = await get_session(session_id)
        notes = [*await session.get("notes", []), text]
        await session.set("notes", notes)
        return notes

    @mcp.tool
    async def slowly(ctx: Context) -> str:
        await ctx.close_sse_stream()  # the client has to come back for the answer
        await asyncio.sleep(0.3)
        return "here it is"

    return mcp


def main(url: str, port: str) -> None:
    store = UnifiedKeyValue(url)
    app = server(store).http_app(event_store=EventStore(storage=store), retry_interval=50)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
