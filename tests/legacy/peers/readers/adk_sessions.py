"""What Google ADK itself finds in a store, as JSON: a list of sessions with state, times and events.

Run by an interpreter that has it: ``python adk_sessions.py database|sqlite URL-or-file APP ...``. With ``--append``
before the rest it adds an event to the end of each session first, as an application would.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from google.adk.events import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

SERVICES: dict[str, Any] = {"database": DatabaseSessionService, "sqlite": SqliteSessionService}


async def main(kind: str, place: str, apps: list[str], *, appends: bool) -> None:
    service = SERVICES[kind](place)
    found = [session for app in apps for session in (await service.list_sessions(app_name=app)).sessions]
    if appends:
        for session in [await got(service, session) for session in found]:
            await service.append_event(session, said_now(session))
    print(json.dumps([facts(await got(service, session)) for session in found]))
    await service.close()


async def got(service: Any, session: Any) -> Any:
    return await service.get_session(app_name=session.app_name, user_id=session.user_id, session_id=session.id)


def said_now(session: Any) -> Event:
    text = types.Content(role="user", parts=[types.Part(text="And one more thing")])
    return Event(
        id="appended-by-adk",
        invocation_id="i-appended",
        author="user",
        content=text,
        timestamp=session.last_update_time + 5_000_000,
        actions=EventActions(state_delta={"appended": True, "user:appended": session.id}),
    )


def facts(session: Any) -> dict[str, Any]:
    return {
        "app_name": session.app_name,
        "user_id": session.user_id,
        "id": session.id,
        "state": session.state,
        "updated": session.last_update_time,
        "events": [event.model_dump(mode="json", exclude_none=True) for event in session.events],
    }


if __name__ == "__main__":
    arguments = sys.argv[1:]
    appends = arguments[:1] == ["--append"]
    kind, place, *apps = arguments[appends:]
    asyncio.run(main(kind, place, apps, appends=appends))
