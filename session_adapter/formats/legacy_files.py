"""The four generations of per-session files that the old session stores wrote.

G0 is the design's `SessionData`; G1 and G2 are the two session managers before it, G3 the session service, whose
history is a list of interactions. The others keep theirs as a list of typed messages inside the workflow's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.formats.format import Event, Format
from session_adapter.formats.places import Document, is_mapping, text_of, value_at

UNKNOWN_ROLE = "unknown"
MESSAGE_ROLES = {"HumanMessage": "user", "AIMessage": "assistant", "ToolMessage": "tool", "SystemMessage": "system"}
INTERACTION_ROLES = {"user_request": "user", "assistant_response": "assistant", "tool_result": "tool"}
_MESSAGE_TYPES = {role: name for name, role in MESSAGE_ROLES.items()}
_INTERACTION_TYPES = {role: name for name, role in INTERACTION_ROLES.items()}
_NOT_CARRIED = {"role", "content", "seq", "index"}  # seq and index are places in a log, not part of an event


def message_to_event(message: Any) -> Event | None:
    """A typed message as an event; it has no time of its own, and none is invented."""
    if not is_mapping(message):
        return None
    role = _looked_up(MESSAGE_ROLES, message.get("type")) or UNKNOWN_ROLE
    return {"role": role, "content": message.get("content"), **_call_fields(message.get("additional_kwargs"))}


def message_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a typed message; what a message has no key for is carried in ``additional_kwargs``."""
    carried = _carried(event)
    role = event.get("role")
    kind = _looked_up(_MESSAGE_TYPES, role) or "BaseMessage"
    if kind == "BaseMessage" and role not in (None, UNKNOWN_ROLE):
        carried["role"] = role
    return {"type": kind, "content": event.get("content"), "additional_kwargs": carried}


def interaction_to_event(interaction: Any) -> Event | None:
    """An interaction as an event with its id and time, both as found."""
    if not is_mapping(interaction):
        return None
    told = value_at(interaction, ("metadata", "role"))
    typed = _looked_up(INTERACTION_ROLES, interaction.get("interaction_type")) or UNKNOWN_ROLE
    role = told if isinstance(told, str) and told else typed
    event: Event = {"role": role, "content": interaction.get("content")}
    event |= _call_fields(interaction.get("metadata"))
    if event_id := text_of(interaction.get("interaction_id")):
        event["id"] = event_id
    if interaction.get("timestamp") is not None:
        event["timestamp"] = interaction["timestamp"]
    return event


def interaction_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as an interaction; what an interaction has no key for is carried in its ``metadata``."""
    carried = {key: value for key, value in _carried(event).items() if key not in ("id", "timestamp")}
    role = event.get("role")
    if role is not None:
        carried["role"] = role
    return {
        "interaction_id": event.get("id"),
        "session_id": None,
        "thread_id": None,
        "interaction_type": _looked_up(_INTERACTION_TYPES, role) or text_of(role) or UNKNOWN_ROLE,
        "content": event.get("content"),
        "metadata": carried,
        "timestamp": event.get("timestamp"),
    }


def _looked_up(names: Mapping[str, str], key: object) -> str | None:
    return names.get(key) if isinstance(key, str) else None


def _call_fields(holder: object) -> Event:
    # Calls stay in the form they were written in; what is no list of objects cannot be shown as calls.
    if not is_mapping(holder) or not holder:
        return {}
    fields: Event = {}
    calls = holder.get("tool_calls")
    if isinstance(calls, list) and all(isinstance(call, Mapping) for call in calls):
        fields["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if (text := text_of(holder.get(name))) is not None:
            fields[name] = text
    return fields


def _carried(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in _NOT_CARRIED and value is not None}


def _has_context_and_interactions(document: Document) -> bool:
    is_service = isinstance(document.get("context"), Mapping) and isinstance(document.get("interactions"), list)
    return is_service and "workflow_state" not in document


def _is_session_data(document: Document) -> bool:
    if "workflow_state" in document or {"thread_configs", "settings"} <= document.keys():
        return True
    has_id = "session_id" in _metadata(document)
    return has_id and not _has_workflow_summary(document) and not _has_state_or_config(document)


def _has_workflow_summary(document: Document) -> bool:
    return "workflow_summary" in _metadata(document)


def _has_state_or_config(document: Document) -> bool:
    return "metadata" in document and ("state" in document or "workflow_config" in document)


def _metadata(document: Document) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


_WORKFLOW_ID = (("metadata", "workflow_id"), ("metadata", "workflow_summary", "workflow_id"), ("workflow_id",))

G0 = Format(
    "legacy-g0",
    message_to_event,
    message_from_event,
    history_path=("workflow_state", "messages"),
    own_places={
        "state": (("workflow_state",),),
        "user_id": (("metadata", "user_id"), ("user_id",)),
        "workflow_id": _WORKFLOW_ID,
    },
    recognises=_is_session_data,
)
G1 = Format(
    "legacy-g1",
    message_to_event,
    message_from_event,
    history_path=("state", "messages"),
    own_places={"workflow_id": _WORKFLOW_ID},
    recognises=_has_state_or_config,
)
G2 = Format(
    "legacy-g2",
    message_to_event,
    message_from_event,
    history_path=("state", "messages"),
    own_places={"workflow_id": _WORKFLOW_ID},
    recognises=_has_workflow_summary,
)
G3 = Format(
    "legacy-g3",
    interaction_to_event,
    interaction_from_event,
    history_path=("interactions",),
    own_places={
        "metadata": (("context", "metadata"),),
        "id": (("context", "session_id"),),
        "user_id": (("context", "user_id"), ("user_id",), ("metadata", "user_id")),
        "status": (("context", "status"), ("metadata", "status")),
        "created_at": (("context", "created_at"), ("created_at",)),
        "updated_at": (("context", "updated_at"), ("updated_at",)),
    },
    recognises=_has_context_and_interactions,
)
