"""LangChain's messages, as its SQL, Redis and file histories keep them: ``{"type", "data": {"content", ...}}``.

A history has an id and messages, nothing more: no user, no state, no times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.formats.calls import Call, calls_of
from session_adapter.formats.format import Event
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import is_mapping, text_of

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "tool": "tool",
    "system": "system",
    "function": "tool",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
    "ToolMessageChunk": "tool",
    "SystemMessageChunk": "system",
}
_TYPES = {"user": "human", "assistant": "ai", "tool": "tool", "system": "system"}
_LOSES = (
    *("user", "app", "participants", "name", "metadata", "state", "user_state", "app_state", "summary"),
    *("created_at", "updated_at", "event_times", "runs", "authors", "state_deltas", "further_logs", "further_fields"),
    "bytes",
)


_COUNTS = (
    ("input_tokens", "prompt_tokens", "prompt_token_count", "promptTokenCount"),
    ("output_tokens", "completion_tokens", "candidates_token_count", "candidatesTokenCount"),
)


def message_to_event(message: Any) -> Event | None:
    """A message as an event. The calls' own texts count where a provider kept them, else their parsed arguments."""
    data = message.get("data") if is_mapping(message) else None
    if not is_mapping(data):
        return None
    kind = text_of(message.get("type")) or "unknown"
    told = text_of(data.get("role")) if kind == "chat" else None
    event: Event = {"role": told or _ROLES.get(kind, kind), "content": data.get("content")}
    if calls := _calls(data):
        event["tool_calls"] = [call.shown() for call in calls]
    for name in ("id", "name", "tool_call_id", "status"):
        if (text := text_of(data.get(name))) is not None:
            event[name] = text
    if is_mapping(data.get("usage_metadata")):
        event["usage"] = data["usage_metadata"]
    return event


def _calls(data: Mapping[str, Any]) -> list[Call]:
    kwargs = data.get("additional_kwargs")
    spelled = calls_of(kwargs) if is_mapping(kwargs) else []
    parsed = calls_of(data)
    return spelled if len(spelled) >= len(parsed) else parsed


def message_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as the message that LangChain would write."""
    role = text_of(event.get("role")) or "unknown"
    kind = _TYPES.get(role, "chat")
    content = event.get("content")
    data: dict[str, Any] = {
        "content": "" if content is None else content,
        "additional_kwargs": {},
        "response_metadata": {},
        "type": kind,
        "name": event.get("name"),
        "id": event.get("id"),
    }
    if kind == "ai":
        data |= _as_answer(event)
    if kind == "tool":
        status = event.get("status") if event.get("status") in ("success", "error") else "success"
        data |= {"tool_call_id": event.get("tool_call_id") or "", "artifact": None, "status": status}
    if kind == "chat":
        data["role"] = role
    return {"type": kind, "data": data}


def _as_answer(event: Mapping[str, Any]) -> dict[str, Any]:
    calls = calls_of(event)
    valid = [call for call in calls if isinstance(call.arguments_value, dict) and call.name]
    answer: dict[str, Any] = {
        "tool_calls": [
            {"name": call.name, "args": call.arguments_value, "id": call.id, "type": "tool_call"} for call in valid
        ],
        "invalid_tool_calls": [
            {"name": call.name, "args": call.arguments_text, "id": call.id, "error": None, "type": "invalid_tool_call"}
            for call in calls
            if call not in valid
        ],
        "usage_metadata": _usage(event.get("usage")),
    }
    if calls:  # where the arguments' own texts live
        answer["additional_kwargs"] = {"tool_calls": [call.shown() for call in calls]}
    return answer


def _usage(usage: object) -> dict[str, Any] | None:
    if not is_mapping(usage):
        return None
    took, gave = (next((usage[name] for name in names if isinstance(usage.get(name), int)), None) for names in _COUNTS)
    if took is None and gave is None:
        return None
    took, gave = took or 0, gave or 0
    return {
        **usage,
        "input_tokens": took,
        "output_tokens": gave,
        "total_tokens": usage.get("total_tokens", took + gave),
    }


def _blank(fields: Fields) -> dict[str, Any]:
    return {"session_id": fields["id"], "messages": []}


def _format(name: str, engines: tuple[str, ...], *, keeps: tuple[str, ...] = ()) -> PeerFormat:
    return PeerFormat(
        name,
        message_to_event,
        message_from_event,
        history_path=("messages",),
        own_places={"id": (("session_id",),)},
        family="langchain",
        engines=engines,
        loses=tuple(word for word in (*_LOSES, "expires_at", "empty_sessions") if word not in keeps),
        blank=_blank,
    )


LANGCHAIN_SQL = _format("langchain-sql", ("sqlite", "postgresql", "mysql"))
LANGCHAIN_REDIS = _format("langchain-redis", ("redis",), keeps=("expires_at",))
LANGCHAIN_FILE = _format("langchain-file", ("file",), keeps=("empty_sessions",))
