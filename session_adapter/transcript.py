"""A conversation as plain text, for those that read it: models that sum it up, and people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from session_adapter.formats.places import Document, is_mapping
from session_adapter.formats.runs import shown_messages

_TEXTS = ("text", "content", "input_content", "input_text", "output_text", "thinking")
_ASKED = ("input", "message", "prompt")
_ANSWERED = ("content", "output", "response")
_LEFT_OUT = " … ({} characters left out) … "


def run_messages(run: Document) -> list[Document]:
    """The messages that *run* shows, oldest first; for one that keeps none, what was asked and what was answered.

    A run inside another one (``parent_run_id``) shows none: what came of it stands in that one.
    """
    messages: list[Document] = [messages[at] for messages, at in shown_messages(run)]
    if messages or run.get("parent_run_id") is not None:
        return messages
    asked = next((run[name] for name in _ASKED if run.get(name)), None)
    answered = next((run[name] for name in _ANSWERED if run.get(name)), None)
    told = [("user", asked), ("assistant", answered)]
    return [{"role": role, "content": content} for role, content in told if text_of_content(content)]


def line_of(message: Document) -> str:
    """What *message* says and calls, in one piece of text: ``user: Hello``; empty where that is nothing."""
    said = text_of_content(message.get("content"))
    calls = message.get("tool_calls")
    called = [_call(call) for call in calls if is_mapping(call)] if isinstance(calls, list) else []
    what = "; ".join(part for part in (said, *called) if part)
    return f"{_speaker(message)}: {what}" if what else ""


def shortened(text: str, longest: int) -> str:
    """*text*, or its beginning and its end where it has more than *longest* characters, with a note of what is gone."""
    if len(text) <= longest:
        return text
    note = _LEFT_OUT.format(len(text) - longest)
    kept = max(longest - len(note), 0)
    return text[: kept - kept // 2] + note + text[len(text) - kept // 2 :]


def text_of_content(content: Any) -> str:
    """What *content* says: text as it is, the texts of a list of parts, and of other parts what they are."""
    match content:
        case None:
            return ""
        case str():
            return content.strip()
        case list() | tuple():
            return " ".join(text for part in content if (text := text_of_content(part)))
        case Mapping():
            return _text_of_part(content)
        case bytes():
            return "[bytes]"
    return str(content)


def _text_of_part(part: Mapping[str, Any]) -> str:
    if part.get("parts"):
        return text_of_content(part["parts"])
    if (said := next((part[name] for name in _TEXTS if isinstance(part.get(name), str)), None)) is not None:
        return str(said).strip()
    kind = part.get("type")
    return f"[{kind}]" if isinstance(kind, str) else _as_json(part)


def _speaker(message: Document) -> str:
    role, name = message.get("role"), message.get("name") or message.get("tool_name") or message.get("author")
    named = isinstance(name, str) and name != role
    return f"{role or 'unknown'} ({name})" if named else str(role or "unknown")


def _call(call: Mapping[str, Any]) -> str:
    inner = call.get("function")
    what = inner if is_mapping(inner) else call
    arguments = next((what[name] for name in ("arguments", "args", "input") if what.get(name) is not None), "")
    return f"calls {what.get('name') or 'a tool'}({arguments if isinstance(arguments, str) else _as_json(arguments)})"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
