"""Reading a folder of session files (``legacy+file://``): one JSON document a file, each a plain session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from legacy.stores.contents import entries_of, joined, session_content
from legacy.stores.file_reading import VANISHED, FileRefused, parse, read_bytes, refusal_of
from legacy.stores.legacy_survey import FolderSurvey, SessionFile, Surveyed, content_of, shown, understood
from legacy.stores.marks import Mark
from legacy.stores.parcels import IGNORED, QUARANTINED, SESSION, Item, Parcel, RecordKey
from legacy.stores.session_data import as_session_data
from session_adapter.documents import imported
from session_adapter.identity import record_id
from session_adapter.timestamps import zone_named
from unified_storage.clock import Clock, utc_now
from unified_storage.errors import StorageConfigurationError, StorageError

_FILES_AT_A_TIME = 40
_MARKS_AT_A_TIME = 500
LOCAL = "local"


class LegacyFiles:
    """A folder of session files as a source; see ``Source``. The folder is only read.

    Args:
        folder: its path.
        source_timezone: the zone of times without an offset: an IANA name, ``UTC`` or ``local``.
        convert: "session-data" turns documents of the older shapes into ``SessionData`` ones; None leaves them.
        clock: tells the time that stands for one that nothing else tells.
    Raises:
        StorageConfigurationError: there is no such folder, or no such zone.
    """

    whole = False

    def __init__(
        self, folder: str | Path, *, source_timezone: str = LOCAL, convert: str | None = None, clock: Clock = utc_now
    ) -> None:
        path = Path(folder)
        if not path.is_dir():
            raise StorageConfigurationError(f"no folder {str(path)!r} to read session files from")
        self.identity = f"legacy+file://{path.resolve()}"
        self.told: dict[str, Any] = {"source_timezone": source_timezone, "convert": convert}
        self._folder = os.fsencode(path)
        self._zone_name = source_timezone
        self._zone = zone_named(source_timezone)
        self._convert = convert
        self._started = clock()
        self._survey = FolderSurvey(self._folder, self._zone)

    async def survey(self) -> int:
        return await asyncio.to_thread(self._survey.run)

    async def findings(self) -> AsyncIterator[list[Item]]:
        for items in self._survey.items():
            yield items

    async def batches(self, *, after: str | None = None) -> AsyncIterator[list[Parcel | Item]]:
        place = visible_id(after) if after else ""
        while files := self._survey.sessions(place, _FILES_AT_A_TIME):
            yield await asyncio.to_thread(lambda files: [self._one_or_twin(file) for file in files], files)
            place = files[-1].told.id

    async def marks(self) -> AsyncIterator[list[Mark]]:
        """See ``MarkedSource``. Every file is read for it: their times are too coarse to be trusted."""
        await self.survey()
        place = ""
        while files := self._survey.sessions(place, _MARKS_AT_A_TIME):
            yield [Mark(_key(file.told.id), file.digest, is_exact=True, file=shown(file.name)) for file in files]
            place = files[-1].told.id

    async def parcels_at(self, keys: Sequence[RecordKey]) -> list[Parcel | Item]:
        """See ``MarkedSource``."""
        files = [self._survey.session(visible_id(id)) for id, _ in keys]
        return await asyncio.to_thread(lambda: [self._one_or_twin(file) for file in files])

    async def close(self) -> None:
        self._survey.close()

    def _one_or_twin(self, file: Surveyed) -> Parcel | Item:
        """The session from its file; where that has vanished, from one that said the same."""
        one = self._one(file.name, file)
        twins = self._survey.twins_of(file.told.id, file.content) if _has_vanished(one) else []
        for twin in twins:
            other = self._one(twin, file)
            if not _has_vanished(other):
                other.reasons = (*other.reasons, "duplicate_vanished")
                return other
        if twins:
            # They were told to be duplicates of it, so somebody has to look where the session went.
            return Item(shown(file.name), file.told.id, QUARANTINED, (VANISHED,))
        return one

    def _one(self, name: bytes, surveyed: Surveyed) -> Parcel | Item:
        """The session, read again from the file *name*: it is what stands there now that is copied."""
        try:
            read = read_bytes(os.path.join(self._folder, name))
            digest = read.digest
            if name == surveyed.name and digest == surveyed.digest:
                file = SessionFile(parse(read.content), surveyed.told, digest, read.modified)
                return self._parcel(name, file, surveyed.content, len(read.content))
            file = understood(name, read, self._zone)
            self._check_still(surveyed.told.id, file)
            return self._parcel(name, file, content_of(file), len(read.content))
        except FileRefused as refused:
            outcome = IGNORED if refused.reason == VANISHED else QUARANTINED
            return Item(shown(name), surveyed.told.id, outcome, (refused.reason,), detail=refused.detail)

    def _check_still(self, id: str, file: SessionFile) -> None:
        # Renamed inside while we were copying: whether another file has that id too was decided before.
        if file.told.id != id:
            raise FileRefused("changed_during_copy", "it names another session now; copy again")

    def _parcel(self, name: bytes, file: SessionFile, content: str, size: int) -> Parcel:
        document, told = file.parsed.value, file.told
        created, updated = _times(told.created_at, told.updated_at, file.modified or self._started)
        source_hash = joined(content, self._zone_name, self._convert or "")
        if self._convert is not None:
            document = as_session_data(document, id=told.id)
        try:
            record, log = imported(
                document,
                key=told.id,
                created_at=created,
                updated_at=updated,
                source_timezone=self._zone,
                time_unknown=told.time_unknown,
                is_known_plain=file.parsed.is_plain and self._convert is None,
                now=self._started,
            )
        except StorageError as error:
            raise refusal_of(error) from error
        reasons = (*told.warnings, *(f"{time}_unknown" for time in told.time_unknown))
        if self._convert is not None:
            content = session_content(record, entries_of(log))
        return Parcel(record, [log] if log else [], source_hash, content, False, shown(name), reasons, size)


def _has_vanished(one: Parcel | Item) -> bool:
    return isinstance(one, Item) and one.reasons == (VANISHED,)


def _key(id: str) -> RecordKey:
    return record_id(id), SESSION


def visible_id(stored: str) -> str:
    """The id by which a plain session is seen; one more ``~`` stands before one that begins with it."""
    return stored[1:] if stored.startswith("~~") else stored


def _times(created: datetime | None, updated: datetime | None, fallback: datetime) -> tuple[datetime, datetime]:
    """Both times: an unknown one is the other of the two, else *fallback*."""
    return created or updated or fallback, updated or created or fallback
