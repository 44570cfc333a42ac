"""``ISessionService`` and its thin implementation on a storage: whole sessions as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, overload, runtime_checkable

from session_adapter.documents import rendered
from session_adapter.errors import storage_failures
from session_adapter.filters import session_filters
from session_adapter.identity import SESSION, SessionId, no_session, record_id
from session_adapter.reading import ATTEMPTS, matching, session_record, whole
from session_adapter.timestamps import Zone, zone_named
from session_adapter.writing import Saving, create_session, save_session, update_session
from unified_storage.arguments import check_count, check_expected, check_version
from unified_storage.filters import matches, parse_filters
from unified_storage.handed_in import kept
from unified_storage.interface import IUnifiedStorage, Record, Records

Session = dict[str, Any]


@runtime_checkable
class ISessionService(Protocol):
    """Whole sessions as dicts, whatever stores them; any object with these methods is one.

    A failure raises ``StorageError``; None, False and empty mean "not there" and nothing else.
    """

    async def save_session(self, session_id: str, session_data: dict[str, Any]) -> None:
        """Insert or replace a session."""

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        """A copy of the session, None when there is none."""

    async def delete_session(self, session_id: str) -> None:
        """Delete a session, or raise ``StorageNotFoundError``."""

    async def list_sessions(
        self, filters: dict[str, Any] | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The matching sessions, the one changed last first."""

    async def session_exists(self, session_id: str) -> bool:
        """Whether there is such a session."""

    async def update_session(self, session_id: str, updates: dict[str, Any]) -> None:
        """Change only the fields given, or raise ``StorageNotFoundError``."""


class SessionService:
    """Sessions as dicts on a storage, or inside one transaction of it.

    A session is named by a ``str``, or by a ``SessionKey`` where it belongs to a user of an app. Its document is any
    dict and comes out as it went in, but for ``metadata.created_at`` and ``metadata.updated_at``, which show the
    record's times as ISO text in UTC. A message list stands in the session's log, so that a save that adds to it
    writes no more than that, and messages that others append are not lost.

    Args:
        storage: where they are kept; closing it is its owner's business.
        source_timezone: the zone of times without an offset, a ``tzinfo`` or an IANA name; None is this machine's.
    Raises:
        InvalidSessionIdError: (every method) an id that cannot name a session.
        StorageError: (every method) the storage failed; what it was is chained.
    """

    def __init__(self, storage: IUnifiedStorage, *, source_timezone: Zone = None) -> None:
        self._storage = storage
        self._zone = zone_named(source_timezone) if isinstance(source_timezone, str) else source_timezone

    @property
    def storage(self) -> IUnifiedStorage:
        """Where the sessions are kept."""
        return self._storage

    async def save_session(
        self, session_id: SessionId, session_data: Mapping[str, Any], *, expected_version: int | None = None
    ) -> None:
        """Insert or replace a session.

        The first save takes an earlier creation time over from the document; later ones keep it. The two shown times
        given back unchanged change nothing. What others appended and no saved list has held yet stays, before the
        list's new elements.

        Args:
            expected_version: as ``get_session(with_version=True)`` gave it, 0 for a session that must be new. The
                history is then exactly the list given.
        Raises:
            StorageConflictError: the session or its history has changed since.
            StorageValidationError: a value that cannot be kept; ``error.path`` names the place.
        """
        check_expected(expected_version)
        saving = Saving.of(session_id, session_data, expected_version)
        with storage_failures("save a session"):
            if not await create_session(self._storage, saving, self._zone):
                await self._storage.atomically(lambda tx: save_session(tx, saving, self._zone), attempts=ATTEMPTS)

    @overload
    async def get_session(self, session_id: SessionId, *, with_version: Literal[False] = ...) -> Session | None: ...

    @overload
    async def get_session(
        self, session_id: SessionId, *, with_version: Literal[True]
    ) -> tuple[Session, int] | None: ...

    async def get_session(
        self, session_id: SessionId, *, with_version: bool = False
    ) -> Session | tuple[Session, int] | None:
        """A copy of the session, None when there is none (a record of another type under its id is none).

        Args:
            with_version: hand out ``(session, version)``; the version moves with the document and with the history.
        """
        stored_id = record_id(session_id)
        with storage_failures("get a session"):
            record = await session_record(self._storage, stored_id)
            found = [] if record is None else await self._shown([record])
        if not found:
            return None
        [(current, document)] = found
        return (document, current["version"]) if with_version else document

    async def delete_session(self, session_id: SessionId, *, expected_version: int | None = None) -> None:
        """Delete a session with its history and everything grouped under it.

        Raises:
            SessionNotFoundError: there is no such session.
            StorageConflictError: it has another version than *expected_version*.
        """
        stored_id = record_id(session_id)
        with storage_failures("delete a session"):
            if not await self._storage.delete(stored_id, type=SESSION, cascade=True, expected_version=expected_version):
                raise no_session(session_id)

    async def list_sessions(self, filters: Mapping[str, Any] | None = None, limit: int | None = None) -> list[Session]:
        """The matching sessions with their histories, the one changed last first, ties by id.

        Args:
            filters: a bare key such as ``status`` is a field of the metadata (operators as in a storage's filters),
                ``created_at``, ``updated_at`` and ``expires_at`` are the record's times (aware, or ISO text), a key
                with a dot is a storage path.
            limit: how many at most; 0 gives none, None all.
        """
        check_count("limit", limit)
        with storage_failures("list sessions"):
            condition = parse_filters(session_filters(filters))
            found = await self._shown(await matching(self._storage, condition, limit))
        found = [shown for shown in found if matches(condition, shown[0])]  # what was read again may match no more
        found.sort(key=lambda shown: shown[0]["updated_at"], reverse=True)  # what was read again has moved
        return [document for _, document in found]

    async def session_exists(self, session_id: SessionId) -> bool:
        """Whether there is such a session."""
        stored_id = record_id(session_id)
        with storage_failures("look for a session"):
            return await self._storage.exists(stored_id, type=SESSION)

    async def update_session(
        self, session_id: SessionId, updates: Mapping[str, Any], *, expected_version: int | None = None
    ) -> None:
        """Change only the fields given: mappings merge to any depth, anything else replaces.

        ``DELETE`` deletes a key, ``REPLACE(value)`` replaces a mapping whole. The history is read and written only
        where its list is given, as by ``save_session``.

        Raises:
            SessionNotFoundError: there is no such session.
            StorageConflictError: it has another version than *expected_version*.
            StorageValidationError: a value that cannot be kept; ``error.path`` names the place.
        """
        stored_id = record_id(session_id)
        check_expected(expected_version)
        updates = kept(dict(updates) if isinstance(updates, Mapping) else updates, "updates")

        async def merge(tx: IUnifiedStorage) -> None:
            stored = await session_record(tx, stored_id)
            check_version(expected_version, stored["version"] if stored else 0, stored_id)
            if stored is None:
                raise no_session(session_id)
            await update_session(tx, session_id, stored, updates, self._zone, exact=expected_version is not None)

        with storage_failures("update a session"):
            await self._storage.atomically(merge, attempts=ATTEMPTS)

    async def _shown(self, records: Records) -> list[tuple[Record, Session]]:
        found = await whole(self._storage, records)
        return [(record, rendered(document, record)) for record, document in found]
