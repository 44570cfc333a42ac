"""The journal of a member: the ids that it writes in L alone while U cannot be reached, on disk before it writes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from legacy.session_files import sync_folder
from unified_storage.errors import StorageConfigurationError

SUFFIX = ".journal"
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def journal_path(folder: Path, member: str) -> Path:
    """Where the journal of *member* lies."""
    return folder.resolve() / f"{_ODD.sub('_', member)}{SUFFIX}"


class Journal:
    """A file that is its member's alone as long as the member's process lives; whoever can lock it may drain it.

    All methods block; they are called in threads.

    Attributes:
        path: where it lies.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._guard = threading.Lock()

    @classmethod
    def of(cls, folder: Path, member: str) -> Self:
        """The journal of *member* in *folder*, which is made where it is not there.

        Raises:
            StorageConfigurationError: another living process has it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        opened = cls._locked(journal_path(folder, member))
        if opened is None:
            raise StorageConfigurationError(f"the journal of member {member!r} is another process's; name it otherwise")
        sync_folder(folder)
        return opened

    @classmethod
    def left_behind(cls, folder: Path, mine: Path) -> Iterator[Self]:
        """The journals in *folder* whose processes have ended, besides *mine*."""
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path != mine and (found := cls._locked(path)) is not None:
                yield found

    @classmethod
    def taken(cls, path: Path) -> Self | None:
        """The journal at *path*, where its process has ended; None where that still has it."""
        return cls._locked(path)

    @classmethod
    def _locked(cls, path: Path) -> Self | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not _lies_at(path, descriptor):  # who had it has removed it since we opened it
            os.close(descriptor)
            return cls._locked(path)
        return cls(path, descriptor)

    def add(self, session_id: str) -> None:
        """On disk when it returns; an ``OSError`` leaves nothing of it."""
        line = json.dumps({"id": session_id}).encode() + b"\n"
        with self._guard:
            before = self.size
            try:
                if os.write(self._descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, "no room for the journal")
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, before)
                raise

    def ids(self) -> list[str]:
        """The ids in it, each once, in the order they came."""
        content = self.path.read_bytes()
        lines = content.split(b"\n")[:-1]  # a torn last line is of a process that was killed before it wrote L
        return list(dict.fromkeys(json.loads(line)["id"] for line in lines))

    @property
    def size(self) -> int:
        """Bytes in it."""
        return os.fstat(self._descriptor).st_size

    def clear(self, known: int) -> bool:
        """Forget everything, unless more than the first *known* bytes are in it; whether it is empty."""
        with self._guard:
            if self.size > known:
                return False
            os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)
            return True

    def set_aside(self) -> Path | None:
        """Keep what is in it in another file, and forget it here; that file, None where nothing was in it."""
        with self._guard:
            if not self.size:
                return None
            kept = self.path.with_name(f"{self.path.name}.{time.time_ns()}.old")
            kept.write_bytes(self.path.read_bytes())
            os.ftruncate(self._descriptor, 0)
            return kept

    def close(self, *, remove: bool = False) -> None:
        """Let go of it; *remove* where nothing is in it that somebody has to drain."""
        if remove:
            self.path.unlink(missing_ok=True)
        with self._guard:
            descriptor, self._descriptor = self._descriptor, -1  # its number may soon be another file's
            os.close(descriptor)


def _lies_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at *path*."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
