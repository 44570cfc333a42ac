"""The databases that a service answers from, and which of them a request means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import HTTPException

from session_api.tables import SessionTables
from unified_storage.errors import StorageConnectionError

log = logging.getLogger("session_api")

SESSION_TABLE = "agno_sessions"
CLOSING = 3.0


@dataclass(frozen=True, slots=True)
class Database:
    """Where sessions are.

    Attributes:
        id: what ``db_id`` calls it.
        table: what ``table`` may call its table of sessions.
    """

    id: str
    tables: SessionTables
    table: str = SESSION_TABLE


class Databases:
    """Some databases with different ids.

    Args:
        default_id: which of them is meant where none is named; None: the only one, or none where there are several.
    """

    def __init__(self, databases: Sequence[Database], default_id: str | None = None) -> None:
        self._databases = {database.id: database for database in databases}
        if len(self._databases) != len(databases) or not databases:
            raise ValueError("databases have different ids, and there is at least one")
        if default_id is not None and default_id not in self._databases:
            raise ValueError(f"there is no database {default_id!r} that could be the default")
        self._default_id = default_id or (databases[0].id if len(databases) == 1 else None)
        self._opened = AsyncExitStack()

    def chosen(self, db_id: str | None, table: str | None) -> SessionTables:
        """The database that a request names; an empty name names none."""
        if table and not db_id:
            raise HTTPException(400, "The db_id query parameter is required when passing a table")
        wanted = db_id or self._default_id
        if wanted is None:
            raise HTTPException(400, "The db_id query parameter is required when using multiple databases")
        if wanted not in self._databases:
            raise HTTPException(404, f"No database found with id '{wanted}'")
        if table and table != self._databases[wanted].table:
            raise HTTPException(404, f"No database with id '{wanted}' has table '{table}'")
        return self._databases[wanted].tables

    @property
    def by_id(self) -> dict[str, SessionTables]:
        """All of them."""
        return {name: database.tables for name, database in self._databases.items()}

    async def open(self) -> None:
        """Open all of them, or none. One that cannot be reached now is connected by the first request that can."""
        async with AsyncExitStack() as opened:
            for database in self._databases.values():
                opened.push_async_callback(database.tables.close)
                try:
                    await database.tables.open()
                except StorageConnectionError:
                    log.warning("database not reached yet", extra={"database": database.id})
            self._opened = opened.pop_all()

    async def close(self) -> None:
        """Close all of them; connections that do not end in :data:`CLOSING` seconds are left to the process's end."""
        try:
            async with asyncio.timeout(CLOSING):
                await self._opened.aclose()
        except TimeoutError:
            log.warning("databases not closed in time")
