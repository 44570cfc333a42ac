"""Sessions as answers: items of a list, and the details of agent, team and workflow sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from session_api.tables import SessionRow, SessionType, StoredSession

Shown = dict[str, Any]


def list_item(row: SessionRow) -> Shown:
    """A session in a list, without what is null."""
    metrics = _metrics(row)
    return without_null(
        {
            "session_id": row.session_id,
            "session_name": name_of(row),
            "session_state": _state(row),
            "created_at": shown_time(row.created_at),
            "updated_at": shown_time(row.updated_at),
            "session_type": row.session_type,
            "user_id": row.user_id,
            "agent_id": row.agent_id,
            "team_id": row.team_id,
            "workflow_id": row.workflow_id,
            "session_summary": row.summary,
            "metrics": metrics,
            "total_tokens": _tokens(metrics),
            "metadata": labelled(row.metadata, row.agent_data)
            if row.session_type is SessionType.AGENT
            else row.metadata,
        }
    )


def detail(stored: StoredSession, shown_as: SessionType | None = None) -> Shown:
    """A session as the type that is asked for, its own unless said, with null where something is missing."""
    return _DETAILS[shown_as or stored.row.session_type](stored)


def _agent(stored: StoredSession) -> Shown:
    row, metrics = stored.row, _detail_metrics(stored.row)
    return {
        "user_id": row.user_id,
        "agent_session_id": row.session_id,
        "session_id": row.session_id,
        "session_name": name_of(row),
        "session_summary": row.summary,
        "session_state": _state(row),
        "agent_id": row.agent_id or None,
        "total_tokens": _tokens(metrics),
        "agent_data": row.agent_data,
        "metrics": metrics,
        "metadata": labelled(row.metadata, row.agent_data),
        "chat_history": stored.chat,
        **_times(row),
    }


def _team(stored: StoredSession) -> Shown:
    row, metrics = stored.row, _detail_metrics(stored.row)
    return {
        "session_id": row.session_id,
        "session_name": name_of(row),
        "user_id": row.user_id,
        "team_id": row.team_id,
        "session_summary": row.summary,
        "session_state": _state(row),
        "metrics": metrics,
        "team_data": row.team_data,
        "metadata": row.metadata,
        "chat_history": stored.chat,
        **_times(row),
        "total_tokens": _tokens(metrics),
    }


def _workflow(stored: StoredSession) -> Shown:
    row = stored.row
    workflow = row.workflow_data or {}
    return {
        "user_id": row.user_id,
        "workflow_id": row.workflow_id,
        "workflow_name": None,  # AgentOS never has one either: it is not among the columns
        "session_id": row.session_id,
        "session_name": name_of(row),
        "session_data": row.session_data or {},
        "session_state": _state(row),
        "workflow_data": workflow,
        "metadata": row.metadata or {},
        **_times(row),
    }


_DETAILS: Mapping[SessionType, Callable[[StoredSession], Shown]] = {
    SessionType.AGENT: _agent,
    SessionType.TEAM: _team,
    SessionType.WORKFLOW: _workflow,
}


def without_null(fields: Mapping[str, Any]) -> Shown:
    """*fields* without those that are null; null inside objects stays."""
    return {name: value for name, value in fields.items() if value is not None}


def name_of(row: SessionRow) -> str:
    """Its name, else what its history calls it."""
    return row.name if row.name is not None else row.shown_name or ""


def labelled(metadata: Mapping[str, Any] | None, agent_data: object) -> Shown | None:
    """*metadata* with the name of the framework, where the agent is one of another framework."""
    known = agent_data if isinstance(agent_data, Mapping) else {}
    label = known.get("sdk") or known.get("framework")
    if isinstance(label, str) and label:
        return {**(metadata or {}), "sdk": label}
    return None if metadata is None else dict(metadata)


def shown_time(moment: datetime | None) -> str | None:
    """*moment* in UTC, in whole seconds."""
    return None if moment is None else f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _times(row: SessionRow) -> Shown:
    return {"created_at": shown_time(row.created_at), "updated_at": shown_time(row.updated_at or row.created_at)}


def _state(row: SessionRow) -> Any:
    return (row.session_data or {}).get("session_state")


def _metrics(row: SessionRow) -> Shown | None:
    found = (row.session_data or {}).get("session_metrics")
    return found if isinstance(found, dict) else None


def _detail_metrics(row: SessionRow) -> Shown | None:
    return (_metrics(row) or {}) if row.session_data else None


def _tokens(metrics: Shown | None) -> Any:
    return (metrics or {}).get("total_tokens")
