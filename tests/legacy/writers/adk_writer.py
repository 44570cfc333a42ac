"""Google ADK at work: ``python adk_writer.py database|sqlite URL-or-file SEED``.

Sessions come and go, get events whose times stand still and go backwards, and change the state of their user and app,
until the input ends. It says when it begins, and in the end how often it did what.
"""

from __future__ import annotations

import asyncio
import json
import random
import select
import sys
import time
from collections import Counter
from typing import Any

from google.adk.events import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

SERVICES: dict[str, Any] = {"database": DatabaseSessionService, "sqlite": SqliteSessionService}
APP = "shop"
MOST = 30


async def main(kind: str, place: str, seed: int) -> None:
    print("ready", flush=True)
    service, choice, done = SERVICES[kind](place), random.Random(seed), Counter[str]()
    there: list[tuple[str, str]] = []
    while not has_ended():
        act = choice.choices(("create", "append", "delete"), (2, 8, 1))[0]
        if act == "create" and len(there) < MOST:
            key = (f"user{choice.randrange(3)}", f"s{seed}-{done['create']}")
            state = {"n": 0, "user:lang": choice.choice("abc")}
            await service.create_session(app_name=APP, user_id=key[0], session_id=key[1], state=state)
            there.append(key)
        elif act == "delete" and len(there) > 3:
            user, id = there.pop(choice.randrange(len(there)))
            await service.delete_session(app_name=APP, user_id=user, session_id=id)
        elif act == "append" and there:
            user, id = choice.choice(there)
            session = await service.get_session(app_name=APP, user_id=user, session_id=id)
            await service.append_event(session, event(choice, done["append"]))
        else:
            continue
        done[act] += 1
    await service.close()
    print(json.dumps(done))


def event(choice: random.Random, number: int) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=f"message {number}")])
    delta: dict[str, Any] = {}
    if choice.random() < 0.5:
        delta["n"] = number
    if choice.random() < 0.3:
        delta["user:seen"] = number
    if choice.random() < 0.3:
        delta["app:total"] = number
    when = time.time() - choice.choice((0, 0, 0.5, 3600))
    return Event(
        invocation_id=f"i{number}",
        author="user",
        content=content,
        timestamp=float(int(when)) if choice.random() < 0.3 else when,
        actions=EventActions(state_delta=delta),
    )


def has_ended() -> bool:
    """Whether whoever started this wants no more."""
    return bool(select.select([sys.stdin], [], [], 0.002)[0])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
