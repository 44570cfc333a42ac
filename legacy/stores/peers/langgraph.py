"""LangGraph's SQLite checkpoints: every row of a thread as it is, the newest one read as data.

A thread is a session. Rows go back only as they came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Tables, Unit
from legacy.stores.peers.langchain_messages import warnings_of
from legacy.stores.peers.rows import Rows, opened_on
from session_adapter.formats.langgraph import LANGGRAPH, CheckpointRefused, thread_of
from session_adapter.formats.peer import PeerFormat
from unified_storage.errors import StorageConfigurationError

FORMATS = (LANGGRAPH,)
OPTIONS: frozenset[str] = frozenset()
_CHECKPOINTS = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id"),
    *("type", "checkpoint", "metadata"),
)
_WRITES = ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "task_path", "idx", "channel", "type", "value")
_LATER = frozenset({"task_path"})
_MADE = (
    """
    CREATE TABLE IF NOT EXISTS checkpoints (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        checkpoint_id TEXT NOT NULL,
        parent_checkpoint_id TEXT,
        type TEXT,
        checkpoint BLOB,
        metadata BLOB,
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS writes (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        checkpoint_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        task_path TEXT NOT NULL DEFAULT '',
        idx INTEGER NOT NULL,
        channel TEXT NOT NULL,
        type TEXT,
        value BLOB,
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    )
    """,
)


def told_by(tables: Tables) -> PeerFormat | None:
    is_whole = tables.get("checkpoints", frozenset()) >= {*_CHECKPOINTS} and _has_writes(tables)
    return LANGGRAPH if is_whole else None


def _has_writes(tables: Tables) -> bool:
    return tables.get("writes", frozenset()) >= {*_WRITES} - _LATER


async def open_store(opening: Opening) -> PeerStore:
    return await opened_on(opening, _opened)


async def _opened(rows: Rows, opening: Opening) -> PeerStore:
    tables = await rows.tables()
    if opening.to_write and not tables.keys() & {"checkpoints", "writes"}:
        async with rows.written():
            for made in _MADE:
                await rows.execute(made)
        tables = await rows.tables()
    if told_by(tables) is None:
        raise StorageConfigurationError("it has no tables 'checkpoints' and 'writes' as LangGraph's SqliteSaver")
    return Threads(rows, tables)


class Threads:
    """See ``PeerStore``."""

    format = LANGGRAPH
    version: str | None = None

    def __init__(self, rows: Rows, tables: Tables) -> None:
        self._rows = rows
        self._columns = {
            "checkpoints": _CHECKPOINTS,
            "writes": tuple(name for name in _WRITES if name in tables["writes"]),
        }

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        select = "SELECT thread_id FROM checkpoints UNION SELECT thread_id FROM writes"
        async for rows in self._rows.stream(select):
            yield [Unit(row["thread_id"], row["thread_id"]) for row in rows]

    def unit(self, key: Key) -> Unit:
        return Unit(key, str(key))

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        wanted = [unit.place for unit in units]
        checkpoints = await self._rows_of("checkpoints", wanted, "checkpoint_ns, checkpoint_id")
        writes = await self._rows_of("writes", wanted, "checkpoint_ns, checkpoint_id, task_id, idx")
        return [_found(unit, checkpoints[unit.place], writes[unit.place]) for unit in units]

    async def _rows_of(self, table: str, wanted: Sequence[str], order: str) -> dict[str, list[dict[str, Any]]]:
        columns, among = ", ".join(self._columns[table]), self._rows.listed(len(wanted))
        select = f"SELECT {columns} FROM {table} WHERE thread_id IN ({among}) ORDER BY thread_id, {order}"
        found: dict[str, list[dict[str, Any]]] = {place: [] for place in wanted}
        for row in await self._rows.select(select, *wanted):
            found[row["thread_id"]].append(row if table == "checkpoints" else {"task_path": "", **row})
        return found

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        async with self._rows.written():
            for table, columns in self._columns.items():
                await self._rows.execute(f"DELETE FROM {table} WHERE thread_id = ?", [(one.key,) for one in sessions])
                insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({self._rows.listed(len(columns))})"
                rows = [tuple(row[name] for name in columns) for one in sessions for row in one.document[table]]
                await self._rows.execute(insert, rows)

    async def close(self) -> None:
        await self._rows.close()


def _found(unit: Unit, checkpoints: list[dict[str, Any]], writes: list[dict[str, Any]]) -> Found | Item:
    if not checkpoints and not writes:
        return Item(None, unit.place, IGNORED, ("vanished",))
    try:
        document = thread_of(unit.place, checkpoints, writes)
    except CheckpointRefused as refused:
        return Item(None, unit.place, QUARANTINED, (refused.reason,), detail=refused.detail)
    blobs = [*(row["checkpoint"] for row in checkpoints), *(row["value"] for row in writes)]
    size = sum(len(blob) for blob in blobs if blob is not None)
    return PeerSession(unit.place, document, warnings=warnings_of(document["messages"]), size=size)
