"""``Session.generate_ai_summary``: what a model is told, and what stands in for it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from math import inf, nan
from time import monotonic
from typing import Any

import pytest

from session_adapter import SessionSummary, SummaryModel
from session_adapter.models import Event
from session_adapter.session import Session, new_session
from session_adapter.telling import MAX_TEXT
from tests.session_adapter.summary_models import Deaf, Failing, Meanwhile, Saying, Told
from unified_storage import StorageValidationError


def run(run_id: str, *texts: str, **further: Any) -> dict[str, Any]:
    """A run in which user and assistant say *texts* in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"run_id": run_id, "messages": messages, **further}


@pytest.fixture
def talk() -> Session:
    session = new_session("s1", "helper")
    session.add_run(run("r1", "Hello", "Good day", usage={"total_tokens": 5}))
    session.add_run(run("r2", "A tea, please", "Here it is", usage={"total_tokens": 7}))
    return session


async def test_a_model_is_told_the_conversation_of_all_runs_and_its_text_is_stored(talk: Session) -> None:
    """S0.30."""
    model = Told()
    before = talk.updated_at
    summary = await talk.generate_ai_summary(model)
    assert model.texts == ["user: Hello\nassistant: Good day\nuser: A tea, please\nassistant: Here it is"]
    assert talk.summary is summary
    assert (summary.content, summary.source, summary.error) == ("summary 1", "model", None)
    assert (summary.run_count, summary.total_tokens) == (2, 12)
    assert talk.updated_at > before


async def test_the_next_one_is_told_the_summary_and_what_came_after_it(talk: Session) -> None:
    model = Told()
    await talk.generate_ai_summary(model)
    talk.add_run(run("r3", "Bye"))
    summary = await talk.generate_ai_summary(model)
    assert model.texts[1] == "Summary so far:\nsummary 1\n\nSaid since then:\nuser: Bye"
    assert (summary.content, summary.run_count) == ("summary 2", 3)


async def test_what_a_run_gains_after_it_was_summed_up_is_told(talk: Session) -> None:
    model = Told()
    await talk.generate_ai_summary(model)
    talk.add_run(run("r1", "Hello", "Good day", "One more thing"))
    await talk.generate_ai_summary(model)
    assert model.texts[1].endswith("Said since then:\nuser: One more thing")


async def test_a_run_that_was_changed_is_told_again(talk: Session) -> None:
    model = Told()
    await talk.generate_ai_summary(model)
    talk.add_run(run("r2", "A tea, please", "There is none"))
    await talk.generate_ai_summary(model)
    assert model.texts[1].endswith("Said since then:\nuser: A tea, please\nassistant: There is none")


async def test_where_nothing_came_after_it_everything_is_summed_up_anew(talk: Session) -> None:
    model = Told()
    await talk.generate_ai_summary(model)
    await talk.generate_ai_summary(model)
    assert model.texts[1] == model.texts[0]


async def test_how_far_a_summary_reaches_is_known_after_json(talk: Session) -> None:
    model = Told()
    await talk.generate_ai_summary(model)
    again = Session.model_validate_json(talk.model_dump_json())
    again.add_run(run("r3", "Bye"))
    await again.generate_ai_summary(model)
    assert model.texts[1].endswith("Said since then:\nuser: Bye")


async def test_a_summary_written_by_hand_is_told_with_all_runs(talk: Session) -> None:
    """It does not say how far it reaches."""
    model = Told()
    talk.generate_summary("They met.")
    await talk.generate_ai_summary(model)
    assert model.texts[0].startswith("Summary so far:\nThey met.\n\nSaid since then:\nuser: Hello\n")


async def test_events_are_summed_up_where_there_are_no_runs() -> None:
    session = new_session("s1")
    session.events = [Event(role="user", content="Hello"), Event(role="assistant", content="Good day")]
    model = Told()
    assert (await session.generate_ai_summary(model)).source == "model"
    assert model.texts == ["user: Hello\nassistant: Good day"]


async def test_the_numbers_are_those_of_the_runs_in_the_events_that_are_there() -> None:
    session = new_session("s1")
    session.events = [
        Event(role="user", content="Hello", run_id="r1"),
        Event(role="assistant", content="Good day", run_id="r1", usage={"total_tokens": 5}),
        Event(role="user", content="Tea", run_id="r2", usage={"total_tokens": 7}),
        Event(role="user", content="a note", usage={"total_tokens": 100}),
    ]
    summary = await session.generate_ai_summary(Told())
    assert (summary.run_count, summary.total_tokens) == (2, 12)


@pytest.mark.parametrize("model", [None, Failing()])
async def test_a_run_that_came_while_the_model_wrote_is_not_counted(talk: Session, model: Any) -> None:
    async def another() -> None:
        talk.add_run(run("r3", "Bye", usage={"total_tokens": 100}))

    summary = await talk.generate_ai_summary(Meanwhile(another, model))
    assert (summary.run_count, summary.total_tokens, talk.run_count) == (2, 12, 3)


# failures


async def test_what_a_model_raises_is_stored_without_its_secrets(talk: Session) -> None:
    told = "no: https://x/v1?key=AIzaSy12345&alt=sse Authorization: Bearer sk-12345 password=hunter2 " + "x" * 400
    error = (await talk.generate_ai_summary(Failing(RuntimeError(told)))).error
    assert error is not None
    assert error.startswith("RuntimeError: no: https://x/v1?key=***&alt=sse Authorization: ")
    assert not [secret for secret in ("AIza", "sk-", "hunter2") if secret in error]
    cut = "x" * 478 + " password=hunter2"
    assert "hunter" not in str((await talk.generate_ai_summary(Failing(RuntimeError(cut)))).error)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Failing(), "RuntimeError: out of order"),
        (Failing(TimeoutError()), "TimeoutError: "),
        (Failing(asyncio.CancelledError()), "cancelled"),
        (Saying(""), "empty"),
        (Saying(" \n"), "empty"),
        (Saying(None), "NoneType"),
        (Saying(b"bytes"), "bytes"),
        (object(), "AttributeError"),
    ],
)
async def test_where_a_model_fails_the_last_runs_are_the_summary(
    talk: Session, model: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S0.30: the fallback is stored and marked, the error reported, and no run lost."""
    with caplog.at_level(logging.WARNING):
        summary = await talk.generate_ai_summary(model)
    assert talk.summary is summary
    assert summary.source == "fallback"
    assert summary.content == "user: Hello\nassistant: Good day\nuser: A tea, please\nassistant: Here it is"
    assert summary.error is not None
    assert reason in summary.error
    assert (summary.run_count, summary.total_tokens, talk.run_count) == (2, 12, 2)
    assert [record.getMessage() for record in caplog.records] == ["a model gave no summary"]
    assert "Hello" not in json.dumps([vars(record) for record in caplog.records], default=str)


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    model = Deaf()
    yield model
    model.end.set()
    await asyncio.wait_for(model.ended.wait(), 5)


async def test_a_model_that_does_not_end_is_left_in_time(talk: Session, deaf: Deaf) -> None:
    """S0.30: the call returns within its timeout, though the model takes no notice of being cancelled."""
    begun = monotonic()
    summary = await talk.generate_ai_summary(deaf, timeout=0.05)
    assert monotonic() - begun < 5
    assert (summary.source, summary.error) == ("fallback", "no answer in time")


async def test_what_a_model_that_was_left_raises_later_disturbs_nobody(talk: Session, deaf: Deaf) -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    await talk.generate_ai_summary(deaf, timeout=0.01)
    deaf.end.set()
    await asyncio.wait_for(deaf.ended.wait(), 5)
    await asyncio.sleep(0)
    gc.collect()
    assert heard == []
    assert _other_tasks() == set()


async def test_a_cancellation_goes_through_and_reaches_the_model(talk: Session) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    class Slow:
        async def summarise(self, text: str) -> str:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return text

    asked = asyncio.create_task(talk.generate_ai_summary(Slow()))
    await begun.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.wait_for(ended.wait(), 5)
    assert talk.summary is None


async def test_a_cancellation_does_not_wait_for_a_deaf_model(talk: Session, deaf: Deaf) -> None:
    asked = asyncio.create_task(talk.generate_ai_summary(deaf, timeout=60))
    await deaf.begun.wait()
    asked.cancel()
    await asyncio.wait({asked}, timeout=5)
    assert asked.cancelled()


def _other_tasks() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_fallback_keeps_the_better_summary_before_it(talk: Session) -> None:
    model = Told()
    await talk.generate_ai_summary(model)
    talk.add_run(run("r3", "Bye"))
    for _ in range(2):
        stopgap = await talk.generate_ai_summary(Failing())
        assert stopgap.source == "fallback"
        assert stopgap.base == "summary 1"
        assert stopgap.content.startswith("summary 1\n\n")
        assert stopgap.content.endswith("user: Bye")
        assert stopgap.content.count("summary 1") == 1
    summary = await talk.generate_ai_summary(model)
    assert model.texts[1] == "Summary so far:\nsummary 1\n\nSaid since then:\nuser: Bye"
    assert (summary.source, summary.base, summary.error) == ("model", None, None)


async def test_a_fallback_where_nothing_is_new_keeps_the_summary_before_it_too(talk: Session) -> None:
    await talk.generate_ai_summary(Told())
    stopgap = await talk.generate_ai_summary(Failing())
    assert stopgap.base == "summary 1"
    assert stopgap.boundary is not None


async def test_a_session_in_which_nothing_was_said_has_nothing_to_sum_up() -> None:
    model = Told()
    summary = await new_session("s1").generate_ai_summary(model)
    assert model.texts == []
    assert (summary.content, summary.source, summary.run_count) == ("", "fallback", 0)
    assert summary.error == "nothing was said that could be summed up"


@pytest.mark.parametrize("timeout", [0, -1, nan, inf, True, "30", None])
async def test_a_timeout_is_a_number_of_seconds_above_0(talk: Session, timeout: Any) -> None:
    with pytest.raises(StorageValidationError) as raised:
        await talk.generate_ai_summary(Told(), timeout=timeout)
    assert raised.value.details["path"] == "timeout"
    assert talk.summary is None


# long conversations


async def test_a_long_conversation_is_told_in_steps_that_each_know_the_summary_so_far() -> None:
    session = new_session("s1")
    for at in range(25):
        session.add_run(run(f"r{at}", f"question {at} " + "x" * 9_000, f"answer {at}"))
    model = Told()
    summary = await session.generate_ai_summary(model)
    assert len(model.texts) == 3
    assert all(len(text) <= MAX_TEXT + 200 for text in model.texts)
    assert model.texts[2].startswith("Summary so far:\nsummary 2\n\nSaid since then:\n")
    said = "\n".join(model.texts)
    assert [said.count(f"question {at} ") for at in range(25)] == [1] * 25
    assert (summary.content, summary.run_count) == ("summary 3", 25)


async def test_a_model_that_fails_at_a_later_step_leaves_what_it_gave_before() -> None:
    session = new_session("s1")
    for at in range(25):
        session.add_run(run(f"r{at}", f"question {at} " + "x" * 9_000))

    class Once(Told):
        async def summarise(self, text: str) -> str:
            if self.texts:
                raise RuntimeError("quota")
            return await super().summarise(text)

    first = Once()
    summary = await session.generate_ai_summary(first)
    assert (summary.content, summary.source, summary.error) == ("summary 1", "model", "RuntimeError: quota")
    second = Told()
    await session.generate_ai_summary(second)
    said = "\n".join(first.texts + second.texts)
    assert [said.count(f"question {at} ") for at in range(25)] == [1] * 25, "each is told once, by one of the two"


async def test_a_message_that_is_too_long_by_itself_is_shortened_and_says_so() -> None:
    session = new_session("s1")
    session.add_run(run("r1", "begin " + "x" * 10**6 + " end"))
    model = Told()
    await session.generate_ai_summary(model)
    [text] = model.texts
    assert len(text) <= 20_000
    assert text.startswith("user: begin")
    assert text.endswith(" end")
    assert "characters left out" in text


# what is told


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {}}]},
         "user: Look [image_url]"),
        ({"role": "user", "content": {"parts": [{"text": "Hi"}, {"text": "there"}]}}, "user: Hi there"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": '{"q": "tea"}'}}]},
         'assistant: calls find({"q": "tea"})'),
        ({"role": "assistant", "content": "I look", "tool_calls": [{"name": "find", "args": {"q": "tea"}}]},
         'assistant: I look; calls find({"q": "tea"})'),
        ({"role": "tool", "name": "find", "content": {"hits": 3}}, 'tool (find): {"hits": 3}'),
        ({"role": "assistant", "author": "helper", "content": "Hi"}, "assistant (helper): Hi"),
        ({"role": "user", "content": b"\x00"}, "user: [bytes]"),
        ({"role": "user", "content": 5}, "user: 5"),
        ({"content": "Hi"}, "unknown: Hi"),
    ],
)  # fmt: skip
async def test_messages_are_told_as_lines(message: dict[str, Any], line: str) -> None:
    session = new_session("s1")
    session.add_run({"run_id": "r1", "messages": [message, {"role": "user", "content": " "}]})
    model = Told()
    await session.generate_ai_summary(model)
    assert model.texts == [line]


@pytest.mark.parametrize(
    "one",
    [
        {"input": {"input_content": "A tea?"}, "content": "Yes"},
        {"input": "A tea?", "output": "Yes"},
        {"message": {"role": "user", "content": "A tea?"}, "response": {"content": "Yes", "messages": []}},
    ],
)
async def test_a_run_without_messages_is_told_by_what_went_in_and_came_out(one: dict[str, Any]) -> None:
    session = new_session("s1")
    session.add_run(one)
    model = Told()
    await session.generate_ai_summary(model)
    assert model.texts == ["user: A tea?\nassistant: Yes"]


async def test_the_run_of_a_member_is_told_by_that_of_its_team() -> None:
    session = new_session("s1")
    session.add_run(run("r1", "A tea?", "Yes"))
    session.add_run({"run_id": "m1", "parent_run_id": "r1", "content": "There is tea"})
    model = Told()
    await session.generate_ai_summary(model)
    assert model.texts == ["user: A tea?\nassistant: Yes"]


# the models


def test_a_summary_goes_through_json_without_what_is_empty() -> None:
    """S0.9."""
    summary = SessionSummary(content="They met.", run_count=2, total_tokens=5)
    assert set(json.loads(summary.model_dump_json())) == {"content", "run_count", "total_tokens", "created_at"}
    assert SessionSummary.model_validate_json(summary.model_dump_json()) == summary


async def test_a_summary_with_everything_goes_through_json(talk: Session) -> None:
    """S0.9."""
    await talk.generate_ai_summary(Told())
    summary = await talk.generate_ai_summary(Failing())
    assert SessionSummary.model_validate_json(summary.model_dump_json()) == summary
    extended = SessionSummary.model_validate({"content": "a", "topics": None})
    assert extended.model_dump()["topics"] is None


def test_what_has_the_method_is_a_model() -> None:
    assert isinstance(Told(), SummaryModel)
    assert not isinstance(object(), SummaryModel)
