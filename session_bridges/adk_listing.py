"""Lists of ADK's sessions: without their events, though these tell when a session was updated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.adk.sessions.session import Session

from session_adapter.entries import history_of
from session_adapter.identity import SESSION, SessionKey, UserKey, user_scope, visible_id
from session_adapter.levels import State
from session_adapter.states import APP_STATE, USER_STATE, place_of_app, place_of_user, state_in
from session_bridges.adk_states import shown_state
from unified_storage.interface import IUnifiedStorage, Record, Records

_BATCH = 500
"""Sessions of which states and newest entries are asked for in one go."""


class Listing:
    """The sessions in a storage as ADK lists them: by the time of their last event, then by user and id."""

    def __init__(self, storage: IUnifiedStorage) -> None:
        self._storage = storage

    async def of_user(self, user: UserKey) -> list[Session]:
        """All sessions of *user*."""
        return await self._listed({"metadata.scope": user_scope(user)})

    async def of_app(self, app_name: str) -> list[Session]:
        """All sessions of all users of an app."""
        return await self._listed({"metadata.app_name": app_name, "metadata.scope": {"$exists": True}})

    async def _listed(self, wanted: Mapping[str, Any]) -> list[Session]:
        sessions: list[Session] = []
        async for records in self._storage.stream_list({"type": SESSION, **wanted}, _BATCH):
            sessions += await self._shown([(key, record) for record in records if (key := _key_of(record))])
        return sorted(sessions, key=_place)

    async def _shown(self, named: list[tuple[SessionKey, Record]]) -> list[Session]:
        if not named:
            return []
        states = await self._states({key.user for key, _ in named})
        newest = await self._storage.read_many([history_of(record["id"]) for _, record in named], last=1)
        return [
            _session(key, record, (states[key.user], states[key.app_name]), newest[history_of(record["id"])])
            for key, record in named
        ]

    async def _states(self, users: set[UserKey]) -> dict[UserKey | str, State]:
        """The states of users, and of their apps by name."""
        places = {user: place_of_user(user) for user in users} | {
            user.app_name: place_of_app(user.app_name) for user in users
        }
        named = {"type": {"$in": [APP_STATE, USER_STATE]}, "id": {"$in": [place.id for place in places.values()]}}
        found = {(record["id"], record["type"]): record for record in await self._storage.list(named)}
        return {owner: state_in(found.get(place.key)) for owner, place in places.items()}


def _session(key: SessionKey, record: Record, states: tuple[State, State], newest: Records) -> Session:
    updated = newest[0]["created_at"] if newest else record["created_at"]
    return Session(
        app_name=key.app_name,
        user_id=key.user_id,
        id=key.session_id,
        state=shown_state(record, states),
        last_update_time=updated.timestamp(),
    )


def _key_of(record: Record) -> SessionKey | None:
    key = visible_id(record)
    return key if isinstance(key, SessionKey) else None


def _place(session: Session) -> tuple[float, str, str]:
    return session.last_update_time, session.user_id, session.id
