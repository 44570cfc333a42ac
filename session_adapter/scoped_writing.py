"""Writing scoped sessions: beginning them, adding an event with what it changes, changing their states."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from session_adapter.documents import Split, record_of
from session_adapter.entries import history_of
from session_adapter.errors import SessionAlreadyExistsError
from session_adapter.events import Check, Events
from session_adapter.formats import CANONICAL
from session_adapter.identity import SESSION, SessionKey, no_session, record_id
from session_adapter.levels import Deltas, State
from session_adapter.metadata import OWN
from session_adapter.naming import first_name
from session_adapter.one_step import Done, Name, Step, Steps
from session_adapter.reading import required_head, session_record
from session_adapter.session_state import state_updates
from session_adapter.states import Policies, States, expiry, has_policy, place_of_app, place_of_user, values_of
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageConflictError, StorageNotFoundError
from unified_storage.interface import IUnifiedStorage, OnDuplicate, Record
from unified_storage.values import encode

_NAME_DIGITS = 24
Own = Mapping[str, Any]
"""Fields of our own in the metadata of a session's record."""
NOTHING: Own = MappingProxyType({})


class Appended(NamedTuple):
    """What became of an entry.

    Attributes:
        number: its own.
        moved: by how much it has raised the session's version, where it is new.
    """

    number: int
    moved: int


class ScopedWriting:
    """What changes scoped sessions on a storage, or inside one transaction of it.

    Args:
        limit: entries of a history that stay.
        ttl: how long a session lives after it was written last.
    """

    def __init__(
        self,
        storage: IUnifiedStorage,
        states: States,
        policies: Policies,
        *,
        limit: int | None,
        ttl: timedelta | None,
        zone: Zone,
    ) -> None:
        self._storage = storage
        self._states = states
        self._policies = policies
        self._steps = Steps(storage, states)
        self._limit = limit
        self._ttl = ttl
        self._zone = zone

    async def begin(self, key: SessionKey, deltas: Deltas, own: Own = NOTHING) -> None:
        """Save a new session; where there is one, nothing changes and ``SessionAlreadyExistsError`` is raised."""
        record = _new_record(key, values_of(deltas.session), own)

        async def begun(tx: IUnifiedStorage) -> Done[None]:
            await _save_new(tx, key, record | expiry(tx, self._ttl))
            await self._change_user(tx, key, deltas)
            return Done(None)

        if deltas.user or deltas.app:
            await self._together(begun, key, deltas, decides=True)
        else:
            await _save_new(self._storage, key, record | expiry(self._storage, self._ttl))

    async def append(
        self,
        key: SessionKey,
        body: dict[str, Any],
        deltas: Deltas,
        expected_version: int | None = None,
        *,
        on_duplicate: OnDuplicate = "skip",
        check: Check | None = None,
    ) -> int:
        """Add an event and apply *deltas* in one step, or neither where the history has its ``id``; its number.

        Args:
            on_duplicate: ``skip``, or ``error`` where such an ``id`` raises ``StorageAlreadyExistsError``.
            check: as :class:`session_adapter.events.Events` takes it.
        """

        async def appended(storage: IUnifiedStorage) -> int:
            return await Events(storage, self._zone, check=check).append(
                key, body, on_duplicate=on_duplicate, keep_last=self._limit, expected_version=expected_version
            )

        decides = expected_version is not None
        return await self._appended(key, appended, body, deltas, NOTHING, name=body.get("id") or None, decides=decides)

    async def append_entry(
        self,
        key: SessionKey,
        entry: Mapping[str, Any],
        deltas: Deltas,
        expected_version: int | None = None,
        *,
        own: Own = NOTHING,
    ) -> Appended:
        """The same with an entry as its writer has it, which is known again by its ``key``.

        Args:
            entry: as the storage's ``append`` takes it.
            own: fields of our own that its session's record is to have from then on.
        """
        log = history_of(record_id(key))

        async def appended(storage: IUnifiedStorage) -> int:
            try:
                numbers = await storage.append(
                    log, [entry], on_duplicate="skip", keep_last=self._limit, expected_version=expected_version
                )
            except StorageNotFoundError as error:
                raise no_session(key) from error
            return numbers[0]

        decides = expected_version is not None
        number = await self._appended(key, appended, entry["body"], deltas, own, name=entry.get("key"), decides=decides)
        return Appended(number, 1 + bool(deltas.session or own or self._ttl))

    async def _appended(
        self,
        key: SessionKey,
        appended: Callable[[IUnifiedStorage], Awaitable[int]],
        body: Any,
        deltas: Deltas,
        own: Own,
        *,
        name: object,
        decides: bool,
    ) -> int:
        """What *appended* comes to, in one step with *deltas* and *own*, which stay where it found its event known.

        Args:
            body: of the entry that it appends.
            name: what the event is known by; None for one that is always new.
            decides: it may be refused; see :class:`session_adapter.one_step.Steps`.
        """
        stored_id = record_id(key)

        async def step(tx: IUnifiedStorage) -> Done[int]:
            # Read before it is written, so that a transaction has to read it once.
            record = await _required(tx, key) if deltas.session else None
            last = None if name is None else await _last_number(tx, stored_id)
            number = await appended(tx)
            if last is not None and number <= last:
                return Done(number, applies=False)
            changes = self._changes(tx, record, deltas)
            if own or changes:  # the name goes with what is written anyway
                noted = {**own, **first_name(record or {}, number, body)}
                changes |= {"metadata": {OWN: noted}} if noted else {}
                await tx.update(stored_id, changes, type=SESSION)
            await self._change_user(tx, key, deltas)
            return Done(number)

        if self._ttl is None and not (deltas.session or deltas.user or deltas.app or own):
            return await appended(self._storage)
        named = None if name is None else partial(self._name, key, name)
        number: int = await self._together(step, key, deltas, name=named, decides=decides)
        return number

    async def change(self, key: SessionKey, deltas: Deltas) -> None:
        """Apply *deltas* in one step."""

        async def changed(storage: IUnifiedStorage) -> None:
            record = await _required(storage, key) if deltas.session else None
            if not await storage.update(record_id(key), self._changes(storage, record, deltas), type=SESSION):
                raise no_session(key)

        async def step(tx: IUnifiedStorage) -> Done[None]:
            await changed(tx)
            await self._change_user(tx, key, deltas)
            return Done(None)

        touched = sum(map(bool, (deltas.session, deltas.user, deltas.app)))
        if touched > 1 or has_policy(deltas.session, self._policies):
            await self._together(step, key, deltas)
        elif deltas.user or deltas.app:
            await self._change_above(key, deltas)
        else:
            # An update of its own merges key by key as well, and shares its commit with others.
            await changed(self._storage)

    # parts of steps

    async def _together(
        self, step: Step[Any], key: SessionKey, deltas: Deltas, *, name: Name | None = None, decides: bool = False
    ) -> Any:
        """*step*, with what is for the app; *name* and *decides* as ``Steps.done_with_app`` takes them."""
        if not deltas.app:
            return await self._steps.done(step)
        app = place_of_app(key.app_name)
        return await self._steps.done_with_app(step, app, deltas.app, name=name, decides=decides)

    async def _name(self, key: SessionKey, event_id: object) -> str:
        """What names an event of this session, and of no other that had the same key before or has it later."""
        head = await required_head(self._storage, key)
        return sha256(encode([head["id"], head["created_at"], event_id]).encode()).hexdigest()[:_NAME_DIGITS]

    async def _change_user(self, tx: IUnifiedStorage, key: SessionKey, deltas: Deltas) -> None:
        if deltas.user:
            await self._states.inside(tx).change_in_step(place_of_user(key.user), deltas.user)

    async def _change_above(self, key: SessionKey, deltas: Deltas) -> None:
        """Change the one state above the session that *deltas* names; the session only has to be there."""
        if not await self._storage.exists(record_id(key), type=SESSION):
            raise no_session(key)
        if deltas.user:
            await self._states.change(place_of_user(key.user), deltas.user)
        else:
            await self._states.change(place_of_app(key.app_name), deltas.app)

    def _changes(self, storage: IUnifiedStorage, record: Record | None, deltas: Deltas) -> dict[str, Any]:
        """What becomes of the session's record (None where no key of it changes), and its new end."""
        changes = expiry(storage, self._ttl)
        return changes if record is None else changes | state_updates(record, deltas.session, self._policies)


def _new_record(key: SessionKey, state: State, own: Own) -> Record:
    document = {"session_id": key.session_id, "app_name": key.app_name, "user_id": key.user_id, "state": state}
    return record_of(key, Split(CANONICAL, document, None), own)


async def _save_new(storage: IUnifiedStorage, key: SessionKey, record: Record) -> None:
    try:
        await storage.save(record, expected_version=0)
    except StorageConflictError as error:
        if error.retryable:
            raise
        message = f"there is a session {key.session_id!r} already"
        raise SessionAlreadyExistsError(message, details={"session_id": key.session_id}) from error


async def _required(storage: IUnifiedStorage, key: SessionKey) -> Record:
    record = await session_record(storage, record_id(key))
    if record is None:
        raise no_session(key)
    return record


async def _last_number(tx: IUnifiedStorage, stored_id: str) -> int:
    info = await tx.log_info(history_of(stored_id))
    return 0 if info is None else int(info["last_seq"])
