"""What agno itself finds in one of its databases, as JSON: session id -> type, name, state, summary and messages.

Run by an interpreter that has agno: ``python agno_sessions.py URL [TABLE ...]``, a URL as SQLAlchemy takes it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from agno.db.base import SessionType
from agno.db.postgres import PostgresDb
from agno.db.sqlite import SqliteDb

TABLES = ("session_table", "runs_table")


def main(url: str, tables: list[str]) -> None:
    db = opened(url, dict(zip(TABLES, tables, strict=False)))
    print(json.dumps({session.session_id: facts(session) for session in sessions(db)}, default=str))


def opened(url: str, tables: dict[str, str]) -> Any:
    if url.startswith("sqlite"):
        return SqliteDb(db_url=url, **tables)
    schema = tables.get("session_table", "ai.").rpartition(".")[0] or "ai"
    bare = {name: table.rpartition(".")[2] for name, table in tables.items()}
    return PostgresDb(db_url=url, db_schema=schema, **bare)


def sessions(db: Any) -> list[Any]:
    """Every session, each as its own type."""
    found = [session for kind in SessionType for session in db.get_sessions(session_type=kind)]
    return [db.get_session(session_id=session.session_id, session_type=type_of(session)) for session in found]


def type_of(session: Any) -> Any:
    return SessionType(type(session).__name__.removesuffix("Session").lower())


def facts(session: Any) -> dict[str, Any]:
    data = session.session_data or {}
    summary = getattr(session, "summary", None)
    return {
        "type": type_of(session).value,
        "user_id": session.user_id,
        "name": data.get("session_name"),
        "state": data.get("session_state"),
        "summary": None if summary is None else summary.summary,
        "runs": [run.run_id for run in session.runs or []],
        "messages": [plain(message) for message in messages(session)],
    }


def messages(session: Any) -> list[Any]:
    """The messages of the conversation: as agno builds its history from them, those of a workflow from its steps."""
    if type_of(session) is not SessionType.WORKFLOW:
        return list(session.get_messages(skip_statuses=[], skip_roles=["system"]))
    runs = [step for run in session.runs or [] for step in run.step_executor_runs or []]
    return list(session.get_messages_from_agent_runs(runs, skip_roles=["system"]))


def plain(message: Any) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        "tool_calls": message.tool_calls,
        "tool_call_id": message.tool_call_id,
        "name": message.tool_name or message.name,
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
