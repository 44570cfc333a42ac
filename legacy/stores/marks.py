"""Marks: by what a store tells, without being read whole, that something in it has changed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

from legacy.stores.copied_files import state_of_file
from legacy.stores.parcels import Item, Parcel, RecordKey, Source
from legacy.stores.places import LEGACY, Place


@dataclass(frozen=True, slots=True)
class Mark:
    """One record of a source, unread.

    Attributes:
        value: another text whenever the record was changed since; None where only reading it tells.
        is_exact: no change leaves the value as it is, however soon it follows another.
        moment: when the record was changed last, as the source says; None where it does not.
        file: where it was found, for reports.
    """

    key: RecordKey
    value: str | None
    is_exact: bool = False
    moment: datetime | None = None
    file: str | None = None


@runtime_checkable
class MarkedSource(Source, Protocol):
    """A source that says what it holds before it is read; see ``Source``."""

    def marks(self) -> AsyncIterator[list[Mark]]:
        """Everything that travels, each once, in bounded memory. Instead of the survey; ``findings`` stand then."""

    async def parcels_at(self, keys: Sequence[RecordKey]) -> list[Parcel | Item]:
        """What stands there under *keys*, in their order; ``ignored`` where something has vanished."""


def state_of_place(place: Place) -> str | None:
    """A text that changes with the files of *place*, see ``state_of_file``; None where only reading it tells."""
    if place.path is None:
        return None
    if place.path.is_file():
        return state_of_file(place.path)
    return _state_of_folder(place.path) if place.kind == LEGACY and place.path.is_dir() else None


def _state_of_folder(folder: Path) -> str:
    """Of all files in any order: their names, sizes and times."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            facts = f"{entry.name!r} {_state_of_entry(entry)}"
            total ^= int.from_bytes(sha256(facts.encode("utf-8", "surrogateescape")).digest(), "big")
    return f"{total:x}"


def _state_of_entry(entry: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        there = entry.stat()
    except OSError:  # it has just vanished, or leads nowhere
        return ()
    return there.st_size, there.st_mtime_ns, there.st_ino
