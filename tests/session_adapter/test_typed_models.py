"""``Session``, ``Run`` and their like, without any storage."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

import session_adapter.session as module
from session_adapter import Event, Run, Session, SessionMetrics, SessionSummary, new_session
from unified_storage import StorageValidationError

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
FULL = Session(
    session_id="s1",
    app_name="bakery",
    kind="agent",
    agent_id="baker",
    user_id="ann",
    team_id="mornings",
    workflow_id="bread",
    name="Rye for Ann",
    metadata={"a": [1, {"b": None}]},
    state={"step": 1},
    agent_data={"model": "small"},
    runs=[Run(run_id="a", status="completed", usage={"total_tokens": 3}, messages=[{"role": "user", "content": "hi"}])],
    summary=SessionSummary(content="short", run_count=1, total_tokens=3, created_at=NOON),
    created_at=NOON,
    updated_at=NOON + timedelta(microseconds=1),
    events=[Event(role="user", content="hi", timestamp=NOON)],
)


class Model:
    """Answers what it is told to answer, or raises it."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer

    async def summarise(self, text: str) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return f"{self.answer}: {text.count('loaf')}"


def test_every_field_comes_back_from_json() -> None:
    """S0.1, S0.9."""
    assert all(getattr(FULL, name) for name in Session.model_fields)
    assert Session.model_validate_json(FULL.model_dump_json()) == FULL
    assert Session.model_validate(json.loads(json.dumps(FULL.model_dump(mode="json")))) == FULL
    assert Session.model_validate(FULL.model_dump()) == FULL
    assert FULL.summary is not None
    assert SessionSummary.model_validate_json(FULL.summary.model_dump_json()) == FULL.summary


def test_what_is_empty_is_left_out_of_the_json_form() -> None:
    """S0.1."""
    minimal = Session(session_id="s1")
    assert minimal.model_dump().keys() == {"session_id", "created_at", "updated_at"}
    assert json.loads(minimal.model_dump_json()).keys() == {"session_id", "created_at", "updated_at"}
    falsy = Session.model_validate({"session_id": "", "name": "", "state": {"a": None}, "mine": None, "too": []})
    assert falsy.model_dump().keys() - {"created_at", "updated_at"} == {"session_id", "name", "state", "mine", "too"}


def test_bytes_are_base64_in_the_json_form() -> None:
    """S1.7: a state may hold them, also some that are no text, and also where others stand in an event or a run."""
    odd = {"a": b"\x00\xff", "b": [b"text"]}
    session = Session(
        session_id="s1",
        state=odd,
        events=[Event(role="user", content=odd, state_delta=odd)],
        runs=[Run(run_id="r", content=odd, messages=[{"role": "user", "content": odd}])],
    )
    shown, written = json.loads(session.model_dump_json()), {"a": "AP8=", "b": ["dGV4dA=="]}
    assert shown == session.model_dump(mode="json")
    assert shown["state"] == shown["events"][0]["state_delta"] == shown["events"][0]["content"] == written
    assert shown["runs"][0]["content"] == shown["runs"][0]["messages"][0]["content"] == written
    assert json.loads(session.events[0].model_dump_json())["content"] == written
    assert json.loads(session.runs[0].model_dump_json())["content"] == written
    assert session.model_dump()["state"] == odd


@pytest.mark.parametrize(
    ("wrong", "path"),
    [({"run_id": 5}, "run.run_id"), (None, "run"), ("r1", "run"), ([], "run"), (Event(role="x"), "run")],
)
def test_what_is_no_run_is_refused_with_its_place(wrong: Any, path: str) -> None:
    session = new_session("s1")
    with pytest.raises(StorageValidationError) as refused:
        session.add_run(wrong)
    assert refused.value.path == path
    assert session.runs == []


def test_further_keys_survive() -> None:
    given = {"session_id": "s1", "settings": {"a": [None]}, "add_run": 1, "key": 2, "x y": None}
    session = Session.model_validate(given)
    assert session.model_extra == {"settings": {"a": [None]}, "add_run": 1, "key": 2, "x y": None}
    assert Session.model_validate_json(session.model_dump_json()) == session
    assert session.key == "s1"


def test_two_sessions_are_equal_when_what_they_hold_is() -> None:
    for same in (copy.copy(FULL), copy.deepcopy(FULL), pickle.loads(pickle.dumps(FULL)), FULL.model_copy()):
        assert same == FULL
    for name in (*Session.model_fields, "further"):
        other = FULL.model_copy(deep=True)
        setattr(other, name, "another")
        assert other != FULL, name
    assert FULL.model_dump() != FULL


def test_times_are_aware_and_in_utc() -> None:
    """S0.2, T0.10."""
    moved = Session(session_id="s1", created_at=datetime(2024, 5, 15, 14, tzinfo=timezone(timedelta(hours=2))))
    assert (moved.created_at, moved.created_at.tzinfo, moved.updated_at) == (NOON, UTC, NOON)
    with pytest.raises(ValidationError):
        Session(session_id="s1", created_at=datetime(2024, 5, 15))
    with pytest.raises(ValidationError):
        Session(session_id="s1", created_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))))


def test_new_sessions_share_nothing() -> None:
    """S0.2."""
    first, second = new_session("s1", "baker"), new_session("s2")
    for name in ("metadata", "state", "agent_data"):
        getattr(first, name)["mine"] = 1
    first.runs.append(Run())
    first.events.append(Event(role="user"))
    assert second.model_dump().keys() == {"session_id", "created_at", "updated_at"}
    assert (first.agent_id, second.agent_id) == ("baker", None)


def test_a_change_moves_the_time_also_where_the_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """S0.3, S0.8."""
    monkeypatch.setattr(module, "_now", lambda: NOON)
    session = new_session("s1")
    changes: list[Callable[[], Any]] = [
        lambda: session.add_run({"run_id": "a"}),
        lambda: session.add_run({"run_id": "a"}),
        lambda: session.generate_summary("short"),
    ]
    for number, change in enumerate(changes, 1):
        change()
        assert session.updated_at == NOON + timedelta(microseconds=number)
    assert session.created_at == NOON


def test_a_run_of_the_same_name_takes_the_place_of_the_one_before() -> None:
    """S0.4."""
    session = new_session("s1")
    for run in ({"run_id": "a"}, Run(run_id="b"), {"run_id": "a", "status": "completed"}):
        added = session.add_run(run)
        assert any(added is present for present in session.runs)
    assert [(run.run_id, run.status) for run in session.runs] == [("a", "completed"), ("b", None)]
    assert session.get_run("a") is session.runs[0]
    assert session.get_run("c") is None


@pytest.mark.parametrize("nameless", [{}, {"run_id": None}, {"run_id": ""}])
def test_a_run_without_a_name_gets_one_and_is_always_added(nameless: dict[str, Any]) -> None:
    """S0.4."""
    session = new_session("s1")
    first, second = (session.add_run(nameless) for _ in range(2))
    assert session.run_count == 2
    assert first.run_id != second.run_id
    assert first.body() == {"run_id": first.run_id}
    assert session.add_run(first) is first
    assert session.run_count == 2


def test_a_run_is_stored_as_it_was_given() -> None:
    given = {"run_id": "a", "status": None, "metrics": {"x": (1,)}, "messages": [{"role": "user"}], "body": 1}
    assert Run.model_validate(given).body() == given
    run = Run(run_id="a")
    assert run.body() == {"run_id": "a"}
    run.messages.append(Event(role="user", content="hi"))
    run.status = "completed"
    assert run.body() == {"run_id": "a", "status": "completed", "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(ValidationError):
        Run.model_validate({"run_id": 5})


def test_a_summary_has_the_numbers_of_its_moment() -> None:
    """S0.8."""
    session = new_session("s1")
    session.add_run({"usage": {"total_tokens": 5}})
    summary = session.generate_summary("short")
    session.add_run({"usage": {"total_tokens": 7}})
    assert session.summary is summary
    assert (summary.content, summary.run_count, summary.total_tokens, summary.source) == ("short", 1, 5, None)
    assert session.calculate_total_tokens() == 12


async def test_a_model_writes_the_summary() -> None:
    """S0.30."""
    session = new_session("s1")
    session.add_run({"messages": [{"role": "user", "content": "a loaf and a loaf"}]})
    before = session.updated_at
    assert await session.generate_ai_summary(Model("loaves")) is session.summary
    assert session.summary is not None
    assert (session.summary.content, session.summary.source) == ("loaves: 2", "model")
    assert session.updated_at > before
    await session.generate_ai_summary(Model(RuntimeError("no")))
    assert session.summary.source == "fallback"
    assert session.run_count == 1


def test_metrics_are_those_of_its_runs() -> None:
    """S0.32."""
    session = new_session("s1")
    assert session.calculate_metrics() == SessionMetrics()
    session.add_run({"status": "completed", "usage": {"total_tokens": 5}})
    session.add_run({"status": "failed"})
    metrics = session.calculate_metrics()
    assert (metrics.total_runs, metrics.total_tokens, metrics.success_rate) == (2, 5, 0.5)
