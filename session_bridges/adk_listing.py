"""Lists of ADK's sessions: without their events, though these tell when a session was updated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.adk.sessions.session import Session

from session_adapter.entries import history_of
from session_adapter.identity import SESSION, SessionKey, UserKey, user_scope, visible_id
from session_adapter.levels import State, shown_levels
from session_adapter.states import APP_STATE, USER_STATE, place_of_app, place_of_user, state_in
from session_bridges.adk_states import shown_state
from unified_storage.interface import Entries, IUnifiedStorage, Record

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
            by_user: dict[UserKey, list[tuple[str, Record]]] = {}
            for record in records:
                key = visible_id(record)
                if isinstance(key, SessionKey):
                    by_user.setdefault(key.user, []).append((key.session_id, record))
            sessions += await self._shown(by_user)
        return sorted(sessions, key=_place)

    async def _shown(self, by_user: Mapping[UserKey, list[tuple[str, Record]]]) -> list[Session]:
        if not by_user:
            return []
        levels = await self._levels(by_user)
        logs = [history_of(record["id"]) for named in by_user.values() for _, record in named]
        newest = await self._storage.read_many(logs, last=1)
        return [
            _session(user, id, record, levels[user], newest[history_of(record["id"])])
            for user, named in by_user.items()
            for id, record in named
        ]

    async def _levels(self, users: Iterable[UserKey]) -> dict[UserKey, State]:
        """What the sessions of each user show of his state and of the app's."""
        places = {user: (place_of_user(user), place_of_app(user.app_name)) for user in users}
        ids = {place.id for both in places.values() for place in both}
        named = {"type": {"$in": [APP_STATE, USER_STATE]}, "id": {"$in": [*ids]}}
        found = {(record["id"], record["type"]): record for record in await self._storage.list(named)}
        return {
            user: shown_levels(*(state_in(found.get(place.key)) for place in both)) for user, both in places.items()
        }


def _session(user: UserKey, id: str, record: Record, levels: State, newest: Entries) -> Session:
    updated = newest[0]["created_at"] if newest else record["created_at"]
    return Session(
        app_name=user.app_name,
        user_id=user.user_id,
        id=id,
        state=shown_state(record, levels),
        last_update_time=updated.timestamp(),
    )


def _place(session: Session) -> tuple[float, str, str]:
    return session.last_update_time, session.user_id, session.id
