"""What LangChain's own histories find, as JSON: session id -> messages.

Run by an interpreter that has langchain-community, with the ids as JSON on its input:
``python langchain_histories.py sql|redis|file PLACE [TABLE]``; a place is a URL of SQLAlchemy's, of Redis, or a folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from langchain_community.chat_message_histories import (
    FileChatMessageHistory,
    RedisChatMessageHistory,
    SQLChatMessageHistory,
)


def opened(kind: str, place: str, session_id: str, table: str) -> Any:
    if kind == "sql":
        return SQLChatMessageHistory(session_id, connection=place, table_name=table)
    if kind == "redis":
        return RedisChatMessageHistory(session_id, url=place)
    return FileChatMessageHistory(str(Path(place, f"{quote(session_id, safe='')}.json")))


def plain(message: Any) -> dict[str, Any]:
    roles = {"human": "user", "ai": "assistant"}
    spelled = message.additional_kwargs.get("tool_calls")
    calls = spelled or [
        {"id": call["id"], "function": {"name": call["name"], "arguments": json.dumps(call["args"])}}
        for call in getattr(message, "tool_calls", None) or []
    ]
    return {
        "role": roles.get(message.type, message.type),
        "content": message.content,
        "tool_calls": calls,
        "tool_call_id": getattr(message, "tool_call_id", None),
        "name": message.name,
    }


def main(kind: str, place: str, table: str = "message_store") -> None:
    ids = json.load(sys.stdin)
    print(json.dumps({id: [plain(message) for message in opened(kind, place, id, table).messages] for id in ids}))


main(*sys.argv[1:])
