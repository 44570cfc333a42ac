"""Turn-safe windows: the newest events of a history, cut where a model API takes them as its input.

Model APIs refuse a history that begins in the middle of a turn, a result without its call, and a call without its
results. A turn begins with an event of the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from session_adapter.calls import has_more_than, is_partial, results_in
from session_adapter.formats import Event
from session_adapter.identity import SessionId
from session_adapter.pairing import paired
from unified_storage.arguments import check_count

if TYPE_CHECKING:
    from session_adapter.events import Events

_AHEAD = 8
"""Events read beyond those asked for: most turns have fewer, so most windows are read at once."""
_LARGEST_CHUNK = 512
_FARTHEST = 1_000
"""Events before those asked for among which the start of their turn is looked for, so that a read has a bound."""


def turn_safe(events: Sequence[Event], last: int | None) -> list[Event]:
    """The newest *last* of *events* (oldest first; None is all), from the start of the turn that they begin in.

    So the window is at most one turn longer than asked. Where none begins in the 1 000 events before those asked for,
    the window is what they hold from their first turn on. Events before the first turn are left out, and with them
    every event of a history that has no turn. Calls and results are paired as
    :func:`session_adapter.pairing.paired` says; nothing that is handed in is changed, and a window of a window is the
    same again.
    """
    check_count("last", last)
    if last == 0:
        return []
    return _window(events, _cut(events, last))


async def safe_window(
    events: Events,
    session: SessionId,
    *,
    last: int | None,
    since: datetime | None = None,
    after: int = 0,
    before: int | None = None,
) -> list[Event]:
    """The turn-safe window of a stored session: its newest events, from the start of the turn that they begin in.

    Reads backwards in chunks, no further than to that start, or some 1 000 events where it finds none.

    Args:
        last: how many events are asked for; 0 gives none, None all.
        since: only events whose time is that or later, and those before them in their turn.
        after: only events whose ``seq`` is higher, and those before them in their turn.
        before: only events whose ``seq`` is lower.
    """
    check_count("last", last)
    if last == 0:
        return []
    bounded = since is not None or after > 0
    ahead = _AHEAD if last is not None and not bounded else 0
    wanted = None if last is None else last + ahead
    shown = await events.read(session, last=wanted, since=since, after=after, before=before)
    cut = _cut(shown, last)
    is_whole = not bounded and (wanted is None or len(shown) < wanted)
    chunk = 4 * _AHEAD
    while shown and not is_whole and cut < _FARTHEST and _turn_start(shown, cut) is None:
        earlier, is_whole = await _earlier(events, session, shown, chunk)
        shown, cut, chunk = [*earlier, *shown], cut + len(earlier), min(2 * chunk, _LARGEST_CHUNK)
    return _window(shown, cut)


def _cut(events: Sequence[Event], last: int | None) -> int:
    """Where the newest *last* of *events* begin. In a window, one event may be told in two parts: it counts once."""
    if last is None or last >= len(events):
        return 0
    counted: set[object] = set()
    for at in range(len(events) - 1, -1, -1):
        seq = events[at].get("seq")
        counted.add(("at", at) if seq is None else (seq, events[at].get("index")))
        if len(counted) == last:
            return at
    return 0


def _window(events: Sequence[Event], cut: int) -> list[Event]:
    """The window of *events* that begins with the turn of the event at *cut*, or with the first turn after it."""
    start = _turn_start(events, cut)
    if start is None:
        start = next((at for at in range(cut, len(events)) if _starts_turn(events[at])), len(events))
    return paired(events[start:])


def _turn_start(events: Sequence[Event], cut: int) -> int | None:
    reach = range(min(cut, len(events) - 1), max(cut - _FARTHEST, 0) - 1, -1)
    return next((at for at in reach if _starts_turn(events[at])), None)


def _starts_turn(event: Mapping[str, Any]) -> bool:
    # What Anthropic's APIs get back from tools is of the user's role too; it begins nothing.
    return event.get("role") == "user" and not is_partial(event) and has_more_than(event, results_in(event))


# reading backwards


async def _earlier(events: Events, session: SessionId, shown: Sequence[Event], chunk: int) -> tuple[list[Event], bool]:
    """Events right before *shown*, and whether there are none before these."""
    first = shown[0]
    if first["index"] > 0:
        entry = await events.read(session, after=first["seq"] - 1, before=first["seq"] + 1)
        if opening := [event for event in entry if event["index"] < first["index"]]:
            return opening, False
    found = await events.read(session, before=first["seq"], last=chunk)
    known = {_name(event) for event in shown} - {None}
    return [event for event in found if _name(event) not in known], len(found) < chunk


def _name(event: Event) -> tuple[str, str] | None:
    """What a message is called that may stand in its run and in an entry of its own, but is to be shown once."""
    names = (event["run_id"], event["id"])
    return names if all(isinstance(name, str) for name in names) else None
