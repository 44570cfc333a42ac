"""Whether every member has acknowledged where the migration is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from legacy.migration.live.state import MemberState, Migration, members_in, migration_in, save_migration
from unified_storage.errors import StorageConflictError
from unified_storage.interface import IUnifiedStorage


def is_settled(migration: Migration, members: Sequence[MemberState]) -> bool:
    """Whether all members that take part have acknowledged the present epoch."""
    return all(member.acked_epoch == migration.epoch for member in members if member.evicted is None)


async def settle(storage: IUnifiedStorage) -> bool:
    """Write down that everybody has acknowledged, where that is so; whether it is."""
    migration = await migration_in(storage)
    if migration.settled:
        return True
    if not is_settled(migration, await members_in(storage)):
        return False
    try:
        await save_migration(storage, replace(migration, settled=True))
    except StorageConflictError:
        return False  # it has moved on, or somebody else has written it down: to be asked again
    return True
