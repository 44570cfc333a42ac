"""Session services of ADK - its own, and the bridge on every engine - and what is said through them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import BaseSessionService
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.sessions.session import Session
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from session_bridges.adk import UnifiedSessionService
from tests.places import engines, place_on

APP, USER, ID = "shop", "ann", "s1"
WHOSE: Any = {"app_name": APP, "user_id": USER}
NAMED: Any = {**WHOSE, "session_id": ID}

BRIDGES = engines("memory", "sqlite", "postgresql", "redis")
CHECKING = ["adk-sqlite", "adk-database"]
"""Those of ADK's own that tell stale writers."""
OWN = ["adk-memory", *CHECKING]


@asynccontextmanager
async def service_of(name: str, folder: Path) -> AsyncIterator[BaseSessionService]:
    """One of ADK's own services, or the bridge on the engine *name*."""
    if name == "adk-memory":
        yield InMemorySessionService()
    elif name == "adk-sqlite":
        service = SqliteSessionService(str(folder / "adk.db"))
        yield service
        await service.close()
    elif name == "adk-database":
        async with DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/adk.db") as database:
            yield database
    else:
        async with place_on(name, folder) as place, UnifiedSessionService(place.address) as bridge:
            yield bridge


def said(text: str, *, author: str = "user", time: float | None = None, id: str = "", **delta: Any) -> Event:
    """An event with a text; *delta* is what it does to the state."""
    role = "user" if author == "user" else "model"
    event = Event(
        id=id,
        author=author,
        invocation_id="i1",
        content=types.Content(role=role, parts=[types.Part(text=text)]),
        actions=EventActions(state_delta=delta),
    )
    if time is not None:
        event.timestamp = time
    return event


def changed(delta: dict[str, Any], **fields: Any) -> Event:
    """An event that changes the state, and says nothing."""
    return Event(author="agent", invocation_id="i1", actions=EventActions(state_delta=delta), **fields)


def texts(session: Session | None) -> list[str | None]:
    """What was said in a session."""
    assert session is not None
    return [event.content.parts[0].text if event.content else None for event in session.events]


async def stored(service: BaseSessionService, **named: Any) -> Session:
    """The session as it is stored."""
    session = await service.get_session(**{**NAMED, **named})
    assert session is not None
    return session


def near(timestamp: float) -> Any:
    """*timestamp*, to the microsecond that databases keep."""
    return pytest.approx(timestamp, abs=2e-6)
