"""The memory backend: the reference that every other backend is compared with."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from unified_storage.arguments import (
    Place,
    behind,
    check_count,
    check_expected,
    check_switch,
    check_walk,
    checked_ids,
    checked_kind,
)
from unified_storage.backends.memory_tables import MemoryTables
from unified_storage.clock import Clock
from unified_storage.errors import StorageTransactionError
from unified_storage.exclusive import Exclusive, Work
from unified_storage.filters import parse_filters
from unified_storage.handed_in import kept
from unified_storage.interface import (
    Entries,
    Entry,
    Filters,
    Ids,
    Indexed,
    IUnifiedStorage,
    OnDuplicate,
    Record,
    Records,
    Seqs,
    TransactionCall,
)
from unified_storage.logs import checked_logs, checked_prefix, checked_range, parse_log_id
from unified_storage.opening import StorageURL, number_option, refuse_unknown, switch_option
from unified_storage.placing import checked_append, checked_rewrite
from unified_storage.record import checked_id, checked_record, checked_records

T = TypeVar("T")
_LOG_IDS_A_BATCH = 1000
_IGNORED = {"namespace", "pool_size", "connect_timeout"}  # of no meaning here: each storage stands alone


class _MemoryVerbs(IUnifiedStorage):
    """The verbs: check what was given, then one function on the tables."""

    def __init__(self, tables: MemoryTables, indexed: Indexed, clock: Clock) -> None:
        self._tables = tables
        self.indexed = indexed
        self.clock = clock

    @abstractmethod
    async def _run(self, work: Callable[[MemoryTables], T]) -> T: ...

    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        check_expected(expected_version)
        draft = checked_record(data)
        return await self._run(lambda tables: tables.save(draft, expected_version))

    async def load(self, id: str, *, type: str | None = None) -> Record | None:
        checked_id(id)
        row = await self._run(lambda tables: tables.row(id, checked_kind(type)))
        return None if row is None else row.handed_out()

    async def update(
        self, id: str, updates: Mapping[str, Any], *, type: str | None = None, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        updates = kept(updates, "updates")
        return await self._run(lambda tables: tables.update(id, updates, checked_kind(type), expected_version))

    async def delete(
        self, id: str, *, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        check_switch("cascade", cascade)
        return await self._run(lambda tables: tables.delete(id, checked_kind(type), cascade, expected_version))

    async def exists(self, id: str, *, type: str | None = None) -> bool:
        checked_id(id)
        return await self._run(lambda tables: tables.row(id, checked_kind(type))) is not None

    async def list(
        self, filters: Filters | None = None, limit: int | None = None, *, with_data: bool = True
    ) -> Records:
        check_count("limit", limit)
        check_switch("with_data", with_data)
        condition = parse_filters(filters)
        rows = await self._run(lambda tables: [*itertools.islice(tables.walk(condition), limit)])
        return [row.handed_out(with_data) for row in rows]

    async def stream_list(
        self,
        filters: Filters | None = None,
        batch_size: int = 100,
        *,
        after: Place | None = None,
        with_data: bool = True,
    ) -> AsyncIterator[Records]:
        condition = parse_filters(filters)
        place = behind(after)
        check_walk(batch_size, with_data)
        while True:
            start = place
            rows = await self._run(lambda tables: [*itertools.islice(tables.walk(condition, start), batch_size)])  # noqa: B023 (run at once)
            if rows:
                yield [row.handed_out(with_data) for row in rows]
            if len(rows) < batch_size:
                return
            place = rows[-1].key

    async def count(self, filters: Filters | None = None) -> int:
        condition = parse_filters(filters)
        return await self._run(lambda tables: sum(1 for _ in tables.walk(condition)))

    async def batch_save(self, data_list: Iterable[Mapping[str, Any]]) -> Ids:
        drafts = checked_records(data_list)
        return await self._run(lambda tables: [tables.save(draft) for draft in drafts])

    async def batch_delete(self, ids: Iterable[str], *, type: str | None = None, cascade: bool = False) -> int:
        wanted = checked_ids(ids)
        check_switch("cascade", cascade)
        kind = checked_kind(type)
        return await self._run(lambda tables: sum([tables.delete(id, kind, cascade, None) for id in wanted]))

    async def append(
        self,
        log_id: str,
        entries: Iterable[Mapping[str, Any]],
        *,
        on_duplicate: OnDuplicate = "error",
        keep_last: int | None = None,
        expected_version: int | None = None,
    ) -> Seqs:
        call = checked_append(log_id, entries, on_duplicate, keep_last, expected_version)
        return await self._run(lambda tables: tables.append(call))

    async def pop(self, log_id: str) -> Entry | None:
        name = parse_log_id(log_id)
        return await self._run(lambda tables: tables.pop(name))

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
        name, wanted = parse_log_id(log_id), checked_range(after, before, since, last, limit)
        return await self._run(lambda tables: tables.read(name, wanted))

    async def rewrite(
        self, log_id: str, entries: Iterable[Mapping[str, Any]], *, expected_version: int | None = None
    ) -> Seqs:
        call = checked_rewrite(log_id, entries, expected_version)
        return await self._run(lambda tables: tables.append(call))

    async def log_info(self, log_id: str) -> dict[str, Any] | None:
        name = parse_log_id(log_id)
        return await self._run(lambda tables: tables.log_info(name))

    async def logs(self, prefix: str = "") -> AsyncIterator[Ids]:
        ids = await self._run(lambda tables: tables.log_ids(checked_prefix(prefix)))
        for place in range(0, len(ids), _LOG_IDS_A_BATCH):
            yield ids[place : place + _LOG_IDS_A_BATCH]

    async def restore(self, records: Iterable[Mapping[str, Any]], logs: Iterable[Mapping[str, Any]] = ()) -> int:
        drafts, restored = checked_records(records, restored=True), checked_logs(logs)
        return await self._run(lambda tables: tables.restore(drafts, restored))

    async def _delete_unless_touched(self, listed: Record) -> bool:
        return await self._run(lambda tables: tables.delete_untouched(listed))

    async def purge_expired(self) -> int:
        return await self._run(lambda tables: tables.purge_expired())

    async def health_check(self) -> dict[str, Any]:
        begun = time.perf_counter()
        await self._run(lambda tables: None)
        return {"status": "ok", "backend": "memory", "latency_ms": round((time.perf_counter() - begun) * 1000, 3)}


class MemoryStorage(_MemoryVerbs):
    """Everything in this process, gone when it is closed. While a transaction is open everybody else waits."""

    def __init__(self, *, indexed: Indexed, clock: Clock, statement_timeout: float = 30) -> None:
        super().__init__(MemoryTables(clock), indexed, clock)
        self._exclusive = Exclusive(statement_timeout)

    async def _run(self, work: Callable[[MemoryTables], T]) -> T:
        async with self._exclusive:
            try:
                result = work(self._tables)
                self._tables.forget_undo()
                return result
            except BaseException:
                self._tables.undo()
                raise

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return self._exclusive.transaction(self._begin, operations, timeout)

    def _begin(self) -> Work:
        inside = _MemoryInside(self._tables, self.indexed, self.clock)
        return Work(inside, commit=self._tables.forget_undo, rollback=self._tables.undo)

    async def close(self) -> None:
        self._exclusive.close()
        self._tables = MemoryTables(self.clock)


class _MemoryInside(_MemoryVerbs):
    """The verbs of an open transaction."""

    async def _run(self, work: Callable[[MemoryTables], T]) -> T:
        return work(self._tables)

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        raise StorageTransactionError("a transaction is joined through the object that its block was given")

    async def close(self) -> None:
        raise StorageTransactionError("a transaction ends by leaving its block, not by close()")


def open_memory(url: StorageURL, *, indexed: Indexed, clock: Clock, **options: Any) -> MemoryStorage:
    """The storage of ``memory://``: each is a store of its own, there as soon as it is opened."""
    timeout = number_option(options, "statement_timeout", 30)
    switch_option(options, "create", True)
    refuse_unknown({key: value for key, value in options.items() if key not in _IGNORED}, url.scheme)
    return MemoryStorage(indexed=indexed, clock=clock, statement_timeout=timeout)
