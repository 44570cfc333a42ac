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


def checked(events: list[Event], check: Callable[[list[Event], int | None], None], seed: int) -> list[Event]:
    """*events*, those of *seed*, checked with every limit."""
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
    conversations = [checked(transcript(seed), check, seed) for seed in range(scaled(10_000))]
    refused = sum(fault(events) is not None for events in conversations)
    assert refused > len(conversations) / 4  # the judge does not take everything


def check_nothing_is_lost(events: list[Event], last: int | None) -> None:
    """Where no id is used twice, it is known which result belongs to which call."""
    window = turn_safe(events, last)
    in_reach = [event for event in events if window and event["seq"] >= window[0]["seq"]]
    made = {call["id"]: event["seq"] for event in in_reach for call in event["tool_calls"] or []}
    answers = {}
    for event in in_reach:
        id = event["tool_call_id"]
        if (
            id in made
            and event["seq"] > made[id]
            and (id not in answers or same_turn(in_reach, made[id], event["seq"]))
        ):
            answers[id] = event["seq"]
    told = {event["tool_call_id"]: event["seq"] for event in window if event["tool_call_id"]}
    asked = {call["id"] for event in window for call in event["tool_calls"] or []}
    assert told == answers
    assert asked == answers.keys()


def test_every_result_whose_call_is_there_is_told(scaled: Callable[..., int]) -> None:
    """T1.7: the widening loses nothing."""
    for seed in range(scaled(5_000)):
        checked(transcript(seed, "openai", again=0.0), check_nothing_is_lost, seed)


def same_turn(events: list[Event], one: int, other: int) -> bool:
    return not any(begins_turn(event) for event in events if one < event["seq"] < other)


# by hand


def told(*events: dict[str, Any]) -> list[Event]:
    blank = {"content": None, "tool_calls": None, "tool_call_id": None, "name": None, "id": None, "run_id": None}
    return [{**blank, "seq": seq, "index": 0, **event} for seq, event in enumerate(events, start=1)]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calls(*ids: str, text: str | None = None, name: str = "look") -> dict[str, Any]:
    made = [{"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": text, "tool_calls": made}


def result(id: str | None, text: str = "found", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text, **more}


def seqs(events: list[Event]) -> list[int]:
    return [event["seq"] for event in events]


TWO_TURNS = told(user("a"), calls("c1"), result("c1"), said("b"), user("c"), calls("c1"), result("c1"), said("d"))


@pytest.mark.parametrize(
    ("last", "window"),
    [
        (0, []),
        (1, [5, 6, 7, 8]),
        (3, [5, 6, 7, 8]),
        (4, [5, 6, 7, 8]),
        (5, [1, 2, 3, 4, 5, 6, 7, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (100, [1, 2, 3, 4, 5, 6, 7, 8]),
        (None, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_a_window_begins_with_a_turn(last: int | None, window: list[int]) -> None:
    assert seqs(turn_safe(TWO_TURNS, last)) == window


@pytest.mark.parametrize("last", [-1, 1.5, True, "3"])
def test_a_limit_is_a_number_of_events(last: Any) -> None:
    with pytest.raises(StorageValidationError) as raised:
        turn_safe(TWO_TURNS, last)
    assert raised.value.details["path"] == "last"


def test_what_is_told_as_it_was_is_no_copy() -> None:
    assert all(event is given for event, given in zip(turn_safe(TWO_TURNS, None), TWO_TURNS, strict=True))


def test_one_turn_may_be_longer_than_the_limit() -> None:
    steps = [event for at in range(50) for event in (calls(f"c{at}"), result(f"c{at}"))]
    events = told(user("old"), said("old"), user("go"), *steps)
    assert seqs(turn_safe(events, 5)) == [*range(3, 104)]


def test_each_of_several_words_of_the_user_begins_a_turn() -> None:
    events = told(user("a"), user("b"), said("c"))
    assert [seqs(turn_safe(events, last)) for last in (1, 2, 3)] == [[2, 3], [2, 3], [1, 2, 3]]


def test_events_before_the_first_turn_are_left_out() -> None:
    events = told(result("gone"), said("hello"), {"role": "system", "content": "be kind"}, user("a"), said("b"))
    assert [seqs(turn_safe(events, last)) for last in (None, 5, 3, 1)] == [[4, 5]] * 4


def test_a_history_without_the_user_has_no_window() -> None:
    assert turn_safe(told(said("hello"), calls("c1"), result("c1")), None) == []
    assert turn_safe([], None) == []


def test_parallel_calls_keep_their_results_in_the_order_they_came() -> None:
    events = told(user("a"), calls("c1", "c2", "c3"), result("c3"), result("c1"), result("c2"), said("b"))
    assert turn_safe(events, 1) == events


def test_calls_without_a_result_are_taken_off_the_copy_alone() -> None:
    """The text stays, and so do the calls that were answered; what said nothing else goes."""
    events = told(user("a"), calls("c1", "c2", text="I look"), result("c2"), calls("c3"), calls("c4", text="and there"))
    before = deepcopy(events)
    window = turn_safe(events, 1)
    assert seqs(window) == [1, 2, 3, 5]
    assert [call["id"] for call in window[1]["tool_calls"]] == ["c2"]
    assert (window[3]["content"], window[3]["tool_calls"]) == ("and there", None)
    assert events == before


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        " \n",
        [],
        [{"type": "text", "text": ""}],
        [{"type": "thinking", "thinking": "hm"}],
        [{"type": "reasoning", "summary": []}],
        [{"text": "hm", "thought": True}],
    ],
)
def test_a_message_whose_calls_are_gone_and_that_says_nothing_is_left_out(content: Any) -> None:
    events = told(user("a"), calls("c1") | {"content": content})
    assert seqs(turn_safe(events, None)) == [1]


def test_a_message_that_was_stored_empty_stays() -> None:
    events = told(user(""), said(""))
    assert turn_safe(events, None) == events


PART = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}


@pytest.mark.parametrize("words", ["go on", [{"type": "text", "text": "go on"}]])
def test_calls_of_the_user_are_left_out_with_their_results(words: Any) -> None:
    """Writers of simulated users have them; no model takes them."""
    events = told(user("a"), said("b"), calls("c1") | {"role": "user", "content": words}, result("c1"), said("c"))
    window = turn_safe(events, None)
    assert seqs(window) == [1, 2, 3, 5]
    assert (window[2]["content"], window[2]["tool_calls"]) == (words, None)
    assert fault(window) is None
    assert seqs(turn_safe(events, 1)) == [3, 5]
    in_parts = told(user("a"), {"role": "user", "content": [PART, {"type": "text", "text": "go on"}]}, result("c1"))
    assert [event["content"] for event in turn_safe(in_parts, None)] == ["a", [{"type": "text", "text": "go on"}]]


@pytest.mark.parametrize("call", [calls("c1"), {"content": [PART]}])
def test_a_message_of_the_user_that_only_calls_begins_no_turn(call: dict[str, Any]) -> None:
    events = told(user("a"), said("b"), call | {"role": "user"}, result("c1"), said("c"))
    assert [seqs(turn_safe(events, last)) for last in (None, 3, 1)] == [[1, 2, 5]] * 3


def test_a_result_behind_an_interrupt_is_told_behind_its_call() -> None:
    events = told(user("a"), calls("c1", "c2"), result("c2"), user("wait"), result("c1"), said("b"))
    assert seqs(turn_safe(events, 6)) == [1, 2, 3, 5, 4, 6]
    assert seqs(turn_safe(events, 2)) == [4, 6]  # its call is in the turn before


def test_a_result_belongs_to_the_nearest_call_of_its_id() -> None:
    events = told(user("a"), calls("c1"), said("no"), user("b"), calls("c1"), result("c1"), said("c"))
    assert seqs(turn_safe(events, None)) == [1, 3, 4, 5, 6, 7]


def test_of_two_results_in_a_turn_the_later_one_counts() -> None:
    events = told(user("a"), calls("c1"), result("c1", "begun"), said("it runs"), result("c1", "done"))
    assert [event["content"] for event in turn_safe(events, None)] == ["a", None, "done", "it runs"]


@pytest.mark.parametrize(
    ("on_call", "on_result", "told_result"),
    [
        ({}, {}, "first"),
        ({"long_running_tool_ids": ["c1"]}, {}, "later"),
        ({"long_running_tool_ids": ["c2"]}, {}, "first"),
        ({"long_running_tool_ids": "c1"}, {}, "first"),
        ({}, {"status": "error", "interrupted": True}, "later"),
    ],
)
def test_a_result_in_a_later_turn_counts_where_the_first_said_to_wait(
    on_call: dict[str, Any], on_result: dict[str, Any], told_result: str
) -> None:
    first, later = result("c1", "first") | on_result, result("c1", "later")
    window = turn_safe(told(user("a"), calls("c1") | on_call, first, user("b"), later), None)
    assert [event["content"] for event in window] == ["a", None, told_result, "b"]


def test_calls_without_ids_are_answered_by_name_and_order() -> None:
    def asks(*names: str) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"name": name, "args": {}} for name in names]}

    events = told(
        user("a"),
        asks("look", "pay", "look"),
        result(None, "paid", name="pay"),
        result(None, "first", name="look"),
        user("b"),
        asks("look"),
        result(None, "now", name="look"),
        result(None, "lost", name="look"),
        asks("book"),
        result(None, "which?"),
        result(None, "stray", name="fly"),
    )
    window = turn_safe(events, None)
    assert seqs(window) == [1, 2, 3, 4, 8, 5, 6, 7, 9, 10]
    assert len(window[1]["tool_calls"]) == 3


def test_a_call_that_is_named_by_an_id_is_not_answered_by_another_one() -> None:
    events = told(user("a"), calls("c1"), result("c2", name="look"))
    assert seqs(turn_safe(events, None)) == [1]


def test_pieces_of_messages_are_left_out_and_begin_no_turn() -> None:
    events = told(
        user("a"),
        said("I") | {"partial": True},
        calls("c1") | {"partial": True},
        calls("c1"),
        said("…") | {"partial": True},
        result("c1"),
        user("b") | {"partial": True},
        said("I see"),
    )
    assert seqs(turn_safe(events, 1)) == [1, 4, 6, 8]


def test_results_among_the_users_words_are_told_where_they_belong() -> None:
    """Anthropic's results stand in messages of the user, beside his own text."""

    def uses(*ids: str) -> dict[str, Any]:
        return {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "look"} for id in ids]}

    def brings(*ids: str, text: str | None = None) -> dict[str, Any]:
        parts: list[Any] = [{"type": "tool_result", "tool_use_id": id, "content": "found"} for id in ids]
        return {"role": "user", "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}

    events = told(user("a"), uses("c1", "c2"), user("wait"), brings("c1", "c2", "c9", text="go on"), said("b"))
    window = turn_safe(events, None)
    assert seqs(window) == [1, 2, 4, 3, 4, 5]
    assert [part["tool_use_id"] for part in window[2]["content"]] == ["c1", "c2"]
    assert window[4]["content"] == [{"type": "text", "text": "go on"}]
    assert seqs(turn_safe(events, 2)) == [4, 5]
    whole = told(user("a"), uses("c1"), brings("c1", text="go on"), said("b"))
    assert turn_safe(whole, None) == whole
    assert seqs(turn_safe(told(user("a"), uses("c1"), brings("c1"), said("b")), 1)) == [1, 2, 3, 4]


def adk(*ids: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    yield {"function_call": {"name": "look", "args": {}}}, {"function_response": {"name": "look", "response": {}}}
    for id in ids:
        yield (
            {"function_call": {"id": id, "name": "look", "args": {}}},
            {"function_response": {"id": id, "name": "look", "response": {}}},
        )


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        *adk("c1"),
        ({"functionCall": {"name": "look"}}, {"functionResponse": {"name": "look"}}),
        ({"toolUse": {"toolUseId": "c1", "name": "look"}}, {"toolResult": {"toolUseId": "c1"}}),
        ({"type": "tool_use", "id": "c1", "name": "look"}, {"type": "tool_result", "tool_use_id": "c1"}),
        ({"type": "tool-call", "toolCallId": "c1"}, {"type": "tool-result", "toolCallId": "c1"}),
        ({"type": "function_call", "id": "fc", "call_id": "c1"}, {"type": "function_call_output", "call_id": "c1"}),
    ],
)
@pytest.mark.parametrize("role", ["tool", "user"])
def test_calls_and_results_are_found_among_the_parts_of_a_content(role: str, call: Any, answer: Any) -> None:
    asks, brings = {"role": "assistant", "content": [call]}, {"role": role, "content": [answer]}
    events = told(user("a"), asks, said("wait"), brings, said("b"))
    assert seqs(turn_safe(events, 1)) == [1, 2, 4, 3, 5]
    assert seqs(turn_safe(told(user("a"), asks, said("b")), 1)) == [1, 3]
    assert seqs(turn_safe(told(user("a"), brings, said("b")), 1)) == [1, 3]


def test_a_call_that_stands_twice_in_its_message_is_one() -> None:
    part = {"function_call": {"id": "c1", "name": "look", "args": {}}}
    asks = calls("c1") | {"content": [{"text": "I look"}, part]}
    events = told(user("a"), asks, result("c1"))
    assert turn_safe(events, None) == events
    [_, left] = turn_safe(events[:2], None)
    assert (left["content"], left["tool_calls"]) == ([{"text": "I look"}], None)


def test_results_of_several_calls_in_one_event_go_to_each() -> None:
    """As agno writes them for Gemini."""
    both = {"role": "tool", "content": ["x", "y"], "tool_calls": [{"tool_call_id": "c1"}, {"tool_call_id": "c2"}]}
    events = told(user("a"), calls("c1"), calls("c2"), both, said("b"))
    window = turn_safe(events, None)
    assert seqs(window) == [1, 2, 4, 3, 4, 5]
    assert [event["tool_calls"] for event in window if event["role"] == "tool"] == [
        [{"tool_call_id": "c1"}],
        [{"tool_call_id": "c2"}],
    ]
    assert turn_safe(window, 5) == window


@pytest.mark.parametrize(
    "odd",
    [
        {"role": "assistant", "tool_calls": [None, 5, "c1"], "content": "x"},
        {"role": "assistant", "tool_calls": "c1", "content": {"deep": [1]}},
        {"role": "tool", "tool_call_id": 7, "content": None},
        {"role": "user", "content": [None, 5, [], {"type": ["tool_result"]}]},
        {"role": "unknown", "content": b"bytes"},
    ],
)
def test_odd_events_raise_nothing(odd: dict[str, Any]) -> None:
    events = told(user("a"), odd, said("b"))
    assert seqs(turn_safe(events, 1))[-1] == 3
