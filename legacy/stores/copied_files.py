"""A SQLite file read from a temporary copy, so that it stays byte-identical, its journals included."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from unified_storage.errors import StorageConnectionError

_ATTEMPTS = 6
_SECONDS_FOR_A_LOCK = 5.0
_GAP = 0.0005
_TELLING = 0.05
"""Seconds after which a write changes a file's time for certain; systems count it in steps of some milliseconds."""
_WAL_HEADER = 32
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@asynccontextmanager
async def copied_file(file: Path) -> AsyncIterator[Path]:
    """A copy of *file* and its journal as they were at one moment, gone on leaving.

    Raises:
        StorageConnectionError: it is being written all the time, or locked.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.db")
        await asyncio.to_thread(_copied_at_one_moment, file, copy)
        yield copy


def state_of_file(file: Path) -> str | None:
    """A text that changes with a SQLite file or its journals, but for two writes in the same moment; None for no file.

    Two look-ups that lie further apart than a file's time is exact, and give the same, say that nothing was written.
    """
    states = [_state(_beside(file, suffix)) for suffix in ("", "-wal", "-journal")]
    return None if states[0] is None else repr(states)


def _copied_at_one_moment(file: Path, copy: Path) -> None:
    for attempt in range(_ATTEMPTS):
        if _copied_under_lock(file, copy) or _copied_as_it_lies(file, copy):
            return
        time.sleep(0.1 * attempt)
    raise StorageConnectionError(f"{str(file)!r} changes all the time; stop its writers and run again")


def _copied_under_lock(file: Path, copy: Path) -> bool:
    """Whether it was copied while a reader's lock held its writers back.

    That lock is a word to the system and leaves no byte, but where there is a write-ahead log a reader would write
    beside it.
    """
    if _beside(file, "-wal").exists() or _is_of_wal(file):
        return False
    address = f"{file.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=0)) as source,
            closing(sqlite3.connect(copy, isolation_level=None)) as target,
        ):
            _lock(source)
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target)
    except sqlite3.DatabaseError as error:
        if _is_locked(error):
            raise StorageConnectionError(f"{str(file)!r} is locked by a writer; run again", cause=error) from error
        _clear(copy)
        return False  # damaged, or left in the middle of a change: whoever reads the copy finds out
    return True


def _lock(source: sqlite3.Connection) -> None:
    """Hold writers back until *source* is closed; raises ``sqlite3.DatabaseError`` where they leave no gap.

    The gaps between the writes of a busy writer are short: SQLite's own waiting looks for them ever more seldom.
    """
    source.execute("BEGIN")
    until = time.monotonic() + _SECONDS_FOR_A_LOCK
    while True:
        try:
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        except sqlite3.DatabaseError as error:
            if not _is_locked(error) or time.monotonic() >= until:
                raise
        time.sleep(_GAP)


def _is_locked(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKED


def _copied_as_it_lies(file: Path, copy: Path) -> bool:
    """Whether file and journals were copied with no write to the file between the first byte and the last.

    What is added to a write-ahead log meanwhile does no harm: its end is told by its own sums.
    """
    before = _state(file), _state(_beside(file, "-journal")), _head(_beside(file, "-wal"))
    if before[0] is not None and abs(time.time_ns() - before[0][1]) < _TELLING * 1e9:
        return False
    _clear(copy)
    shutil.copyfile(file, copy)
    for suffix in ("-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(_beside(file, suffix), _beside(copy, suffix))
    return (_state(file), _state(_beside(file, "-journal")), _head(_beside(file, "-wal"))) == before


def _clear(copy: Path) -> None:
    for suffix in ("", "-wal", "-journal"):
        _beside(copy, suffix).unlink(missing_ok=True)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        there = file.stat()
    except FileNotFoundError:
        return None
    return there.st_size, there.st_mtime_ns, there.st_ino


def _head(log: Path) -> bytes | None:
    """The beginning of a write-ahead log, another one each time that it is begun anew."""
    try:
        with log.open("rb") as file:
            return file.read(_WAL_HEADER)
    except FileNotFoundError:
        return None


def _is_of_wal(file: Path) -> bool:
    """Whether the header asks readers for a write-ahead log."""
    with file.open("rb") as opened:
        header = opened.read(20)
    return header[18:20] != b"\x01\x01"
