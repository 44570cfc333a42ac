"""Keeping a copy in step with a source that its own framework goes on writing: pass after pass, one way.

The source takes no part in it, so the promise is a weak one: the copy equals the source as the last quiet pass saw it.
A pass looks at the marks of everything, and reads what they say has changed. What goes wrong with the source in one
pass is told and tried again in the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from legacy.migration.copy import OnProgress, Pace, Progress, check_switches, in_steps, unheard
from legacy.migration.exit_codes import INTERRUPTED
from legacy.migration.guard import MassChangeError, check_mass_change
from legacy.migration.into_storage import IntoStorage
from legacy.migration.known import MISMATCH, YOUNG, Known
from legacy.migration.lease import AnotherRunError, Lease
from legacy.migration.memos import Memos
from legacy.migration.report import CopyReport
from legacy.stores.legacy_files import LOCAL
from legacy.stores.marks import MarkedSource, state_of_place
from legacy.stores.opening import open_source
from legacy.stores.parcels import CONFLICT, COPIED, IGNORED, QUARANTINED, Item, Parcel, RecordKey
from legacy.stores.peers.source import check_zone
from legacy.stores.places import ARCHIVE, LEGACY, STORAGE, Place, place_of
from unified_storage.errors import (
    StorageConfigurationError,
    StorageError,
    StorageUnsupportedError,
    StorageValidationError,
    redacted,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage

log = logging.getLogger(__name__)

PROMISE = "equal at the last quiet pass"
Read = tuple[RecordKey, Parcel | Item]


@dataclass(slots=True)
class Pass:
    """One look at the whole source.

    Attributes:
        records: how many the source had, states included.
        read: how many of them were read whole.
        copied, conflict, quarantined: what became of those that had changed.
        deleted: in the target, since the source has them no more.
        vanished: how many more the target has of those.
        seconds: how long it took.
        behind: seconds that a change may have waited for this pass to be done; None for the first one.
        is_whole: it came to its end.
        error: why it did not: the next pass tries again.
    """

    number: int
    records: int = 0
    read: int = 0
    copied: int = 0
    conflict: int = 0
    quarantined: int = 0
    deleted: int = 0
    vanished: int = 0
    seconds: float = 0.0
    behind: float | None = None
    is_whole: bool = False
    error: str | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether it saw that the copy equals the source, but for conflicts and what cannot be read."""
        return self.is_whole and not (self.copied or self.deleted)

    def to_dict(self) -> dict[str, Any]:
        facts = asdict(self) | {"is_quiet": self.is_quiet, "seconds": round(self.seconds, 3)}
        return facts if self.behind is None else facts | {"behind": round(self.behind, 3)}


@dataclass(slots=True)
class FollowReport:
    """The result of following.

    Attributes:
        copy: what became of every record of the source, each counted once: by what became of it last.
        passes: how many there were.
        deleted: in the target.
        vanished: records that the source has no more and the target has.
        last_quiet: when the last quiet pass began; None when there was none.
        was_stopped: it was told to end before it was in step.
    """

    copy: CopyReport
    passes: int
    deleted: int
    vanished: int
    last_quiet: datetime | None
    was_stopped: bool

    @property
    def exit_code(self) -> int:
        """130 when it was stopped before the copy was in step, else that of the copy."""
        return INTERRUPTED if self.was_stopped else self.copy.exit_code

    def close(self) -> None:
        """Forget the items."""
        self.copy.close()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without items."""
        return self.copy.to_dict(with_items=False) | {
            "promise": PROMISE,
            "passes": self.passes,
            "deleted": self.deleted,
            "vanished": self.vanished,
            "last_quiet": None if self.last_quiet is None else self.last_quiet.isoformat(),
            "exit_code": self.exit_code,
        }


OnPass = Callable[[Pass], None]


@dataclass(frozen=True, slots=True)
class Following:
    """How a source is followed.

    Attributes:
        seconds: from the beginning of one pass to that of the next; 0 makes one pass.
        delete: delete in the target what the source has no more.
        max_delete: so many are meant to vanish at once; None leaves it to the guard.
        max_rate: read at most so many records a second.
        overwrite_conflicts: write over, and delete, what others wrote or changed in the target.
        source_timezone, convert: as in ``copy_store``.
    """

    seconds: float
    delete: bool = False
    max_delete: int | None = None
    max_rate: float | None = None
    overwrite_conflicts: bool = False
    source_timezone: str | None = None
    convert: str | None = None

    def check(self) -> None:
        """Raise ``StorageValidationError`` for what makes no sense."""
        check_switches(None, self.convert)
        Pace(self.max_rate)
        if not 0 <= self.seconds < float("inf"):
            raise StorageValidationError("a pass is made every so many seconds, 0 or more", details={"path": "seconds"})
        if self.max_delete is not None and (not self.delete or self.max_delete < 0):
            raise StorageValidationError(
                "how many may be deleted is 0 or more, and said where anything is", details={"path": "max_delete"}
            )


async def follow_store(
    source: str | Path,
    target: str | Path | IUnifiedStorage,
    how: Following,
    *,
    stop: asyncio.Event | None = None,
    on_pass: OnPass = lambda _: None,
    on_progress: OnProgress = unheard,
) -> FollowReport:
    """Copy what is new or has changed in *source* into *target*, pass after pass, until *stop* is set.

    It is safe to kill and to run again. Nothing of the source is changed; what others wrote or changed in the target is
    a conflict and stays.

    Args:
        source: anything that can be read again and again, so no archive.
        target: a store of ours, by URL or open: others keep no word on who wrote what.
        stop: ends it after the running step.
        on_pass: called after each pass.
        on_progress: called after each step of a pass, of which there are many in a long one.
    Raises:
        StorageConfigurationError, StorageValidationError, StorageUnsupportedError: it cannot be done as asked.
        AnotherRunError: another copy is writing there.
        MassChangeError: too much has vanished from the source at once; nothing was deleted.
        StorageError: a store failed and trying again does not help; running it again goes on.
    """
    how.check()
    place = place_of(source)
    if place.kind == ARCHIVE:
        raise StorageUnsupportedError(f"{place} is an archive, which nothing changes; copy it once")
    async with AsyncExitStack() as stack:
        storage, name = await _opened_target(stack, target, place)
        lease = Lease(storage)
        await lease.check(storage)
        await stack.enter_async_context(lease.kept())
        known = stack.enter_context(closing(Known()))
        heard = _Heard(stop or asyncio.Event(), on_pass, on_progress)
        follower = _Follower(place, storage, lease, known, how, heard)
        await follower.run()
        return follower.report(name)


async def _opened_target(
    stack: AsyncExitStack, target: str | Path | IUnifiedStorage, source: Place
) -> tuple[IUnifiedStorage, str]:
    if isinstance(target, IUnifiedStorage):
        return target, type(target).__name__
    place = place_of(target)
    if place.has_identity(source.identity):
        raise StorageConfigurationError(f"source and target are the same place, {place}")
    if place.kind != STORAGE or place.is_foreign:
        raise StorageUnsupportedError(
            f"a copy is kept in step in a store of ours alone, not in {place}: others keep no word on who wrote what"
        )
    return await stack.enter_async_context(open_storage(place.url)), str(place)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the caller says and is told."""

    stop: asyncio.Event
    on_pass: OnPass
    on_progress: OnProgress


class _Follower:
    """One run."""

    def __init__(
        self,
        source: Place,
        storage: IUnifiedStorage,
        lease: Lease,
        known: Known,
        how: Following,
        heard: _Heard,
    ) -> None:
        self._source = source
        self._storage = storage
        self._lease = lease
        self._known = known
        self._how = how
        self._heard = heard
        self._stop = heard.stop
        self._files = _Files(source)
        self._begun = time.monotonic()
        self._last = Pass(0)
        self._last_whole: float | None = None
        self._last_quiet: datetime | None = None
        self._deleted = 0

    async def run(self) -> None:
        async for keys in Memos(self._source.identity).written(self._storage):
            self._known.remember(keys)
        while not self._stop.is_set():
            begun = time.monotonic()
            await self._make_pass(begun)
            self._heard.on_pass(self._last)
            if not self._how.seconds:
                return
            await self._wait(begun + self._how.seconds)

    async def _wait(self, until: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), max(0.0, until - time.monotonic()))

    def report(self, target: str) -> FollowReport:
        zone = self._how.source_timezone
        told_zone = (zone or LOCAL) if self._source.kind == LEGACY else zone
        copy = CopyReport(str(self._source), target, told_zone, dry_run=False)
        self._known.tell(copy)
        copy.seconds = time.monotonic() - self._begun
        last = self._last
        was_stopped = self._stop.is_set() and not last.is_quiet
        return FollowReport(copy, last.number, self._deleted, last.vanished, self._last_quiet, was_stopped)

    # one pass

    async def _make_pass(self, begun: float) -> None:
        before = self._last
        now = self._last = Pass(before.number + 1, before.records, vanished=before.vanished)
        moment = datetime.now(UTC)
        try:
            if await self._files.are_settled() and not self._known.has_trouble:
                now.is_whole = True
            else:
                await self._go_through(now)
                self._files.were_read(begun, is_whole=now.is_whole)
        except Exception as error:
            if not self._may_pass(error):
                raise
            # the words of a driver may quote values
            now.error = redacted(str(error)) if isinstance(error, StorageError | OSError) else type(error).__name__
            log.warning("a pass failed and is tried again", extra={"number": now.number, "error": now.error})
        ended = time.monotonic()
        now.seconds = ended - begun
        if now.is_whole:
            now.records, now.vanished = self._known.count, self._known.vanished
            now.behind = None if self._last_whole is None else ended - self._last_whole
            self._last_whole = begun
        if now.is_quiet:
            self._last_quiet = moment
        self._deleted += now.deleted

    def _may_pass(self, error: Exception) -> bool:
        """Whether the next pass may do better: what was read before is there, drivers fail in words of their own."""
        if not self._how.seconds or isinstance(error, AnotherRunError | MassChangeError):
            return False
        return self._last_whole is not None or (isinstance(error, StorageError) and error.retryable)

    async def _go_through(self, now: Pass) -> None:
        self._known.begin()
        how = self._how
        opening = open_source(self._source, source_timezone=how.source_timezone, convert=how.convert)
        async with opening as source, AsyncExitStack() as stack:
            check_zone(source)
            if not isinstance(source, MarkedSource):
                raise StorageUnsupportedError(f"{self._source} cannot be followed; copy it")
            await self._look(source)
            target = IntoStorage(
                self._storage,
                self._lease,
                identity=source.identity,
                told=source.told,
                whole=source.whole,
                dry_run=False,
                overwrite=how.overwrite_conflicts,
            )
            stack.push_async_callback(target.close)
            if await self._copy(source, target, now):
                await self._let_go(target, now)
                now.is_whole = True

    async def _look(self, source: MarkedSource) -> None:
        """Note all that the source has, unread."""
        async for marks in source.marks():
            self._known.note(marks)
        async for items in source.findings():
            self._known.note_findings(items)

    async def _copy(self, source: MarkedSource, target: IntoStorage, now: Pass) -> bool:
        """Copy what has changed; whether it was not stopped on the way."""
        pace, due = Pace(self._how.max_rate), self._known.due_count
        async with aclosing(in_steps(self._news(source, now), pace.most, _size)) as steps:
            async for step in steps:
                await self._take(target, step, now)
                self._heard.on_progress(Progress("copy", now.read, due))
                if self._stop.is_set() and now.read < due:
                    return False
                await pace.keep(len(step))
        return True

    async def _news(self, source: MarkedSource, now: Pass) -> AsyncIterator[list[Read]]:
        """What may have changed, read whole, less what has not."""
        for hashes in self._known.due():
            ones = await source.parcels_at([*hashes])
            now.read += len(ones)
            same = [
                key
                for (key, hash), one in zip(hashes.items(), ones, strict=True)
                if isinstance(one, Parcel) and one.source_hash == hash
            ]
            self._known.unchanged(same)
            known = {*same}
            yield [(key, one) for key, one in zip(hashes, ones, strict=True) if key not in known]

    async def _take(self, target: IntoStorage, step: list[Read], now: Pass) -> None:
        parcels = [(key, one) for key, one in step if isinstance(one, Parcel)]
        if parcels:
            taken = await target.take([parcel for _, parcel in parcels])
            for place, differences in taken.mismatches.items():
                item = taken.items[place]
                item.reasons = (*item.reasons, *(f"{MISMATCH}{name}" for name in differences))
            self._settle(
                [(key, parcel.source_hash, item) for (key, parcel), item in zip(parcels, taken.items, strict=True)], now
            )
        items = [(key, one) for key, one in step if isinstance(one, Item)]
        self._known.missed(key for key, item in items if item.outcome == IGNORED)
        self._settle([(key, None, item) for key, item in items if item.outcome != IGNORED], now)

    def _settle(self, outcomes: list[tuple[RecordKey, str | None, Item]], now: Pass) -> None:
        self._known.settle(outcomes)
        for _, _, item in outcomes:
            now.copied += item.outcome == COPIED
            now.conflict += item.outcome == CONFLICT
            now.quarantined += item.outcome == QUARANTINED

    async def _let_go(self, target: IntoStorage, now: Pass) -> None:
        """Delete, where that is wanted, what the source has no more."""
        known, vanished = self._known, self._known.vanished
        if vanished and (self._how.delete or not known.count):
            check_mass_change(vanished, known.count + vanished, meant=self._how.max_delete)
        if not self._how.delete:
            known.keep_vanished()
            return
        for keys in known.gone():
            gone = await target.delete(keys)
            known.forget(gone.keys)
            known.keep(gone.kept)
            now.deleted += len(gone.keys)
            now.conflict += len(gone.kept)


def _size(read: Read) -> int:
    return read[1].size or 0


@dataclass(slots=True)
class _Files:
    """The files of a source, by whose state a pass over what nobody wrote to is spared.

    Files tell time as coarsely as stores do, so they have to have lain still for a while when they were read.
    """

    place: Place
    _state: str | None = None
    _since: float = 0.0
    _read: float | None = field(default=None)

    async def are_settled(self) -> bool:
        """Whether they are what they were when they were read."""
        state = await asyncio.to_thread(state_of_place, self.place)
        if state is None or state != self._state:
            self._state, self._since, self._read = state, time.monotonic(), None
        return self._read is not None and self._read >= self._since + YOUNG

    def were_read(self, begun: float, *, is_whole: bool) -> None:
        """They were read by a pass that began at *begun*."""
        if is_whole:
            self._read = begun
