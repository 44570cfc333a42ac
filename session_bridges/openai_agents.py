"""``UnifiedSession``: a session of the OpenAI Agents SDK on this storage."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from agents.items import TResponseInputItem
from agents.memory import SessionSettings
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from session_adapter import SessionKey, SessionStorageAdapter, record_id
from session_adapter.entries import history_of
from session_adapter.errors import storage_failures
from session_adapter.events import Events
from session_adapter.identity import SessionId
from session_adapter.reading import ATTEMPTS
from session_bridges.openai_agents_items import (
    answer_length,
    entries_of,
    is_own,
    items_in,
    items_of_event,
    without_last,
)
from session_bridges.openai_agents_storages import SHARED
from unified_storage.errors import StorageConfigurationError, StorageNotFoundError, StorageValidationError
from unified_storage.interface import Entries, IUnifiedStorage

_CHUNK = 500
"""Entries read at least where the newest do not show enough items."""


class UnifiedSession:
    """The ``Session`` protocol of openai-agents: a conversation's items, in the order in which they were added.

    One step a call: items added together are there all or not at all, also for a caller who is cancelled meanwhile.
    It may be used from several event loops, threads and processes, and by several objects of the same id at once.

    Args:
        session_id: what names the conversation.
        url_or_storage: an open storage, which stays its owner's to close, or a URL. All sessions on one URL share one
            storage, which is closed with the last of them.
        user_id, app_name: both make it a session of that user of that app, neither a plain one.
        session_settings: how many items are handed out where a call does not say.
    Raises:
        StorageValidationError: one of *user_id* and *app_name* without the other, or a name that cannot be stored.
        StorageConfigurationError: no storage and no URL, or one that cannot be opened.
    """

    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        url_or_storage: IUnifiedStorage | str,
        user_id: str | None = None,
        app_name: str | None = None,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = coerce_session_settings({} if session_settings is None else session_settings)
        self._key = _session_key(session_id, user_id, app_name)
        self._log = history_of(record_id(self._key))
        self._url = url_or_storage if isinstance(url_or_storage, str) else None
        self._storage = _given(url_or_storage) if self._url is None else SHARED.taken(self._url, self)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items, oldest first; empty where nothing was added yet.

        Args:
            limit: only the newest so many; None is what the settings say, and all where they say nothing; none for 0
                and below.
        """
        wanted = resolve_session_limit(limit, self.session_settings)
        with storage_failures("read the items of a session"):
            if wanted is None:
                return self._shown(await self._storage.read(self._log))
            return await self._newest(wanted)

    async def add_items(self, items: Sequence[TResponseInputItem]) -> None:
        """Add *items* to the end in one step. The first ones make the session, where it is not there."""
        if not items:
            return
        entries = entries_of(items, self._storage.clock())
        with storage_failures("add items to a session"):
            try:
                await self._storage.append(self._log, entries)
            except StorageNotFoundError:
                await self._storage.atomically(lambda tx: self._begin(tx, entries), attempts=ATTEMPTS)

    async def pop_item(self) -> TResponseInputItem | None:
        """Withdraw the newest item and return it; None where there is none."""
        with storage_failures("pop an item of a session"):
            return await self._storage.atomically(self._popped, attempts=ATTEMPTS)

    async def clear_session(self) -> None:
        """Withdraw all items. What else the session has, its state for one, stays."""
        with storage_failures("clear a session"):
            try:
                await self._storage.rewrite(self._log, [])
            except StorageNotFoundError:
                return  # there is none, so it has no items

    async def close(self) -> None:
        """Give the storage back; where it was opened for a URL and no other session uses it, it is closed."""
        if self._url is not None:
            await SHARED.given_back(self._url, self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- reading -------------------------------------------------------------------------------------------------

    async def _newest(self, count: int) -> list[TResponseInputItem]:
        entries: Entries = []
        wanted, before = count, None
        while wanted > 0:
            chunk = await self._storage.read(self._log, before=before, last=wanted)
            entries = chunk + entries
            items = self._shown(entries)
            if len(items) >= count or len(chunk) < wanted:
                return items[-count:]
            # An entry of another writer may be no item at all, or a broken one.
            before, wanted = chunk[0]["seq"], max(_CHUNK, len(entries))
        return []

    def _shown(self, entries: Entries) -> list[TResponseInputItem]:
        return items_in(entries, Events(self._storage).shown)

    # -- writing -------------------------------------------------------------------------------------------------

    async def _begin(self, tx: IUnifiedStorage, entries: Entries) -> None:
        sessions = SessionStorageAdapter(tx)
        if not await sessions.session_exists(self._key):
            await sessions.save_session(self._key, _first_document(self._key))
        await tx.append(self._log, entries)

    async def _popped(self, tx: IUnifiedStorage) -> TResponseInputItem | None:
        while newest := await tx.read(self._log, last=1):
            if not is_own(newest[0]):
                return await self._popped_of_others(tx)
            length = answer_length(newest[0])
            withdrawn = without_last(newest if length == 1 else await tx.read(self._log, last=length))
            for _ in range(withdrawn.gone):
                await tx.pop(self._log)
            if withdrawn.added:
                await tx.append(self._log, withdrawn.added)
            if withdrawn.item is not None:
                return withdrawn.item
        return None

    async def _popped_of_others(self, tx: IUnifiedStorage) -> TResponseInputItem | None:
        event = await Events(tx).pop(self._key)
        if event is None:
            return None
        *left, item = items_of_event(event)
        if left:
            await tx.append(self._log, entries_of(left, tx.clock()))
        return item


def _given(storage: object) -> IUnifiedStorage:
    if not isinstance(storage, IUnifiedStorage):
        raise StorageConfigurationError(f"a storage or a URL is wanted, not {type(storage).__name__}")
    return storage


def _session_key(session_id: str, user_id: str | None, app_name: str | None) -> SessionId:
    if user_id is None and app_name is None:
        return session_id
    if user_id is None or app_name is None:
        missing = "user_id" if user_id is None else "app_name"
        message = f"user_id and app_name name a session together; {missing} is missing"
        raise StorageValidationError(message, details={"path": missing})
    return SessionKey(app_name, user_id, session_id)


def _first_document(session: SessionId) -> dict[str, Any]:
    if isinstance(session, str):
        return {"session_id": session}
    return {
        "session_id": session.session_id,
        "app_name": session.app_name,
        "user_id": session.user_id,
        "state": {},
    }
