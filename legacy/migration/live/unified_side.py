"""The unified store of a migration: documents written and read exactly as they are, beside what views make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from legacy.migration import memos
from legacy.stores.contents import session_content
from session_adapter.documents import content_hash, exported, imported, visible_id
from session_adapter.entries import history_of
from session_adapter.formats import detect
from session_adapter.identity import SESSION, record_id
from session_adapter.reading import session_records, with_histories
from session_adapter.timestamps import Zone, read_time
from session_adapter.writing import Saving, save_session
from unified_storage.errors import StorageCapacityError, StorageConflictError, StorageError, StorageValidationError
from unified_storage.interface import IUnifiedStorage, Record
from unified_storage.logs import checked_logs
from unified_storage.record import checked_records

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """What U holds of one session.

    Attributes:
        document: as it was stored, with its history in it, and no time rendered.
        content: its hash, None where nothing is held.
        version: of the record; 0 for none.
    """

    document: Document | None
    version: int

    @property
    def content(self) -> str | None:
        return None if self.document is None else content_hash(self.document)


ABSENT = Held(None, 0)


class ForeignWriteError(Exception):
    """U holds another version of a session than our last write left there."""


async def version_in(storage: IUnifiedStorage, session_id: str) -> int:
    """The version of a session's record; 0 where there is none."""
    heads = await session_records(storage, [record_id(session_id)], with_data=False)
    return int(heads[0]["version"]) if heads else 0


async def held_in(storage: IUnifiedStorage, session_ids: Iterable[str]) -> dict[str, Held]:
    """What U holds of each of *session_ids*."""
    named = {record_id(id): id for id in session_ids}
    found = dict.fromkeys(named.values(), ABSENT)
    records = await session_records(storage, sorted(named))
    async for record, entries in with_histories(storage, records):
        found[named[record["id"]]] = Held(exported(record, entries), int(record["version"]))
    return found


async def put_document(
    tx: IUnifiedStorage, session_id: str, document: Mapping[str, Any] | None, zone: Zone, *, known: int
) -> int:
    """Make what U holds exactly *document*, writing of its history no more than changed; the new version.

    Args:
        document: None deletes the session with its history.
        known: the version that it must have, 0 for none.
    Raises:
        ForeignWriteError: it has another one: others have written it. Nothing was written.
    """
    if document is not None:
        try:
            await save_session(tx, Saving.of(session_id, document, known, exact=True), zone)
        except StorageConflictError as error:
            if error.retryable:
                raise
            raise ForeignWriteError(session_id) from error
        return await version_in(tx, session_id)
    found = await version_in(tx, session_id)
    if found != known:
        raise ForeignWriteError(session_id)
    if found:
        await tx.delete(record_id(session_id), type=SESSION, cascade=True)
    return 0


async def copied_version(tx: IUnifiedStorage, session_id: str) -> int:
    """The version of a session that no migration has touched and an offline copy brought; 0 where there is none.

    Raises:
        ForeignWriteError: it is there, and not as a copy left it.
    """
    records = await session_records(tx, [record_id(session_id)])
    if not records:
        return 0
    [record] = records
    entries = await tx.read(history_of(record["id"]))
    memo = await tx.load(record["id"], type=memos.TYPE)
    left = {told.get("target_hash") for told in (memo or {"data": {}})["data"].values()}
    if session_content(record, entries) not in left:
        raise ForeignWriteError(session_id)
    return int(record["version"])


async def copied_contents(tx: IUnifiedStorage, ids: Iterable[str]) -> dict[str, set[str]]:
    """What offline copies left of the sessions whose records have these *ids*: the hashes of their contents."""
    wanted = sorted(ids)
    found = await tx.list({"type": memos.TYPE, "id": {"$in": wanted}}) if wanted else []
    return {record["id"]: {told["target_hash"] for told in record["data"].values()} for record in found}


async def delete_document(tx: IUnifiedStorage, session_id: str) -> None:
    """Delete the session with its history, if it is there."""
    await tx.delete(record_id(session_id), type=SESSION, cascade=True)


async def import_documents(
    tx: IUnifiedStorage, documents: Mapping[str, Document], zone: Zone, *, unknown_time: datetime
) -> None:
    """Store *documents* by session id as a copy would: with the times that they tell.

    Args:
        unknown_time: stands for a time that a document does not tell; the same whenever it is imported again.
    """
    records: list[Record] = []
    logs: list[dict[str, Any]] = []
    for id, document in documents.items():
        record, log = _imported(id, document, zone, unknown_time)
        records.append(record)
        logs.append({"log_id": history_of(record["id"]), "last_seq": 0, "entries": []} if log is None else log)
    await tx.restore(records, logs)


def why_not_storable(id: str, document: Document, zone: Zone, *, unknown_time: datetime) -> StorageError | None:
    """What an import of *document* alone would be refused for; None where it would not be."""
    try:
        record, log = _imported(id, document, zone, unknown_time)
        checked_records([record], restored=True)
        checked_logs([] if log is None else [log])
    except (StorageValidationError, StorageCapacityError) as error:
        return error
    return None


def _imported(id: str, document: Document, zone: Zone, unknown_time: datetime) -> tuple[Record, dict[str, Any] | None]:
    format = detect(document)
    created = read_time(format.created_at(document), zone).moment
    updated = read_time(format.updated_at(document), zone).moment
    told = {"created_at": created, "updated_at": updated}
    return imported(
        document,
        key=id,
        created_at=created or updated or unknown_time,
        updated_at=updated or created or unknown_time,
        source_timezone=zone,
        time_unknown=[name for name, moment in told.items() if moment is None],
        now=unknown_time,
    )


def session_id_in(record: Mapping[str, Any]) -> str | None:
    """The id of a plain session's record; None for a scoped one, which no legacy store has."""
    found = visible_id(record)
    return found if isinstance(found, str) else None
