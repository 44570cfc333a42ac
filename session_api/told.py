"""What a history tells: the chat in it, and what a run was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from session_adapter.entries import events_of, run_in
from session_adapter.naming import asked, messages_in
from session_adapter.timestamps import read_time
from session_api.tables import Run

_NOT_IN_CHATS = frozenset({"system", "tool"})
_MESSAGE = {"from_history": False, "stop_after_tool_call": False}


def chat_of(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages of user and assistant in the log *entries*, whole runs or single messages, oldest first."""
    chat: list[dict[str, Any]] = []
    for entry in entries:
        run = run_in(entry["body"])
        chat += chat_of_run(run) if run is not None else _spoken(map(_as_message, events_of(entry["body"])))
    return chat


def chat_of_run(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of user and assistant in a run; none in one that is part of another."""
    if run.get("parent_run_id") is not None:
        return []
    return _spoken({**_MESSAGE, **_without_none(message)} for message in messages_in(run))


def _spoken(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        message for message in messages if message.get("role") not in _NOT_IN_CHATS and not message.get("from_history")
    ]


def _as_message(event: Mapping[str, Any]) -> dict[str, Any]:
    message = {**_MESSAGE, **_without_none({name: value for name, value in event.items() if name != "timestamp"})}
    moment = read_time(event.get("timestamp")).moment
    return message if moment is None else message | {"created_at": int(moment.timestamp())}


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# what a run was asked


def run_input(run: Run, *, is_workflow: bool = False) -> str:
    """What *run* was asked, as text; objects as indented JSON."""
    given = run.get("input")
    if is_workflow and given is not None:
        return asked(given)
    if not is_workflow and isinstance(given, Mapping) and given.get("input_content") is not None:
        return asked(given["input_content"])
    if not is_workflow and isinstance(given, str):
        return given
    if is_workflow and (step := _last_question(_first_step(run))) is not None:
        return step
    return _last_question(run) or ""


def _first_step(run: Run) -> Mapping[str, Any]:
    steps = run.get("step_executor_runs")
    return steps[0] if isinstance(steps, list) and steps and isinstance(steps[0], Mapping) else {}


def _last_question(run: Mapping[str, Any]) -> str | None:
    for message in reversed(messages_in(run)):
        if message.get("role") == "user":
            content = message.get("content", "")
            return content if isinstance(content, str) else asked(content)
    return None
