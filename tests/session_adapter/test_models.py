"""The models keep what they are given, and nothing is shared between two of them."""

from __future__ import annotations

import logging
import warnings
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from session_adapter.models import Event, SessionData, SessionMetadata
from tests.session_adapter.documents import sample

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)


def metadata(**more: Any) -> SessionMetadata:
    return SessionMetadata(session_id="s1", created_at=NOON, updated_at=NOON, **more)


def test_session_metadata_has_its_fields_and_defaults() -> None:
    """S2.35"""
    assert list(SessionMetadata.model_fields) == [
        *("session_id", "workflow_config_path", "status", "created_at", "updated_at", "user_id", "tags")
    ]
    assert metadata().model_dump() == {
        "session_id": "s1",
        "workflow_config_path": None,
        "status": "unknown",
        "created_at": NOON,
        "updated_at": NOON,
        "user_id": None,
        "tags": [],
    }


@pytest.mark.parametrize("missing", ["session_id", "created_at", "updated_at"])
def test_id_and_times_are_required(missing: str) -> None:
    given = metadata().model_dump()
    del given[missing]
    with pytest.raises(ValidationError, match=missing):
        SessionMetadata.model_validate(given)


def test_extra_keys_are_kept_in_both() -> None:
    """S2.35"""
    document = {"metadata": {**metadata().model_dump(), "owner": {"team": "ops"}}, "custom": [1, {"a": None}]}
    kept = SessionData.model_validate(document).model_dump()
    assert kept["metadata"]["owner"] == {"team": "ops"}
    assert kept["custom"] == [1, {"a": None}]


@pytest.mark.parametrize("status", ["active", "inactive", "completed", "failed", "unknown", "paused", "ARCHIVED"])
def test_any_status_is_returned_as_given_and_no_python_warning(status: str) -> None:
    """S2.36"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SessionMetadata.model_validate_json(metadata(status=status).model_dump_json()).status == status


def test_only_a_status_outside_the_vocabulary_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """S2.36"""
    with caplog.at_level(logging.WARNING):
        metadata(status="failed")
        assert not caplog.records
        metadata(status="paused")
    assert [vars(record)["status"] for record in caplog.records] == ["paused"]


def test_defaults_are_independent() -> None:
    """S2.37, T2.21"""
    one, other = metadata(), metadata()
    one.tags.append("vip")
    assert other.tags == []
    left, right = SessionData(metadata=one), SessionData(metadata=other)
    left.settings["a"] = left.workflow_state["b"] = left.thread_configs["c"] = 1
    assert (right.settings, right.workflow_state, right.thread_configs) == ({}, {}, {})
    first, second = Event(role="user"), Event(role="user")
    first.state_delta["cart"] = ["tea"]
    assert second.state_delta == {}


def test_an_old_document_comes_through_the_model_whole() -> None:
    """S2.37"""
    document = sample("g0")
    dumped = SessionData.model_validate(document).model_dump(mode="json")
    assert {key: value for key, value in dumped.items() if key != "metadata"} == {
        key: value for key, value in document.items() if key != "metadata"
    }
    assert datetime.fromisoformat(dumped["metadata"]["updated_at"]) == datetime(2025, 3, 1, 8, 19, 42, 250_000)


def test_an_event_has_the_flat_fields_of_every_format() -> None:
    assert list(Event.model_fields) == [
        *("seq", "index", "id", "role", "author", "content", "tool_calls", "tool_call_id", "name", "run_id"),
        *("timestamp", "usage", "status", "state_delta"),
    ]
    event = Event.model_validate({"role": "user", "content": [{"type": "text"}], "state_delta": {"a": 1}, "mood": "ok"})
    assert event.model_dump(exclude_defaults=True) == {
        "role": "user",
        "content": [{"type": "text"}],
        "state_delta": {"a": 1},
        "mood": "ok",
    }
    with pytest.raises(ValidationError):
        Event.model_validate({"content": "who said it?"})
