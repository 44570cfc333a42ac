"""``UnifiedSessionService``: the sessions of Google's ADK on any storage of this project."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, get_args

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.platform import uuid as platform_uuid
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session

from session_adapter import ScopedSessionService, SessionKey, UserKey, errors, record_id
from session_adapter.entries import history_of
from session_adapter.identity import user_scope
from session_adapter.levels import shown_levels
from session_adapter.reading import required_head
from session_adapter.scoped_reading import Found, ScopedReading
from session_bridges.adk_events import AdkHistory, changes_state, entry_of, event_id_of, moment_of
from session_bridges.adk_listing import Listing
from session_bridges.adk_revisions import BEGUN, FIRST, NOTES, Revision
from session_bridges.adk_states import deltas_of, shown_state
from unified_storage.errors import StorageConfigurationError, StorageConflictError, StorageValidationError
from unified_storage.interface import Entries, IUnifiedStorage, Record
from unified_storage.turns import Turns

OnConflict = Literal["error", "merge"]
"""What becomes of an event that is added to a session which others have changed since it was loaded."""

_STALE = "the session was changed since it was loaded; load it again before adding events"


class UnifiedSessionService(BaseSessionService):
    """ADK's sessions in a storage: they are scoped sessions of it, whose entries are ADK's own events.

    It stands where ``DatabaseSessionService`` stood. A session object knows which state of the stored session it has
    seen. Adding an event through one that is outdated raises ``StaleSessionError``; with ``conflict="merge"`` the event
    is added behind those that the object has not seen, and its state delta applied key by key.

    Args:
        storage: a URL, or an open storage, which stays its owner's to close.
        conflict: ``error`` or ``merge``.
        options: as ``ScopedSessionService`` takes them: ``namespace``, ``session_ttl``, ``policies`` and others.
    Raises:
        StorageError: (every method) the storage failed, or cannot hold what it was given.
    """

    def __init__(self, storage: IUnifiedStorage | str, *, conflict: OnConflict = "error", **options: Any) -> None:
        if conflict not in get_args(OnConflict):
            raise StorageConfigurationError(f"conflict is error or merge, not {conflict!r}")
        self._merges = conflict == "merge"
        self._sessions = ScopedSessionService(storage, **options)
        self._storage = self._sessions.storage
        self._listing = Listing(self._storage)
        self._turns: weakref.WeakValueDictionary[int, Turns] = weakref.WeakValueDictionary()

    async def close(self) -> None:
        """Close the storage, where this service opened it."""
        await self._sessions.close()

    async def __aenter__(self) -> Self:
        await self._sessions.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- sessions ------------------------------------------------------------------------------------------------

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Begin a session; its id is made where none is given, or a blank one.

        Raises:
            AlreadyExistsError: there is one of this id; nothing is changed then.
        """
        id = session_id if session_id and session_id.strip() else platform_uuid.new_uuid()
        key = SessionKey(app_name, user_id, id)
        try:
            await self._sessions.begin(key, deltas_of(state), BEGUN)
        except errors.SessionAlreadyExistsError as error:
            raise AlreadyExistsError(f"Session with id {id} already exists.") from error
        found = await self._found(key, AdkHistory(record_id(key), last=0))
        if found is None:
            raise _not_found(key)  # somebody has deleted it already
        session = _session(key, found, [], [])
        FIRST.mark(session)
        return session

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """The session with its events, oldest first; None when there is none.

        Args:
            config: ``after_timestamp``, and of what that leaves the newest ``num_recent_events``.
        """
        key = SessionKey(app_name, user_id, session_id)
        if not _can_be(key):
            return None
        wanted = config or GetSessionConfig()
        recent, since = wanted.num_recent_events, _since(wanted)
        # of none the newest: it tells when the session was updated
        history = AdkHistory(record_id(key), last=1 if recent == 0 else recent, since=since)
        found = await self._found(key, history)
        if found is None:
            return None
        newest = found.history if since is None else await AdkHistory(record_id(key), last=1)(self._storage)
        events = [] if recent == 0 else [event for _, event in found.history]
        session = _session(key, found, events, newest)
        Revision.of(found.record, newest[-1][0] if newest else 0).mark(session)
        return session

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """The sessions of a user, or of all users of the app, without events: the one updated last is the last.

        Sessions updated at the same time stand by user, then by id.
        """
        if user_id is None:
            return ListSessionsResponse(sessions=await self._listing.of_app(app_name))
        user = UserKey(app_name, user_id)
        return ListSessionsResponse(sessions=await self._listing.of_user(user) if _can_be(user) else [])

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events, if it is there; the states of user and app stay."""
        key = SessionKey(app_name, user_id, session_id)
        if _can_be(key):
            await self._sessions.delete_session(key)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """The user's state, its keys without ``user:``; empty where there is none."""
        user = UserKey(app_name, user_id)
        return await self._sessions.list_user_states(user) if _can_be(user) else {}

    # -- events --------------------------------------------------------------------------------------------------

    async def append_event(self, session: Session, event: Event) -> Event:
        """Add *event* to the stored session and to *session*, and apply its state delta, in one step.

        Partial events are not stored, nor are ``temp:`` keys, which *session* alone shows. One whose id is stored
        already changes nothing: what may have been done can be tried again.

        Raises:
            StaleSessionError: the session was changed since *session* was loaded, and ``conflict`` is ``error``.
            SessionNotFoundError: there is no such session.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        async with self._turn(session):
            if await self._store(session, event):
                self._commit_event_to_session(session, event)
        return event

    @asynccontextmanager
    async def _turn(self, session: Session) -> AsyncIterator[None]:
        """One event of a session object at a time: agents that share it would find it outdated otherwise."""
        turns = self._turns.setdefault(id(session), Turns())
        await turns.take()
        try:
            yield
        finally:
            turns.leave()

    async def _store(self, session: Session, event: Event) -> bool:
        """Whether *event* is new to *session*."""
        key = SessionKey(session.app_name, session.user_id, session.id)
        with _told_as_adk_does(key):
            seen = Revision.seen_by(session) or await self._revision(session, key)
            notes = NOTES if event.invocation_id and not seen.is_noted else {}
            number, moved = await self._sessions.append_entry(
                key,
                entry_of(event),
                deltas_of(event.actions.state_delta),
                expected_version=None if self._merges else seen.version,
                own=notes,
            )
        if seen.last_seq is not None and number <= seen.last_seq:
            return all(one.id != event.id for one in session.events)
        Revision(seen.version + moved, number, seen.is_noted or bool(notes)).mark(session)
        session.last_update_time = event.timestamp
        return True

    async def _revision(self, session: Session, key: SessionKey) -> Revision:
        """What is stored, for a *session* that does not say what it has seen; ADK then goes by times and events."""
        head = await required_head(self._storage, key)
        newest = await self._storage.read(history_of(head["id"]), last=1)
        if not (self._merges or _is_up_to_date(session, head, newest)):
            raise StaleSessionError(_STALE)
        return Revision.of(head, newest[0]["seq"] if newest else 0)

    async def _found(self, key: SessionKey, history: AdkHistory) -> Found[tuple[int, Event]] | None:
        with errors.storage_failures("get a session"):
            return await ScopedReading(self._storage, None).found(key, history, changes_state)


def _session(key: SessionKey, found: Found[Any], events: list[Event], newest: list[tuple[int, Event]]) -> Session:
    updated = moment_of(newest[-1][1].timestamp) if newest else None
    return Session(
        app_name=key.app_name,
        user_id=key.user_id,
        id=key.session_id,
        state=shown_state(found.record, shown_levels(*found.states)),
        events=events,
        last_update_time=(updated or found.record["created_at"]).timestamp(),
    )


def _is_up_to_date(session: Session, head: Record, newest: Entries) -> bool:
    updated = newest[0]["created_at"] if newest else head["created_at"]
    if updated.timestamp() <= session.last_update_time:
        return True
    stored = event_id_of(newest[0]) if newest else None
    return stored == (session.events[-1].id if session.events else None)


def _since(config: GetSessionConfig) -> datetime | None:
    return None if config.after_timestamp is None else moment_of(config.after_timestamp)


def _can_be(key: SessionKey | UserKey) -> bool:
    """Whether there may be something of this name; ADK is asked for any, and only refuses to store some."""
    try:
        record_id(key) if isinstance(key, SessionKey) else user_scope(key)
    except StorageValidationError:
        return False
    return True


def _not_found(key: SessionKey) -> SessionNotFoundError:
    return SessionNotFoundError(f"Session {key.session_id} not found.")


@contextmanager
def _told_as_adk_does(key: SessionKey) -> Iterator[None]:
    try:
        yield
    except errors.SessionNotFoundError as error:
        raise _not_found(key) from error
    except StorageConflictError as error:
        if error.expected is None:  # a refusal of another kind
            raise
        raise StaleSessionError(_STALE) from error
