"""Which result belongs to which call, and events told again so that every call has its results right behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from session_adapter.calls import (
    Mention,
    Place,
    calls_in,
    has_more_than,
    is_long_running,
    is_partial,
    is_result,
    only_at,
    results_in,
    says_something,
    strays_in,
    without,
)
from session_adapter.formats import Event

STAND_IN = "interrupted"
"""What marks a result that stands for one that had not come when its run was broken off."""


def paired(events: Iterable[Event]) -> list[Event]:
    """*events* as model APIs take them: each call has its results right behind it, each result its call before it.

    A result goes to the nearest call before it that can be its own; one that stands further behind is told right behind
    its call. Of two results of one call the later one counts; in a later turn only where the first just said to wait:
    it is marked ``interrupted``, or the call's id is among the ``long_running_tool_ids`` of its event. Results without
    a call, calls without a result, calls of the user, messages that said nothing but those, and partial events are left
    out. What is told
    as it was is the same object; the rest are copies.
    """
    told = _told(events)
    _match(told)
    return [event for piece in _joined(_in_order(told)) if (event := _event_of(piece)) is not None]


def open_calls(events: Iterable[Event]) -> list[tuple[Event, int, Mention]]:
    """The calls that *events* make and do not answer, oldest first: the event, which of its calls it is, the call."""
    told = _told(events)
    _match(told)
    every = ((one.event, number, call) for one in told for number, call in enumerate(one.calls))
    return [(event, number, call.mention) for event, number, call in every if call.answer is None]


@dataclass(eq=False, slots=True)
class _Call:
    mention: Mention
    may_wait: bool
    block: int = 0
    turn: int = 0
    answer: tuple[_Told, int] | None = None
    """The event that brings its result, and which of that event's results it is."""


class _Told:
    """One event with what it mentions."""

    def __init__(self, at: int, event: Event) -> None:
        self.at = at
        self.event = event
        self.calls = [_Call(mention, may_wait=is_long_running(event, mention)) for mention in calls_in(event)]
        self.results = results_in(event)
        self.says = has_more_than(event, self.results)

    @property
    def starts_turn(self) -> bool:
        """Whether the user speaks here."""
        return self.says and self.event.get("role") == "user"


def _told(events: Iterable[Event]) -> list[_Told]:
    return [_Told(at, event) for at, event in enumerate(event for event in events if not is_partial(event))]


# matching


def _match(told: Iterable[_Told]) -> None:
    """Give every call the result that answers it."""
    calls = _CallsSoFar()
    for one in told:
        for number, result in enumerate(one.results):
            if (call := calls.answered_by(result)) is not None:
                call.answer = (one, number)
        calls.turn += one.starts_turn
        calls.block += one.starts_turn or bool(one.results)
        for made in one.calls:
            calls.add(made)


@dataclass
class _CallsSoFar:
    """Calls are a block when nothing came back, and no user spoke, between them: a result looks in the newest first."""

    block: int = 0
    turn: int = 0
    every: list[_Call] = field(default_factory=list)
    by_id: defaultdict[str, list[_Call]] = field(default_factory=lambda: defaultdict(list))
    by_name: defaultdict[str, list[_Call]] = field(default_factory=lambda: defaultdict(list))

    def add(self, call: _Call) -> None:
        call.block, call.turn = self.block, self.turn
        self.every.append(call)
        for id in call.mention.ids:
            self.by_id[id].append(call)
        if call.mention.name is not None:
            self.by_name[call.mention.name].append(call)

    def answered_by(self, result: Mention) -> _Call | None:
        """The call that *result* answers; None where it is gone."""
        if result.ids:
            return self._with_id(result.ids)
        return _first_open(self.every if result.name is None else self.by_name[result.name])

    def _with_id(self, ids: Iterable[str]) -> _Call | None:
        known = [calls for id in ids if (calls := self.by_id.get(id))]
        if not known:
            return None
        block = _newest_block(max(known, key=lambda calls: calls[-1].block))
        return next((call for call in block if call.answer is None or self._takes_another(call)), None)

    def _takes_another(self, call: _Call) -> bool:
        if call.turn == self.turn or call.may_wait:
            return True
        # Ids are used again in later turns, also by writers that then lose the call: not every second result is one.
        return call.answer is not None and bool(call.answer[0].event.get(STAND_IN))


def _first_open(calls: list[_Call]) -> _Call | None:
    while calls and calls[-1].answer is not None:
        calls.pop()
    return next((call for call in _newest_block(calls) if call.answer is None), None)


def _newest_block(calls: Sequence[_Call]) -> list[_Call]:
    first = len(calls)
    while first and calls[first - 1].block == calls[-1].block:
        first -= 1
    return list(calls[first:])


# telling


@dataclass(frozen=True, slots=True)
class _Piece:
    """What of an event is told in one place: what it says itself, some of its results, or both."""

    told: _Told
    says: bool
    results: frozenset[int] = frozenset()


def _in_order(told: Iterable[_Told]) -> Iterator[_Piece]:
    for one in told:
        if one.says:
            yield _Piece(one, says=True)
        answers = sorted(
            (call.answer for call in one.calls if call.answer), key=lambda answer: (answer[0].at, answer[1])
        )
        for bringer, group in groupby(answers, key=lambda answer: answer[0]):
            yield _Piece(bringer, says=False, results=frozenset(number for _, number in group))


def _joined(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """*pieces*, those of one event that come together as one."""
    last: _Piece | None = None
    for piece in pieces:
        if last is not None and last.told is piece.told:
            last = replace(last, says=True, results=last.results | piece.results)
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _event_of(piece: _Piece) -> Event | None:
    """The event to tell; None where nothing is left of it."""
    event, calls = piece.told.event, piece.told.calls
    if not piece.says and not is_result(event):
        return only_at(
            event, _places(result for number, result in enumerate(piece.told.results) if number in piece.results)
        )
    gone = _places(result for number, result in enumerate(piece.told.results) if number not in piece.results)
    unanswered = _places(call.mention for call in calls if call.answer is None)
    left_out = [*gone, *unanswered, *strays_in(event)]
    if not left_out:
        return event
    shorter = without(event, left_out)
    return shorter if is_result(event) or says_something(shorter) else None


def _places(mentions: Iterable[Mention]) -> list[Place]:
    return [place for mention in mentions for place in mention.places]
