"""What a session without a name is called: its first question, found where its history begins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from session_adapter.entries import events_of, run_in
from session_adapter.formats.places import object_of
from session_adapter.metadata import OWN, own_fields
from unified_storage.record import DELETE

SHOWN_NAME = "shown_name"
"""Our own field of a session without a name: what its history calls it."""
NAMED_BY = "named_by"
"""Our own field beside it: the number of the entry that says so, where that is known."""
BEGINNING = 10
"""Names are looked for in so many entries, the first ones, by who does not have the whole history at hand."""
WITH = {"agent": "agent_id", "team": "team_id", "workflow": "workflow_id"}
"""By its kind, the participant that a session is with."""
_LONGEST = 2_000


def kind_by(derived: Mapping[str, Any]) -> str:
    """What a session is with by the metadata of its record: told, else by its participants, else an agent."""
    told = derived.get("kind")
    by_participants = (kind for kind, participant in WITH.items() if derived.get(participant))
    return told if isinstance(told, str) and told in WITH else next(by_participants, "agent")


def named_record(record: dict[str, Any], bodies: Iterable[Any], *, are_all: bool = True) -> dict[str, Any]:
    """*record*, to be saved, with the name that its history begins with, where its document has none.

    Args:
        bodies: of its entries, oldest first; a name that an earlier history gave is gone.
        are_all: they are numbered from 1.
    """
    metadata = record["metadata"]
    own = {name: value for name, value in metadata[OWN].items() if name not in (SHOWN_NAME, NAMED_BY)}
    if not isinstance(metadata.get("name"), str):
        workflow = (object_of(record["data"].get("workflow_data")) or {}).get("name")
        facts = _facts(enumerate(islice(bodies, BEGINNING), 1), kind_by(metadata), workflow)
        own |= facts if are_all else {name: value for name, value in facts.items() if name != NAMED_BY}
    return {**record, "metadata": {**metadata, OWN: own}}


def name_after(head: Mapping[str, Any], numbers: Sequence[int], bodies: Sequence[Any]) -> dict[str, Any]:
    """What our own fields are to say, as ``update`` takes it, after entries were put at *numbers* of a history.

    Args:
        head: the session's record as it was, with or without its data.
    Returns:
        Nothing where the name stays as it is known, or as unknown as it was.
    """
    own, metadata = own_fields(head), object_of(head.get("metadata")) or {}
    first = [(number, body) for number, body in zip(numbers, bodies, strict=True) if number == 1]
    named = {} if isinstance(metadata.get("name"), str) else _facts(first, kind_by(metadata), None)
    if SHOWN_NAME not in own:
        return named
    forgotten = without_name(head, numbers)
    return forgotten | named if forgotten else {}


def without_name(head: Mapping[str, Any], numbers: Iterable[int]) -> dict[str, Any]:
    """What takes the stored name of a session away, as ``update`` takes it, where entries at *numbers* changed.

    Returns:
        Nothing where there is none, or where it came of an entry before all of these.
    """
    own = own_fields(head)
    if SHOWN_NAME not in own or min(numbers, default=1 << 62) > own.get(NAMED_BY, 1 << 62):
        return {}
    return {SHOWN_NAME: DELETE, NAMED_BY: DELETE}


def first_name(head: Mapping[str, Any], number: int, body: Any) -> dict[str, Any]:
    """Our own fields after an entry was appended at *number*: the name that it gives if it is the very first.

    Args:
        head: the session's record, or what is known of it: a name that nobody needs does no harm.
    """
    return _facts([(number, body)], kind_by(object_of(head.get("metadata")) or {}), None) if number == 1 else {}


def _facts(numbered: Iterable[tuple[int, Any]], kind: str, workflow: object) -> dict[str, Any]:
    """Our own fields of a name; none where there is no name, or one too long to stand in metadata."""
    for number, body in numbered:
        name = _name_in(body, kind, workflow)
        if name is not None:
            return {SHOWN_NAME: name, NAMED_BY: number} if 0 < len(name) <= _LONGEST else {}
    return {}


def name_from(bodies: Iterable[Any], kind: str, workflow: object = None) -> str:
    """What entries with these *bodies*, oldest first, call a session that has no name. Empty where they tell nothing.

    Args:
        kind: agent, team or workflow.
        workflow: the workflow's name, where that is known.
    """
    found = (_name_in(body, kind, workflow) for body in bodies)
    return next((name for name in found if name is not None), "")


def _name_in(body: Any, kind: str, workflow: object) -> str | None:
    run = run_in(body)
    return _question(events_of(body)) if run is None else _name_from_run(run, kind, workflow)


def _name_from_run(run: Mapping[str, Any], kind: str, workflow: object) -> str | None:
    if kind == "workflow":
        return _name_from_workflow(run.get("input"), workflow)
    if kind == "team" and run.get("agent_id"):
        return None
    question = _question(messages_in(run))
    if question is not None:
        return question
    return None if run.get("input") is None else asked(run["input"])


def _name_from_workflow(given: object, workflow: object) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return json.dumps(given, default=str)
    return f"New {workflow} Session" if workflow else ""


def _question(messages: Iterable[Mapping[str, Any]]) -> str | None:
    for message in messages:
        if message.get("role") == "user" and message.get("content"):
            content = message["content"]
            return content if isinstance(content, str) else json.dumps(content, default=str)
    return None


def messages_in(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages that a run has itself."""
    found = run.get("messages")
    return [message for message in found if isinstance(message, Mapping)] if isinstance(found, list) else []


def asked(given: object) -> str:
    """What somebody asked, in any shape, as text."""
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return json.dumps(given, indent=2, default=str)
    if isinstance(given, list) and given and isinstance(given[0], Mapping) and given[0].get("role") == "user":
        return asked(given[0].get("content", str(given)))
    return str(given)
