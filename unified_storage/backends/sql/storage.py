"""Every verb once, for all SQL engines: what was given is checked here, what is done are steps."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

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
    idle_filter,
)
from unified_storage.backends.sql import batches, listing, logs, records, schema
from unified_storage.backends.sql.claims import Claims
from unified_storage.backends.sql.conditions import is_text
from unified_storage.backends.sql.engine import Engine, EngineTransaction, StepsOf
from unified_storage.backends.sql.examining import Examination
from unified_storage.backends.sql.short_ways import ShortWays
from unified_storage.backends.sql.statements import Steps
from unified_storage.backends.sql.store import Store
from unified_storage.backends.sql.tables import tables_of
from unified_storage.backends.sql.updates import Change, Updates
from unified_storage.clock import Clock
from unified_storage.errors import StorageConfigurationError, StorageTransactionError
from unified_storage.filters import Condition, Path, parse_filters
from unified_storage.handed_in import kept
from unified_storage.interface import (
    Entries,
    Entry,
    Filters,
    Findings,
    Ids,
    Indexed,
    IUnifiedStorage,
    OnDuplicate,
    Page,
    Record,
    Records,
    Seqs,
    TransactionCall,
)
from unified_storage.lifetime import Lifetime
from unified_storage.logs import (
    checked_logs,
    checked_range,
    log_names,
    names_system_logs,
    parse_log_id,
)
from unified_storage.opening import no_store
from unified_storage.ordering import Order, read_cursor
from unified_storage.paging import page_of, page_order
from unified_storage.placing import Append, checked_append, checked_rewrite
from unified_storage.query import parse_query
from unified_storage.record import Draft, checked_id, checked_record, checked_records
from unified_storage.transactions import OuterTransaction

T = TypeVar("T")
_EVERYTHING = 1 << 62
_LOG_IDS_AT_ONCE = 1000
_PURGED_AT_ONCE = 500


class _SQLVerbs(IUnifiedStorage):
    """The verbs, for a storage and for its open transactions."""

    _store: Store

    @abstractmethod
    async def _read(self, steps: StepsOf[T]) -> T: ...

    @abstractmethod
    async def _write(self, steps: StepsOf[T]) -> T: ...

    # -- records -------------------------------------------------------------------------------------------------

    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        check_expected(expected_version)
        return await self._save(checked_record(data), expected_version)

    async def _save(self, draft: Draft, expected_version: int | None) -> str:
        return await self._write(lambda: records.save(self._store, draft, expected_version))

    async def load(self, id: str, *, type: str | None = None) -> Record | None:
        checked_id(id)
        kind = checked_kind(type)
        return await self._read(lambda: records.load(self._store, id, kind))

    async def update(
        self, id: str, updates: Mapping[str, Any], *, type: str | None = None, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        return await self._update(id, kept(updates, "updates"), checked_kind(type), expected_version)

    async def _update(
        self, id: str, updates: Mapping[str, Any], kind: str | None, expected_version: int | None
    ) -> bool:
        return await self._write(lambda: records.update(self._store, id, updates, kind, expected_version))

    async def delete(
        self, id: str, *, type: str | None = None, cascade: bool = False, expected_version: int | None = None
    ) -> bool:
        checked_id(id)
        check_expected(expected_version)
        check_switch("cascade", cascade)
        kind = checked_kind(type)
        return await self._write(lambda: records.delete(self._store, id, kind, cascade, expected_version))

    async def exists(self, id: str, *, type: str | None = None) -> bool:
        checked_id(id)
        kind = checked_kind(type)
        return await self._read(lambda: records.exists(self._store, id, kind))

    async def batch_save(self, data_list: Iterable[Mapping[str, Any]]) -> Ids:
        drafts = checked_records(data_list)
        return await self._write(lambda: batches.save_all(self._store, drafts))

    async def batch_delete(self, ids: Iterable[str], *, type: str | None = None, cascade: bool = False) -> int:
        wanted = checked_ids(ids)
        check_switch("cascade", cascade)
        kind = checked_kind(type)
        return await self._write(lambda: records.delete_all(self._store, wanted, kind, cascade))

    # -- listing -------------------------------------------------------------------------------------------------

    async def list(
        self, filters: Filters | None = None, limit: int | None = None, *, with_data: bool = True
    ) -> Records:
        check_count("limit", limit)
        check_switch("with_data", with_data)
        condition = parse_filters(filters)
        if limit == 0:
            return []
        return (await self._in_order(condition, None, limit, with_data))[0]

    async def _in_order(
        self, condition: Condition, start: Place | None, limit: int | None, with_data: bool
    ) -> tuple[Records, Place | None]:
        return await self._read(lambda: listing.in_order(self._store, condition, start, limit, with_data))

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
        while True:
            batch, place = await self._in_order(condition, place, batch_size, with_data)
            if batch:
                yield batch
            if place is None:
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
        needs_data = with_data or order.path[0] == "data"
        found = await self._read(
            lambda: listing.page(self._store, condition, order, place, min(skip + limit + 1, _EVERYTHING), needs_data)
        )
        return page_of(found[skip:], limit, order, condition, with_data)

    async def query(self, query: str, params: Mapping[str, Any] | None = None) -> Records:
        parsed = parse_query(query, params)
        if parsed.limit == 0:
            return []
        if parsed.order_by is None:
            return (await self._in_order(parsed.condition, None, parsed.limit, True))[0]
        order: Order = page_order(self, parsed.order_by)
        wanted = _EVERYTHING if parsed.limit is None else parsed.limit
        return await self._read(lambda: listing.page(self._store, parsed.condition, order, None, wanted, True))

    async def count(self, filters: Filters | None = None) -> int:
        condition = parse_filters(filters)
        return await self._read(lambda: listing.count(self._store, condition))

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
        return await self._write(lambda: logs.append(self._store, asked))

    async def pop(self, log_id: str) -> Entry | None:
        name = parse_log_id(log_id)
        return await self._write(lambda: logs.pop(self._store, name))

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
        return await self._read(lambda: logs.read(self._store, name, wanted))

    async def read_many(
        self, log_ids: Iterable[str], *, last: int | None = None, limit: int | None = None
    ) -> dict[str, Entries]:
        asked = log_names(log_ids)
        wanted = checked_range(0, None, None, last, limit)
        if 0 in (last, limit):
            return {log_id: [] for log_id in asked}
        found = await self._read(lambda: logs.read_many(self._store, [*asked.values()], wanted))
        return {log_id: found[name.log_id] for log_id, name in asked.items()}

    async def rewrite(
        self, log_id: str, entries: Iterable[Mapping[str, Any]], *, expected_version: int | None = None
    ) -> Seqs:
        asked = checked_rewrite(log_id, entries, expected_version)
        return await self._write(lambda: logs.append(self._store, asked))

    async def log_info(self, log_id: str) -> dict[str, Any] | None:
        name = parse_log_id(log_id)
        return await self._read(lambda: logs.log_info(self._store, name))

    async def logs(self, prefix: str = "") -> AsyncIterator[Ids]:
        with_system = names_system_logs(prefix)
        place: str | None = "" if is_text(prefix) else None  # no log's id begins with what is none
        while place is not None:
            start = place
            ids, place = await self._read(
                lambda: logs.log_ids(self._store, prefix, start, with_system, _LOG_IDS_AT_ONCE)  # noqa: B023 (run at once)
            )
            if ids:
                yield ids

    # -- upkeep --------------------------------------------------------------------------------------------------

    async def restore(self, records: Iterable[Mapping[str, Any]], logs: Iterable[Mapping[str, Any]] = ()) -> int:
        drafts, restored = checked_records(records, restored=True), checked_logs(logs)
        return await self._write(lambda: batches.restore_all(self._store, drafts, restored))

    async def cleanup_old_data(self, retention_days: int, *, type: str = "session", dry_run: bool = False) -> int:
        idle = idle_filter(type, retention_days, self.clock())
        check_switch("dry_run", dry_run)
        if dry_run:
            return await self.count(idle)
        gone = 0
        async for batch in self.stream_list(idle, with_data=False):
            gone += await self._write(lambda: records.delete_untouched(self._store, batch))  # noqa: B023 (run at once)
        return gone

    async def purge_expired(self) -> int:
        gone = 0
        while True:
            purged = await self._write(lambda: records.purge(self._store, _PURGED_AT_ONCE))
            gone += purged
            if purged < _PURGED_AT_ONCE:
                return gone


class SQLStorage(_SQLVerbs):
    """A storage on one SQL engine.

    Args:
        prefix: what the names of its tables begin with.
        place: its URL, without a password.
        create: whether opening it makes and upgrades what is missing there.
    """

    def __init__(
        self,
        engine: Engine,
        prefix: str,
        *,
        place: str,
        create: bool,
        indexed: Indexed,
        clock: Clock,
        statement_timeout: float,
        short_ways: ShortWays | None = None,
    ) -> None:
        self.indexed = indexed
        self.clock = clock
        self._engine = engine
        self._place = place
        self._create = create
        self._outdated: int | None = None
        self._tables = tables_of(prefix)
        self._store = schema.new_store(prefix, engine.dialect, clock)
        self._timeout = statement_timeout
        self._short_ways = short_ways
        # Where one writes at a time, updates wait for each other anyway.
        self._updates = Updates(statement_timeout) if engine.dialect.locks_rows else None
        self._lifetime = Lifetime(let_go=engine.let_go, end=engine.close, timeout=statement_timeout)

    async def __aenter__(self) -> SQLStorage:
        await self._lifetime.open(self._set_up)
        return self

    async def _set_up(self) -> None:
        await (self._prepare() if self._create else self._find())

    async def _find(self) -> None:
        """Take the store as it is; paths that it does not index are searched without an index."""
        tables, dialect = self._tables, self._engine.dialect
        found = await self._engine.read(lambda: schema.version_of(tables, dialect), self._timeout)
        if not found:
            raise no_store(self._place, f"no table {tables.schema.name}", len(schema.STEPS))
        self._outdated = found if found < len(schema.STEPS) else None
        if found < schema.OLDEST_READ:
            raise self._too_old(found)
        await self._engine.read(lambda: schema.refreshed(self._store, dialect), self._timeout)

    def _too_old(self, found: int) -> StorageConfigurationError:
        known = len(schema.STEPS)
        return StorageConfigurationError(
            f"the store in {self._place} has schema version {found}, this program needs {known} here: "
            f"unified-storage doctor upgrades it, and so does opening it without create=false",
            details={"found": found, "known": known},
        )

    def _check_writable(self) -> None:
        if self._outdated is not None:
            raise self._too_old(self._outdated)

    async def _prepare(self) -> None:
        """Make or upgrade the schema, and fill the keys of paths that are new to older records."""
        tables, dialect = self._tables, self._engine.dialect
        if not await self._engine.read(lambda: schema.is_current(tables, dialect, self.indexed), self._timeout):
            await self._engine.upgrade(lambda: schema.upgraded(tables, dialect, self.indexed), self._timeout)
        await self._engine.read(lambda: schema.refreshed(self._store, dialect), self._timeout)
        if unfilled := schema.unfilled(self._store):
            await self._fill_all(unfilled)
            await self._engine.read(lambda: schema.refreshed(self._store, dialect), self._timeout)

    async def _fill_all(self, unfilled: Mapping[str, Sequence[Path]]) -> None:
        dialect = self._engine.dialect
        if not dialect.schema_is_transactional:  # whoever added the paths may still be waiting for this
            await self._engine.upgrade(lambda: schema.after_all_writes(self._tables, dialect), self._timeout)
        for type_name, paths in unfilled.items():
            await self._fill(type_name, paths)

    async def _fill(self, type_name: str, paths: Sequence[Path]) -> None:
        place: int | None = 0
        while place is not None:
            start = place
            place = await self._engine.write_long(
                lambda: self._current(lambda: schema.filled(self._store, type_name, paths, start)),  # noqa: B023 (run at once)
                self._timeout,
            )

    def _current(self, steps: StepsOf[T]) -> Steps[T]:
        """*steps*, after a look whether another program has indexed more paths."""
        yield from schema.refreshed(self._store, self._engine.dialect)
        return (yield from steps())

    async def _read(self, steps: StepsOf[T]) -> T:
        await self._lifetime.ready(self._set_up)
        return await self._engine.read(steps, self._timeout)

    async def _write(self, steps: StepsOf[T]) -> T:
        await self._lifetime.ready(self._set_up)
        self._check_writable()
        return await self._engine.write(lambda: self._current(steps), self._timeout)

    async def _save(self, draft: Draft, expected_version: int | None) -> str:
        if self._short_ways is not None:
            await self._lifetime.ready(self._set_up)
            self._check_writable()
            if await self._short_ways.save(self._store, draft, expected_version):
                return draft.id
        return await super()._save(draft, expected_version)

    async def _update(
        self, id: str, updates: Mapping[str, Any], kind: str | None, expected_version: int | None
    ) -> bool:
        if self._updates is None:
            return await super()._update(id, updates, kind, expected_version)
        await self._lifetime.ready(self._set_up)
        self._check_writable()
        return await self._updates.update(
            (id, kind),
            Change(updates, expected_version),
            lambda: self._update_alone(id, updates, kind, expected_version),
            lambda changes: self._write(lambda: records.update_all(self._store, id, kind, changes)),
        )

    async def _update_alone(
        self, id: str, updates: Mapping[str, Any], kind: str | None, expected_version: int | None
    ) -> bool:
        short = self._short_ways
        if short is not None and await short.update(self._store, id, updates, kind, expected_version):
            return True
        return await super()._update(id, updates, kind, expected_version)

    async def _append(self, asked: Append) -> Seqs:
        await self._lifetime.ready(self._set_up)
        self._check_writable()
        return await self._engine.append(self._store, asked, self._timeout)

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return OuterTransaction(self._begin, self._lifetime.holders, operations, timeout)

    async def _begin(self, timeout: float) -> _SQLUnit:
        await self._lifetime.open(self._set_up)
        self._check_writable()
        begun = await self._engine.begin(lambda: schema.refreshed(self._store, self._engine.dialect), timeout)
        claims = Claims() if self._engine.dialect.locks_rows else None
        return _SQLUnit(self, begun, replace(self._store, claims=claims))

    async def examine(self, *, repair: bool = False) -> AsyncIterator[Findings]:
        check_switch("repair", repair)
        dialect = self._engine.dialect
        examination = Examination(
            schema.new_store(self._tables.prefix, dialect, self.clock),
            dialect,
            read=self._read,
            write=self._write,
            upgrade=self._upgrade,
            fill=self._fill_all,
            repair=repair,
        )
        async with aclosing(examination.findings()) as batches:
            async for found in batches:
                yield found

    async def _upgrade(self, steps: StepsOf[T]) -> T:
        self._lifetime.holders.check()
        return await self._engine.upgrade(steps, self._timeout)

    async def health_check(self) -> dict[str, Any]:
        self._lifetime.holders.check()
        facts = await self._engine.facts()  # before all else: it does not wait for a server that is away
        begun = time.perf_counter()
        version = await self._read(lambda: schema.version_of(self._tables, self._engine.dialect))
        latency = round((time.perf_counter() - begun) * 1000, 3)
        return {
            "status": "ok",
            "backend": self._engine.dialect.name,
            "latency_ms": latency,
            "schema": version,
            **facts,
        }

    async def close(self) -> None:
        await self._lifetime.close()


class _SQLUnit(_SQLVerbs):
    """The verbs on an open transaction of the engine."""

    def __init__(self, storage: SQLStorage, begun: EngineTransaction, store: Store) -> None:
        self.indexed = storage.indexed
        self.clock = storage.clock
        self._store = store
        self._begun = begun
        self.commit = begun.commit
        self.rollback = begun.rollback

    @property
    def verbs(self) -> IUnifiedStorage:
        return self

    async def _read(self, steps: StepsOf[T]) -> T:
        return await self._begun.run(steps)

    async def _write(self, steps: StepsOf[T]) -> T:
        return await self._begun.run(steps)

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        raise StorageTransactionError("a transaction is joined through the object that its block was given")

    async def health_check(self) -> dict[str, Any]:
        await self._begun.run(lambda: listing.count(self._store, parse_filters({"id": "-"})))
        return {"status": "ok", "backend": "sql"}

    async def close(self) -> None:
        await self._begun.rollback()
