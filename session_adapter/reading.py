"""Reading sessions whole: records and histories are two reads, which must belong together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from session_adapter.documents import exported, trace_of
from session_adapter.entries import history_of
from session_adapter.identity import SESSION, SessionId, no_session, record_id
from session_adapter.metadata import own_fields
from session_adapter.trace import Trace
from unified_storage.filters import Condition
from unified_storage.interface import Entries, IUnifiedStorage, Record, Records
from unified_storage.paths import COLUMNS

BATCH = 100
"""Records whose histories are read in one go."""

_TRIES = 3
ATTEMPTS = 100
"""How often a step is tried again when others change the same session at the same time."""


async def session_record(storage: IUnifiedStorage, stored_id: str) -> Record | None:
    """The record of a session; None when there is none, though another type may have its id."""
    return await storage.load(stored_id, type=SESSION)


async def required_head(storage: IUnifiedStorage, session: SessionId) -> Record:
    """The record of *session* without its data, or ``SessionNotFoundError``."""
    heads = await session_records(storage, [record_id(session)], with_data=False)
    if not heads:
        raise no_session(session)
    return heads[0]


async def session_records(storage: IUnifiedStorage, stored_ids: list[str], *, with_data: bool = True) -> Records:
    """The records of those sessions that are there, by id, one query for :data:`BATCH` of them."""
    found: Records = []
    for start in range(0, len(stored_ids), BATCH):
        named = {"type": SESSION, "id": {"$in": stored_ids[start : start + BATCH]}}
        found += await storage.list(named, with_data=with_data)
    return found


async def matching(storage: IUnifiedStorage, condition: Condition, limit: int | None) -> Records:
    """The records that match, the one changed last first, ties by id.

    Args:
        limit: how many at most; None for all.
    """
    if limit is not None:
        return (await storage.page(condition, limit=limit, order_by="-updated_at")).items
    by_id = await storage.list(condition)
    return sorted(by_id, key=lambda record: record["updated_at"], reverse=True)


async def whole(storage: IUnifiedStorage, records: Records) -> list[tuple[Record, dict[str, Any]]]:
    """Each record with its document put together, in the order given.

    A record that changed while its history was read is read again; one that was deleted meanwhile is left out.
    """
    found = {record["id"]: (record, exported(record, [])) for record in records if trace_of(record) is None}
    split = [record for record in records if record["id"] not in found]
    async for record, entries in with_histories(storage, split):
        found[record["id"]] = (record, exported(record, entries))
    return [found[record["id"]] for record in records if record["id"] in found]


async def with_histories(storage: IUnifiedStorage, records: Records) -> AsyncIterator[tuple[Record, Entries]]:
    """Each record with the entries of its history, which belong together, in any order.

    A record that changed while its history was read is read again; one that was deleted meanwhile is left out.
    """
    for start in range(0, len(records), BATCH):
        for settled in await _settled(storage, records[start : start + BATCH]):
            yield settled


async def _settled(storage: IUnifiedStorage, records: Records) -> list[tuple[Record, Entries]]:
    found: list[tuple[Record, Entries]] = []
    for _ in range(_TRIES):
        settled, moved = await _settle(storage, records)
        found += settled
        if not moved:
            return found
        records = await session_records(storage, moved)

    async def undisturbed(tx: IUnifiedStorage) -> list[tuple[Record, Entries]]:
        return (await _settle(tx, await session_records(tx, moved)))[0]

    return found + await storage.atomically(undisturbed, attempts=ATTEMPTS)


async def _settle(storage: IUnifiedStorage, records: Records) -> tuple[list[tuple[Record, Entries]], list[str]]:
    """The records that did not change while their histories were read, with these; the ids of what did."""
    stored_ids = [record["id"] for record in records]
    logs = await storage.read_many([history_of(stored_id) for stored_id in stored_ids])
    # An append moves its owner, so what still stands as it was belongs to the history just read. The version alone
    # would not tell: a session that was deleted and made again begins to count anew.
    heads = await _heads(storage, stored_ids)
    stands = {head["id"]: _state(head) for head in heads}
    settled, moved = [], []
    for record in records:
        stored_id = record["id"]
        if stands.get(stored_id) == _state(record):
            settled.append((record, logs[history_of(stored_id)]))
        elif stored_id in stands:
            moved.append(stored_id)
    return settled, moved


async def _heads(storage: IUnifiedStorage, stored_ids: list[str]) -> Records:
    if len(stored_ids) > 1:
        return await session_records(storage, stored_ids, with_data=False)
    found = [await session_record(storage, stored_id) for stored_id in stored_ids]  # one is loaded at less cost
    return [record for record in found if record is not None]


def _state(head: Record) -> tuple[Any, ...]:
    # The list's own trace too: within one tick of a coarse clock a session can be made anew with the same times.
    return *(head[name] for name in COLUMNS), Trace.kept(own_fields(head).get("history"))
