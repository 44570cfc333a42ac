"""Opening a place to read from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from legacy.stores.archive import Archive
from legacy.stores.legacy_files import LOCAL, LegacyFiles
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import Source
from legacy.stores.places import ARCHIVE, LEGACY, Place
from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import open_storage


@asynccontextmanager
async def open_source(
    place: Place, *, source_timezone: str | None = None, convert: str | None = None
) -> AsyncIterator[Source]:
    """The place as a source, closed on leaving.

    Args:
        source_timezone: of times without an offset; None is this machine's zone.
        convert: "session-data", or None.
    Raises:
        StorageConfigurationError: it does not exist, or a switch means nothing there.
    """
    place.check_readable()
    if place.kind == LEGACY and place.path is not None:
        files = LegacyFiles(place.path, source_timezone=source_timezone or LOCAL, convert=convert)
        try:
            yield files
        finally:
            await files.close()
        return
    _refuse_switches(place, source_timezone, convert)
    if place.kind == ARCHIVE and place.path is not None:
        yield Archive(place.path)
        return
    async with open_storage(place.url) as storage:
        ours = OurStorage(storage, place.identity)
        try:
            yield ours
        finally:
            await ours.close()


def _refuse_switches(place: Place, source_timezone: str | None, convert: str | None) -> None:
    if convert is not None:
        raise StorageConfigurationError(f"only a folder of session files can be converted, not {place}")
    if source_timezone is not None:
        raise StorageConfigurationError(f"{place} has no times without an offset, so leave the source's time zone out")
