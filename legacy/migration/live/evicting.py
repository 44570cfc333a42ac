"""Sending members away: those that are known to have ended, and those of which an operator says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from legacy.migration.live import steps
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.intents import ATTEMPTS, is_abandoned
from legacy.migration.live.journal import Journal
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.state import (
    MEMBER_TYPE,
    OPEN,
    MemberState,
    Migration,
    items_marked,
    members_in,
    migration_in,
    save_item,
    save_migration,
)
from unified_storage.errors import StorageNotFoundError
from unified_storage.interface import IUnifiedStorage
from unified_storage.processes import has_ended

UNPROVEN = "unproven"


async def member_named(storage: IUnifiedStorage, name: str) -> MemberState:
    """The member of this name, or ``StorageNotFoundError``."""
    found = await storage.load(name, type=MEMBER_TYPE)
    if found is None:
        raise StorageNotFoundError(f"no member {name!r}: migrate status --members lists them", details={"member": name})
    return MemberState.of(found)


def is_known_dead(member: MemberState) -> bool:
    """Whether the member's process is known to have ended: it ran on this machine, and does no more."""
    return has_ended(member.process)


async def dead_members(storage: IUnifiedStorage) -> list[MemberState]:
    """The members whose processes are known to have ended: they ran on this machine, and do no more."""
    return [one for one in await members_in(storage) if has_ended(one.process)]


async def evict_dead(storage: IUnifiedStorage, member: MemberState, *, rules: Rules = ALL) -> bool:
    """Send away *member*, which has ended; whether the pass has to be made anew.

    Its unfinished writes are abandoned with it. What its journal may still tell makes the pass void, unless it is known
    to tell nothing: it could not begin one, has none, or somebody has drained it.
    """
    is_told = await _has_told_all(member)
    steps.at("evict:journal-seen")

    async def step(tx: IUnifiedStorage) -> bool:
        found = await tx.load(member.member, type=MEMBER_TYPE)
        if found is None or MemberState.of(found).incarnation != member.incarnation:
            return False
        # its writes are let go here, for those who cannot see that its process has ended
        for item in await items_marked(tx, OPEN):
            if item.intent is not None and item.intent.process == member.process:
                await save_item(tx, item.stepped(intent=replace(item.intent, is_open=True)))
        await tx.delete(member.member, type=MEMBER_TYPE)
        migration = await migration_in(tx)
        if is_told or _asks_before_it_writes(member, migration) or not rules.evict_voids_pass:
            return False
        await _void_pass(tx, migration)
        return True

    return await storage.atomically(step, attempts=ATTEMPTS)


async def evict_unproven(storage: IUnifiedStorage, name: str) -> None:
    """Send away a member that may be alive, on an operator's word.

    Nothing that was acknowledged is lost by it. What the member was writing may be seen and not be seen any more; such
    sessions are suspect, and phases that would leave a store it still reads are refused, until it has ended.

    Raises:
        GateRefusedError: it may write the legacy store without asking, as every member may until it has acknowledged
            ``shadow_read``, and again after a way back to ``dual_write``.
        StorageNotFoundError: there is no such member.
    """

    async def step(tx: IUnifiedStorage) -> None:
        member = await member_named(tx, name)
        migration = await migration_in(tx)
        if not _asks_before_it_writes(member, migration):
            told = f"{name!r} may be writing the legacy store alone, which nobody could see: end its process first"
            raise GateRefusedError(told, details={"member": name, "reasons": [told]})
        for item in await items_marked(tx, OPEN):
            if item.intent is not None and item.intent.process == member.process and not is_abandoned(item.intent):
                intent = replace(item.intent, is_open=True)
                await save_item(tx, item.stepped(intent=intent, suspect=intent.phase, suspected=name))
        await tx.save(replace(member, evicted=UNPROVEN).record(), expected_version=member.version)
        await save_migration(tx, migration)  # so that no change of phase is decided beside this

    await storage.atomically(step, attempts=ATTEMPTS)


async def _void_pass(tx: IUnifiedStorage, migration: Migration) -> None:
    moved = migration.moved(migration.phase)
    await save_migration(tx, replace(moved, pass_from=moved.epoch))


def _asks_before_it_writes(member: MemberState, migration: Migration) -> bool:
    """Whether it can have written nothing in L alone; on the way back it may go by phase 1 and not have said so yet."""
    return min(member.acked_phase, migration.phase) >= Phase.SHADOW_READ


async def _has_told_all(member: MemberState) -> bool:
    if member.journal is None or member.journal_drained:
        return True
    return await asyncio.to_thread(_is_empty, Path(member.journal))


def _is_empty(path: Path) -> bool:
    """Whether the journal at *path* lies on this machine, and has nothing in it."""
    if not path.is_file():
        return False
    found = Journal.taken(path)
    if found is None:
        return False
    empty = not found.size
    found.close(remove=empty)
    return empty
