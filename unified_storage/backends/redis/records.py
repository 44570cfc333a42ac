"""Saving, loading, updating and deleting records, on what a transaction has read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unified_storage.arguments import check_version
from unified_storage.backends.redis.buffer import Buffer
from unified_storage.backends.redis.partitions import ABOVE, TIME_LENGTH, time_text
from unified_storage.backends.redis.rows import Key, Row, new_row
from unified_storage.backends.redis.store import Store
from unified_storage.errors import StorageValidationError
from unified_storage.interface import Record
from unified_storage.record import Draft, checked_record, is_system, later, updated_record
from unified_storage.times import moment

GROUPED_BY = {"session": "g:s", "thread": "g:t"}
"""The set that knows what is grouped under a record of these types."""


async def found(buffer: Buffer, id: str, kind: str | None, *, with_data: bool = False) -> Row | None:
    """The living record of an id; several types need a type."""
    if kind is not None:
        return await buffer.living((id, kind), with_data=with_data)
    return only_one(await buffer.rows_of(id, with_data=with_data))


def only_one(living: list[Row]) -> Row | None:
    """The record where no type is named; several raise ``StorageValidationError``."""
    if len(living) > 1:
        id = living[0].id
        raise StorageValidationError(
            f"several types share the id {id!r}: say which", details={"id": id, "types": [row.type for row in living]}
        )
    return living[0] if living else None


async def load(buffer: Buffer, id: str, kind: str | None) -> Record | None:
    row = await found(buffer, id, kind, with_data=True)
    return None if row is None else row.handed_out()


async def save(buffer: Buffer, draft: Draft, expected_version: int | None = None) -> str:
    stored = await _living_or_dropped(buffer, draft, expected_version)
    now = buffer.now()
    if stored is None:
        created = now if draft.created_at is None else draft.created_at
        buffer.put(new_row(draft, None, 1, created, now))
    else:
        updated = later(now, stored.updated_at)
        buffer.put(new_row(draft, stored, stored.version + 1, stored.created_at, updated))
    return draft.id


async def save_all(buffer: Buffer, drafts: Sequence[Draft]) -> list[str]:
    await buffer.prepare(draft.key for draft in drafts)
    return [await save(buffer, draft) for draft in drafts]


async def _living_or_dropped(buffer: Buffer, draft: Draft, expected_version: int | None = None) -> Row | None:
    """The living record of a draft's identity; one whose time is over goes, with its logs."""
    key = draft.key
    stored = await buffer.row(key)
    living = stored if stored is not None and stored.lives(buffer.now()) else None
    check_version(expected_version, living.version if living else 0, draft.id)
    if stored is not None and living is None:
        buffer.drop(key)
    return living


async def restore(buffer: Buffer, drafts: Iterable[Draft]) -> None:
    """Write records with their own times, over whatever is there."""
    for draft in drafts:
        stored = await _living_or_dropped(buffer, draft)
        created = buffer.now() if draft.created_at is None else draft.created_at
        updated = created if draft.updated_at is None else draft.updated_at
        buffer.put(new_row(draft, stored, stored.version + 1 if stored else 1, created, updated))


async def update(
    buffer: Buffer, id: str, updates: Mapping[str, Any], kind: str | None, expected_version: int | None
) -> bool:
    row = await found(buffer, id, kind, with_data=True)
    check_version(expected_version, row.version if row else 0, id)
    changed = updated_record(row.handed_out() if row else {}, updates)  # refuses what is wrong in any case
    if row is None:
        return False
    draft = checked_record(changed)
    buffer.put(new_row(draft, row, row.version + 1, row.created_at, later(buffer.now(), row.updated_at)))
    return True


async def delete(
    buffer: Buffer,
    id: str,
    kind: str | None,
    cascade: bool,
    expected_version: int | None,
    partitions: Iterable[int] | None = None,
) -> bool:
    """Remove a record.

    Args:
        partitions: from which a cascade takes along what is grouped under it; all of them without it.
    """
    row = await found(buffer, id, kind)
    check_version(expected_version, row.version if row else 0, id)
    if row is None:
        return False
    if expected_version is not None:
        buffer.heed_version(row.key)
    if cascade:
        everywhere = range(buffer.store.layout.partitions)
        for key in await grouped_under(buffer, row, everywhere if partitions is None else partitions):
            buffer.drop(key)
    buffer.drop(row.key)
    return True


async def delete_untouched(buffer: Buffer, listed: Record, partitions: Iterable[int] | None = None) -> bool:
    """Remove a record with what is grouped under it, unless it was changed or made anew since it was listed."""
    row = await untouched(buffer, listed)
    return row is not None and await delete(buffer, row.id, row.type, True, row.version, partitions)


async def untouched(buffer: Buffer, listed: Record) -> Row | None:
    """The record as it was listed, if it still is."""
    row = await buffer.living((listed["id"], listed["type"]))
    # One that was made anew has the version 1 again, but no old time.
    if row is None or (row.version, moment(row.updated_at)) != (listed["version"], listed["updated_at"]):
        return None
    return row


async def delete_all(buffer: Buffer, ids: Sequence[str], kind: str | None, cascade: bool) -> int:
    if kind is None:
        await buffer.prepare_ids(ids)
    else:
        await buffer.prepare((id, kind) for id in ids)
    return sum([await delete(buffer, id, kind, cascade, None) for id in ids])


async def grouped_under(buffer: Buffer, owner: Row, partitions: Iterable[int]) -> list[Key]:
    """The records that a cascade takes along, also those whose time is over; no system records."""
    if owner.type not in GROUPED_BY:
        return []
    by_partition = await stored_group(buffer.store, owner, partitions)
    stored = [key for keys in by_partition.values() for key in keys]
    await buffer.prepare(stored)
    column = "session_id" if owner.type == "session" else "thread_id"
    candidates = dict.fromkeys([*stored, *(key for key in buffer.written if not is_system(key[1]))])
    rows = [await buffer.row(key) for key in candidates if key != owner.key]
    return [row.key for row in rows if row is not None and getattr(row, column) == owner.id]


async def stored_group(store: Store, owner: Row, partitions: Iterable[int]) -> dict[int, list[Key]]:
    """What is stored under a session or thread, by partition; partitions that have nothing of it are left out."""
    before, asked = owner.id.encode() + b"\0", [*partitions]
    keys = [store.layout.key(partition, GROUPED_BY[owner.type]) for partition in asked]
    answers = await store.ask([("ZRANGE", key, b"[" + before, b"(" + before + ABOVE, "BYLEX") for key in keys])
    found: dict[int, list[Key]] = {}
    for partition, answer in zip(asked, answers, strict=True):
        for member in answer:
            id, _, kind = member[len(before) :].decode().partition("\0")
            if not is_system(kind):
                found.setdefault(partition, []).append((id, kind))
    return found


async def purge(buffer: Buffer, partitions: Iterable[int]) -> int:
    """Remove what has expired; how many went."""
    layout, last = buffer.store.layout, b"[" + time_text(buffer.now()).encode() + b"\xff"
    answers = await buffer.store.ask(
        [("ZRANGE", layout.key(partition, "exp"), "-", last, "BYLEX") for partition in partitions]
    )
    members = (member[TIME_LENGTH:].decode().partition(":") for answer in answers for member in answer)
    stored = [(id, kind) for kind, _, id in members]
    await buffer.prepare(stored)
    rows = [await buffer.row(key) for key in dict.fromkeys([*stored, *buffer.written])]
    expired = [row.key for row in rows if row is not None and not row.lives(buffer.now())]
    for key in expired:
        buffer.drop(key)
    return len(expired)
