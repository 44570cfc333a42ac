"""An open transaction: every verb on one buffer, which is sent when it commits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from unified_storage.backends.redis import listing, logs, records
from unified_storage.backends.redis.buffer import Buffer, changed_meanwhile
from unified_storage.backends.redis.courses import BY_ID, Course
from unified_storage.backends.redis.record_turns import HeldTurns, RecordTurns
from unified_storage.backends.redis.selection import named_ids, pinned_types
from unified_storage.backends.redis.store import Store
from unified_storage.backends.redis.verbs import RedisVerbs, SomeWalk
from unified_storage.backends.redis.walks import Found, Overlaid, Walk
from unified_storage.clock import Clock
from unified_storage.cursors import Cursor
from unified_storage.errors import StorageTransactionError
from unified_storage.filters import Condition, parse_filters
from unified_storage.interface import Entries, Filters, Ids, Indexed, IUnifiedStorage, TransactionCall
from unified_storage.logs import checked_prefix, checked_range, log_names
from unified_storage.ordering import Order

T = TypeVar("T")
_LOG_IDS_A_BATCH = 1000
_COUNTED_AT_ONCE = 1000


class RedisUnit(RedisVerbs):
    """The verbs of a storage inside one transaction."""

    def __init__(self, store: Store, turns: RecordTurns, indexed: Indexed, clock: Clock) -> None:
        self.indexed = indexed
        self.clock = clock
        self._store = store
        self._held = HeldTurns(turns)
        self._buffer = Buffer(store, self._held.take, stays_open=True)

    @property
    def verbs(self) -> IUnifiedStorage:
        return self

    async def _looked(self, work: Callable[[Buffer], Awaitable[T]]) -> T:
        return await work(self._buffer)

    async def _changed(self, work: Callable[[Buffer], Awaitable[T]]) -> T:
        return await work(self._buffer)

    async def commit(self) -> None:
        """Send everything; a record that others changed since it was read is a conflict, worth another attempt."""
        try:
            if self._buffer.partition is not None:
                reply = await self._store.commit(self._buffer.partition, self._buffer.job)
                if reply[0] != b"done":
                    raise changed_meanwhile((reply[2].decode(), reply[1].decode()))
        finally:
            self._held.leave()

    async def rollback(self) -> None:
        self._held.leave()

    async def close(self) -> None:
        await self.rollback()

    # -- listing -------------------------------------------------------------------------------------------------

    async def _walk(
        self, condition: Condition, order: Order, cursor: Cursor | None, wanted: int | None, with_data: bool
    ) -> SomeWalk:
        named = named_ids(condition)
        if named is not None:
            await self._note_named(named, pinned_types(condition))
        stored = await listing.walk(self._store, condition, order, cursor, wanted, with_data=with_data)
        return _Seen(self._buffer, stored, Course(order), cursor, by_name=named is not None)

    async def _note_named(self, ids: Sequence[str], kinds: Sequence[str] | None) -> None:
        """The records that a filter names by their ids count as read, also those that are not there."""
        await self._buffer.wait_for_turns(ids)
        if kinds is None:
            await self._buffer.prepare_ids(ids)
        else:
            await self._buffer.look_again((id, kind) for id in ids for kind in kinds)

    async def count(self, filters: Filters | None = None) -> int:
        walk = await self._walk(parse_filters(filters), BY_ID, None, None, False)
        total = 0
        while batch := await walk.next(_COUNTED_AT_ONCE):
            total += len(batch)
        return total

    async def read_many(
        self, log_ids: Iterable[str], *, last: int | None = None, limit: int | None = None
    ) -> dict[str, Entries]:
        names, wanted = log_names(log_ids), checked_range(0, None, None, last, limit)
        return dict(zip(names, await logs.read_each(self._buffer, [*names.values()], wanted), strict=True))

    async def logs(self, prefix: str = "") -> AsyncIterator[Ids]:
        checked_prefix(prefix)
        ids = await logs.log_ids(self._buffer, prefix) if logs.can_begin_a_log_id(prefix) else []
        for place in range(0, len(ids), _LOG_IDS_A_BATCH):
            yield ids[place : place + _LOG_IDS_A_BATCH]

    # -- together, upkeep ----------------------------------------------------------------------------------------

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        raise StorageTransactionError("a transaction is joined through the object that its block was given")

    async def purge_expired(self) -> int:
        return await records.purge(self._buffer, range(self._store.layout.partitions))

    async def health_check(self) -> dict[str, Any]:
        await self._store.client.ping(self._store.timeout)
        return {"status": "ok", "backend": "redis"}


class _Seen:
    """A walk of a transaction: every stored record that it shows counts as read.

    Args:
        by_name: the records were named by their ids, so that what was read of them before must still be true.
    """

    def __init__(self, buffer: Buffer, stored: Walk, course: Course, cursor: Cursor | None, *, by_name: bool) -> None:
        self._buffer = buffer
        self._stored = stored
        self._course = course
        self._by_name = by_name
        last = None if cursor is None else course.spot_of(cursor)
        self._walk = Overlaid(stored, self._written, buffer.written, last)

    async def next(self, count: int) -> list[Found]:
        found = await self._walk.next(count)
        for each in found:
            if each.key not in self._buffer.written:
                self._buffer.note_listed(each.key, each.stamp, by_name=self._by_name)
        return found

    async def _written(self) -> list[Found]:
        """The records written here that match, in the order of the walk."""
        wanted, now = self._stored.filter.without_help(), self._buffer.now()
        found: list[Found] = []
        for key in [*self._buffer.written]:
            row = await self._buffer.row(key, with_data=wanted.needs_data or self._course.order.path[0] == "data")
            if row is None or not row.lives(now) or (record := wanted.record(row)) is None:
                continue
            place = self._course.place(row.handed_out(row.data is not None))
            found.append(Found(self._course.candidate(place, row.id.encode(), row.type), row.stamp, record))
        return sorted(found, key=lambda each: each.candidate.spot)
