"""The storage interface: what every backend, layer and transaction can do."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from unified_storage.arguments import (
    check_count,
    check_expected,
    check_repetition,
    check_switch,
    check_version,
    checked_ids,
    idle_filter,
)
from unified_storage.clock import Clock, utc_now
from unified_storage.errors import StorageConflictError, StorageError
from unified_storage.filters import Condition, Path
from unified_storage.findings import Finding
from unified_storage.record import check_list, checked_id, checked_records, updated_record

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
Record = dict[str, Any]
Records = list[Record]
Entry = dict[str, Any]
Entries = list[Entry]
Ids = list[str]
Findings = list[Finding]
Seqs = list[int]
Filters = Mapping[str, Any] | Condition
OnDuplicate = Literal["error", "skip", "replace"]
Indexed = Mapping[str, frozenset[Path]]
"""Indexed paths by record type."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: its records, and the cursor of the next page (None on the last)."""

    items: Records
    next_cursor: str | None


class TransactionCall(Protocol):
    """What ``transaction`` returns: await it with a list of operations, or enter it with ``async with``."""

    def __await__(self) -> Any: ...

    async def __aenter__(self) -> IUnifiedStorage: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class IUnifiedStorage(ABC):
    """Versioned records and append-only logs, the same on every backend.

    A record is a dict of ``id type data metadata session_id thread_id version created_at updated_at expires_at``;
    what is handed out is always a copy, what is handed in is never kept or changed. ``type=None`` accepts any type.
    ``expected_version`` is the only concurrency check: a mismatch raises ``StorageConflictError``, 0 means "not there".
    Failures raise; ``None``, ``False`` and empty mean "not there" and nothing else.
    """

    indexed: Indexed = MappingProxyType({})
    clock: Clock = staticmethod(utc_now)

    # -- records -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        """Insert or replace one record whole, and return its id (generated when missing or empty)."""

    @abstractmethod
    async def load(self, id: str, *, type: str | None = None) -> Record | None:
        """A copy of the record, or None when there is none."""

    async def update(
        self, id: str, updates: Mapping[str, Any], *, type: str | None = None, expected_version: int | None = None
    ) -> bool:
        """Deep-merge mappings and replace everything else, atomically.

        Args:
            updates: any of ``data metadata session_id thread_id expires_at``; ``DELETE`` deletes a key,
                ``REPLACE(value)`` replaces a mapping whole. An empty one moves ``updated_at``.
        Returns:
            False when there is no such record.
        """
        check_expected(expected_version)

        from unified_storage.handed_in import kept  # late, since few storages leave this to us

        updates = kept(updates, "updates")

        async def merge(tx: IUnifiedStorage) -> bool:
            stored = await tx.load(id, type=type)
            check_version(expected_version, stored["version"] if stored else 0, id)
            changed = updated_record(stored or {}, updates)
            if stored is None:
                return False
            await tx.save(changed)
            return True

        return await self.atomically(merge, attempts=100)

    @abstractmethod
    async def delete(
        self, id: str, *, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        """Remove a record and its logs; with ``cascade`` also what is grouped under it. False when not there."""

    async def exists(self, id: str, *, type: str | None = None) -> bool:
        """Whether there is such a record."""
        return await self.load(id, type=type) is not None

    async def list(
        self, filters: Filters | None = None, limit: int | None = None, *, with_data: bool = True
    ) -> Records:
        """The matching records by ``(id, type)``, all of them or the first *limit*."""
        check_count("limit", limit)
        check_switch("with_data", with_data)
        found: Records = []
        if limit == 0:
            return found
        async for batch in self.stream_list(filters, with_data=with_data):
            found.extend(batch)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    async def page(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 20,
        order_by: str = "-updated_at",
        cursor: str | None = None,
        skip: int = 0,
        with_data: bool = True,
    ) -> Page:
        """One page by keyset: stable while records come and go.

        Args:
            limit: records a page, at least 0.
            order_by: ``id``, ``created_at``, ``updated_at`` or an indexed path, ``-`` before it for descending;
                ties go by ``(id, type)`` ascending. Texts order by the first 512 bytes of their key.
            cursor: ``next_cursor`` of the page before, with the same filters and order.
            skip: records to leave out before the page; its cost grows.
        Raises:
            StorageValidationError: a damaged cursor, or one of other filters or another order.
        """
        from unified_storage.paging import page_of_all

        return await page_of_all(self, filters, limit, order_by, cursor, skip, with_data)

    @abstractmethod
    def stream_list(
        self,
        filters: Filters | None = None,
        batch_size: int = 100,
        *,
        after: str | tuple[str, str] | None = None,
        with_data: bool = True,
    ) -> AsyncIterator[Records]:
        """Batches of matching records by ``(id, type)``, every surviving one exactly once, in bounded memory.

        Args:
            after: goes on behind an id (behind all its types), or behind ``(id, type)``.
        """

    async def query(self, query: str, params: Mapping[str, Any] | None = None) -> Records:
        """The records a query text selects, such as ``type = 'session' AND metadata.status = :s LIMIT 20``.

        Without ``ORDER BY`` they come by ``(id, type)``. Values come only as literals or through *params*.
        """
        from unified_storage.paging import records_of_query

        return await records_of_query(self, query, params)

    async def count(self, filters: Filters | None = None) -> int:
        """How many records match."""
        return sum([len(batch) async for batch in self.stream_list(filters, 1000, with_data=False)])

    async def batch_save(self, data_list: Iterable[Mapping[str, Any]]) -> Ids:
        """Save all records or none; their ids in the same order. A refusal names the record's place."""
        drafts = checked_records(data_list)
        async with self.transaction() as tx:
            return [await tx.save(draft.as_input()) for draft in drafts]

    async def batch_delete(self, ids: Iterable[str], *, type: str | None = None, cascade: bool = False) -> int:
        """Delete all of them that are there, in one step; returns how many were."""
        wanted = checked_ids(ids)
        async with self.transaction() as tx:
            return sum([await tx.delete(id, type=type, cascade=cascade) for id in wanted])

    async def get_by_session(self, session_id: str) -> Records:
        """The records grouped under a session (its *record id*), by ``(id, type)``."""
        return await self.list({"session_id": checked_id(session_id, "session_id")})

    async def get_by_thread(self, thread_id: str) -> Records:
        """The records grouped under a thread, by ``(id, type)``."""
        return await self.list({"thread_id": checked_id(thread_id, "thread_id")})

    # -- logs ----------------------------------------------------------------------------------------------------

    @abstractmethod
    async def append(
        self,
        log_id: str,
        entries: Iterable[Mapping[str, Any]],
        *,
        on_duplicate: OnDuplicate = "error",
        keep_last: int | None = None,
        expected_version: int | None = None,
    ) -> Seqs:
        """Add entries ``{"body", "key"?, "created_at"?}`` to the end; their numbers in the same order.

        Args:
            on_duplicate: what a ``key`` that is present means: ``error`` stores nothing, ``skip`` and ``replace``
                return the existing number.
            keep_last: afterwards only the newest *keep_last* entries stay.
            expected_version: of the owner; not applied where ``skip`` or ``replace`` finds all keys present.
        Raises:
            StorageNotFoundError: the log's owner is not there.
            StorageAlreadyExistsError: a key is present and ``on_duplicate`` is ``error``.
        """

    @abstractmethod
    async def pop(self, log_id: str) -> Entry | None:
        """Withdraw the newest entry and return it; None when there is none. Its number is never used again."""

    @abstractmethod
    async def read(
        self,
        log_id: str,
        *,
        after: int = 0,
        before: int | None = None,
        last: int | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Entries:
        """Entries ``{"seq", "key", "created_at", "body"}``, oldest first.

        Args:
            after, before: numbers, both exclusive.
            since: an aware time; entries created then or later.
            last: only the newest *last* of what the others leave.
            limit: only the first *limit*; not together with ``last``.
        """

    async def read_many(
        self, log_ids: Iterable[str], *, last: int | None = None, limit: int | None = None
    ) -> dict[str, Entries]:
        """The entries of several logs, in one go where the backend can; a log that is not there is empty.

        Args:
            last: only the newest *last* of each.
            limit: only the first *limit* of each; not together with ``last``.
        """
        check_list(log_ids, "log_ids")
        check_count("last", last)
        check_count("limit", limit)
        return {log_id: await self.read(log_id, last=last, limit=limit) for log_id in log_ids}

    @abstractmethod
    async def rewrite(
        self, log_id: str, entries: Iterable[Mapping[str, Any]], *, expected_version: int | None = None
    ) -> Seqs:
        """Replace all entries; numbers go on. An empty list empties the log."""

    @abstractmethod
    async def log_info(self, log_id: str) -> dict[str, Any] | None:
        """``{"first_seq", "last_seq", "count"}`` (``first_seq`` None when empty), or None when there is no log."""

    @abstractmethod
    def logs(self, prefix: str = "") -> AsyncIterator[Ids]:
        """Batches of log ids by code point. Logs of system records only when *prefix* names their type."""

    # -- together ------------------------------------------------------------------------------------------------

    @abstractmethod
    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        """Several verbs as one step.

        ``await storage.transaction([{"type": "save", "data": record}, ...])`` runs them in order and returns one
        result each. ``async with storage.transaction() as tx`` gives the same verbs and commits on leaving.

        Args:
            timeout: seconds until it is rolled back.
        Raises:
            StorageTransactionError: nothing was done; ``index`` and ``cause`` tell why.
        """

    async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
        """``fn(tx)`` in a transaction, repeated with a growing pause on retryable conflicts."""
        import asyncio  # late: half of what importing this package would cost

        check_repetition(fn, attempts)
        attempt = 1
        while True:
            try:
                async with self.transaction() as tx:
                    return await fn(tx)
            except StorageError as error:
                if attempt == attempts or not (isinstance(error, StorageConflictError) and error.retryable):
                    raise
            await asyncio.sleep(random.uniform(0, min(0.2, 0.001 * 2**attempt)))
            attempt += 1

    # -- upkeep --------------------------------------------------------------------------------------------------

    @abstractmethod
    async def restore(self, records: Iterable[Mapping[str, Any]], logs: Iterable[Mapping[str, Any]] = ()) -> int:
        """Import records and logs with their times, expiry, numbers and keys; returns how many records.

        Args:
            records: all fields; each replaces the stored one whole, ``version`` is the stored one's + 1, else 1.
            logs: ``{"log_id", "last_seq", "entries"}``; each replaces the log whole. Their owners are stored or
                among *records*.
        """

    async def cleanup_old_data(self, retention_days: int, *, type: str = "session", dry_run: bool = False) -> int:
        """Delete records last updated more than *retention_days* ago, with logs and what is grouped under them.

        Args:
            retention_days: whole days, at least 1; counted from the storage's clock.
            dry_run: only count.
        Returns:
            How many went, or would go.
        """
        idle = idle_filter(type, retention_days, self.clock())
        check_switch("dry_run", dry_run)
        if dry_run:
            return await self.count(idle)
        gone = 0
        async for batch in self.stream_list(idle, with_data=False):
            for record in batch:
                gone += await self._delete_unless_touched(record)
        return gone

    async def _delete_unless_touched(self, listed: Record) -> bool:
        """Delete one record with what is grouped under it, unless it was changed or made anew since it was listed."""
        id, kind = listed["id"], listed["type"]

        async def delete(tx: IUnifiedStorage) -> bool:
            found = await tx.list({"id": id, "type": kind}, with_data=False)
            # One that was made anew has the version 1 again, but no old time.
            if not found or any(found[0][name] != listed[name] for name in ("version", "updated_at")):
                return False
            return await tx.delete(id, type=kind, cascade=True)

        return await self.atomically(delete)

    @abstractmethod
    async def purge_expired(self) -> int:
        """Remove expired records with their logs; returns how many."""

    async def examine(self, *, repair: bool = False) -> AsyncIterator[Findings]:
        """What is wrong with the store itself, batch by batch, in bounded memory; others may write meanwhile.

        What callers wrote is not judged, only what the backend keeps beside it: what records are found by, and how
        they and their logs belong together.

        Args:
            repair: mend what can be, in short steps; each finding tells whether it was. Versions and times stay.
        Raises:
            StorageTransactionError: inside a transaction, which would see only its own state.
        """
        check_switch("repair", repair)
        await self.health_check()  # a storage that is closed or away says so; nothing else is known of it here
        for batch in list[Findings]():
            yield batch

    @abstractmethod
    async def health_check(self) -> dict[str, Any]:
        """``{"status": "ok", "backend", "latency_ms", ...}``; raises ``StorageConnectionError`` when it is down."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything. Calling it again is fine; any other verb then raises ``StorageClosedError``."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
