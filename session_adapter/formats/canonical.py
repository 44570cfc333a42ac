"""Our own form, and documents that have no form at all: neither keeps a message list, and events are as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.formats.format import Event, Format
from session_adapter.formats.places import Document, is_mapping


def _to_event(entry: Any) -> Event | None:
    return dict(entry) if is_mapping(entry) else None


def _from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    return dict(event)


def _has_session_id(document: Document) -> bool:
    return "session_id" in document


def _anything(_: Document) -> bool:
    return True


CANONICAL = Format(
    "canonical", _to_event, _from_event, own_places={"id": (("session_id",),)}, recognises=_has_session_id
)
BARE = Format("bare", _to_event, _from_event, recognises=_anything)
