"""How many tokens runs used, in the forms that real writers count them in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from session_adapter.models import Run
from session_adapter.usage import tokens_of, tokens_used

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7, "prompt_tokens": 1, "completion_tokens": 2}, 7),
        ({"total_tokens": 0, "prompt_tokens": 1, "completion_tokens": 2}, 3),
        ({"total_tokens": None, "input_tokens": 4, "output_tokens": 5}, 9),
        ({"prompt_tokens": 4}, 4),
        ({"output_tokens": 5}, 5),
        ({"total_tokens": "12", "prompt_tokens": 5, "completion_tokens": "x"}, 5),
        ({"total_tokens": -12, "prompt_tokens": -1, "completion_tokens": 3}, 3),
        ({"total_tokens": NAN, "prompt_tokens": INFINITY, "completion_tokens": 3.0}, 3),
        ({"total_tokens": True}, 0),
        ({"total_tokens": {"value": 3}}, 0),
        ({"prompt_token_count": 922, "candidates_token_count": 22, "total_token_count": 944}, 944),
        (
            {"input_tokens": [1002, 10], "output_tokens": [34, 2], "total_tokens": [1036, 12], "prompt_tokens": [0]},
            1048,
        ),
        ({"total_tokens": [5, [6], "7", None]}, 5),
        ({"total_tokens": 10**30}, 10**30),
        ({}, 0),
        (None, 0),
        ("100", 0),
        ([100], 0),
        (100, 0),
    ],
)
@pytest.mark.parametrize("place", ["usage", "metrics", "usage_metadata"])
def test_the_total_counts_where_it_is_above_0_else_prompt_and_completion(usage: Any, tokens: int, place: str) -> None:
    """S0.7, T0.11: what is missing, null or malformed counts 0."""
    assert tokens_of({"run_id": "r", place: usage}) == tokens


@pytest.mark.parametrize(
    ("run", "tokens"),
    [
        ({"metadata": {"usage": {"total_tokens": 900}}}, 900),
        ({"response_metadata": {"token_usage": {"total_tokens": 3}}}, 3),
        ({"total_tokens": 4}, 4),
        ({"usage": {"total_tokens": 0}, "metrics": {"total_tokens": 5}}, 5),
        ({"metadata": ["usage"], "usage": None}, 0),
        ({"message": {}, "response": {"metrics": {"input_tokens": [3], "output_tokens": [4]}}}, 7),
        ({"metrics": {"steps": {"answer": {"metrics": {"total_tokens": 6}}, "odd": 5}, "duration": 0.1}}, 6),
        ({"metrics": {"steps": [1]}}, 0),
        ({"step_executor_runs": [{"metrics": {"total_tokens": 6}}, None, {"metrics": {"total_tokens": 1}}]}, 7),
        ({"metrics": {"total_tokens": 2}, "messages": [{"metrics": {"total_tokens": 9}}]}, 2),
        ({"messages": [{"usage": {"total_tokens": 9}}, {"metrics": {"total_tokens": 1}}, "text", None]}, 10),
        ({"messages": [{"usage": {"total_tokens": 9}, "from_history": True}]}, 0),
        ({"messages": "none"}, 0),
        ({"metrics": {"total_tokens": 5}, "member_responses": [{"metrics": {"total_tokens": 3}}]}, 8),
    ],
)
def test_usage_is_found_where_writers_put_it(run: dict[str, Any], tokens: int) -> None:
    """S0.7."""
    assert tokens_of(run) == tokens


def test_a_run_listed_beside_the_one_that_holds_it_counts_once() -> None:
    member = {"run_id": "m", "parent_run_id": "t", "metrics": {"total_tokens": 3}}
    team = {"run_id": "t", "metrics": {"total_tokens": 5}, "member_responses": [member]}
    assert tokens_used([team, member]) == 8
    assert tokens_used([{**team, "member_responses": []}, member]) == 8
    assert tokens_used([]) == 0


def test_models_are_counted_as_mappings_are() -> None:
    run = Run.model_validate({"run_id": "r", "metrics": {"total_tokens": 5}})
    assert tokens_used([run, {"run_id": "q", "usage": {"total_tokens": 1}}]) == 6


# real stores


def test_what_agno_3_stored_adds_up_to_what_it_counted_itself(fixtures_dir: Path) -> None:
    counted = []
    for session_id, data in _rows(
        fixtures_dir / "peers/agno3/agno.db", "SELECT session_id, session_data FROM agno_sessions"
    ):
        of_session = "SELECT run_data FROM agno_runs WHERE session_id = ?"
        runs = [json.loads(run) for (run,) in _rows(fixtures_dir / "peers/agno3/agno.db", of_session, session_id)]
        told = json.loads(data)["session_metrics"]["total_tokens"]
        assert tokens_used(runs) == told > 0
        counted.append(session_id)
    assert len(counted) == 20


def test_what_agno_1_stored_adds_up_to_what_it_counted_itself(fixtures_dir: Path) -> None:
    counted = 0
    for table in ("agent_sessions", "team_sessions"):
        for data, memory in _rows(fixtures_dir / "peers/agno1/agno1.db", f"SELECT session_data, memory FROM {table}"):
            told = json.loads(data)["session_metrics"]["total_tokens"]
            assert tokens_used(json.loads(memory)["runs"]) == told > 0
            counted += 1
    assert counted == 20


def _rows(file: Path, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)
    try:
        yield from connection.execute(statement, values)
    finally:
        connection.close()
