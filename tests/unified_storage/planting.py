"""Raw statements on the tables of a store, to plant damage there and to see every byte of it."""

import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

from tests.namespaces import mysql_connection, postgresql_connection
from tests.places import Place
from unified_storage.backends.sql.tables import table_prefix

TABLES = {
    "records": "n",
    "documents": "n",
    "logs": "n",
    "entries": "log, seq",
    "paths": "type, path",
}
"""The tables whose rows are compared, and what orders them."""
Row = tuple[Any, ...]
Run = Callable[[str, tuple[Any, ...]], Awaitable[list[Row]]]


class Planter:
    """Runs statements in which ``{records}`` stands for the name of that table and ``?`` for a value."""

    def __init__(self, place: Place, run: Run) -> None:
        self.engine = place.engine
        self.prefix = table_prefix(place.namespace)
        self._run = run

    async def run(self, sql: str, *values: Any) -> list[Row]:
        names = {name: self.prefix + name for name in (*TABLES, "schema")}
        return await self._run(sql.format_map(names), values)

    async def value(self, sql: str, *values: Any) -> Any:
        return (await self.run(sql, *values))[0][0]

    async def row_of(self, id: str, type: str = "session") -> int:
        number: int = await self.value("SELECT n FROM {records} WHERE id = ? AND type = ?", *self.texts(id, type))
        return number

    async def slot_of(self, path: str, type: str = "session") -> str:
        found = await self.value("SELECT slot FROM {paths} WHERE path = ? AND type = ?", *self.texts(path, type))
        return f"k{found}"

    async def drop_index(self, name: str, table: str) -> None:
        on = f" ON {{{table}}}" if self.engine == "mysql" else ""
        await self.run(f"DROP INDEX {self.prefix}{name}{on}")

    async def dump(self) -> dict[str, list[Row]]:
        """Every row of every table."""
        return {name: await self.run(f"SELECT * FROM {{{name}}} ORDER BY {order}") for name, order in TABLES.items()}

    def texts(self, *texts: str) -> tuple[Any, ...]:
        """Names as the engine compares them."""
        return tuple(text.encode() for text in texts) if self.engine == "mysql" else texts


@asynccontextmanager
async def planter_at(place: Place) -> AsyncIterator[Planter]:
    """A planter with a plain connection of the engine's driver."""
    if place.engine == "sqlite":
        with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)) as file:

            async def on_sqlite(sql: str, values: tuple[Any, ...]) -> list[Row]:
                return file.execute(sql, values).fetchall()

            yield Planter(place, on_sqlite)
    elif place.engine == "postgresql":
        async with postgresql_connection(place.url) as server:

            async def on_postgresql(sql: str, values: tuple[Any, ...]) -> list[Row]:
                numbers = itertools.count(1)
                numbered = "".join(f"${next(numbers)}" if part == "?" else part for part in sql)
                return [tuple(row) for row in await server.fetch(numbered, *values)]

            yield Planter(place, on_postgresql)
    else:
        async with mysql_connection(place.url) as server, server.cursor() as cursor:

            async def on_mysql(sql: str, values: tuple[Any, ...]) -> list[Row]:
                await cursor.execute(sql.replace("%", "%%").replace("?", "%s"), values or None)
                return list(await cursor.fetchall()) if cursor.description else []

            yield Planter(place, on_mysql)
