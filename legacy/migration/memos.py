"""The system records ``_copy``: what each source wrote to each record of a target, by which conflicts are told."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from legacy.migration.decision import Memo
from legacy.stores.parcels import SESSION, RecordKey
from unified_storage.interface import IUnifiedStorage

TYPE = "_copy"


class Memos:
    """The memos of one source in a target.

    A ``_copy`` record has the id of the records it is about; its data holds one memo for each source (a digest of its
    URL), and one more for each type that is no session: ``{"<digest>": {...}, "<digest>/<type>": {...}}``.

    Args:
        identity: the source's normalised URL.
    """

    def __init__(self, identity: str) -> None:
        self._digest = hashlib.sha256(identity.encode()).hexdigest()[:32]

    def name(self, type: str) -> str:
        """The key of a memo about records of *type*."""
        return self._digest if type == SESSION else f"{self._digest}/{type}"

    async def read(self, storage: IUnifiedStorage, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The data of the ``_copy`` records of *ids*, those of other sources included."""
        records = await storage.list({"type": TYPE, "id": {"$in": sorted(set(ids))}})
        return {record["id"]: record["data"] for record in records}

    def memo(self, data: dict[str, Any], type: str) -> Memo | None:
        """This source's memo in *data*; None when there is none."""
        told = data.get(self.name(type))
        return None if told is None else Memo(told["source_hash"], told["target_hash"], told["told"])

    async def write(self, storage: IUnifiedStorage, memos: dict[RecordKey, Memo], known: dict[str, Any]) -> None:
        """Keep *memos* beside what is *known* of the same ids, as :meth:`read` gave it."""
        changed: dict[str, dict[str, Any]] = {}
        for (id, type), memo in memos.items():
            data = changed.setdefault(id, dict(known.get(id, {})))
            data[self.name(type)] = {
                "source_hash": memo.source_hash,
                "target_hash": memo.target_hash,
                "told": memo.told,
            }
        await storage.batch_save([{"id": id, "type": TYPE, "data": data} for id, data in changed.items()])

    async def forget(self, storage: IUnifiedStorage, keys: Iterable[RecordKey], known: dict[str, Any]) -> None:
        """Keep no memo of *keys*; *known* is what :meth:`read` gave of their ids."""
        left: dict[str, dict[str, Any]] = {}
        for id, type in keys:
            data = left.setdefault(id, dict(known.get(id, {})))
            data.pop(self.name(type), None)
        await storage.batch_save([{"id": id, "type": TYPE, "data": data} for id, data in left.items() if data])
        await storage.batch_delete([id for id, data in left.items() if not data], type=TYPE)

    async def written(self, storage: IUnifiedStorage) -> AsyncIterator[list[RecordKey]]:
        """The keys of all that was written from this source, some at a time, by id."""
        async for records in storage.stream_list({"type": TYPE}):
            yield [(record["id"], type) for record in records for type in self._types_in(record["data"])]

    def _types_in(self, data: Mapping[str, Any]) -> Iterator[str]:
        for name in data:
            digest, _, type = name.partition("/")
            if digest == self._digest:
                yield type or SESSION

    async def last_told(self, storage: IUnifiedStorage) -> dict[str, Any] | None:
        """What a copy from this source was told; None when there was none."""
        found = await storage.list({"type": TYPE, f"data.{self._digest}": {"$exists": True}}, limit=1)
        return dict(found[0]["data"][self._digest]["told"]) if found else None
