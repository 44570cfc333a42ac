"""Turn-safe windows: the newest events of a history, as model APIs take them (S1.10, T1.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from session_adapter.windows import turn_safe
from tests.session_adapter.transcripts import (
    Event,
    begins_turn,
    fault,
    results_of,
    texts_in,
    transcript,
    turn_at,
)
from unified_storage import StorageValidationError


def check(events: list[Event], last: int | None) -> None:
    """Everything that is promised of one window."""
    window = turn_safe(events, last)
    assert fault(window) is None
    assert turn_safe(window, last) == window
    cut = 0 if last is None else max(0, len(events) - last)
    turn = turn_at(events, cut)
    begins = next((at for at in range(turn.start, len(events)) if begins_turn(events[at])), None)
    if last == 0 or begins is None:
        assert window == []
        return
    assert window[0]["seq"] == events[begins]["seq"]
    # At most the rest of one turn longer than asked, however many parts its events are told in.
    told = {event["seq"] for event in window}
    assert told <= {event["seq"] for event in events[begins:]}
    assert len(told) <= len(events) - cut + max(0, cut - turn.start)
    assert texts_in(window) == texts_in(events[begins:])


def checked(seed: int, check: Callable[[list[Event], int | None], None]) -> list[Event]:
    """The conversation of *seed*, checked with every limit."""
    events = transcript(seed)
    before = deepcopy(events)
    for last in (None, *range(len(events) + 2)):
        try:
            check(events, last)
        except AssertionError as error:
            error.add_note(f"seed {seed}, last {last}")
            raise
    assert events == before
    return events


def test_generated_conversations_are_cut_so_that_models_take_them(scaled: Callable[..., int]) -> None:
    """T1.7, with every limit."""
    conversations = [checked(seed, check) for seed in range(scaled(10_000))]
    refused = sum(fault(events) is not None for events in conversations)
    assert refused > len(conversations) / 4  # the judge does not take everything
