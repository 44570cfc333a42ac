"""The walk: breadth first through every state, so that the first complaint has the shortest story."""

import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from migration_model.checks import complaint, reader_moves
from migration_model.lifetimes import lifetime_moves
from migration_model.restoring import noticed, restore_moves
from migration_model.rules import Rules
from migration_model.runner import runner_moves
from migration_model.state import State, first_state
from migration_model.writers import Move, member_moves


@dataclass(frozen=True)
class Outcome:
    """`story` leads to the complaint, or to the first state without a way to the end."""

    states: int
    seconds: float
    complaint: str | None = None
    stuck: int = 0
    story: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.complaint is None and not self.stuck

    @property
    def verdict(self) -> str:
        if self.complaint is not None:
            return "VIOLATED"
        return f"STUCK in {self.stuck} states" if self.stuck else "holds"


def moves(rules: Rules, state: State) -> Iterator[Move]:
    yield from reader_moves(rules, state)
    if not rules.restores:
        yield from doings(rules, state)
        return
    yield from restore_moves(rules, state)
    for text, after in doings(rules, state):
        yield noticed(rules, state, text, after)


def doings(rules: Rules, state: State) -> Iterator[Move]:
    yield from member_moves(rules, state)
    yield from lifetime_moves(rules, state)
    yield from runner_moves(rules, state)


def explore(rules: Rules) -> Outcome:
    """Walk everything once. A complaint is walked to again with the members' names kept, for its story."""
    start = time.perf_counter()
    walk = Walk(rules, swap_names=True)
    if walk.run():
        stuck = walk.stuck()
        if not stuck:
            return Outcome(len(walk.states), time.perf_counter() - start)
    walk = Walk(rules, swap_names=False)
    walk.run()
    seconds = time.perf_counter() - start
    if walk.complaint is not None:
        return Outcome(len(walk.states), seconds, walk.complaint, story=walk.story(len(walk.states) - 1))
    stuck = walk.stuck()
    return Outcome(len(walk.states), seconds, stuck=len(stuck), story=walk.story(stuck[0]))


class Walk:
    """The states in the order they were reached; everything else is kept by their number."""

    def __init__(self, rules: Rules, *, swap_names: bool) -> None:
        self.rules = rules
        self.swap_names = swap_names
        self.complaint: str | None = None
        self.states: dict[State, int] = {first_state(rules): 0}
        self.parents = array("l", [-1])
        self.sources = array("l")  # one move leads from sources[i] to targets[i]
        self.targets = array("l")

    def run(self) -> bool:
        """False: stopped at a complaint, which the last state is about."""
        waiting = deque(self.states)
        number = 0
        while waiting:
            for _, reached in moves(self.rules, waiting.popleft()):
                if not self.reach(number, reached, waiting):
                    return False
            number += 1
        return True

    def reach(self, source: int, state: State, waiting: deque[State]) -> bool:
        if self.swap_names:
            state = state.sorted()
        new = len(self.states)
        number = self.states.setdefault(state, new)
        self.sources.append(source)
        self.targets.append(number)
        if number < new:
            return True
        self.parents.append(source)
        waiting.append(state)
        self.complaint = complaint(self.rules, state)
        return self.complaint is None

    def stuck(self) -> list[int]:
        """The states from which the last phase with nobody at work cannot be reached any more."""
        before: list[list[int]] = [[] for _ in self.states]
        for source, target in zip(self.sources, self.targets, strict=True):
            before[target].append(source)
        ends = [number for state, number in self.states.items() if self.ended(state)]
        reaching = bytearray(len(self.states))
        while ends:
            number = ends.pop()
            if not reaching[number]:
                reaching[number] = True
                ends.extend(before[number])
        return [number for number, reaches in enumerate(reaching) if not reaches]

    def ended(self, state: State) -> bool:
        return state.phase == 4 and all(member.idle or not member.alive for member in state.members)

    def story(self, number: int) -> list[str]:
        """The moves that lead to a state, in words."""
        states = list(self.states)
        told = []
        while (source := self.parents[number]) >= 0:
            told.append(next(text for text, after in moves(self.rules, states[source]) if after == states[number]))
            number = source
        return told[::-1]
