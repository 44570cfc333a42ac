"""Bodies as types: what is taken in, and what the OpenAPI document says of answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from session_api.tables import SessionType

Object = dict[str, Any]
_RUNTIMES_OWN = frozenset({"agno_component_version", "agno_dispatch_chain", "agno_dispatch_depth"})


def _checked_summary(summary: Object) -> Object:
    """*summary* as it is stored: its time in the form of Python's ``isoformat``, null fields left out."""
    if unknown := summary.keys() - {"summary", "topics", "updated_at"}:
        raise PydanticCustomError("summary", "A summary has no field {field}", {"field": repr(min(unknown))})
    if not isinstance(summary.get("summary"), str):
        raise PydanticCustomError("summary", "A summary needs its text in the field 'summary'")
    topics = summary.get("topics")
    if topics is not None and not (isinstance(topics, list) and all(isinstance(topic, str) for topic in topics)):
        raise PydanticCustomError("summary", "The topics of a summary are a list of texts")
    return {name: value for name, value in (summary | _time_in(summary)).items() if value is not None}


def _time_in(summary: Object) -> Object:
    told = summary.get("updated_at")
    if told is None:
        return {}
    try:
        return {"updated_at": datetime.fromisoformat(told).isoformat()}
    except (TypeError, ValueError):
        raise PydanticCustomError("summary", "The time of a summary is ISO 8601 text") from None


def without_the_runtimes(metadata: Object) -> Object | None:
    """*metadata* without what the runtime of AgentOS owns; None where nothing else was in it."""
    if not _RUNTIMES_OWN & metadata.keys():
        return metadata
    return {name: value for name, value in metadata.items() if name not in _RUNTIMES_OWN} or None


Summary = Annotated[Object, AfterValidator(_checked_summary)]


class CreateSession(BaseModel):
    """A session to be made; fields that it does not know are left out."""

    session_id: str | None = Field(None, description="Generated where missing or empty")
    session_name: str | None = None
    session_state: Object | None = None
    metadata: Object | None = Field(None, description="Keys of AgentOS's runtime are left out")
    user_id: str | None = None
    agent_id: str | None = Field(None, description="Kept for the type agent")
    team_id: str | None = Field(None, description="Kept for the type team")
    workflow_id: str | None = Field(None, description="Kept for the type workflow")


class CreateSessionWithHistory(CreateSession):
    """A session to be made that may bring its history, as the setting SESSION_ACCEPT_HISTORY allows."""

    runs: list[Object] | None = Field(None, description="Whole runs, oldest first, as AgentOS stores them")
    summary: Summary | None = None


class UpdateSession(BaseModel):
    """What of a session is replaced, each field whole; what is null or missing stays."""

    session_name: str | None = None
    session_state: Object | None = None
    metadata: Object | None = Field(None, description="Keys of AgentOS's runtime are left out")
    summary: Summary | None = Field(None, description="summary, and if known topics and updated_at")


class DeleteSessions(BaseModel):
    """Sessions to be deleted. Ids alone decide; there are as many types as ids."""

    session_ids: list[str] = Field(min_length=1)
    session_types: list[SessionType] = Field(min_length=1)


# answers


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SessionItem(_Answer):
    """A session in a list."""

    session_id: str
    session_name: str
    session_state: Object | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    session_type: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    team_id: str | None = None
    workflow_id: str | None = None
    session_summary: Object | None = None
    metrics: Object | None = None
    total_tokens: int | None = None
    metadata: Object | None = None


class PageMeta(_Answer):
    """Where a page stands."""

    page: int
    limit: int
    total_pages: int
    total_count: int
    search_time_ms: float = Field(0, description="Always 0")


class SessionPage(_Answer):
    """A page of sessions."""

    data: list[SessionItem]
    meta: PageMeta


class AgentSession(_Answer):
    """A session of an agent."""

    user_id: str | None = None
    agent_session_id: str
    session_id: str
    session_name: str
    session_summary: Object | None = None
    session_state: Object | None = None
    agent_id: str | None = None
    total_tokens: int | None = None
    agent_data: Object | None = None
    metrics: Object | None = None
    metadata: Object | None = None
    chat_history: list[Object] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class TeamSession(_Answer):
    """A session of a team."""

    session_id: str
    session_name: str
    user_id: str | None = None
    team_id: str | None = None
    session_summary: Object | None = None
    session_state: Object | None = None
    metrics: Object | None = None
    team_data: Object | None = None
    metadata: Object | None = None
    chat_history: list[Object] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    total_tokens: int | None = None


class WorkflowSession(_Answer):
    """A session of a workflow."""

    user_id: str | None = None
    workflow_id: str | None = None
    workflow_name: str | None = None
    session_id: str
    session_name: str
    session_data: Object | None = None
    session_state: Object | None = None
    workflow_data: Object | None = None
    metadata: Object | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


SessionDetail = AgentSession | TeamSession | WorkflowSession


class _AnyRun(_Answer):
    run_id: str
    user_id: str | None = None
    status: str | None = None
    cancellation_stage: str | None = None
    run_input: str | None = None
    content: Any = None
    metrics: Object | None = None
    events: list[Object] | None = None
    created_at: datetime | None = None
    reasoning_content: str | None = None
    reasoning_steps: list[Object] | None = None
    references: list[Object] | None = None
    citations: Object | None = None
    reasoning_messages: list[Object] | None = None
    images: list[Object] | None = None
    videos: list[Object] | None = None
    audio: list[Object] | None = None
    files: list[Object] | None = None
    response_audio: Object | None = None


class _ComponentRun(_AnyRun):
    parent_run_id: str | None = None
    run_response_format: str | None = None
    messages: list[Object] | None = None
    tools: list[Object] | None = None
    session_state: Object | None = None
    input_media: Object | None = None
    followups: list[str] | None = None
    forked_from_run_id: str | None = None
    forked_from_message_index: int | None = None
    forked_from_session_id: str | None = None
    regenerated_from: str | None = None
    last_checkpoint_at_message_index: int | None = None


class AgentRun(_ComponentRun):
    """A run of an agent."""

    agent_id: str | None = None
    metadata: Object | None = None


class TeamRun(_ComponentRun):
    """A run of a team."""

    team_id: str | None = None


class WorkflowRun(_AnyRun):
    """A run of a workflow."""

    workflow_id: str | None = None
    content_type: str | None = None
    step_results: list[Object] | None = None
    step_executor_runs: list[Object] | None = None
    step_requirements: list[Object] | None = None
    pause_kind: str | None = None
    paused_step_name: str | None = None
    paused_step_index: int | None = None


ShownRun = AgentRun | TeamRun | WorkflowRun


class RunPreview(_Answer):
    """A run in short: input and content are cut at 280 characters."""

    run_id: str
    parent_run_id: str | None = None
    agent_id: str | None = None
    team_id: str | None = None
    workflow_id: str | None = None
    user_id: str | None = None
    status: str | None = None
    run_input: str | None = None
    content_preview: str | None = None
    created_at: datetime | None = None


class Refusal(BaseModel):
    """Why something was not done."""

    detail: str
