"""Copying into an archive: the old file and the source are merged into a new one, which then takes its place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from io import BufferedRandom
from pathlib import Path

from legacy.migration.decision import CHANGED, Decision
from legacy.migration.lease import AnotherRunError
from legacy.migration.targets import Taken, item_of
from legacy.session_files import sync_folder
from legacy.stores.archive import Group, groups, read_group
from legacy.stores.archive_lines import HEADER, log_lines, record_line
from legacy.stores.contents import history_in, is_timeless, session_content, whole_content
from legacy.stores.parcels import CONFLICT, COPIED, EQUAL, Log, Parcel, Record
from unified_storage.errors import StorageConfigurationError, StorageIntegrityError

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    fcntl = None  # type: ignore[assignment]


class IntoArchive:
    """An archive as a target; see ``Target``. Nothing of it changes before :meth:`finish`, and then all at once.

    What stands in the archive and not in the source stays. An archive does not know who wrote a record, so one that
    differs is a conflict: it is written over where that was asked for, or the source goes into a new archive.
    """

    def __init__(self, file: Path, *, dry_run: bool, overwrite: bool) -> None:
        file = file.resolve()  # a link stays one
        if file.exists() and not file.is_file():
            raise StorageConfigurationError(f"{str(file)!r} is no regular file, so it cannot be an archive")
        self._path = file
        self._dry_run = dry_run
        self._overwrite = overwrite
        self._old = groups(file) if file.exists() else iter(())
        self._waiting: Group | None = None
        self._changed = not file.exists()
        self._part = file.with_name(f".{file.name}.part")
        self._out: BufferedRandom | None = None
        self._finished = False
        if not dry_run:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._out = _opened_alone(self._part)
            self._out.write(HEADER.encode())

    async def take(self, parcels: Sequence[Parcel]) -> Taken:
        return await asyncio.to_thread(self._take, parcels)

    async def finish(self) -> None:
        if self._out is not None:
            await asyncio.to_thread(self._finish, self._out)

    async def close(self) -> None:
        if self._out is not None:
            if not self._finished:
                self._part.unlink(missing_ok=True)
            self._out.close()

    def _take(self, parcels: Sequence[Parcel]) -> Taken:
        taken = Taken()
        for place, parcel in enumerate(parcels):
            self._keep_before(parcel)
            old = self._old_of(parcel)
            decision = self._decided(parcel, old)
            taken.items.append(item_of(parcel, decision))
            if old is not None and old.record is not None and not decision.writes:
                self._write(old.record, old.logs)
            elif self._out is not None:
                self._changed = True
                if not self._is_written(self._out, parcel):
                    taken.mismatches[place] = ("lines",)
        return taken

    def _decided(self, parcel: Parcel, old: Group | None) -> Decision:
        if old is None or old.record is None:
            return Decision(COPIED)
        is_same_time = is_timeless(parcel.record) or old.record["created_at"] == parcel.record["created_at"]
        if is_same_time and _content(parcel, old.record, old.logs) == parcel.content:
            return Decision(EQUAL)
        return Decision(COPIED, f"overwritten_{CHANGED}") if self._overwrite else Decision(CONFLICT, CHANGED)

    def _next_old(self) -> Group | None:
        """The next record of the old archive, left where it is."""
        if self._waiting is None:
            self._waiting = next(self._old, None)
            if self._waiting is not None and self._waiting.fault is not None:
                told = f"{str(self._path)!r} is damaged ({self._waiting.fault[1]}); move it away or repair it"
                raise StorageIntegrityError(told, details={"line": self._waiting.line})
        return self._waiting

    def _keep_before(self, parcel: Parcel | None) -> None:
        """Carry over what the old archive has before *parcel*, or all that is left."""
        while (old := self._next_old()) is not None and old.record is not None:
            if parcel is not None and old.key is not None and old.key >= parcel.key:
                return
            self._write(old.record, old.logs)
            self._waiting = None

    def _old_of(self, parcel: Parcel) -> Group | None:
        old = self._next_old()
        if old is None or old.key != parcel.key:
            return None
        self._waiting = None
        return old

    def _write(self, record: Record, logs: Sequence[Log]) -> None:
        if self._out is not None:
            self._out.writelines(line.encode() for line in _lines(record, logs))

    def _is_written(self, out: BufferedRandom, parcel: Parcel) -> bool:
        """Write *parcel*, and whether reading it back gives what was written."""
        start = out.tell()
        self._write(parcel.record, parcel.logs)
        out.seek(start)
        group = read_group(out.readlines())
        return group.fault is None and group.record is not None and _is_same(parcel, group)

    def _finish(self, out: BufferedRandom) -> None:
        self._keep_before(None)
        if not self._changed:
            return
        out.flush()
        os.fsync(out.fileno())
        self._part.replace(self._path)
        self._finished = True
        sync_folder(self._path.parent)


def _is_same(parcel: Parcel, group: Group) -> bool:
    record = group.record
    assert record is not None
    same_time = all(record[name] == parcel.record.get(name) for name in ("updated_at", "created_at"))
    return same_time and whole_content(record, group.logs) == whole_content(parcel.record, parcel.logs)


def _lines(record: Record, logs: Sequence[Log]) -> Iterator[str]:
    yield record_line({"version": 1, **record})
    for log in sorted(logs, key=lambda log: str(log["log_id"])):
        yield from log_lines(log)


def _content(parcel: Parcel, record: Record, logs: Sequence[Log]) -> str:
    if parcel.whole:
        return whole_content(record, logs)
    return session_content(record, history_in(record, logs))


def _opened_alone(part: Path) -> BufferedRandom:
    """The unfinished file, empty and locked; raises ``AnotherRunError`` where another process writes it."""
    while True:
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666), "r+b")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise AnotherRunError(f"another copy is writing {str(part)!r}; wait for it, then run again") from error
        # Whoever held it may have made it the archive meanwhile: then this is not the unfinished file any more.
        if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
            file.truncate(0)
            return file
        file.close()
