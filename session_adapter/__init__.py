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
from session_adapter.models import Event, SessionData, SessionMetadata, SessionMetrics, SessionSummary
from session_adapter.scoped import ScopedSessionService
from session_adapter.service import ISessionService, SessionService
from session_adapter.sessions import BatchDeleteResult, SessionStorageAdapter
from session_adapter.stored_summaries import Summaries, SummaryWindow

__all__ = [
    "AppNameRequiredError",
    "BatchDeleteResult",
    "Event",
    "ISessionService",
    "InvalidSessionIdError",
    "ScopedSessionService",
    "SessionAlreadyExistsError",
    "SessionData",
    "SessionIdRequiredError",
    "SessionKey",
    "SessionMetadata",
    "SessionMetrics",
    "SessionNotFoundError",
    "SessionService",
    "SessionStorageAdapter",
    "SessionSummary",
    "Summaries",
    "SummaryModel",
    "SummaryWindow",
    "UserIdRequiredError",
    "UserKey",
    "record_id",
]
