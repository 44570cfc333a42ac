"""LangChain's histories in a folder: a file ``<session id>.json`` for each session, a list of its messages.

The file does not say whose it is: the id is its name. What else stands in the folder is no history.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path

from legacy.session_files import SUFFIX, file_name, is_hashed, replace_file, session_id_of
from legacy.stores.file_reading import VANISHED, FileRefused, parse, read_bytes
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, Unit
from legacy.stores.peers.langchain_messages import document_of, warnings_of
from legacy.stores.peers.registry import path_of
from session_adapter.formats.langchain import LANGCHAIN_FILE
from unified_storage.errors import StorageConfigurationError, StorageValidationError

_AT_A_TIME = 200
_LOOKED_AT = 50
"""Files by which a folder is told."""
_BEGINNING = 64


async def open_folder(opening: Opening) -> Folder:
    path = path_of(opening)
    if not path:
        raise StorageConfigurationError("name the folder of the histories: langchain+file:///folder")
    folder = Path(path)
    if opening.to_write:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if not await asyncio.to_thread(folder.is_dir):
        raise StorageConfigurationError(f"{path!r} is no folder")
    return Folder(folder)


def is_folder_of_histories(folder: Path) -> bool:
    """Whether the first files of *folder* that could be sessions are lists, each of them."""
    named = sorted(path for path in islice(folder.iterdir(), 10 * _LOOKED_AT) if path.suffix == SUFFIX)
    beginnings = [_beginning(path) for path in named[:_LOOKED_AT] if path.is_file()]
    told = [begin for begin in beginnings if begin]
    return bool(told) and all(begin.startswith(b"[") for begin in told)


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BEGINNING).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return b""


class Folder:
    """See ``PeerStore``."""

    format = LANGCHAIN_FILE
    version: str | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        with os.scandir(self._folder) as entries:
            named = _named(entries)
            while part := [*islice(named, _AT_A_TIME)]:
                yield part

    def unit(self, key: Key) -> Unit:
        name = file_name(str(key))
        if is_hashed(name):  # the file would not tell its id
            raise StorageValidationError(f"{key!r} is too long for a file's name", details={"path": "session_id"})
        return Unit(key, name, name)

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        return await asyncio.to_thread(lambda: [self._read(unit) for unit in units])

    def _read(self, unit: Unit) -> Found | Item:
        session_id = str(unit.key)
        try:
            read = read_bytes(os.fsencode(self._folder / unit.place))
            parsed = parse(read.content)
        except FileRefused as refused:
            outcome = IGNORED if refused.reason == VANISHED else QUARANTINED
            return Item(unit.label, session_id, outcome, (refused.reason,), detail=refused.detail)
        if not isinstance(parsed.value, list):
            return Item(unit.label, session_id, QUARANTINED, ("invalid_shape",))
        return PeerSession(
            session_id,
            document_of(session_id, parsed.value),
            modified=read.modified,
            warnings=(*parsed.warnings, *warnings_of(parsed.value)),
            label=unit.label,
            size=len(read.content),
        )

    async def write(self, found: Sequence[Found]) -> None:
        files = [(self.unit(one.key).place, one.document) for one in found if isinstance(one, PeerSession)]
        for name, document in files:
            await asyncio.to_thread(replace_file, self._folder / name, json.dumps(document["messages"]).encode())

    async def close(self) -> None:
        """Nothing is open."""


def _named(entries: Iterator[os.DirEntry[str]]) -> Iterator[Unit | Item]:
    for entry in entries:
        name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        stem = name.removesuffix(SUFFIX)
        if entry.is_dir():
            yield Item(name, None, IGNORED, ("directory",))
        elif not name.endswith(SUFFIX):
            yield Item(name, None, IGNORED, ("not_a_session_file",))
        elif name != entry.name or is_hashed(name):
            yield Item(name, None, QUARANTINED, ("invalid_session_id",))
        else:
            yield Unit(session_id_of(name) or stem, name, name)
