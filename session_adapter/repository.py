"""``SessionRepository``: sessions as typed objects, on any storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from session_adapter.changed_runs import with_others_messages
from session_adapter.documents import Split, record_of, stored_document
from session_adapter.entries import history_of
from session_adapter.errors import SessionAlreadyExistsError, storage_failures
from session_adapter.filters import session_filters
from session_adapter.formats import CANONICAL
from session_adapter.held import Held
from session_adapter.identity import SESSION, SessionId, no_session, record_id, session_id_of
from session_adapter.opened import storage_for
from session_adapter.reading import ATTEMPTS, matching, session_record, with_histories
from session_adapter.runs import Runs, gathered
from session_adapter.session import Session
from session_adapter.timestamps import Zone, zone_named
from session_adapter.typed import shown_session
from session_adapter.writing import replace_document
from unified_storage.arguments import check_count
from unified_storage.errors import StorageClosedError, StorageConflictError, StorageValidationError
from unified_storage.filters import matches, parse_filters
from unified_storage.interface import Entries, IUnifiedStorage, Page, Record, Records
from unified_storage.transactions import is_transaction
from unified_storage.values import equal

FILTERS = ("agent_id", "user_id", "team_id", "workflow_id")
"""What lists can be narrowed by."""

Sessions = list[Session]
Shown = list[tuple[Record, Session]]
Items = list[Any]


class SessionRepository:
    """Sessions as :class:`Session` objects, on a storage or inside one transaction of it.

    A session is written as what its holder changed since he read it, so that writers who change different fields, or
    add different runs, do not undo each other. State, metadata and agent data are written key by key on their top
    level: changed and new keys whole, removed ones are deleted, others stay; of two who change one the later wins. A
    session that was not read replaces every field of the model. Runs are added and, by ``run_id``, replaced; one that
    is left out stays. What is handed in is not changed, and what is handed out shares nothing with what is stored.
    What was handed out in a transaction that was undone has to be read again.

    Args:
        storage: where they are kept: an open storage, or a URL; in memory without either.
        instance_name: what ``register_redis_instance`` registered; a URL wins.
        source_timezone: the zone of times without an offset in older documents; None is this machine's.
        options: for opening the storage, as ``open_storage`` takes them.
    Raises:
        InvalidSessionIdError: (every method that takes an id) it cannot name a session.
        StorageClosedError: (every method) the repository is closed.
        StorageError: (every method) the storage failed; nothing else says so.
    """

    def __init__(
        self,
        storage: IUnifiedStorage | str | None = None,
        *,
        instance_name: str | None = None,
        source_timezone: Zone = None,
        **options: Any,
    ) -> None:
        self._zone = zone_named(source_timezone) if isinstance(source_timezone, str) else source_timezone
        self._inner, self._is_ours = storage_for(storage, instance_name, options)
        self._is_closed = False

    @property
    def storage(self) -> IUnifiedStorage:
        """Where the sessions are kept."""
        return self._inner

    async def close(self) -> None:
        """End its work: everything after this raises. The storage is closed where this repository opened it."""
        self._is_closed = True
        if self._is_ours:
            await self._inner.close()

    async def __aenter__(self) -> Self:
        if self._is_ours:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- one session ---------------------------------------------------------------------------------------------

    async def create(self, session: Session, *, if_exists: Literal["update", "error"] = "update") -> Session:
        """Store a new session; the stored copy. A creation time of its own is kept where it is not in the future.

        Args:
            if_exists: what an id that is there means: ``update`` it, or raise an ``error`` and change nothing.
        Raises:
            SessionAlreadyExistsError: it is there, and *if_exists* is ``error``.
            StorageValidationError: a value that cannot be kept; ``error.path`` names the place.
        """
        if if_exists not in ("update", "error"):
            raise StorageValidationError("if_exists is update or error", details={"path": "if_exists"})
        storage, held = self._storage, Held.of(session)

        async def made(tx: IUnifiedStorage) -> tuple[Record, Session]:
            stored = await session_record(tx, held.stored_id)
            if stored is None:
                await tx.save(_first_record(held, tx))
                await _add_runs(tx, held, held.all_runs())
            elif if_exists == "error":
                raise _exists(held.key)
            else:
                await _write_over(tx, held, stored, self._zone)
            return await self._written(tx, held, stored)

        with storage_failures("create a session"):
            if held.runs or is_transaction(storage) or not await _save_new(storage, held, if_exists):
                record, copy = await storage.atomically(made, attempts=ATTEMPTS)
            else:
                record, copy = await self._written(storage, held, None)
        return self._remembered(session, held, record, copy)

    async def get(self, session_id: SessionId) -> Session:
        """A copy of the session with all its runs, or ``SessionNotFoundError``."""
        storage, stored_id = self._storage, record_id(session_id)
        with storage_failures("get a session"):
            stored = await session_record(storage, stored_id)
            async for record, entries in with_histories(storage, [stored] if stored else []):
                return self._shown(record, entries)
        raise no_session(session_id)

    async def update(self, session: Session) -> Session:
        """Store what was changed in *session*; the stored copy. Its creation time stays.

        The copy has the document as it is now. Where *session* was read, or written before, its runs are those of
        *session*, and ``get`` shows those that others added meanwhile.

        Raises:
            SessionNotFoundError: there is no such session.
            StorageValidationError: a value that cannot be kept; ``error.path`` names the place.
        """
        storage, held = self._storage, Held.of(session)

        async def updated(tx: IUnifiedStorage) -> tuple[Record, Session]:
            stored = await session_record(tx, held.stored_id)
            if stored is None:
                raise no_session(held.key)
            await _write_over(tx, held, stored, self._zone)
            return await self._written(tx, held, stored)

        with storage_failures("update a session"):
            record, copy = await storage.atomically(updated, attempts=ATTEMPTS)
        return self._remembered(session, held, record, copy)

    async def delete(self, session_id: SessionId) -> None:
        """Delete a session with its runs and everything grouped under it, or raise ``SessionNotFoundError``."""
        storage, stored_id = self._storage, record_id(session_id)
        with storage_failures("delete a session"):
            if not await storage.delete(stored_id, type=SESSION, cascade=True):
                raise no_session(session_id)

    # -- many ----------------------------------------------------------------------------------------------------

    async def list(self, filters: Mapping[str, str] | None = None, limit: int | None = None) -> Sessions:
        """Copies of the matching sessions with all their runs, the one changed last first, ties by id.

        Args:
            filters: ``agent_id``, ``user_id``, ``team_id``, ``workflow_id``: all that are given have to match.
            limit: how many at most; 0 gives none, None all.
        Raises:
            StorageValidationError: another key, or a value that is no text.
        """
        storage, condition = self._storage, parse_filters(_checked_filters(filters))
        check_count("limit", limit)
        with storage_failures("list sessions"):
            found = await self._whole(await matching(storage, condition, limit))
        found = [shown for shown in found if matches(condition, shown[0])]  # what was read again may match no more
        found.sort(key=lambda shown: shown[0]["updated_at"], reverse=True)  # what was read again has moved
        return [session for _, session in found]

    async def list_by_agent(self, agent_id: str) -> Sessions:
        """The sessions of an agent, as ``list`` gives them."""
        return await self.list({"agent_id": agent_id})

    async def list_by_user(self, user_id: str) -> Sessions:
        """The sessions of a user, as ``list`` gives them."""
        return await self.list({"user_id": user_id})

    async def page(
        self, filters: Mapping[str, str] | None = None, *, limit: int = 20, cursor: str | None = None
    ) -> Page:
        """One page of what ``list`` gives.

        Args:
            cursor: ``next_cursor`` of the page before, with the same filters.
        """
        storage, condition = self._storage, _checked_filters(filters)
        with storage_failures("list sessions"):
            page = await storage.page(condition, limit=limit, order_by="-updated_at", cursor=cursor)
            items: Items = [session for _, session in await self._whole(page.items)]
        return Page(items, page.next_cursor)

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _storage(self) -> IUnifiedStorage:
        if self._is_closed:
            raise StorageClosedError("the repository is closed")
        return self._inner

    def _shown(self, record: Record, entries: Entries) -> Session:
        return shown_session(record, zone=self._zone, runs=gathered(entries))

    async def _whole(self, records: Records) -> Shown:
        """The records, in their order, with the session that each of them and its history show."""
        found = {record["id"]: (record, entries) async for record, entries in with_histories(self._storage, records)}
        kept = [found[record["id"]] for record in records if record["id"] in found]
        return [(record, self._shown(record, entries)) for record, entries in kept]

    async def _written(self, storage: IUnifiedStorage, held: Held, before: Record | None) -> tuple[Record, Session]:
        """The record as it is after it was written over *before*, and the copy to hand out."""
        record = await session_record(storage, held.stored_id)
        if record is None:
            raise no_session(held.key)  # deleted as soon as it was made
        if before is None or held.saw(before):
            return record, shown_session(record, zone=self._zone, runs=held.all_runs(), digests=held.digests)
        return record, self._shown(record, await storage.read(history_of(record["id"])))

    def _remembered(self, session: Session, held: Held, record: Record, copy: Session) -> Session:
        # What stands in a transaction may be undone, and then nobody has seen it stored.
        if not is_transaction(self._inner):
            held.remembered(session, record)
        return copy


def _first_record(held: Held, storage: IUnifiedStorage) -> Record:
    record = record_of(held.key, Split(CANONICAL, held.new_document(), None), {})
    return record | ({"created_at": held.created_at} if held.created_at <= storage.clock() else {})


async def _save_new(storage: IUnifiedStorage, held: Held, if_exists: str) -> bool:
    """Save a session without runs by one statement; False for one that is there and is to be updated."""
    try:
        await storage.save(_first_record(held, storage), expected_version=0)
    except StorageConflictError as error:
        if if_exists == "error" and not error.retryable:
            raise _exists(held.key) from error
        return False
    return True


async def _write_over(tx: IUnifiedStorage, held: Held, stored: Record, zone: Zone) -> None:
    before = stored_document(stored)
    document, runs = held.document_over(stored, zone), held.runs_over(stored)
    seen = held.shown.runs if held.shown is not None else {}
    if not held.is_up_to_date(stored) and any(run["run_id"] in seen for run in runs):
        runs = with_others_messages(runs, await tx.read(history_of(stored["id"])), seen)
    if not runs or not equal(document, before):
        await replace_document(tx, held.key, stored, document)
    await _add_runs(tx, held, runs)


async def _add_runs(tx: IUnifiedStorage, held: Held, runs: Sequence[Mapping[str, Any]]) -> None:
    if runs:
        await Runs(tx).append(held.key, runs)


def _exists(session: SessionId) -> SessionAlreadyExistsError:
    shown = session_id_of(session)
    return SessionAlreadyExistsError(f"there is a session {shown!r}", details={"session_id": shown})


def _checked_filters(filters: Mapping[str, str] | None) -> dict[str, Any]:
    if filters is not None and not isinstance(filters, Mapping):
        raise StorageValidationError(
            f"filters are a mapping, not {type(filters).__name__}", details={"path": "filters"}
        )
    for key, value in (filters or {}).items():
        if key not in FILTERS:
            message = f"no filter {key!r}; there are {', '.join(FILTERS)}"
            raise StorageValidationError(message, details={"path": "filters"})
        if not isinstance(value, str):
            message = f"the filter {key} is a text, not {type(value).__name__}"
            raise StorageValidationError(message, details={"path": f"filters.{key}"})
    return session_filters(filters)
