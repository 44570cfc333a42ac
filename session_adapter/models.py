"""The pydantic models of sessions; keys they do not know survive."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from unified_storage.record import new_id

STATUSES = frozenset({"active", "inactive", "completed", "failed", "unknown"})

log = logging.getLogger(__name__)


class Model(BaseModel):
    """What the models here share: unknown keys are kept, and bytes are base64 in the JSON form."""

    model_config = ConfigDict(extra="allow", ser_json_bytes="base64")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a moment lies within the years 1 to 9999 in UTC") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""An aware time, kept in UTC; a naive one is refused, since it names no moment."""


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


class _Sparse(Model):
    """Own fields that are None are left out of the JSON form."""

    model_config = ConfigDict(defer_build=True)

    @model_serializer(mode="wrap")
    def _without_none(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        own = type(self).model_fields
        return {name: value for name, value in written(self).items() if value is not None or name not in own}


class WatchedRun(_Sparse):
    """What a summary knows of one run that it covers, so that what is added to the run later is noticed.

    Attributes:
        run_id: the run's; None for one that has none.
        seq: of its entry in the history, or of its last message there; None in a summary of runs in memory.
        messages: how many of its messages are covered.
        digest: of their texts.
        tokens: that it had used by then.
    """

    run_id: str | None = None
    seq: int | None = None
    messages: int = 0
    digest: str = ""
    tokens: int = 0


class SummaryBoundary(_Sparse):
    """How far a summary reaches: what is behind it, no model has seen.

    Attributes:
        seq: the number of the last entry of the history that is covered; None for a summary of runs in memory.
        run_id: the last run covered.
        watched: the newest runs covered, oldest first.
    """

    seq: int | None = None
    run_id: str | None = None
    watched: list[WatchedRun] = Field(default_factory=list)


class SessionSummary(_Sparse):
    """What was said in a session, in short. Empty optional fields are left out of the JSON form.

    Attributes:
        run_count, total_tokens: of the runs that it covers.
        created_at: when it was written, in UTC; None where its writer does not tell.
        source: ``model``, or ``fallback`` where a model failed; None for one that was handed in.
        boundary: how far it reaches, where that is known.
        base: of a fallback: the last content that was none. The boundary is that one's.
        error: why the model's answer is missing, or missing in part.
    """

    content: str
    run_count: int = 0
    total_tokens: int = 0
    created_at: Moment | None = Field(default_factory=lambda: datetime.now(UTC))
    source: str | None = None
    boundary: SummaryBoundary | None = None
    base: str | None = None
    error: str | None = None


class SessionMetrics(Model):
    """How the runs of a session went; ``avg_response_time`` is seconds in the JSON form."""

    model_config = ConfigDict(ser_json_timedelta="float", defer_build=True)

    total_runs: int = Field(default=0, ge=0)
    total_tokens: int = Field(default=0, ge=0)
    avg_response_time: timedelta = Field(default=timedelta(), ge=timedelta())
    success_rate: float = Field(default=0.0, ge=0, le=1)


M = TypeVar("M", bound=BaseModel)


def of_known(
    model: type[M],
    values: dict[str, Any],
    further: dict[str, Any] | None,
    given: set[str],
    private: dict[str, Any] | None,
) -> M:
    """A *model* whose values have the types of its fields for certain: it is made without a look at them.

    As pickle makes it, which is several times as fast as reading it, and as ``model_construct``.

    Args:
        values: of all fields, in their order.
        further: of keys that the model does not know; None where it takes none.
        given: the names among them that are no defaults.
        private: of its private attributes, all of them; None where it has none.
    """
    made = model.__new__(model)
    made.__setstate__(
        {
            "__dict__": values,
            "__pydantic_extra__": further,
            "__pydantic_fields_set__": given,
            "__pydantic_private__": private,
        }
    )
    return made


def mapping_of(thing: Mapping[str, Any] | BaseModel) -> Mapping[str, Any]:
    """A run or an event as a mapping, whether it came as one or as a model."""
    if isinstance(thing, Run):
        return thing.body()
    return thing.model_dump(warnings=False) if isinstance(thing, BaseModel) else thing


class Run(Model):
    """One run of an agent, a team or a workflow in a session, as its writer wrote it.

    Attributes:
        run_id: what names it in its session: adding a run under the same name replaces it. One without gets a new one
            when it is made.
        status: how far it is, ``completed`` where it went well.
        input, content: what it was asked, and what came of it.
        messages: what was said in it, oldest first.
        usage, metrics: the tokens that it used, how long it took.
        error: what went wrong in it.
    """

    model_config = ConfigDict(defer_build=True)

    run_id: str = Field(default_factory=new_id)
    status: Any = None
    input: Any = None
    content: Any = None
    messages: Any = Field(default_factory=list)
    usage: Any = None
    metrics: Any = None
    error: Any = None
    created_at: Any = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("run_id"):
            return given
        return {**given, "run_id": new_id()}

    def body(self) -> dict[str, Any]:
        """What is stored of it: the fields that it was given, by name; parts of it are shared."""
        given = {name: value for name, value in self.__dict__.items() if name in self.model_fields_set or value}
        if isinstance(self.messages, list) and self.messages:
            given["messages"] = [_plain(message) for message in self.messages]
        return given | (self.model_extra or {})


def _plain(message: Any) -> Any:
    return message.model_dump(exclude_unset=True) if isinstance(message, BaseModel) else message
