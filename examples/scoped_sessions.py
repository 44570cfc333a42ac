"""A shop that remembers its customers: ``python examples/scoped_sessions.py [URL]``.

Run again with the URL of a database, it goes on with what it left there.
"""

from __future__ import annotations

import asyncio
import sys

from session_adapter import Event, ScopedSessionService, SessionKey


async def visit(service: ScopedSessionService, key: SessionKey, wish: str) -> None:
    if await service.get_session(key, event_num=0) is None:
        await service.create_session(key, {"cart": []})
    delta = {"cart": [wish], "user:visits": 1, "app:visits": 1}
    await service.append_event(key, Event(role="user", content=f"{wish}, please", state_delta=delta))


async def main(url: str) -> None:
    policies = {"cart": "append", "user:visits": "sum", "app:visits": "sum"}
    async with ScopedSessionService(url, session_event_limit=200, policies=policies) as service:
        ann, bob = SessionKey("shop", "ann", "s1"), SessionKey("shop", "bob", "s1")
        await asyncio.gather(visit(service, ann, "tea"), visit(service, bob, "rye"))
        await visit(service, ann, "milk")
        for key in (ann, bob):
            session = await service.get_session(key, event_num=1)
            assert session is not None
            print(key.user_id, session.state, session.events[0].content)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
