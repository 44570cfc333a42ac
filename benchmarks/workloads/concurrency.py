"""W6: many tasks at once, on sessions of their own and on one; afterwards every acknowledged write is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Sizes, stopwatch
from benchmarks.stage import Found, Stage
from benchmarks.system import Event, NotOffered, System
from benchmarks.workloads import Part

OWN_TASKS = 64
SHARED_TASKS = 16
STATE_UPDATES = 5
"""Of each task; in all 80."""
MOST = 50
"""Appends of one task in one repetition."""
LONGEST_SECONDS = 60.0
"""What is not done by then counts as an error: a system may get nowhere when many tasks want the same."""


def parts(_sizes: Sizes) -> list[Part]:
    w6 = frozenset({"W6"})
    return [
        Part("tasks-with-own-sessions", w6, _own),
        Part("tasks-on-one-session", w6, _shared),
        Part("tasks-on-one-state", w6, _state),
    ]


async def _own(stage: Stage) -> Found:
    appends = _Appends(stage.sizes, OWN_TASKS, sessions=OWN_TASKS)
    return await stage.measured(
        Metric("64 tasks, own sessions", "per_s", await stage.stores(_warmed), appends.repeated),
    )


async def _shared(stage: Stage) -> Found:
    appends = _Appends(stage.sizes, SHARED_TASKS, sessions=1)
    return await stage.measured(
        Metric("16 tasks, one session", "per_s", await stage.stores(_warmed), appends.repeated),
    )


async def _state(stage: Stage) -> Found:
    return await stage.measured(
        Metric("16 tasks, keys of one state", "per_s", await stage.stores(_warmed), _updated),
    )


async def _warmed(system: System) -> None:
    """Many tasks once, so that connections are open: the first repetition tells how much a store does in its time."""
    sessions = data.sessions(OWN_TASKS, "warm")
    for session in sessions:
        await system.create(session)
    await _together(system.append(session.id, data.event(session.id, 0)) for session in sessions)


@dataclass
class _Outcome:
    """What tasks were told."""

    acknowledged: list[str] = field(default_factory=list)
    errors: int = 0
    first_error: BaseException | None = None

    async def tell(self, name: str, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
        except NotOffered:
            raise
        except Exception as error:  # noqa: BLE001  # an error is counted, and the task goes on
            self.errors += 1
            self.first_error = self.first_error or error
        else:
            self.acknowledged.append(name)

    def note_in(self, cell: Cell) -> None:
        cell.errors += self.errors
        if self.first_error is not None and not cell.note:
            cell.note = f"{type(self.first_error).__name__}: {str(self.first_error)[:200]}"


class _Appends:
    """Tasks that append, each to one of some sessions, as often as fits one repetition."""

    def __init__(self, sizes: Sizes, tasks: int, sessions: int) -> None:
        self._sizes = sizes
        self._tasks = sizes.scaled(tasks, least=2)
        self._sessions = min(sessions, self._tasks)
        self._each: dict[System, int] = {}

    async def repeated(self, system: System, cell: Cell, number: int) -> float:
        sessions = data.sessions(self._sessions, "w", start=number * self._sessions)
        for session in sessions:
            await system.create(session)
        each = self._each.get(system, 1)
        turns: list[list[tuple[str, Event]]] = []
        for task in range(self._tasks):
            id = sessions[task % self._sessions].id
            turns.append([(id, event) for event in data.events(id, each, start=task * each)])
        outcomes = {session.id: _Outcome() for session in sessions}
        with stopwatch(cell) as seconds:
            await _together(_appended(system, outcomes, turn) for turn in turns)
        speed = sum(len(outcome.acknowledged) for outcome in outcomes.values()) / seconds()
        self._each[system] = max(1, min(MOST, int(speed * self._sizes.slice / self._tasks)))
        for id, outcome in outcomes.items():
            outcome.note_in(cell)
            await _look_for(system, cell, id, outcome.acknowledged)
        return speed


async def _appended(system: System, outcomes: dict[str, _Outcome], turn: Sequence[tuple[str, Event]]) -> None:
    for id, event in turn:
        await outcomes[id].tell(event.key, partial(system.append, id, event))


async def _updated(system: System, cell: Cell, number: int) -> float:
    session = data.session(number, "w")
    await system.create(session)
    outcome = _Outcome()

    async def updated(task: int) -> None:
        for step in range(STATE_UPDATES):
            name = f"key_{task}_{step}"
            await outcome.tell(name, partial(system.set_state, session.id, name, step))

    with stopwatch(cell) as seconds:
        await _together(updated(task) for task in range(SHARED_TASKS))
    outcome.note_in(cell)
    state = await system.state(session.id)
    cell.checked += len(outcome.acknowledged)
    cell.lost += len(set(outcome.acknowledged) - set(state))
    return len(outcome.acknowledged) / seconds()


async def _look_for(system: System, cell: Cell, id: str, acknowledged: Sequence[str]) -> None:
    there = await system.keys(id)
    cell.checked += len(acknowledged)
    cell.lost += len(set(acknowledged) - set(there))
    try:
        numbers = await system.numbers(id)
    except NotOffered:
        return
    cell.gaps += sum(number != place for place, number in enumerate(numbers, start=1))


async def _together(tasks: Iterable[Awaitable[None]]) -> None:
    await asyncio.wait_for(asyncio.gather(*tasks), LONGEST_SECONDS)
