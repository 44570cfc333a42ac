"""What LangGraph's own saver finds in a file of checkpoints, as JSON: thread -> messages, state, checkpoints.

Run by an interpreter that has it: ``python langgraph_threads.py FILE``.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver


def main(file: str) -> None:
    saver = SqliteSaver(sqlite3.connect(file))
    threads = [thread for (thread,) in saver.conn.execute("SELECT DISTINCT thread_id FROM checkpoints")]
    print(json.dumps({thread: facts(saver, thread) for thread in threads}))


def facts(saver: Any, thread: str) -> dict[str, Any]:
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    values = saver.get_tuple(config).checkpoint["channel_values"]
    return {
        "messages": [plain(message) for message in values.get("messages", [])],
        "checkpoints": len(list(saver.list(config))),
        "channels": sorted(values),
    }


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


main(sys.argv[1])
