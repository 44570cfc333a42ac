"""Runs that a holder changed, beside what others did to them since he read them: no message of theirs is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from session_adapter.entries import events_of, is_run, run_id_of
from session_adapter.frozen import digest, frozen
from session_adapter.runs import gathered
from session_adapter.typed import shown_run
from unified_storage.interface import Entries

Run = dict[str, Any]


def with_others_messages(runs: Iterable[Run], entries: Entries, seen: Mapping[str, bytes]) -> list[Run]:
    """*runs* as they are to be stored: one that others have changed keeps the events added to it that its holder lacks.

    Which of these he took out, and which he never saw, cannot be told then, so they stay. Of two holders who each write
    a whole run the later one's stands, as it is.

    Args:
        entries: of the whole history.
        seen: the digest of each run that the holder was shown, by run id.
    """
    there = {run.get("run_id"): run for run in gathered(entries)}
    return [_with_messages(run, there.get(run["run_id"]), entries, seen.get(run["run_id"])) for run in runs]


def _with_messages(run: Run, stored: Run | None, entries: Entries, seen: bytes | None) -> Run:
    if stored is None or digest(frozen(shown_run(stored).body(), "runs")) == seen:
        return run
    mine = _messages(run)
    missing = [event for event in _added_singly(run["run_id"], entries) if not _is_among(event, mine)]
    return run | {"messages": [*mine, *missing]} if missing else run


def _added_singly(run_id: str, entries: Entries) -> Iterator[dict[str, Any]]:
    """The events of a run that stand in entries of their own."""
    for entry in entries:
        if not is_run(entry["body"]) and run_id_of(entry) == run_id:
            yield from events_of(entry["body"])


def _messages(run: Run) -> Sequence[Any]:
    messages = run.get("messages")
    return messages if isinstance(messages, list) else []


def _is_among(message: Any, messages: Sequence[Any]) -> bool:
    """Whether one of *messages* is *message*: by its id, and without one by all that it says."""
    id = message.get("id") if isinstance(message, Mapping) else None
    if id is None:
        return message in messages
    return any(isinstance(one, Mapping) and one.get("id") == id for one in messages)
