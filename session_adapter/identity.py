"""How sessions are named, and under which record ids they and their states are stored.

A ``str`` names a plain session, a :class:`SessionKey` a scoped one; which of the two an id is, is never guessed.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from session_adapter.errors import (
    AppNameRequiredError,
    InvalidSessionIdError,
    SessionIdRequiredError,
    SessionNotFoundError,
    UserIdRequiredError,
)
from unified_storage.errors import StorageIntegrityError, StorageValidationError

SESSION = "session"
MAX_ID_BYTES = 1_000
"""Of a plain session's id, which is that of its record."""
MAX_PART = 255
"""Characters that a part of a key may have at least, however many bytes they take: it is hashed."""

_PART = f"1 to {MAX_ID_BYTES} bytes of text, or up to {MAX_PART} characters"
_SCOPE_DIGITS = 24
_SESSION_DIGITS = 40
_SCOPE_LENGTH = 1 + _SCOPE_DIGITS


@dataclass(frozen=True, order=True, slots=True)
class UserKey:
    """A user of an app."""

    app_name: str
    user_id: str


@dataclass(frozen=True, order=True, slots=True)
class SessionKey:
    """A session of a user of an app. Its parts are opaque: no character in them means anything here."""

    app_name: str
    user_id: str
    session_id: str = ""

    @property
    def user(self) -> UserKey:
        """Whose session it is."""
        return UserKey(self.app_name, self.user_id)


SessionId = str | SessionKey
"""What names a session wherever one is named."""


def record_id(session: SessionId) -> str:
    """The id of the record that holds *session*.

    A plain session's is its own id, with one more ``~`` where it begins with one. A scoped one's is ``~`` and 24 hex
    digits for app and user, ``~`` and 40 for the session.

    Raises:
        InvalidSessionIdError: not blank, no control characters or lone surrogates, at most 1 000 bytes of UTF-8; the
            parts of a key 255 characters also where these take more.
        AppNameRequiredError, UserIdRequiredError, SessionIdRequiredError: that part of the key is missing.
    """
    if isinstance(session, SessionKey):
        user_scope(session.user)
        if session.session_id in (None, ""):
            raise SessionIdRequiredError("a session key needs its session_id", details={"path": "session_id"})
        _check_session_part(session.session_id)
        return _scoped_id(session)
    session_id = _checked_session_id(session)
    return f"~{session_id}" if session_id.startswith("~") else session_id


def user_scope(user: UserKey) -> str:
    """The first part of the record ids of a user's sessions; also the id of the record of the user's state."""
    if user.app_name in (None, ""):
        raise AppNameRequiredError("a key needs its app_name", details={"path": "app_name"})
    if user.user_id in (None, ""):
        raise UserIdRequiredError("a key needs its user_id", details={"path": "user_id"})
    parts = (_checked_part(user.app_name, "app_name"), _checked_part(user.user_id, "user_id"))
    return f"~{_digits(parts, _SCOPE_DIGITS)}"


def app_scope(app_name: str) -> str:
    """The id of the record of an app's state."""
    if app_name in (None, ""):
        raise AppNameRequiredError("an app's state needs its app_name", details={"path": "app_name"})
    return f"~{_digits((_checked_part(app_name, 'app_name'),), _SCOPE_DIGITS)}"


def scope_of(stored: str) -> str | None:
    """The scope that a record id begins with; None for a plain session's."""
    return stored[:_SCOPE_LENGTH] if _is_scoped(stored) else None


def visible_id(record: Mapping[str, Any]) -> SessionId:
    """What names the session of *record* (``data`` may be left out): a str, or the key of a scoped session.

    Raises:
        StorageIntegrityError: the id is a scoped one, and neither metadata nor document holds its parts.
    """
    stored: str = record["id"]
    if stored[:1] != "~":
        return stored
    if not _is_scoped(stored):
        return stored.removeprefix("~")
    for holder in (record.get("metadata"), record.get("data")):
        key = _key_in(holder)
        # No other parts than those of the key that it was stored under lead to its id, so they need no check.
        if key is not None and _scoped_id(key) == stored:
            return key
    raise StorageIntegrityError(f"no session key belongs to the record {stored!r}", details={"id": stored})


def session_id_of(session: SessionId) -> str:
    """The id that people see: of a scoped session the last part of its key."""
    return session.session_id if isinstance(session, SessionKey) else session


def is_session_id(text: object) -> bool:
    """Whether *text* can name a session: not blank, no controls or lone surrogates, at most 1 000 bytes of UTF-8."""
    return isinstance(text, str) and bool(text.strip()) and _is_storable(text) and _fits(text)


def no_session(session: SessionId) -> SessionNotFoundError:
    """The error that says *session* is not there."""
    shown = session_id_of(session)
    return SessionNotFoundError(f"no session {shown!r}", details={"session_id": shown})


def _checked_session_id(text: object) -> str:
    if isinstance(text, str) and is_session_id(text):
        return text
    message = f"a session id is 1 to {MAX_ID_BYTES} bytes of text, not blank and without control characters"
    raise InvalidSessionIdError(message, details={"path": "session_id", "type": type(text).__name__})


def _check_session_part(text: object) -> None:
    if not (isinstance(text, str) and text.strip() and _is_part(text)):
        message = f"a session id is {_PART}, not blank and without control characters"
        raise InvalidSessionIdError(message, details={"path": "session_id", "type": type(text).__name__})


def _checked_part(text: object, path: str) -> str:
    if isinstance(text, str) and _is_part(text):
        return text
    message = f"{path} is {_PART}, without control characters"
    raise StorageValidationError(message, details={"path": path, "type": type(text).__name__})


def _is_part(text: str) -> bool:
    return _is_storable(text) and (len(text) <= MAX_PART or _fits(text))


def _is_storable(text: str) -> bool:
    if text.isascii() and text.isprintable():
        return True
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _fits(text: str) -> bool:
    return len(text) <= MAX_ID_BYTES and len(text.encode()) <= MAX_ID_BYTES


def _is_scoped(stored: str) -> bool:
    return stored.startswith("~") and not stored.startswith("~~")


def _key_in(holder: object) -> SessionKey | None:
    if not isinstance(holder, Mapping):
        return None
    app_name, user_id, session_id = holder.get("app_name"), holder.get("user_id"), holder.get("session_id")
    if isinstance(app_name, str) and isinstance(user_id, str) and isinstance(session_id, str):
        return SessionKey(app_name, user_id, session_id)
    return None


def hashed_id(group: str | tuple[str, ...], name: str) -> str:
    """The id of a record called *name*, whatever stands in it; all of one *group* share a partition of a cluster."""
    return f"~{_digits(group, _SCOPE_DIGITS)}~{_digits(name, _SESSION_DIGITS)}"


def _scoped_id(key: SessionKey) -> str:
    return hashed_id((key.app_name, key.user_id), key.session_id)


@lru_cache(maxsize=1024)  # one operation names the same session, user and app again and again
def _digits(value: str | tuple[str, ...], count: int) -> str:
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:count]
