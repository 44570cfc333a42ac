"""Sessions and events as agno has them, and what it stores for them, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agno.db.base import SessionType
from agno.db.redis.utils import create_index_entries, generate_redis_key, serialize_data
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session import AgentSession

from benchmarks.system import Event, Session
from benchmarks.systems.seeding import chunks, role_and_text

AGENT = "assistant"
FIELDS = (
    *("session_id", "session_type", "agent_id", "team_id", "workflow_id", "user_id"),
    *("agent_data", "team_data", "workflow_data", "session_data", "summary", "metadata", "created_at", "updated_at"),
)
"""Of a session on Redis, in their order."""
EMPTY = {"team_data": None, "workflow_data": None}
"""What the session of an agent has not."""
OF_SESSION = ["user_id", "agent_id", "session_type"]
OF_RUN = ["session_id", "user_id", "agent_id", "team_id", "workflow_id", "run_type", "status"]
"""The fields that agno indexes."""


def name_of(topic: str) -> str:
    """The topic as a session's name: no other name has it as a part."""
    return f"[{topic}]"


def agent_session(session: Session, moment: int) -> AgentSession:
    return AgentSession(
        session_id=session.id,
        agent_id=AGENT,
        user_id=session.user,
        session_data={"session_name": name_of(session.topic), "session_state": dict(session.state)},
        metadata={"topic": session.topic},
        created_at=moment,
        updated_at=moment,
    )


def run_of(session_id: str, user_id: str, event: Event, moment: int) -> RunOutput:
    role, text = role_and_text(event)
    return RunOutput(
        run_id=event.key,
        agent_id=AGENT,
        session_id=session_id,
        user_id=user_id,
        messages=[Message(id=event.key, role=role, content=text, created_at=moment)],
        status=RunStatus.completed,
        created_at=moment,
    )


def session_row(session: AgentSession) -> dict[str, Any]:
    """What ``upsert_session`` writes; it leaves the columns of teams and workflows out."""
    values = session.to_dict(include_runs=False)
    names = ("session_id", "agent_id", "user_id", "agent_data", "session_data", "summary", "metadata")
    moments = {"created_at": session.created_at, "updated_at": session.updated_at}
    return {name: values[name] for name in names} | {"session_type": SessionType.AGENT.value} | moments


def store_sessions(db: Any, sessions: Sequence[AgentSession]) -> None:
    """What ``RedisDb.upsert_session`` sends."""
    for chunk in chunks(sessions):
        pipeline = db.redis_client.pipeline(transaction=False)
        for session in chunk:
            values = {**EMPTY, **session.to_dict(include_runs=False), "session_type": SessionType.AGENT.value}
            record = {name: values[name] for name in FIELDS}
            _store(db, pipeline, "sessions", session.session_id, record, OF_SESSION)
        pipeline.execute()


def store_runs(db: Any, session_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """What ``RedisDb.upsert_run`` sends."""
    for chunk in chunks(rows):
        pipeline = db.redis_client.pipeline(transaction=False)
        for row in chunk:
            pipeline.zadd(db._runs_by_session_index_key(session_id), {row["run_id"]: float(row["run_index"])})
            _store(db, pipeline, "runs", row["run_id"], row, OF_RUN)
        pipeline.execute()


def _store(db: Any, pipeline: Any, table: str, id: str, record: dict[str, Any], indexed: list[str]) -> None:
    pipeline.set(generate_redis_key(db.db_prefix, table, id), serialize_data(record), ex=db.expire)
    create_index_entries(pipeline, db.db_prefix, table, id, record, indexed)
