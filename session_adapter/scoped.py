"""``ScopedSessionService``: sessions of the users of apps, with a state on each of these levels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from pydantic import BaseModel

from session_adapter.errors import storage_failures
from session_adapter.event_deltas import taken_apart
from session_adapter.events import Check
from session_adapter.identity import SESSION, SessionKey, UserKey, no_session, record_id
from session_adapter.levels import APP, USER, Deltas, State, bare, of_level, split
from session_adapter.opened import storage_for
from session_adapter.places_of_faults import named_in_event, named_in_state
from session_adapter.policies import POLICIES, PolicyName, policies_of
from session_adapter.scoped_reading import NO_EVENTS, ScopedReading, SessionPage, Window
from session_adapter.scoped_writing import Appended, Own, ScopedWriting
from session_adapter.session import Session
from session_adapter.states import APP_STATE, USER_STATE, States, place_of_app, place_of_user
from session_adapter.timestamps import Zone, zone_named
from unified_storage.arguments import check_expected, check_number, checked_seconds
from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage, OnDuplicate

Lifetime = timedelta | float | None
"""How long something lives after it was written last: a timedelta, seconds, or None for ever."""


class ScopedSessionService:
    """Sessions of an app's users: their events, and a state on the levels of app, user and session.

    A state handed out has the session's keys as they are, the app's under ``app:`` and the user's under ``user:``, as
    they are at that moment. In what is handed in, keys with these prefixes go to their level, ``temp:`` keys nowhere.

    Args:
        storage: where they are kept: an open storage, or a URL; in memory without either.
        instance_name: what ``register_redis_instance`` registered; a URL wins.
        session_event_limit: how many entries of a history stay; older ones go in the step that adds one.
        session_ttl, app_state_ttl, user_state_ttl: how long each lives after it was written last.
        policies: how a delta's value meets the stored one, by key (with its prefix): ``last`` (what all others do),
            ``first``, ``sum``, ``union``, ``append``, ``max``, ``error``, or a pure function ``(stored, new)``.
        source_timezone: the zone of event times without an offset; None is this machine's.
        options: for opening the storage, as ``open_storage`` takes them; also other spellings of *storage* (``url``,
            ``redis_url``) and of *instance_name* (``instance``, ``redis_instance``, ``redis_instance_name``).
    Raises:
        AppNameRequiredError, UserIdRequiredError, SessionIdRequiredError: (every method) the key lacks that part.
        StorageError: (every method) the storage failed; nothing else says so.
    """

    def __init__(
        self,
        storage: IUnifiedStorage | str | None = None,
        *,
        instance_name: str | None = None,
        session_event_limit: int | None = None,
        session_ttl: Lifetime = None,
        app_state_ttl: Lifetime = None,
        user_state_ttl: Lifetime = None,
        policies: Mapping[str, PolicyName] | None = None,
        source_timezone: Zone = None,
        **options: Any,
    ) -> None:
        if session_event_limit is not None:
            check_number("session_event_limit", session_event_limit, least=1)
        ttl = _lifetime("session_ttl", session_ttl)
        ttls = {
            APP_STATE: _lifetime("app_state_ttl", app_state_ttl),
            USER_STATE: _lifetime("user_state_ttl", user_state_ttl),
        }
        named = policies_of(policies)
        deciding = {key: policy for key, policy in named.items() if policy is not POLICIES["last"]}
        zone = zone_named(source_timezone) if isinstance(source_timezone, str) else source_timezone
        self._storage, self._is_ours = storage_for(storage, instance_name, options)
        self._states = States(self._storage, deciding, ttls)
        self._reading = ScopedReading(self._storage, zone)
        self._writing = ScopedWriting(
            self._storage, self._states, deciding, limit=session_event_limit, ttl=ttl, zone=zone
        )

    @property
    def storage(self) -> IUnifiedStorage:
        """Where the sessions are kept."""
        return self._storage

    async def close(self) -> None:
        """Close the storage, where this service opened it; one that it was given is its owner's to close."""
        if self._is_ours:
            await self._storage.close()

    async def __aenter__(self) -> Self:
        if self._is_ours:
            await self._storage.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- sessions ------------------------------------------------------------------------------------------------

    async def create_session(self, key: SessionKey, state: Mapping[str, Any] | None = None) -> Session:
        """Begin a session; the session as it is then, its id made (a UUID) where the key has none.

        Args:
            state: of all levels; values of the levels above meet what is stored there.
        Raises:
            SessionAlreadyExistsError: there is one that has not expired; nothing is changed then.
        """
        key = _with_session_id(key)
        deltas = split(state, "state")
        with storage_failures("create a session"), named_in_state(state):
            await self._writing.begin(key, deltas)
            session = await self._reading.session(key, NO_EVENTS)
        if session is None:
            raise no_session(key)  # somebody has deleted it already
        return session

    async def get_session(
        self,
        key: SessionKey,
        *,
        event_num: int | None = None,
        event_time: datetime | None = None,
        turn_safe: bool = False,
    ) -> Session | None:
        """A copy of the session with its events, oldest first; None when there is none.

        Args:
            event_num: only the newest so many of what *event_time* leaves; 0 for none.
            event_time: only those stored with this time (aware) or a later one.
            turn_safe: so many more that the first turn is whole; calls and results without each other are left out.
        """
        record_id(_checked(key))
        window = Window.of(event_num, event_time, turn_safe)
        with storage_failures("get a session"):
            return await self._reading.session(key, window)

    async def list_sessions(
        self, user_key: UserKey, *, with_events: bool = False, limit: int | None = None, cursor: str | None = None
    ) -> SessionPage:
        """A page of the user's sessions, the one changed last first, ties by id; their events only on demand.

        Args:
            limit: sessions a page; None for all of them.
            cursor: ``next_cursor`` of the page before.
        """
        place_of_user(_checked_user(user_key))
        with storage_failures("list sessions"):
            return await self._reading.page(user_key, with_events=with_events, limit=limit, cursor=cursor)

    async def delete_session(self, key: SessionKey) -> None:
        """Delete a session with its events and everything grouped under it, if it is there; the user's state stays."""
        stored_id = record_id(_checked(key))
        with storage_failures("delete a session"):
            await self._storage.delete(stored_id, type=SESSION, cascade=True)

    async def append_event(
        self, key: SessionKey, event: Mapping[str, Any] | BaseModel, *, expected_version: int | None = None
    ) -> int:
        """Add an event to the end and apply its ``state_delta``, all in one step; its number, from 1.

        One whose ``id`` is in the history already changes nothing, and its number is handed out again: what may have
        been done can be tried again. On a Redis Cluster keys of the app are written in a step of their own: first, and
        once for an ``id``; with *expected_version* last.

        Args:
            event: an ``Event`` or a mapping with at least a ``role``. In the history its delta has no ``temp:`` keys,
                and keys that it deletes stand in ``state_deleted``.
            expected_version: of the session, as ``SessionStorageAdapter.get_session(with_version=True)`` gives it.
        Raises:
            SessionNotFoundError: there is no such session.
            StorageConflictError: it has another version; not where the event is known.
        """
        record_id(_checked(key))
        check_expected(expected_version)
        body, deltas = taken_apart(event)
        with storage_failures("append to a session"), named_in_event(body):
            return await self._writing.append(key, body, deltas, expected_version)

    async def update_session_state(self, key: SessionKey, state: Mapping[str, Any]) -> None:
        """Change the keys given, each whole: ``DELETE`` deletes one; keys of other levels go there, in the same step.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        record_id(_checked(key))
        deltas = split(state, "state")
        with storage_failures("change the state of a session"), named_in_state(state):
            await self._writing.change(key, deltas)

    # -- steps of a ``Runner`` -----------------------------------------------------------------------------------

    async def append_of_run(
        self, key: SessionKey, event: Mapping[str, Any], *, check: Check, on_duplicate: OnDuplicate = "error"
    ) -> int:
        """Add an event as ``append_event`` does, where *check* lets the session's record pass; its number.

        Raises:
            StorageAlreadyExistsError: its ``id`` is in the history, and *on_duplicate* is not ``skip``.
        """
        body, deltas = taken_apart(event)
        with storage_failures("append to a session"), named_in_event(body):
            return await self._writing.append(key, body, deltas, on_duplicate=on_duplicate, check=check)

    async def session_at(self, key: SessionKey, number: int, *, last: int | None) -> Session | None:
        """The session with the turn-safe window of *last* events that ends with the one of *number*."""
        window = Window(last, turn_safe=True, before=number + 1)
        with storage_failures("get a session"):
            return await self._reading.session(key, window)

    # -- steps of bridges to other frameworks -------------------------------------------------------------------

    async def begin(self, key: SessionKey, deltas: Deltas, own: Own) -> None:
        """Begin a session, with *own* fields of ours in its metadata; raises as ``create_session`` does."""
        with storage_failures("create a session"):
            await self._writing.begin(key, deltas, own)

    async def append_entry(
        self,
        key: SessionKey,
        entry: Mapping[str, Any],
        deltas: Deltas,
        *,
        expected_version: int | None = None,
        own: Own,
    ) -> Appended:
        """Add an *entry* in its writer's own form, as ``append_event`` does with an event.

        Args:
            entry: as the storage's ``append`` takes it; its ``key`` is what it is known by.
            own: fields of ours that the session's metadata is to have from then on.
        """
        with storage_failures("append to a session"):
            return await self._writing.append_entry(key, entry, deltas, expected_version, own=own)

    # -- states of apps and users --------------------------------------------------------------------------------

    async def update_app_state(self, app: str, state: Mapping[str, Any]) -> None:
        """Change the keys given of the app's state, with or without ``app:``; keys not named stay."""
        place, delta = place_of_app(app), of_level(state, APP, "state")
        with storage_failures("change the state of an app"), named_in_state(state):
            await self._states.change(place, delta)

    async def list_app_states(self, app: str) -> State:
        """The app's state, its keys without prefix; empty where there is none."""
        place = place_of_app(app)
        with storage_failures("read the state of an app"):
            return await self._states.state(place)

    async def delete_app_state(self, app: str, key: str) -> None:
        """Delete one key of the app's state, if it is there."""
        place, name = place_of_app(app), bare(key, APP, "key")
        with storage_failures("change the state of an app"):
            await self._states.forget(place, name)

    async def update_user_state(self, user_key: UserKey, state: Mapping[str, Any]) -> None:
        """Change the keys given of the user's state, with or without ``user:``; keys not named stay."""
        place, delta = place_of_user(_checked_user(user_key)), of_level(state, USER, "state")
        with storage_failures("change the state of a user"), named_in_state(state):
            await self._states.change(place, delta)

    async def list_user_states(self, user_key: UserKey) -> State:
        """The user's state, its keys without prefix; empty where there is none."""
        place = place_of_user(_checked_user(user_key))
        with storage_failures("read the state of a user"):
            return await self._states.state(place)

    async def delete_user_state(self, user_key: UserKey, key: str) -> None:
        """Delete one key of the user's state, if it is there."""
        place, name = place_of_user(_checked_user(user_key)), bare(key, USER, "key")
        with storage_failures("change the state of a user"):
            await self._states.forget(place, name)


def _lifetime(name: str, ttl: Lifetime) -> timedelta | None:
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    return timedelta(seconds=checked_seconds(name, seconds))


def _checked(key: object) -> SessionKey:
    if isinstance(key, SessionKey):
        return key
    message = f"a scoped session is named by a SessionKey, not {type(key).__name__}"
    raise StorageValidationError(message, details={"path": "key"})


def _checked_user(key: object) -> UserKey:
    if isinstance(key, UserKey):
        return key
    message = f"a user is named by a UserKey, not {type(key).__name__}"
    raise StorageValidationError(message, details={"path": "user_key"})


def _with_session_id(key: object) -> SessionKey:
    given = _checked(key)
    if given.session_id in (None, ""):
        given = SessionKey(given.app_name, given.user_id, str(uuid4()))
    record_id(given)
    return given
