"""``SessionStorageAdapter``: sessions as dicts, with batches, pages, events and runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from session_adapter.documents import rendered_times
from session_adapter.errors import storage_failures
from session_adapter.events import Events
from session_adapter.filters import session_filters, session_order
from session_adapter.identity import SESSION, SessionId, no_session, record_id, session_id_of, visible_id
from session_adapter.metadata import users_metadata
from session_adapter.reading import ATTEMPTS, session_records
from session_adapter.runs import Runs
from session_adapter.service import Session, SessionService
from session_adapter.timestamps import Zone
from session_adapter.writing import Saving, save_sessions
from unified_storage.errors import StorageCapacityError, StorageValidationError
from unified_storage.interface import IUnifiedStorage, Page, Record


@dataclass(frozen=True, slots=True)
class BatchDeleteResult:
    """Which of the sessions named were deleted and which were not there, each in the order given."""

    deleted: list[SessionId]
    missing: list[SessionId]


class SessionStorageAdapter(SessionService):
    """Everything there is to do with sessions as dicts, on a storage or inside one transaction of it.

    Attributes:
        events: their histories, event by event.
        runs: their histories, run by run.
    """

    def __init__(self, storage: IUnifiedStorage, *, source_timezone: Zone = None) -> None:
        super().__init__(storage, source_timezone=source_timezone)
        self.events = Events(storage, self._zone)
        self.runs = Runs(storage)

    async def require_session(self, session_id: SessionId) -> Session:
        """The session, or ``SessionNotFoundError``."""
        session = await self.get_session(session_id)
        if session is None:
            raise no_session(session_id)
        return session

    async def batch_save_sessions(self, sessions: Mapping[SessionId, Mapping[str, Any]]) -> None:
        """Save all of them in one step, or none.

        Raises:
            StorageValidationError: one cannot be kept; ``details`` and message name its id, and its index in *sessions*
                from 0.
        """
        if not isinstance(sessions, Mapping):
            message = f"sessions are a mapping of id to session, not {type(sessions).__name__}"
            raise StorageValidationError(message, details={"path": "sessions"})
        named = list(sessions)
        savings = [_saving(index, session, sessions[session]) for index, session in enumerate(named)]
        with storage_failures("save sessions"):
            try:
                await self._storage.atomically(lambda tx: save_sessions(tx, savings, self._zone), attempts=ATTEMPTS)
            except (StorageValidationError, StorageCapacityError) as error:
                index = error.details.get("index")
                if index is None or "session_id" in error.details:
                    raise
                raise _of_item(error, index, named[index]) from error

    async def batch_delete_sessions(
        self, session_ids: Iterable[SessionId], *, missing: Literal["ignore", "error"] = "ignore"
    ) -> BatchDeleteResult:
        """Delete those that are there, with their histories, in one step.

        Args:
            missing: ``error`` deletes nothing when one of them is not there.
        Raises:
            SessionNotFoundError: with ``missing="error"``, the first that is not there.
        """
        if missing not in ("ignore", "error"):
            raise StorageValidationError("missing is ignore or error", details={"path": "missing"})
        if isinstance(session_ids, str | bytes):
            raise StorageValidationError("session ids are a list", details={"path": "session_ids"})
        wanted = {record_id(session): session for session in session_ids}

        async def deleted(tx: IUnifiedStorage) -> BatchDeleteResult:
            heads = await session_records(tx, [*wanted], with_data=False)
            there = {head["id"] for head in heads}
            absent = [session for stored_id, session in wanted.items() if stored_id not in there]
            if absent and missing == "error":
                raise no_session(absent[0])
            await tx.batch_delete([id for id in wanted if id in there], type=SESSION, cascade=True)
            return BatchDeleteResult([session for id, session in wanted.items() if id in there], absent)

        with storage_failures("delete sessions"):
            return await self._storage.atomically(deleted, attempts=ATTEMPTS)

    async def page_sessions(
        self,
        filters: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        order_by: str = "-updated_at",
        cursor: str | None = None,
        skip: int = 0,
    ) -> Page:
        """One page of summaries, which are read without documents and histories, so none can be saved by mistake.

        Each is ``key`` (what names the session), ``session_id``, ``metadata``, ``created_at`` and ``updated_at``
        (aware).

        Args:
            filters: as for ``list_sessions``.
            order_by: ``id``, ``created_at``, ``updated_at``, or a metadata field that is indexed, such as ``status``;
                ``-`` before it for descending.
            cursor: ``next_cursor`` of the page before, with the same filters and order.
            skip: sessions to leave out before the page; its cost grows.
        """
        condition, order = session_filters(filters), session_order(order_by)
        with storage_failures("list sessions"):
            page = await self._storage.page(
                condition, limit=limit, order_by=order, cursor=cursor, skip=skip, with_data=False
            )
        return Page([_summary(record) for record in page.items], page.next_cursor)

    async def session_keys(self, session_id: str, user_id: str | None = None) -> list[SessionId]:
        """What names the sessions whose visible id is *session_id*: the plain one first, then scoped ones.

        Args:
            user_id: only those of this user.
        """
        record_id(session_id)
        wanted = {"type": SESSION, "metadata.session_id": session_id}
        if user_id is not None:
            wanted["metadata.user_id"] = user_id
        with storage_failures("look for sessions"):
            records = await self._storage.list(wanted, with_data=False)
        keys = [visible_id(record) for record in records]
        return sorted(keys, key=lambda key: not isinstance(key, str))


def _summary(record: Record) -> dict[str, Any]:
    key, metadata = visible_id(record), users_metadata(record)
    metadata.update(rendered_times(record))
    return {
        "key": key,
        "session_id": session_id_of(key),
        "metadata": metadata,
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
    }


def _saving(index: int, session: SessionId, document: Mapping[str, Any]) -> Saving:
    try:
        return Saving.of(session, document)
    except (StorageValidationError, StorageCapacityError) as error:
        raise _of_item(error, index, session) from error


def _of_item(
    error: StorageValidationError | StorageCapacityError, index: int, session: SessionId
) -> StorageValidationError | StorageCapacityError:
    shown = session_id_of(session) if isinstance(session, SessionId) else repr(session)
    details = error.details | {"session_id": shown, "index": index}
    return type(error)(f"session {shown!r} (number {index}): {error.message}", details=details)
