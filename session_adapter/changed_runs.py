"""Runs that a holder changed, beside what others did to them since he read them: no message of theirs is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from session_adapter.frozen import digest, frozen
from session_adapter.typed import shown_run

Run = dict[str, Any]


def with_others_messages(runs: Iterable[Run], stored: Iterable[Run], seen: Mapping[str, bytes]) -> list[Run]:
    """*runs* as they are to be stored: one that others have changed keeps the messages that its holder lacks.

    Which of these he took out, and which he never saw, cannot be told then, so they stay.

    Args:
        stored: all runs of the session, as ``.runs`` hands them out.
        seen: the digest of each run that the holder was shown, by run id.
    """
    there = {run.get("run_id"): run for run in stored}
    return [_with_messages(run, there.get(run["run_id"]), seen.get(run["run_id"])) for run in runs]


def _with_messages(run: Run, stored: Run | None, seen: bytes | None) -> Run:
    if stored is None or digest(frozen(shown_run(stored).body(), "runs")) == seen:
        return run
    mine = _messages(run)
    missing = [message for message in _messages(stored) if not _is_among(message, mine)]
    return run | {"messages": [*mine, *missing]} if missing else run


def _messages(run: Run) -> Sequence[Any]:
    messages = run.get("messages")
    return messages if isinstance(messages, list) else []


def _is_among(message: Any, messages: Sequence[Any]) -> bool:
    """Whether one of *messages* is *message*: by its id, and without one by all that it says."""
    id = message.get("id") if isinstance(message, Mapping) else None
    if id is None:
        return message in messages
    return any(isinstance(one, Mapping) and one.get("id") == id for one in messages)
