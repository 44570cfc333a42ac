"""Runs as agno 2.x and 3.x keep them: of an agent, a team or a workflow, told apart by whose id they have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from session_adapter.formats.agno_messages import message_of, metrics_of, seconds, total_of
from session_adapter.formats.format import Event
from session_adapter.formats.places import is_mapping, text_of
from session_adapter.formats.runs import Run, RunForm, Turn, shown_messages

AGENT, TEAM, WORKFLOW = "agent", "team", "workflow"
KINDS = (AGENT, TEAM, WORKFLOW)
_NAMES = UUID("6f1cb7a4-54c1-5be2-9d0b-0b9f3a0f4a4e")
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_STATUSES = frozenset({"PENDING", "RUNNING", "COMPLETED", "PAUSED", "CANCELLED", "ERROR", "REGENERATED"})
_KEPT: Mapping[str, type] = {
    "agent_name": str,
    "team_name": str,
    "workflow_name": str,
    "parent_run_id": str,
    "model": str,
    "model_provider": str,
    "content_type": str,
    "reasoning_content": str,
    "session_state": dict,
    "metadata": dict,
}
"""Fields of another writer's run that mean the same in agno's, where they have the type that it wants."""


def kind_of(session: Mapping[str, Any]) -> str:
    """``agent``, ``team`` or ``workflow``: what the fields of a session say, or whose id it has."""
    if session.get("kind") in KINDS:
        return str(session["kind"])
    return next((kind for kind in (AGENT, TEAM, WORKFLOW) if session.get(f"{kind}_id")), AGENT)


def built(turn: Turn) -> dict[str, Any]:
    """A new run; agno's own reader shows its messages."""
    if turn.run is not None and _is_agnos(turn.run):
        return _with_messages(turn.run, [message_of(event) for event in turn.events])
    kind = kind_of(turn.session)
    run_id = turn.run_id or named_after(turn)
    messages = [message_of(event) for event in turn.events]
    owner = {
        "run_id": run_id,
        f"{kind}_id": text_of(turn.session.get(f"{kind}_id")),
        "session_id": turn.session["id"],
        "user_id": text_of(turn.session.get("user_id")),
    }
    run = owner | _said(turn, messages)
    if kind != WORKFLOW:
        return {name: value for name, value in run.items() if value is not None or name == f"{kind}_id"}
    return _of_workflow(run, messages)


def built_apart(turn: Turn) -> dict[str, Any]:
    """A new run for 3.x, where a run's id names one row among those of all sessions.

    One that may be another session's too, such as ``run-1``, gets its session's id in front.
    """
    id = turn.run_id
    if id is None or turn.session["id"] in id or _UUID.search(id):
        return built(turn)
    return built(replace(turn, run_id=f"{turn.session['id']}/{id}"))


def _said(turn: Turn, messages: list[dict[str, Any]]) -> dict[str, Any]:
    given = turn.run or {}
    asked = next((message.get("content") for message in messages if message.get("role") == "user"), None)
    answers = (message.get("content") for message in reversed(messages) if message.get("role") == "assistant")
    answer = next((content for content in answers if content), None)
    begun = given.get("created_at") or given.get("started_at")
    return {
        "content": given.get("content") or answer,
        "content_type": "str",
        **{name: given[name] for name, kind in _KEPT.items() if isinstance(given.get(name), kind)},
        "created_at": seconds(begun) or next((message.get("created_at") for message in messages), None),
        "status": _status(given.get("status")),
        "metrics": metrics_of(given.get("metrics") or given.get("usage")) or total_of(messages) or None,
        "messages": messages,
        "input": None if asked is None else {"input_content": asked},
    }


def _of_workflow(run: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of a workflow that kept *messages* in one step."""
    asked = run.pop("input")
    metrics = run.pop("metrics")
    step = {
        "run_id": str(uuid5(_NAMES, f"{run['run_id']}/step")),
        "agent_id": None,
        "session_id": run["session_id"],
        "parent_run_id": run["run_id"],
        "content": run["content"],
        "created_at": run["created_at"],
        "status": run["status"],
        "metrics": metrics,
        "messages": messages,
    }
    kept = {name: value for name, value in run.items() if value is not None and name != "messages"}
    held = {name: value for name, value in step.items() if value is not None or name == "agent_id"}
    told = {} if asked is None else {"input": asked["input_content"]}
    return {**told, "workflow_id": None, **kept, "step_results": [], "step_executor_runs": [held]}


def _status(told: Any) -> str:
    word = told.upper() if isinstance(told, str) else ""
    return word if word in _STATUSES else "COMPLETED"


def named_after(turn: Turn) -> str:
    """A name for a run that has none: the same for the same turn of the same session, and no other's."""
    said = json.dumps([turn.session["id"], turn.position, list(turn.events)], sort_keys=True, default=str)
    return str(uuid5(_NAMES, said))


def _is_agnos(run: Run) -> bool:
    return "content_type" in run and "session_id" in run and any(f"{kind}_id" in run for kind in KINDS)


def _with_messages(run: Run, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """agno's own run as it came back through other hands, each message that it shows by the new one of its place."""
    copied = deepcopy(dict(run))
    places = [*shown_messages(copied)]
    for (held, at), message in zip(places, messages, strict=False):
        held[at] = message
    behind = messages[len(places) :]
    return longer_by(copied, behind) if behind else copied


def longer(run: Run, events: Sequence[Event]) -> dict[str, Any]:
    """*run* with *events* behind its messages."""
    return longer_by(deepcopy(dict(run)), [message_of(event) for event in events])


def longer_by(run: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    """*run* itself, with *messages* where its last message stands."""
    places = [*shown_messages(run)]
    if places:
        places[-1][0].extend(messages)
        return run
    steps = run.get("step_executor_runs")
    holder = run
    if isinstance(steps, list):
        steps.append({"agent_id": None, "parent_run_id": run.get("run_id"), "messages": []})
        holder = steps[-1]
    held = holder.get("messages")
    holder["messages"] = [*(held if isinstance(held, list) else []), *messages]
    return run


def type_of(run: Mapping[str, Any], session: Mapping[str, Any]) -> str:
    """What agno calls the type of a run, by the names in it; that of its *session* (a row) where it has none."""
    for kind in (AGENT, TEAM):
        if run.get(f"{kind}_id") or run.get(f"{kind}_name"):
            return kind
    told = session.get("session_type")
    return told if told in KINDS else WORKFLOW


def without_text(run: Any) -> bool:
    """Whether *run* is a row whose data do not parse, kept as its text."""
    return is_mapping(run) and run.keys() == {"run_id", "run_data"} and isinstance(run["run_data"], str)


RUNS_OF_3 = RunForm(built=built_apart, longer=longer)
RUNS_OF_2 = RunForm(built=built, longer=longer)
