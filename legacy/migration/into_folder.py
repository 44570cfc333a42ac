"""Copying into a folder of legacy files: one document a file, each written in one step."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from legacy.file_store import FileSessionStore
from legacy.migration.decision import NOT_OURS, Decision
from legacy.migration.lease import AnotherRunError
from legacy.migration.targets import Taken, item_of
from legacy.stores.contents import document_content
from legacy.stores.file_reading import FileRefused, refusal_of
from legacy.stores.legacy_documents import Document, is_document_of, legacy_document, losses
from legacy.stores.parcels import CONFLICT, COPIED, EQUAL, IGNORED, QUARANTINED, Parcel
from legacy.stores.survey import temporary_database
from unified_storage.errors import StorageError, StorageIntegrityError

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows, where two copies into one folder are told apart by nobody
    fcntl = None  # type: ignore[assignment]

ID_COLLISION = "id_collision"


class IntoFolder:
    """A folder of session files as a target; see ``Target``.

    A folder keeps no word on who wrote a file, so a file that differs is a conflict.
    """

    def __init__(self, folder: Path, *, dry_run: bool, overwrite: bool) -> None:
        self._files = FileSessionStore(folder, strict=True)
        self._dry_run = dry_run
        self._overwrite = overwrite
        self._seen = temporary_database("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._lock: int | None = None
        if not dry_run:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)

    async def take(self, parcels: Sequence[Parcel]) -> Taken:
        return await asyncio.to_thread(self._take, parcels)

    async def finish(self) -> None:
        """Every file was final by itself."""

    async def close(self) -> None:
        self._seen.close()
        if self._lock is not None:
            os.close(self._lock)

    def _take(self, parcels: Sequence[Parcel]) -> Taken:
        taken = Taken()
        for place, parcel in enumerate(parcels):
            decision, is_there = self._one(parcel)
            taken.items.append(item_of(parcel, decision))
            if decision.outcome == COPIED and not self._dry_run and not is_there:
                taken.mismatches[place] = ("document",)
            if decision.outcome in (COPIED, EQUAL, IGNORED):
                taken.lossy.extend(losses(parcel))
        return taken

    def _one(self, parcel: Parcel) -> tuple[Decision, bool]:
        """The decision on one parcel, carried out, and whether the file then held its document."""
        if not parcel.is_session:
            return Decision(IGNORED, "no_session"), False
        try:
            id, document = legacy_document(parcel.record, parcel.logs)
            if self._is_seen(id):
                return Decision(QUARANTINED, ID_COLLISION), False
            decision = self._decided(id, document, parcel)
            return decision, self._written(id, document) if decision.writes and not self._dry_run else False
        except StorageError as error:
            refused = _refusal(error)
            return Decision(QUARANTINED, refused.reason, refused.detail), False

    def _is_seen(self, id: str) -> bool:
        inserted = self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (id,))
        return inserted.rowcount == 0

    def _decided(self, id: str, document: Document, parcel: Parcel) -> Decision:
        found = self._files.get_session(id)
        if found is None:
            return Decision(COPIED)
        if is_document_of(parcel, document, found):
            return Decision(EQUAL)
        return Decision(COPIED, f"overwritten_{NOT_OURS}") if self._overwrite else Decision(CONFLICT, NOT_OURS)

    def _written(self, id: str, document: Document) -> bool:
        self._files.save_session(id, document)
        found = self._files.get_session(id)
        return found is not None and document_content(found) == document_content(document)


def _refusal(error: StorageError) -> FileRefused:
    damaged = isinstance(error, StorageIntegrityError)
    return FileRefused("unreadable_target", error.message) if damaged else refusal_of(error)


def _locked(folder: Path) -> int | None:
    """An open lock of the folder, gone with the process; raises ``AnotherRunError`` where another one has it."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AnotherRunError(f"another copy is writing to {str(folder)!r}; wait for it, then run again") from error
    return descriptor
