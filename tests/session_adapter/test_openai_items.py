"""Items of OpenAI's Responses API as events, and events as items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter.formats.openai_agents import OPENAI_SQLITE, item_of, linked, unlinked

CALL = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": '{"q":  1}'}
SHOWN_CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":  1}'}}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait"}], "status": "done"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
USER = {"role": "user", "content": "Hello"}
ITEMS = [USER, SAID, CALL, RESULT, {"role": "assistant", "content": "Bye"}, {"type": "reasoning", "summary": []}]


def events(*items: Any) -> list[dict[str, Any]]:
    shown = (OPENAI_SQLITE.to_event(element) for element in linked([{"item": item} for item in items]))
    return [event for event in shown if event is not None]


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (USER, {"role": "user", "content": "Hello"}),
        ({"role": "developer", "content": "Be kind"}, {"role": "developer", "content": "Be kind"}),
        ({"role": "user", "content": []}, {"role": "user", "content": []}),
        (SAID, {"role": "assistant", "content": "Wait", "status": "done"}),
        (CALL, {"role": "assistant", "content": None, "tool_calls": [SHOWN_CALL]}),
        (RESULT, {"role": "tool", "tool_call_id": "c1", "content": "3"}),
        ({**RESULT, "output": ""}, {"role": "tool", "tool_call_id": "c1", "content": ""}),
        (
            {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot"}},
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": {"type": "computer_screenshot"},
                "type": "computer_call_output",
            },
        ),
        (
            {"type": "custom_tool_call", "call_id": "c1", "name": "pour", "input": "gently"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "pour", "arguments": "gently"}}],
            },
        ),
        (
            {"type": "reasoning", "summary": [], "id": "rs_1"},
            {"role": "assistant", "content": None, "type": "reasoning"},
        ),
        (
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"role": "assistant", "content": None, "type": "web_search_call", "status": "completed"},
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"role": "user", "content": "ab"},
        ),
    ],
)
def test_an_item_shows_what_it_says(item: dict[str, Any], shown: dict[str, Any]) -> None:
    assert events(item) == [shown]


def test_what_one_answer_says_and_calls_is_one_message() -> None:
    other = {**CALL, "call_id": "c2"}
    shown = events(USER, SAID, CALL, other, RESULT, {**RESULT, "call_id": "c2"}, CALL, RESULT, SAID, USER)
    assert [event["role"] for event in shown] == [
        *("user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user")
    ]
    assert shown[1] == {
        "role": "assistant",
        "content": "Wait",
        "tool_calls": [SHOWN_CALL, {**SHOWN_CALL, "id": "c2"}],
    }
    assert shown[4] == {"role": "assistant", "content": None, "tool_calls": [SHOWN_CALL]}


@pytest.mark.parametrize("element", [None, 5, "text", {}, {"item": "{"}, {"item": [1]}, {"item": "[" * 10**5}])
def test_what_cannot_be_read_shows_nothing(element: Any) -> None:
    assert OPENAI_SQLITE.to_event(element) is None


def test_an_item_that_is_kept_as_its_text_is_read_all_the_same() -> None:
    assert events('{"role":"user","content":"Hello"}') == [{"role": "user", "content": "Hello"}]


@given(st.lists(st.sampled_from(ITEMS), max_size=12))
def test_every_item_has_an_element_and_no_call_is_lost(items: list[dict[str, Any]]) -> None:
    elements = linked([{"item": item} for item in items])
    assert [item_of(element) for element in elements] == items
    assert linked(elements) == elements
    assert [element["item"] for element in unlinked(elements)] == items
    shown = [event for element in elements if (event := OPENAI_SQLITE.to_event(element)) is not None]
    calls = sum(len(event.get("tool_calls", ())) for event in shown)
    assert calls == items.count(CALL)


def test_what_is_left_of_an_answer_is_what_is_shown_of_it() -> None:
    said, call, other, result = linked([{"item": item} for item in (SAID, CALL, {**CALL, "call_id": "c2"}, RESULT)])
    whole = [SAID, CALL, {**CALL, "call_id": "c2"}]
    assert [one["item"] for one in unlinked([said, call, other])] == whole
    assert [one["item"] for one in unlinked([other, result])] == [*whole, RESULT], "its front was cut off"
    assert unlinked([said, call]) == [], "its last item was withdrawn"
    assert [one["item"] for one in unlinked([said, call, result])] == [RESULT]
    new = OPENAI_SQLITE.from_event({"role": "assistant", "content": "New", "tool_calls": [SHOWN_CALL]})
    told = [one["item"] for one in unlinked([said, call, new])]
    assert [item.get("content") for item in told] == ["New", None]


@given(
    st.lists(
        st.sampled_from(
            [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Wait", "tool_calls": [SHOWN_CALL, {**SHOWN_CALL, "id": "c2"}]},
                {"role": "assistant", "content": None, "tool_calls": [SHOWN_CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "3"},
                {"role": "assistant", "content": "Bye"},
            ]
        ),
        max_size=8,
    )
)
def test_events_are_told_to_the_library_item_by_item(told: list[dict[str, Any]]) -> None:
    elements = unlinked([OPENAI_SQLITE.from_event(event) for event in told])
    texts = [element["item"] for element in elements if element["item"].get("content") in ("Wait", "Bye")]
    assert len(texts) == sum(event["content"] in ("Wait", "Bye") for event in told)
    calls = [element["item"]["call_id"] for element in elements if element["item"].get("type") == "function_call"]
    assert calls == [call["id"] for event in told for call in event.get("tool_calls", ())]
    assert all("before" not in element for element in elements)


@pytest.mark.parametrize(
    ("content", "item"),
    [
        (None, ""),
        ([{"type": "text", "text": "Hi"}], [{"type": "input_text", "text": "Hi"}]),
        (["Hi"], [{"type": "input_text", "text": "Hi"}]),
        (
            [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
            [{"type": "input_image", "detail": "auto", "image_url": "https://example.org/a.png"}],
        ),
        ([{"type": "input_file", "file_id": "f"}], [{"type": "input_file", "file_id": "f"}]),
        ({"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}, "ab"),
        ({"data": 1}, '{"data": 1}'),
        ([], ""),
    ],
)
def test_content_is_told_in_the_form_of_this_api(content: Any, item: Any) -> None:
    made = OPENAI_SQLITE.from_event({"role": "user", "content": content, "id": "e1", "author": "ann"})
    assert made == {"item": {"role": "user", "content": item}}
