"""Two workers add runs to one session at once, and neither is lost: ``python examples/typed_sessions.py [URL]``.

Run again with the URL of a database, it goes on with what it left there.
"""

from __future__ import annotations

import asyncio
import sys

from session_adapter import Session, SessionRepository

ID = "bakery-1"


async def work(sessions: SessionRepository, worker: str, tokens: int) -> None:
    session = await sessions.get(ID)
    said = [{"role": "user", "content": "Bread?"}, {"role": "assistant", "content": f"From {worker}."}]
    session.add_run({"status": "completed", "messages": said, "usage": {"total_tokens": tokens}})
    await sessions.update(session)


async def main(url: str) -> None:
    async with SessionRepository(url) as sessions:
        await sessions.create(Session(session_id=ID, agent_id="baker", user_id="ann"))
        await asyncio.gather(work(sessions, "Ben", 20), work(sessions, "Cleo", 30))
        [session] = await sessions.list_by_user("ann")
        summary = session.generate_summary("Ann asked for bread.")
        await sessions.update(session)
        print(summary.run_count, "runs,", summary.total_tokens, "tokens:", summary.content)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
