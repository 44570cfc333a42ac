"""One program's membership: what phase it goes by, and that the others know.

A phase is followed in two steps: what begins from now on goes by the new one, and when all that began before has ended
the member says so. Nothing has to wait for that, in any program.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import threading
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from legacy.migration.live import steps
from legacy.migration.live.evicting import evict_dead
from legacy.migration.live.failures import EvictedError, GuardStoppedError
from legacy.migration.live.intents import ATTEMPTS
from legacy.migration.live.journal import Journal, journal_path
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import Rules
from legacy.migration.live.settling import settle
from legacy.migration.live.state import (
    MEMBER_TYPE,
    NOT_COMPARED,
    ODD,
    OPEN,
    Item,
    MemberState,
    Migration,
    add_shadow_reads,
    items_marked,
    standing_in,
)
from unified_storage.errors import StorageConfigurationError, StorageConflictError, StorageError
from unified_storage.interface import IUnifiedStorage
from unified_storage.processes import has_ended, this_process

log = logging.getLogger(__name__)

NEVER = -1
"""The acknowledged epoch of a member that does not serve yet."""


@dataclass(frozen=True)
class Followed:
    """What this member goes by."""

    epoch: int
    phase: Phase


class Ticket:
    """One call of a caller, from its begin to its end, by the phase it began in."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.begin()

    def begin(self) -> None:
        """Begin, or begin again, by what the member follows now."""
        self.followed = self._member.begun()

    def end(self) -> None:
        self._member.ended(self.followed)


class Member:
    """See the module.

    Args:
        name: of this program, unlike any other's; made up unless given.
        journal: the folder of journals; without one, nothing is written while U cannot be reached.
    """

    def __init__(self, storage: IUnifiedStorage, *, name: str | None, journal: Path | None, rules: Rules) -> None:
        self._storage = storage
        self._folder = journal
        self._rules = rules
        self._running: Counter[int] = Counter()
        self._guard = threading.Lock()
        self._followed: Followed | None = None
        self._stopped: StorageError | None = None
        self._seen_epoch = self._shadow_epoch = 0
        self._is_final = self._is_hurried = self._is_serving = False
        self.journal: Journal | None = None
        process = this_process()
        made_up = f"{platform.node()}-{process['pid']}-{uuid4().hex[:8]}"
        self.state = MemberState(name or made_up, uuid4().hex, process, NEVER)
        self.pid = os.getpid()

    # what calls ask

    @property
    def name(self) -> str:
        return self.state.member

    def me(self) -> MemberState:
        return self.state

    def begun(self) -> Followed:
        """A call begins; what it goes by."""
        with self._guard:
            assert self._followed is not None
            self._running[self._followed.epoch] += 1
            return self._followed

    def ended(self, followed: Followed) -> None:
        """A call that began by *followed* has ended."""
        with self._guard:
            self._running[followed.epoch] -= 1

    def check_serves(self) -> None:
        """Raise what stopped this member, if anything did: it may read a store that was left behind."""
        if self._stopped is not None:
            raise self._stopped

    @property
    def phase(self) -> Phase:
        """What this member goes by."""
        assert self._followed is not None
        return self._followed.phase

    @property
    def is_serving(self) -> bool:
        """Whether it has followed the migration once."""
        return self._is_serving

    @property
    def is_final(self) -> bool:
        """Whether everybody uses U alone, so that nothing about the migration has to be asked any more."""
        return self._is_final

    @property
    def is_hurried(self) -> bool:
        """Whether somebody waits for this member to follow."""
        return self._is_hurried

    # joining and leaving

    async def join(self) -> None:
        """Take part; it serves when it has followed the migration once, see :meth:`look`.

        Raises:
            StorageError: U cannot be asked, so that nobody knows which store is right.
            StorageConfigurationError: another living program has this name.
        """
        if not self._rules.restart_reads_phase:
            self._followed, self._is_serving = Followed(0, Phase.LEGACY_ONLY), True
            return
        await self._replace_dead()
        if self._folder is not None and self.journal is None:
            self.journal = await asyncio.to_thread(Journal.of, self._folder, self.name)
            self.tell(journal=str(self.journal.path), journal_empty=not self.journal.size)
        await self._storage.atomically(self._joined, attempts=ATTEMPTS)
        steps.at("member:joined")

    async def _replace_dead(self) -> None:
        """Where a program of this name has ended: what it may have left in a journal elsewhere makes the pass void."""
        found = (await standing_in(self._storage, self.name)).member
        if found is None or not has_ended(found.process):
            return
        own = None if self._folder is None else journal_path(self._folder, self.name)
        adopted = own is not None and str(own) == found.journal and await asyncio.to_thread(own.is_file)
        await evict_dead(self._storage, replace(found, journal_drained=True) if adopted else found, rules=self._rules)

    async def _joined(self, tx: IUnifiedStorage) -> None:
        found = (await standing_in(tx, self.name)).member
        if found is not None and found.evicted is None and not has_ended(found.process):
            raise StorageConfigurationError(f"a member {self.name!r} is there already; name this one otherwise")
        await tx.save(self.state.record(), expected_version=0 if found is None else found.version)

    async def leave(self) -> None:
        """Say that this program is gone. One that still has something to tell stays, until that is recovered."""
        if self._followed is not None and self._stopped is None and not self._has_more_to_tell():
            await self._storage.atomically(self._deregistered, attempts=ATTEMPTS)
        if self.journal is not None:
            self.journal.close(remove=self.state.journal_empty)

    async def _deregistered(self, tx: IUnifiedStorage) -> None:
        if await tx.delete(self.name, type=MEMBER_TYPE) and self.state.shadow["compared"]:
            await add_shadow_reads(tx, self.state.shadow)

    def _has_more_to_tell(self) -> bool:
        return bool(self.state.open_writes) or not self.state.journal_empty

    # following

    async def look(self) -> bool:
        """Ask where the migration is, follow it, and say what is to be said; whether all is followed.

        Raises:
            StorageError: U cannot be asked.
        """
        standing = await standing_in(self._storage, self.name)
        self._check(standing.member, standing.migration)
        if standing.member is None or self._stopped is not None:
            return False
        steps.at("member:looked")
        migration = standing.migration
        if self._followed is None or self._followed.epoch != migration.epoch:
            await self._follow(migration)
        await self._say(standing.member)
        is_followed = self._followed is not None and self.state.acked_epoch == migration.epoch
        if is_followed and not migration.settled and migration.epoch:
            await settle(self._storage)
        self._is_serving = self._is_serving or is_followed
        self._is_hurried = migration.hurried or not is_followed
        self._is_final = is_followed and migration.phase == Phase.UNIFIED_ONLY and migration.settled
        return is_followed

    def _check(self, found: MemberState | None, migration: Migration) -> None:
        if found is None or found.incarnation != self.state.incarnation or found.evicted is not None:
            message = "this program was sent away from the migration and may not write; start it again"
            self._stop(EvictedError(message, details={"member": self.name}))
        elif found.beat < self.state.beat or migration.epoch < self._seen_epoch:
            message = "the target tells less than it knew before: it was set back, and nothing is written there"
            self._stop(GuardStoppedError(message, details={"member": self.name}))
        self._shadow_epoch = migration.shadow_epoch
        self._seen_epoch = max(self._seen_epoch, migration.epoch)

    def _stop(self, error: StorageError) -> None:
        if self._stopped is None:
            log.error("migration: %s", error.message, extra={"member": self.name})
        self._stopped = error

    async def _follow(self, migration: Migration) -> None:
        """Let what begins from now on go by the phase of *migration*, where that may be."""
        before = self._followed
        if self._rules.acknowledge_resolved and not await self._may_follow(before, migration.phase):
            return
        with self._guard:
            self._followed = Followed(migration.epoch, migration.phase)
        steps.at("member:followed")

    async def _may_follow(self, before: Followed | None, phase: Phase) -> bool:
        if before is not None and before.phase.has_primary_of(phase):
            return True
        return not await foreign_writes(self._storage, phase)

    async def _say(self, found: MemberState) -> None:
        """Acknowledge what is followed to the last, and give a sign of life."""
        said = replace(self.state, beat=self.state.beat + 1, version=found.version)
        if self._followed is not None and self._is_done_with_older(self._followed):
            said = replace(said, acked_epoch=self._followed.epoch, acked_phase=int(self._followed.phase))
        try:
            await self._storage.save(said.record(), expected_version=found.version)
        except StorageConflictError:
            return  # somebody changed it: the next look sees what
        # what was told meanwhile stays: it is said with the next sign of life
        self.tell(beat=said.beat, acked_epoch=said.acked_epoch, acked_phase=said.acked_phase, version=said.version)
        if said.acked_epoch != found.acked_epoch:
            steps.at("member:acknowledged")

    def _is_done_with_older(self, followed: Followed) -> bool:
        with self._guard:
            if any(count for epoch, count in self._running.items() if epoch != followed.epoch):
                return False
        needs_empty = self._rules.acknowledge_drained and followed.phase >= Phase.SHADOW_READ
        return not needs_empty or (self.state.journal_empty and not (self.journal and self.journal.size))

    # what others tell it

    def count_shadow_read(self, *, is_equal: bool) -> None:
        """A read was compared with U."""
        counted = self.state.shadow if self.state.shadow["epoch"] == self._shadow_epoch else NOT_COMPARED
        different = counted["different"] + (not is_equal)
        self.tell(shadow={"epoch": self._shadow_epoch, "compared": counted["compared"] + 1, "different": different})

    def tell(self, **facts: object) -> None:
        """Facts of :class:`MemberState` to be said with the next sign of life."""
        self.state = replace(self.state, **facts)  # type: ignore[arg-type]  # names of its fields


async def foreign_writes(storage: IUnifiedStorage, phase: Phase) -> list[Item]:
    """The sessions whose write was begun, or taken from its owner, in a phase that believed the other store.

    None begins any more once the phase has changed. One that failed half way looks like one under way as long as its
    owner could not say so, and somebody may have seen what it wrote: who then read the other store would un-see it.
    """
    marked = await items_marked(storage, OPEN, ODD)
    return [item for item in marked if _is_foreign(item, phase)]


def _is_foreign(item: Item, phase: Phase) -> bool:
    phases = [item.suspect, None if item.intent is None else item.intent.phase]
    return any(one is not None and not one.has_primary_of(phase) for one in phases)
