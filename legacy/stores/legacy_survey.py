"""The survey of a folder of session files: what each file is, and which of several with one id is the session."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from legacy.file_store import session_id_of
from legacy.stores.contents import document_content
from legacy.stores.file_reading import (
    NOT_A_REGULAR_FILE,
    UNREADABLE,
    VANISHED,
    FileBytes,
    FileRefused,
    Parsed,
    parse,
    read_bytes,
    refusal_of,
)
from legacy.stores.parcels import DUPLICATE, IGNORED, QUARANTINED, Item
from legacy.stores.survey import in_batches, temporary_database
from session_adapter.formats.inspection import findings
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageError
from unified_storage.times import micros, moment

_SUFFIX = b".json"
_AT_A_TIME = 200
_SCHEMA = """
    CREATE TABLE files (
        name BLOB PRIMARY KEY, id TEXT, created INTEGER, updated INTEGER, digest TEXT, content TEXT,
        outcome TEXT, reasons TEXT NOT NULL DEFAULT '[]', detail TEXT
    ) WITHOUT ROWID;
    CREATE INDEX files_by_id ON files (id, name);
"""
_Row = tuple[bytes, str | None, int | None, int | None, str | None, str | None, str | None, str, str | None]


@dataclass(frozen=True, slots=True)
class SessionFile:
    """One file, read and understood.

    Attributes:
        parsed: its JSON value, an object.
        digest: of the bytes.
    """

    parsed: Parsed
    told: Told
    digest: str
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """What the bytes and the name of a file say of its session.

    Attributes:
        created_at, updated_at: in UTC; None where the document does not tell.
        warnings: of the file's text, its name and its document.
    """

    id: str
    created_at: datetime | None
    updated_at: datetime | None
    warnings: tuple[str, ...]

    @property
    def time_unknown(self) -> list[str]:
        """Which of the two times the document does not tell."""
        return [name for name in ("created_at", "updated_at") if getattr(self, name) is None]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A file as the survey found it, to be read again.

    Attributes:
        digest: of its bytes.
        content: the hash of its document.
    """

    name: bytes
    digest: str
    content: str
    told: Told


def shown(name: bytes) -> str:
    """A file's name for people; bytes that are no text are escaped."""
    return name.decode("utf-8", "backslashreplace")


def understood(name: bytes, read: FileBytes, zone: Zone) -> SessionFile:
    """What the bytes of the file *name* say.

    Raises:
        FileRefused: they are no JSON document that can be kept, or name no session.
    """
    parsed = parse(read.content)
    found = findings(parsed.value, stem=_stem(name), source_timezone=zone)
    if found.refusal is not None:
        raise FileRefused(found.refusal)
    assert found.id is not None  # what is not refused has one
    hidden = ("hidden_file",) if name.startswith(b".") else ()
    told = Told(found.id, found.created_at, found.updated_at, (*hidden, *parsed.warnings, *found.warnings))
    return SessionFile(parsed, told, read.digest, read.modified)


def content_of(file: SessionFile) -> str:
    """The hash of the file's document; ``FileRefused`` where a storage cannot keep what is in it."""
    try:
        return document_content(file.parsed.value, is_known_plain=file.parsed.is_plain)
    except StorageError as error:
        raise refusal_of(error) from error


def _stem(name: bytes) -> str:
    text = os.fsdecode(name)
    return session_id_of(text) or text.removesuffix(".json")


class FolderSurvey:
    """Every entry of a folder, looked at once and kept in a temporary file.

    Args:
        folder: its path.
        zone: of times without an offset.
    """

    def __init__(self, folder: bytes, zone: Zone) -> None:
        self._folder = folder
        self._zone = zone
        self._database = temporary_database(_SCHEMA)

    def close(self) -> None:
        self._database.close()

    def run(self) -> int:
        """Look at everything; how many sessions there are to copy. Blocks: meant for a thread of its own."""
        rows: list[_Row] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                rows.append(self._row(entry))
                if len(rows) >= _AT_A_TIME:
                    self._keep(rows)
        self._keep(rows)
        self._decide_duplicates()
        (count,) = self._database.execute("SELECT count(*) FROM files WHERE outcome IS NULL").fetchone()
        return int(count)

    def items(self) -> Iterator[list[Item]]:
        """What does not travel, by file name."""
        told = "SELECT name, id, outcome, reasons, detail FROM files WHERE outcome IS NOT NULL ORDER BY name"
        for rows in in_batches(self._database, told):
            yield [
                Item(shown(name), id, outcome, tuple(json.loads(reasons)), detail=detail)
                for name, id, outcome, reasons, detail in rows
            ]

    def sessions(self, after: str, limit: int) -> list[Surveyed]:
        """The next sessions behind the id *after*, by id."""
        rows = self._database.execute(f"{_SURVEYED} AND id > ? ORDER BY id LIMIT ?", (after, limit))
        return [_surveyed(row) for row in rows]

    def session(self, id: str) -> Surveyed:
        """A session that was found."""
        return _surveyed(self._database.execute(f"{_SURVEYED} AND id = ?", (id,)).fetchone())

    def twins_of(self, id: str, content: str) -> list[bytes]:
        """The files that say the same as the one that was found to be the session *id*, by name."""
        told = "SELECT name FROM files WHERE outcome = ? AND id = ? AND content = ? ORDER BY name"
        return [bytes(name) for (name,) in self._database.execute(told, (DUPLICATE, id, content))]

    def holder_of(self, id: str) -> bytes | None:
        """The file that was found to be the session *id*; None when there is none."""
        row = self._database.execute("SELECT name FROM files WHERE outcome IS NULL AND id = ?", (id,)).fetchone()
        return None if row is None else bytes(row[0])

    def _keep(self, rows: list[_Row]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")
        rows.clear()

    def _row(self, entry: os.DirEntry[bytes]) -> _Row:
        try:
            _check_kind(entry)
            file = understood(entry.name, read_bytes(entry.path), self._zone)
            content = content_of(file)
        except FileRefused as refused:
            outcome = IGNORED if refused.reason in _NO_SESSIONS else QUARANTINED
            return entry.name, None, None, None, None, None, outcome, json.dumps([refused.reason]), refused.detail
        told = file.told
        created, updated = _micros(told.created_at), _micros(told.updated_at)
        return entry.name, told.id, created, updated, file.digest, content, None, _as_json(told.warnings), None

    def _decide_duplicates(self) -> None:
        shared = """
            SELECT id, name, updated, content FROM files WHERE id IN (
                SELECT id FROM files WHERE outcome IS NULL GROUP BY id HAVING count(*) > 1
            ) ORDER BY id, name
        """
        rows = (row for batch in in_batches(self._database, shared) for row in batch)
        for _, group in groupby(rows, key=itemgetter(0)):
            for name, (outcome, reason) in _judged([(name, updated, content) for _, name, updated, content in group]):
                self._database.execute(
                    "UPDATE files SET outcome = ?, reasons = ? WHERE name = ?", (outcome, json.dumps([reason]), name)
                )


_SURVEYED = "SELECT name, digest, content, id, created, updated, reasons FROM files WHERE outcome IS NULL"


def _surveyed(row: tuple[bytes, str, str, str, int | None, int | None, str]) -> Surveyed:
    name, digest, content, id, created, updated, warnings = row
    return Surveyed(name, digest, content, Told(id, _known(created), _known(updated), tuple(json.loads(warnings))))


def _as_json(words: tuple[str, ...]) -> str:
    return json.dumps(words) if words else "[]"


def _micros(time: datetime | None) -> int | None:
    return None if time is None else micros(time)


def _known(time: int | None) -> datetime | None:
    return None if time is None else moment(time)


_NO_SESSIONS = {"directory", "stray_tmp", "not_a_session_file", NOT_A_REGULAR_FILE, VANISHED}


def _check_kind(entry: os.DirEntry[bytes]) -> None:
    """Refuse what is no session file, before anything is opened."""
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError as error:
        # A link that leads nowhere is there; a file that was deleted since it was listed is not.
        if not entry.is_symlink():
            raise FileRefused(VANISHED) from error
        mode = None
    except OSError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise FileRefused("directory")
    if not entry.name.endswith(_SUFFIX):
        raise FileRefused("stray_tmp" if entry.name.endswith(b".tmp") else "not_a_session_file")
    if mode is None:
        raise FileRefused(UNREADABLE, "broken link" if entry.is_symlink() else None)
    if not stat.S_ISREG(mode):
        raise FileRefused(NOT_A_REGULAR_FILE)


def _judged(group: list[tuple[bytes, int | None, str]]) -> Iterator[tuple[bytes, tuple[str, str]]]:
    """What becomes of files that name one session, given by name: nothing is said of the one that is it."""
    oldest = -(1 << 63)
    age = {name: oldest if updated is None else updated for name, updated, _ in group}
    first_with: dict[str, bytes] = {}
    for name, _, content in group:
        first_with.setdefault(content, name)
    newest = max(age[name] for name in first_with.values())
    candidates = [name for name in first_with.values() if age[name] == newest]
    for name, _, content in group:
        if len(candidates) > 1:
            yield name, (QUARANTINED, "duplicate_session_id_conflict")
        elif first_with[content] != name:
            yield name, (DUPLICATE, "identical_duplicate")
        elif name != candidates[0]:
            yield name, (QUARANTINED, "duplicate_session_id")
