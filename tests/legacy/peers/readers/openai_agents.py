"""What openai-agents itself finds in one of its stores, as JSON: session id -> items, branches, turns.

Run by an interpreter that has openai-agents: ``python openai_agents.py CLASS PLACE [NAME=VALUE ...]`` with the ids of
the sessions as a JSON list on the standard input. CLASS is ``sqlite``, ``sqlalchemy``, ``advanced`` or ``redis``; a
``key`` wraps it in an EncryptedSession. With ``add`` one more item is added to each session and popped again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession, RedisSession, SQLAlchemySession

NEVER = 10**9


def main(kind: str, place: str, options: dict[str, str]) -> None:
    ids = json.load(sys.stdin)
    print(json.dumps(asyncio.run(all_facts(kind, place, options, ids))))


async def all_facts(kind: str, place: str, options: dict[str, str], ids: list[str]) -> dict[str, Any]:
    return {id: await facts(opened(kind, place, options, id), options) for id in ids}


def opened(kind: str, place: str, options: dict[str, str], id: str) -> Any:
    names = {name: value for name, value in options.items() if name in ("sessions_table", "messages_table")}
    match kind:
        case "sqlite":
            session: Any = SQLiteSession(id, place, **names)
        case "sqlalchemy":
            session = SQLAlchemySession.from_url(id, url=place, **names)
        case "advanced":
            session = AdvancedSQLiteSession(session_id=id, db_path=place, **names)
        case _:
            session = RedisSession.from_url(id, url=place, key_prefix=options.get("prefix", "agents:session"))
    return (
        EncryptedSession(id, session, options["key"], ttl=int(options.get("ttl", NEVER)))
        if "key" in options
        else session
    )


async def facts(session: Any, options: dict[str, str]) -> dict[str, Any]:
    found = {"items": await session.get_items(), "newest": await session.get_items(3)}
    if isinstance(session, AdvancedSQLiteSession):
        found |= await branches(session)
    if "add" in options:
        await session.add_items([{"role": "user", "content": "One more"}])
        found["added"] = await session.get_items(1)
        found["popped"] = await session.pop_item()
        found["left"] = len(await session.get_items())
    return found


async def branches(session: Any) -> dict[str, Any]:
    names = [branch["branch_id"] for branch in await session.list_branches()]
    return {
        "branches": {name: await session.get_items(branch_id=name) for name in names},
        "listed": await session.list_branches(),
        "turns": {name: await session.get_conversation_turns(name) for name in names},
        "by_turn": {name: await session.get_conversation_by_turns(name) for name in names},
        "tools": {name: await session.get_tool_usage(name) for name in names},
        "usage": {name: await session.get_turn_usage(branch_id=name) for name in names},
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], dict(told.split("=", 1) for told in sys.argv[3:]))
