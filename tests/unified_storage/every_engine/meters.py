"""How many rows or keys an engine touches for a page: counted by the engine itself, never timed."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from unified_storage.backends.sql import listing
from unified_storage.backends.sql.sqlite_connection import SQLiteConnection
from unified_storage.backends.sql.statements import Call, Row
from unified_storage.backends.sql.storage import SQLStorage
from unified_storage.filters import parse_filters
from unified_storage.ordering import read_cursor
from unified_storage.paging import page_order


class Meter:
    """The rows touched, and the plans where the engine tells them."""

    def __init__(self) -> None:
        self.touched = 0
        self.plans: list[str] = []


async def metered_page(
    storage: Any, filters: dict[str, Any], cursor: str | None, limit: int = 20, order_by: str = "-updated_at"
) -> Meter:
    """What the engine touches for one page; in another order than newest first on SQL alone."""
    if not isinstance(storage, SQLStorage):
        return await _metered_on_redis(storage, filters, cursor, limit)
    condition, order = parse_filters(filters), page_order(storage, order_by)
    place = None if cursor is None else read_cursor(cursor, order, condition)
    meter = Meter()

    def steps() -> Generator[Call, list[Row], Any]:
        return listing.page(storage._store, condition, order, place, limit + 1, True)

    if storage._engine.dialect.name == "sqlite":
        _meter_sqlite(storage, steps, meter)
    else:
        counted = _explained if storage._engine.dialect.name == "postgresql" else _with_handler_counts
        await storage._engine.read(lambda: counted(steps(), meter), 60)
    return meter


def _meter_sqlite(storage: Any, steps: Any, meter: Meter) -> None:
    """In steps of the engine's machine."""

    def count() -> bool:
        meter.touched += 1
        return False

    connection = SQLiteConnection(storage._engine._path, create=False, busy_timeout=5)
    connection._sqlite.set_progress_handler(count, 1)
    connection.run(steps)
    connection._sqlite.set_progress_handler(None, 0)
    for call in _calls(steps(), connection):
        rows = connection._sqlite.execute("EXPLAIN QUERY PLAN " + call.sql, call.values).fetchall()
        meter.plans.append("; ".join(row[3] for row in rows))
    connection.close()


def _calls(running: Generator[Call, list[Row], Any], connection: SQLiteConnection) -> Generator[Call, None, None]:
    rows: Any = None
    while True:
        try:
            call = running.send(rows)
        except StopIteration:
            return
        yield call
        rows = connection._rows(call)


def _explained(inner: Generator[Call, list[Row], Any], meter: Meter) -> Generator[Call, list[Row], Any]:
    """PostgreSQL: the rows that its scans returned and threw away."""
    rows: Any = None
    while True:
        try:
            call = inner.send(rows)
        except StopIteration as done:
            return done.value
        told = yield Call("EXPLAIN (ANALYZE, FORMAT JSON) " + call.sql, call.values)
        (plan,) = told[0]
        found = json.loads(plan) if isinstance(plan, str) else plan
        meter.touched += _scanned(found[0]["Plan"])
        meter.plans.append(json.dumps(found))
        rows = yield call


def _scanned(node: dict[str, Any]) -> int:
    own = 0
    if "Scan" in node["Node Type"]:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = int((node["Actual Rows"] + removed) * node["Actual Loops"])
    return own + sum(_scanned(child) for child in node.get("Plans", []))


def _with_handler_counts(inner: Generator[Call, list[Row], Any], meter: Meter) -> Generator[Call, list[Row], Any]:
    """MySQL and MariaDB: how often the engine went to a row."""
    rows: Any = None
    while True:
        try:
            call = inner.send(rows)
        except StopIteration as done:
            return done.value
        told = yield Call("EXPLAIN " + call.sql, call.values)
        meter.plans.append(repr(told))
        before = yield Call("SHOW SESSION STATUS LIKE 'Handler_read%'")
        rows = yield call
        after = yield Call("SHOW SESSION STATUS LIKE 'Handler_read%'")
        # a look at the status reads rows of a table of its own: the same number each time, taken off
        between = yield Call("SHOW SESSION STATUS LIKE 'Handler_read%'")
        meter.touched += _total(after) - _total(before) - (_total(between) - _total(after))


def _total(rows: list[Row]) -> int:
    return sum(int(value) for _, value in rows)


async def _metered_on_redis(storage: Any, filters: dict[str, Any], cursor: str | None, limit: int) -> Meter:
    """Redis: the commands that were asked, and the elements and fields that came back."""
    meter = Meter()
    client = storage._client
    inner = client.ask

    async def ask(commands: Any, **options: Any) -> list[Any]:
        answers: list[Any] = await inner(commands, **options)
        for command, answer in zip(commands, answers, strict=True):
            meter.plans.append(str(command[0]))
            meter.touched += 1 + (len(answer) if isinstance(answer, list) else 0)
        return answers

    client.ask = ask
    try:
        await storage.page(filters, cursor=cursor, limit=limit)
    finally:
        client.ask = inner
    return meter
