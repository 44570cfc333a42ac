"""An entry of every form reads as an event, and an event takes every form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter.formats import (
    BARE,
    CANONICAL,
    FORMATS,
    G0,
    G1,
    G2,
    G3,
    Format,
    detect,
    entry_body,
    entry_event,
)
from tests.session_adapter.documents import KEYS, VALUES, sample

LEGACY = [G0, G1, G2, G3]


def event_of(format: Format, element: Any) -> dict[str, Any]:
    event = format.to_event(element)
    assert event is not None
    return event


def by_label(format: Format) -> str:
    return format.name


# events


def test_messages_read_as_events() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "check_shelf", "arguments": '{"loaf": "rye"}'}}
    assert [G0.to_event(message) for message in sample("g0")["workflow_state"]["messages"]] == [
        {"role": "system", "content": "You sell bread."},
        {"role": "user", "content": "Two rye loaves, please 🥖"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"left": 5}', "tool_call_id": "call_1", "name": "check_shelf"},
        {"role": "assistant", "content": "Here you are."},
    ]
    assert [event_of(G1, message)["role"] for message in sample("g1")["state"]["messages"]] == ["user", "unknown"]
    assert G2.to_event(sample("g2")["state"]["messages"][1]) == {"role": "assistant", "content": None}


def test_interactions_read_as_events() -> None:
    assert [G3.to_event(interaction) for interaction in sample("g3")["interactions"]] == [
        {
            "role": "user",
            "content": "A cake for the leap day",
            "id": "interaction_1",
            "timestamp": "2024-02-29T07:00:00",
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_9", "name": "price", "arguments": {"cake": "leap"}}],
            "id": "interaction_2",
            "timestamp": "2024-02-29T07:00:40",
        },
        {
            "role": "tool",
            "content": "28",
            "tool_call_id": "call_9",
            "name": "price",
            "id": "interaction_3",
            "timestamp": "2024-02-29T07:01:30.500000",
        },
    ]


@pytest.mark.parametrize("format", FORMATS, ids=by_label)
@pytest.mark.parametrize("element", [None, "not an object", 7, True, [], ["role", "user"]])
def test_what_is_no_object_is_no_event(format: Format, element: Any) -> None:
    assert format.to_event(element) is None


@pytest.mark.parametrize("kind", ["FunctionMessage", "BaseMessage", "human", "", None, 5, ["HumanMessage"], {}])
def test_a_type_nobody_knows_is_an_unknown_role(kind: Any) -> None:
    assert G0.to_event({"type": kind, "content": "x"}) == {"role": "unknown", "content": "x"}
    assert event_of(G3, {"interaction_type": kind, "content": "x", "metadata": {"role": None}})["role"] == "unknown"


def test_content_stays_as_found_and_unusable_calls_are_not_shown() -> None:
    parts = [{"type": "text", "text": "see picture"}]
    assert event_of(G0, {"type": "HumanMessage", "content": parts})["content"] == parts
    assert event_of(G0, {"type": "HumanMessage", "content": 42})["content"] == 42
    odd = {"type": "AIMessage", "additional_kwargs": {"tool_calls": ["x"], "tool_call_id": 5, "name": [1]}}
    assert G0.to_event(odd) == {"role": "assistant", "content": None, "tool_call_id": "5"}
    assert G0.to_event({"type": "AIMessage", "additional_kwargs": []}) == {"role": "assistant", "content": None}


CALLS = st.lists(st.fixed_dictionaries({"id": st.text(), "name": st.text(), "arguments": st.text()}), max_size=2)
MESSAGE_EVENTS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "unknown"]), "content": VALUES},
    optional={"tool_calls": CALLS, "tool_call_id": st.text(), "name": st.text()},
)
INTERACTION_EVENTS = st.tuples(
    MESSAGE_EVENTS, st.fixed_dictionaries({}, optional={"id": st.text(min_size=1), "timestamp": st.text()})
).map(lambda pair: pair[0] | pair[1])


@pytest.mark.parametrize("format", [G0, G1, G2], ids=by_label)
@given(event=MESSAGE_EVENTS)
def test_an_event_comes_back_from_a_message(format: Format, event: dict[str, Any]) -> None:
    assert format.to_event(format.from_event(event)) == event


@given(INTERACTION_EVENTS | MESSAGE_EVENTS.map(lambda event: event | {"role": "narrator"}))
def test_an_event_comes_back_from_an_interaction(event: dict[str, Any]) -> None:
    assert G3.to_event(G3.from_event(event)) == event


@given(st.dictionaries(KEYS, VALUES))
def test_a_canonical_event_is_its_own_entry(event: dict[str, Any]) -> None:
    for format in (CANONICAL, BARE):
        assert format.to_event(format.from_event(event)) == event


def test_an_event_takes_each_formats_own_form() -> None:
    event = {"seq": 3, "index": 0, "role": "tool", "content": "28", "tool_call_id": "c", "name": "price", "run_id": "r"}
    assert G0.from_event(event) == {
        "type": "ToolMessage",
        "content": "28",
        "additional_kwargs": {"tool_call_id": "c", "name": "price", "run_id": "r"},
    }
    event |= {"id": "e1", "timestamp": "2024-05-15T00:00:00.000000+00:00", "usage": None}
    assert G3.from_event(event) == {
        "interaction_id": "e1",
        "session_id": None,
        "thread_id": None,
        "interaction_type": "tool_result",
        "content": "28",
        "metadata": {"tool_call_id": "c", "name": "price", "run_id": "r", "role": "tool"},
        "timestamp": "2024-05-15T00:00:00.000000+00:00",
    }


def test_what_a_form_has_no_place_for_is_carried_along() -> None:
    event = {"role": "developer", "content": "x", "author": "ops", "usage": {"total_tokens": 3}, "mood": "ok"}
    carried = {"author": "ops", "usage": {"total_tokens": 3}, "mood": "ok", "role": "developer"}
    assert G0.from_event(event) == {"type": "BaseMessage", "content": "x", "additional_kwargs": carried}
    assert G3.from_event(event)["metadata"] == carried
    assert G0.from_event({}) == {"type": "BaseMessage", "content": None, "additional_kwargs": {}}


def test_nothing_given_is_changed() -> None:
    event = {"role": "user", "content": ["a"], "tool_calls": [], "seq": 1}
    before = deepcopy(event)
    for format in FORMATS:
        if getattr(format, "writes", True):
            format.from_event(event)
        format.to_event(event)
    assert event == before


# entries of a log


@pytest.mark.parametrize("format", LEGACY, ids=by_label)
def test_a_foreign_entry_names_its_format(format: Format) -> None:
    element = format.from_event({"role": "user", "content": "Hello"})
    body = entry_body(format, element)
    assert body == {"format": format.name, "value": element}
    assert entry_event(body) == {"role": "user", "content": "Hello"}
    assert entry_event(entry_body(format, "not an object")) is None


def test_a_canonical_entry_is_its_event() -> None:
    event = {"role": "user", "content": "Hello", "format": "markdown"}
    assert entry_body(CANONICAL, event) == entry_body(BARE, event) == event
    assert entry_event(event) == event
    assert entry_event("not an object") is None


def test_an_event_that_looks_wrapped_is_not_mistaken_for_an_entry_of_another_format() -> None:
    event = {"format": "legacy-g0", "value": {"type": "HumanMessage", "content": "x"}}
    assert entry_event(entry_body(CANONICAL, event)) == event


def test_an_entry_in_a_format_from_the_future_is_no_event() -> None:
    assert entry_event({"format": "adk-v9", "value": {"role": "user"}}) is None


# the real files


def events_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    format = detect(document)
    for element in format.history(document) or []:
        event = format.to_event(element)
        if event is not None:
            yield event


def test_every_clean_file_has_its_generation_and_its_conversation(
    clean: list[tuple[dict[str, Any], dict[str, Any]]], canon_sha: Callable[[list[Any]], str]
) -> None:
    for case, document in clean:
        events = list(events_of(document))
        assert detect(document).name == f"legacy-{case['generation'].lower()}", case["file"]
        assert (len(events), canon_sha(events)) == (case["messages"], case["sha256"]), case["file"]


def test_every_clean_conversation_survives_the_form_of_every_generation(
    clean: list[tuple[dict[str, Any], dict[str, Any]]], canon_sha: Callable[[list[Any]], str]
) -> None:
    for case, document in clean:
        events = list(events_of(document))
        for format in LEGACY:
            assert canon_sha([format.to_event(format.from_event(event)) for event in events]) == case["sha256"]
