"""Storages with the mistakes that straightforward code makes; the public suite has to find each of them."""

from __future__ import annotations

import asyncio
import copy
import json
from datetime import timedelta
from typing import Any

from unified_storage import StorageError
from unified_storage.delegate import Delegate
from unified_storage.interface import Page


class SwallowsErrors(Delegate):
    """T2.1: an error looks like absence."""

    async def load(self, id, *, type=None):
        try:
            return await super().load(id, type=type)
        except StorageError:
            return None


class ForgetsTheType(Delegate):
    """T2.3, T2.4: an id is enough."""

    async def exists(self, id, *, type=None):
        return await super().exists(id)

    async def delete(self, id, *, type=None, cascade=False, expected_version=None):
        return await super().delete(id, cascade=cascade, expected_version=expected_version)

    async def update(self, id, updates, *, type=None, expected_version=None):
        return await super().update(id, updates, expected_version=expected_version)


class StampsTheCallersDict(Delegate):
    """T2.5: times are written into what the caller holds."""

    async def save(self, data, *, expected_version=None):
        data["updated_at"] = self.clock()
        return await super().save(data, expected_version=expected_version)


class MergesTheTopOnly(Delegate):
    """T2.6, T2.7: an update replaces everything below the first level."""

    async def update(self, id, updates, *, type=None, expected_version=None):
        async with self.transaction() as tx:
            record = await tx.load(id, type=type)
            if record is not None:
                await tx.save(record | {name: {**record[name], **value} for name, value in updates.items()})
            return record is not None


class StartsTimeAnew(Delegate):
    """T2.9: every save is a creation."""

    async def save(self, data, *, expected_version=None):
        if await self.exists(data["id"], type=data["type"]):
            await self.delete(data["id"], type=data["type"])
        return await super().save(data, expected_version=expected_version)


class TakesZeroForAll(Delegate):
    """T2.17: a limit of zero is no limit."""

    async def list(self, filters=None, limit=None, *, with_data=True):
        return await super().list(filters, limit or None, with_data=with_data)


class SavesOneByOne(Delegate):
    """T2.19: a batch is a loop."""

    async def batch_save(self, data_list):
        return [await self.save(data) for data in data_list]


class SaysOnlyYes(Delegate):
    """T2.20: a transaction gives back that it worked."""

    def transaction(self, operations=None, *, timeout=30):
        async def run():
            await self._inner.transaction(operations, timeout=timeout)
            return True

        return run() if operations is not None else super().transaction(timeout=timeout)


class DumpsByText(Delegate):
    """T2.22: what JSON does not know becomes its text."""

    async def save(self, data, *, expected_version=None):
        plain = json.loads(json.dumps(data["data"], default=str))
        return await super().save(data | {"data": plain}, expected_version=expected_version)


class DropsNulCharacters(Delegate):
    """T2.23: what the engine cannot hold is cut out."""

    async def save(self, data, *, expected_version=None):
        plain = json.loads(json.dumps(data["data"], default=str).replace("\\u0000", ""))
        return await super().save(data | {"data": plain}, expected_version=expected_version)


class CleansUpByCreation(Delegate):
    """T2.24: old sessions go, however active they are."""

    async def cleanup_old_data(self, retention_days, *, type="session", dry_run=False):
        old = await self.list({"type": type, "created_at": {"$lt": self.clock() - timedelta(days=retention_days)}})
        return sum([await self.delete(record["id"], type=type, cascade=True) for record in old])


class PagesByOffset(Delegate):
    """T2.25: places are counted, while records come and go."""

    async def stream_list(self, filters=None, batch_size=100, *, after=None, with_data=True):
        offset = 0
        while batch := (await self.list(filters, with_data=with_data))[offset : offset + batch_size]:
            yield batch
            offset += batch_size

    async def page(self, filters=None, *, limit=20, order_by="-updated_at", cursor=None, skip=0, with_data=True):
        start = int(cursor or 0) + skip
        found = (await super().page(filters, limit=10_000, order_by=order_by, with_data=with_data)).items
        return Page(found[start : start + limit], str(start + limit) if len(found) > start + limit else None)


class ReadsThenWrites(Delegate):
    """An update without a transaction: of two writers one is lost."""

    async def update(self, id, updates, *, type=None, expected_version=None):
        record = await self.load(id, type=type)
        if record is None:
            return False
        await asyncio.sleep(0)
        await self.save(record | {"data": merged(record["data"], updates.get("data", {}))})
        return True


class LooksThenCreates(Delegate):
    """``expected_version`` that is looked at before the write instead of in it."""

    async def save(self, data, *, expected_version=None):
        if expected_version == 0:
            found = await self.exists(data["id"], type=data["type"])
            await asyncio.sleep(0)
            expected_version = 7 if found else None
        return await super().save(data, expected_version=expected_version)


class HandsOutItsOwn(Delegate):
    """A cache that gives everybody the same object (T0.1)."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._seen: dict[Any, Any] = {}

    async def load(self, id, *, type=None):
        version = await super().load(id, type=type)
        if version is None:
            return None
        return self._seen.setdefault((id, version["type"], version["version"]), version)

    async def list(self, filters=None, limit=None, *, with_data=True):
        return [await self.load(record["id"], type=record["type"]) for record in await super().list(filters, limit)]


class AppendsOneByOne(Delegate):
    """An append in several steps: cancelled or refused, it is half done."""

    async def append(self, log_id, entries, *, on_duplicate="error", keep_last=None, expected_version=None):
        numbers: list[int] = []
        for entry in entries:
            numbers += await super().append(log_id, [entry], on_duplicate=on_duplicate, keep_last=keep_last)
            await asyncio.sleep(0)
        return numbers


class ListsByInsertion(Delegate):
    """T0.7: some order, by luck the right one for a while."""

    async def list(self, filters=None, limit=None, *, with_data=True):
        found = await super().list(filters, with_data=with_data)
        return sorted(found, key=lambda record: record["id"].lower())[:limit]


def merged(stored: Any, change: Any) -> Any:
    """A naive deep merge."""
    if not isinstance(change, dict) or not isinstance(stored, dict):
        return copy.deepcopy(change)
    return stored | {name: merged(stored.get(name), value) for name, value in change.items()}
