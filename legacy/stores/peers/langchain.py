"""LangChain's histories: a SQL table, a Redis list for each session, or a JSON file for each session.

The SQL table and the Redis keys have no sessions without messages, and a folder may hold one: an empty list.
"""

from __future__ import annotations

from typing import Any

from legacy.stores.peers.kinds import Opening, PeerStore, Tables
from legacy.stores.peers.langchain_files import open_folder
from legacy.stores.peers.langchain_lists import open_lists
from legacy.stores.peers.langchain_rows import is_table, open_table
from session_adapter.formats.langchain import LANGCHAIN_FILE, LANGCHAIN_REDIS, LANGCHAIN_SQL

FORMATS = (LANGCHAIN_SQL, LANGCHAIN_REDIS, LANGCHAIN_FILE)
OPTIONS = frozenset({"tables", "prefix"})


def told_by(tables: Tables) -> Any:
    return LANGCHAIN_SQL if any(is_table(columns) for columns in tables.values()) else None


async def open_store(opening: Opening) -> PeerStore:
    match opening.engine:
        case "redis":
            return open_lists(opening)
        case "file":
            return await open_folder(opening)
    return await open_table(opening)
