"""What agno's ``RedisDb`` sends for each session and each run, sent together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agno.db.base import SessionType
from agno.db.redis.utils import create_index_entries, generate_redis_key, serialize_data
from agno.session import AgentSession

from benchmarks.systems.seeding import chunks

FIELDS = (
    *("session_id", "session_type", "agent_id", "team_id", "workflow_id", "user_id"),
    *("agent_data", "team_data", "workflow_data", "session_data", "summary", "metadata", "created_at", "updated_at"),
)
"""Of a session, in their order."""
EMPTY = {"team_data": None, "workflow_data": None}
"""What the session of an agent has not."""
OF_SESSION = ["user_id", "agent_id", "session_type"]
OF_RUN = ["session_id", "user_id", "agent_id", "team_id", "workflow_id", "run_type", "status"]
"""The fields that agno indexes."""


def store_sessions(db: Any, sessions: Sequence[AgentSession]) -> None:
    for chunk in chunks(sessions):
        pipeline = db.redis_client.pipeline(transaction=False)
        for session in chunk:
            values = {**EMPTY, **session.to_dict(include_runs=False), "session_type": SessionType.AGENT.value}
            record = {name: values[name] for name in FIELDS}
            _store(db, pipeline, "sessions", session.session_id, record, OF_SESSION)
        pipeline.execute()


def store_runs(db: Any, session_id: str, rows: Sequence[dict[str, Any]]) -> None:
    for chunk in chunks(rows):
        pipeline = db.redis_client.pipeline(transaction=False)
        for row in chunk:
            pipeline.zadd(db._runs_by_session_index_key(session_id), {row["run_id"]: float(row["run_index"])})
            _store(db, pipeline, "runs", row["run_id"], row, OF_RUN)
        pipeline.execute()


def _store(db: Any, pipeline: Any, table: str, id: str, record: dict[str, Any], indexed: list[str]) -> None:
    pipeline.set(generate_redis_key(db.db_prefix, table, id), serialize_data(record), ex=db.expire)
    create_index_entries(pipeline, db.db_prefix, table, id, record, indexed)
