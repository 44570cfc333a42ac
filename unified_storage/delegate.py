"""A storage that passes every verb on to another one, through one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from unified_storage.interface import (
    Entries,
    Entry,
    Filters,
    Findings,
    Ids,
    IUnifiedStorage,
    OnDuplicate,
    Page,
    Record,
    Records,
    Seqs,
    TransactionCall,
)

T = TypeVar("T")


class Delegate(IUnifiedStorage):
    """Every verb goes to *inner* through :meth:`_call`, which a subclass may surround with something."""

    def __init__(self, inner: IUnifiedStorage) -> None:
        self._inner = inner
        self.indexed = inner.indexed
        self.clock = inner.clock

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    async def _batches(self, verb: str, stream: AsyncIterator[T]) -> AsyncIterator[T]:
        async def following() -> T | None:
            return await anext(stream, None)

        try:
            while (batch := await self._call(verb, following)) is not None:
                yield batch
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # every stream of ours is an async generator

    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        return await self._call("save", lambda: self._inner.save(data, expected_version=expected_version))

    async def load(self, id: str, *, type: str | None = None) -> Record | None:
        return await self._call("load", lambda: self._inner.load(id, type=type))

    async def update(
        self, id: str, updates: Mapping[str, Any], *, type: str | None = None, expected_version: int | None = None
    ) -> bool:
        return await self._call(
            "update", lambda: self._inner.update(id, updates, type=type, expected_version=expected_version)
        )

    async def delete(
        self, id: str, *, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        return await self._call(
            "delete", lambda: self._inner.delete(id, type=type, cascade=cascade, expected_version=expected_version)
        )

    async def exists(self, id: str, *, type: str | None = None) -> bool:
        return await self._call("exists", lambda: self._inner.exists(id, type=type))

    async def list(
        self, filters: Filters | None = None, limit: int | None = None, *, with_data: bool = True
    ) -> Records:
        return await self._call("list", lambda: self._inner.list(filters, limit, with_data=with_data))

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
        return await self._call(
            "page",
            lambda: self._inner.page(
                filters, limit=limit, order_by=order_by, cursor=cursor, skip=skip, with_data=with_data
            ),
        )

    def stream_list(
        self,
        filters: Filters | None = None,
        batch_size: int = 100,
        *,
        after: str | tuple[str, str] | None = None,
        with_data: bool = True,
    ) -> AsyncIterator[Records]:
        return self._batches(
            "stream_list", self._inner.stream_list(filters, batch_size, after=after, with_data=with_data)
        )

    async def query(self, query: str, params: Mapping[str, Any] | None = None) -> Records:
        return await self._call("query", lambda: self._inner.query(query, params))

    async def count(self, filters: Filters | None = None) -> int:
        return await self._call("count", lambda: self._inner.count(filters))

    async def batch_save(self, data_list: Iterable[Mapping[str, Any]]) -> Ids:
        return await self._call("batch_save", lambda: self._inner.batch_save(data_list))

    async def batch_delete(self, ids: Iterable[str], *, type: str | None = None, cascade: bool = False) -> int:
        return await self._call("batch_delete", lambda: self._inner.batch_delete(ids, type=type, cascade=cascade))

    async def get_by_session(self, session_id: str) -> Records:
        return await self._call("get_by_session", lambda: self._inner.get_by_session(session_id))

    async def get_by_thread(self, thread_id: str) -> Records:
        return await self._call("get_by_thread", lambda: self._inner.get_by_thread(thread_id))

    async def append(
        self,
        log_id: str,
        entries: Iterable[Mapping[str, Any]],
        *,
        on_duplicate: OnDuplicate = "error",
        keep_last: int | None = None,
        expected_version: int | None = None,
    ) -> Seqs:
        return await self._call(
            "append",
            lambda: self._inner.append(
                log_id, entries, on_duplicate=on_duplicate, keep_last=keep_last, expected_version=expected_version
            ),
        )

    async def pop(self, log_id: str) -> Entry | None:
        return await self._call("pop", lambda: self._inner.pop(log_id))

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
        return await self._call(
            "read",
            lambda: self._inner.read(log_id, after=after, before=before, last=last, since=since, limit=limit),
        )

    async def read_many(
        self, log_ids: Iterable[str], *, last: int | None = None, limit: int | None = None
    ) -> dict[str, Entries]:
        return await self._call("read_many", lambda: self._inner.read_many(log_ids, last=last, limit=limit))

    async def rewrite(
        self, log_id: str, entries: Iterable[Mapping[str, Any]], *, expected_version: int | None = None
    ) -> Seqs:
        return await self._call(
            "rewrite", lambda: self._inner.rewrite(log_id, entries, expected_version=expected_version)
        )

    async def log_info(self, log_id: str) -> dict[str, Any] | None:
        return await self._call("log_info", lambda: self._inner.log_info(log_id))

    def logs(self, prefix: str = "") -> AsyncIterator[Ids]:
        return self._batches("logs", self._inner.logs(prefix))

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return self._inner.transaction(operations, timeout=timeout)

    async def restore(self, records: Iterable[Mapping[str, Any]], logs: Iterable[Mapping[str, Any]] = ()) -> int:
        return await self._call("restore", lambda: self._inner.restore(records, logs))

    async def cleanup_old_data(self, retention_days: int, *, type: str = "session", dry_run: bool = False) -> int:
        return await self._call(
            "cleanup_old_data", lambda: self._inner.cleanup_old_data(retention_days, type=type, dry_run=dry_run)
        )

    async def purge_expired(self) -> int:
        return await self._call("purge_expired", self._inner.purge_expired)

    def examine(self, *, repair: bool = False) -> AsyncIterator[Findings]:
        return self._batches("examine", self._inner.examine(repair=repair))

    async def health_check(self) -> dict[str, Any]:
        return await self._call("health_check", self._inner.health_check)

    async def close(self) -> None:
        await self._inner.close()
