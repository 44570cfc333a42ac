"""The legacy store of a migration: called in threads of its own, and never believed where it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from legacy.file_store import FileSessionStore
from legacy.memory_store import MemorySessionStore
from legacy.migration.live.failures import AbsenceUnclearError, LegacyStoreError
from legacy.store import ISessionStore
from unified_storage.errors import StorageError

T = TypeVar("T")
Document = dict[str, Any]

_THREADS = 8
_EXACT = (FileSessionStore, MemorySessionStore)


class LegacySide:
    """L: an ``ISessionStore``, whose None and False count only where it says that nothing failed.

    Each call runs in a thread of a pool of its own; one whose caller has gone is still running.

    Attributes:
        keeps_exactly: what it hands out is what was saved; of others it is read again after a save.
    """

    def __init__(self, store: ISessionStore, *, threads: int = _THREADS) -> None:
        self.keeps_exactly = type(store) in _EXACT
        self._store = store
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    async def get(self, id: str) -> Document | None:
        """The document, or None for a session that is not there as far as one look can tell."""
        return await self._call(lambda: self._store.get_session(id), "get_session")

    async def exists(self, id: str) -> bool:
        return await self._call(lambda: self._store.session_exists(id), "session_exists")

    async def save(self, id: str, document: Document) -> None:
        """Raises ``LegacyStoreError`` where it may or may not have been done."""
        if not await self._call(lambda: self._store.save_session(id, document), "save_session"):
            raise LegacyStoreError("the legacy store did not save the session", details={"session_id": id})

    async def delete(self, id: str) -> None:
        """Raises ``LegacyStoreError`` where it may or may not have been done."""
        deleted = await self._call(lambda: self._store.delete_session(id), "delete_session")
        if not deleted and await self.exists(id):
            raise LegacyStoreError("the legacy store did not delete the session", details={"session_id": id})

    async def ids(self) -> list[str]:
        """The ids of all sessions, in any order."""
        if isinstance(self._store, FileSessionStore):
            return await self._call(self._store.session_ids, "session_ids")
        return [summary["session_id"] for summary in await self.summaries() if summary["session_id"] is not None]

    async def summaries(self) -> list[dict[str, Any]]:
        """What the store lists."""
        return await self._call(self._store.list_sessions, "list_sessions")

    async def kept(self, id: str, document: Document) -> Document | None:
        """What the store holds now that *document* was saved there."""
        return document if self.keeps_exactly else await self.get(id)

    async def close(self) -> None:
        """Let go of the threads; the store is its owner's to close."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    def forget_threads(self) -> None:
        """In a forked child: they stayed in the parent."""
        self._pool = None

    async def _call(self, call: Callable[[], T], verb: str) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="legacy-store")
        running = asyncio.get_running_loop().run_in_executor(self._pool, lambda: self._answer(call, verb))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await _ended(running)  # its thread goes on, and what it is about is not over before it
            raise

    def _answer(self, call: Callable[[], T], verb: str) -> T:
        try:
            answer = call()
        except StorageError:
            raise
        except Exception as error:
            raise LegacyStoreError(f"the legacy store failed in {verb}: {error}", cause=error) from error
        failure = getattr(self._store, "last_error", None) if not answer else None  # of this thread's last call
        if isinstance(failure, StorageError):
            raise failure
        if isinstance(failure, Exception):
            raise LegacyStoreError(f"the legacy store failed in {verb}: {failure}", cause=failure) from failure
        return answer


async def confirmed(
    legacy: LegacySide, ids: Iterable[str], *, look_again: bool = True
) -> dict[str, Document | StorageError | None]:
    """What L holds of each of *ids*; None only for what a second look, another question and the listing do not find.

    An error stands for a session that cannot be read, such as a damaged file: it is there, whatever it holds.
    """
    found: dict[str, Document | StorageError | None] = {}
    for id in ids:
        found[id] = await _looked(legacy, id)
    missing = [id for id, document in found.items() if document is None and look_again]
    if missing:
        listed = set(await legacy.ids())
        for id in missing:
            found[id] = await _looked_again(legacy, id, is_listed=id in listed)
    return found


async def _looked_again(legacy: LegacySide, id: str, *, is_listed: bool) -> Document | StorageError | None:
    again = await _looked(legacy, id)
    if again is not None:
        return again
    with suppress(StorageError):
        if not is_listed and not await legacy.exists(id):
            return None
    told = "the legacy store lists the session and does not hand it out"
    return AbsenceUnclearError(told, details={"session_id": id})


async def _looked(legacy: LegacySide, id: str) -> Document | StorageError | None:
    try:
        return await legacy.get(id)
    except StorageError as error:
        return error


async def _ended(running: asyncio.Future[Any]) -> None:
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    if not running.cancelled():
        running.exception()
