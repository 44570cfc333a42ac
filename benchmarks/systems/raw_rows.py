"""The rows that the drivers write, the same on every engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.system import Event, Session, System

COLUMNS = ("id", "user_id", "topic", "state", "version", "last_seq", "created_at", "updated_at")
EVENT_COLUMNS = ("session", "seq", "key", "created_at", "body")


class Raw(System):
    """What all drivers alone have in common."""

    name = "raw"

    async def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = (await self.load(id))["state"]
        return state

    async def grow(self, sessions: Sequence[Session]) -> None:
        await self.import_all([(session, ()) for session in sessions])


def now() -> int:
    """Microseconds."""
    return time.time_ns() // 1000


def encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def head_row(session: Session, last_seq: int) -> tuple[Any, ...]:
    moment = now()
    return session.id, session.user, session.topic, encoded(session.state), 1, last_seq, moment, moment


def event_rows(id: str, events: Sequence[Event], *, after: int = 0) -> list[tuple[Any, ...]]:
    """Rows of events that get the numbers behind *after*."""
    moment = now()
    return [(id, seq, event.key, moment, encoded(event.body)) for seq, event in enumerate(events, start=after + 1)]


def shown(row: Sequence[Any]) -> dict[str, Any]:
    """What a program is given of a session."""
    session = dict(zip(COLUMNS, row, strict=True))
    session["state"] = msgspec.json.decode(session["state"])
    return session


def shown_events(newest_first: Sequence[Any]) -> list[dict[str, Any]]:
    """What a program is given of rows (number, key, body)."""
    return [{"seq": seq, "key": key, "body": msgspec.json.decode(body)} for seq, key, body in reversed(newest_first)]
