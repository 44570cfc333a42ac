"""Which events belong to which session, on a server whose tables have no index for that."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from legacy.stores.peers.adk_tables import SESSION_KEY
from legacy.stores.peers.rows import Row, Rows
from legacy.stores.survey import temporary_database

SessionOf = tuple[str, str, str]
"""App, user and id of a session."""

_IDS_AT_A_TIME = 500
_SCHEMA = """
    CREATE TABLE places (app_name TEXT, user_id TEXT, session_id TEXT, id TEXT);
    CREATE INDEX by_session ON places (app_name, user_id, session_id);
"""
_INSERT = "INSERT INTO places VALUES (:app_name, :user_id, :session_id, :id)"
_SELECT = "SELECT id FROM places WHERE app_name = ? AND user_id = ? AND session_id = ?"


class EventPlaces:
    """The ids of each session's events, read once from front to back; by their ids events are found without a scan."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: sqlite3.Connection | None = None

    async def events(self, sessions: Sequence[SessionOf]) -> list[Row]:
        """The rows of the events of *sessions*, those of others among them where they share an id; by time, then id."""
        if self._known is None:
            self._known = await self._read()
        known = self._known
        ids = sorted({id for session in sessions for (id,) in known.execute(_SELECT, session)})
        found: list[Row] = []
        for begin in range(0, len(ids), _IDS_AT_A_TIME):
            chunk = ids[begin : begin + _IDS_AT_A_TIME]
            select = f"SELECT * FROM events WHERE id IN ({self._rows.listed(len(chunk))})"
            found += await self._rows.select(select, *chunk)
        return sorted(found, key=lambda row: (row["timestamp"], row["id"]))

    async def _read(self) -> sqlite3.Connection:
        known = temporary_database(_SCHEMA)
        try:
            async for rows in self._rows.stream(f"SELECT {', '.join(SESSION_KEY)}, id FROM events"):
                known.executemany(_INSERT, rows)
        except BaseException:
            known.close()
            raise
        return known

    def close(self) -> None:
        if self._known is not None:
            self._known.close()
