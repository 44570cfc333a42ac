"""The metrics of a session's runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from math import inf, nan
from typing import Any

import pytest

from session_adapter import SessionMetrics
from session_adapter.metrics import metrics_of, seconds_of, succeeded
from session_adapter.models import Run

DONE = {"status": "completed"}
TEN = datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_without_runs_everything_is_0() -> None:
    """S0.32: no division by zero."""
    metrics = metrics_of([])
    assert metrics == SessionMetrics(total_runs=0, total_tokens=0, avg_response_time=timedelta(), success_rate=0.0)


@pytest.mark.parametrize(
    ("runs", "average", "rate"),
    [
        ([DONE | {"duration": 2}, DONE | {"duration": 4}], 3, 1.0),
        ([{"status": "ERROR", "duration": 1}, {"status": "failed", "duration": 3}], 2, 0.0),
        ([DONE | {"duration": 4}, DONE, DONE | {"duration": None}, DONE | {"duration": "9"}], 4, 1.0),
        ([{"status": "PAUSED", "duration": 1}, DONE], 1, 0.5),
        ([DONE | {"error": "quota"}, DONE | {"error": None}, DONE | {"error": ""}, DONE | {"error_code": 429}], 0, 0.5),
        ([{}, {"status": None}, {"status": 5}, DONE], 0, 0.25),
        ([DONE, {"status": "RUNNING"}, {"status": "CANCELLED"}, {"status": "Completed"}], 0, 0.5),
        (
            [DONE | {"duration": nan}, DONE | {"duration": inf}, DONE | {"duration": -3}, DONE | {"duration": 0.5}],
            0.5,
            1,
        ),
    ],
)
def test_metrics_of_runs(runs: list[dict[str, Any]], average: float, rate: float) -> None:
    """S0.32: runs without timing do not distort the average; a run succeeds when it completed without an error."""
    metrics = metrics_of(runs)
    assert metrics.total_runs == len(runs)
    assert metrics.avg_response_time == timedelta(seconds=average)
    assert metrics.success_rate == rate


@pytest.mark.parametrize(
    ("run", "seconds"),
    [
        ({"metrics": {"duration": 0.25, "time_to_first_token": 9}}, 0.25),
        ({"metrics": {"time": [1.5, 0.5]}}, 2.0),
        ({"metrics": {"time": []}}, None),
        ({"metrics": {"time": ["x", [1.0], True]}}, None),
        ({"metrics": {"duration": None}, "duration": 3}, 3.0),
        ({"duration": timedelta(seconds=5)}, 5.0),
        ({"duration": 0}, 0.0),
        ({"duration": True}, None),
        ({"duration": 10**400}, None),
        ({"response": {"metrics": {"time": [0.75]}}}, 0.75),
        ({"started_at": "2024-05-15T20:00:00Z", "completed_at": "2024-05-15T20:00:01.341213Z"}, 1.341213),
        ({"created_at": 1715803200, "completed_at": 1715803203}, 3.0),
        ({"created_at": 1715803200, "started_at": 1715803202, "completed_at": 1715803203}, 1.0),
        ({"started_at": "2024-05-15T20:00:00", "completed_at": "2024-05-15T20:00:02"}, 2.0),
        ({"started_at": "2024-05-15T20:00:00", "completed_at": "2024-05-15T20:00:02Z"}, None),
        ({"started_at": "2024-05-15T20:00:05Z", "completed_at": "2024-05-15T20:00:00Z"}, None),
        ({"started_at": "0001-01-01T00:00:00Z", "completed_at": "2024-05-15T20:00:00Z"}, None),
        ({"started_at": "2024-05-15T20:00:00Z", "completed_at": "0001-01-01T00:00:00Z"}, None),
        ({"started_at": 0, "completed_at": 1715803203}, None),
        ({"started_at": "soon", "completed_at": nan}, None),
        ({"started_at": TEN, "completed_at": TEN + timedelta(seconds=7)}, 7.0),
        ({"started_at": TEN, "completed_at": TEN}, 0.0),
        ({"created_at": 1715803200}, None),
        ({"metrics": "fast", "messages": "none"}, None),
    ],
)
def test_how_long_a_run_took(run: dict[str, Any], seconds: float | None) -> None:
    """S0.32."""
    assert seconds_of(run) == seconds


def test_messages_tell_how_long_their_run_took_where_it_does_not() -> None:
    """Runs of ADK are their messages alone."""
    messages = [{"role": "user", "timestamp": TEN.isoformat()}, {"role": "tool"}, None]
    last = {"role": "assistant", "timestamp": (TEN + timedelta(seconds=4)).isoformat()}
    old = {"role": "user", "timestamp": 1, "from_history": True}
    assert seconds_of({"messages": [old, *messages, last]}) == 4.0
    assert seconds_of({"messages": [old, *messages, last], "metrics": {"duration": 1.0}}) == 1.0
    # Whole seconds, as agno keeps them, say nothing of a run within one.
    assert seconds_of({"messages": [{"created_at": 1715803200}, {"created_at": 1715803200}]}) is None


def test_a_run_whose_answer_stands_apart_is_asked_there_too() -> None:
    assert succeeded({"message": {}, "response": {"status": "COMPLETED"}})
    assert not succeeded({"message": {}, "response": {"status": "COMPLETED", "error": "x"}})


def test_metrics_are_numbers_within_their_ranges_and_go_through_json() -> None:
    """S0.31."""
    metrics = metrics_of([Run.model_validate(DONE | {"duration": 1.5, "usage": {"total_tokens": 3}}), {"status": "x"}])
    assert type(metrics.avg_response_time) is timedelta
    written = json.loads(metrics.model_dump_json())
    assert written == {"total_runs": 2, "total_tokens": 3, "avg_response_time": 1.5, "success_rate": 0.5}
    assert SessionMetrics.model_validate(written) == metrics


def test_times_that_no_timedelta_holds_are_none() -> None:
    assert metrics_of([{"duration": timedelta.max.total_seconds()}, {"duration": 1e12}]).avg_response_time.days > 10**7
    assert metrics_of([{"duration": 1.1e12}]).avg_response_time == timedelta()
