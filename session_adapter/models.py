"""The pydantic models of sessions; keys they do not know survive."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

STATUSES = frozenset({"active", "inactive", "completed", "failed", "unknown"})

log = logging.getLogger(__name__)


class Model(BaseModel):
    """What the models here share: unknown keys are kept."""

    model_config = ConfigDict(extra="allow")


class SessionMetadata(Model):
    """The ``metadata`` of a :class:`SessionData` document.

    ``status`` is one of :data:`STATUSES`; other texts are kept as they are, and logged. Times are kept as given: a
    naive one stays naive.
    """

    session_id: str
    workflow_config_path: str | None = None
    status: str = "unknown"
    created_at: datetime
    updated_at: datetime
    user_id: str | None = None
    tags: list[str] = Field(default_factory=list)

    @field_validator("status")
    @classmethod
    def _name_an_odd_status(cls, status: str) -> str:
        if status not in STATUSES:
            log.warning("session status outside the vocabulary", extra={"status": status})
        return status


class SessionData(Model):
    """The document of the old design: what a session is, and the settings and state it runs with."""

    metadata: SessionMetadata
    thread_configs: dict[str, Any] = Field(default_factory=dict)
    workflow_state: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)


class Event(Model):
    """One message, call, result or note of a session's history, in the flat form every format is shown in.

    Attributes:
        seq: place of its entry in the log, from 1; None before it is stored.
        index: place among the messages of its entry, from 0, where that entry is a whole run.
        id: the writer's own id of it; where given, storing it again changes nothing.
        role: ``user``, ``assistant``, ``tool``, ``system``, ``unknown``, or the writer's own.
        author: who of the participants spoke, where the role does not say it.
        content: text, a list of parts, or None.
        tool_calls: the calls in the form they were written in.
        tool_call_id, name: of a tool's result: which call, which tool.
        timestamp: when it was said; None when its writer kept no time.
        state_delta: keys of the session's state that it changes.
    """

    seq: int | None = None
    index: int | None = None
    id: str | None = None
    role: str
    author: str | None = None
    content: Any = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    run_id: str | None = None
    timestamp: datetime | None = None
    usage: dict[str, Any] | None = None
    status: str | None = None
    state_delta: dict[str, Any] = Field(default_factory=dict)
