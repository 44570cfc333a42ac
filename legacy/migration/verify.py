"""Comparing two places record by record, as a copy from one to the other would have left them; nothing is written."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.file_store import FileSessionStore
from legacy.migration.copy import OnProgress, Progress, check_conversion, unheard
from legacy.migration.differences import document_differences, whole_differences
from legacy.migration.exit_codes import DONE, TO_LOOK_AT
from legacy.migration.memos import Memos
from legacy.migration.report import Items
from legacy.stores.contents import document_content, shown_id
from legacy.stores.legacy_documents import legacy_document
from legacy.stores.opening import open_source, open_untouched
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import SESSION, Item, Parcel, RecordKey, Source
from legacy.stores.peers.source import check_zone
from legacy.stores.places import LEGACY, STORAGE, Place, place_of
from unified_storage.errors import StorageConfigurationError, StorageError, StorageValidationError
from unified_storage.interface import IUnifiedStorage

EQUAL, DIFFERENT, MISSING = "equal", "different", "missing"
NOT_COMPARED = "not_compared"


@dataclass
class VerifyReport:
    """The result of a comparison.

    Attributes:
        compared: records that were looked at on both sides; equal + different + missing.
        not_compared: what the source has and no copy takes: quarantined and duplicate files.
        only_in_target: records of the target that the source has not; None where they were not looked for.
        differences: one line each, its reasons the kinds of difference; iterate, and :meth:`close` when done.
        last_id: of the last record that was looked at, to go on from.
    """

    source: str
    target: str
    told: dict[str, Any]
    equal: int = 0
    different: int = 0
    missing: int = 0
    not_compared: int = 0
    only_in_target: int | None = None
    last_id: str | None = None
    differences: Items = field(default_factory=Items)
    seconds: float = 0.0

    @property
    def compared(self) -> int:
        return self.equal + self.different + self.missing

    @property
    def exit_code(self) -> int:
        """0 when target = source, else 3; what no copy takes does not count."""
        return TO_LOOK_AT if self.different or self.missing else DONE

    def add(self, parcel: Parcel, kinds: tuple[str, ...]) -> None:
        """Count *parcel*, which differs in *kinds*."""
        self.last_id = parcel.key[0]
        if not kinds:
            self.equal += 1
            return
        outcome = MISSING if kinds == (MISSING,) else DIFFERENT
        self.missing += outcome == MISSING
        self.different += outcome == DIFFERENT
        self.differences.add([Item(parcel.file, shown_id(parcel.record), outcome, kinds, parcel.key[1])])

    def to_dict(self) -> dict[str, Any]:
        names = ("source", "target", "told", "compared", "equal", "different", "missing", "not_compared")
        facts = {name: getattr(self, name) for name in (*names, "only_in_target", "last_id", "exit_code")}
        found = [item.to_dict() for item in self.differences]
        return facts | {"seconds": round(self.seconds, 3), "differences": found}

    def close(self) -> None:
        """Forget the differences."""
        self.differences.close()


async def verify_stores(
    source: str | Path,
    target: str | Path | IUnifiedStorage,
    *,
    resume: str | None = None,
    sample: float = 100.0,
    source_timezone: str | None = None,
    convert: str | None = None,
    on_progress: OnProgress | None = None,
) -> VerifyReport:
    """Compare every session of *source* with *target*, between two stores of ours every record and log.

    Source documents are read as the copy was told to read them (zone, conversion), where the target remembers it: a
    store of ours does, an archive or a folder has no place for it.

    Args:
        resume: goes on behind this record id (a report's ``last_id``).
        sample: percent of the records to compare, the same ones each time.
        source_timezone: what the copy was told, instead of what the target remembers.
        convert: likewise.
    Raises:
        StorageConfigurationError, StorageValidationError, StorageUnsupportedError: it cannot be done as asked.
        StorageError: a store failed.
    """
    if not 0 < sample <= 100:
        raise StorageValidationError("a sample is above 0 and at most 100 percent", details={"path": "sample"})
    check_conversion(convert)
    begun = time.monotonic()
    place = place_of(source)
    async with _open_reference(target, place) as reference:
        told = await reference.told(place)
        if place.kind == LEGACY or place.opening is not None:
            source_timezone = source_timezone or told.get("source_timezone")
            convert = convert or told.get("convert")
        async with open_source(place, source_timezone=source_timezone, convert=convert) as opened:
            check_zone(opened)
            report = VerifyReport(str(place), reference.name, opened.told)
            comparison = _Comparison(opened, reference, report, sample, on_progress or unheard)
            try:
                await comparison.run(resume)
            except BaseException:
                report.close()
                raise
    report.seconds = time.monotonic() - begun
    return report


class _Comparison:
    """One comparison while it runs."""

    def __init__(
        self, source: Source, reference: _Reference, report: VerifyReport, sample: float, on_progress: OnProgress
    ) -> None:
        self._source = source
        self._reference = reference
        self._report = report
        self._sample = sample
        self._on_progress = on_progress

    async def run(self, resume: str | None) -> None:
        self._on_progress(Progress("survey", 0, 0))
        total = await self._source.survey()
        async for items in self._source.findings():
            self._report.not_compared += sum(item.outcome != "ignored" for item in items)
        await self._reference.start(resume, sessions_only=not self._source.whole)
        done = 0
        async for batch in self._source.batches(after=resume):
            for one in batch:
                await self._one(one)
            done += len(batch)
            self._on_progress(Progress("verify", done, total))
        await self._reference.finish()
        self._report.only_in_target = self._reference.passed_over

    async def _one(self, one: Parcel | Item) -> None:
        if isinstance(one, Item):
            self._report.not_compared += 1
        elif _in_sample(one.key, self._sample):
            self._report.add(one, await self._reference.differences(one))
        else:
            await self._reference.skip(one)


def _in_sample(key: RecordKey, percent: float) -> bool:
    digits = hashlib.sha256("\n".join(key).encode()).hexdigest()[:8]
    return int(digits, 16) < percent / 100 * (1 << 32)


class _Reference:
    """The place that is compared with, walked beside the source: both come by ``(id, type)``."""

    def __init__(self, name: str, opened: Source, storage: IUnifiedStorage | None) -> None:
        self.name = name
        self.passed_over: int | None = 0
        self._opened = opened
        self._storage = storage
        self._sessions_only = False
        self._walk: AsyncIterator[Parcel | Item] | None = None
        self._next: Parcel | None = None
        self._unreadable: set[str | None] = set()

    async def told(self, place: Place) -> dict[str, Any]:
        """What the copy from *place* was told; empty where nobody remembers."""
        remembered = await Memos(place.identity).last_told(self._storage) if self._storage is not None else None
        return remembered or {}

    async def start(self, after: str | None, *, sessions_only: bool) -> None:
        self._sessions_only = sessions_only
        await self._opened.survey()
        self._walk = self._one_by_one(after)
        await self._advance()

    async def differences(self, parcel: Parcel) -> tuple[str, ...]:
        """How what is here differs from *parcel*; empty when it does not."""
        found = await self._at(parcel.key)
        if found is None:
            return ("unreadable",) if parcel.key[0] in self._unreadable else (MISSING,)
        return whole_differences(parcel, found) if parcel.whole else document_differences(parcel, found)

    async def skip(self, parcel: Parcel) -> None:
        """Walk past *parcel*."""
        await self._at(parcel.key)

    async def finish(self) -> None:
        while self._next is not None:
            await self._pass_over()

    async def _at(self, key: RecordKey) -> Parcel | None:
        while self._next is not None and self._next.key < key:
            await self._pass_over()
        if self._next is None or self._next.key != key:
            return None
        found = self._next
        await self._advance()
        return found

    async def _pass_over(self) -> None:
        self.passed_over = (self.passed_over or 0) + 1
        await self._advance()

    async def _advance(self) -> None:
        assert self._walk is not None
        while isinstance(found := await anext(self._walk, None), Item):
            self._unreadable.add(found.id)
        self._next = found

    async def _one_by_one(self, after: str | None) -> AsyncIterator[Parcel | Item]:
        async with aclosing(self._opened.batches(after=after)) as batches:  # type: ignore[type-var]  # generators
            async for batch in batches:
                for one in batch:
                    if not self._sessions_only or isinstance(one, Item) or one.key[1] == SESSION:
                        yield one


class _Files(_Reference):
    """A folder of session files, looked up one by one: a file holds what its session became there."""

    def __init__(self, name: str, folder: Path, opened: Source) -> None:
        super().__init__(name, opened, None)
        self.passed_over = None
        self._files = FileSessionStore(folder, strict=True)

    async def start(self, after: str | None, *, sessions_only: bool) -> None:
        """Nothing is walked."""

    async def differences(self, parcel: Parcel) -> tuple[str, ...]:
        return await asyncio.to_thread(self._differences, parcel) if parcel.is_session else ()

    async def skip(self, parcel: Parcel) -> None:
        """Nothing is walked."""

    async def finish(self) -> None:
        """Nothing is walked."""

    def _differences(self, parcel: Parcel) -> tuple[str, ...]:
        try:
            id, document = legacy_document(parcel.record, parcel.logs)
            found = self._files.get_session(id)
        except StorageError as error:
            return (error.error_code.lower(),)
        if found is None:
            return (MISSING,)
        return () if document_content(found) == document_content(document) else ("document",)


@asynccontextmanager
async def _open_reference(target: str | Path | IUnifiedStorage, source: Place) -> AsyncIterator[_Reference]:
    if isinstance(target, IUnifiedStorage):
        ours = OurStorage(target, "")
        try:
            yield _Reference(type(target).__name__, ours, target)
        finally:
            await ours.close()
        return
    place = place_of(target)
    if place.has_identity(source.identity):
        raise StorageConfigurationError(f"source and target are the same place, {place}")
    place.check_readable()
    if place.kind == STORAGE:
        async with open_untouched(place) as storage, _open_reference(storage, source) as reference:
            reference.name = str(place)
            yield reference
        return
    async with open_source(place) as opened:
        files = place.kind == LEGACY and place.path is not None
        yield _Files(str(place), Path(str(place.path)), opened) if files else _Reference(str(place), opened, None)
