"""Comparing two places record by record, as a copy from one to the other would have left them; nothing is written."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.migration.copy import OnProgress, Progress, check_switches, unheard
from legacy.migration.exit_codes import DONE, TO_LOOK_AT
from legacy.migration.references import MISSING, Reference, open_reference
from legacy.migration.report import Items
from legacy.stores.contents import shown_id
from legacy.stores.opening import open_source
from legacy.stores.parcels import Item, Parcel, RecordKey, Source
from legacy.stores.peers.source import check_zone
from legacy.stores.places import LEGACY, place_of
from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage

EQUAL, DIFFERENT = "equal", "different"
NOT_COMPARED = "not_compared"


@dataclass
class VerifyReport:
    """The result of a comparison.

    Attributes:
        compared: records that were looked at on both sides; equal + different + missing.
        not_compared: what the source has and no copy takes: quarantined and duplicate files, and what has no place in
            the form of the target.
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
    mapping: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> VerifyReport:
    """Compare every session of *source* with *target*, between two stores of ours every record and log.

    Source documents are read as the copy was told to read them (zone, conversion), where the target remembers it: a
    store of ours does, an archive, a folder or the store of another framework has no place for it.

    Args:
        resume: goes on behind this record id (a report's ``last_id``).
        sample: percent of the records to compare, the same ones each time.
        source_timezone: what the copy was told, instead of what the target remembers.
        convert: likewise.
        mapping: likewise, ``app`` and ``user`` for a target whose form needs them.
    Raises:
        StorageConfigurationError, StorageValidationError, StorageUnsupportedError: it cannot be done as asked.
        StorageError: a store failed.
    """
    if not 0 < sample <= 100:
        raise StorageValidationError("a sample is above 0 and at most 100 percent", details={"path": "sample"})
    check_switches(mapping, convert)
    begun = time.monotonic()
    place = place_of(source)
    async with open_reference(target, place, mapping or {}) as reference:
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
        self, source: Source, reference: Reference, report: VerifyReport, sample: float, on_progress: OnProgress
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
        elif not _in_sample(one.key, self._sample):
            await self._reference.skip(one)
        elif (kinds := await self._reference.differences(one)) is None:
            self._report.not_compared += 1
        else:
            self._report.add(one, kinds)


def _in_sample(key: RecordKey, percent: float) -> bool:
    digits = hashlib.sha256("\n".join(key).encode()).hexdigest()[:8]
    return int(digits, 16) < percent / 100 * (1 << 32)
