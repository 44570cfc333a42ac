"""Opening a place to read from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

from legacy.engines import is_ours
from legacy.stores.archive import Archive
from legacy.stores.copied_files import copied_file
from legacy.stores.legacy_files import LOCAL, LegacyFiles
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import Source
from legacy.stores.peers.source import open_peer_source
from legacy.stores.places import ARCHIVE, LEGACY, Place
from unified_storage.errors import StorageConfigurationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import no_store, open_storage, parse_url


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
    if place.opening is not None:
        _refuse_conversion(place, convert)
        peer = await open_peer_source(place.opening, place.identity, source_timezone)
        try:
            yield peer
        finally:
            await peer.close()
        return
    _refuse_switches(place, source_timezone, convert)
    if place.kind == ARCHIVE and place.path is not None:
        yield Archive(place.path)
        return
    async with open_untouched(place) as storage:
        ours = OurStorage(storage, place.identity)
        try:
            yield ours
        finally:
            await ours.close()


@asynccontextmanager
async def open_untouched(place: Place) -> AsyncIterator[IUnifiedStorage]:
    """The storage that *place* is, to be read only; nothing is made or upgraded there.

    Raises:
        StorageConfigurationError: there is none (see :func:`is_missing`), or its schema is too old to be read as it is.
        StorageConnectionError: it is being written all the time, so that no copy of one moment could be made.
    """
    # what others offer may know of no such option
    options: dict[str, Any] = {"create": False} if is_ours(parse_url(place.url).scheme) else {}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_as_a_copy(place))
        try:
            storage = await stack.enter_async_context(open_storage(url, **options))
        except StorageConfigurationError as error:
            if place.path is None or not is_missing(error):
                raise
            # Its tables are of another namespace. The error names the copy, which nobody knows.
            raise no_store(place, "no table of this namespace", error.details["known"]) from None
        yield storage


async def check_store(place: Place) -> None:
    """Raise ``StorageConfigurationError`` unless there is a store of ours, of any version; nothing is made there."""
    place.check_readable()
    if is_ours(parse_url(place.url).scheme):
        try:
            async with open_storage(place.url, create=False):
                return
        except StorageConfigurationError as error:
            if is_missing(error):
                raise


def is_missing(error: StorageConfigurationError) -> bool:
    """Whether a place was refused because there is no store."""
    return error.details.get("found") == 0


@asynccontextmanager
async def _as_a_copy(place: Place) -> AsyncIterator[str]:
    """The URL by which *place* stays byte-identical: of a temporary copy, where it is a SQLite file."""
    if place.path is None:
        yield place.url
        return
    async with copied_file(place.path) as copy:
        query = place.url.partition("?")[2]
        yield f"sqlite:///{quote(str(copy))}" + (f"?{query}" if query else "")


def _refuse_conversion(place: Place, convert: str | None) -> None:
    if convert is not None:
        raise StorageConfigurationError(f"only a folder of session files can be converted, not {place}")


def _refuse_switches(place: Place, source_timezone: str | None, convert: str | None) -> None:
    _refuse_conversion(place, convert)
    if source_timezone is not None:
        raise StorageConfigurationError(f"{place} has no times without an offset, so leave the source's time zone out")
