"""The end of a migration: what was kept for it goes, but for the one record that says that it is over."""

from __future__ import annotations

from datetime import timedelta

from legacy.migration.live.batches import QUARANTINE_TYPE
from legacy.migration.live.evicting import is_known_dead
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.passes import CHECKPOINT_TYPE
from legacy.migration.live.phases import Phase
from legacy.migration.live.state import ITEM_TYPE, MEMBER_TYPE, SHADOW_TYPE, Migration, members_in, migration_in
from legacy.migration.live.throttle import SETTINGS_TYPE
from unified_storage.interface import IUnifiedStorage

_AT_A_TIME = 500


async def finish(
    storage: IUnifiedStorage,
    legacy: LegacySide,
    *,
    purge_legacy: bool = False,
    keep_tombstones: timedelta | None = None,
) -> dict[str, int]:
    """Remove what the migration kept in the target; ``{"items", "purged"}``, how many went.

    The record of the migration stays: a program that is started once more must not believe that there was none. So do
    those of programs that may be running, which would take themselves for sent away; they remove theirs when they end.

    Args:
        purge_legacy: delete every session of the legacy store too.
        keep_tombstones: leave those of deletions that are younger.
    Raises:
        GateRefusedError: not every program uses the target alone, and nothing was changed.
    """
    migration = await migration_in(storage)
    _check_over(migration)
    items = await _removed(storage, ITEM_TYPE, keep_tombstones)
    for type in (CHECKPOINT_TYPE, QUARANTINE_TYPE, SETTINGS_TYPE, SHADOW_TYPE):
        await _removed(storage, type, None)
    await _forget_ended(storage)
    purged = 0
    if purge_legacy:
        for id in await legacy.ids():
            await legacy.delete(id)
            purged += 1
    return {"items": items, "purged": purged}


def _check_over(migration: Migration) -> None:
    if migration.phase != Phase.UNIFIED_ONLY or not migration.settled:
        told = f"the phase is {migration.phase.name_shown}, and has to be unified_only, acknowledged by all, to finish"
        raise GateRefusedError(told, details={"phase": migration.phase.name_shown, "reasons": [told]})


async def _forget_ended(storage: IUnifiedStorage) -> None:
    gone = [one.member for one in await members_in(storage) if one.evicted is not None or is_known_dead(one)]
    if gone:
        await storage.batch_delete(gone, type=MEMBER_TYPE)


async def _removed(storage: IUnifiedStorage, type: str, keep_tombstones: timedelta | None) -> int:
    removed = 0
    youngest = None if keep_tombstones is None else storage.clock() - keep_tombstones
    async for batch in storage.stream_list({"type": type}, _AT_A_TIME):
        ids = [
            record["id"]
            for record in batch
            if youngest is None or not record["data"].get("tombstone") or record["updated_at"] < youngest
        ]
        if ids:
            removed += await storage.batch_delete(ids, type=type)
    return removed
