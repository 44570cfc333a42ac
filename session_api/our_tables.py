"""``SessionTables`` on our storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from session_adapter.entries import history_of
from session_adapter.formats.places import object_of
from session_adapter.identity import SESSION, record_id, visible_id
from session_adapter.naming import BEGINNING, name_from
from session_adapter.reading import ATTEMPTS, session_record, session_records, with_histories
from session_adapter.runs import Runs, gathered
from session_adapter.writing import replace_document
from session_api.our_rows import changed_document, new_document, new_record, row_of, stored_name, type_of
from session_api.tables import (
    COMPONENTS,
    Changes,
    Listing,
    NewSession,
    SessionRow,
    SessionTaken,
    SessionType,
    SeveralSessions,
    StoredSession,
)
from session_api.told import chat_of
from unified_storage.errors import StorageConflictError
from unified_storage.interface import Entries, Filters, IUnifiedStorage, Page, Record

_ORDERS = {
    "session_id": "id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "session_type": "metadata.kind",
    **{name: f"metadata.{name}" for name in ("user_id", *COMPONENTS.values())},
}


class OurTables:
    """Sessions on one of our storages, plain ones and those of users of apps.

    Args:
        storage: closed with this.
    """

    def __init__(self, storage: IUnifiedStorage) -> None:
        self._storage = storage

    async def open(self) -> None:
        await self._storage.__aenter__()

    async def close(self) -> None:
        await self._storage.close()

    async def check(self) -> None:
        await self._storage.health_check()

    # reading

    async def page(self, wanted: Listing) -> tuple[list[SessionRow], int]:
        condition = _condition(wanted)
        first = None if wanted.skip else await self._page(condition, wanted)
        if first is not None and first.next_cursor is None:  # these are all, which nobody has to count
            records = [record for record in first.items if _is_of_type(record, wanted.session_type)]
            return await self._named(records), len(records)
        narrowed, total = await self._matching(condition, wanted.session_type)
        if wanted.skip >= total:
            return [], total
        if first is None or narrowed is not condition:
            first = await self._page(narrowed, wanted)
        return await self._named(first.items), total

    async def _page(self, condition: Filters, wanted: Listing) -> Page:
        order = _ORDERS.get(wanted.sort_by, "id")
        told = f"-{order}" if wanted.descending else order
        return await self._storage.page(condition, limit=wanted.limit, skip=wanted.skip, order_by=told)

    async def _matching(self, condition: dict[str, Any], session_type: SessionType | None) -> tuple[Filters, int]:
        """*condition* narrowed to the type, and how many match.

        Where all are of the type, as they are where one kind of component works, the type need not be asked for; and
        only where some others tell none is it looked at by whom they are with.
        """
        everything = await self._storage.count(condition)
        if session_type is None or not everything:
            return condition, everything
        told, untold = _telling(condition, session_type), _untold(condition, session_type)
        telling = await self._storage.count(told)
        if telling == everything:
            return condition, everything
        guessed = await self._storage.count(untold)
        return ({"$or": [told, untold]} if guessed else told), telling + guessed

    async def get(self, session_id: str, user_id: str | None) -> StoredSession | None:
        return await self._whole(await _found(self._storage, session_id, user_id))

    async def _whole(self, record: Record | None) -> StoredSession | None:
        async for settled, entries in with_histories(self._storage, [record] if record else []):
            return _stored(settled, entries)
        return None

    async def _named(self, records: Sequence[Record]) -> list[SessionRow]:
        """The rows of *records*; names that nobody has written down are looked for where their histories begin."""
        rows = [row_of(record) for record in records]
        logs = [history_of(record["id"]) for record in records]
        nameless = {
            log: row for log, row in zip(logs, rows, strict=True) if row.name is None and row.shown_name is None
        }
        if nameless:
            for log, beginning in (await self._storage.read_many([*nameless], limit=BEGINNING)).items():
                nameless[log].shown_name = _name(nameless[log], beginning)
        return rows

    # writing

    async def create(self, new: NewSession) -> SessionRow:
        document = new_document(new)
        record = new_record(document, new.runs)
        await self._check_free(new.session_id, record["id"])
        try:
            return row_of(await self._saved(record, new.runs))
        except StorageConflictError as error:
            if error.retryable:
                raise
            there = await session_record(self._storage, record["id"])
            raise SessionTaken(new.session_id, None if there is None else _user_of(there)) from error

    async def _check_free(self, session_id: str, stored_id: str) -> None:
        """Raise :class:`SessionTaken` where a session of a user of an app has the id, or the plain one is known."""
        named = {"type": SESSION, "metadata.session_id": session_id}
        for there in (await self._storage.page(named, limit=2)).items:  # one of them may be a damaged record
            if there["id"] == stored_id or (there["metadata"] or {}).get("scope"):
                raise SessionTaken(session_id, _user_of(there))

    async def _saved(self, record: Record, runs: Sequence[Mapping[str, Any]]) -> Record:
        """Insert *record*, with its history if it has one; as it stands then."""

        async def insert(tx: IUnifiedStorage) -> Record:
            await tx.save(record, expected_version=0)
            if runs:
                await Runs(tx).append(visible_id(record), runs)
            return await _required(tx, record["id"])

        if runs:
            return await self._storage.atomically(insert, attempts=ATTEMPTS)
        await self._storage.save(record, expected_version=0)
        return await session_record(self._storage, record["id"]) or _unread(record, self._storage)

    async def change(self, session_id: str, user_id: str | None, changes: Changes) -> StoredSession | None:
        async def changed(tx: IUnifiedStorage) -> Record | None:
            record = await _found(tx, session_id, user_id)
            if record is not None:
                await replace_document(tx, visible_id(record), record, changed_document(record, changes))
            return record

        before = await self._storage.atomically(changed, attempts=ATTEMPTS)
        # what an answer shows is read outside, so that no other writer waits for it
        return None if before is None else await self._whole(await session_record(self._storage, before["id"]))

    async def delete(self, session_id: str, user_id: str | None) -> bool:
        async def deleted(tx: IUnifiedStorage) -> bool:
            record = await _found(tx, session_id, user_id)
            return record is not None and await tx.delete(record["id"], type=SESSION, cascade=True)

        return await self._storage.atomically(deleted, attempts=ATTEMPTS)

    async def delete_many(self, session_ids: Sequence[str], user_id: str | None) -> int:
        wanted = {record_id(stored_name(session_id)): session_id for session_id in session_ids}

        async def deleted(tx: IUnifiedStorage) -> int:
            plain = await session_records(tx, [*wanted], with_data=False)
            going = [record["id"] for record in plain if _is_of(record, user_id)]
            for session_id in {*wanted.values()} - {wanted[id] for id in going}:
                scoped = await tx.list(_scoped(session_id, user_id), 2, with_data=False)
                going += [record["id"] for record in scoped] if len(scoped) == 1 else []
            return await tx.batch_delete(going, type=SESSION, cascade=True)

        return await self._storage.atomically(deleted, attempts=ATTEMPTS)


# which record


async def _found(storage: IUnifiedStorage, session_id: str, user_id: str | None) -> Record | None:
    """The session that people call *session_id*: the plain one, else the only one of a user of an app."""
    record = await session_record(storage, record_id(stored_name(session_id)))
    if record is not None and _is_of(record, user_id):
        return record
    scoped = await storage.list(_scoped(session_id, user_id), 2)
    if len(scoped) > 1:
        raise SeveralSessions(session_id)
    return scoped[0] if scoped else None


def _scoped(session_id: str, user_id: str | None) -> dict[str, Any]:
    named = {"type": SESSION, "metadata.session_id": session_id, "metadata.scope": {"$exists": True}}
    return named if user_id is None else {**named, "metadata.user_id": user_id}


def _user_of(record: Record) -> str | None:
    found = (object_of(record["metadata"]) or {}).get("user_id")
    return found if isinstance(found, str) else None


def _is_of(record: Record, user_id: str | None) -> bool:
    return user_id is None or _user_of(record) == user_id


async def _required(tx: IUnifiedStorage, stored_id: str) -> Record:
    record = await session_record(tx, stored_id)
    if record is None:  # it was written in this very transaction
        raise StorageConflictError(f"the session {stored_id!r} is gone", retryable=True)
    return record


def _unread(record: Record, storage: IUnifiedStorage) -> Record:
    """*record*, which somebody deleted as soon as it was made, as it was."""
    now = storage.clock()
    return {**record, "created_at": now, "updated_at": now}


def _stored(record: Record, entries: Entries) -> StoredSession:
    row = row_of(record)
    if row.name is None and row.shown_name is None:
        row.shown_name = _name(row, entries)
    runs = [run for run in gathered(entries) if isinstance(run.get("run_id"), str)]
    return StoredSession(row, runs, chat_of(entries))


def _name(row: SessionRow, entries: Entries) -> str:
    return name_from((entry["body"] for entry in entries), row.session_type, (row.workflow_data or {}).get("name"))


# which records


def _is_of_type(record: Record, session_type: SessionType | None) -> bool:
    return session_type is None or type_of(object_of(record["metadata"]) or {}) is session_type


def _condition(wanted: Listing) -> dict[str, Any]:
    """What is wanted but for the type. Equalities stand side by side, as storages find them fastest."""
    condition: dict[str, Any] = {"type": SESSION}
    if wanted.user_id is not None:
        condition["metadata.user_id"] = wanted.user_id
    if wanted.session_name:
        condition["metadata.name"] = {"$ilike": f"%{wanted.session_name.replace(chr(92), chr(92) * 2)}%"}
    if wanted.component_id is not None and wanted.session_type is not None:
        condition[f"metadata.{COMPONENTS[wanted.session_type]}"] = wanted.component_id
    elif wanted.component_id is not None:
        condition["$or"] = [{f"metadata.{column}": wanted.component_id} for column in COMPONENTS.values()]
    return condition


def _telling(condition: dict[str, Any], session_type: SessionType) -> dict[str, Any]:
    """Those that tell that they are of the type."""
    return condition | {"metadata.kind": str(session_type)}


def _untold(condition: dict[str, Any], session_type: SessionType) -> dict[str, Any]:
    """Those that tell no type and are of this one by whom they are with, as ``type_of`` finds it."""
    kinds = [*SessionType]
    before = [_named_by(COMPONENTS[kind]) for kind in kinds[: kinds.index(session_type)]]
    after = [_named_by(COMPONENTS[kind]) for kind in kinds[kinds.index(session_type) + 1 :]]
    own = _named_by(COMPONENTS[session_type])
    if session_type is SessionType.AGENT:  # also where nobody is named
        own = {"$or": [own, {"$not": {"$or": after}}]}
    untold = {"metadata.kind": {"$nin": [str(kind) for kind in kinds]}}
    return {"$and": [condition, untold, own, *({"$not": one} for one in before)]}


def _named_by(component: str) -> dict[str, Any]:
    return {f"metadata.{component}": {"$gt": ""}}
