"""``migrate run``: the one process that copies, recovers and looks after the members, beside the programs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from legacy.migration.lease import AnotherRunError
from legacy.migration.live.evicting import dead_members, evict_dead
from legacy.migration.live.failures import GuardStoppedError
from legacy.migration.live.intents import ATTEMPTS, is_abandoned
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.member import Member
from legacy.migration.live.passes import DEFAULT_GUARD, Guard, Pass, PassState, PhaseLeftError, pass_in
from legacy.migration.live.phases import Phase
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.state import ODD, OPEN, Migration, items_marked, members_in, migration_in, save_migration
from legacy.migration.live.throttle import Throttle, tell_reason
from legacy.session_files import replace_file
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageConfigurationError, StorageError
from unified_storage.interface import IUnifiedStorage

log = logging.getLogger(__name__)

NAME = "runner"
"""Of the member that the runner is; so there is one at a time."""
_LOOK_EVERY = 0.2


@dataclass(frozen=True)
class Seen:
    """What a runner knew last, in a file of its own: less in the target means that this was set back."""

    epoch: int = 0
    pass_number: int = 0
    beat: int = 0

    @classmethod
    def in_file(cls, file: Path) -> Seen:
        with suppress(FileNotFoundError):
            return cls(**json.loads(file.read_bytes()))
        return cls()

    def keep(self, file: Path) -> None:
        replace_file(
            file, json.dumps({"epoch": self.epoch, "pass_number": self.pass_number, "beat": self.beat}).encode()
        )


@dataclass(frozen=True)
class Progress:
    """How far a run is, for whoever shows it.

    Attributes:
        done, total: of the pass.
        reason: why nothing is copied at this moment; None while it is, or while there is nothing to copy.
    """

    migration: Migration
    state: PassState
    reason: str | None

    @property
    def phase(self) -> str:
        return "copy"

    @property
    def done(self) -> int:
        return self.state.done

    @property
    def total(self) -> int:
        return self.state.total


OnProgress = Callable[[Progress], None]


async def begin(storage: IUnifiedStorage, *, plan_hash: str, source: str) -> Migration:
    """Write the record of the migration where there is none yet: phase legacy_only.

    Raises:
        StorageConfigurationError: another plan is carried out there.
    """

    async def step(tx: IUnifiedStorage) -> Migration:
        found = await migration_in(tx)
        if not found.epoch:
            begun_at = tx.clock().isoformat()
            found = Migration(epoch=1, plan_hash=plan_hash, source=source, begun_at=begun_at)
            await save_migration(tx, found)
        elif found.plan_hash != plan_hash:
            raise StorageConfigurationError("the target is in the middle of another plan's migration; use that plan")
        return found

    return await storage.atomically(step, attempts=ATTEMPTS)


class Runner:
    """One run. Killed, it goes on where it was when it is run again.

    Args:
        seen_file: where it keeps what it knew last; None keeps nothing.
        once: end when a pass that counts is complete and nothing is left to be ended.
    Raises:
        AnotherRunError: (run) another one holds the migration.
        GuardStoppedError: (run) something looks too wrong to go on.
    """

    def __init__(
        self,
        storage: IUnifiedStorage,
        legacy: LegacySide,
        zone: Zone,
        *,
        throttle: Throttle | None = None,
        guard: Guard = DEFAULT_GUARD,
        seen_file: Path | None = None,
        once: bool = False,
        on_progress: OnProgress | None = None,
        rules: Rules = ALL,
    ) -> None:
        self._storage = storage
        self._throttle = throttle or Throttle(storage)
        self._seen_file = seen_file
        self._seen = Seen() if seen_file is None else Seen.in_file(seen_file)
        self._once = once
        self._told_reason: str | None = None
        self._on_progress = on_progress or (lambda _: None)
        self._rules = rules
        self._member = Member(storage, name=NAME, journal=None, rules=rules)
        self._recovery = Recovery(storage, legacy, zone, self._member.me, rules)
        self._pass = Pass(storage, legacy, self._recovery, zone, rules, guard=guard, pace=self._throttle)

    async def run(self) -> PassState:
        """Look after the migration until it is over (``once``: until there is nothing to do); the last pass."""
        await self._take_part()
        copying = asyncio.create_task(self._copy())
        try:
            while not await self._is_over(copying):
                await self._look_after()
                await asyncio.sleep(_LOOK_EVERY)
            return await pass_in(self._storage)
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
            with suppress(StorageError):
                await self._member.leave()

    async def _take_part(self) -> None:
        self._check_seen(await migration_in(self._storage), await pass_in(self._storage))
        try:
            await self._member.join()
        except StorageConfigurationError as error:
            raise AnotherRunError("another run looks after this migration; one is enough") from error
        while not self._member.is_serving:
            await self._end_abandoned()
            await self._member.look()
            self._member.check_serves()
            await asyncio.sleep(0.01)

    async def _is_over(self, copying: asyncio.Task[None]) -> bool:
        if copying.done() and not copying.cancelled() and (error := copying.exception()) is not None:
            raise error
        if self._member.is_final:
            return True
        if not self._once:
            return False
        migration = await migration_in(self._storage)
        counts = migration.phase not in (Phase.DUAL_WRITE, Phase.SHADOW_READ) or (
            await pass_in(self._storage)
        ).counts_for(migration)
        return migration.settled and counts and not await self._abandoned()

    # looking after

    async def _look_after(self) -> None:
        await self._member.look()
        self._member.check_serves()
        for dead in await dead_members(self._storage):
            void = await evict_dead(self._storage, dead, rules=self._rules)
            log.warning("migration: a member has ended", extra={"member": dead.member, "pass_void": void})
        await self._end_abandoned()
        await self._clear_suspects()
        await self._tell_reason()
        await self._keep_seen()

    async def _tell_reason(self) -> None:
        if self._throttle.reason != self._told_reason:
            await tell_reason(self._storage, self._throttle.reason)
            self._told_reason = self._throttle.reason

    async def _abandoned(self) -> bool:
        return any(is_abandoned(item.intent) for item in await items_marked(self._storage, OPEN))

    async def _end_abandoned(self) -> None:
        for item in await items_marked(self._storage, OPEN):
            if is_abandoned(item.intent):
                await self._recovery.end(item)

    async def _clear_suspects(self) -> None:
        suspects = [item for item in await items_marked(self._storage, ODD) if item.suspect is not None]
        present = {member.member for member in await members_in(self._storage)} if suspects else set()
        for item in suspects:
            if item.suspected not in present:
                await self._recovery.recheck(item)

    # copying

    async def _copy(self) -> None:
        while True:
            migration = await migration_in(self._storage)
            state = await pass_in(self._storage)
            self._tell(migration, state)
            is_time = migration.phase in (Phase.DUAL_WRITE, Phase.SHADOW_READ) and migration.settled
            if is_time and not state.counts_for(migration):
                with suppress(PhaseLeftError):
                    await self._pass.run(on_batch=partial(self._tell, migration))
            await asyncio.sleep(_LOOK_EVERY)

    def _tell(self, migration: Migration, state: PassState) -> None:
        self._on_progress(Progress(migration, state, self._throttle.reason))

    # the target set back

    def _check_seen(self, migration: Migration, state: PassState) -> None:
        if migration.epoch < self._seen.epoch or state.number < self._seen.pass_number:
            told = "the target knows less than the last run did: it was set back, or this is another one"
            raise GuardStoppedError(told, details={"epoch": migration.epoch, "seen": self._seen.epoch})

    async def _keep_seen(self) -> None:
        migration, state = await migration_in(self._storage), await pass_in(self._storage)
        self._check_seen(migration, state)
        seen = Seen(migration.epoch, state.number, self._member.state.beat)
        if self._seen_file is not None and (seen.epoch, seen.pass_number) != (self._seen.epoch, self._seen.pass_number):
            await asyncio.to_thread(seen.keep, self._seen_file)
        self._seen = seen
