"""Google ADK's events: what was said stands in parts, several calls and several results in one event.

A *body* is an event as ADK dumps it, by the names of its fields. New bodies hold what ADK has no field for under
``custom_metadata``, so that they show again what they were built from.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from session_adapter.formats.calls import Call, calls_of
from session_adapter.formats.format import Event
from session_adapter.formats.json_values import text_of_octets
from session_adapter.formats.places import is_mapping, text_of, value_at
from session_adapter.timestamps import read_time
from unified_storage.values import equal

Body = Mapping[str, Any]

OURS = "unified_storage"
"""The key of ``custom_metadata`` under which fields stand that ADK has none for."""
_CARRIED = ("custom_metadata", OURS)
_TEXTS = ("branch", "error_code", "error_message")
_ALIKE = (*_TEXTS, "long_running_tool_ids")
_FILE = frozenset({"file_uri", "mime_type", "display_name"})
_BLOB = frozenset({"data", "mime_type", "display_name"})
_COUNTS = ("prompt_token_count", "candidates_token_count", "total_token_count")
_OTHER_COUNTS = ("cached_content_token_count", "thoughts_token_count", "tool_use_prompt_token_count")
_COUNTED_AS: tuple[tuple[str, ...], ...] = (
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("total_tokens",),
)
_NOT_OF_AN_EVENT = ("seq", "index")


# a body as events


def events_in(body: Body) -> list[Event]:
    """The events that *body* shows: what was said and called, then a result each; none for a partial one."""
    if body.get("partial"):
        return []
    parts = [part for part in _listed(value_at(body, ("content", "parts"))) if is_mapping(part)]
    results = [part["function_response"] for part in parts if is_mapping(part.get("function_response"))]
    said = [part for part in parts if not is_mapping(part.get("function_response"))]
    shared = _shared(body)
    shown = [shared | _said(body, said)] if said or not results else []
    shown += [shared | _result(response) for response in results]
    shown[0] |= _once(body)
    return shown


def _shared(body: Body) -> Event:
    event: Event = {"timestamp": body.get("timestamp")}
    if author := text_of(body.get("author")):
        event["author"] = author
    if run_id := text_of(body.get("invocation_id")):
        event["run_id"] = run_id
    if body.get("interrupted"):
        event["status"] = "interrupted"
    return event | {name: body[name] for name in _ALIKE if body.get(name)}


def _once(body: Body) -> Event:
    """What belongs to the first of several events."""
    event: Event = {}
    if (id := text_of(body.get("id"))) is not None:
        event["id"] = id
    if is_mapping(usage := body.get("usage_metadata")):
        event["usage"] = usage
    if is_mapping(delta := value_at(body, ("actions", "state_delta"))) and delta:
        event["state_delta"] = delta
    carried = value_at(body, _CARRIED)
    return event | dict(carried) if is_mapping(carried) else event


def _said(body: Body, parts: Sequence[Mapping[str, Any]]) -> Event:
    event: Event = {"role": "user" if body.get("author") == "user" else "assistant", "content": _content(parts)}
    calls = [part["function_call"] for part in parts if is_mapping(part.get("function_call"))]
    if calls:
        event["tool_calls"] = [_call(call).shown() for call in calls]
    return event


def _call(call: Mapping[str, Any]) -> Call:
    return Call(text_of(call.get("id")), text_of(call.get("name")), call.get("args"))


def _content(parts: Sequence[Mapping[str, Any]]) -> Any:
    """Plain texts as one; parts as they are where others are among them; None for none."""
    told = [part for part in parts if not is_mapping(part.get("function_call"))]
    if all(part.keys() == {"text"} and isinstance(part["text"], str) for part in told):
        return "".join(part["text"] for part in told) if told else None
    return told


def _result(response: Mapping[str, Any]) -> Event:
    event: Event = {"role": "tool", "content": _result_text(response.get("response"))}
    for name, key in (("tool_call_id", "id"), ("name", "name")):
        if (text := text_of(response.get(key))) is not None:
            event[name] = text
    return event


def _result_text(response: Any) -> str | None:
    """A result as text: ADK keeps objects alone, so a text stands in one, under ``result``."""
    if response is None:
        return None
    if is_mapping(response) and response.keys() == {"result"} and isinstance(response["result"], str):
        return str(response["result"])
    return json.dumps(response)


# an event as a body


def body_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The body that ADK would write for *event*; without ``id`` and ``timestamp`` where it has none."""
    role = text_of(event.get("role")) or "unknown"
    body: dict[str, Any] = {
        "content": {"parts": _parts(event, role), "role": "model" if role == "assistant" else "user"},
        "invocation_id": text_of(event.get("run_id")) or "",
        "author": text_of(event.get("author")) or {"user": "user", "system": "system"}.get(role, "agent"),
        "actions": _actions(event.get("state_delta")),
    }
    if (usage := _usage(event.get("usage"))) is not None:
        body["usage_metadata"] = usage
    if event.get("status") == "interrupted":
        body["interrupted"] = True
    body |= _alike(event)
    if id := text_of(event.get("id")):
        body["id"] = id
    if (moment := read_time(event.get("timestamp"), UTC).moment) is not None:
        body["timestamp"] = moment.timestamp()
    if carried := _carried(event, events_in(body)[0]):
        body["custom_metadata"] = {OURS: carried}
    plain: dict[str, Any] = storable(body)
    return plain


def _parts(event: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    if role == "tool":
        named = {"id": text_of(event.get("tool_call_id")), "name": text_of(event.get("name"))}
        given = {name: value for name, value in named.items() if value is not None}
        return [{"function_response": given | {"response": _as_response(event.get("content"))}}]
    calls = [{"function_call": _as_call(call)} for call in calls_of(event)]
    return [*_as_parts(event.get("content")), *calls]


def _as_parts(content: Any) -> list[dict[str, Any]]:
    if content is None or content == "":
        return []
    if isinstance(content, list) and all(map(_is_part, content)):
        return [dict(part) for part in content]
    return [{"text": content if isinstance(content, str) else json.dumps(storable(content), ensure_ascii=False)}]


def _is_part(part: Any) -> bool:
    """Whether ADK takes *part* as it is. It reads a whole session or none of it, so nothing that it might not take."""
    if not is_mapping(part):
        return False
    if part.keys() in ({"text"}, {"text", "thought"}):
        return isinstance(part["text"], str) and isinstance(part.get("thought", False), bool)
    for name, known in (("file_data", _FILE), ("inline_data", _BLOB)):
        if part.keys() == {name}:
            return _is_of_texts(part[name], known)
    return False


def _is_of_texts(value: Any, names: frozenset[str]) -> bool:
    if not is_mapping(value) or value.keys() - names or not all(isinstance(one, str) for one in value.values()):
        return False
    try:
        return bool(value) and base64.b64decode(value.get("data", ""), validate=True) is not None
    except ValueError:
        return False


def _as_call(call: Call) -> dict[str, Any]:
    arguments = call.arguments_value
    given = {"id": call.id, "name": call.name}
    args = arguments if isinstance(arguments, dict) else {"arguments": arguments}
    return {name: value for name, value in given.items() if value is not None} | {"args": args}


def _as_response(content: Any) -> dict[str, Any]:
    """The object that ADK keeps for a result: the one that a text is, exactly, else the text under ``result``."""
    if is_mapping(content):
        return dict(content)
    if not isinstance(content, str):
        return {"result": "" if content is None else json.dumps(storable(content))}
    try:
        parsed = json.loads(content) if content[:1] == "{" else None
    except (ValueError, RecursionError):
        parsed = None
    is_exact = isinstance(parsed, dict) and _result_text(parsed) == content
    return parsed if is_exact and isinstance(parsed, dict) else {"result": content}


def _actions(delta: Any) -> dict[str, Any]:
    return {
        "state_delta": dict(delta) if is_mapping(delta) else {},
        "artifact_delta": {},
        "requested_auth_configs": {},
        "requested_tool_confirmations": {},
    }


def _usage(usage: Any) -> dict[str, int] | None:
    if not is_mapping(usage):
        return None
    if usage and not usage.keys() - {*_COUNTS, *_OTHER_COUNTS} and all(map(_is_count, usage.values())):
        return dict(usage)
    counted = {
        theirs: next((usage[name] for name in (theirs, *names) if _is_count(usage.get(name))), None)
        for theirs, names in zip(_COUNTS, _COUNTED_AS, strict=True)
    }
    return {name: count for name, count in counted.items() if count is not None} or None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _alike(event: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that both sides name alike, where they are of ADK's type."""
    found = {name: event[name] for name in _TEXTS if isinstance(event.get(name), str)}
    waiting = event.get("long_running_tool_ids")
    if isinstance(waiting, list) and waiting and all(isinstance(id, str) for id in waiting):
        found["long_running_tool_ids"] = waiting
    return found


def _carried(event: Mapping[str, Any], shown: Event) -> dict[str, Any]:
    """What *shown*, the event that the new body shows, does not say as *event* does."""
    carried = {
        name: value
        for name, value in event.items()
        if value is not None and name not in (*_NOT_OF_AN_EVENT, "timestamp") and not _is_said(shown, name, value)
    }
    if event.get("content") is None and shown.get("content") is not None:
        carried["content"] = None  # a result has to have one
    if read_time(event.get("timestamp"), UTC).moment is None:
        carried["timestamp"] = None  # it has to be given one
    return carried


def _is_said(shown: Event, name: str, value: Any) -> bool:
    if name == "tool_calls" and isinstance(value, list) and all(map(is_mapping, value)):
        value = [call.shown() for call in calls_of({name: value})]  # whatever their writer's form
    return equal(storable(shown.get(name)), storable(value)) or (name == "content" and value == "")


# values


def storable(value: Any) -> Any:
    """*value* as JSON has it: ``bytes`` as text, or Base64 where they are none; times as text, sets as lists."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): storable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((storable(one) for one in value), key=json.dumps)
    return _text(value)


def _text(value: Any) -> str:
    match value:
        case bytes():
            return text_of_octets(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
    return str(value)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()
