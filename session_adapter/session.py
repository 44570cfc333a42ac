"""``Session``: one session as a typed object, whatever the form of its document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from session_adapter.frozen import thawed
from session_adapter.identity import SessionId, SessionKey, UserKey
from session_adapter.models import Event, Model, Moment, Run, SessionMetrics, SessionSummary
from session_adapter.usage import tokens_used
from unified_storage.errors import StorageValidationError

if TYPE_CHECKING:
    from session_adapter.answering import SummaryModel

__all__ = ["Run", "Session", "SessionMetrics", "SessionSummary", "Shown", "new_session"]

_ALWAYS = frozenset({"session_id", "created_at", "updated_at"})
_TICK = timedelta(microseconds=1)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)  # not frozen: one is made for each session of a page, and that takes three times as long
class Shown:
    """What of a stored session its holder has seen, so that a write changes no more than he did. Nobody changes it.

    Attributes:
        stored_id, created_at, version: which record it was, and how old.
        user: whose it is where a ``SessionKey`` names it; None for a plain session.
        document: the document's part of the model as it was shown, further keys too: frozen, since few are written.
        levels: what was shown in the state but belongs to the app or the user.
        runs: the digest of each run shown, by run id.
    """

    stored_id: str
    created_at: datetime
    version: int
    user: UserKey | None
    document: bytes
    levels: Mapping[str, Any]
    runs: Mapping[str, bytes]

    @property
    def fields(self) -> dict[str, Any]:
        """What *document* holds, anew."""
        return thawed(self.document)


class Session(Model):
    """One session. What it does not know of a document stands in it under further keys.

    In the JSON form, fields that are empty are left out, but for ``session_id`` and the two times; values that JSON has
    no type for are texts there: bytes in a state as base64. Two sessions are equal when all they hold is, wherever they
    come from.

    Attributes:
        kind: ``agent``, ``team`` or ``workflow``.
        state: what the session remembers; any JSON, and what a storage keeps besides.
        runs: in the order of their first messages.
        created_at, updated_at: aware, in UTC; now unless given, and the storage's once it is stored.
        events: the history, message by message, where it was asked for.
    """

    model_config = ConfigDict(defer_build=True)

    session_id: str
    app_name: str | None = None
    kind: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    workflow_id: str | None = None
    name: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    state: dict[str, Any] = Field(default_factory=dict)
    agent_data: dict[str, Any] = Field(default_factory=dict)
    runs: list[Run] = Field(default_factory=list)
    summary: SessionSummary | None = None
    created_at: Moment = Field(default_factory=_now)
    updated_at: Moment = Field(default_factory=_now)
    events: list[Event] = Field(default_factory=list)

    _shown: Shown | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _dated(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        created = given.get("created_at") or _now()
        return {**given, "created_at": created, "updated_at": given.get("updated_at") or created}

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        optional = type(self).model_fields.keys() - _ALWAYS
        return {name: value for name, value in written(self).items() if name not in optional or not _is_empty(value)}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Session):
            return NotImplemented
        return self.__dict__ == other.__dict__ and self.model_extra == other.model_extra

    @property
    def key(self) -> SessionId:
        """What names it: its id, or a ``SessionKey`` where it was read as one of an app and a user.

        App and user are those that it was read of, whatever its fields say now.
        """
        user = None if self._shown is None else self._shown.user
        return self.session_id if user is None else SessionKey(user.app_name, user.user_id, self.session_id)

    # runs

    @property
    def run_count(self) -> int:
        """How many runs it has."""
        return len(self.runs)

    def get_run_count(self) -> int:
        """How many runs it has."""
        return self.run_count

    def add_run(self, run: Run | Mapping[str, Any]) -> Run:
        """Add *run* at the end, or in the place of the one that has its ``run_id``; the run as it stands here now.

        Raises:
            StorageValidationError: it is no run; ``error.path`` names the place.
        """
        added = run if isinstance(run, Run) else _run(run)
        at = next((at for at, present in enumerate(self.runs) if present.run_id == added.run_id), None)
        if at is None:
            self.runs.append(added)
        else:
            self.runs[at] = added
        self._move()
        return added

    def get_run(self, run_id: str) -> Run | None:
        """The run called *run_id*; None when there is none."""
        return next((run for run in self.runs if run.run_id == run_id), None)

    def get_last_run(self) -> Run | None:
        """The last run; None when there is none."""
        return self.runs[-1] if self.runs else None

    def calculate_total_tokens(self) -> int:
        """The tokens of all runs together; what a run does not tell, or not as a number, counts 0."""
        return tokens_used(self.runs)

    def calculate_metrics(self) -> SessionMetrics:
        """How its runs went."""
        from session_adapter.metrics import metrics_of

        return metrics_of(self.runs)

    # summaries

    def generate_summary(self, content: str) -> SessionSummary:
        """Make *content* its summary, with the numbers of its runs at this moment."""
        return self._summarised(
            SessionSummary(
                content=content,
                run_count=self.run_count,
                total_tokens=self.calculate_total_tokens(),
                created_at=_now(),
            )
        )

    async def generate_ai_summary(self, model: SummaryModel, *, timeout: float = 30.0) -> SessionSummary:
        """Have *model* summarise the conversation of all runs; where it fails, the last runs' text is the summary.

        Args:
            timeout: seconds that the model may take.
        """
        from session_adapter.summaries import summarised

        return self._summarised(await summarised(self, model, timeout=timeout))

    def _summarised(self, summary: SessionSummary) -> SessionSummary:
        self.summary = summary
        self._move()
        return summary

    def _move(self) -> None:
        self.updated_at = max(_now(), self.updated_at + _TICK)  # later, however coarse the clock


def new_session(session_id: str, agent_id: str | None = None) -> Session:
    """A session that begins now, with nothing in it."""
    return Session(session_id=session_id, agent_id=agent_id)


def _run(given: object) -> Run:
    if not isinstance(given, Mapping):
        raise StorageValidationError(f"a run is a mapping, not {type(given).__name__}", details={"path": "run"})
    try:
        return Run.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(["run", *map(str, first["loc"])])
        raise StorageValidationError(f"{path}: {first['msg']}", details={"path": path}) from error


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, dict | list) and not value)
