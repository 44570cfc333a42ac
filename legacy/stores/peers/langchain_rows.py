"""LangChain's histories in a table: a row for each message, in the order of its number.

The table has no index by session. A SQLite file is read from a copy, which is given one; a server's table is read once
from front to back, into a temporary file. So reading costs as much as there is, however many sessions there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence

from legacy.stores.parcels import QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, Tables, Unit
from legacy.stores.peers.langchain_messages import found_session, text_of
from legacy.stores.peers.rows import Rows, opened_on
from legacy.stores.survey import in_batches, temporary_database
from session_adapter.formats.langchain import LANGCHAIN_SQL
from unified_storage.errors import StorageConfigurationError, StorageUnsupportedError

TABLE = "message_store"
_COLUMNS = frozenset({"id", "session_id", "message"})
_MADE = {
    "sqlite": "CREATE TABLE {} (id INTEGER NOT NULL PRIMARY KEY, session_id TEXT, message TEXT)",
    "postgresql": "CREATE TABLE {} (id SERIAL PRIMARY KEY, session_id TEXT, message TEXT)",
    "mysql": "CREATE TABLE {} (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY, session_id TEXT, message LONGTEXT)"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
}
_INDEX = "CREATE INDEX {}{} ON {} (session_id{})"
_COPIED = """
    CREATE TABLE messages (session_id TEXT, message TEXT);
    CREATE INDEX by_session ON messages (session_id);
"""


def is_table(columns: frozenset[str]) -> bool:
    """Whether a table with such columns is a history; one of a converter of one's own, with more, has to be named."""
    return columns == _COLUMNS


async def open_table(opening: Opening) -> Histories:
    return await opened_on(opening, _opened)


async def _opened(rows: Rows, opening: Opening) -> Histories:
    tables = await rows.tables()
    named = opening.options.get("tables")
    table = _told(tables, named)
    if table is None and opening.to_write:
        table = named or TABLE
        await _make(rows, table)
    if table is None:
        found = ", ".join(sorted(name for name, columns in tables.items() if is_table(columns))) or "none"
        raise StorageConfigurationError(f"which table holds the messages? there are {found}; name it by ?tables=")
    if opening.to_write and tables.get(table, _COLUMNS) != _COLUMNS:
        further = ", ".join(sorted(tables[table] - _COLUMNS))
        raise StorageUnsupportedError(f"the table {table!r} has columns of its own ({further}), so it is only read")
    if rows.engine == "sqlite" and not opening.to_write:
        await _index(rows, table)  # of the copy
    return Histories(rows, table, is_copied=rows.engine != "sqlite" and not opening.to_write)


def _told(tables: Tables, named: str | None) -> str | None:
    if named is not None:
        return named if tables.get(named, frozenset()) >= _COLUMNS else None
    found = [name for name, columns in tables.items() if is_table(columns)]
    return found[0] if len(found) == 1 else None


async def _make(rows: Rows, table: str) -> None:
    async with rows.written():
        await rows.execute(_MADE[rows.engine].format(rows.quoted(table)))
        await _index(rows, table)


async def _index(rows: Rows, table: str) -> None:
    # An index by session changes nothing for LangChain, and without one each session costs a look at all messages.
    length = "(191)" if rows.engine == "mysql" else ""
    name = rows.quoted(f"{table.rpartition('.')[2]}_by_session")
    unless = "IF NOT EXISTS " if rows.engine == "sqlite" else ""  # as in a copy of a table that was made here
    await rows.execute(_INDEX.format(unless, name, rows.quoted(table), length))


class Histories:
    """See ``PeerStore``.

    Args:
        is_copied: what is read is read from a temporary file, into which the survey brings it.
    """

    format = LANGCHAIN_SQL
    version: str | None = None

    def __init__(self, rows: Rows, table: str, *, is_copied: bool) -> None:
        self._rows = rows
        self._table = rows.quoted(table)
        self._is_copied = is_copied
        self._copy: sqlite3.Connection | None = None

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        if self._is_copied:
            async for units in self._units_copied():
                yield units
            return
        select = f"SELECT session_id FROM {self._table} GROUP BY session_id"
        async for rows in self._rows.stream(select):
            yield [_unit(row["session_id"]) for row in rows]

    async def _units_copied(self) -> AsyncIterator[list[Unit | Item]]:
        copy = temporary_database(_COPIED)
        try:
            async for rows in self._rows.stream(f"SELECT session_id, message FROM {self._table} ORDER BY id"):
                copy.executemany("INSERT INTO messages VALUES (:session_id, :message)", rows)
        except BaseException:
            copy.close()
            raise
        self._copy = copy
        for batch in in_batches(copy, "SELECT DISTINCT session_id FROM messages"):
            yield [_unit(session_id) for (session_id,) in batch]

    def unit(self, key: Key) -> Unit:
        return Unit(key, str(key))

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        messages: dict[str, list[str | None]] = {unit.place: [] for unit in units}
        for session_id, message in await self._messages([*messages]):
            if session_id in messages:  # a server may take other spellings for the same
                messages[session_id].append(message)
        return [found_session(unit, [text or "" for text in messages[unit.place]]) for unit in units]

    async def _messages(self, wanted: Sequence[str]) -> list[tuple[str, str | None]]:
        among = f"session_id IN ({self._rows.listed(len(wanted))})"
        if self._copy is not None:
            select = f"SELECT session_id, message FROM messages WHERE {among} ORDER BY rowid"
            return self._copy.execute(select, wanted).fetchall()
        select = f"SELECT session_id, message FROM {self._table} WHERE {among} ORDER BY id"
        return [(row["session_id"], row["message"]) for row in await self._rows.select(select, *wanted)]

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        rows = [(one.key, text_of(message)) for one in sessions for message in one.document["messages"]]
        async with self._rows.written():
            await self._delete([str(one.key) for one in sessions])
            await self._rows.execute(f"INSERT INTO {self._table} (session_id, message) VALUES (?, ?)", rows)

    async def _delete(self, ids: Sequence[str]) -> None:
        delete = f"DELETE FROM {self._table} WHERE session_id = ?"
        if self._rows.engine != "mysql":
            await self._rows.execute(delete, [(id,) for id in ids])
            return
        # there a column may take "a", "A" and "a " for the same; the first condition is what its index answers
        exactly = f"{delete} AND CAST(session_id AS BINARY) = CAST(? AS BINARY)"
        await self._rows.execute(exactly, [(id, id) for id in ids])

    async def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
        await self._rows.close()


def _unit(session_id: str | None) -> Unit | Item:
    if session_id is None:
        return Item(None, None, QUARANTINED, ("no_session_id",))
    return Unit(session_id, session_id)
