"""A pass: every session of both stores, batch by batch, brought to what L holds, without holding up a single write.

What is read from L is written where nothing has moved since: the item's ``seq`` is as it was before L was read, and no
write is under way. Whatever is being written is looked at again later.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from legacy.migration.live import steps
from legacy.migration.live.batches import EQUAL, UNKNOWN_TIME, Answer, Batch
from legacy.migration.live.failures import AbsenceUnclearError, GuardStoppedError, LegacyStoreError
from legacy.migration.live.intents import ATTEMPTS, is_abandoned
from legacy.migration.live.legacy_side import Document, LegacySide, confirmed
from legacy.migration.live.phases import Phase
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.roster import Roster
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.state import QUARANTINED, Item, Migration, items_in, migration_in, standing_in
from legacy.migration.live.unified_side import why_not_storable
from legacy.migration.live.writes import NOT_STORABLE
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage, Record

CHECKPOINT_TYPE = "_migration_checkpoint"
PASS_ID = "pass"
BATCH = 200
MAX_DELETED = 100
"""Deletions by one pass, beyond which it stops; and never more than a hundredth of what there is."""
_RETRY_SECONDS = 0.05
_FEW_SAMPLES, _MOST_SAMPLES = 2, 240
_LOOKS = 200
"""After so many, a session that the legacy store lists and does not hand out is quarantined."""

Looked = tuple[Item, Answer]
"""A session before L was asked, and what L said."""
OnBatch = Callable[["PassState"], None]
Pace = Callable[[int], Awaitable[None]]
"""Called after a batch with how many sessions it had; returns when the next may begin."""


@dataclass(frozen=True)
class Ledger:
    """What became of the sessions that a pass read.

    ``read = copied + equal + duplicate + conflict + tombstoned + quarantined``; ``retried`` counts looks at what was
    being written.
    """

    read: int = 0
    copied: int = 0
    equal: int = 0
    duplicate: int = 0
    conflict: int = 0
    tombstoned: int = 0
    quarantined: int = 0
    retried: int = 0

    @property
    def is_closed(self) -> bool:
        told = (self.copied, self.equal, self.duplicate, self.conflict, self.tombstoned, self.quarantined)
        return self.read == sum(told)

    def with_counted(self, outcomes: Sequence[str]) -> Ledger:
        counts = {name: getattr(self, name) + outcomes.count(name) for name in {*outcomes}}
        return replace(self, read=self.read + len(outcomes), **counts)


@dataclass(frozen=True)
class PassState:
    """How far a pass is; written in the step of the batch that it describes.

    Attributes:
        from_epoch: the epoch that was settled when it began.
        after: the record id behind which it goes on.
        total: sessions that there were to look at when it began.
        later: ids behind which it is, and which were being written.
        samples: how far it was and when, ``[seconds since 1970, done]``, oldest first, some hundred at most.
    """

    number: int = 0
    from_epoch: int = 0
    after: str = ""
    total: int = 0
    done: int = 0
    complete: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    later: tuple[str, ...] = ()
    samples: tuple[tuple[float, int], ...] = ()
    version: int = 0

    @classmethod
    def of(cls, record: Record | None) -> Self:
        if record is None:
            return cls()
        data = dict(record["data"])
        data["ledger"], data["later"] = Ledger(**data["ledger"]), tuple(data["later"])
        data["samples"] = tuple((moment, done) for moment, done in data["samples"])
        return cls(**data, version=record["version"])

    def record(self) -> Record:
        data = asdict(self)
        del data["version"]
        data["later"], data["samples"] = list(self.later), [list(sample) for sample in self.samples]
        return {"id": PASS_ID, "type": CHECKPOINT_TYPE, "data": data}

    def sampled(self, now: float) -> PassState:
        """With a sample of *now*, where the last one is over a second old; of many, every other one goes."""
        if self.samples and now - self.samples[-1][0] < 1.0:
            return self
        kept = self.samples if len(self.samples) < _MOST_SAMPLES else self.samples[::2]
        return replace(self, samples=(*kept, (now, self.done)))

    @property
    def rate(self) -> float | None:
        """Sessions a second, of late; None while nothing can be said."""
        if len(self.samples) < _FEW_SAMPLES:
            return None
        (first, before), (last, after) = self.samples[-min(len(self.samples), 30)], self.samples[-1]
        return (after - before) / (last - first) if last > first else None

    @property
    def seconds_left(self) -> float | None:
        """About how long it takes yet; None while nothing can be said."""
        rate = self.rate
        return None if not rate or self.complete else max(0.0, (self.total - self.done) / rate)

    def counts_for(self, migration: Migration) -> bool:
        """Whether it is complete, and began when everybody wrote both stores already."""
        return self.complete and self.from_epoch >= migration.pass_from


async def pass_in(storage: IUnifiedStorage) -> PassState:
    """The pass that is under way, or was the last."""
    return PassState.of(await storage.load(PASS_ID, type=CHECKPOINT_TYPE))


class PhaseLeftError(StorageError):
    """The phase is none any more in which L is copied to U."""

    code = "STORAGE_PHASE_LEFT_ERROR"


@dataclass(frozen=True)
class Guard:
    """What a pass may not do without being told so.

    Attributes:
        max_deleted, max_share: deletions, as a number or a share of the sessions; the smaller of a hundred and a
            hundredth unless one is given.
    """

    max_deleted: int | None = None
    max_share: float | None = None

    def most(self, known: int) -> int:
        """How many of *known* sessions may be deleted."""
        if self.max_deleted is not None:
            return self.max_deleted
        if self.max_share is not None:
            return int(known * self.max_share)
        return min(MAX_DELETED, max(1, known // 100))


DEFAULT_GUARD = Guard()


class Pass:
    """One pass over both stores; one that was killed goes on at its last batch.

    Args:
        recovery: ends what was abandoned on the way.
        pace: holds the next batch back.
    """

    def __init__(
        self,
        storage: IUnifiedStorage,
        legacy: LegacySide,
        recovery: Recovery,
        zone: Zone,
        rules: Rules = ALL,
        *,
        guard: Guard = DEFAULT_GUARD,
        batch: int = BATCH,
        pace: Pace | None = None,
    ) -> None:
        self._storage = storage
        self._legacy = legacy
        self._recovery = recovery
        self._zone = zone
        self._rules = rules
        self._guard = guard
        self._batch = batch
        self._pace = pace

    async def run(self, *, on_batch: OnBatch | None = None) -> PassState:
        """From where the last run stopped to the end; a new pass where that one was complete or is void.

        Args:
            on_batch: called after each batch.
        Raises:
            GuardStoppedError: it would delete too much, or L is suddenly empty.
            PhaseLeftError: L is not the primary any more.
        """
        roster = Roster()
        try:
            state = await self._begun()
            await roster.fill(self._storage, self._legacy, orphans=self._rules.orphans)
            await self._check_source(roster)
            state = await self._sized(state, roster.total + len(roster.refused))
            while ids := roster.behind(state.after, self._batch):
                state = await self._step(state, ids, after=ids[-1])
                if on_batch is not None:
                    on_batch(state)
            return await self._completed(await self._until_nothing_moves(state), refused=len(roster.refused))
        finally:
            roster.close()

    # beginning and ending

    async def _begun(self) -> PassState:
        migration = await migration_in(self._storage)
        self._check_phase(migration)
        if self._rules.pass_after_settled and not migration.settled:
            raise PhaseLeftError("not every member has acknowledged the phase; a pass would miss what they write")
        state = await pass_in(self._storage)
        if state.number and not state.complete and state.from_epoch >= migration.pass_from:
            return state
        fresh = PassState(state.number + 1, migration.epoch, version=state.version)
        return await self._saved(fresh)

    async def _sized(self, state: PassState, total: int) -> PassState:
        return await self._saved(replace(state, total=total))

    async def _completed(self, state: PassState, *, refused: int) -> PassState:
        """Complete it; the *refused* ids of L name no session that U could hold, and are to be looked at."""
        steps.at("pass:ends")
        ledger = state.ledger.with_counted([QUARANTINED] * refused)
        return await self._saved(replace(state, done=state.done + refused, ledger=ledger, complete=True))

    async def _saved(self, state: PassState) -> PassState:
        await self._storage.save(state.record(), expected_version=state.version)
        return replace(state, version=state.version + 1)

    async def _check_source(self, roster: Roster) -> None:
        if self._rules.mass_guard and not roster.in_legacy and roster.total > 1:
            told = f"the legacy store is empty, and the target has {roster.total} sessions of it: is it mounted?"
            raise GuardStoppedError(told, details={"sessions": roster.total})

    def _check_phase(self, migration: Migration) -> None:
        if migration.phase not in (Phase.DUAL_WRITE, Phase.SHADOW_READ):
            raise PhaseLeftError(f"no pass goes over the stores in phase {migration.phase.name_shown}")

    # batches

    async def _until_nothing_moves(self, state: PassState) -> PassState:
        for attempt in itertools.count(1):
            if not state.later:
                break
            await asyncio.sleep(_RETRY_SECONDS)
            for item in (await items_in(self._storage, state.later)).values():
                if is_abandoned(item.intent):
                    await self._recovery.end(item)
            retried = replace(state, ledger=replace(state.ledger, retried=state.ledger.retried + len(state.later)))
            is_last = attempt >= _LOOKS
            state = await self._step(replace(retried, later=()), [*state.later], after=state.after, is_last=is_last)
        return state

    async def _step(self, state: PassState, ids: Sequence[str], *, after: str, is_last: bool = False) -> PassState:
        before = await items_in(self._storage, ids)
        still = [item for item in before.values() if item.intent is None or self._rules.backfill != "checked"]
        steps.at("pass:items-read")
        wanted = [item.session_id for item in still]
        found = await confirmed(self._legacy, wanted, look_again=self._rules.confirm_absence)
        self._check_answers(found)
        steps.at("pass:legacy-read")
        answers = {item.id: (item, found[item.session_id]) for item in still}
        unclear = [] if is_last else [id for id, (_, told) in answers.items() if isinstance(told, AbsenceUnclearError)]
        looked: dict[str, Looked] = {id: told for id, told in answers.items() if id not in unclear}
        try:
            moved = await self._step_written(state, ids, looked, after)
        except NOT_STORABLE as error:
            looked = await asyncio.to_thread(self._without_unstorable, looked, error)
            moved = await self._step_written(state, ids, looked, after)
        steps.at("pass:batch-written")
        if self._pace is not None:
            await self._pace(len(ids))
        return moved

    async def _step_written(
        self, state: PassState, ids: Sequence[str], looked: Mapping[str, Looked], after: str
    ) -> PassState:
        return await self._storage.atomically(
            lambda tx: self._written(tx, state, ids, looked, after), attempts=ATTEMPTS
        )

    def _without_unstorable(self, looked: Mapping[str, Looked], error: StorageError) -> dict[str, Looked]:
        """*looked* where a document that the target refuses has its refusal in its place, or *error* if none has."""
        refusals = {
            id: (item, refusal)
            for id, (item, answer) in looked.items()
            if isinstance(answer, dict)
            and (refusal := why_not_storable(item.session_id, answer, self._zone, unknown_time=UNKNOWN_TIME))
        }
        if not refusals:
            raise error
        return {**looked, **refusals}

    def _check_answers(self, found: Mapping[str, Document | StorageError | None]) -> None:
        failures = [answer for answer in found.values() if type(answer) is LegacyStoreError]
        if failures and len(failures) == len(found):
            raise failures[0]  # it is the store that fails, not a session

    async def _written(
        self,
        tx: IUnifiedStorage,
        state: PassState,
        ids: Sequence[str],
        looked: Mapping[str, Looked],
        after: str,
    ) -> PassState:
        migration = (await standing_in(tx, "")).migration
        if self._rules.backfill_checks_phase:
            self._check_phase(migration)
        if state.from_epoch < migration.pass_from and self._rules.pass_after_settled:
            raise PhaseLeftError("the pass was made void while it ran; another one begins")
        now = await items_in(tx, ids)
        batch = Batch(self._zone, self._rules, migration)
        for id, (seen, answer) in looked.items():
            has_moved = now[id].intent is not None or now[id].seq != seen.seq
            if not has_moved or self._rules.backfill != "checked":
                batch.add(now[id], answer)
        # What everybody's rules have brought into both stores since needs no pass, however often it is written.
        written = [item.id for item in now.values() if item.state is None and item.synced_epoch >= migration.pass_from]
        outcomes = dict.fromkeys((id for id in written if id not in batch), EQUAL) | await batch.write(tx)
        ledger = state.ledger.with_counted([*outcomes.values()])
        self._check_guard(ledger, state.total)
        later = (*state.later, *(id for id in ids if id not in outcomes))
        moved = replace(state, after=after, done=state.done + len(outcomes), ledger=ledger, later=later)
        moved = moved.sampled(tx.clock().timestamp())
        await tx.save(moved.record(), expected_version=state.version)
        return replace(moved, version=state.version + 1)

    def _check_guard(self, ledger: Ledger, total: int) -> None:
        most = self._guard.most(total)
        if self._rules.mass_guard and ledger.tombstoned > most:
            told = f"the pass would delete more than {most} sessions in the target that the legacy store no longer has"
            raise GuardStoppedError(told, details={"deleted": ledger.tombstoned, "sessions": total})
