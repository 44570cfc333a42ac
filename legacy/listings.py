"""The listing of the old interface: a few facts of each session, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from session_adapter.formats import detect
from session_adapter.formats.places import first_given, value_at
from session_adapter.service import ISessionService, SessionService
from session_adapter.sessions import SessionStorageAdapter
from session_adapter.timestamps import read_time, render

KEYS = ("session_id", "workflow_config_path", "created_at", "updated_at", "status")
_PLAIN = {"scope": {"$exists": False}}
"""The sessions that an id alone names: no other can be asked for through the old interface."""
_AT_A_TIME = 500
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@runtime_checkable
class Listing(Protocol):
    """A service that lists as the old interface does."""

    async def session_summaries(self) -> list[dict[str, Any]]:
        """The summaries, newest first."""


def summary(
    session_id: Any, *, workflow_config_path: Any, created_at: Any, updated_at: Any, status: Any
) -> dict[str, Any]:
    """The facts as the old listing names them; a status that is missing or null is ``unknown``."""
    shown = "unknown" if status is None else status
    return dict(zip(KEYS, (session_id, workflow_config_path, created_at, updated_at, shown), strict=True))


def summary_of(session_id: str | None, document: dict[str, Any]) -> dict[str, Any]:
    """The summary of a document, each fact as it stands there; *session_id* None takes the document's own."""
    format = detect(document)
    path = value_at(document, ("metadata", "workflow_config_path"))
    return summary(
        format.document_id(document) if session_id is None else session_id,
        workflow_config_path=path if isinstance(path, str) else None,
        created_at=format.created_at(document),
        updated_at=format.updated_at(document),
        status=first_given(document, format.places("status")),
    )


def newest_first(summaries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By ``updated_at`` descending, whatever its spelling and unknown ones last; then by id."""
    by_id = sorted(summaries, key=lambda facts: str(facts["session_id"]))
    return sorted(by_id, key=lambda facts: read_time(facts["updated_at"]).moment or _LONG_AGO, reverse=True)


async def summaries(service: ISessionService) -> list[dict[str, Any]]:
    """The summaries of all sessions, newest first.

    Ours are read without documents and histories, and a service that lists by itself is asked; of any other its
    documents tell, each with the id in it.
    """
    if isinstance(service, Listing):
        return await service.session_summaries()
    if not isinstance(service, SessionService):
        return newest_first([summary_of(None, document) for document in await service.list_sessions()])
    sessions = service if isinstance(service, SessionStorageAdapter) else SessionStorageAdapter(service.storage)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        # by id, since a session that changes meanwhile would move in any order of times
        page = await sessions.page_sessions(_PLAIN, limit=_AT_A_TIME, order_by="id", cursor=cursor)
        found.extend(map(_told_by_record, page.items))
        cursor = page.next_cursor
        if cursor is None:
            return newest_first(found)


async def documents(service: ISessionService) -> list[dict[str, Any]]:
    """All sessions whole, newest first."""
    return await service.list_sessions(_PLAIN if isinstance(service, SessionService) else None)


def _told_by_record(item: dict[str, Any]) -> dict[str, Any]:
    path = item["metadata"].get("workflow_config_path")
    return summary(
        item["session_id"],
        workflow_config_path=path if isinstance(path, str) else None,
        created_at=render(item["created_at"]),
        updated_at=render(item["updated_at"]),
        status=item["metadata"].get("status"),
    )
