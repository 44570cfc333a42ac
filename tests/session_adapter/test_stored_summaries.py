"""Summaries of stored sessions, on every engine."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from session_adapter import (
    ScopedSessionService,
    SessionKey,
    SessionNotFoundError,
    SessionStorageAdapter,
    SessionSummary,
    Summaries,
    telling,
)
from session_adapter.coverage import WATCHED
from session_adapter.identity import SessionId, record_id
from session_adapter.summary_document import summary_body
from session_adapter.telling import MAX_TEXT
from session_adapter.usage import tokens_used
from tests.places import EMBEDDED, SERVERS, engines, place_on
from tests.session_adapter.delegates import Spy
from tests.session_adapter.documents import sample
from tests.session_adapter.summary_models import Failing, Meanwhile, Told
from unified_storage import IUnifiedStorage, StorageClosedError, StorageValidationError, open_storage

HELLO = {"role": "user", "content": "Hello"}
GOOD_DAY = {"role": "assistant", "content": "Good day"}
SAID = "Said since then:\n"
USED = {"total_tokens": 2}
KEY = SessionKey("shop", "ann", "s1")


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


@pytest.fixture
def sessions(storage: IUnifiedStorage) -> SessionStorageAdapter:
    return SessionStorageAdapter(storage)


@pytest.fixture
def summaries(storage: IUnifiedStorage) -> Summaries:
    return Summaries(storage)


@pytest.fixture
async def started(sessions: SessionStorageAdapter) -> SessionStorageAdapter:
    await sessions.save_session("s1", {"session_id": "s1", "state": {"cart": []}})
    return sessions


def run(run_id: str, *texts: str, tokens: int = 1, **further: Any) -> dict[str, Any]:
    """A run in which user and assistant say *texts* in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"run_id": run_id, "messages": messages, "metrics": {"total_tokens": tokens}, **further}


async def stored(sessions: SessionStorageAdapter, session: SessionId = "s1") -> Mapping[str, Any]:
    document = await sessions.get_session(session)
    assert document is not None
    found: Mapping[str, Any] = document.get("summary") or {}
    return found


# what is told and stored


async def test_events_and_runs_are_summed_up_and_the_summary_is_stored(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    """S0.30."""
    model = Told()
    await started.events.append("s1", [HELLO, GOOD_DAY | {"run_id": "r0", "usage": {"total_tokens": 2}}])
    await started.runs.append("s1", run("r1", "A tea", "Here", tokens=5))
    summary = await summaries.update("s1", model)
    assert model.texts == ["user: Hello\nassistant: Good day\nuser: A tea\nassistant: Here"]
    assert summary is not None
    assert (summary.content, summary.source, summary.run_count, summary.total_tokens) == ("summary 1", "model", 2, 7)
    assert summary.boundary is not None
    assert (summary.boundary.seq, summary.boundary.run_id) == (3, "r1")
    assert await summaries.get("s1") == summary
    assert await stored(started) == summary_body(summary)


async def test_the_next_one_is_told_only_what_came_after_it(
    started: SessionStorageAdapter, summaries: Summaries, storage: IUnifiedStorage
) -> None:
    model = Told()
    await started.runs.append("s1", [run(f"r{at}", f"question {at}", f"answer {at}") for at in range(100)])
    await summaries.update("s1", model)
    await started.runs.append("s1", run("late", "Bye"))
    spy = Spy(storage)
    summary = await Summaries(spy).update("s1", model)
    assert model.texts[1] == f"Summary so far:\nsummary 1\n\n{SAID}user: Bye"
    assert summary is not None
    assert (summary.run_count, summary.total_tokens) == (101, 101)
    assert spy.numbers["read"] <= 1 + WATCHED, "what was summed up is not read again, but for the newest runs"


async def test_without_anything_new_no_model_is_asked_and_nothing_written(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    model = Told()
    assert await summaries.update("s1", model) is None
    await started.events.append("s1", HELLO)
    first = await summaries.update("s1", model)
    before = await started.get_session("s1", with_version=True)
    assert await summaries.update("s1", model) == first
    assert await started.get_session("s1", with_version=True) == before
    assert len(model.texts) == 1


async def test_a_message_added_to_a_run_that_was_summed_up_is_told(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    """A run is replaced in its place, so its number does not say that it grew."""
    model = Told()
    await started.runs.append("s1", [run("r1", "A tea", tokens=3), run("r2", "Hello")])
    await summaries.update("s1", model)
    await started.runs.append("s1", run("r1", "A tea", "Here it is", tokens=8))
    summary = await summaries.update("s1", model)
    assert model.texts[1].endswith(f"{SAID}assistant: Here it is")
    assert summary is not None
    assert (summary.run_count, summary.total_tokens) == (2, 9)
    assert summary.boundary is not None
    assert summary.boundary.seq == 2


async def test_a_run_that_goes_on_in_single_messages_counts_once(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    model = Told()
    await started.events.append("s1", HELLO | {"run_id": "r1", "usage": {"total_tokens": 1}})
    await summaries.update("s1", model)
    await started.events.append("s1", GOOD_DAY | {"run_id": "r1", "usage": {"total_tokens": 2}})
    summary = await summaries.update("s1", model)
    assert summary is not None
    assert (summary.run_count, summary.total_tokens) == (1, 3)
    await started.runs.append("s1", run("r1", "Hello", "Good day", "Bye", tokens=7))  # now it stands whole
    summary = await summaries.update("s1", model)
    assert model.texts[2].endswith(f"{SAID}user: Bye")
    assert summary is not None
    assert (summary.run_count, summary.total_tokens) == (1, 7)


@pytest.mark.parametrize("name", ["g0", "g1", "g2", "g3", "bare"])
async def test_documents_of_every_format_have_their_summary(
    sessions: SessionStorageAdapter, summaries: Summaries, name: str
) -> None:
    document = sample(name)
    await sessions.save_session("s1", document)
    model = Told()
    if name == "bare":
        await sessions.events.append("s1", HELLO)
    summary = await summaries.update("s1", model)
    assert summary is not None
    after = await sessions.get_session("s1")
    assert after is not None
    assert after.pop("summary") == summary_body(summary)
    events = await sessions.events.read("s1")
    assert model.texts[0].count("\n") + 1 >= len([event for event in events if event["content"]])
    for part in document.keys() - {"metadata", "summary"}:
        assert after[part] == document[part]


async def test_a_scoped_session_has_one_too(storage: IUnifiedStorage, summaries: Summaries) -> None:
    service = ScopedSessionService(storage)
    await service.create_session(KEY, state={"cart": [], "user:lang": "de"})
    await service.append_event(KEY, {"role": "user", "content": "Hello", "state_delta": {"cart": ["tea"]}})
    model = Told()
    summary = await summaries.update(KEY, model)
    assert model.texts == ["user: Hello"]
    shown = await service.get_session(KEY)
    assert shown is not None
    assert shown.summary == summary
    assert shown.state == {"cart": ["tea"], "user:lang": "de"}


async def test_the_summary_of_another_writer_is_told_and_then_replaced(
    sessions: SessionStorageAdapter, summaries: Summaries
) -> None:
    """As agno keeps it."""
    other = {"summary": "They met.", "topics": ["tea"], "updated_at": 1715803200}
    await sessions.save_session("s1", {"session_id": "s1", "summary": other})
    found = await summaries.get("s1")
    assert found is not None
    assert (found.content, found.boundary) == ("They met.", None)
    await sessions.events.append("s1", HELLO)
    model = Told()
    await summaries.update("s1", model)
    assert model.texts == [f"Summary so far:\nThey met.\n\n{SAID}user: Hello"]
    assert "topics" not in await stored(sessions)


@pytest.mark.parametrize("odd", ["text", 5, ["a"], {}, {"content": 5}])
async def test_what_is_no_summary_is_refused_and_stays(
    sessions: SessionStorageAdapter, summaries: Summaries, odd: Any
) -> None:
    await sessions.save_session("s1", {"session_id": "s1", "summary": odd})
    await sessions.events.append("s1", HELLO)
    for act in (summaries.get("s1"), summaries.update("s1", Told()), summaries.window("s1")):
        with pytest.raises(StorageValidationError) as raised:
            await act
        assert raised.value.details["path"] == "summary"
    document = await sessions.get_session("s1")
    assert document is not None
    assert document["summary"] == odd


# long histories


async def test_a_long_history_is_told_in_steps(started: SessionStorageAdapter, storage: IUnifiedStorage) -> None:
    events = [{"role": "user", "content": f"question {at} " + "x" * 3_000} for at in range(120)]
    await started.events.append("s1", events)
    spy, model = Spy(storage), Told()
    summary = await Summaries(spy).update("s1", model)
    assert summary is not None
    assert len(model.texts) == 4
    assert max(map(len, model.texts)) <= MAX_TEXT + 200
    said = "\n".join(model.texts)
    assert [said.count(f"question {at} ") for at in range(120)] == [1] * 120
    assert summary.boundary is not None
    assert summary.boundary.seq == 120
    assert spy.verbs.count("read") == 3, "the history is read in parts"


async def test_what_a_model_gave_before_it_failed_is_stored_and_reaches_as_far_as_that(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    events = [{"role": "user", "content": f"question {at} " + "x" * 3_000} for at in range(60)]
    await started.events.append("s1", events)

    class Once(Told):
        async def summarise(self, text: str) -> str:
            if self.texts:
                raise RuntimeError("quota")
            return await super().summarise(text)

    first, second = Once(), Told()
    summary = await summaries.update("s1", first)
    assert summary is not None
    assert (summary.content, summary.source, summary.error) == ("summary 1", "model", "RuntimeError: quota")
    await summaries.update("s1", second)
    said = "\n".join(first.texts + second.texts)
    assert [said.count(f"question {at} ") for at in range(60)] == [1] * 60


async def test_entries_that_are_gone_are_not_missed(started: SessionStorageAdapter, summaries: Summaries) -> None:
    model = Told()
    await started.events.append("s1", [HELLO, GOOD_DAY])
    await summaries.update("s1", model)
    await started.events.append("s1", [{"role": "user", "content": f"{at}"} for at in range(5)], keep_last=3)
    await summaries.update("s1", model)
    assert model.texts[1].endswith(f"{SAID}user: 2\nuser: 3\nuser: 4")


# failures


async def test_where_a_model_fails_a_fallback_is_stored_and_marked(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    """S0.30."""
    await started.runs.append("s1", run("r1", "A tea", "Here it is"))
    summary = await summaries.update("s1", Failing())
    assert summary is not None
    assert (summary.source, summary.error) == ("fallback", "RuntimeError: out of order")
    assert summary.content == "user: A tea\nassistant: Here it is"
    assert (await stored(started))["source"] == "fallback"
    model = Told()
    better = await summaries.update("s1", model)
    assert model.texts == ["user: A tea\nassistant: Here it is"]
    assert better is not None
    assert (better.source, better.run_count) == ("model", 1)


async def test_a_fallback_keeps_the_last_summary_and_its_boundary(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    model = Told()
    await started.events.append("s1", HELLO)
    first = await summaries.update("s1", model)
    await started.events.append("s1", GOOD_DAY)
    stopgap = await summaries.update("s1", Failing())
    assert first is not None
    assert stopgap is not None
    assert (stopgap.source, stopgap.base, stopgap.boundary) == ("fallback", "summary 1", first.boundary)
    assert stopgap.content == "summary 1\n\nuser: Hello\nassistant: Good day"
    await summaries.update("s1", model)
    assert model.texts[1] == f"Summary so far:\nsummary 1\n\n{SAID}assistant: Good day"


async def test_a_session_that_is_not_there_has_none(started: SessionStorageAdapter, summaries: Summaries) -> None:
    for act in (summaries.get("no"), summaries.update("no", Told()), summaries.window("no")):
        with pytest.raises(SessionNotFoundError):
            await act


async def test_a_failing_storage_is_no_failing_model(
    started: SessionStorageAdapter, summaries: Summaries, storage: IUnifiedStorage
) -> None:
    await started.events.append("s1", HELLO)
    with pytest.raises(StorageClosedError):
        await summaries.update("s1", Meanwhile(storage.close))


async def test_a_cancellation_goes_through_and_nothing_is_stored(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", HELLO)
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(60)

    asked = asyncio.create_task(summaries.update("s1", Meanwhile(hang)))
    await begun.wait()
    asked.cancel()
    await asyncio.wait({asked}, timeout=5)
    assert asked.cancelled()
    assert await summaries.get("s1") is None


# while the model works


async def test_what_is_appended_meanwhile_stays_behind_the_boundary_and_is_not_lost(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", HELLO)

    async def others_write() -> None:
        await started.events.append("s1", GOOD_DAY)
        await started.update_session("s1", {"state": {"cart": ["tea"]}, "name": "Tea"})

    summary = await summaries.update("s1", Meanwhile(others_write))
    assert summary is not None
    assert summary.boundary is not None
    assert summary.boundary.seq == 1
    document = await started.get_session("s1")
    assert document is not None
    assert (document["state"], document["name"]) == ({"cart": ["tea"]}, "Tea")
    model = Told()
    await summaries.update("s1", model)
    assert model.texts[0].endswith(f"{SAID}assistant: Good day")


async def test_many_who_append_and_sum_up_at_once_lose_nothing(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    model = Told()

    async def talk(name: int) -> None:
        for at in range(5):
            await started.events.append("s1", {"role": "user", "content": f"<{name}.{at}>"})

    async def sum_up() -> None:
        for _ in range(5):
            await summaries.update("s1", model)

    await asyncio.gather(*(talk(name) for name in range(4)), sum_up(), sum_up())
    last = await summaries.update("s1", model)
    assert await started.events.count("s1") == 20
    assert last is not None
    assert last.boundary is not None
    assert last.boundary.seq == 20
    said = "\n".join(model.texts)
    assert all(said.count(f"<{name}.{at}>") >= 1 for name in range(4) for at in range(5))


@pytest.mark.parametrize("again", ["made anew", "gone"])
async def test_a_session_that_is_gone_meanwhile_is_not_given_the_summary_of_the_old_one(
    started: SessionStorageAdapter, summaries: Summaries, again: str
) -> None:
    await started.events.append("s1", HELLO)

    async def others_delete() -> None:
        await started.delete_session("s1")
        if again == "made anew":
            await started.save_session("s1", {"session_id": "s1"})
            await started.events.append("s1", [GOOD_DAY] * 3)

    with pytest.raises(SessionNotFoundError):
        await summaries.update("s1", Meanwhile(others_delete))
    if again == "made anew":
        assert await summaries.get("s1") is None


async def test_a_session_with_the_creation_time_of_the_old_one_is_told_apart_by_its_history(
    sessions: SessionStorageAdapter, summaries: Summaries
) -> None:
    document = {"session_id": "s1", "metadata": {"created_at": "2024-05-15T20:00:00+00:00"}}
    await sessions.save_session("s1", document)
    await sessions.events.append("s1", [HELLO, GOOD_DAY])

    async def others_make_it_anew() -> None:
        await sessions.delete_session("s1")
        await sessions.save_session("s1", document)
        for _ in range(9):
            await sessions.update_session("s1", {})

    with pytest.raises(SessionNotFoundError):
        await summaries.update("s1", Meanwhile(others_make_it_anew))


async def test_a_summary_written_by_hand_meanwhile_stays(started: SessionStorageAdapter, summaries: Summaries) -> None:
    await started.events.append("s1", HELLO)
    by_hand = summary_body(SessionSummary(content="By hand"))
    model = Meanwhile(lambda: started.update_session("s1", {"summary": by_hand}))
    assert await summaries.update("s1", model) == await summaries.get("s1")
    assert await stored(started) == by_hand


async def test_of_two_summaries_the_one_that_reaches_further_stays(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", HELLO)

    async def another() -> None:
        await started.events.append("s1", GOOD_DAY)
        await summaries.update("s1", quicker)

    quicker, slower = Told(), Meanwhile(another)
    summary = await summaries.update("s1", slower)
    assert summary is not None
    assert summary.boundary is not None
    assert summary.boundary.seq == 2
    assert quicker.texts == ["user: Hello\nassistant: Good day"]
    assert summary == await summaries.get("s1")


async def test_a_fallback_of_somebody_else_gives_way_to_a_model(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", HELLO)
    summary = await summaries.update("s1", Meanwhile(lambda: summaries.update("s1", Failing())))
    assert summary is not None
    assert summary.source == "model"
    assert summary == await summaries.get("s1")


async def test_a_summary_that_somebody_deleted_meanwhile_stays_deleted(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", HELLO)
    await summaries.update("s1", Told())
    await started.events.append("s1", GOOD_DAY)
    model = Meanwhile(lambda: started.update_session("s1", {"summary": None}))
    assert await summaries.update("s1", model) is None
    assert await summaries.get("s1") is None


# windows


async def test_a_window_is_the_summary_and_the_events_behind_it(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", [HELLO, GOOD_DAY])
    before = await summaries.window("s1")
    assert before.summary is None
    assert [event["content"] for event in before.events] == ["Hello", "Good day"]
    await summaries.update("s1", Told())
    assert await summaries.window("s1") == type(before)("summary 1", [])
    await started.events.append("s1", [HELLO | {"content": "Tea?"}, GOOD_DAY | {"content": "Here"}])
    window = await summaries.window("s1")
    assert window.summary == "summary 1"
    assert window.events == (await started.events.read("s1"))[2:]


async def test_a_window_that_would_begin_within_a_turn_begins_with_it(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "find"}}]}
    await started.events.append("s1", [HELLO, GOOD_DAY, HELLO | {"content": "Tea?"}, call])
    await summaries.update("s1", Told())
    await started.events.append("s1", {"role": "tool", "tool_call_id": "c1", "content": "3 hits"})
    window = await summaries.window("s1")
    assert [event["role"] for event in window.events] == ["user", "assistant", "tool"]


async def test_a_window_begins_with_the_first_run_that_grew(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.runs.append("s1", [run("r1", "A tea"), run("r2", "Hello", "Good day")])
    await summaries.update("s1", Told())
    await started.runs.append("s1", run("r1", "A tea", "Here it is"))
    window = await summaries.window("s1")
    assert [event["content"] for event in window.events] == ["A tea", "Here it is", "Hello", "Good day"]


async def test_a_window_is_bounded_by_last_but_for_its_turn(
    started: SessionStorageAdapter, summaries: Summaries, storage: IUnifiedStorage
) -> None:
    await started.events.append("s1", HELLO)
    await summaries.update("s1", Told())
    await started.events.append("s1", [HELLO | {"content": f"{at}"} for at in range(300)])
    spy = Spy(storage)
    window = await Summaries(spy).window("s1", last=3)
    assert spy.numbers["read"] < 50
    assert [event["content"] for event in window.events] == ["297", "298", "299"]
    assert (await summaries.window("s1", last=0)).events == []


async def test_a_window_goes_by_the_summary_that_a_fallback_keeps(
    started: SessionStorageAdapter, summaries: Summaries
) -> None:
    await started.events.append("s1", HELLO)
    await summaries.update("s1", Told())
    await started.events.append("s1", HELLO | {"content": "Tea?"})
    await summaries.update("s1", Failing())
    window = await summaries.window("s1")
    assert window.summary == "summary 1"
    assert [event["content"] for event in window.events] == ["Tea?"]


async def test_record_and_metadata_are_those_of_the_session(
    started: SessionStorageAdapter, summaries: Summaries, storage: IUnifiedStorage
) -> None:
    await started.events.append("s1", HELLO)
    before = await storage.load(record_id("s1"), type="session")
    await summaries.update("s1", Told())
    after = await storage.load(record_id("s1"), type="session")
    assert before is not None
    assert after is not None
    assert after["metadata"] == before["metadata"]
    assert (after["created_at"], after["version"]) == (before["created_at"], before["version"] + 1)


# everything at random


class Flaky(Told):
    """Answers now and then."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def summarise(self, text: str) -> str:
        if self._chance.random() < 0.3:
            raise RuntimeError("out of order")
        return await super().summarise(text)


@pytest.mark.parametrize("seed", range(40))
async def test_every_message_is_told_once_whatever_happens(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages alone and in runs, runs that grow, models that fail at any step, writers in between."""
    monkeypatch.setattr(telling, "MAX_TEXT", 60)
    chance = random.Random(seed)
    async with open_storage("memory://") as storage:
        sessions, summaries, model = SessionStorageAdapter(storage), Summaries(storage), Flaky(chance)
        await sessions.save_session("s1", {"session_id": "s1"})
        runs: list[dict[str, Any]] = []
        names = (f"<{at}>" for at in count())

        def message() -> dict[str, Any]:
            return {"role": chance.choice(["user", "assistant"]), "content": next(names)}

        async def write() -> None:
            kind = chance.randrange(4)
            if kind == 0:
                await sessions.events.append("s1", message())
            elif kind == 1:
                await sessions.events.append(
                    "s1", message() | {"run_id": f"loose {chance.randrange(3)}", "usage": USED}
                )
            elif kind == 2 or not runs:
                messages = [message() for _ in range(chance.randrange(1, 4))]
                runs.append({"run_id": f"run {len(runs)}", "messages": messages, "metrics": {"total_tokens": 7}})
                await sessions.runs.append("s1", runs[-1])
            else:
                grown = chance.choice(runs)
                grown["messages"].append(message())
                grown["metrics"]["total_tokens"] += 3
                await sessions.runs.append("s1", grown)

        for _ in range(28):  # fewer than are watched
            await write()
            if chance.random() < 0.4:
                await summaries.update("s1", model)
            if chance.random() < 0.2:
                await summaries.update("s1", Meanwhile(write, model))
        last = Told()
        summary = await summaries.update("s1", last)
        said = [event["content"] for event in await sessions.events.read("s1")]
        told = Counter(re.findall(r"<\d+>", "\n".join(model.texts + last.texts)))
        assert told == Counter(said)
        assert summary is not None
        every = await sessions.runs.read("s1")
        assert (summary.run_count, summary.total_tokens) == (len(every), tokens_used(every))
        assert (await summaries.window("s1")).summary == summary.content
