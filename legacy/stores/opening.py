"""Opening a place to read from."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from legacy.stores.archive import Archive
from legacy.stores.legacy_files import LOCAL, LegacyFiles
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import Source
from legacy.stores.places import ARCHIVE, LEGACY, STORAGE, Place
from unified_storage.errors import StorageConfigurationError, StorageConnectionError
from unified_storage.opening import open_storage

_ATTEMPTS = 6


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
    async with untouched(place) as url, open_storage(url) as storage:
        ours = OurStorage(storage, place.identity)
        try:
            yield ours
        finally:
            await ours.close()


@asynccontextmanager
async def untouched(place: Place) -> AsyncIterator[str]:
    """The URL by which *place* is read and stays byte-identical: of a temporary copy, where it is a SQLite file.

    Raises:
        StorageConnectionError: it is being written all the time, so that no copy of one moment could be made.
    """
    if place.kind != STORAGE or place.path is None:
        yield place.url
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.db")
        await asyncio.to_thread(_copied_at_one_moment, place.path, copy)
        query = place.url.partition("?")[2]
        yield f"sqlite:///{quote(str(copy))}" + (f"?{query}" if query else "")


def _copied_at_one_moment(file: Path, copy: Path) -> None:
    journal, its_copy = _beside(file), _beside(copy)
    for attempt in range(_ATTEMPTS):
        before = _state(file), _state(journal)
        shutil.copyfile(file, copy)
        its_copy.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(journal, its_copy)
        if (_state(file), _state(journal)) == before:
            return
        time.sleep(0.1 * attempt)
    raise StorageConnectionError(f"{str(file)!r} changes all the time; stop its writers and run again")


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _state(file: Path) -> tuple[int, int] | None:
    try:
        there = file.stat()
    except FileNotFoundError:
        return None
    return (there.st_size, there.st_mtime_ns)


def _refuse_switches(place: Place, source_timezone: str | None, convert: str | None) -> None:
    if convert is not None:
        raise StorageConfigurationError(f"only a folder of session files can be converted, not {place}")
    if source_timezone is not None:
        raise StorageConfigurationError(f"{place} has no times without an offset, so leave the source's time zone out")
