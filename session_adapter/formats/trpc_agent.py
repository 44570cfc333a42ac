"""tRPC-Agent-Go's sessions, as its Redis keeps them: the JSON of a session, and that of each of its events by time.

Values of a state are bytes. A document holds them as such, and JSON otherwise; beside a JSON that Go would spell
otherwise stands its text, which is written back as long as what it says has not changed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from session_adapter.formats.calls import Call, calls_of
from session_adapter.formats.format import Event
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import is_mapping, text_of
from session_adapter.timestamps import read_time

_LOSES = ("participants", "name", "metadata", "branches", "further_fields", "values", "empty_states")
_MOMENT = re.compile(
    r"(?P<wall>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.(?P<part>[0-9]{1,9}))?(?P<zone>Z|[+-][0-9:]{5})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = 1_000
"""Nanoseconds between events that were said at one moment; a score tells no less than 256."""
_ESCAPED = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_SURROGATES = re.compile("[\ud800-\udfff]")
_NEW = "is_new"


# JSON and bytes


def spelled(value: Any) -> str:
    """*value* as Go spells JSON, keys in their order."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign, escaped in _ESCAPED.items():
        text = text.replace(sign, escaped)
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def decoded(state: Any) -> Any:
    """A state with its values, base64, as bytes; what is no such object as it is."""
    if not is_mapping(state):
        return state
    return {name: _bytes(value) for name, value in state.items()}


def encoded(state: Any) -> Any:
    """A state as JSON."""
    if not is_mapping(state):
        return state
    return {name: _base64(value) if isinstance(value, bytes) else value for name, value in state.items()}


def _bytes(value: Any) -> Any:
    """The bytes that *value* stands for; *value* itself where Go would not spell them so."""
    if not isinstance(value, str):
        return value
    try:
        found = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return value
    return found if _base64(found) == value else value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def as_bytes(value: Any) -> bytes | None:
    """A state's value as it is stored: bytes as they are, null as null, all else as its JSON."""
    if value is None or isinstance(value, bytes):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "backslashreplace")


# events


def nanoseconds(told: Any) -> int | None:
    """A time as Go spells it, counted from 1970; None for what is none."""
    found = _MOMENT.fullmatch(told) if isinstance(told, str) else None
    if found is None:
        return None
    try:
        whole = datetime.fromisoformat(found["wall"] + found["zone"].replace("Z", "+00:00"))
        seconds = (whole - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    return seconds * 10**9 + int((found["part"] or "").ljust(9, "0"))


def event_to_events(element: Any) -> list[Event]:
    """The events of a member of the sorted set: one, or one for each answer of tools that were asked together."""
    body = element.get("event") if is_mapping(element) else None
    if not is_mapping(body):
        return []
    first, *others = _messages(body) or [{}]
    told = {**_facts_of(body), **_said(first, body)}
    again = {name: told[name] for name in ("run_id", "author", "timestamp") if name in told}
    return [told, *({**again, **_said(message, body)} for message in others)]


def event_to_event(element: Any) -> Event | None:
    return next(iter(event_to_events(element)), None)


def _messages(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = body.get("choices")
    told = [choice.get("message") for choice in choices if is_mapping(choice)] if isinstance(choices, list) else []
    return [message for message in told if is_mapping(message) and message.get("role")]


def _facts_of(body: Mapping[str, Any]) -> Event:
    event: Event = {}
    for ours, theirs in (("id", "id"), ("run_id", "invocationId"), ("author", "author")):
        if text := text_of(body.get(theirs)):
            event[ours] = text
    for ours, theirs in (("timestamp", "timestamp"), ("usage", "usage"), ("error", "error")):
        if body.get(theirs) is not None:
            event[ours] = body[theirs]
    if is_mapping(body.get("stateDelta")):
        event["state_delta"] = decoded(body["stateDelta"])
    return event


def _said(message: Mapping[str, Any], body: Mapping[str, Any]) -> Event:
    author = text_of(body.get("author"))
    event: Event = {
        "role": text_of(message.get("role")) or ("user" if author == "user" else "assistant"),
        "content": message.get("content") or message.get("content_parts") or message.get("content"),
    }
    if calls := calls_of(message):
        event["tool_calls"] = [_with_text(call).shown() for call in calls]
    for ours, theirs in (
        ("tool_call_id", "tool_id"),
        ("name", "tool_name"),
        ("reasoning_content", "reasoning_content"),
    ):
        if text := text_of(message.get(theirs)):
            event[ours] = text
    return event


def _with_text(call: Call) -> Call:
    """The call with its arguments as JSON; older writers kept the base64 of it."""
    if not isinstance(call.arguments, str) or isinstance(call.arguments_value, dict):
        return call
    try:
        told = json.loads(base64.b64decode(call.arguments, validate=True))
    except (ValueError, RecursionError):
        return call
    return call._replace(arguments=base64.b64decode(call.arguments).decode()) if isinstance(told, dict) else call


def event_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a member that is still to be given its place."""
    role = text_of(event.get("role")) or "unknown"
    moment = read_time(event.get("timestamp"), UTC).moment
    run_id = text_of(event.get("run_id")) or ""
    body: dict[str, Any] = {
        "object": "tool.response" if role == "tool" else "chat.completion",
        "created": 0 if moment is None else int(moment.timestamp()),
        "model": "",
        "choices": [{"index": 0, "message": _message(role, event), "delta": {"role": ""}}],
        "done": True,
        "is_partial": False,
        "requestID": run_id,
        "invocationId": run_id,
        "author": text_of(event.get("author")) or ("user" if role == "user" else "assistant"),
        "id": text_of(event.get("id")) or "",
        "timestamp": _rfc3339(moment or _EPOCH),
        "version": 1,
    }
    if is_mapping(event.get("usage")):
        body["usage"] = _usage(event["usage"])
    if is_mapping(event.get("state_delta")):
        body["stateDelta"] = encoded({name: as_bytes(value) for name, value in event["state_delta"].items()})
    return {"score": None, "event": body, _NEW: True}


def _message(role: str, event: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role}
    content = event.get("content")
    if isinstance(content, list) and all(is_mapping(part) for part in content):
        message["content_parts"] = content
    elif content is not None:
        message["content"] = content if isinstance(content, str) else spelled(content)
    if calls := calls_of(event):
        message["tool_calls"] = [
            {"type": "function", "function": {"name": call.name or "", "arguments": call.arguments_text}, "id": call.id}
            for call in calls
        ]
    if (tool := text_of(event.get("tool_call_id"))) is not None:
        message["tool_id"] = tool
    if (name := text_of(event.get("name"))) is not None:
        message["tool_name"] = name
    if (thought := text_of(event.get("reasoning_content"))) is not None:
        message["reasoning_content"] = thought
    return message


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(usage)
    for theirs, ours in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        if theirs not in told and ours in told:
            told[theirs] = told[ours]
    return told


def _rfc3339(moment: datetime) -> str:
    return _spelled_moment((moment - _EPOCH) // timedelta(microseconds=1) * 1_000)


def _spelled_moment(nanoseconds: int) -> str:
    seconds, part = divmod(nanoseconds, 10**9)
    wall = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return wall + (f".{part:09d}".rstrip("0") if part else "") + "Z"


def arranged(elements: list[Any]) -> list[Any]:
    """New members get an id of their own and times behind those before them, old ones stay as they are."""
    known = {id for element in elements if not element.get(_NEW) and (id := key_of(element))}
    last = -(1 << 80)
    placed: list[Any] = []
    for number, element in enumerate(elements, 1):
        if element.get(_NEW):
            element = _placed(element, number, last, known)
        last = max(last, nanoseconds((element.get("event") or {}).get("timestamp")) or last)
        placed.append(element)
    return placed


def _placed(element: Mapping[str, Any], number: int, last: int, known: set[str]) -> dict[str, Any]:
    body = element["event"]
    id = body["id"]
    if not id or id in known:
        id = f"{id or 'event'}-{number:06d}"
    while id in known:
        id += "-"
    known.add(id)
    at = nanoseconds(body["timestamp"])
    at = last + _STEP if at is None or at <= last else at
    return {"score": float(at), "event": {**body, "id": id, "timestamp": _spelled_moment(at)}}


def key_of(element: Any) -> str | None:
    """The id of an event; None for one that repeats the id of another."""
    if not is_mapping(element) or element.get("again") or not is_mapping(element.get("event")):
        return None
    return text_of(element["event"].get("id")) or None


# tracks


def arranged_track(name: str, bodies: list[Any]) -> list[Any]:
    """The entries of a track, ``{"score", "id"?, "value"}``; what came from elsewhere as one. Nothing of other logs."""
    track = name.removeprefix("track:")
    placed: list[Any] = []
    for body in bodies if track != name else ():
        entry = _track_entry(track, body)
        if placed and entry["score"] < placed[-1]["score"]:
            entry["score"] = placed[-1]["score"]
        placed.append(entry)
    return placed


def _track_entry(track: str, body: Any) -> dict[str, Any]:
    if is_mapping(body) and isinstance(body.get("score"), float) and "value" in body:
        return dict(body)
    told = read_time(body.get("timestamp"), UTC).moment if is_mapping(body) else None
    moment = told or _EPOCH
    value = {"track": track, "payload": body, "timestamp": _rfc3339(moment)}
    return {"score": float((moment - _EPOCH) // timedelta(microseconds=1) * 1_000), "value": value}


# sessions


def written(name: str, value: Any) -> Any:
    """A field as documents hold it."""
    if name == "state" and is_mapping(value):
        return {key: as_bytes(one) for key, one in value.items()}
    if name == "summary" and not (is_mapping(value) and isinstance(value.get("summary"), str)):
        told = value.get("content") if is_mapping(value) else value
        return {"summary": told if isinstance(told, str) else spelled(told)}
    return value


def _without_texts(document: dict[str, Any]) -> dict[str, Any]:
    """What a session says, however that is spelled; its texts are of what it said before it was changed."""
    return {name: value for name, value in document.items() if name not in ("session_text", "summaries_text")}


def _blank_v1(fields: Fields) -> dict[str, Any]:
    created, updated = _rfc3339(fields["created_at"]), _rfc3339(fields["updated_at"])
    session = {"id": fields["id"], "state": {}, "createdAt": created, "updatedAt": updated}
    return {
        "app_name": fields["app_name"],
        "user_id": fields["user_id"],
        "session_id": fields["id"],
        "layout": "v1",
        "session": session,
        "events": [],
    }


def _blank_v2(fields: Fields) -> dict[str, Any]:
    document = _blank_v1(fields)
    owner = {"appName": fields["app_name"], "userID": fields["user_id"]}
    indexed = spelled({"createdAt": document["session"]["createdAt"]})
    return document | {"layout": "v2", "session": document["session"] | owner, "indexed": indexed}


def _format(name: str, blank: Any) -> PeerFormat:
    return PeerFormat(
        name,
        event_to_event,
        event_from_event,
        history_path=("events",),
        own_places={
            "id": (("session_id",),),
            "app_name": (("app_name",),),
            "user_id": (("user_id",),),
            "state": (("session", "state"),),
            "summary": (("summaries", ""),),
            "created_at": (("session", "createdAt"),),
            "updated_at": (("session", "updatedAt"),),
        },
        to_events=event_to_events,
        family="trpc-agent",
        engines=("redis",),
        is_scoped=True,
        loses=_LOSES,
        blank=blank,
        entry_key=key_of,
        written_time=_rfc3339,
        written=written,
        is_timed=True,
        arranged=arranged,
        placed_log=arranged_track,
        compared=_without_texts,
    )


TRPC_V2 = _format("trpc-v2", _blank_v2)
TRPC_V1 = _format("trpc-v1", _blank_v1)
