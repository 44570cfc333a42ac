"""Whole runs as entries of histories: where their messages stand, and how new ones are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
Run = Mapping[str, Any]
Place = tuple[list[Any], int]
"""A message inside a run: the list that holds it, and where."""


def shown_messages(run: Run) -> Iterator[Place]:
    """Where the messages stand that *run* shows, oldest first.

    A run inside another one (``parent_run_id``) shows none; the runs of a workflow's steps show theirs in it. System
    messages and those taken over from an earlier run (``from_history``) are not shown.
    """
    if run.get("parent_run_id") is None:
        yield from messages_in(run)


def messages_in(run: Run) -> Iterator[Place]:
    """Where the messages stand that *run* and the runs of its steps would show."""
    messages, steps = run.get("messages"), run.get("step_executor_runs")
    if isinstance(messages, list):
        yield from ((messages, at) for at, message in enumerate(messages) if _is_shown(message))
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping):
            yield from messages_in(step)


def _is_shown(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") != "system" and not message.get("from_history")


@dataclass(frozen=True)
class Turn:
    """What a new run is built of.

    Attributes:
        run_id: None where its events belong to no run of a name.
        events: oldest first; not empty, unless there is a run.
        session: the fields of the neutral model that its session has, ``id`` always.
        position: how many runs stand before it.
        run: the whole run that its events come from, in its writer's form; None where they stood by themselves.
    """

    run_id: str | None
    events: Sequence[Event]
    session: Mapping[str, Any] = field(default_factory=dict)
    position: int = 0
    run: Run | None = None


def own_id(run: Any) -> str | None:
    """The ``run_id`` of *run*; None where it has none."""
    found = run.get("run_id") if isinstance(run, Mapping) else None
    return found if isinstance(found, str) and found else None


def _begun(run: Run) -> Any:
    return run.get("created_at")


def _no_longer(run: Run, events: Sequence[Event]) -> dict[str, Any]:
    raise NotImplementedError(f"runs of this form are only read, so nothing is added to {own_id(run)!r}")


def _no_new(turn: Turn) -> dict[str, Any]:
    raise NotImplementedError(f"runs of this form are only read, so {turn.run_id!r} is not built")


@dataclass(frozen=True)
class RunForm:
    """What a format knows whose entries are whole runs. Its ``to_event`` and ``from_event`` are of their messages.

    Attributes:
        built: a new run, for a :class:`Turn`.
        longer: a run with further events behind its messages; a copy.
        places: where the messages stand that a run shows.
        id: what names a run in its session; None where nothing does.
        begun: when a run began, as found.
    """

    built: Callable[[Turn], dict[str, Any]] = _no_new
    longer: Callable[[Run, Sequence[Event]], dict[str, Any]] = _no_longer
    places: Callable[[Run], Iterator[Place]] = shown_messages
    id: Callable[[Any], str | None] = own_id
    begun: Callable[[Run], Any] = _begun
