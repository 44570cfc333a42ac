"""The states of apps and users: a record each, changed key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from session_adapter.formats.places import ABSENT, object_of
from session_adapter.identity import UserKey, app_scope, user_scope
from session_adapter.levels import APP, USER, Delta, State
from session_adapter.policies import Policy
from session_adapter.reading import ATTEMPTS
from unified_storage.errors import StorageConflictError, StorageError, StorageValidationError
from unified_storage.interface import IUnifiedStorage, Record
from unified_storage.record import DELETE, REPLACE

APP_STATE, USER_STATE = "app_state", "user_state"
APP_EVENTS = "app_events"
"""The record beside an app's state that says which events it knows already, where they lie apart from it."""
_KNOWN = 1_000
Policies = Mapping[str, Policy]
"""By key, with the prefix of its level; keys without one replace."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the state of one app or user lies.

    Attributes:
        owner: the parts of its key, which stand beside the state.
        level: what its keys begin with where levels stand together.
    """

    id: str
    type: str
    level: str
    owner: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """Id and type of its record."""
        return self.id, self.type


def place_of_app(app_name: str) -> Place:
    """Where the state of an app lies; raises ``AppNameRequiredError`` without one."""
    return Place(app_scope(app_name), APP_STATE, APP, {"app_name": app_name})


def place_of_user(user: UserKey) -> Place:
    """Where the state of a user of an app lies; raises as ``user_scope`` does."""
    owner = {"app_name": user.app_name, "user_id": user.user_id}
    return Place(user_scope(user), USER_STATE, USER, owner)


def state_record(place: Place, state: Mapping[str, Any]) -> Record:
    """The record of a state, as ``save`` takes it."""
    return {"id": place.id, "type": place.type, "data": {**place.owner, "state": dict(state)}}


def state_in(record: Mapping[str, Any] | None) -> State:
    """The state that a record of one holds; empty where there is none."""
    return {} if record is None else object_of(record["data"].get("state")) or {}


# changing


def met(stored: Mapping[str, Any], delta: Delta, policies: Policies, level: str = "") -> Delta:
    """*delta* with what becomes of each value where a policy lets it meet the stored one.

    Raises:
        StorageConflictError, StorageValidationError: as the policies do; the path is the key with its prefix.
        StorageError: a function failed; its error is the cause.
    """
    return {key: _met(stored, key, value, policies.get(f"{level}{key}"), level) for key, value in delta.items()}


def _met(stored: Mapping[str, Any], key: str, value: Any, policy: Policy | None, level: str) -> Any:
    if policy is None or value is DELETE:
        return value
    path = f"state.{level}{key}"
    try:
        return policy.meet(stored.get(key, ABSENT), value, path=path)
    except (StorageConflictError, StorageValidationError):
        raise  # it says where
    except Exception as error:  # of a function of the caller's own
        message = f"the policy of {path} failed: {type(error).__name__}: {error}"
        raise StorageError(message, details={"path": path}, cause=error) from error


def has_policy(delta: Delta, policies: Policies, level: str = "") -> bool:
    """Whether what *delta* comes to depends on what is stored."""
    return any(f"{level}{key}" in policies for key in delta)


def updates_of(delta: Delta) -> dict[str, Any]:
    """*delta* as ``update`` takes it for the mapping that holds the state: no value is merged into a stored one."""
    return {key: value if value is DELETE else REPLACE(value) for key, value in delta.items()}


def values_of(delta: Delta) -> State:
    """What *delta* leaves where nothing was."""
    return {key: value for key, value in delta.items() if value is not DELETE}


def expiry(storage: IUnifiedStorage, ttl: timedelta | None) -> dict[str, Any]:
    """The field that lets a record written now live for *ttl*; nothing where there is no end."""
    return {} if ttl is None else {"expires_at": storage.clock() + ttl}


class States:
    """The states of apps and users on one storage, or inside one transaction of it.

    Args:
        ttls: how long a state lives after it was written last, by the type of its record.
    """

    def __init__(self, storage: IUnifiedStorage, policies: Policies, ttls: Mapping[str, timedelta | None]) -> None:
        self._storage = storage
        self._policies = policies
        self._ttls = ttls

    def inside(self, tx: IUnifiedStorage) -> States:
        """The same in a transaction."""
        return States(tx, self._policies, self._ttls)

    async def state(self, place: Place) -> State:
        """A copy of one state; empty where nobody wrote it yet."""
        return state_in(await self._storage.load(place.id, type=place.type))

    async def change(self, place: Place, delta: Delta) -> None:
        """Merge *delta* into a state, key by key, in one atomic step; the state begins with the first one."""
        if has_policy(delta, self._policies, place.level):
            await self._storage.atomically(lambda tx: self.inside(tx).change_in_step(place, delta), attempts=ATTEMPTS)
            return
        # Two single verbs, which share their commit with others': whoever loses the race to begin it, updates.
        for _ in range(ATTEMPTS):
            if await self._updated(place, delta) or await self._begun(place, delta):
                return
        raise StorageConflictError("a state came and went all the time", details={"id": place.id}, retryable=True)

    async def change_once(self, place: Place, delta: Delta, name: str) -> None:
        """The same, unless *name* was given before: the newest 1 000 names of a state are kept."""

        async def changed(tx: IUnifiedStorage) -> None:
            record = await tx.load(place.id, type=APP_EVENTS)
            known = [] if record is None else record["data"]["known"]
            if name in known:
                return
            await self.inside(tx).change_in_step(place, delta)
            data = {**place.owner, "known": [*known, name][-_KNOWN:]}
            await tx.save({"id": place.id, "type": APP_EVENTS, "data": data, **self._expiry(place)})

        await self._storage.atomically(changed, attempts=ATTEMPTS)

    async def change_in_step(self, place: Place, delta: Delta) -> None:
        """The same inside of the transaction that this is built on, which decides about everything together."""
        if has_policy(delta, self._policies, place.level):
            delta = met(await self.state(place), delta, self._policies, place.level)
        if not await self._updated(place, delta):
            await self._storage.save(self._new(place, delta))

    async def _updated(self, place: Place, delta: Delta) -> bool:
        updates = {"data": {"state": updates_of(delta)}, **self._expiry(place)}
        return await self._storage.update(place.id, updates, type=place.type)

    async def _begun(self, place: Place, delta: Delta) -> bool:
        try:
            await self._storage.save(self._new(place, delta), expected_version=0)
        except StorageConflictError as error:
            if error.retryable:
                raise
            return False
        return True

    def _new(self, place: Place, delta: Delta) -> Record:
        return state_record(place, values_of(delta)) | self._expiry(place)

    def _expiry(self, place: Place) -> dict[str, Any]:
        return expiry(self._storage, self._ttls.get(place.type))

    async def forget(self, place: Place, key: str) -> None:
        """Delete one key of a state; it is no error where there is none."""
        updates = {"data": {"state": {key: DELETE}}, **self._expiry(place)}
        await self._storage.update(place.id, updates, type=place.type)
