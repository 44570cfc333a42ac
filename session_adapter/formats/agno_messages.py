"""Messages as agno and agno-go keep them in their runs, as events, and events as agno's messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from session_adapter.formats.calls import calls_of
from session_adapter.formats.format import Event
from session_adapter.formats.places import is_mapping, text_of
from session_adapter.timestamps import read_time

_NAMES = ("id", "role", "content", "name", "tool_name", "tool_calls", "tool_call_id")
_SHOWN_OTHERWISE = frozenset({*_NAMES, "metrics", "created_at", "timestamp", "from_history", "usage"})
_MEDIA = ("audio", "images", "videos", "files", "audio_output", "image_output", "video_output", "file_output")
_FLAGS = ("temporary", "add_to_agent_memory", "compressed_content", "redacted_reasoning_content")
_TYPED = frozenset({*_MEDIA, *_FLAGS, "citations", "references", "checkpoint_status", "checkpoint_created_at"})
"""What agno's own reader wants in a form of its own, so that it is not handed on as others wrote it."""
_NOT_CARRIED = _TYPED | {"seq", "index", "run_id", "timestamp", "usage"}
_WANTED: Mapping[str, type] = {"provider_data": dict, "reasoning_content": str, "tool_call_error": bool}
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
_SPELLED = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def event_of(message: Any) -> Event | None:
    """A message as an event, with its writer's further fields; None for what is no object."""
    if not is_mapping(message):
        return None
    event: Event = {name: value for name, value in message.items() if name not in _SHOWN_OTHERWISE}
    event |= {"role": text_of(message.get("role")) or "unknown", "content": message.get("content")}
    name = text_of(message.get("name")) or text_of(message.get("tool_name"))
    for key, text in (("id", text_of(message.get("id"))), ("name", name)):
        if text is not None:
            event[key] = text
    if (call_id := text_of(message.get("tool_call_id"))) is not None:
        event["tool_call_id"] = call_id
    if calls := calls_of(message):
        event["tool_calls"] = [call.shown() for call in calls]
    if usage := _usage_of(message):
        event["usage"] = usage
    told = message.get("timestamp", message.get("created_at"))
    return event if told is None else event | {"timestamp": told}


def _usage_of(message: Mapping[str, Any]) -> Any:
    found = message.get("usage") or message.get("metrics")
    return found if is_mapping(found) else None


def message_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as the message that agno would write, its further fields behind."""
    role = text_of(event.get("role")) or "unknown"
    message: dict[str, Any] = {
        "id": text_of(event.get("id")),
        "content": plain_content(event.get("content")),
        "from_history": bool(event.get("from_history")),
        "stop_after_tool_call": bool(event.get("stop_after_tool_call")),
        "role": role,
        "name": text_of(event.get("name")),
        "tool_call_id": text_of(event.get("tool_call_id")),
        "tool_name": text_of(event.get("tool_name")) or (text_of(event.get("name")) if role == "tool" else None),
        "tool_calls": [call.shown() for call in calls_of(event)] or None,
        "metrics": _metrics_in(event) or None,
        "created_at": seconds(event.get("created_at") or event.get("timestamp")),
    }
    further = {name: value for name, value in event.items() if _is_carried(name, value) and name not in message}
    return {name: value for name, value in message.items() if value is not None} | further


def _metrics_in(event: Mapping[str, Any]) -> dict[str, Any]:
    own = event.get("metrics")
    return dict(own) if is_mapping(own) else metrics_of(event.get("usage"))


def _is_carried(name: str, value: Any) -> bool:
    if name in _NOT_CARRIED or value is None:
        return False
    return isinstance(value, _WANTED.get(name, object))


def plain_content(content: Any) -> Any:
    """*content* where it is text, a list or nothing; all else as JSON text, since agno takes no other."""
    if content is None or isinstance(content, str | list):
        return content
    return json.dumps(content, ensure_ascii=False, default=_as_text)


def _as_text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def metrics_of(usage: Any) -> dict[str, Any]:
    """*usage* as agno counts it: numbers alone, under its names where they are known."""
    if not is_mapping(usage):
        return {}
    counted = {name: value for name, value in usage.items() if _is_number(value)}
    for name, other in _SPELLED.items():
        if name not in counted and other in counted:
            counted[name] = counted.pop(other)
    if "total_tokens" not in counted and all(name in counted for name in _COUNTS[:2]):
        counted["total_tokens"] = counted["input_tokens"] + counted["output_tokens"]
    return counted


def total_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What all *messages* used together."""
    told = [message["metrics"] for message in messages if is_mapping(message.get("metrics"))]
    return {name: total for name in _COUNTS if (total := sum(one.get(name, 0) for one in told))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def seconds(told: Any) -> int | None:
    """A time as whole seconds since 1970; None where it is none."""
    moment = told if isinstance(told, datetime) else read_time(told, None).moment
    return None if moment is None else int(moment.timestamp())
