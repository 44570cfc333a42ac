"""Lists of ADK's sessions: without their events, though these tell when a session was updated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from google.adk.sessions.session import Session

from session_adapter.entries import history_of
from session_adapter.identity import SESSION, SessionKey, UserKey, user_scope, visible_id
from session_adapter.levels import State, shown_levels
from session_adapter.metadata import own_fields
from session_adapter.models import of_known
from session_adapter.states import APP_STATE, USER_STATE, place_of_app, place_of_user, state_in
from session_bridges.adk_revisions import OWN_TIMES
from session_bridges.adk_states import shown_state
from unified_storage.interface import IUnifiedStorage, Record, Records

_BLANK = Session(id="", app_name="", user_id="")
"""What a session has that nobody told it."""
_BATCH = 500
"""Sessions of an app that are read in one go."""
_ALL = 1 << 40
"""More sessions than a user has."""


class Listing:
    """The sessions in a storage as ADK lists them: by the time of their last event, then by user and id."""

    def __init__(self, storage: IUnifiedStorage) -> None:
        self._storage = storage

    async def of_user(self, user: UserKey) -> list[Session]:
        """All sessions of *user*."""
        page = await self._storage.page({"type": SESSION, "metadata.scope": user_scope(user)}, limit=_ALL)
        return sorted(await self._shown({user: page.items}), key=_place)

    async def of_app(self, app_name: str) -> list[Session]:
        """All sessions of all users of an app."""
        wanted = {"type": SESSION, "metadata.app_name": app_name, "metadata.scope": {"$exists": True}}
        sessions: list[Session] = []
        async for records in self._storage.stream_list(wanted, _BATCH):
            by_user: dict[UserKey, Records] = {}
            for record in records:
                if isinstance(key := visible_id(record), SessionKey):
                    by_user.setdefault(key.user, []).append(record)
            sessions += await self._shown(by_user)
        return sorted(sessions, key=_place)

    async def _shown(self, by_user: Mapping[UserKey, Records]) -> list[Session]:
        if not any(by_user.values()):
            return []
        levels = await self._levels(by_user)
        newest = await self._newest(record for records in by_user.values() for record in records)
        return [
            _session(user, record, levels[user], newest.get(record["id"]) or record["created_at"])
            for user, records in by_user.items()
            for record in records
        ]

    async def _newest(self, records: Iterable[Record]) -> dict[str, datetime]:
        """The times of the newest events, by record id; of sessions that have any."""
        logs = {record["id"]: history_of(record["id"]) for record in records if _may_have_events(record)}
        if not logs:
            return {}
        found = await self._storage.read_many(logs.values(), last=1)
        return {id: entry["created_at"] for id, log in logs.items() for entry in found[log]}

    async def _levels(self, users: Iterable[UserKey]) -> dict[UserKey, State]:
        """What the sessions of each user show of his state and of the app's."""
        places = {user: (place_of_user(user), place_of_app(user.app_name)) for user in users}
        ids = {place.id for both in places.values() for place in both}
        named = {"type": {"$in": [APP_STATE, USER_STATE]}, "id": {"$in": [*ids]}}
        found = {(record["id"], record["type"]): record for record in await self._storage.list(named)}
        return {
            user: shown_levels(*(state_in(found.get(place.key)) for place in both)) for user, both in places.items()
        }


def _may_have_events(record: Record) -> bool:
    """Whether the session was ever changed, as far as its times tell that."""
    return record["updated_at"] != record["created_at"] or OWN_TIMES not in own_fields(record)


def _session(user: UserKey, record: Record, levels: State, updated: datetime) -> Session:
    told = {
        "id": record["metadata"]["session_id"],
        "app_name": user.app_name,
        "user_id": user.user_id,
        "state": shown_state(record, levels),
        "events": [],
        "last_update_time": updated.timestamp(),
    }
    session: Session = of_known(Session, {**_BLANK.__dict__, **told}, None, {*told}, {**_BLANK.__pydantic_private__})
    return session


def _place(session: Session) -> tuple[float, str, str]:
    return session.last_update_time, session.user_id, session.id
