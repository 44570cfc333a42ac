"""What the session stores of agent frameworks are filled with, and how it is made sure that they see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Engine, Table, insert, make_url

from benchmarks.system import Event, NotOffered, Session, System

if TYPE_CHECKING:  # wants greenlet, which only the frameworks bring
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

CHUNK = 2_000
"""Rows of one statement."""
SAMPLES = 20
"""What is read back through the system of all that went past it."""


def role_and_text(event: Event) -> tuple[str, str]:
    """What a message of a framework is made of; its token counts have no place in most of them, and stay away."""
    return event.body["role"], event.body["content"]


def url_with(place: str, driver: str) -> URL:
    return make_url(place).set(drivername=driver)


def chunks(rows: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def times(count: int, step: float) -> list[float]:
    """Ascending times in seconds, the last of them now: what is later in a sequence is newer."""
    now = time.time()
    return [now - (count - number - 1) * step for number in range(count)]


async def insert_rows(engine: Engine | AsyncEngine, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """All rows in one transaction of a system's own engine, through its own table: types and JSON are its own."""
    if not isinstance(engine, Engine):
        async with engine.begin() as connection:
            for chunk in chunks(rows):
                await connection.execute(insert(table), list(chunk))
        return

    def inserted() -> None:
        with engine.begin() as connection:
            for chunk in chunks(rows):
                connection.execute(insert(table), list(chunk))

    await asyncio.to_thread(inserted)


async def read_back_sessions(system: System, sessions: Sequence[Session]) -> None:
    """Load some of the sessions as a program does.

    Raises:
        AssertionError: the system shows another state than was given.
    """
    for session in _some(sessions):
        await system.load(session.id)
        if await _or_none(system.state, session.id) not in (None, session.state):
            raise AssertionError(f"{system.name} shows another state of {session.id}")


async def read_back_events(system: System, id: str, events: Sequence[Event]) -> None:
    """Read the newest events as a program does.

    Raises:
        AssertionError: the system does not show them, or not in this order.
    """
    expected = [event.key for event in events]
    shown = await system.last(id, min(SAMPLES, len(events)))
    if len(shown) != min(SAMPLES, len(events)) or (await system.keys(id))[-len(expected) :] != expected:
        raise AssertionError(f"{system.name} does not show the events of {id} as they were added")


def _some(items: Sequence[T]) -> Iterator[T]:
    return islice(items, 0, None, max(1, len(items) // SAMPLES))


async def _or_none(call: Callable[[str], Awaitable[T]], id: str) -> T | None:
    try:
        return await call(id)
    except NotOffered:
        return None
