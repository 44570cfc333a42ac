"""The place that a comparison looks things up in: a store that is walked, a folder of files, a foreign store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from legacy.file_store import FileSessionStore
from legacy.migration.copy import check_mapping
from legacy.migration.decision import UNREADABLE_TARGET
from legacy.migration.differences import document_differences, whole_differences
from legacy.migration.into_peer import IntoPeer
from legacy.migration.memos import Memos
from legacy.stores.legacy_documents import is_document_of, legacy_document
from legacy.stores.opening import open_source, open_untouched
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import CONFLICT, COPIED, EQUAL, SESSION, Item, Parcel, RecordKey, Source
from legacy.stores.peers.registry import open_as_it_is
from legacy.stores.places import LEGACY, STORAGE, Place, place_of
from unified_storage.errors import StorageConfigurationError, StorageError
from unified_storage.interface import IUnifiedStorage

MISSING = "missing"
_UNREADABLE = "unreadable"


class Reference:
    """What is compared with.

    Attributes:
        name: of the place, for people.
        passed_over: records that nobody asked for; None where they are not looked for.
    """

    passed_over: int | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    async def told(self, place: Place) -> dict[str, Any]:
        """What the copy from *place* was told; empty where nobody remembers."""
        return {}

    async def start(self, after: str | None, *, sessions_only: bool) -> None:
        """Asked once, before anything else: behind which id the records begin, and whether all are sessions."""

    async def differences(self, parcel: Parcel) -> tuple[str, ...] | None:
        """How what is here differs from *parcel*: empty when it does not, None where no copy takes it."""
        raise NotImplementedError

    async def skip(self, parcel: Parcel) -> None:
        """Pass by *parcel*, which is not compared."""

    async def finish(self) -> None:
        """Nothing more will be asked."""


class _Walked(Reference):
    """A place that is walked beside the source: both come by ``(id, type)``."""

    passed_over: int = 0

    def __init__(self, name: str, opened: Source, storage: IUnifiedStorage | None) -> None:
        super().__init__(name)
        self._opened = opened
        self._storage = storage
        self._sessions_only = False
        self._walk: AsyncIterator[Parcel | Item] | None = None
        self._next: Parcel | None = None
        self._unreadable: set[str | None] = set()

    async def told(self, place: Place) -> dict[str, Any]:
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


class _Files(Reference):
    """A folder of session files, looked up one by one: a file holds what its session became there."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self._files = FileSessionStore(folder, strict=True)

    async def differences(self, parcel: Parcel) -> tuple[str, ...] | None:
        return await asyncio.to_thread(self._differences, parcel) if parcel.is_session else ()

    def _differences(self, parcel: Parcel) -> tuple[str, ...]:
        try:
            id, document = legacy_document(parcel.record, parcel.logs)
            found = self._files.get_session(id)
        except StorageError as error:
            return (error.error_code.lower(),)
        if found is None:
            return (MISSING,)
        return () if is_document_of(parcel, document, found) else ("document",)


class _Foreign(Reference):
    """The store of another framework: what a copy that writes nothing would do tells what is there."""

    def __init__(self, name: str, into: IntoPeer) -> None:
        super().__init__(name)
        self._into = into

    async def differences(self, parcel: Parcel) -> tuple[str, ...] | None:
        (item,) = (await self._into.take([parcel])).items
        if UNREADABLE_TARGET in item.reasons:
            return (_UNREADABLE,)
        return {EQUAL: (), COPIED: (MISSING,), CONFLICT: ("document",)}.get(item.outcome)

    async def skip(self, parcel: Parcel) -> None:
        self._into.pass_by(parcel)


@asynccontextmanager
async def open_reference(
    target: str | Path | IUnifiedStorage, source: Place, mapping: Mapping[str, str]
) -> AsyncIterator[Reference]:
    """*target* as what is compared with, closed on leaving unless it was given open.

    Args:
        mapping: app and user of sessions that have none, where the target's form needs both.
    Raises:
        StorageConfigurationError: it is not there, or is the source itself.
    """
    if isinstance(target, IUnifiedStorage):
        check_mapping(mapping, None)
        ours = OurStorage(target, "")
        try:
            yield _Walked(type(target).__name__, ours, target)
        finally:
            await ours.close()
        return
    place = place_of(target)
    if place.has_identity(source.identity):
        raise StorageConfigurationError(f"source and target are the same place, {place}")
    check_mapping(mapping, place)
    place.check_readable()
    async with _opened(place, source, mapping) as reference:
        yield reference


@asynccontextmanager
async def _opened(place: Place, source: Place, mapping: Mapping[str, str]) -> AsyncIterator[Reference]:
    if place.kind == STORAGE:
        async with open_untouched(place) as storage, open_reference(storage, source, {}) as reference:
            reference.name = str(place)
            yield reference
    elif place.opening is not None:
        store = await open_as_it_is(place.opening, is_there=place.is_there)
        into = IntoPeer(store, mapping, dry_run=True, overwrite=False)
        try:
            yield _Foreign(str(place), into)
        finally:
            await into.close()
    elif place.kind == LEGACY and place.path is not None:
        yield _Files(str(place), place.path)
    else:
        async with open_source(place) as opened:
            yield _Walked(str(place), opened, None)
