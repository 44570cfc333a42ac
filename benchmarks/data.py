"""The sessions and events that are stored: always the same ones, made from numbers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.system import Event, Session

USERS = 50
"""Each has the same part of the sessions: of 1 000, just one page of 20. So it is with topics."""
TEXT = (
    "The cart holds three kinds of tea now. Shall I look for a kettle too, or is the order complete? "
    "Delivery takes two working days, and parcels above forty euros are sent without a charge."
)


def session(number: int, prefix: str = "s") -> Session:
    user, topic = number % USERS, (number // USERS + number) % USERS
    state = {"step": number, "language": "de", "cart": ["green tea", "kettle"]}
    return Session(f"{prefix}{number:07d}", f"user-{user}", f"topic-{topic}", state)


def sessions(count: int, prefix: str = "s", *, start: int = 0) -> list[Session]:
    return [session(number, prefix) for number in range(start, start + count)]


def event(session_id: str, number: int) -> Event:
    """About 300 bytes as JSON; its key is unique among all sessions."""
    body = {
        "role": "user" if number % 2 == 0 else "assistant",
        "content": f"{number}: {TEXT}",
        "usage": {"input_tokens": 512 + number, "output_tokens": 64},
    }
    return Event(f"{session_id}-{number}", body)


def events(session_id: str, count: int, *, start: int = 0) -> list[Event]:
    return [event(session_id, number) for number in range(start, start + count)]


def numbered(session_id: str, start: int = 0) -> Iterator[Event]:
    """Events without an end."""
    number = start
    while True:
        yield event(session_id, number)
        number += 1
