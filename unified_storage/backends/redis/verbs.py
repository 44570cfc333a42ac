"""The verbs, for a storage and for its open transactions: what was given is checked here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from unified_storage.arguments import (
    Place,
    check_count,
    check_expected,
    check_page,
    check_switch,
    check_walk,
    checked_ids,
    checked_kind,
    checked_place,
)
from unified_storage.backends.redis import listing, logs, records
from unified_storage.backends.redis.buffer import Buffer
from unified_storage.backends.redis.courses import BY_ID, Course
from unified_storage.backends.redis.logs import check_numbers
from unified_storage.backends.redis.walks import Found
from unified_storage.cursors import Cursor
from unified_storage.filters import Condition, parse_filters
from unified_storage.handed_in import kept
from unified_storage.interface import (
    Entries,
    Entry,
    Filters,
    Ids,
    IUnifiedStorage,
    OnDuplicate,
    Page,
    Record,
    Records,
    Seqs,
)
from unified_storage.logs import LogName, ReadRange, RestoredLog, checked_logs, checked_range, parse_log_id
from unified_storage.ordering import Order, read_cursor, write_cursor
from unified_storage.paging import page_order
from unified_storage.placing import Append, checked_append, checked_rewrite
from unified_storage.query import parse_query
from unified_storage.record import Draft, checked_id, checked_record, checked_records

T = TypeVar("T")
_EVERYTHING = 1 << 62


async def restore_all(buffer: Buffer, drafts: Sequence[Draft], restored: Sequence[RestoredLog]) -> int:
    """Write records and logs as they were."""
    await buffer.prepare([*(draft.key for draft in drafts), *(log.owner.owner_key for log in restored)])
    await records.restore(buffer, drafts)
    among = {draft.key for draft in drafts}
    for log in restored:
        await logs.restore(buffer, log, among)
    return len(drafts)


class SomeWalk(Protocol):
    """A walk through what is stored, or through what a transaction sees."""

    async def next(self, count: int) -> list[Found]: ...


class RedisVerbs(IUnifiedStorage):
    """Every verb on a buffer; a storage does some of them in fewer steps."""

    @abstractmethod
    async def _looked(self, work: Callable[[Buffer], Awaitable[T]]) -> T:
        """Do *work*, which only reads."""

    @abstractmethod
    async def _changed(self, work: Callable[[Buffer], Awaitable[T]]) -> T:
        """Do *work* on a buffer, and make what it writes last: now, or with the transaction."""

    @abstractmethod
    async def _walk(
        self, condition: Condition, order: Order, cursor: Cursor | None, wanted: int | None, with_data: bool
    ) -> SomeWalk: ...

    # -- records -------------------------------------------------------------------------------------------------

    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        check_expected(expected_version)
        draft = checked_record(data)
        return await self._changed(lambda buffer: records.save(buffer, draft, expected_version))

    async def load(self, id: str, *, type: str | None = None) -> Record | None:
        checked_id(id)
        kind = checked_kind(type)
        return await self._looked(lambda buffer: records.load(buffer, id, kind))

    async def update(
        self, id: str, updates: Mapping[str, Any], *, type: str | None = None, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        kind, updates = checked_kind(type), kept(updates, "updates")
        return await self._changed(lambda buffer: records.update(buffer, id, updates, kind, expected_version))

    async def delete(
        self, id: str, *, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        check_switch("cascade", cascade)
        kind = checked_kind(type)
        return await self._changed(lambda buffer: records.delete(buffer, id, kind, cascade, expected_version))

    async def exists(self, id: str, *, type: str | None = None) -> bool:
        checked_id(id)
        kind = checked_kind(type)
        return await self._looked(lambda buffer: records.found(buffer, id, kind)) is not None

    async def batch_save(self, data_list: Iterable[Mapping[str, Any]]) -> Ids:
        drafts = checked_records(data_list)
        return await self._changed(lambda buffer: records.save_all(buffer, drafts))

    async def batch_delete(self, ids: Iterable[str], *, type: str | None = None, cascade: bool = False) -> int:
        wanted = checked_ids(ids)
        check_switch("cascade", cascade)
        kind = checked_kind(type)
        return await self._changed(lambda buffer: records.delete_all(buffer, wanted, kind, cascade))

    # -- listing -------------------------------------------------------------------------------------------------

    async def list(
        self, filters: Filters | None = None, limit: int | None = None, *, with_data: bool = True
    ) -> Records:
        check_count("limit", limit)
        check_switch("with_data", with_data)
        condition = parse_filters(filters)
        if limit == 0:
            return []
        return await self._listed(condition, BY_ID, limit, with_data)

    async def _listed(self, condition: Condition, order: Order, limit: int | None, with_data: bool) -> Records:
        walk = await self._walk(condition, order, None, limit, with_data)
        return [found.record for found in await walk.next(_EVERYTHING if limit is None else limit)]

    async def stream_list(
        self,
        filters: Filters | None = None,
        batch_size: int = 100,
        *,
        after: Place | None = None,
        with_data: bool = True,
    ) -> AsyncIterator[Records]:
        condition = parse_filters(filters)
        place = checked_place(after)
        check_walk(batch_size, with_data)
        walk = await self._walk(condition, BY_ID, listing.behind(place), None, with_data)
        while batch := await walk.next(batch_size):
            yield [found.record for found in batch]
            if len(batch) < batch_size:
                return

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
        check_page(limit, skip, with_data)
        condition, order = parse_filters(filters), page_order(self, order_by)
        place = None if cursor is None else read_cursor(cursor, order, condition)
        wanted = min(skip + limit + 1, _EVERYTHING)
        walk = await self._walk(condition, order, place, wanted, with_data)
        found = (await walk.next(wanted))[skip:]
        more = None
        if limit and len(found) > limit:
            # By the place at which the walk came by it: it may have moved meanwhile.
            more = write_cursor(Course(order).cursor(found[limit - 1].candidate), order, condition)
        return Page([each.record for each in found[:limit]], more)

    async def query(self, query: str, params: Mapping[str, Any] | None = None) -> Records:
        parsed = parse_query(query, params)
        if parsed.limit == 0:
            return []
        order = BY_ID if parsed.order_by is None else page_order(self, parsed.order_by)
        return await self._listed(parsed.condition, order, parsed.limit, True)

    # -- logs ----------------------------------------------------------------------------------------------------

    async def append(
        self,
        log_id: str,
        entries: Iterable[Mapping[str, Any]],
        *,
        on_duplicate: OnDuplicate = "error",
        keep_last: int | None = None,
        expected_version: int | None = None,
    ) -> Seqs:
        return await self._append(checked_append(log_id, entries, on_duplicate, keep_last, expected_version))

    async def _append(self, asked: Append) -> Seqs:
        """``append`` or ``rewrite``."""
        return await self._changed(lambda buffer: logs.append(buffer, asked))

    async def rewrite(
        self, log_id: str, entries: Iterable[Mapping[str, Any]], *, expected_version: int | None = None
    ) -> Seqs:
        return await self._append(checked_rewrite(log_id, entries, expected_version))

    async def pop(self, log_id: str) -> Entry | None:
        return await self._pop(parse_log_id(log_id))

    async def _pop(self, name: LogName) -> Entry | None:
        return await self._changed(lambda buffer: logs.pop(buffer, name))

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
        return await self._entries(parse_log_id(log_id), checked_range(after, before, since, last, limit))

    async def _entries(self, name: LogName, wanted: ReadRange) -> Entries:
        return await self._looked(lambda buffer: logs.read(buffer, name, wanted))

    async def log_info(self, log_id: str) -> dict[str, Any] | None:
        name = parse_log_id(log_id)
        return await self._looked(lambda buffer: logs.log_info(buffer, name))

    # -- upkeep --------------------------------------------------------------------------------------------------

    async def restore(self, records: Iterable[Mapping[str, Any]], logs: Iterable[Mapping[str, Any]] = ()) -> int:
        drafts, restored = checked_records(records, restored=True), checked_logs(logs)
        check_numbers(restored)  # before anything is written
        return await self._restored(drafts, restored)

    async def _restored(self, drafts: Sequence[Draft], restored: Sequence[RestoredLog]) -> int:
        return await self._changed(lambda buffer: restore_all(buffer, drafts, restored))

    async def _delete_unless_touched(self, listed: Record) -> bool:
        return await self._changed(lambda buffer: records.delete_untouched(buffer, listed))
