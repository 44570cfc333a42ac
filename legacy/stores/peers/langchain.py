"""LangChain's histories: a SQL table, a Redis list for each session, or a JSON file for each session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from legacy.stores.parcels import IGNORED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Tables, Unit
from legacy.stores.peers.rows import Rows, open_rows
from session_adapter.formats.langchain import LANGCHAIN_FILE, LANGCHAIN_REDIS, LANGCHAIN_SQL
from unified_storage.errors import StorageConfigurationError

FORMATS = (LANGCHAIN_SQL, LANGCHAIN_REDIS, LANGCHAIN_FILE)
OPTIONS = frozenset({"tables", "prefix"})
TABLE = "message_store"
_COLUMNS = frozenset({"id", "session_id", "message"})
_MADE = {
    "sqlite": "CREATE TABLE {} (id INTEGER NOT NULL PRIMARY KEY, session_id TEXT, message TEXT)",
    "postgresql": "CREATE TABLE {} (id SERIAL PRIMARY KEY, session_id TEXT, message TEXT)",
    "mysql": "CREATE TABLE {} (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY, session_id TEXT, message TEXT)",
}


def told_by(tables: Tables) -> Any:
    return LANGCHAIN_SQL if any(_is_ours(columns) for columns in tables.values()) else None


async def open_store(opening: Opening) -> PeerStore:
    rows = await open_rows(opening)
    try:
        return await _SQLHistories.opened(rows, opening)
    except BaseException:
        await rows.close()
        raise


def _is_ours(columns: frozenset[str]) -> bool:
    return columns == _COLUMNS


class _SQLHistories:
    format = LANGCHAIN_SQL
    version: str | None = None

    def __init__(self, rows: Rows, table: str) -> None:
        self._rows = rows
        self._table = rows.quoted(table)

    @classmethod
    async def opened(cls, rows: Rows, opening: Opening) -> _SQLHistories:
        tables = await rows.tables()
        named = opening.options.get("tables")
        found = [name for name, columns in tables.items() if _is_ours(columns) and named in (None, name)]
        if opening.to_write and not found:
            found = [named or TABLE]
            async with rows.written():
                await rows.execute(_MADE[rows.engine].format(rows.quoted(found[0])))
        if len(found) != 1:
            told = ", ".join(sorted(found)) or "none"
            raise StorageConfigurationError(f"which table holds the messages? there are {told}; name it by ?tables=")
        return cls(rows, found[0])

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        select = f"SELECT session_id, count(*) AS messages FROM {self._table} GROUP BY session_id"
        async for rows in self._rows.stream(select):
            yield [_unit(row["session_id"]) for row in rows]

    def unit(self, key: Key) -> Unit:
        return Unit(key, str(key))

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        wanted = [unit.place for unit in units]
        among = f"session_id IN ({self._rows.listed(len(wanted))})"
        select = f"SELECT session_id, message FROM {self._table} WHERE {among} ORDER BY id"
        messages: dict[str, list[str]] = {place: [] for place in wanted}
        for row in await self._rows.select(select, *wanted):
            messages[row["session_id"]].append(row["message"])
        return [_found(unit, messages[unit.place]) for unit in units]

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        gone = [(one.key,) for one in sessions]
        rows = [(one.key, _text(message)) for one in sessions for message in one.document["messages"]]
        async with self._rows.written():
            await self._rows.execute(f"DELETE FROM {self._table} WHERE session_id = ?", gone)
            await self._rows.execute(f"INSERT INTO {self._table} (session_id, message) VALUES (?, ?)", rows)

    async def close(self) -> None:
        await self._rows.close()


def _unit(session_id: str | None) -> Unit | Item:
    if session_id is None:
        return Item(None, None, IGNORED, ("no_session_id",))
    return Unit(session_id, session_id)


def _found(unit: Unit, texts: Sequence[str]) -> Found | Item:
    if not texts:
        return Item(None, unit.place, IGNORED, ("vanished",))
    document = {"session_id": unit.place, "messages": [_message(text) for text in texts]}
    return PeerSession(unit.place, document, size=sum(map(len, texts)))


def _message(text: str) -> Any:
    """The message that *text* is; the text itself where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _text(message: Any) -> str:
    return message if isinstance(message, str) else json.dumps(message)  # as LangChain spells it
