"""The ids that a pass visits, those of both stores, on disk and in order: a million of them take no memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.unified_side import session_id_in
from legacy.stores.survey import temporary_database
from session_adapter.identity import SESSION, is_session_id, record_id
from unified_storage.interface import IUnifiedStorage

_AT_A_TIME = 1000
_SCHEMA = "CREATE TABLE roster (id TEXT PRIMARY KEY, in_legacy INTEGER NOT NULL) WITHOUT ROWID"


class Roster:
    """Record ids, by code point.

    Attributes:
        refused: ids of L that cannot name a session of U.
    """

    def __init__(self) -> None:
        self._database = temporary_database(_SCHEMA)
        self.refused: list[str] = []

    async def fill(self, storage: IUnifiedStorage, legacy: LegacySide, *, orphans: bool) -> None:
        """Take in the ids of L, and those that U alone has."""
        ids = await legacy.ids()
        await asyncio.to_thread(self._add_legacy, ids)
        if not orphans:
            return
        async for batch in storage.stream_list({"type": SESSION}, _AT_A_TIME, with_data=False):
            found = [record["id"] for record in batch if session_id_in(record) is not None]
            await asyncio.to_thread(self._add, found, 0)

    def add(self, session_ids: Iterable[str]) -> None:
        """Take in *session_ids* as they are."""
        self._add_legacy(session_ids)

    def _add_legacy(self, ids: Iterable[str]) -> None:
        taken: list[str] = []
        for id in ids:
            (taken if is_session_id(id) else self.refused).append(id)
        self._add([record_id(id) for id in taken], 1)

    def _add(self, ids: Iterable[str], in_legacy: int) -> None:
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO roster VALUES (?, ?)", ((id, in_legacy) for id in ids))

    @property
    def total(self) -> int:
        return self._count("SELECT count(*) FROM roster")

    @property
    def in_legacy(self) -> int:
        return self._count("SELECT count(*) FROM roster WHERE in_legacy")

    def _count(self, query: str) -> int:
        [(count,)] = self._database.execute(query)
        return int(count)

    def behind(self, id: str, limit: int) -> list[str]:
        """The next *limit* ids behind *id*."""
        rows = self._database.execute("SELECT id FROM roster WHERE id > ? ORDER BY id LIMIT ?", (id, limit))
        return [row[0] for row in rows]

    def close(self) -> None:
        self._database.close()
