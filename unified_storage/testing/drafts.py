"""Short ways to write records and to read streams, for tests of storages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import Any, TypeVar

from unified_storage.interface import IUnifiedStorage

T = TypeVar("T")
Record = dict[str, Any]


def note(id: str = "a", data: Mapping[str, Any] | None = None, **fields: Any) -> Record:
    """A record of type ``note`` as ``save`` takes it."""
    return {"id": id, "type": "note", "data": dict(data or {}), **fields}


def session(id: str = "s", data: Mapping[str, Any] | None = None, **fields: Any) -> Record:
    """A record of type ``session`` as ``save`` takes it."""
    return {"id": id, "type": "session", "data": dict(data or {}), **fields}


def body(value: Any, key: str | None = None, **fields: Any) -> Record:
    """An entry as ``append`` takes it."""
    return {"body": value, **({} if key is None else {"key": key}), **fields}


async def stored(storage: IUnifiedStorage, id: str, type: str | None = None) -> Record:
    """The record, which has to be there."""
    record = await storage.load(id, type=type)
    assert record is not None, f"no record {id!r}"
    return record


async def save_all(storage: IUnifiedStorage, records: Iterable[Mapping[str, Any]]) -> None:
    """Save each record by itself."""
    for record in records:
        await storage.save(record)


async def gathered(stream: AsyncIterator[list[T]]) -> list[T]:
    """All items of a stream of batches."""
    return [item async for batch in stream for item in batch]


def ids(records: Iterable[Record]) -> list[str]:
    """The ids of records, in their order."""
    return [record["id"] for record in records]


def keys(records: Iterable[Record]) -> list[tuple[str, str]]:
    """The ``(id, type)`` of records, in their order."""
    return [(record["id"], record["type"]) for record in records]


async def bodies(storage: IUnifiedStorage, log_id: str) -> list[Any]:
    """What a log holds, oldest first."""
    return [entry["body"] for entry in await storage.read(log_id)]


async def together(*calls: Awaitable[T]) -> list[T]:
    """The results of calls that run at the same time; the first error of any is raised."""
    return list(await asyncio.gather(*calls))


async def failures(*calls: Awaitable[object]) -> list[BaseException]:
    """The errors of calls that run at the same time."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
