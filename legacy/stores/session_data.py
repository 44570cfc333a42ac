"""Older session documents as ``SessionData`` documents and back; the canonical form as one.

Nothing is lost on the way: what ``SessionData`` has no place for is carried along, and :func:`as_it_was` gives the
document that :func:`as_session_data` was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from session_adapter.entries import events_of
from session_adapter.formats import BARE, CANONICAL, G0, G1, G2, G3, SessionBundle, detect
from unified_storage.errors import StorageValidationError

Document = dict[str, Any]

CONVERTED_FROM = "converted_from"
"""Key of a converted document: ``{"format", "keys", "kept"}``, what the way back needs."""

_BLOCKS: Document = {"metadata": {}, "thread_configs": {}, "workflow_state": {}, "settings": {}}
_IN_CONTEXT = ("session_id", "user_id", "status", "created_at", "updated_at")
_INTERACTION = "interaction"


def as_session_data(document: Mapping[str, Any], *, id: str) -> Document:
    """*document*, of a session named *id*, as a ``SessionData`` document; one that is one already stays as it is.

    For documents of the older shapes; for a canonical one, whose history is elsewhere, see
    :func:`canonical_as_session_data`.
    """
    format = detect(document)
    if format is G0 or format is CANONICAL:
        return dict(document)
    parts = _from_service(document) if format is G3 else _from_manager(document)
    parts["metadata"] = {"session_id": id, **parts["metadata"]}
    if parts["metadata"]["session_id"] in (None, ""):
        parts["metadata"]["session_id"] = id
    stays = {key for key in document if key in parts and parts[key] is document[key] and key != CONVERTED_FROM}
    apart = stays | _MOVED_WHOLE[format.name]
    kept = {key: value for key, value in document.items() if key not in apart}
    return {**_BLOCKS, **parts, CONVERTED_FROM: {"format": format.name, "keys": [*document], "kept": kept}}


def as_it_was(document: Mapping[str, Any]) -> Document:
    """The older document that :func:`as_session_data` made *document* from, its state and messages as they are now.

    Raises:
        StorageValidationError: it was not converted.
    """
    trace = document.get(CONVERTED_FROM)
    if not isinstance(trace, Mapping):
        raise StorageValidationError("this document was not converted", details={"path": CONVERTED_FROM})
    moved, kept = _MOVED_WHOLE[trace["format"]], trace["kept"]
    return {
        key: _moved_back(key, document) if key in moved else kept[key] if key in kept else document[key]
        for key in trace["keys"]
    }


def _moved_back(key: str, document: Mapping[str, Any]) -> Any:
    return document["workflow_state"] if key == "state" else _interactions(document)


_MOVED_WHOLE: dict[str, frozenset[str]] = {
    G1.name: frozenset({"state"}),
    G2.name: frozenset({"state"}),
    G3.name: frozenset({"interactions"}),
    BARE.name: frozenset(),
}
"""Keys whose value has a new place, from where it comes back, by format."""


def _from_manager(document: Mapping[str, Any]) -> Document:
    """The parts of a G1, G2 or bare document: ``state`` becomes ``workflow_state``, all else stays."""
    format = detect(document)
    parts = {key: value for key, value in document.items() if key not in _MOVED_WHOLE[format.name]}
    if "state" in document and format is not BARE:
        parts["workflow_state"] = document["state"]
    metadata = document.get("metadata")
    parts["metadata"] = metadata if isinstance(metadata, dict) else {}
    return parts


def _from_service(document: Mapping[str, Any]) -> Document:
    """The parts of a G3 document: ``context`` becomes ``metadata``, interactions become messages."""
    context = document["context"]
    inner = context.get("metadata")
    parts = {key: value for key, value in document.items() if key not in ("context", "interactions")}
    named = {name: context[name] for name in _IN_CONTEXT if name in context}
    parts["metadata"] = {**(inner if isinstance(inner, dict) else {}), **named}
    parts["workflow_state"] = {"messages": [_message(interaction) for interaction in document["interactions"]]}
    return parts


def _message(interaction: Any) -> Any:
    event = G3.to_event(interaction)
    if event is None:
        return interaction
    message = G0.from_event(event)
    rest = {key: value for key, value in interaction.items() if key != "content"}
    return {**message, _INTERACTION: {"keys": [*interaction], "fields": rest}}


def _interactions(document: Mapping[str, Any]) -> list[Any]:
    return [_interaction(message) for message in document["workflow_state"]["messages"]]


def _interaction(message: Any) -> Any:
    trace = message.get(_INTERACTION) if isinstance(message, Mapping) else None
    if not isinstance(trace, Mapping):
        return G3.from_event(event) if (event := G0.to_event(message)) is not None else message
    return {key: message["content"] if key == "content" else trace["fields"][key] for key in trace["keys"]}


def canonical_as_session_data(
    document: Mapping[str, Any],
    bodies: list[Any],
    *,
    id: str,
    created_at: datetime,
    updated_at: datetime,
) -> Document:
    """A canonical or bare document of our store, with the bodies of its history, as a ``SessionData`` document.

    Args:
        id: the session's visible id.
        created_at, updated_at: of the record, since a canonical document keeps no times of its own.
    """
    bundle = CANONICAL.read(document, id=id)
    times = {"created_at": created_at, "updated_at": updated_at}
    shown = {**bundle.session, **times}
    rest = {key: value for key, value in document.items() if key != "session_id" and key not in shown}
    raw = {**_BLOCKS, **rest}
    return G0.write(SessionBundle(shown, [element for body in bodies for element in _elements(body)], raw))


def _elements(body: Any) -> list[Any]:
    if isinstance(body, Mapping) and body.get("format") in (G0.name, G1.name, G2.name):
        return [body["value"]]
    return [G0.from_event(event) for event in events_of(body)] or [body]
