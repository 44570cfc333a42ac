"""One of our storages as a source: every record with its logs, system records aside."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any

from legacy.stores.contents import whole_content
from legacy.stores.marks import Mark
from legacy.stores.parcels import IGNORED, QUARANTINED, SESSION, Item, Log, Parcel, Record, RecordKey
from legacy.stores.survey import temporary_database
from session_adapter.entries import history_of
from unified_storage.errors import StorageConflictError, StorageIntegrityError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.logs import LogName, parse_log_id

_RECORDS_AT_A_TIME = 50
_HEADS_AT_A_TIME = 500
_ENTRIES_AT_A_TIME = 1_000
_ATTEMPTS = 5


class LogIndex:
    """Which logs each record owns: a storage lists logs by name, so the owners are kept in a temporary file."""

    def __init__(self) -> None:
        self._database: sqlite3.Connection = temporary_database(
            "CREATE TABLE logs (owner TEXT, type TEXT, log TEXT, PRIMARY KEY (owner, type, log)) WITHOUT ROWID"
        )

    async def fill(self, storage: IUnifiedStorage) -> None:
        async for ids in storage.logs():
            names = [name for id in ids if (name := _named(id)) is not None]
            rows = [(name.owner_id, name.owner_type, name.log_id) for name in names]
            self._database.executemany("INSERT OR IGNORE INTO logs VALUES (?, ?, ?)", rows)

    def logs_of(self, key: RecordKey) -> list[str]:
        """The ids of a record's logs in order; a session's history is always looked for."""
        rows = self._database.execute("SELECT log FROM logs WHERE owner = ? AND type = ?", key)
        known = {log for (log,) in rows}
        if key[1] == SESSION:
            known.add(history_of(key[0]))
        return sorted(known)

    def close(self) -> None:
        self._database.close()


def _named(id: str) -> LogName | None:
    """What a log id names; None for a damaged one, under which no storage finds anything."""
    try:
        return parse_log_id(id)
    except StorageValidationError:
        return None


async def read_log(storage: IUnifiedStorage, id: str) -> Log | None:
    """A whole log as ``restore`` takes it, read piece by piece; None when it is not there."""
    info = await storage.log_info(id)
    if info is None:
        return None
    entries: list[dict[str, Any]] = []
    while info["count"] > len(entries):
        more = await storage.read(id, after=entries[-1]["seq"] if entries else 0, limit=_ENTRIES_AT_A_TIME)
        entries.extend(more)
        if len(more) < _ENTRIES_AT_A_TIME:
            break
    return {"log_id": id, "last_seq": max(info["last_seq"], entries[-1]["seq"] if entries else 0), "entries": entries}


async def read_logs(storage: IUnifiedStorage, ids: list[str]) -> list[Log]:
    """Those of the logs that are there."""
    found = [await read_log(storage, id) for id in ids]
    return [log for log in found if log is not None]


class OurStorage:
    """A storage as a source; see ``Source``. Each record comes as it was at one moment.

    Attributes:
        storage: what is read.

    Args:
        storage: open; the caller closes it.
        identity: its normalised URL.
    """

    whole = True

    def __init__(self, storage: IUnifiedStorage, identity: str) -> None:
        self.identity = identity
        self.told: dict[str, Any] = {}
        self.storage = storage
        self._index = LogIndex()
        self._is_indexed = False

    async def survey(self) -> int:
        await self._fill()
        return await self.storage.count()

    async def findings(self) -> AsyncIterator[list[Item]]:
        for found in list[list[Item]]():
            yield found

    async def batches(self, *, after: str | None = None) -> AsyncIterator[list[Parcel | Item]]:
        async for heads in self.storage.stream_list(batch_size=_RECORDS_AT_A_TIME, after=after, with_data=False):
            records = await self._whole(heads)
            for head in heads:
                one = await self._parcel_or_damage(head, records.get((head["id"], head["type"])))
                if one is not None:
                    yield [one]

    async def _whole(self, heads: list[Record]) -> dict[RecordKey, Record]:
        """The records of *heads* in one query; none of them where one cannot be read back."""
        try:
            records = await self.storage.list({"id": {"$in": sorted({head["id"] for head in heads})}})
        except StorageIntegrityError:
            return {}
        return {(record["id"], record["type"]): record for record in records}

    async def _parcel_or_damage(self, head: Record, record: Record | None) -> Parcel | Item | None:
        """One record whole; one that cannot be read back costs itself and not the others."""
        try:
            record = record or await self.storage.load(head["id"], type=head["type"])
            return None if record is None else await self._parcel(record)
        except StorageIntegrityError as error:
            return Item(None, head["id"], QUARANTINED, ("unreadable",), head["type"], detail=error.message)

    async def marks(self) -> AsyncIterator[list[Mark]]:
        """See ``MarkedSource``."""
        async for heads in self.storage.stream_list(batch_size=_HEADS_AT_A_TIME, with_data=False):
            yield [Mark((head["id"], head["type"]), repr(_state(head)), is_exact=True) for head in heads]

    async def parcels_at(self, keys: Sequence[RecordKey]) -> list[Parcel | Item]:
        """See ``MarkedSource``."""
        if not self._is_indexed:
            await self._fill()
        heads = [{"id": id, "type": type} for id, type in keys]
        records = await self._whole(heads)
        found = [await self._parcel_or_damage(head, records.get((head["id"], head["type"]))) for head in heads]
        return [one or Item(None, key[0], IGNORED, ("vanished",), key[1]) for key, one in zip(keys, found, strict=True)]

    async def _fill(self) -> None:
        await self._index.fill(self.storage)
        self._is_indexed = True

    async def sessions(self, session_id: str) -> list[Parcel]:
        """The sessions that people see under *session_id*: the plain one, or those of several apps and users.

        A record id names its own session alone. To be called after the survey.
        """
        plain = f"~{session_id}" if session_id.startswith("~") else session_id
        for filters in ({"id": plain}, {"metadata.session_id": session_id}, {"id": session_id}):
            records = await self.storage.list({"type": SESSION, **filters})
            if records:
                parcels = [await self._parcel(record) for record in records]
                return [parcel for parcel in parcels if parcel is not None]
        return []

    async def close(self) -> None:
        self._index.close()

    async def _parcel(self, record: Record) -> Parcel | None:
        """The record with its logs; read again while somebody changes it; None when it was deleted meanwhile."""
        key = (record["id"], record["type"])
        for _ in range(_ATTEMPTS):
            logs = await read_logs(self.storage, self._index.logs_of(key))
            heads = await self.storage.list({"id": key[0], "type": key[1]}, with_data=False)
            if not heads:
                return None
            if _state(heads[0]) == _state(record):
                content = whole_content(record, logs)
                return Parcel(record, logs, content, content, True, size=_size(record, logs))
            record = await self.storage.load(key[0], type=key[1]) or record
        raise StorageConflictError(
            f"{key[1]} {key[0]!r} changes too often to be copied; stop its writers and run again"
        )


def _state(head: Record) -> tuple[Any, ...]:
    # The version alone would not tell: a record that was deleted and made again begins to count anew.
    return head["version"], head["created_at"], head["updated_at"]


def _size(record: Record, logs: list[Log]) -> int:
    # Rough on purpose: it only decides when a batch is full.
    return len(repr(record["data"])) + sum(len(repr(entry["body"])) for log in logs for entry in log["entries"])
