"""Sessions of openai-agents: SQLiteSession, SQLAlchemySession, AdvancedSQLiteSession, RedisSession, EncryptedSession.

Encrypted or not is a matter of the items, whatever store they lie in. ``?key_env=NAME`` names the variable that holds
the key; without it envelopes are copied unopened. ``?branch=NAME`` takes that branch for the conversation.
"""

from __future__ import annotations

from legacy.stores.peers.kinds import Opening, PeerStore, Tables
from session_adapter.formats import PeerFormat
from session_adapter.formats.openai_agents import (
    OPENAI_ADVANCED,
    OPENAI_ENCRYPTED,
    OPENAI_REDIS,
    OPENAI_SQLALCHEMY,
    OPENAI_SQLITE,
)

FORMATS = (OPENAI_SQLITE, OPENAI_SQLALCHEMY, OPENAI_ADVANCED, OPENAI_REDIS, OPENAI_ENCRYPTED)
OPTIONS = frozenset({"tables", "prefix", "branch", "key_env"})


def told_by(tables: Tables) -> PeerFormat | None:
    from legacy.stores.peers.openai_tables import STRUCTURE, pairs_in

    if not pairs_in(tables):
        return None
    return OPENAI_ADVANCED if STRUCTURE in tables else OPENAI_SQLITE


async def open_store(opening: Opening) -> PeerStore:
    if opening.engine == "redis":
        from legacy.stores.peers.openai_lists import open_lists

        return await open_lists(opening)
    from legacy.stores.peers.openai_tables import open_tables

    return await open_tables(opening)
