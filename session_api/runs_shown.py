"""Runs as answers: whole ones of agents, teams and workflows, and previews."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC
from typing import Any

from session_adapter.timestamps import read_time
from session_api.sessions_shown import Shown, labelled
from session_api.tables import Run, SessionRow, SessionType
from session_api.told import run_input

STATUSES = ("CANCELLED", "COMPLETED", "ERROR", "PAUSED", "PENDING", "REGENERATED", "RUNNING")
_PREVIEW = 280
_GIVEN_MEDIA = ("images", "videos", "audios", "files")


def shown_run(run: Run, row: SessionRow) -> Shown | None:
    """A run of the session *row* in a list of its runs; None for one that such a session cannot have."""
    if row.session_type is SessionType.AGENT:
        return _agent_run(run, row)
    if row.session_type is SessionType.WORKFLOW and run.get("workflow_id") is not None:
        return _workflow_run(run)
    if row.session_type is SessionType.WORKFLOW and run.get("team_id") is not None:
        return _team_run(run)
    if run.get("agent_id") is not None:
        return _agent_run(run, row)
    return _team_run(run) if run.get("team_id") is not None else None


def single_run(run: Run, row: SessionRow) -> Shown:
    """A run that was asked for by its id."""
    if run.get("workflow_id") is not None:
        return _workflow_run(run)
    return _team_run(run) if run.get("team_id") is not None else _agent_run(run, row)


def preview(shown: Shown) -> Shown:
    """The short form of a run that is shown in a list."""
    return {
        "run_id": shown["run_id"],
        **{name: shown.get(name) for name in ("parent_run_id", "agent_id", "team_id", "workflow_id", "user_id")},
        "status": shown["status"],
        "run_input": _cut(shown["run_input"]),
        "content_preview": _cut(shown["content"]),
        "created_at": shown["created_at"],
    }


def selected(
    runs: list[Run], created_after: int | None, created_before: int | None, statuses: Collection[str]
) -> list[Run]:
    """The runs made between two times in seconds, both included, whose status is one of *statuses*, if any are given.

    A run that does not tell when it was made is between all times.
    """
    after = [run for run in runs if created_after is None or _seconds(run, created_after) >= created_after]
    before = [run for run in after if created_before is None or _seconds(run, created_before) <= created_before]
    return [run for run in before if not statuses or str(run.get("status") or "").upper() in statuses]


def _seconds(run: Run, otherwise: int) -> float:
    moment = read_time(run.get("created_at")).moment
    return otherwise if moment is None else moment.timestamp()


def _cut(content: Any) -> str | None:
    if content is None:
        return None
    return (content if isinstance(content, str) else json.dumps(content, default=str))[:_PREVIEW]


def _agent_run(run: Run, row: SessionRow) -> Shown:
    owner = (
        row.agent_data
        if row.session_type is SessionType.AGENT and run.get("agent_id") in (None, row.agent_id)
        else None
    )
    return {
        **_named(run, "agent_id"),
        "user_id": run.get("user_id", ""),
        **_answered(run),
        "metadata": labelled(_object(run.get("metadata")), owner),
        **_of_both(run),
    }


def _team_run(run: Run) -> Shown:
    return {**_named(run, "team_id"), "user_id": run.get("user_id"), **_answered(run), **_of_both(run)}


def _named(run: Run, component: str) -> Shown:
    return {
        "run_id": run.get("run_id", ""),
        "parent_run_id": run.get("parent_run_id", ""),
        component: run.get(component, ""),
    }


def _answered(run: Run) -> Shown:
    return {
        "status": _status(run),
        "cancellation_stage": run.get("cancellation_stage"),
        "run_input": run_input(run),
        "content": run.get("content", ""),
        "run_response_format": "text" if run.get("content_type", "str") == "str" else "json",
        **_reasoned(run),
        "metrics": run.get("metrics", {}),
    }


def _of_both(run: Run) -> Shown:
    given = run.get("input")
    media = given if isinstance(given, Mapping) else {}
    return {
        **{name: run.get(name) or None for name in ("messages", "tools", "events")},
        "created_at": _time(run.get("created_at")),
        **_found(run),
        "session_state": run.get("session_state"),
        **_media(run),
        "input_media": {name: media.get(name, []) for name in _GIVEN_MEDIA},
        **{name: run.get(name) for name in _FURTHER},
    }


_FURTHER = (
    "followups",
    "forked_from_run_id",
    "forked_from_message_index",
    "forked_from_session_id",
    "regenerated_from",
    "last_checkpoint_at_message_index",
)


def _workflow_run(run: Run) -> Shown:
    return {
        "run_id": run.get("run_id", ""),
        "run_input": run_input(run, is_workflow=True),
        "events": run.get("events", []),
        "workflow_id": run.get("workflow_id", ""),
        "user_id": run.get("user_id", ""),
        "content": run.get("content", ""),
        "content_type": run.get("content_type", ""),
        "status": _status(run, ""),
        "cancellation_stage": run.get("cancellation_stage"),
        "step_results": run.get("step_results", []),
        "step_executor_runs": run.get("step_executor_runs", []),
        **{name: run.get(name) for name in ("step_requirements", *_PAUSED)},
        "metrics": run.get("metrics", {}),
        "created_at": _time(run.get("created_at")),
        **_reasoned(run),
        **_found(run),
        **_media(run),
    }


_PAUSED = ("pause_kind", "paused_step_name", "paused_step_index")


def _reasoned(run: Run) -> Shown:
    return {
        "reasoning_content": run.get("reasoning_content", ""),
        "reasoning_steps": run.get("reasoning_steps", []),
    }


def _found(run: Run) -> Shown:
    return {
        "references": run.get("references", []),
        "citations": run.get("citations"),
        "reasoning_messages": run.get("reasoning_messages", []),
    }


def _media(run: Run) -> Shown:
    return {
        **{name: run.get(name, []) for name in ("images", "videos", "audio", "files")},
        "response_audio": run.get("response_audio"),
    }


def _status(run: Run, otherwise: str | None = None) -> Any:
    """A run's status in the spelling of AgentOS, where it is one that AgentOS knows."""
    found = run.get("status", otherwise)
    return found.upper() if isinstance(found, str) and found.upper() in STATUSES else found


def _object(value: object) -> Shown | None:
    return value if isinstance(value, dict) else None


def _time(told: object) -> str | None:
    moment = read_time(told).moment
    if moment is None:
        return None
    shown = moment.astimezone(UTC).isoformat(timespec="microseconds" if moment.microsecond else "seconds")
    return shown.replace("+00:00", "Z")
