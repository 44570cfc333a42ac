"""Our archive (``jsonl://``): every record and log of a store in one file of lines, read as a stream."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.stores.archive_lines import check_header, read_line
from legacy.stores.contents import whole_content
from legacy.stores.parcels import QUARANTINED, Item, Log, Parcel, Record, RecordKey
from unified_storage.errors import StorageConfigurationError, StorageError
from unified_storage.logs import checked_log, parse_log_id
from unified_storage.record import checked_record, is_system

DAMAGED = "damaged_line"
OUT_OF_ORDER = "out_of_order"
# What tells a log's or an entry's line, and a record's, also where the rest of it is damaged.
_HEAD_OF_A_PART = re.compile(rb'"kind":"[le]|"log_id":')
_HEAD_OF_A_RECORD = re.compile(rb'"kind":"r')
_END_OF_A_RECORD = re.compile(rb'"updated_at":"[^"]*","expires_at":')
_HEAD_BYTES = 40
_END_BYTES = 120
_BATCH_BYTES = 1 << 20
_BATCH_LINES = 2_000


@dataclass
class Group:
    """A record's lines: the record, its logs, and the first fault among them.

    Attributes:
        line: number of the record's line, from 1.
        size: bytes.
    """

    line: int
    record: Record | None
    logs: list[Log] = field(default_factory=list)
    size: int = 0
    fault: tuple[str, str] | None = None

    @property
    def key(self) -> RecordKey | None:
        return None if self.record is None else (self.record["id"], self.record["type"])


class Archive:
    """An archive as a source; see ``Source``. A damaged line costs its record, named by line, and nothing else.

    Raises:
        StorageConfigurationError: there is no such file.
    """

    whole = True

    def __init__(self, file: str | Path) -> None:
        self._path = Path(file)
        if not self._path.is_file():
            raise StorageConfigurationError(f"no archive {str(file)!r} to read")
        self.identity = f"jsonl://{self._path.resolve()}"
        self.told: dict[str, Any] = {}

    async def survey(self) -> int:
        return await asyncio.to_thread(self._count)

    async def findings(self) -> AsyncIterator[list[Item]]:
        for found in list[list[Item]]():
            yield found

    async def batches(self, *, after: str | None = None) -> AsyncIterator[list[Parcel | Item]]:
        with contextlib.closing(self._batches(after)) as batches:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch

    async def close(self) -> None:
        """Nothing stays open."""

    def _count(self) -> int:
        with self._path.open("rb") as file:
            check_header(file.readline())
            return sum(line.startswith(b'{"kind":"record"') for line in file)

    def _batches(self, after: str | None) -> Generator[list[Parcel | Item]]:
        batch: list[Parcel | Item] = []
        size = 0
        for group in groups(self._path):
            if group.key is not None and (is_system(group.key[1]) or (after is not None and group.key[0] <= after)):
                continue
            batch.append(self._taken(group))
            size += group.size
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_LINES:
                yield batch
                batch, size = [], 0
        yield batch

    def _taken(self, group: Group) -> Parcel | Item:
        place = f"{self._path.name}:{group.line}"
        if group.record is None or group.fault is not None:
            reason, detail = group.fault or (DAMAGED, "")
            id, type = group.key or (None, "session")
            return Item(place, id, QUARANTINED, (reason,), type, detail)
        content = whole_content(group.record, group.logs)
        return Parcel(group.record, group.logs, content, content, True, place, (), group.size)


def groups(path: Path) -> Iterator[Group]:
    """The records of an archive with their logs, in the order of the file; what is damaged carries its fault.

    Raises:
        StorageIntegrityError: its first line says that it is no archive, or a later one's.
    """
    with path.open("rb") as file:
        check_header(file.readline())
        newest: RecordKey | None = None
        for group in _grouped(enumerate(file, 2)):
            if group.key is not None and newest is not None and group.key <= newest:
                group.fault = group.fault or (OUT_OF_ORDER, f"line {group.line}: {group.key} stands behind {newest}")
            newest = group.key or newest
            yield group


def read_group(lines: Iterable[bytes]) -> Group:
    """The one record that *lines* hold, with its logs."""
    found = [*_grouped(enumerate(lines, 1))]
    return found[0] if len(found) == 1 else Group(1, None, fault=(DAMAGED, f"{len(found)} records instead of one"))


def _grouped(lines: Iterable[tuple[int, bytes]]) -> Iterator[Group]:
    group: Group | None = None
    doubted: Group | None = None  # the one before, while a damaged line behind it may still prove to be its own
    for number, line in lines:
        kind, fields, fault = _read(number, line)
        if group is not None and doubted is not None and _is_part_of(doubted, kind, fields):
            doubted.fault, doubted.size = group.fault, doubted.size + group.size
            group, doubted = doubted, None
        if group is None or kind == "record" or _begins_another(group, kind, fields, line):
            if doubted is not None:
                yield _checked(doubted)
            doubted = group
            group = Group(number, fields if kind == "record" else None)
            if doubted is not None and (kind is not None or doubted.fault is not None):
                yield _checked(doubted)
                doubted = None
        if kind != "record":
            fault = fault or _added(group, number, kind, fields)
        group.size += len(line)
        group.fault = group.fault or fault
    for last in (doubted, group):
        if last is not None:
            yield _checked(last)


def _begins_another(group: Group, kind: str | None, fields: dict[str, Any], line: bytes) -> bool:
    """Whether a line belongs to a record whose own line is damaged or gone."""
    if kind is None:
        return _looks_like_a_record(line) or (not _looks_like_a_part(line) and not _lacks_entries(group))
    return kind == "log" and group.record is not None and _owner_of(fields["log_id"]) != group.key


def _looks_like_a_part(line: bytes) -> bool:
    return _HEAD_OF_A_PART.search(line, 0, _HEAD_BYTES) is not None


def _looks_like_a_record(line: bytes) -> bool:
    if _looks_like_a_part(line):
        return False
    return bool(_HEAD_OF_A_RECORD.search(line, 0, _HEAD_BYTES) or _END_OF_A_RECORD.search(line[-_END_BYTES:]))


def _lacks_entries(group: Group) -> bool:
    """Whether the last log had more entries than were read so far."""
    if not group.logs:
        return False
    log = group.logs[-1]
    return bool((log["entries"][-1]["seq"] if log["entries"] else 0) != log["last_seq"])


def _is_part_of(group: Group, kind: str | None, fields: dict[str, Any]) -> bool:
    return kind in ("log", "entry") and _owner_of(fields["log_id"]) == group.key


def _owner_of(log_id: str) -> RecordKey | None:
    try:
        name = parse_log_id(log_id)
    except StorageError:
        return None
    return name.owner_id, name.owner_type


def _read(number: int, line: bytes) -> tuple[str | None, dict[str, Any], tuple[str, str] | None]:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("it is cut off")
        kind, fields = read_line(line)
        return kind, fields, None
    except ValueError as error:
        return None, {}, (DAMAGED, f"line {number}: {error}")


def _added(group: Group, number: int, kind: str | None, fields: dict[str, Any]) -> tuple[str, str] | None:
    """Add a log or an entry to its record's group; the fault where it does not fit there."""
    try:
        if kind == "log":
            if _owner_of(fields["log_id"]) != group.key:
                raise ValueError("a log stands behind another record than its owner")
            group.logs.append({**fields, "entries": []})
        elif kind == "entry":
            log_id = fields.pop("log_id")
            if not group.logs or group.logs[-1]["log_id"] != log_id:
                raise ValueError("an entry stands behind another log than its own")
            group.logs[-1]["entries"].append(fields)
    except ValueError as error:
        return DAMAGED, f"line {number}: {error}"
    return None


def _checked(group: Group) -> Group:
    """*group*, with a fault where a storage would not take it."""
    if group.record is not None and group.fault is None:
        try:
            checked_record(group.record, restored=True)
            for log in group.logs:
                checked_log(log)
        except StorageError as error:
            group.fault = (DAMAGED, f"line {group.line}: {error}")
    return group
