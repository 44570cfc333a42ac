"""Tool calls and their results inside an event, in the forms that model APIs and frameworks write them in.

A call stands in ``tool_calls`` or is a part of the content. A result is a whole event of the role ``tool``, or a part
of the content of any event, since Anthropic's stand in messages of the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from session_adapter.formats import Event
from session_adapter.formats.places import is_mapping, text_of

Place = tuple[str, int]
"""Where a call or a result stands in its event: a key with a list, and the place in it; ``("", 0)`` is all of it."""

_TOOL_ROLES = ("tool", "function")
_WHOLE: Place = ("", 0)
# OpenAI's responses and agno have two ids for one call, and results name either; the call's own comes first.
_ID_KEYS = ("call_id", "tool_call_id", "toolCallId", "tool_use_id", "toolUseId", "id")
_NAME_KEYS = ("name", "tool_name", "toolName")
# What a part of the content says it is: by its type, or by the one key that holds it (ADK, Gemini, Bedrock).
_CALL_LISTS = ("tool_calls", "content")
_CALL_TYPES = ("tool_use", "tool_call", "tool-call", "function_call")
_CALL_KEYS = ("function_call", "functionCall", "toolUse")
_RESULT_TYPES = ("tool_result", "tool-result", "function_call_output", "function_response")
_RESULT_KEYS = ("function_response", "functionResponse", "toolResult")
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class Mention:
    """A call, or the result of one.

    Attributes:
        ids: what it is called by; empty where its writer gives calls no ids.
        name: of the tool.
        places: where it stands; a call may stand in ``tool_calls`` and in the content too.
    """

    ids: tuple[str, ...]
    name: str | None
    places: tuple[Place, ...]


def is_partial(event: Mapping[str, Any]) -> bool:
    """Whether *event* is a piece of a message that is still being said: its writer marked it ``partial``."""
    return bool(event.get("partial"))


def is_result(event: Mapping[str, Any]) -> bool:
    """Whether *event* as a whole exists for results of calls."""
    return event.get("role") in _TOOL_ROLES or event.get("tool_call_id") is not None


def is_long_running(event: Mapping[str, Any], call: Mention) -> bool:
    """Whether *event* says of its *call* that a first result may come before the real one, as ADK does."""
    waiting = event.get("long_running_tool_ids")
    return isinstance(waiting, list | tuple | set) and any(id in call.ids for id in waiting)


def calls_in(event: Mapping[str, Any]) -> list[Mention]:
    """The calls that *event* makes, in their order; a user makes none."""
    if is_result(event) or event.get("role") == "user" or not (event.get("tool_calls") or _has_parts(event)):
        return []
    found: dict[object, Mention] = {}
    for key in _CALL_LISTS:
        count: dict[object, int] = {}
        for place, ids, name in _told(event, key, _CALL_KEYS, _CALL_TYPES):
            said = ids or name
            count[said] = count.get(said, 0) + 1
            same = found.get((said, count[said]))
            places = (place,) if same is None else (*same.places, place)
            found[said, count[said]] = Mention(ids, name, places)
    return [*found.values()]


def strays_in(event: Mapping[str, Any]) -> list[Place]:
    """Where an event of the user has calls: no model takes them from there."""
    if is_result(event) or event.get("role") != "user" or not (event.get("tool_calls") or _has_parts(event)):
        return []
    return [place for key in _CALL_LISTS for place, _, _ in _told(event, key, _CALL_KEYS, _CALL_TYPES)]


def results_in(event: Mapping[str, Any]) -> list[Mention]:
    """The results that *event* brings, in their order."""
    parts = [*_told(event, "content", _RESULT_KEYS, _RESULT_TYPES)] if _has_parts(event) else []
    if not is_result(event):
        return [Mention(ids, name, (place,)) for place, ids, name in parts]
    own_id, name = text_of(event.get("tool_call_id")), _text_at(event, _NAME_KEYS)
    own_ids = (own_id,) if own_id else ()
    if not parts and not own_ids:
        parts = [*_told(event, "tool_calls", (), ())]  # agno puts the results of one turn there for Gemini
    if len(parts) > 1:
        return [Mention(ids, name, (place,)) for place, ids, name in parts]
    for _, ids, told in parts:
        own_ids, name = (*own_ids, *ids), told or name
    return [Mention(own_ids, name, (_WHOLE,))]


def has_more_than(event: Mapping[str, Any], results: Sequence[Mention]) -> bool:
    """Whether *event* says something besides *results*, all that it brings; one without them always does.

    Calls of a user say nothing.
    """
    if is_result(event):
        return False
    others = [*(place for result in results for place in result.places), *strays_in(event)]
    return not others or says_something(without(event, others))


def says_something(event: Mapping[str, Any]) -> bool:
    """Whether *event* has calls, or a content that is more than blanks and thoughts."""
    content = event.get("content")
    parts = content if isinstance(content, list) else [content]
    return bool(event.get("tool_calls")) or any(not _is_blank(part) for part in parts)


def without(event: Mapping[str, Any], places: Iterable[Place]) -> Event:
    """A copy of *event* without what stands at *places*, which are not the whole of it."""
    gone = set(places)
    shorter = dict(event)
    for key in {key for key, _ in gone}:
        shorter[key] = [item for at, item in enumerate(event[key]) if (key, at) not in gone]
    if "tool_calls" in shorter:
        shorter["tool_calls"] = shorter["tool_calls"] or None  # no calls are null, as where there never were any
    return shorter


def only_at(event: Event, places: Iterable[Place]) -> Event:
    """A copy of *event* with nothing but the parts of its content at *places*."""
    kept = set(places)
    parts = [part for at, part in enumerate(event["content"]) if ("content", at) in kept]
    return {**event, "content": parts, "tool_calls": None}


def _has_parts(event: Mapping[str, Any]) -> bool:
    return isinstance(event.get("content"), list)


def _told(
    event: Mapping[str, Any], key: str, inner_keys: tuple[str, ...], types: Sequence[str]
) -> Iterator[tuple[Place, tuple[str, ...], str | None]]:
    """(place, ids, name) of each that the list at *key* holds; of ``tool_calls``, every object is one."""
    items = event.get(key)
    for at, item in enumerate(items if isinstance(items, list) else ()):
        if not is_mapping(item):
            continue
        inner = next((item[name] for name in inner_keys if is_mapping(item.get(name))), None)
        if inner is not None or key == "tool_calls" or item.get("type") in types:
            yield (key, at), *_names_in(item if inner is None else inner)


def _names_in(item: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    ids = tuple(text for key in _ID_KEYS if (text := text_of(item.get(key))))
    function = item.get("function")
    return ids, _text_at(function if is_mapping(function) else item, _NAME_KEYS)


def _text_at(holder: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    return next((text for key in keys if (text := text_of(holder.get(key)))), None)


def _is_blank(part: object) -> bool:
    if isinstance(part, str):
        return not part.strip()
    if not is_mapping(part):
        return part is None
    if part.get("type") in _THOUGHTS or part.get("thought") is True:
        return True
    return isinstance(part.get("text"), str) and not part["text"].strip()
