"""The items of openai-agents' sessions, whatever store they lie in: input items of OpenAI's Responses API.

An element of a document is ``{"item", "created_at"?, ...}``: the item parsed, or its text where that does not parse, or
where it is spelled in a way that would not come back. What a model answered may be several items, a message and calls;
in chat form that is one message. So the last of them shows the whole, with the others in ``before``, and those
(``shown_with_next``) show nothing: see :func:`linked`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from session_adapter.formats.calls import Call, calls_of
from session_adapter.formats.format import Event
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import is_mapping, text_of
from session_adapter.timestamps import read_time, render

BEFORE, HIDDEN = "before", "shown_with_next"
_LOSES = (
    *("user", "app", "participants", "name", "metadata", "state", "user_state", "app_state", "summary", "event_ids"),
    *("runs", "authors", "usage", "state_deltas", "further_fields", "bytes"),
)
_TEXT_TYPES = frozenset({"input_text", "output_text", "text"})
_PART_TYPES = frozenset({"input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"})


# items


def item_of(element: Any) -> dict[str, Any] | None:
    """The item of *element*; None where it is none that can be read: broken text, an envelope nobody opened."""
    return _readable(element.get("item")) if is_mapping(element) else None


def _readable(item: Any) -> dict[str, Any] | None:
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except (ValueError, RecursionError):
            return None
    return item if isinstance(item, dict) and not is_envelope(item) else None


def is_envelope(item: Any) -> bool:
    """Whether *item* is one of EncryptedSession's: it says what is in it to nobody without the key."""
    return is_mapping(item) and item.get("__enc__") == 1 and {"v", "kid", "payload"} <= item.keys()


def is_call(item: Mapping[str, Any]) -> bool:
    """Whether *item* is a call that has its result in another item."""
    kind = item.get("type")
    return isinstance(kind, str) and kind.endswith("_call") and text_of(item.get("call_id")) is not None


def _is_result(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and kind.endswith("_output") and "call_id" in item


def _is_answer(item: Mapping[str, Any]) -> bool:
    return item.get("role") == "assistant" and item.get("type", "message") == "message"


# items as events


def item_to_event(element: Any) -> Event | None:
    """The message that *element* shows: its item's, with what the same answer said in the items before it."""
    item = item_of(element)
    if item is None or element.get(HIDDEN):
        return None
    told = element.get(BEFORE)
    before = [_readable(one) for one in told] if isinstance(told, list) else []
    event = _shown([one for one in before if one is not None], item)
    if element.get("created_at") is not None:
        event["timestamp"] = element["created_at"]
    return event


def _shown(before: list[dict[str, Any]], item: dict[str, Any]) -> Event:
    if is_call(item):
        answers = [one for one in before if _is_answer(one)]
        calls = [one for one in (*before, item) if is_call(one)]
        content = content_of(answers[-1].get("content")) if answers else None
        return {"role": "assistant", "content": content, "tool_calls": [_call_of(one).shown() for one in calls]}
    if _is_result(item):
        return {
            "role": "tool",
            "tool_call_id": text_of(item["call_id"]),
            "content": content_of(item.get("output")),
            **_kind_of(item, "function_call_output"),
        }
    if "role" in item:
        event: Event = {"role": text_of(item["role"]) or "unknown", "content": content_of(item.get("content"))}
    else:  # a thought, a search ..., which only models that know it are told again
        event = {"role": "assistant", "content": None, **_kind_of(item, "message")}
    return event | ({"status": item["status"]} if isinstance(item.get("status"), str) else {})


def _kind_of(item: Mapping[str, Any], usual: str) -> Event:
    kind = item.get("type", usual)
    return {} if kind == usual else {"type": kind}


def _call_of(item: Mapping[str, Any]) -> Call:
    told = next((item[name] for name in ("arguments", "input", "action", "operation") if name in item), None)
    return Call(text_of(item.get("call_id")), text_of(item.get("name")) or text_of(item.get("type")), told)


def content_of(content: Any) -> Any:
    """What *content* says: parts that are texts alone as one text, all else as it is."""
    if not isinstance(content, list) or not content:
        return content
    parts = (part for part in content if is_mapping(part) and part.get("type") in _TEXT_TYPES)
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "".join(texts) if len(texts) == len(content) else content


# events as items


def item_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as the last of its items, the others in ``before``; ids are left out, as only OpenAI gives them."""
    *before, last = _items_of(event)
    element: dict[str, Any] = {"item": last}
    if before:
        element[BEFORE] = before
    moment = read_time(event.get("timestamp")).moment
    if moment is not None:
        element["created_at"] = render(moment.replace(microsecond=0))
    return element


def _items_of(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    role, content = text_of(event.get("role")) or "unknown", event.get("content")
    if role in ("tool", "function") or event.get("tool_call_id") is not None:
        called = text_of(event.get("tool_call_id")) or ""
        return [{"type": "function_call_output", "call_id": called, "output": _as_text(content)}]
    if role != "assistant":
        return [{"role": role, "content": _as_content(content)}]
    calls = [_as_call(call) for call in calls_of(event)]
    if calls and content in (None, "", []):
        return calls
    return [{"role": "assistant", "content": _as_text(content)}, *calls]


def _as_call(call: Call) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id or "",
        "name": call.name or "",
        "arguments": call.arguments_text,
    }


def _as_content(content: Any) -> Any:
    """*content* as a user's: text, or parts in the form of this API."""
    if not isinstance(content, list) or not content:
        return _as_text(content)
    return [_as_part(part) for part in content]


def _as_part(part: Any) -> dict[str, Any]:
    if not is_mapping(part):
        return {"type": "input_text", "text": _as_text(part)}
    if part.get("type") in _PART_TYPES:
        return dict(part)
    image = part.get("image_url")
    url = image.get("url") if is_mapping(image) else image
    if part.get("type") == "image_url" and isinstance(url, str):
        return {"type": "input_image", "detail": "auto", "image_url": url}
    return {"type": "input_text", "text": _said_in(part)}


def _as_text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content.get("parts") if is_mapping(content) else content
    if isinstance(parts, list) and all(is_mapping(part) and isinstance(part.get("text"), str) for part in parts):
        return "".join(part["text"] for part in parts)
    return json.dumps(content, ensure_ascii=False, default=str)


def _said_in(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else _as_text(dict(part))


# what the elements of one session owe to each other


def linked(elements: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """*elements*, each of one item, with the word on which of them are shown together.

    A message of the model and the calls right behind it are one answer, as are calls in a row.
    """
    made: list[dict[str, Any]] = []
    answer: list[Any] = []
    for element in elements:
        alone = {name: value for name, value in element.items() if name not in (BEFORE, HIDDEN)}
        item = item_of(alone)
        joins = item is not None and is_call(item)
        if joins and answer:
            made[-1] = {name: value for name, value in made[-1].items() if name != BEFORE} | {HIDDEN: True}
            alone[BEFORE] = [*answer]
        answer = [*answer, alone["item"]] if joins else [alone["item"]] if item and _is_answer(item) else []
        made.append(alone)
    return made


def unlinked(elements: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """*elements* with one item each, as they are shown.

    Those of an answer that only its last element has are given their own; those whose last element was withdrawn are
    withdrawn with it.
    """
    made: list[dict[str, Any]] = []
    hidden: list[dict[str, Any]] = []
    for element in elements:
        alone = {name: value for name, value in element.items() if name not in (BEFORE, HIDDEN)}
        if element.get(HIDDEN):
            hidden.append(alone)
            continue
        told = element.get(BEFORE) or []
        own = hidden[-len(told) :] if told else []
        is_whole = [one["item"] for one in own] == told
        made += own if is_whole else [_beside(alone, item) for item in told]
        made.append(alone)
        hidden = []
    return made


def _beside(element: Mapping[str, Any], item: Any) -> dict[str, Any]:
    times = {"created_at": element["created_at"]} if "created_at" in element else {}
    return {"item": item, **times}


# the formats


def _blank(fields: Fields) -> dict[str, Any]:
    times = {name: written_time(fields[name]) for name in ("created_at", "updated_at")}
    return {"session_id": fields["id"], **times, "messages": []}


def written_time(moment: datetime) -> str:
    """A time as the libraries of this family write it: whole seconds."""
    return render(moment.replace(microsecond=0))


def _placed_branch(name: str, bodies: list[Any]) -> list[Any]:
    return bodies if name.startswith("branch:") else []


def _format(
    name: str, engines: tuple[str, ...], *loses: str, is_timed: bool = True, has_branches: bool = False
) -> PeerFormat:
    return PeerFormat(
        name,
        item_to_event,
        item_from_event,
        history_path=("messages",),
        own_places={"id": (("session_id",),), **{name: ((name,),) for name in ("created_at", "updated_at")}},
        family="openai-agents",
        engines=engines,
        loses=(*_LOSES, *loses),
        blank=_blank,
        written_time=written_time,
        is_timed=is_timed,
        row_lists=("turn_usage", "unplaced") if has_branches else (),
        placed_log=_placed_branch if has_branches else None,
    )


OPENAI_SQLITE = _format("openai-sqlite", ("sqlite",), "further_logs", "expires_at")
OPENAI_SQLALCHEMY = _format("openai-sqlalchemy", ("sqlite", "postgresql", "mysql"), "further_logs", "expires_at")
OPENAI_ADVANCED = _format("openai-advanced", ("sqlite",), "tracks", "expires_at", has_branches=True)
OPENAI_REDIS = _format("openai-redis", ("redis",), "event_times", "further_logs", is_timed=False)
OPENAI_ENCRYPTED = _format("openai-encrypted", ("sqlite", "postgresql", "mysql", "redis"), "further_logs", "expires_at")
