"""Rows of another framework's SQL database, the same on SQLite, PostgreSQL and MySQL/MariaDB.

Statements are written with ``?`` for parameters and names quoted by :meth:`Rows.quoted`. What is read is of one moment:
a SQLite file is read from a temporary copy, on servers everything is read in one read-only snapshot. Values come as the
driver gives them: JSON columns as text, times as text, number or ``datetime`` by how the column was made.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from legacy.stores.copied_files import copied_file
from legacy.stores.peers.kinds import Opening, Tables
from unified_storage.errors import StorageConfigurationError, StorageConnectionError, redacted
from unified_storage.opening import parse_url

T = TypeVar("T")
Row = dict[str, Any]
_AT_A_TIME = 500


class Rows(ABC):
    """One open database, for one task at a time."""

    engine: str

    @abstractmethod
    def stream(self, sql: str, *parameters: Any) -> AsyncIterator[list[Row]]:
        """The rows of a query, some hundred at a time; to its end, or closed, before anything else is asked."""

    @abstractmethod
    async def tables(self) -> Tables:
        """Every table that is not the engine's own: on PostgreSQL also those of other schemas, as ``schema.table``."""

    @abstractmethod
    async def execute(self, sql: str, rows: Iterable[Sequence[Any]] = ((),)) -> None:
        """One statement for each of *rows*, inside :meth:`written`."""

    @abstractmethod
    def written(self) -> Any:
        """``async with``: everything inside is one transaction, and none of it when it raises."""

    @abstractmethod
    async def close(self) -> None:
        """Release the database and what was made to read it."""

    async def select(self, sql: str, *parameters: Any) -> list[Row]:
        """All rows of a query."""
        return [row async for rows in self.stream(sql, *parameters) for row in rows]

    def quoted(self, name: str) -> str:
        """A table's or column's name as SQL; ``schema.table`` names both."""
        mark = "`" if self.engine == "mysql" else '"'
        return ".".join(mark + part.replace(mark, mark * 2) + mark for part in name.split(".", 1))

    def versions_of(self, table: str) -> str:
        """A number in SQL that is another one after a row of *table* was written; 0 where the engine has none."""
        # The number of the transaction that wrote the row: some writers forget its time.
        return f"CAST(CAST({table}.xmin AS text) AS bigint)" if self.engine == "postgresql" else "0"

    def listed(self, count: int) -> str:
        """``?, ?, ?``"""
        return ", ".join("?" * count)


async def open_rows(opening: Opening) -> Rows:
    """The database of *opening*.

    Raises:
        StorageConfigurationError: there is none.
        StorageConnectionError: it cannot be reached.
    """
    openers: dict[str, Callable[[Opening], Any]] = {"sqlite": _open_sqlite, "postgresql": _open_postgresql}
    rows: Rows = await openers.get(opening.engine, _open_mysql)(opening)
    return rows


async def opened_on(opening: Opening, opened: Callable[[Rows, Opening], Awaitable[T]]) -> T:
    """What *opened* makes of the database of *opening*, which is closed where that fails; raises as both do."""
    rows = await open_rows(opening)
    try:
        return await opened(rows, opening)
    except BaseException:
        await rows.close()
        raise


# SQLite


class SQLiteRows(Rows):
    engine = "sqlite"

    def __init__(self, connection: sqlite3.Connection, stack: AsyncExitStack) -> None:
        self._connection = connection
        self._stack = stack

    async def stream(self, sql: str, *parameters: Any) -> AsyncIterator[list[Row]]:
        cursor = await asyncio.to_thread(self._connection.execute, sql, parameters)
        with closing(cursor):
            names = [column[0] for column in cursor.description]
            while rows := await asyncio.to_thread(cursor.fetchmany, _AT_A_TIME):
                yield [dict(zip(names, row, strict=True)) for row in rows]

    async def tables(self) -> Tables:
        found = await self.select(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        names = [row["name"] for row in found]
        columns = {name: await self.select(f"SELECT name FROM pragma_table_info({_text(name)})") for name in names}
        return {name: frozenset(row["name"] for row in rows) for name, rows in columns.items()}

    async def execute(self, sql: str, rows: Iterable[Sequence[Any]] = ((),)) -> None:
        await asyncio.to_thread(self._connection.executemany, sql, list(rows))

    @asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self._connection.execute, "BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        await asyncio.to_thread(self._connection.execute, "COMMIT")

    async def close(self) -> None:
        self._connection.close()
        await self._stack.aclose()


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


async def _open_sqlite(opening: Opening) -> Rows:
    path = Path(parse_url(opening.url).path)
    async with AsyncExitStack() as stack:
        read = path if opening.to_write else await stack.enter_async_context(copied_file(path))
        return SQLiteRows(_connected(read), stack.pop_all())
    raise AssertionError("a stack of contexts swallows nothing")


def _connected(path: Path) -> sqlite3.Connection:
    # One task uses it at a time, from whichever thread that runs in.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.text_factory = _as_text
    return connection


def _as_text(raw: bytes) -> str:
    """A column's text; bytes that are none become lone surrogates, which whoever reads the value then refuses."""
    return raw.decode("utf-8", "surrogateescape")


# PostgreSQL


class PostgreSQLRows(Rows):
    engine = "postgresql"

    def __init__(self, connection: Any, reading: Any) -> None:
        self._connection = connection
        self._reading = reading

    async def stream(self, sql: str, *parameters: Any) -> AsyncIterator[list[Row]]:
        # A cursor lives in a transaction alone, and a database that is to be written stands in none between its steps.
        async with nullcontext() if self._connection.is_in_transaction() else self._connection.transaction():
            cursor = await self._connection.cursor(_numbered(sql), *parameters)
            while rows := await cursor.fetch(_AT_A_TIME):
                yield [dict(row) for row in rows]

    async def tables(self) -> Tables:
        found = await self.select(
            "SELECT table_schema AS place, table_name AS name, column_name AS col,"
            " table_schema = current_schema() AS is_here FROM information_schema.columns"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        tables: dict[str, set[str]] = {}
        for row in found:
            name = row["name"] if row["is_here"] else f"{row['place']}.{row['name']}"
            tables.setdefault(name, set()).add(row["col"])
        return {name: frozenset(columns) for name, columns in tables.items()}

    async def execute(self, sql: str, rows: Iterable[Sequence[Any]] = ((),)) -> None:
        await self._connection.executemany(_numbered(sql), list(rows))

    @asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield

    async def close(self) -> None:
        if self._reading is not None:
            await self._reading.rollback()
        await self._connection.close()


def _numbered(sql: str) -> str:
    """*sql* with ``$1``, ``$2`` ... for each ``?`` outside of quotes."""
    parts = re.split(r"('[^']*'|\"[^\"]*\")", sql)
    count = 0
    for at in range(0, len(parts), 2):
        pieces = parts[at].split("?")
        numbers = [f"${count + number}" for number in range(1, len(pieces))]
        count += len(numbers)
        parts[at] = "".join(part for pair in zip(pieces, [*numbers, ""], strict=True) for part in pair)
    return "".join(parts)


async def _open_postgresql(opening: Opening) -> Rows:
    import asyncpg  # type: ignore[import-untyped]  # it brings no stubs

    connection = await _reached(opening, asyncpg.connect(opening.url))
    if opening.to_write:
        return PostgreSQLRows(connection, None)
    reading = connection.transaction(isolation="repeatable_read", readonly=True)
    await reading.start()
    return PostgreSQLRows(connection, reading)


# MySQL, MariaDB


class MySQLRows(Rows):
    engine = "mysql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def stream(self, sql: str, *parameters: Any) -> AsyncIterator[list[Row]]:
        from asyncmy.cursors import SSDictCursor

        async with self._connection.cursor(SSDictCursor) as cursor:
            await cursor.execute(_marked(sql), parameters)
            while rows := await cursor.fetchmany(_AT_A_TIME):
                yield rows

    async def tables(self) -> Tables:
        found = await self.select(
            "SELECT table_name AS name, column_name AS col FROM information_schema.columns"
            " WHERE table_schema = DATABASE()"
        )
        tables: dict[str, set[str]] = {}
        for row in found:
            tables.setdefault(row["name"], set()).add(row["col"])
        return {name: frozenset(columns) for name, columns in tables.items()}

    async def execute(self, sql: str, rows: Iterable[Sequence[Any]] = ((),)) -> None:
        async with self._connection.cursor() as cursor:
            for row in rows:
                await cursor.execute(_marked(sql), tuple(row))

    @asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        await self._connection.begin()
        try:
            yield
        except BaseException:
            await self._connection.rollback()
            raise
        await self._connection.commit()

    async def close(self) -> None:
        self._connection.close()


def _marked(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


async def _open_mysql(opening: Opening) -> Rows:
    import asyncmy

    from unified_storage.backends.sql.mysql_address import places_and_login

    url = parse_url(opening.url)
    places, login = places_and_login(url, dict(url.options))
    connection = await _reached(opening, asyncmy.connect(**places[0].options, **login))
    if not opening.to_write:
        async with connection.cursor() as cursor:
            await cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    return MySQLRows(connection)


async def _reached(opening: Opening, connecting: Any) -> Any:
    try:
        return await connecting
    except (OSError, TimeoutError) as error:
        raise StorageConnectionError(f"{redacted(opening.url)} cannot be reached: {error}", cause=error) from error
    except Exception as error:  # each driver has errors of its own
        raise StorageConfigurationError(f"{redacted(opening.url)} cannot be opened: {error}", cause=error) from error
