"""What the services are filled with and asked for: always the same, made from numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.data import TEXT

AGENT = "assistant"
LONG_USER = "long"
_USERS = 50


@dataclass(frozen=True, slots=True)
class Stock:
    """What a service is filled with.

    Attributes:
        sessions: without a history, with a name.
        long: sessions with a history and without a name.
        runs: of each of those.
    """

    sessions: int
    long: int
    runs: int


def long_id(number: int) -> str:
    """A session with a history."""
    return f"long-{number:04d}"


def session_id(number: int) -> str:
    """A session without one."""
    return f"s{number:06d}"


def new_session(id: str, number: int) -> dict[str, Any]:
    """The body that makes a session of about half a KB."""
    return {
        "session_id": id,
        "session_name": f"Order {number}",
        "user_id": f"user-{number % _USERS}",
        "agent_id": AGENT,
        "session_state": state(number),
        "metadata": {"channel": "web", "note": TEXT},
    }


def long_session(number: int, runs: int) -> dict[str, Any]:
    """The body that makes a session with its history."""
    id = long_id(number)
    return {"session_id": id, "user_id": LONG_USER, "agent_id": AGENT, "runs": runs_of(id, runs)}


def state(number: int) -> dict[str, Any]:
    return {"step": number, "language": "de", "cart": ["green tea", "kettle"]}


def runs_of(session: str, count: int) -> list[dict[str, Any]]:
    """Whole runs of about 5 KB each, of four messages, oldest first."""
    return [_run(session, number) for number in range(count)]


def _run(session: str, number: int) -> dict[str, Any]:
    run_id = f"{session}-{number}"
    roles = ("system", "user", "assistant", "user")
    return {
        "run_id": run_id,
        "agent_id": AGENT,
        "session_id": session,
        "user_id": LONG_USER,
        "status": "COMPLETED",
        "created_at": 1_700_000_000 + number,
        "content": f"{number}: {TEXT}",
        "input": {"input_content": f"{number}: {TEXT}"},
        "messages": [
            {"id": f"{run_id}-{at}", "role": role, "content": f"{number}.{at}: {TEXT * 5}", "created_at": 1_700_000_000}
            for at, role in enumerate(roles)
        ],
    }
