"""Scoped sessions in a Redis laid out by hand: ``session:{app}:{user}`` and ``events:{app}:{user}:{session}``.

The layout says where JSON stands, and little of what is in it. So a session's JSON is read by the names that writers of
such layouts use, and an event's as a flat message, as a completion (``choices``), or as one with ``parts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.formats.calls import calls_of
from session_adapter.formats.format import NAMES, Event
from session_adapter.formats.peer import PeerFormat
from session_adapter.formats.places import Path, is_mapping, text_of, value_at

_MICROSECONDS_ABOVE, _NANOSECONDS_ABOVE = 1e14, 1e17  # as milliseconds the years 5138 and 3 million
_SPELLED: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "event_id", "eventId"),
    "run_id": ("run_id", "runId", "invocation_id", "invocationId"),
    "timestamp": ("timestamp", "created_at", "createdAt"),
    "state_delta": ("state_delta", "stateDelta"),
    "tool_call_id": ("tool_call_id", "toolCallId", "tool_id"),
    "name": ("name", "tool_name", "toolName"),
    "tool_calls": ("tool_calls", "toolCalls"),
    "usage": ("usage", "usage_metadata", "usageMetadata"),
}
_TEXTS = ("id", "run_id", "tool_call_id", "name")
_OTHER_SPELLINGS = frozenset(name for names in _SPELLED.values() for name in names) | {"choices", "message"}
_SESSION_TIMES = {
    "created_at": ("createdAt", "created_at", "createTime", "create_time"),
    "updated_at": ("updatedAt", "updated_at", "updateTime", "update_time", "lastUpdateTime", "last_update_time"),
}


def event_to_event(element: Any) -> Event | None:
    """A member of the sorted set, ``{"score", "event"}``, as an event; its score is its time where it has no other."""
    body = element.get("event") if is_mapping(element) else None
    if not is_mapping(body):
        return None
    message = _message(body)
    event: Event = {name: value for name, value in body.items() if name not in _OTHER_SPELLINGS}
    event |= {"role": _role(body, message), "content": message.get("content")}
    for name, spellings in _SPELLED.items():
        found = next((part[key] for key in spellings for part in (body, message) if part.get(key) is not None), None)
        if found is not None:
            event[name] = text_of(found) if name in _TEXTS else found
    if "tool_calls" in event:
        event["tool_calls"] = [call.shown() for call in calls_of(event)]
    event.setdefault("timestamp", _time_of(element.get("score")))
    return event


def _message(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that says what was said: a completion's first message, one under ``message``, or the whole."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for found in (value_at(first, ("message",)), body.get("message")):
        if is_mapping(found):
            return found
    return body


def _role(body: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    told = text_of(message.get("role")) or text_of(value_at(body, ("content", "role"))) or text_of(body.get("role"))
    if told == "model":
        return "assistant"
    if told:
        return told
    author = text_of(body.get("author"))
    return "user" if author == "user" else "assistant" if author else "unknown"


def _time_of(score: Any) -> float | None:
    """*score* as seconds or milliseconds; a writer's microseconds and nanoseconds are told by their size."""
    if not isinstance(score, int | float) or isinstance(score, bool):
        return None
    if abs(score) > _NANOSECONDS_ABOVE:
        return round(score / 1e6, 3)  # a double holds no more of it
    return round(score / 1e3, 3) if abs(score) > _MICROSECONDS_ABOVE else score


def event_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a member; none is ever written."""
    return {"score": None, "event": dict(event)}


def _key_of(element: Any) -> str | None:
    if not is_mapping(element) or element.get("again"):
        return None  # its id is that of an earlier one
    event = event_to_event(element)
    return None if event is None else event.get("id") or None


def _in_session(*names: str) -> tuple[Path, ...]:
    return tuple(("session", name) for name in names)


SCOPED_REDIS = PeerFormat(
    "scoped",
    event_to_event,
    event_from_event,
    history_path=("events",),
    own_places={
        **{name: _in_session(name) for name in (*NAMES, "metadata", "state", "summary")},
        **{name: _in_session(*spellings) for name, spellings in _SESSION_TIMES.items()},
        **{name: ((name,),) for name in ("app_name", "user_id")},
        "id": (("session_id",),),
    },
    family="scoped",
    engines=("redis",),
    is_scoped=True,
    writes=False,
    entry_key=_key_of,
)
