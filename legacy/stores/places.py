"""From what a person writes to a place: ``FORMAT+ENGINE://``, the URL of a storage, or a path that tells by itself."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

from legacy.engines import Engine, file_of, known_engines, lives_in_memory, storage_identity
from legacy.stores.peers.kinds import Opening
from legacy.stores.peers.langchain_files import is_folder_of_histories
from legacy.stores.peers.registry import (
    file_url,
    identity_of,
    is_peer,
    opening_of,
    path_of,
    peer_formats,
    told_by_looking,
)
from session_adapter.formats import PeerFormat
from unified_storage.errors import (
    StorageConfigurationError,
    StorageError,
    StorageIntegrityError,
    StorageUnsupportedError,
    redacted,
)
from unified_storage.opening import is_backend, parse_url

T = TypeVar("T")
LEGACY, ARCHIVE, STORAGE, PEER = "legacy", "jsonl", "storage", "peer"
_SQLITE_MAGIC = b"SQLite format 3\0"
_NOT_OURS = "{!r} is a SQLite file of another program, whose sessions nothing here can read"
_EXAMPLES = {"file": "file:///folder"} | {engine.name: engine.example for engine in known_engines()}
_OUR_TABLES = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'unified\\_%' ESCAPE '\\'"


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """A kind of place, as ``unified-storage formats`` lists it.

    Attributes:
        url: how such a place is written.
        lossy: what writing there loses; empty when nothing.
        to_install: the command without which neither is possible here; empty when nothing is missing.
    """

    name: str
    url: str
    reads: bool
    writes: bool
    lossy: str = ""
    to_install: str = ""

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "url": self.url,
            "reads": self.reads,
            "writes": self.writes,
            "lossy": self.lossy,
            "to_install": self.to_install,
        }


STORES = (
    StoreFormat(
        LEGACY,
        "legacy+file:///folder",
        reads=True,
        writes=True,
        lossy="sessions only: no other types, no logs but the history, no expiry, no application of a scoped session;"
        " messages without their ids, times, runs, authors, usage and state changes; bytes of others' sessions as text",
    ),
    StoreFormat(ARCHIVE, "jsonl:///file.jsonl", reads=True, writes=True),
)


def known_formats() -> list[StoreFormat]:
    """Every kind of place that can be read or written."""
    return [*STORES, *map(_peer_format, peer_formats()), *map(_format_of, known_engines())]


def _peer_format(format: PeerFormat) -> StoreFormat:
    lossy = f"no word on {format.lossy}" if format.loses else ""
    url = f"{format.family}+{_EXAMPLES[format.engines[0]]}"
    return StoreFormat(format.name, url, reads=True, writes=format.writes, lossy=lossy)


def _format_of(engine: Engine) -> StoreFormat:
    usable = not engine.to_install
    return StoreFormat(engine.name, engine.example, usable, usable, to_install=engine.to_install)


@dataclass(frozen=True, slots=True)
class Place:
    """Where sessions are.

    Attributes:
        kind: ``legacy``, ``jsonl``, ``storage``, or ``peer`` for a store of another framework.
        url: how it is opened; may hold a password, which ``str()`` masks.
        path: of a folder, an archive or a SQLite file; None for what is in no file.
        identity: its normalised URL without a password: the same for the same place.
        opening: how a store of another framework is opened; None for all else.
    """

    kind: str
    url: str = field(repr=False)
    path: Path | None
    identity: str
    opening: Opening | None = None

    def __str__(self) -> str:
        return redacted(self.url)

    @property
    def is_there(self) -> bool:
        """Whether it exists; a place that is in no file always does."""
        return self.path is None or self.path.exists()

    def has_identity(self, identity: str) -> bool:
        """Whether it is the place of that identity; what lives in memory is another one each time."""
        in_memory = self.kind == STORAGE and lives_in_memory(parse_url(self.url))
        return self.identity == identity and not in_memory

    def check_readable(self) -> None:
        """Raise unless it exists and, where it is a SQLite file, holds tables of ours: opening it would make them.

        Raises:
            StorageConfigurationError: it does not exist.
            StorageUnsupportedError: a SQLite file of another program.
            StorageIntegrityError: a SQLite file that is damaged.
        """
        if not self.is_there:
            raise StorageConfigurationError(f"{self} does not exist")
        if self.kind == STORAGE and self.path is not None and not _looked_at(self.path, _has_our_tables):
            raise StorageUnsupportedError(_NOT_OURS.format(str(self.path)))

    @property
    def is_foreign(self) -> bool:
        """Whether it is a SQLite file with tables, none of which is ours."""
        if self.kind != STORAGE or self.path is None or not self.path.is_file() or not self.path.stat().st_size:
            return False
        return not _looked_at(self.path, _has_our_tables) and _looked_at(self.path, _has_tables)


def place_of(text: str | Path) -> Place:
    """The place that *text* names.

    Raises:
        StorageConfigurationError: it names none, or a bare path does not tell what it is.
        StorageUnsupportedError: a foreign store that this version cannot read.
    """
    given = str(text)
    scheme, separator, rest = given.partition("://")
    if not separator:
        return _place_of_path(Path(given))
    url = parse_url(given)
    if is_backend(url.scheme):
        return Place(STORAGE, given, file_of(url), storage_identity(url))
    if is_peer(scheme):
        return _peer(given)
    if "+" in scheme or scheme in (LEGACY, ARCHIVE):
        return _foreign_place(given, scheme, rest)
    raise StorageConfigurationError(f"unknown place {redacted(given)!r}; known are {', '.join(_known())}")


def _peer(given: str) -> Place:
    opening = opening_of(given)
    path = path_of(opening)
    return Place(PEER, given, None if path is None else Path(path), identity_of(opening), opening)


def _known() -> list[str]:
    return [format.url for format in known_formats()]


def _foreign_place(given: str, scheme: str, rest: str) -> Place:
    location, _, query = rest.partition("?")
    name, _, engine = scheme.partition("+")
    if (name, engine) not in ((LEGACY, "file"), (ARCHIVE, ""), (ARCHIVE, "file")):
        raise StorageUnsupportedError(f"{scheme}:// is not supported in this version; known are {', '.join(_known())}")
    if query:
        raise StorageConfigurationError(f"{scheme}:// takes no parameters, so not {query!r}")
    if not location.startswith(("/", ".")):
        told = f"write {scheme}:///absolute/path or {scheme}://./relative/path"
        raise StorageConfigurationError(f"{given!r} names no path; {told}")
    return _on_disk(name, Path(unquote(location)))


def _on_disk(kind: str, path: Path) -> Place:
    scheme = "legacy+file" if kind == LEGACY else ARCHIVE
    url = f"{scheme}://{quote(str(path.absolute()))}"
    return Place(kind, url, path, f"{scheme}://{path.resolve()}")


def _place_of_path(path: Path) -> Place:
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        told = f"for a place to be made, write one of {', '.join(_known())}"
        raise StorageConfigurationError(f"{_without_password(path)!r} does not exist; {told}")
    if not path.is_file():
        raise StorageConfigurationError(f"{str(path)!r} is neither a file nor a folder")
    return _file(path)


def _without_password(path: Path) -> str:
    """The path as it is shown: it may be a URL whose ``//`` was forgotten."""
    return re.sub(r":.*@", ":***@", str(path), flags=re.DOTALL)


def _folder(path: Path) -> Place:
    if is_folder_of_histories(path):
        return _peer(f"langchain+file://{quote(str(path.absolute()))}")
    if any(name.suffix == ".json" for name in path.iterdir()):
        return _on_disk(LEGACY, path)
    told = f"write legacy+file://{path.absolute()} if session files belong there"
    raise StorageConfigurationError(f"{str(path)!r} is a folder without session files; {told}")


def _file(path: Path) -> Place:
    with path.open("rb") as file:
        begins = file.read(len(_SQLITE_MAGIC))
    if begins == _SQLITE_MAGIC:
        return _sqlite_file(path)
    if path.suffix == ".jsonl":
        return _on_disk(ARCHIVE, path)
    raise StorageConfigurationError(f"{str(path)!r} is neither a SQLite file nor a .jsonl archive")


def _sqlite_file(path: Path) -> Place:
    if _looked_at(path, _has_our_tables):
        return place_of(f"sqlite:///{quote(str(path.absolute()))}")
    format = _looked_at(path, told_by_looking)
    if format is None:
        raise StorageUnsupportedError(_NOT_OURS.format(str(path)))
    return _peer(file_url(format, str(path.absolute())))


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    (count,) = connection.execute(_OUR_TABLES).fetchone()
    return bool(count)


def _has_tables(connection: sqlite3.Connection) -> bool:
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    return bool(count)


def _looked_at(path: Path, look: Callable[[sqlite3.Connection], T]) -> T:
    """What *look* says of a SQLite file, which stays byte-identical, its journal included."""
    journal = path.with_name(path.name + "-wal")
    there = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    if not journal.exists():
        return _asked(there, path, look)
    # What is not in the file itself may still stand in its journal. A reader would write beside it, so copies are
    # read; but not where the file alone, however large, says yes.
    with contextlib.suppress(StorageError):
        if found := _asked(there, path, look):
            return found
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, Path(folder, "copy.db")))
        shutil.copy(journal, Path(folder, "copy.db-wal"))
        return _asked(copy.as_uri(), path, look)


def _asked(address: str, path: Path, look: Callable[[sqlite3.Connection], T]) -> T:
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return look(connection)
    except sqlite3.DatabaseError as error:
        damaged = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CORRUPT
        kind = StorageIntegrityError if damaged else StorageConfigurationError
        raise kind(f"{str(path)!r} cannot be read: {error}") from error
