"""A cache of loaded records: bounded, and never stale for what is written through the same storage."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from unified_storage.delegate import Delegate
from unified_storage.interface import IUnifiedStorage, Record, TransactionCall
from unified_storage.transactions import Holders
from unified_storage.values import copied

T = TypeVar("T")
_READING = frozenset(
    {"load", "exists", "list", "page", "stream_list", "query", "count", "get_by_session", "get_by_thread"}
    | {"read", "read_many", "log_info", "logs", "health_check"}
)


@dataclass(slots=True)
class CacheCounts:
    """How often a record was found in the cache, and how often not."""

    hits: int = 0
    misses: int = 0


class Cache(Delegate):
    """Remembers the *size* records that were loaded last, by id and type.

    Whatever is written through this storage, or through a transaction of it, empties the cache before the write
    returns. Other programs that write to the same store are not seen: put no cache in front of a store that several
    processes change, unless an older record will do.
    """

    def __init__(self, inner: IUnifiedStorage, *, size: int = 1000) -> None:
        super().__init__(inner)
        self.counts = CacheCounts()
        self._size = size
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()
        self._guard = threading.Lock()
        self._writing = 0
        self._writes = 0
        self._holders = Holders()

    async def load(self, id: str, *, type: str | None = None) -> Record | None:
        self._holders.check()  # what is remembered must not answer where the storage would refuse
        if not isinstance(type, str) or not isinstance(id, str):
            return await super().load(id, type=type)
        found = self._remembered((id, type))
        if found is not None:
            return found
        before = self._writes
        record = await super().load(id, type=type)
        if record is not None:
            self._remember((id, type), record, before)
        return record

    def _remembered(self, key: tuple[str, str]) -> Record | None:
        with self._guard:
            record = self._records.get(key)
            if record is not None and (record["expires_at"] is None or record["expires_at"] > self.clock()):
                self._records.move_to_end(key)
                self.counts.hits += 1
            else:
                self.counts.misses += 1
                record = None
        return None if record is None else _copy(record)

    def _remember(self, key: tuple[str, str], record: Record, before: int) -> None:
        kept = _copy(record)
        with self._guard:
            # What was read while somebody wrote may be older than what they wrote.
            if self._writing or self._writes != before:
                return
            self._records[key] = kept
            if len(self._records) > self._size:
                self._records.popitem(last=False)

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        if verb in _READING:
            return await call()
        with self.writing():
            return await call()

    @contextmanager
    def writing(self) -> Generator[None]:
        """Whatever happens in the block, nothing that was read before its end is remembered after it."""
        with self._guard:
            self._writing += 1
        try:
            yield
        finally:
            with self._guard:
                self._writing -= 1
                self._writes += 1
                self._records.clear()

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return _EmptyingTransaction(self, self._inner.transaction(operations, timeout=timeout))

    async def close(self) -> None:
        self._records.clear()
        await super().close()


class _EmptyingTransaction:
    """A transaction of the storage behind; the cache is emptied when it ends, however it ends."""

    def __init__(self, cache: Cache, inner: TransactionCall) -> None:
        self._cache = cache
        self._inner = inner
        self._writing = cache.writing()
        self._task: asyncio.Task[Any] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        with self._writing:
            return (yield from self._inner.__await__())

    async def __aenter__(self) -> IUnifiedStorage:
        tx = await self._inner.__aenter__()
        self._writing.__enter__()
        self._task = self._cache._holders.enter()
        return tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._cache._holders.leave(self._task)
        try:
            return await self._inner.__aexit__(kind, error, trace)
        finally:
            self._writing.__exit__(None, None, None)


def _copy(record: Record) -> Record:
    """A record that shares nothing with *record* that could change."""
    return record | {"data": copied(record["data"]), "metadata": copied(record["metadata"])}
