"""Sessions of ours as rows of the service, and new ones as our records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from session_adapter.documents import Split, format_of, record_of, stored_document
from session_adapter.formats import CANONICAL, Format, SessionBundle
from session_adapter.formats.format import NAMES
from session_adapter.formats.places import Document, object_of
from session_adapter.identity import is_session_id, session_id_of, visible_id
from session_adapter.metadata import own_fields
from session_adapter.naming import SHOWN_NAME, kind_by, named_record
from session_api.tables import COMPONENTS, UNCHANGED, Changes, NewSession, SessionRow, SessionType
from unified_storage.errors import StorageIntegrityError
from unified_storage.interface import Record

_UNNAMEABLE = "id-sha256-"
_TIMED = {"content": "summary", "created_at": "updated_at"}


# ids


def stored_name(session_id: str) -> str:
    """What names the session in our storage: its id, or a digest of one that is too long or has control characters.

    The document keeps the id itself.
    """
    if is_session_id(session_id):
        return session_id
    return _UNNAMEABLE + hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()


def shown_id(record: Record) -> str:
    """The id that people see."""
    try:
        named = session_id_of(visible_id(record))
    except StorageIntegrityError:
        return str(record["id"])  # one damaged record does not hide the others of a page
    told = record["data"].get("session_id") if named.startswith(_UNNAMEABLE) else None
    return told if isinstance(told, str) and stored_name(told) == named else named


# records as rows


def row_of(record: Record) -> SessionRow:
    """The session in *record*, whatever the format of its document."""
    document, format, derived = stored_document(record), format_of(record), object_of(record["metadata"]) or {}
    shown = document if format is CANONICAL else format.shown(document)
    return SessionRow(
        session_id=shown_id(record),
        session_type=type_of(derived),
        created_at=record["created_at"],
        updated_at=record["updated_at"],
        session_data=_session_data(document, shown),
        metadata=object_of(shown.get("metadata")),
        summary=shown_summary(shown.get("summary")),
        user_id=derived.get("user_id"),
        agent_id=derived.get("agent_id"),
        team_id=derived.get("team_id"),
        workflow_id=derived.get("workflow_id"),
        agent_data=object_of(document.get("agent_data")),
        team_data=object_of(document.get("team_data")),
        workflow_data=object_of(document.get("workflow_data")),
        shown_name=own_fields(record).get(SHOWN_NAME),
    )


def type_of(derived: Mapping[str, Any]) -> SessionType:
    """The type of a session by the metadata of its record: told, else by whom it is with."""
    return SessionType(kind_by(derived))


def _session_data(document: Document, shown: Mapping[str, Any]) -> dict[str, Any] | None:
    data = dict(object_of(document.get("session_data")) or {})
    if "state" in shown:
        data["session_state"] = shown["state"]
    if isinstance(shown.get("name"), str):
        data["session_name"] = shown["name"]
    if "session_metrics" not in data and (metrics := object_of(document.get("metrics"))) is not None:
        data["session_metrics"] = metrics
    return data or None


def shown_summary(found: Any) -> dict[str, Any] | None:
    """A session's summary as AgentOS has them: ``summary``, ``topics``, ``updated_at``."""
    if not isinstance(found, dict) or not found:
        return None
    if "content" not in found:
        return found
    named = {_TIMED.get(name, name): value for name, value in found.items()}
    return {name: named[name] for name in ("summary", "topics", "updated_at") if named.get(name) is not None}


# new records


def new_document(new: NewSession) -> dict[str, Any]:
    """The document of a new session, in the canonical form. Participants stand in it even where there are none, so
    that the metadata of the same names, which are anybody's, never stand for them.
    """
    document: dict[str, Any] = {"session_id": new.session_id, "kind": str(new.session_type), "app_name": None}
    document |= {"user_id": new.user_id, **dict.fromkeys(COMPONENTS.values()), "name": new.name}
    document[COMPONENTS[new.session_type]] = new.component_id
    document["metadata"] = {} if new.metadata is None and new.session_type is SessionType.WORKFLOW else new.metadata
    for name, value in (("state", new.state), ("summary", new.summary)):
        if value is not None:
            document[name] = value
    return document


def new_record(document: dict[str, Any], runs: Sequence[Mapping[str, Any]] = ()) -> Record:
    """The record of a new session, for ``save``."""
    return named_record(record_of(stored_name(document["session_id"]), Split(CANONICAL, document, None), {}), runs)


# changes


def changed_document(record: Record, changes: Changes) -> dict[str, Any]:
    """The document of *record* with *changes*, each at the place where its format keeps it."""
    document, format = stored_document(record), format_of(record)
    if changes.as_type is SessionType.WORKFLOW and document.get("metadata", UNCHANGED) is None:
        document["metadata"] = {}
    fields = {
        name: value
        for name in ("name", "state", "metadata", "summary")
        if (value := getattr(changes, name)) is not UNCHANGED
    }
    if format is CANONICAL:
        return document | fields
    return _written(format, document, fields)


def _written(format: Format, document: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    had = format.shown(document)
    changed = format.write(SessionBundle(fields, format.history(document) or [], document, had))
    has = format.shown(changed)
    # The id and participants that stood inside what was replaced, which nobody meant to take out.
    lost = {name: had[name] for name in ("id", *NAMES) if name in had and name not in has and name not in fields}
    return format.write(SessionBundle(lost, format.history(changed) or [], changed, has)) if lost else changed
