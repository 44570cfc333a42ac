"""What the service needs of a place where sessions are: one small protocol, and what goes in and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from session_adapter.naming import WITH
from unified_storage.errors import StorageAlreadyExistsError, StorageConflictError


class SessionType(StrEnum):
    """What a session is with."""

    AGENT = "agent"
    TEAM = "team"
    WORKFLOW = "workflow"


COMPONENTS = {kind: WITH[kind] for kind in SessionType}
"""The column that names what a session is with, by the session's type."""

Run = dict[str, Any]


@dataclass(slots=True)
class SessionRow:
    """A session without its history, in the shape of AgentOS's table.

    Attributes:
        session_id: the id that people see.
        session_data: ``session_name``, ``session_state``, ``session_metrics`` and what else its writer keeps there;
            None where there is nothing.
        created_at, updated_at: aware; ``updated_at`` may be unknown.
        shown_name: for a session without a name: what its history calls it; None where nobody has looked yet.
    """

    session_id: str
    session_type: SessionType
    created_at: datetime
    updated_at: datetime | None = None
    user_id: str | None = None
    agent_id: str | None = None
    team_id: str | None = None
    workflow_id: str | None = None
    session_data: dict[str, Any] | None = None
    agent_data: dict[str, Any] | None = None
    team_data: dict[str, Any] | None = None
    workflow_data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    shown_name: str | None = None

    @property
    def name(self) -> str | None:
        """The name that was given to it, which may be empty; None where none was."""
        found = (self.session_data or {}).get("session_name")
        return found if isinstance(found, str) else None


@dataclass(slots=True)
class StoredSession:
    """A session with its history.

    Attributes:
        runs: as their writers had them, oldest first.
        chat: the messages of user and assistant, oldest first.
    """

    row: SessionRow
    runs: list[Run] = field(default_factory=list)
    chat: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Listing:
    """Which sessions a page shows, and in what order.

    Attributes:
        session_type: None for all.
        component_id: of the agent, team or workflow.
        session_name: part of the name; ASCII letters match in either case, ``%`` and ``_`` stand for any text and sign.
        sort_by: a column; another name means no order that anybody may rely on.
        skip: sessions before the page.
    """

    session_type: SessionType | None = None
    component_id: str | None = None
    user_id: str | None = None
    session_name: str | None = None
    sort_by: str = "created_at"
    descending: bool = True
    limit: int = 20
    skip: int = 0


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be made.

    Attributes:
        session_id: what it is to be called.
        state, name, metadata, summary: None where not given; empty ones are kept apart from that.
        runs: its history, where it begins with one.
    """

    session_id: str
    session_type: SessionType
    user_id: str | None = None
    component_id: str | None = None
    name: str | None = None
    state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    runs: Sequence[Run] = ()


class _Unchanged:
    """The type of :data:`UNCHANGED`."""


UNCHANGED: Final = _Unchanged()
"""Says that a field stays as it is."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What of a session is replaced, each field whole; the others stay whatever others do to them meanwhile.

    Attributes:
        metadata: None takes it away.
        as_type: the type that the session was asked for as; a workflow's metadata is never null.
    """

    name: str | _Unchanged = UNCHANGED
    state: dict[str, Any] | _Unchanged = UNCHANGED
    metadata: dict[str, Any] | _Unchanged | None = UNCHANGED
    summary: dict[str, Any] | _Unchanged = UNCHANGED
    as_type: SessionType | None = None


class SessionTables(Protocol):
    """Sessions somewhere, as the service sees them. *user_id*, where given, is whose sessions there are: no others.

    Failures are ``StorageError``; None and False mean "not there" and nothing else.
    """

    async def page(self, wanted: Listing) -> tuple[list[SessionRow], int]:
        """The sessions of a page, and how many there are in all. Reads no runs, but for names that are not known."""

    async def create(self, new: NewSession) -> SessionRow:
        """Make a session, or raise :class:`SessionTaken` and change nothing."""

    async def get(self, session_id: str, user_id: str | None) -> StoredSession | None:
        """The session with its history; :class:`SeveralSessions` where the id alone does not tell which."""

    async def change(self, session_id: str, user_id: str | None, changes: Changes) -> StoredSession | None:
        """Replace what *changes* name, in one step; the session afterwards."""

    async def delete(self, session_id: str, user_id: str | None) -> bool:
        """Delete a session with its history."""

    async def delete_many(self, session_ids: Sequence[str], user_id: str | None) -> int:
        """Delete those that are there in one step, but for ids that do not tell which session they mean."""

    async def check(self) -> None:
        """Raise a ``StorageError`` where the database does not answer."""

    async def open(self) -> None:
        """Connect, and make or upgrade the tables where they are ours."""

    async def close(self) -> None:
        """Release everything."""


class SessionTaken(StorageAlreadyExistsError):
    """The id of a new session is in use."""

    def __init__(self, session_id: str, user_id: str | None) -> None:
        facts = {"session_id": session_id, "user_id": user_id}
        super().__init__(f"there is a session {session_id!r}", details=facts)

    @property
    def user_id(self) -> str | None:
        """Whose session has it."""
        found: str | None = self.details["user_id"]
        return found


class SeveralSessions(StorageConflictError):
    """Several sessions of different users or apps have the id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"several sessions have the id {session_id!r}", details={"session_id": session_id})
