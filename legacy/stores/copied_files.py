"""A SQLite file read from a temporary copy, so that it stays byte-identical, its journal included."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from unified_storage.errors import StorageConnectionError

_ATTEMPTS = 6


@asynccontextmanager
async def copied_file(file: Path) -> AsyncIterator[Path]:
    """A copy of *file* and its journal as they were at one moment, gone on leaving.

    Raises:
        StorageConnectionError: it is being written all the time.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.db")
        await asyncio.to_thread(_copied_at_one_moment, file, copy)
        yield copy


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
