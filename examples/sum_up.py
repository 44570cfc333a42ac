"""A conversation whose summary is kept up to date: ``python examples/sum_up.py [URL]``.

The prompt of a long conversation is its summary and what was said since. Run again with a database's URL, it goes on.
"""

from __future__ import annotations

import asyncio
import sys

from session_adapter import SessionStorageAdapter, Summaries
from unified_storage import open_storage


class Counting:
    """Stands for a language model: it would be sent the text, and told to sum it up."""

    async def summarise(self, text: str) -> str:
        known, _, said = text.rpartition("Said since then:\n")
        before = int(known.split()[5]) if known else 0
        return f"They said {before + len(said.splitlines())} things."


async def main(url: str) -> None:
    async with open_storage(url) as storage:
        sessions, summaries = SessionStorageAdapter(storage), Summaries(storage)
        if not await sessions.session_exists("s1"):
            await sessions.save_session("s1", {"session_id": "s1"})
        await sessions.events.append("s1", {"role": "user", "content": "Is my bread done?"})
        await sessions.events.append("s1", {"role": "assistant", "content": "In ten minutes."})
        await summaries.update("s1", Counting())
        await sessions.events.append("s1", {"role": "user", "content": "And now?"})
        window = await summaries.window("s1", last=20)
        print(window.summary, [event["content"] for event in window.events])


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
