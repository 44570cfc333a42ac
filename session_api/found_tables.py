"""Which implementation of ``SessionTables`` a URL means: ours, or AgentOS's own tables."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from session_api.agno_engines import ENGINES
from session_api.agno_tables import AgnoTables
from session_api.databases import SESSION_TABLE, Database
from session_api.our_tables import OurTables
from session_api.tables import Changes, Listing, NewSession, SessionRow, SessionTables, StoredSession
from unified_storage.backends.sql.tables import table_prefix, tables_of
from unified_storage.opening import StorageURL, open_storage, parse_url

log = logging.getLogger("session_api")

AGNO = "agno+"
"""What a URL begins with that means AgentOS's own tables whatever else is there."""


def database_at(id: str, url: str) -> Database:
    """The database of *url*, not opened yet; its sessions stand on AgentOS's own tables where those are meant.

    Raises:
        StorageConfigurationError: no such URL can be opened.
    """
    parsed = parse_url(url)
    if parsed.scheme.startswith(AGNO):
        named = (parsed.options.get("tables") or SESSION_TABLE).partition(",")[0].rpartition(".")[2]
        return Database(id, AgnoTables(without_agno(parsed)), named)
    if parsed.scheme not in ENGINES or "namespace" in parsed.options:
        return Database(id, OurTables(open_storage(url)))
    return Database(id, FoundTables(id, parsed))


def without_agno(url: StorageURL) -> StorageURL:
    """*url* as that of the engine."""
    return replace(url, text=url.text[len(AGNO) :], scheme=url.scheme.removeprefix(AGNO))


class FoundTables:
    """Sessions at a URL that does not say whose tables: AgentOS's, where it holds those and none of ours.

    That is looked at once, as soon as the database can be reached. A URL with a namespace is always ours.

    Args:
        id: what the database is called in the log.
    """

    def __init__(self, id: str, url: StorageURL) -> None:
        self._id = id
        self._url = url
        self._ours = OurTables(open_storage(url.text))  # here, since it refuses what it cannot open
        self._found: SessionTables | None = None
        self._looking = asyncio.Lock()

    async def open(self) -> None:
        await (await self._tables()).open()

    async def close(self) -> None:
        await (self._found or self._ours).close()

    async def check(self) -> None:
        await (await self._tables()).check()

    async def page(self, wanted: Listing) -> tuple[list[SessionRow], int]:
        return await (await self._tables()).page(wanted)

    async def create(self, new: NewSession) -> SessionRow:
        return await (await self._tables()).create(new)

    async def get(self, session_id: str, user_id: str | None) -> StoredSession | None:
        return await (await self._tables()).get(session_id, user_id)

    async def change(self, session_id: str, user_id: str | None, changes: Changes) -> StoredSession | None:
        return await (await self._tables()).change(session_id, user_id, changes)

    async def delete(self, session_id: str, user_id: str | None) -> bool:
        return await (await self._tables()).delete(session_id, user_id)

    async def delete_many(self, session_ids: Sequence[str], user_id: str | None) -> int:
        return await (await self._tables()).delete_many(session_ids, user_id)

    async def _tables(self) -> SessionTables:
        if self._found is None:
            async with self._looking:
                if self._found is None:
                    self._found = await self._agnos() or self._ours
        return self._found

    async def _agnos(self) -> AgnoTables | None:
        """AgentOS's tables, where there are those and none of ours."""
        if self._is_to_be_made():
            return None
        agnos = AgnoTables(self._url)
        try:
            schema, has_ours = await agnos.look(tables_of(table_prefix("")).records.name)
        except BaseException:
            await agnos.close()
            raise
        if schema is not None and not has_ours:
            facts = {"database": self._id, "table": schema.sessions}
            log.info("sessions are served on AgentOS's own tables", extra=facts)
            return agnos
        await agnos.close()
        return None

    def _is_to_be_made(self) -> bool:
        return self._url.scheme == "sqlite" and not os.path.exists(self._url.path)
