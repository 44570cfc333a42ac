"""Looking a storage over: what it is, and what is wrong with it; and mending what can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from legacy.migration.exit_codes import DONE, TO_LOOK_AT
from legacy.migration.into_storage import in_one_step
from legacy.migration.lease import ID as RUN
from legacy.migration.lease import TYPE as RUN_TYPE
from legacy.migration.lease import AnotherRunError, Lease
from legacy.stores.opening import check_store
from legacy.stores.ours import LogIndex
from legacy.stores.parcels import SESSION, Record, RecordKey
from legacy.stores.places import STORAGE, place_of
from session_adapter.documents import format_of, stored_document, visible_id
from session_adapter.metadata import OWN, derived_metadata, own_fields
from unified_storage.errors import (
    StorageConfigurationError,
    StorageIntegrityError,
    StorageValidationError,
)
from unified_storage.findings import DOCUMENT_MISSING, UNREADABLE, Finding
from unified_storage.interface import Findings, IUnifiedStorage
from unified_storage.opening import open_storage
from unified_storage.values import equal

UNREADABLE_LOG = "unreadable_log"
METADATA, GROUPING, NO_KEY = "metadata_differs", "grouping_differs", "no_session_key"
RUN_LEFT = "copy_run_left"
_BEYOND_READING = (UNREADABLE, DOCUMENT_MISSING)
_HEADS_AT_ONCE, _ENTRIES_AT_ONCE = 100, 200


@dataclass
class DoctorReport:
    """What a storage is and what was found.

    Attributes:
        health: what it says of itself, its schema with it.
        records: how many were looked at.
    """

    place: str
    health: dict[str, Any]
    records: int = 0
    findings: Findings = field(default_factory=list)

    @property
    def repaired(self) -> int:
        """How many findings were mended."""
        return sum(finding.repaired for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 when all is well, or was mended; else 3."""
        return DONE if len(self.findings) == self.repaired else TO_LOOK_AT

    def to_dict(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "health": self.health,
            "records": self.records,
            "findings": [finding.to_dict() for finding in self.findings],
            "repaired": self.repaired,
            "exit_code": self.exit_code,
        }


async def examine(text: str | Path, *, mend: bool = False) -> DoctorReport:
    """Look over the storage that *text* names; with *mend*, repair what can be. Others may use it meanwhile.

    First what the storage keeps for itself is looked at, then every record with its logs. Opening it brings its
    schema up to date.

    Raises:
        StorageConfigurationError: it is not there, or no storage of ours.
    """
    place = place_of(text)
    if place.kind != STORAGE:
        raise StorageConfigurationError(f"{place} is no storage of ours; copy it into one first")
    await check_store(place)
    async with open_storage(place.url) as storage:
        report = DoctorReport(str(place), await storage.health_check())
        async for found in storage.examine(repair=mend):
            report.findings += found
        damaged = {(finding.id, finding.type) for finding in report.findings if finding.kind in _BEYOND_READING}
        found = await check_run(storage)
        report.findings += await repair(storage, found) if mend else found
        async for found in check_storage(storage, damaged):
            report.records += 1
            report.findings += await repair(storage, found) if mend else found
    return report


async def check_storage(storage: IUnifiedStorage, damaged: Collection[RecordKey] = ()) -> AsyncIterator[Findings]:
    """Look over every record with its logs: what is wrong with each, mostly nothing; nothing is written.

    Args:
        damaged: records that are known to be unreadable, and need not be told again.
    """
    index = LogIndex()
    try:
        await index.fill(storage)
        async for record in _records(storage, damaged):
            if isinstance(record, Finding):
                yield [record] if (record.id, record.type) not in damaged else []
            else:
                yield [one for one in await _check_record(storage, index, record) if _is_news(one, damaged)]
    finally:
        index.close()


def _is_news(finding: Finding, damaged: Collection[RecordKey]) -> bool:
    return finding.kind != UNREADABLE or (finding.id, finding.type) not in damaged


async def repair(storage: IUnifiedStorage, findings: Findings) -> Findings:
    """Mend those of *findings* that are repairable, and tell of each that it was; what is no longer so is left out.

    Times stay as they are.
    """
    mended = [await _mended(storage, finding) for finding in findings]
    return [finding for finding in mended if finding is not None]


async def _mended(storage: IUnifiedStorage, finding: Finding) -> Finding | None:
    if not finding.repairable:
        return finding
    if finding.kind == RUN_LEFT:
        was_so = await storage.delete(RUN, type=RUN_TYPE)
    else:
        was_so = await _mend_session(storage, finding)
    return replace(finding, repaired=True) if was_so else None


async def check_run(storage: IUnifiedStorage) -> Findings:
    """What an interrupted copy left behind; one that is running is no finding."""
    if not await storage.exists(RUN, type=RUN_TYPE):
        return []
    try:
        await Lease(storage).check(storage)
    except AnotherRunError:
        return []
    return [Finding(RUN_LEFT, RUN, RUN_TYPE, repairable=True)]


# -- records -----------------------------------------------------------------------------------------------------


async def _records(storage: IUnifiedStorage, damaged: Collection[RecordKey]) -> AsyncIterator[Record | Finding]:
    """The heads of all records; one whose head cannot be read is a finding, and costs itself alone."""
    place: RecordKey | None = None
    size = _HEADS_AT_ONCE
    while True:
        try:
            async for heads in storage.stream_list(batch_size=size, after=place, with_data=False):
                for head in heads:
                    yield head
                place = (heads[-1]["id"], heads[-1]["type"])
            return
        except StorageIntegrityError as error:
            if size > 1:
                size = 1  # one by one, up to the one that it is
                continue
            place = _place_of(error, place, damaged)
            yield Finding(UNREADABLE, *place, detail=error.error_code)
            size = _HEADS_AT_ONCE


def _place_of(error: StorageIntegrityError, after: RecordKey | None, damaged: Collection[RecordKey]) -> RecordKey:
    """Which record, the next behind *after*, cannot be read: the error tells, or the storage has told before.

    Raises:
        StorageIntegrityError: nobody knows, so there is nowhere to go on from.
    """
    told = [(error.details["id"], error.details["type"])] if {"id", "type"} <= error.details.keys() else damaged
    behind = [key for key in told if after is None or key > after]
    if not behind:
        raise error
    return min(behind)


async def _check_record(storage: IUnifiedStorage, index: LogIndex, head: Record) -> Findings:
    id, type = head["id"], head["type"]
    try:
        record = await storage.load(id, type=type)
    except StorageIntegrityError as error:
        return [Finding(UNREADABLE, id, type, detail=error.error_code)]
    if record is None:
        return []
    found = [Finding(UNREADABLE_LOG, id, type, detail=log) for log in await _unreadable_logs(storage, index, head)]
    return found + (_check_session(record) if type == SESSION else [])


async def _unreadable_logs(storage: IUnifiedStorage, index: LogIndex, head: Record) -> list[str]:
    damaged = []
    for log in index.logs_of((head["id"], head["type"])):
        try:
            await _read_through(storage, log)
        except StorageIntegrityError:
            damaged.append(log)
    return damaged


async def _read_through(storage: IUnifiedStorage, log: str) -> None:
    """Read every entry of a log, and keep none."""
    entries = await storage.read(log, limit=_ENTRIES_AT_ONCE)
    while len(entries) == _ENTRIES_AT_ONCE:
        entries = await storage.read(log, after=entries[-1]["seq"], limit=_ENTRIES_AT_ONCE)


def _check_session(record: Record) -> Findings:
    id = record["id"]
    # A record that no session view saved has no metadata derived from its document.
    if OWN not in (record.get("metadata") or {}):
        return []
    try:
        wanted = _derived(record)
    except (StorageIntegrityError, StorageValidationError) as error:
        return [Finding(NO_KEY, id, SESSION, detail=error.error_code)]
    found = []
    if not equal(wanted, record["metadata"]):
        names = [name for name in wanted.keys() | record["metadata"].keys() if not _same(wanted, record, name)]
        found.append(Finding(METADATA, id, SESSION, repairable=True, detail=", ".join(sorted(names))))
    if record["session_id"] != id:
        found.append(Finding(GROUPING, id, SESSION, repairable=True))
    return found


def _same(wanted: Mapping[str, Any], record: Record, name: str) -> bool:
    there = record["metadata"]
    return name in wanted and name in there and equal(wanted[name], there[name])


def _derived(record: Record) -> dict[str, Any]:
    return derived_metadata(stored_document(record), visible_id(record), format_of(record), own_fields(record))


async def _mend_session(storage: IUnifiedStorage, finding: Finding) -> bool:
    async def mend(tx: IUnifiedStorage) -> bool:
        record = await tx.load(finding.id, type=SESSION)
        if record is None or finding.kind not in {found.kind for found in _check_session(record)}:
            return False
        changed = {"metadata": _derived(record)} if finding.kind == METADATA else {"session_id": record["id"]}
        # restore leaves the times and the logs as they are: nothing happened to the session itself
        await tx.restore([{**record, **changed}])
        return True

    return await in_one_step(storage, mend)
