"""The metadata of a session's record: derived from its document in the same write, with our own fields beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.formats import Format
from session_adapter.formats.places import Document, object_of
from session_adapter.identity import SessionId, SessionKey, record_id, scope_of, session_id_of

OWN = "~"
"""The key of our own fields in a record's metadata."""


def derived_metadata(document: Document, session: SessionId, format: Format, own: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of the record that holds *document*.

    Args:
        session: what names it; the parts of a scoped session's key win over the document's.
        own: the fields under ``~``.
    """
    users = object_of(document.get("metadata")) or {}
    metadata = {_stored_name(key): value for key, value in users.items() if key != "scope"}
    metadata |= format.derived(document)
    if isinstance(session, SessionKey):
        metadata |= {"app_name": session.app_name, "user_id": session.user_id, "scope": scope_of(record_id(session))}
    return metadata | {"session_id": session_id_of(session), OWN: dict(own)}


def users_metadata(record: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of *record* without our own fields."""
    metadata = object_of(record.get("metadata")) or {}
    if "".join(metadata).count(OWN) <= (OWN in metadata):  # no other name has one, as nearly always
        users = metadata.copy()
        users.pop(OWN, None)
        return users
    return {_users_name(key) if key[:1] == OWN else key: value for key, value in metadata.items() if key != OWN}


def own_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Our own fields in the metadata of *record*; empty where no session view saved it."""
    return object_of((object_of(record.get("metadata")) or {}).get(OWN)) or {}


def _stored_name(key: str) -> str:
    return f"~{key}" if isinstance(key, str) and _is_tildes(key) else key


def _users_name(key: str) -> str:
    return key[1:] if _is_tildes(key) else key


def _is_tildes(key: str) -> bool:
    return key.startswith("~") and not key.strip("~")
