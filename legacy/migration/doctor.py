"""Looking a storage over: what it is, and what is wrong with it; and mending what can be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.migration.exit_codes import DONE, TO_LOOK_AT
from legacy.migration.into_storage import in_one_step
from legacy.migration.lease import ID as RUN
from legacy.migration.lease import TYPE as RUN_TYPE
from legacy.migration.lease import AnotherRunError, Lease
from legacy.stores.ours import LogIndex, read_log
from legacy.stores.parcels import SESSION, Record
from legacy.stores.places import STORAGE, place_of
from session_adapter.documents import format_of, stored_document, visible_id
from session_adapter.metadata import OWN, derived_metadata, own_fields
from unified_storage.errors import (
    StorageConfigurationError,
    StorageIntegrityError,
    StorageValidationError,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage
from unified_storage.values import equal

UNREADABLE, UNREADABLE_LOG = "unreadable_record", "unreadable_log"
METADATA, GROUPING, NO_KEY = "metadata_differs", "grouping_differs", "no_session_key"
RUN_LEFT = "copy_run_left"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a stable word.
        repairable: whether :func:`repair` mends it without losing anything.
        detail: which part; never contents.
    """

    kind: str
    id: str
    type: str
    repairable: bool = False
    detail: str | None = None

    def to_dict(self) -> dict[str, Any]:
        names = ("kind", "id", "type", "repairable", "detail")
        return {name: getattr(self, name) for name in names}


@dataclass
class DoctorReport:
    """What a storage is and what was found.

    Attributes:
        health: what it says of itself, its schema with it.
        records: how many were looked at.
        repaired: how many findings were mended.
    """

    place: str
    health: dict[str, Any]
    records: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: int = 0

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
    """Look over the storage that *text* names; with *mend*, repair what can be.

    Opening it brings its schema up to date.

    Raises:
        StorageConfigurationError: it is not there, or no storage of ours.
    """
    place = place_of(text)
    if place.kind != STORAGE:
        raise StorageConfigurationError(f"{place} is no storage of ours; copy it into one first")
    place.check_readable()
    async with open_storage(place.url) as storage:
        report = DoctorReport(str(place), await storage.health_check())
        async for batch in check_storage(storage):
            report.records += 1
            report.findings.extend(batch)
        if mend:
            report.repaired = await repair(storage, report.findings)
    return report


async def check_storage(storage: IUnifiedStorage) -> AsyncIterator[list[Finding]]:
    """Look over every record with its logs: what is wrong with each, mostly nothing; nothing is written."""
    index = LogIndex()
    try:
        await index.fill(storage)
        yield await _check_run(storage)
        async for heads in storage.stream_list(with_data=False):
            for head in heads:
                yield await _check_record(storage, index, head)
    finally:
        index.close()


async def repair(storage: IUnifiedStorage, findings: list[Finding]) -> int:
    """Mend those of *findings* that are repairable and still so; how many were. Times stay as they are."""
    mended = 0
    for finding in findings:
        if finding.kind == RUN_LEFT:
            mended += await storage.delete(RUN, type=RUN_TYPE)
        elif finding.repairable:
            mended += await _mend_session(storage, finding)
    return mended


async def _check_run(storage: IUnifiedStorage) -> list[Finding]:
    """What an interrupted copy left behind; one that is running is no finding."""
    if not await storage.exists(RUN, type=RUN_TYPE):
        return []
    try:
        await Lease(storage).check(storage)
    except AnotherRunError:
        return []
    return [Finding(RUN_LEFT, RUN, RUN_TYPE, repairable=True)]


async def _check_record(storage: IUnifiedStorage, index: LogIndex, head: Record) -> list[Finding]:
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
            await read_log(storage, log)
        except StorageIntegrityError:
            damaged.append(log)
    return damaged


def _check_session(record: Record) -> list[Finding]:
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


def _same(wanted: Record, record: Record, name: str) -> bool:
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
