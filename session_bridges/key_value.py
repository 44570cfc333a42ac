"""``UnifiedKeyValue``: the ``AsyncKeyValue`` protocol of py-key-value on this storage, on which FastMCP keeps things.

A value is a record ``type="kv"`` with ``data = {collection, key, value}``. Its id is made of hashes of both names, so
that no key is too long or odd, and a collection is one partition of a Redis Cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, SupportsFloat

from key_value.aio.errors import InvalidTTLError, SerializationError
from key_value.aio.protocols import AsyncKeyValue

from session_adapter.identity import hashed_id
from session_adapter.opened import storage_for
from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage, Record

KIND = "kv"
DEFAULT_COLLECTION = "default_collection"
"""Where values stand that name no collection, as in the stores of py-key-value itself."""

_AT_ONCE = 100
"""Records read by one query."""

Value = dict[str, Any]


class UnifiedKeyValue(AsyncKeyValue):
    """Values by key, in collections; each may have an end.

    Values are JSON objects and come back as JSON gives them. A step of several keys is done wholly or not at all.

    Args:
        url_or_storage: an open storage, which stays its owner's to close, or a URL.
        default_collection: stands for the collection where a call names none.
    Raises:
        TypeError: (every method) a key or a collection is no text, a value no mapping.
    """

    def __init__(self, url_or_storage: IUnifiedStorage | str, *, default_collection: str = DEFAULT_COLLECTION) -> None:
        self._storage, self._is_ours = storage_for(url_or_storage, None, {})
        self._default = default_collection

    async def get(self, key: str, *, collection: str | None = None) -> Value | None:
        """The value; None where there is none, or where its time is over."""
        return (await self.ttl(key, collection=collection))[0]

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[Value | None, float | None]:
        """The value and the seconds that it has left, None where it has no end; both None where there is none."""
        return self._with_time(await self._storage.load(self._id(key, collection), type=KIND))

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Store a value in the place of the one that is there, with its end.

        Args:
            ttl: seconds from now; None is for ever.
        Raises:
            InvalidTTLError: *ttl* is no number above 0.
            SerializationError: *value* is no JSON.
        """
        await self.put_many([key], [value], collection=collection, ttl=ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete a value; False where there is none."""
        return await self._storage.delete(self._id(key, collection), type=KIND)

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[Value | None]:
        """What :meth:`get` gives for each of *keys*, in their order."""
        return [value for value, _ in await self.ttl_many(keys, collection=collection)]

    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None
    ) -> list[tuple[Value | None, float | None]]:
        """What :meth:`ttl` gives for each of *keys*, in their order."""
        ids = [self._id(key, collection) for key in keys]
        records: dict[str, Record] = {}
        for start in range(0, len(ids), _AT_ONCE):
            named = {"type": KIND, "id": {"$in": ids[start : start + _AT_ONCE]}}
            records |= {record["id"]: record for record in await self._storage.list(named)}
        return [self._with_time(records.get(id)) for id in ids]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Store all of *values*, each under the key in its place; of two under one key the later. See :meth:`put`.

        Raises:
            ValueError: there are not as many values as keys.
        """
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys were given, and {len(values)} values")
        ends = self._end(ttl)
        made = [self._record(key, value, collection, ends) for key, value in zip(keys, values, strict=True)]
        records = {record["id"]: record for record in made}
        try:
            if len(records) == 1:
                await self._storage.save(made[-1])
            elif records:
                await self._storage.batch_save(records.values())
        except StorageValidationError as error:
            raise SerializationError(str(error)) from error

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete the values of *keys*; how many there were."""
        ids = [self._id(key, collection) for key in keys]
        return await self._storage.batch_delete(ids, type=KIND) if ids else 0

    async def cull(self) -> None:
        """Remove what is over from the store, the expired sessions among it. Nobody sees it anyway; this gives room."""
        await self._storage.purge_expired()

    async def close(self) -> None:
        """Close the storage where it was opened here, for a URL."""
        if self._is_ours:
            await self._storage.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- records -------------------------------------------------------------------------------------------------

    def _id(self, key: str, collection: str | None) -> str:
        return hashed_id(_text("collection", collection or self._default), _text("key", key))

    def _record(self, key: str, value: Mapping[str, Any], collection: str | None, ends: datetime | None) -> Record:
        data = {"collection": collection or self._default, "key": key, "value": _json(value)}
        return {"id": self._id(key, collection), "type": KIND, "data": data, "expires_at": ends}

    def _end(self, ttl: SupportsFloat | None) -> datetime | None:
        if ttl is None:
            return None
        try:
            seconds = float(ttl)
            if isinstance(ttl, bool) or not seconds > 0:
                raise InvalidTTLError(ttl=ttl)
            return self._storage.clock() + timedelta(seconds=seconds)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidTTLError(ttl=ttl, extra_info={"type": type(ttl).__name__}) from error

    def _with_time(self, record: Record | None) -> tuple[Value | None, float | None]:
        if record is None:
            return None, None
        value, ends = record["data"]["value"], record["expires_at"]
        return value, None if ends is None else (ends - self._storage.clock()).total_seconds()


def _text(what: str, given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"a {what} is text, not {type(given).__name__}")
    return given


def _json(value: object) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"a value is a mapping, not {type(value).__name__}")
    try:
        return json.loads(json.dumps(dict(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(f"the value is no JSON: {error}") from error
