"""The sessions and events that are stored: always the same ones, made from numbers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.system import Event, Session

USERS = 50
EACH = 100
"""Sessions of one user among many sessions: five pages of 20. So it is with topics."""
MOST_USERS = 1_000
"""Users of the largest stores, with a thousand sessions each: more would measure how well a disk does at random."""
TEXT = (
    "The cart holds three kinds of tea now. Shall I look for a kettle too, or is the order complete? "
    "Delivery takes two working days, and parcels above forty euros are sent without a charge."
)


def users_of(count: int) -> int:
    """How many users have *count* sessions, and how many topics there are."""
    return min(MOST_USERS, max(1, count // EACH))


def session(number: int, prefix: str = "s", *, users: int = USERS) -> Session:
    user, topic = number % users, (number // users + number) % users
    state = {"step": number, "language": "de", "cart": ["green tea", "kettle"]}
    return Session(f"{prefix}{number:07d}", f"user-{user}", f"topic-{topic}", state)


def sessions(count: int, prefix: str = "s", *, start: int = 0, users: int = USERS) -> list[Session]:
    return [session(number, prefix, users=users) for number in range(start, start + count)]


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
