"""Changing the phase, in one step that looks at all that speaks against it: a refusal changes nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

from legacy.migration.live import steps
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.gates import reasons_against
from legacy.migration.live.intents import ATTEMPTS
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.settling import settle
from legacy.migration.live.state import Migration, migration_in, save_migration
from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage

PROBE_ID = "unified-storage-migration-probe"
_LOOK_EVERY = 0.02


async def probe(legacy: LegacySide) -> list[str]:
    """Why L cannot be migrated from, after a session was written there, read and deleted; empty when it can."""
    told = {"metadata": {"session_id": PROBE_ID, "token": uuid4().hex}}
    try:
        await legacy.save(PROBE_ID, told)
        read = await legacy.get(PROBE_ID)
        await legacy.delete(PROBE_ID)
        left = await legacy.exists(PROBE_ID)
    except StorageError as error:
        return [f"the legacy store failed when it was tried: {error.message}"]
    if left:
        return ["the legacy store does not delete: a session written to try it is still there"]
    same = isinstance(read, dict) and read.get("metadata") == told["metadata"]
    return [] if same else ["the legacy store does not hand out what was just saved there"]


async def switch(storage: IUnifiedStorage, to: Phase, *, shadow_reads: int = 0, rules: Rules = ALL) -> Migration:
    """Make *to* the phase.

    Raises:
        GateRefusedError: nothing was changed; its ``details["reasons"]`` are those of :func:`reasons_against`.
    """

    async def step(tx: IUnifiedStorage) -> Migration:
        migration = await migration_in(tx)
        reasons = await reasons_against(tx, migration, to, shadow_reads=shadow_reads, rules=rules)
        if reasons:
            raise refused(migration.phase, to, reasons)
        moved = migration.moved(to)
        if to == Phase.DUAL_WRITE and migration.phase == Phase.LEGACY_ONLY:
            moved = replace(moved, dual_epoch=moved.epoch, pass_from=moved.epoch)
        if to == Phase.SHADOW_READ and migration.phase == Phase.DUAL_WRITE:
            moved = replace(moved, shadow_epoch=moved.epoch)
        await save_migration(tx, moved)
        steps.at("switch:decided")
        return moved

    moved = await storage.atomically(step, attempts=ATTEMPTS)
    steps.at("switch:done")
    return moved


def refused(phase: Phase, to: Phase, reasons: list[str]) -> GateRefusedError:
    told = f"from {phase.name_shown} to {to.name_shown} is refused: {'; '.join(reasons)}"
    return GateRefusedError(told, details={"phase": phase.name_shown, "to": to.name_shown, "reasons": reasons})


async def settled(storage: IUnifiedStorage, *, timeout: float | None = None) -> bool:
    """Wait until every member has acknowledged the present epoch; False when time is up before."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        if await settle(storage):
            return True
        if end is not None and time.monotonic() >= end:
            return False
        await asyncio.sleep(_LOOK_EVERY)


async def switch_frozen(
    storage: IUnifiedStorage, to: Phase, *, seconds: float, shadow_reads: int = 0, rules: Rules = ALL
) -> Migration:
    """Make *to* the phase while no write is under way: every program sees the same from one moment to the next.

    Everybody is made to look often first, then writes are held back until all have followed, *seconds* at most.

    Raises:
        GateRefusedError: also where not everybody followed in time; the phase may have changed then, as the error says.
    """
    reasons = await reasons_against(storage, await migration_in(storage), to, shadow_reads=shadow_reads, rules=rules)
    if reasons:
        raise refused((await migration_in(storage)).phase, to, reasons)
    await _changed(storage, hurried=True)
    try:
        await _followed(storage, seconds + 60, to)
        await _changed(storage, hurried=True, frozen={"token": uuid4().hex, "seconds": seconds})
        end = time.monotonic() + seconds
        await _followed(storage, seconds, to)
        moved = await switch(storage, to, shadow_reads=shadow_reads, rules=rules)
        await _followed(storage, end - time.monotonic(), to)
        return moved
    finally:
        await _thawed(storage)


async def _changed(storage: IUnifiedStorage, **changes: object) -> None:
    async def step(tx: IUnifiedStorage) -> None:
        migration = await migration_in(tx)
        await save_migration(tx, migration.moved(migration.phase, **changes))

    await storage.atomically(step, attempts=ATTEMPTS)


async def _followed(storage: IUnifiedStorage, seconds: float, to: Phase) -> None:
    if not await settled(storage, timeout=max(0.0, seconds)):
        phase = (await migration_in(storage)).phase
        told = "the phase has changed all the same" if phase == to else "the phase is what it was"
        raise refused(phase, to, [f"not everybody followed in time; {told}"])


async def _thawed(storage: IUnifiedStorage) -> None:
    async def step(tx: IUnifiedStorage) -> None:
        migration = await migration_in(tx)
        await save_migration(tx, replace(migration, frozen=None, hurried=False))

    await storage.atomically(step, attempts=ATTEMPTS)
