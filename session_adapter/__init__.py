"""Sessions on any storage: their documents, histories, states, and the views that read and write them."""

from session_adapter.answering import SummaryModel
from session_adapter.errors import (
    AppNameRequiredError,
    InvalidSessionIdError,
    SessionAlreadyExistsError,
    SessionIdRequiredError,
    SessionNotFoundError,
    UserIdRequiredError,
)
from session_adapter.identity import SessionKey, UserKey, record_id
from session_adapter.models import Event, Run, SessionData, SessionMetadata, SessionMetrics, SessionSummary
from session_adapter.repository import SessionRepository
from session_adapter.runner import Agent, RunContext, Runner
from session_adapter.scoped import ScopedSessionService
from session_adapter.scoped_reading import SessionPage
from session_adapter.service import ISessionService, SessionService
from session_adapter.session import Session, new_session
from session_adapter.sessions import BatchDeleteResult, SessionStorageAdapter
from session_adapter.stored_summaries import Summaries, SummaryWindow

__all__ = [
    "Agent",
    "AppNameRequiredError",
    "BatchDeleteResult",
    "Event",
    "ISessionService",
    "InvalidSessionIdError",
    "Run",
    "RunContext",
    "Runner",
    "ScopedSessionService",
    "Session",
    "SessionAlreadyExistsError",
    "SessionData",
    "SessionIdRequiredError",
    "SessionKey",
    "SessionMetadata",
    "SessionMetrics",
    "SessionNotFoundError",
    "SessionPage",
    "SessionRepository",
    "SessionService",
    "SessionStorageAdapter",
    "SessionSummary",
    "Summaries",
    "SummaryModel",
    "SummaryWindow",
    "UserIdRequiredError",
    "UserKey",
    "new_session",
    "record_id",
]
