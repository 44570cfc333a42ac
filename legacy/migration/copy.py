"""The offline copy: everything of one place into another, streamed, decided on, written and read back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from legacy.migration.into_archive import IntoArchive
from legacy.migration.into_folder import IntoFolder
from legacy.migration.into_peer import IntoPeer
from legacy.migration.into_storage import IntoStorage
from legacy.migration.lease import Lease
from legacy.migration.report import CopyReport
from legacy.migration.targets import Taken, Target
from legacy.stores.legacy_files import LOCAL
from legacy.stores.opening import is_missing, open_source, open_untouched
from legacy.stores.parcels import SESSION, Item, Parcel, Source
from legacy.stores.peers.registry import open_as_it_is, open_to_write, written_format
from legacy.stores.peers.source import check_zone
from legacy.stores.places import ARCHIVE, LEGACY, Place, place_of
from unified_storage.errors import StorageConfigurationError, StorageUnsupportedError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage

T = TypeVar("T")
SESSION_DATA = "session-data"
_RECORDS_A_STEP = 200
_BYTES_A_STEP = 4 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is: its phase (``survey`` or ``copy``), records done, and how many there are."""

    phase: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


async def copy_store(
    source: str | Path,
    target: str | Path | IUnifiedStorage,
    *,
    dry_run: bool = False,
    max_rate: float | None = None,
    overwrite_conflicts: bool = False,
    mapping: Mapping[str, str] | None = None,
    source_timezone: str | None = None,
    convert: str | None = None,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Copy every session of *source* into *target*, and between two stores of ours everything else too.

    It is safe to kill and to run again: what is there already is found equal. Nothing is ever deleted, and nothing of
    the source is changed. Every record that was written is read back and compared.

    Args:
        source: a URL, or a path that tells what it is.
        target: likewise; or an open storage, which stays open.
        dry_run: decide on everything and write nothing; a target that is not there is not made.
        max_rate: at most so many records a second.
        overwrite_conflicts: write over what others wrote or changed in the target.
        mapping: ``app`` and ``user`` for formats whose key needs them.
        source_timezone: of times without an offset: an IANA name, ``UTC``, or None for this machine's. ADK v0 kept
            them so, wherever it ran, and needs to be told.
        convert: "session-data" turns older documents into ``SessionData`` ones.
        on_progress: called after each batch.
    Raises:
        StorageConfigurationError, StorageValidationError, StorageUnsupportedError: it cannot be done as asked.
        AnotherRunError: another copy is writing there.
        StorageError: a store failed; running it again goes on.
    """
    pace = Pace(max_rate)
    check_switches(mapping, convert)
    begun = time.monotonic()
    place = place_of(source)
    told_zone = (source_timezone or LOCAL) if place.kind == LEGACY else source_timezone
    report = CopyReport(str(place), _shown(target), told_zone, dry_run)
    try:
        async with open_source(place, source_timezone=source_timezone, convert=convert) as opened:
            check_zone(opened)
            run = _Run(opened, report, pace, on_progress or unheard)
            writing = _Writing(dry_run, overwrite_conflicts, mapping or {})
            async with _open_target(target, opened, writing) as written:
                await run.copy_into(written)
    except BaseException:
        report.close()
        raise
    report.seconds = time.monotonic() - begun
    return report


def check_switches(mapping: Mapping[str, str] | None, convert: str | None) -> None:
    """Raise ``StorageValidationError`` unless there are such names and such a conversion; None is none."""
    if unknown := set(mapping or ()) - {"app", "user"}:
        told = f"a mapping names app and user, not {', '.join(sorted(unknown))}"
        raise StorageValidationError(told, details={"path": "mapping"})
    if convert not in (None, SESSION_DATA):
        raise StorageValidationError(f"convert can be {SESSION_DATA!r}, not {convert!r}", details={"path": "convert"})


def check_mapping(mapping: Mapping[str, str] | None, place: Place | None) -> None:
    """Raise ``StorageValidationError`` where names for app and user would mean nothing."""
    if mapping and (place is None or place.opening is None or not written_format(place.opening).is_scoped):
        told = "names for app and user are for formats whose key needs them; these sessions have ids of their own"
        raise StorageValidationError(told, details={"path": "mapping"})


def unheard(_: Progress) -> None:
    """Nobody wants to know."""


def _shown(target: str | Path | IUnifiedStorage) -> str:
    return type(target).__name__ if isinstance(target, IUnifiedStorage) else str(place_of(target))


@dataclass(frozen=True, slots=True)
class _Writing:
    """How a target is to be written."""

    dry_run: bool
    overwrite: bool
    mapping: Mapping[str, str]


@asynccontextmanager
async def _open_target(
    target: str | Path | IUnifiedStorage, source: Source, writing: _Writing
) -> AsyncIterator[Target]:
    async with AsyncExitStack() as stack:
        if isinstance(target, IUnifiedStorage):
            check_mapping(writing.mapping, None)
            opened = await _into_storage(stack, target, source, writing)
        else:
            place = place_of(target)
            if place.has_identity(source.identity):
                raise StorageConfigurationError(f"source and target are the same place, {place}")
            check_mapping(writing.mapping, place)
            opened = await _into_place(stack, place, source, writing)
        stack.push_async_callback(opened.close)
        yield opened


async def _into_place(stack: AsyncExitStack, place: Place, source: Source, writing: _Writing) -> Target:
    dry_run, overwrite = writing.dry_run, writing.overwrite
    if place.kind == LEGACY and place.path is not None:
        return IntoFolder(place.path, dry_run=dry_run, overwrite=overwrite)
    if place.kind == ARCHIVE and place.path is not None:
        return IntoArchive(place.path, dry_run=dry_run, overwrite=overwrite)
    if place.opening is not None:
        opened = open_as_it_is(place.opening, is_there=place.is_there) if dry_run else open_to_write(place.opening)
        return IntoPeer(await opened, writing.mapping, dry_run=dry_run, overwrite=overwrite)
    if place.is_foreign:
        raise StorageUnsupportedError(f"{place} is a SQLite file of another program; name a file of its own to copy to")
    opening = _as_it_is(stack, place) if dry_run else stack.enter_async_context(open_storage(place.url))
    return await _into_storage(stack, await opening, source, writing)


async def _as_it_is(stack: AsyncExitStack, place: Place) -> IUnifiedStorage:
    """What a dry run would write to. It is not made: an empty store stands for one that is not there."""
    if place.is_there:
        try:
            return await stack.enter_async_context(open_untouched(place))
        except StorageConfigurationError as error:
            if not is_missing(error):
                raise
    return await stack.enter_async_context(open_storage("memory://"))


async def _into_storage(stack: AsyncExitStack, storage: IUnifiedStorage, source: Source, writing: _Writing) -> Target:
    lease = Lease(storage)
    if not writing.dry_run:
        await lease.check(storage)
        await stack.enter_async_context(lease.kept())
    return IntoStorage(
        storage,
        lease,
        identity=source.identity,
        told=source.told,
        whole=source.whole,
        dry_run=writing.dry_run,
        overwrite=writing.overwrite,
    )


async def read_ahead(batches: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """*batches*, of which the next one is read while one is used.

    One that is being read when it is closed is waited for: what it is read from is closed next.
    """
    coming = asyncio.ensure_future(anext(batches, None))
    try:
        while (batch := await asyncio.shield(coming)) is not None:
            coming = asyncio.ensure_future(anext(batches, None))
            yield batch
    finally:
        await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()  # looked at: what ends the loop is told, and what was read too far is of no interest
        await batches.aclose()


class Pace:
    """At most so many records a second.

    Args:
        max_rate: None for no limit.
    Raises:
        StorageValidationError: it is not above 0.
    """

    def __init__(self, max_rate: float | None) -> None:
        if max_rate is not None and not max_rate > 0:
            raise StorageValidationError("the rate must be above 0 a second", details={"path": "max_rate"})
        self._max_rate = max_rate
        self.begin()

    @property
    def most(self) -> int:
        """So many records make a step."""
        return _RECORDS_A_STEP if self._max_rate is None else max(1, min(_RECORDS_A_STEP, int(self._max_rate)))

    def begin(self) -> None:
        """Count from now on."""
        self._begun = time.monotonic()
        self._done = 0

    async def keep(self, done: int) -> None:
        """Wait until so many more may be done."""
        self._done += done
        if self._max_rate is not None:
            due = self._begun + self._done / self._max_rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def in_steps(
    batches: AsyncIterator[list[T]], most: int, size: Callable[[T], int]
) -> AsyncGenerator[list[T], None]:
    """What *batches* hold, as much at a time as is written in one step: no more than *most*, nor many bytes."""
    step: list[T] = []
    total = 0
    async for batch in batches:
        for one in batch:
            step.append(one)
            total += size(one)
            if len(step) >= most or total >= _BYTES_A_STEP:
                yield step
                step, total = [], 0
    if step:
        yield step


class _Run:
    """One copy while it runs."""

    def __init__(self, source: Source, report: CopyReport, pace: Pace, on_progress: OnProgress) -> None:
        self._source = source
        self._report = report
        self._pace = pace
        self._on_progress = on_progress
        self._total = 0
        self._done = 0

    async def copy_into(self, target: Target) -> None:
        self._on_progress(Progress("survey", 0, 0))
        self._total = await self._source.survey()
        async for items in self._source.findings():
            self._report.add(items)
        self._pace.begin()
        self._on_progress(Progress("copy", 0, self._total))
        async with aclosing(read_ahead(self._steps())) as steps:
            async for step in steps:
                await self._take(target, step)
        await target.finish()

    def _steps(self) -> AsyncGenerator[list[Parcel | Item], None]:
        return in_steps(self._source.batches(), self._pace.most, lambda one: one.size or 0)

    async def _take(self, target: Target, step: list[Parcel | Item]) -> None:
        """Have what can be read written, and tell of all."""
        self._report.add([one for one in step if isinstance(one, Item)])
        parcels = [one for one in step if isinstance(one, Parcel)]
        if parcels:
            self._tell(parcels, await target.take(parcels))
        self._done += len(step)
        self._on_progress(Progress("copy", self._done, self._total))
        await self._pace.keep(len(step))

    def _tell(self, parcels: list[Parcel], taken: Taken) -> None:
        for place, differences in taken.mismatches.items():
            told = tuple(f"mismatch:{name}" for name in differences)
            taken.items[place].reasons = (*taken.items[place].reasons, *told)
            self._ledger_of(parcels[place]).mismatched += 1
        if not self._report.dry_run:
            for place in taken.verified():
                self._ledger_of(parcels[place]).verified += 1
        for kind in taken.lossy:
            self._report.add_lossy(kind)
        self._report.add(taken.items)

    def _ledger_of(self, parcel: Parcel) -> Any:
        return self._report.ledger if parcel.record["type"] == SESSION else self._report.others
