"""Agents for the tests: scripts of events, and what they were given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from session_adapter import Event, Runner, ScopedSessionService, SessionKey
from session_adapter.runner import RunContext
from tests.session_adapter.transcripts import fault

Told = Event | Mapping[str, Any]
KEY = SessionKey("shop", "ann", "s1")


class Scripted:
    """Tells the same events in every run, and keeps what it was given."""

    def __init__(self, *events: Told) -> None:
        self.events = events
        self.seen: list[RunContext] = []

    async def run(self, context: RunContext) -> AsyncIterator[Told]:
        self.seen.append(context)
        for event in self.events or (Event(role="assistant", content=f"re: {context.message.content}"),):
            yield event


class Waiting:
    """Tells its events, waits where it finds ``None``, and writes down how it ended."""

    def __init__(self, *events: Told | None) -> None:
        self.events = events
        self.waits = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.ended: list[str] = []

    async def run(self, context: RunContext) -> AsyncIterator[Told]:
        try:
            for event in self.events:
                if event is None:
                    self.waits.set()
                    await self.goes_on.wait()
                else:
                    yield event
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("done")


class Function:
    """An agent of one function."""

    def __init__(self, run: Callable[[RunContext], AsyncIterator[Told]]) -> None:
        self.run = run


def calls(*ids: str, text: str | None = None) -> dict[str, Any]:
    made = [{"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": text, "tool_calls": made}


def found(id: str, text: str = "found") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "name": "look", "content": text}


def said(text: str) -> Event:
    return Event(role="assistant", content=text)


async def heard(runner: Runner, message: Any = "hello", key: SessionKey = KEY) -> list[Event]:
    async with aclosing(runner.run(key.user_id, key.session_id, message)) as events:
        return [event async for event in events]


async def stored(service: ScopedSessionService, key: SessionKey = KEY) -> list[dict[str, Any]]:
    session = await service.get_session(key)
    assert session is not None
    return [event.model_dump() for event in session.events]


def told(events: Iterable[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    return [(event["role"], event["content"]) for event in events]


def check_consistent(events: list[dict[str, Any]]) -> None:
    """What is stored is a row of whole turns, as a model takes it."""
    assert fault(events) is None
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
