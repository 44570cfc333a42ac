"""What tRPC-Agent-Go's reader would show of a dump of its Redis, written after its sources and knowing nothing of ours.

It goes by scores, as the Go program does, and takes keys apart at their brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Dump = Mapping[str, tuple[str, Any]]
Key = tuple[str, str, str]


def sessions_in(dump: Dump, prefix: bytes) -> dict[Key, list[dict[str, Any]]]:
    """(app, user, session) -> its events, by score, then by member."""
    begin = prefix.decode()
    found: dict[Key, list[dict[str, Any]]] = {}
    for name, (kind, value) in dump.items():
        if not name.startswith(begin):
            continue
        name = name[len(begin) :]
        if (told := re.fullmatch(r"sess:\{(.*?)\}:(.*)", name)) and kind == "hash":
            for session_id in value:
                key = (*told.groups(), session_id.decode())
                found[key] = _v1(dump, begin, key)
        if name.startswith("hashidx:meta:"):
            own = json.loads(value)
            key = (own["appName"], own["userID"], own["id"])
            found[key] = _v2(dump, begin, key)
    return found


def _v1(dump: Dump, begin: str, key: Key) -> list[dict[str, Any]]:
    app, user, session = key
    _, members = dump.get(f"{begin}event:{{{app}}}:{user}:{session}", ("zset", []))
    return [json.loads(member) for member, _ in members]


def _v2(dump: Dump, begin: str, key: Key) -> list[dict[str, Any]]:
    app, user, session = key
    place = f"{app}:{{{user}}}:{session}"
    _, times = dump.get(f"{begin}hashidx:evtidx:time:{place}", ("zset", []))
    _, data = dump.get(f"{begin}hashidx:evtdata:{place}", ("hash", {}))
    return [json.loads(data[id]) for id, _ in times]


def conversation(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as OpenAI spells them."""
    return [_message(choice["message"]) for event in events for choice in event["choices"]]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    told = {"role": message["role"], "content": message.get("content"), "tool_calls": message.get("tool_calls")}
    if message["role"] == "tool":
        told |= {"tool_call_id": message.get("tool_id"), "name": message.get("tool_name")}
    return told
