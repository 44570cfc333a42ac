"""A storage on Redis: one server or a cluster."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from unified_storage.arguments import check_expected, check_switch, check_version, checked_kind, idle_filter
from unified_storage.backends.redis import listing, logs, records
from unified_storage.backends.redis.buffer import Buffer
from unified_storage.backends.redis.client import Argument, RedisClient, opened_client
from unified_storage.backends.redis.errors import refused
from unified_storage.backends.redis.examining import Examination
from unified_storage.backends.redis.jobs import Job
from unified_storage.backends.redis.partitions import Layout, key_prefix, time_text
from unified_storage.backends.redis.paths import SCHEMA, Paths, prepared_paths, read_paths
from unified_storage.backends.redis.record_turns import RecordTurns
from unified_storage.backends.redis.rows import Key, Row, row_of
from unified_storage.backends.redis.scripts import PURGE
from unified_storage.backends.redis.store import Patience, Store
from unified_storage.backends.redis.together import together
from unified_storage.backends.redis.transaction import RedisUnit
from unified_storage.backends.redis.updates import Updates
from unified_storage.backends.redis.verbs import RedisVerbs, SomeWalk, restore_all
from unified_storage.backends.redis.walks import Found, Walk
from unified_storage.clock import Clock
from unified_storage.cursors import Cursor
from unified_storage.errors import (
    StorageConflictError,
    StorageError,
    StorageUnsupportedError,
)
from unified_storage.filters import Condition, parse_filters
from unified_storage.handed_in import kept
from unified_storage.interface import Entries, Entry, Filters, Findings, Ids, Indexed, Record, Seqs, TransactionCall
from unified_storage.lifetime import Lifetime
from unified_storage.logs import (
    LogName,
    ReadRange,
    RestoredLog,
    checked_prefix,
    checked_range,
    duplicate_key,
    log_names,
    no_owner,
    parse_log_id,
)
from unified_storage.opening import StorageURL, no_store, refuse_unknown, switch_option
from unified_storage.ordering import Order
from unified_storage.placing import Append
from unified_storage.record import Draft, checked_id, checked_record, checked_records
from unified_storage.transactions import OuterTransaction

T = TypeVar("T")
_PURGED_AT_ONCE = 500
_RESTORED_TOGETHER = 32


def open_redis(url: StorageURL, *, indexed: Indexed, clock: Clock, **options: Any) -> RedisStorage:
    """The storage of ``redis://host:port/db`` or ``redis+cluster://host:port,host:port``, with ``rediss`` over TLS.

    Options: ``namespace``, ``pool_size`` (connections of an event loop to a node), ``connect_timeout`` and
    ``statement_timeout`` (seconds), ``create`` (false: the store has to be there), and what redis-py's connections
    take.
    """
    prefix = key_prefix(str(options.pop("namespace", "")))
    create = switch_option(options, "create", True)
    client = opened_client(url, options)
    refuse_unknown(options, url.scheme)
    return RedisStorage(client, prefix, place=str(url), create=create, indexed=indexed, clock=clock)


class RedisStorage(RedisVerbs):
    """Every verb on Redis; what only one script has to decide takes one round trip.

    Args:
        prefix: what its keys begin with.
        place: its URL, without a password.
        create: whether opening it makes what is missing there.
    """

    def __init__(
        self, client: RedisClient, prefix: str, *, place: str, create: bool, indexed: Indexed, clock: Clock
    ) -> None:
        self.indexed = indexed
        self.clock = clock
        self._client = client
        self._place = place
        self._create = create
        self._store = Store(client, Layout(prefix, client.partitions), clock, client.statement_timeout)
        self._turns = RecordTurns()
        self._updates = Updates(self._store, self._turns)
        self._lifetime = Lifetime(let_go=client.let_go, end=client.close, timeout=self._store.timeout)

    # -- opening and closing -------------------------------------------------------------------------------------

    async def __aenter__(self) -> RedisStorage:
        await self._lifetime.open(self._prepare)
        return self

    async def _prepare(self) -> None:
        self._store.paths = await self._paths()

    async def _paths(self) -> Paths:
        store = self._store
        if self._create:
            return await prepared_paths(store.client, store.layout, self.indexed, store.timeout)
        paths = await read_paths(store.client, store.layout, store.timeout)
        if not paths.is_begun:
            raise no_store(self._place, f"no key {store.layout.meta(0)}", SCHEMA)
        return paths

    async def _ready(self) -> Store:
        """The store, open; refused to a task that holds a transaction of it."""
        await self._lifetime.ready(self._prepare)
        return self._store

    async def close(self) -> None:
        await self._lifetime.close()

    # -- reading and writing -------------------------------------------------------------------------------------

    async def _looked(self, work: Callable[[Buffer], Awaitable[T]]) -> T:
        return await work(Buffer(await self._ready()))

    async def _changed(self, work: Callable[[Buffer], Awaitable[T]]) -> T:
        store = await self._ready()
        patience = Patience(store.timeout)
        while True:
            buffer = Buffer(store, self._turns.give_way)
            try:
                result = await work(buffer)
                if buffer.partition is None or (await store.commit(buffer.partition, buffer.job))[0] == b"done":
                    return result
            except StorageConflictError as error:
                if not error.retryable:
                    raise
            await patience.pause()

    async def _walk(
        self, condition: Condition, order: Order, cursor: Cursor | None, wanted: int | None, with_data: bool
    ) -> SomeWalk:
        store = await self._ready()
        return _Checked(await listing.walk(store, condition, order, cursor, wanted, with_data=with_data), self._ready)

    async def count(self, filters: Filters | None = None) -> int:
        condition = parse_filters(filters)
        return await listing.count(await self._ready(), condition)

    # -- records -------------------------------------------------------------------------------------------------

    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        check_expected(expected_version)
        draft = checked_record(data)
        store = await self._ready()
        await self._turns.give_way(draft.id)
        partition, now = store.layout.of(draft.id), store.now()

        def job() -> Job:
            made = store.job(partition)
            made.save(draft, store.index_keys(draft), now, expected=expected_version)
            return made

        reply = await store.commit(partition, job)
        if reply[0] == b"version":
            check_version(expected_version, reply[1], draft.id)
        return draft.id

    async def update(
        self, id: str, updates: Mapping[str, Any], *, type: str | None = None, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        kind, updates = checked_kind(type), kept(updates, "updates")
        await self._ready()
        return await self._updates.update(id, kind, updates, expected_version)

    async def batch_save(self, data_list: Iterable[Mapping[str, Any]]) -> Ids:
        drafts = checked_records(data_list)
        store = await self._ready()
        partitions = {store.layout.of(draft.id) for draft in drafts}
        if len(partitions) > 1:
            raise StorageUnsupportedError("a Redis cluster cannot save records of several partitions in one step")
        now = store.now()

        def job() -> Job:
            made = store.job(partition)
            for key in {draft.key for draft in drafts}:
                made.check_readable(key)
            for draft in drafts:
                made.save(draft, store.index_keys(draft), now)
            return made

        for partition in partitions:
            await store.commit(partition, job)
        return [draft.id for draft in drafts]

    async def delete(
        self, id: str, *, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        if not cascade or self._store.layout.partitions == 1:
            return await super().delete(id, type=type, cascade=cascade, expected_version=expected_version)
        checked_id(id)
        check_expected(expected_version)
        check_switch("cascade", cascade)
        kind = checked_kind(type)
        owner = await self._looked(lambda buffer: records.found(buffer, id, kind))
        check_version(expected_version, owner.version if owner else 0, id)
        await self._delete_grouped_elsewhere(owner)
        # What comes to another partition from now on stays, as if it had come afterwards.
        own = [self._store.layout.of(id)]
        return await self._changed(lambda buffer: records.delete(buffer, id, kind, True, expected_version, own))

    async def _delete_grouped_elsewhere(self, owner: Row | None) -> None:
        """Delete what is grouped under a record in other partitions than its own, one after the other.

        The record itself goes last, so that the whole can be repeated.
        """
        if owner is None or owner.type not in records.GROUPED_BY:
            return
        partitions = range(self._store.layout.partitions)
        for partition in await records.stored_group(self._store, owner, partitions):
            if partition != self._store.layout.of(owner.id):
                await self._changed(lambda buffer: _drop_group(buffer, owner, partition))  # noqa: B023 (run at once)

    # -- logs ----------------------------------------------------------------------------------------------------

    async def _append(self, asked: Append) -> Seqs:
        store, name = await self._ready(), asked.name
        await self._turns.give_way(name.owner_id)
        now = store.now()

        def job() -> Job:
            made = Job()
            made.append(asked, now)
            return made

        reply = await store.commit(store.layout.of(name.owner_id), job)
        match reply[0]:
            case b"absent":
                raise no_owner(name)
            case b"duplicate":
                raise duplicate_key(name, reply[1].decode())
            case b"version":
                check_version(asked.expected_version, reply[1], name.owner_id)
        numbers: Seqs = reply[1]
        return numbers

    async def _pop(self, name: LogName) -> Entry | None:
        store = await self._ready()
        await self._turns.give_way(name.owner_id)
        now = store.now()

        def job() -> Job:
            made = Job()
            made.pop(name, now)
            return made

        reply = await store.commit(store.layout.of(name.owner_id), job)
        return logs.entry_of(reply[1]).handed_out() if reply[0] == b"done" else None

    async def _entries(self, name: LogName, wanted: ReadRange) -> Entries:
        return (await self._entries_of([name], wanted))[0]

    async def read_many(
        self, log_ids: Iterable[str], *, last: int | None = None, limit: int | None = None
    ) -> dict[str, Entries]:
        names, wanted = log_names(log_ids), checked_range(0, None, None, last, limit)
        return dict(zip(names, await self._entries_of([*names.values()], wanted), strict=True))

    async def _entries_of(self, names: Sequence[LogName], wanted: ReadRange) -> list[Entries]:
        store = await self._ready()
        commands = [logs.reading(store, name, wanted) for name in names]
        heads = [logs.head_command(store, name) for name in names]
        answers = await store.ask([command for pair in zip(heads, commands, strict=True) for command in pair])
        now = store.now()
        found: list[Entries] = []
        for name, head, entries in zip(names, answers[::2], answers[1::2], strict=True):
            owner = row_of(name.owner_key, head)
            living = owner is not None and owner.lives(now)
            found.append([entry.handed_out() for entry in logs.entries_of(entries, wanted)] if living else [])
        return found

    async def log_info(self, log_id: str) -> dict[str, Any] | None:
        name, store = parse_log_id(log_id), await self._ready()
        (answer,) = await store.ask([logs.info_command(store, name)])
        return logs.info_of(answer)

    async def logs(self, prefix: str = "") -> AsyncIterator[Ids]:
        checked_prefix(prefix)
        place: bytes | None = None
        while True:
            store = await self._ready()
            ids: Ids = []
            if logs.can_begin_a_log_id(prefix):
                ids, place = await logs.ids_after(store, prefix, place, self._living)
            if ids:
                yield ids
            if place is None:
                return

    async def _living(self, keys: list[Key]) -> set[Key]:
        now = self._store.now()
        rows = await self._store.heads(keys)
        return {row.key for row in rows if row is not None and row.lives(now)}

    # -- together ------------------------------------------------------------------------------------------------

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return OuterTransaction(self._begin, self._lifetime.holders, operations, timeout)

    async def _begin(self, timeout: float) -> RedisUnit:
        await self._lifetime.open(self._prepare)
        return RedisUnit(self._store, self._turns, self.indexed, self.clock)

    # -- upkeep --------------------------------------------------------------------------------------------------

    async def _restored(self, drafts: Sequence[Draft], restored: Sequence[RestoredLog]) -> int:
        if self._store.layout.partitions == 1:
            return await super()._restored(drafts, restored)
        among = {draft.key for draft in drafts}
        await self._check_owners([log.owner for log in restored if log.owner.owner_key not in among])
        written: list[Key] = []

        async def restore_one(key: Key, drafts: Sequence[Draft], restored: Sequence[RestoredLog]) -> None:
            await self._changed(lambda buffer: restore_all(buffer, drafts, restored))
            written.append(key)

        parts = [*_by_record(drafts, restored)]
        try:
            for start in range(0, len(parts), _RESTORED_TOGETHER):
                await together(restore_one(*part) for part in parts[start : start + _RESTORED_TOGETHER])
        except StorageError as error:
            error.details["written"] = [list(key) for key in written]
            raise
        return len(drafts)

    async def _check_owners(self, names: Sequence[LogName]) -> None:
        await self._ready()
        living = await self._living([*{name.owner_key for name in names}])
        for name in names:
            if name.owner_key not in living:
                raise no_owner(name)

    async def cleanup_old_data(self, retention_days: int, *, type: str = "session", dry_run: bool = False) -> int:
        idle = idle_filter(type, retention_days, self.clock())
        check_switch("dry_run", dry_run)
        if dry_run:
            return await self.count(idle)
        gone = 0
        async for batch in self.stream_list(idle, with_data=False):
            gone += sum(await together(map(self._delete_unless_touched, batch)))
        return gone

    async def _delete_unless_touched(self, listed: Record) -> bool:
        if self._store.layout.partitions == 1:
            return await super()._delete_unless_touched(listed)
        await self._delete_grouped_elsewhere(await self._looked(lambda buffer: records.untouched(buffer, listed)))
        own = [self._store.layout.of(listed["id"])]
        return await self._changed(lambda buffer: records.delete_untouched(buffer, listed, own))

    async def purge_expired(self) -> int:
        store, gone, damage = await self._ready(), 0, b""
        for partition in range(store.layout.partitions):
            keys, first = store.layout.script_keys(partition), b"-"
            while first:
                asked: list[Argument] = [first, time_text(store.now()), _PURGED_AT_ONCE]
                last, went, trouble = await store.client.run(PURGE, keys, asked, timeout=store.timeout)
                first = b"(" + last if last else b""
                gone, damage = gone + went, damage or trouble
        if damage:  # the others are gone
            raise refused(damage)
        return gone

    async def examine(self, *, repair: bool = False) -> AsyncIterator[Findings]:
        check_switch("repair", repair)
        async with aclosing(Examination(self._ready, repair=repair).findings()) as batches:
            async for found in batches:
                yield found

    async def health_check(self) -> dict[str, Any]:
        store = await self._ready()
        begun = time.perf_counter()
        await store.client.ping(store.timeout)
        latency = round((time.perf_counter() - begun) * 1000, 3)
        facts = await store.client.facts()
        return {"status": "ok", "backend": "redis", "latency_ms": latency, "schema": SCHEMA, **facts}


async def _drop_group(buffer: Buffer, owner: Row, partition: int) -> None:
    for key in await records.grouped_under(buffer, owner, [partition]):
        buffer.drop(key)


class _Checked:
    """A walk that asks before each step whether its storage may still be used."""

    def __init__(self, walk: Walk, ready: Callable[[], Awaitable[Store]]) -> None:
        self._walk = walk
        self._ready = ready

    async def next(self, count: int) -> list[Found]:
        await self._ready()
        return await self._walk.next(count)


def _by_record(
    drafts: Iterable[Draft], restored: Iterable[RestoredLog]
) -> Iterator[tuple[Key, list[Draft], list[RestoredLog]]]:
    """What is restored in one step each on a cluster: a record with its logs, or logs of a record that is there."""
    logs_of: dict[Key, list[RestoredLog]] = {}
    for log in restored:
        logs_of.setdefault(log.owner.owner_key, []).append(log)
    drafts_of: dict[Key, list[Draft]] = {}
    for draft in drafts:
        drafts_of.setdefault(draft.key, []).append(draft)
    for key in dict.fromkeys([*drafts_of, *logs_of]):
        yield key, drafts_of.get(key, []), logs_of.get(key, [])
