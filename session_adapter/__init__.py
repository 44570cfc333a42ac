"""Sessions on any storage: their documents, histories, states, and the views that read and write them."""

from session_adapter.errors import (
    AppNameRequiredError,
    InvalidSessionIdError,
    SessionAlreadyExistsError,
    SessionIdRequiredError,
    SessionNotFoundError,
    UserIdRequiredError,
)
from session_adapter.identity import SessionKey, UserKey, record_id
from session_adapter.models import Event, SessionData, SessionMetadata
from session_adapter.scoped import ScopedSessionService
from session_adapter.service import ISessionService, SessionService
from session_adapter.sessions import BatchDeleteResult, SessionStorageAdapter

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
    "SessionNotFoundError",
    "SessionService",
    "SessionStorageAdapter",
    "UserIdRequiredError",
    "UserKey",
    "record_id",
]
