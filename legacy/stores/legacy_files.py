"""Reading a folder of session files (``legacy+file://``): one JSON document a file, each a plain session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

from legacy.stores.contents import entries_of, joined, session_content
from legacy.stores.file_reading import VANISHED, FileRefused, read_bytes, refusal_of
from legacy.stores.legacy_survey import FolderSurvey, SessionFile, content_of, shown, understood
from legacy.stores.parcels import IGNORED, QUARANTINED, Item, Parcel
from legacy.stores.session_data import as_session_data
from session_adapter.documents import imported
from session_adapter.timestamps import zone_named
from unified_storage.clock import Clock, utc_now
from unified_storage.errors import StorageConfigurationError, StorageError

_FILES_AT_A_TIME = 40
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
            yield await asyncio.to_thread(lambda files: [self._one_or_twin(*file) for file in files], files)
            place = files[-1][1]

    async def close(self) -> None:
        self._survey.close()

    def _one_or_twin(self, name: bytes, id: str, digest: str, content: str) -> Parcel | Item:
        """The session *id* from its file; where that has vanished, from one that said the same."""
        one = self._one(name, id, digest, content)
        twins = self._survey.twins_of(id, content) if _has_vanished(one) else []
        for twin in twins:
            other = self._one(twin, id, digest, content)
            if not _has_vanished(other):
                other.reasons = (*other.reasons, "duplicate_vanished")
                return other
        if twins:
            # They were told to be duplicates of it, so somebody has to look where the session went.
            return Item(shown(name), id, QUARANTINED, (VANISHED,))
        return one

    def _one(self, name: bytes, id: str, digest: str, content: str) -> Parcel | Item:
        """The session *id*, read again: it is what stands in the file now that is copied."""
        try:
            read = read_bytes(os.path.join(self._folder, name))
            file = understood(name, read, self._zone)
            if file.digest != digest:
                self._check_still(name, id, file)
                content = content_of(file)
            return self._parcel(name, file, content, len(read.content))
        except FileRefused as refused:
            outcome = IGNORED if refused.reason == VANISHED else QUARANTINED
            return Item(shown(name), id, outcome, (refused.reason,), detail=refused.detail)

    def _check_still(self, name: bytes, id: str, file: SessionFile) -> None:
        # Renamed inside while we were copying: whether another file has that id too was decided before.
        if file.found.id != id:
            raise FileRefused("changed_during_copy", "it names another session now; copy again")

    def _parcel(self, name: bytes, file: SessionFile, content: str, size: int) -> Parcel:
        document, found = file.document, file.found
        assert found.id is not None
        created, updated = _times(found.created_at, found.updated_at, file.modified or self._started)
        source_hash = joined(content, self._zone_name, self._convert or "")
        if self._convert is not None:
            document = as_session_data(document, id=found.id)
        try:
            record, log = imported(
                document,
                key=found.id,
                created_at=created,
                updated_at=updated,
                source_timezone=self._zone,
                time_unknown=found.time_unknown,
                now=self._started,
            )
        except StorageError as error:
            raise refusal_of(error) from error
        reasons = (*file.warnings, *(f"{time}_unknown" for time in found.time_unknown))
        if self._convert is not None:
            content = session_content(record, entries_of(log))
        return Parcel(record, [log] if log else [], source_hash, content, False, shown(name), reasons, size)


def _has_vanished(one: Parcel | Item) -> bool:
    return isinstance(one, Item) and one.reasons == (VANISHED,)


def visible_id(stored: str) -> str:
    """The id by which a plain session is seen; one more ``~`` stands before one that begins with it."""
    return stored[1:] if stored.startswith("~~") else stored


def _times(created: datetime | None, updated: datetime | None, fallback: datetime) -> tuple[datetime, datetime]:
    """Both times: an unknown one is the other of the two, else *fallback*."""
    return created or updated or fallback, updated or created or fallback
