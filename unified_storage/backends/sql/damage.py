"""What can be wrong with the rows of a store: how each kind of damage is seen, and how it is mended.

A look takes some hundred rows on one state of the database, and locks nothing. What it suspects is looked at again
before it is mended, under the lock that every writer takes: what is only being written is no damage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, TypeVar

from unified_storage.backends.sql import records
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.records import Head
from unified_storage.backends.sql.shown import read_back
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.errors import StorageIntegrityError, StorageValidationError
from unified_storage.filters import value_at
from unified_storage.findings import (
    DOCUMENT_MISSING,
    DOCUMENT_ORPHANED,
    ENTRY_ORPHANED,
    INDEX_KEY,
    LOG_COUNT,
    LOG_ORPHANED,
    UNREADABLE,
    Finding,
)
from unified_storage.logs import LogName, parse_log_id
from unified_storage.order_keys import index_key
from unified_storage.paths import path_text
from unified_storage.record import checked_record
from unified_storage.stored import Stamps

T = TypeVar("T")
ROWS_AT_ONCE = 500
_DOCUMENTS_AT_ONCE = 16
_ENTRIES_AT_ONCE = 50_000
_GAPS_AT_ONCE = 64
_EVERY_NUMBER = 1 << 62


@dataclass(frozen=True, slots=True)
class Suspect:
    """A finding, and the number of the row that it is about."""

    number: int
    finding: Finding


Looked = tuple[list[Suspect], int | None]
"""What a look suspects, and the number to go on behind; None at the end."""


class Check(ABC):
    """One walk through a table by the numbers of its rows."""

    def __init__(self, store: Store, dialect: Dialect) -> None:
        self._store = store
        self._dialect = dialect
        self._prefix = store.statements.prefix
        self._lock = " FOR UPDATE" if dialect.locks_rows else ""

    @abstractmethod
    def look(self, after: int) -> Steps[Looked]:
        """Look at the rows behind a number."""

    @abstractmethod
    def mend(self, suspect: Suspect) -> Steps[Finding | None]:
        """What is wrong there under lock, ``repaired`` where it is so no longer; None when nothing is."""

    def _has(self, table: str, number: int) -> Steps[bool]:
        rows = yield Call(f"SELECT n FROM {self._prefix}{table} WHERE n = ?", [number])
        return bool(rows)

    def _locked(self, table: str, number: int) -> Steps[bool]:
        """Whether the row is there; nobody changes it from here on."""
        rows = yield Call(f"SELECT n FROM {self._prefix}{table} WHERE n = ?{self._lock}", [number])
        return bool(rows)


def _next(rows: Sequence[Row]) -> int | None:
    return int(rows[-1][0]) if len(rows) == ROWS_AT_ONCE else None


def parts_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """*items* in order, in lists of *size*, the last one shorter."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


def _mended(finding: Finding) -> Finding:
    return replace(finding, repaired=True)


class OrphanedDocuments(Check):
    """Documents without a head: nobody can read them, and the next record may be given their number."""

    def look(self, after: int) -> Steps[Looked]:
        head = f"(SELECT r.n FROM {self._prefix}records AS r WHERE r.n = d.n)"
        rows = yield Call(
            f"SELECT d.n, {head} FROM {self._prefix}documents AS d WHERE d.n > ? ORDER BY d.n LIMIT ?",
            [after, ROWS_AT_ONCE],
        )
        finding = Finding(DOCUMENT_ORPHANED, repairable=True)
        return [Suspect(n, replace(finding, detail=f"row {n}")) for n, head in rows if head is None], _next(rows)

    def mend(self, suspect: Suspect) -> Steps[Finding | None]:
        # In the order in which a deletion goes, so that a head that is missed behind the lock was not there before it.
        if not (yield from self._locked("documents", suspect.number)):
            return None
        if (yield from self._has("records", suspect.number)):
            return None
        yield self._store.statements.delete_document(row=suspect.number)
        return _mended(suspect.finding)


class Records(Check):
    """Heads whose document is gone, or whose keys are not those of what stands in metadata and document."""

    def look(self, after: int) -> Steps[Looked]:
        rows = yield self._heads("r.n > ? ORDER BY r.n LIMIT ?", [after, ROWS_AT_ONCE])
        suspects = []
        for part in parts_of(rows, _DOCUMENTS_AT_ONCE):
            documents = yield from self._documents(part)
            for row in part:
                finding, _ = self._judged(row, documents.get(row[0]))
                if finding is not None:
                    suspects.append(Suspect(row[0], finding))
        return suspects, _next(rows)

    def mend(self, suspect: Suspect) -> Steps[Finding | None]:
        if not (yield from self._locked("records", suspect.number)):
            return None
        rows = yield self._heads("r.n = ?", [suspect.number])
        documents = yield from self._documents(rows)
        finding, keys = self._judged(rows[0], documents.get(suspect.number))
        if finding is None or not keys:
            return finding
        columns = ", ".join(f"k{slot} = ?" for slot in keys)
        yield Call(f"UPDATE {self._prefix}records SET {columns} WHERE n = ?", [*keys.values(), suspect.number])
        return _mended(finding)

    def _heads(self, where: str, values: list[Any]) -> Call:
        raw, as_text = self._dialect.raw_text, self._dialect.key_as_text
        document = f"(SELECT d.n FROM {self._prefix}documents AS d WHERE d.n = r.n)"
        keys = [as_text(f"r.k{slot}") for slot in range(self._store.statements.slots)]
        columns = ", ".join(["r.n", "r.id", "r.type", raw("r.metadata"), document, *keys])
        return Call(f"SELECT {columns} FROM {self._prefix}records AS r WHERE {where}", values)

    def _documents(self, rows: Sequence[Row]) -> Steps[dict[int, Any]]:
        """The documents of those rows whose keys come from there."""
        wanted = [row[0] for row in rows if any(path[0] == "data" for path in self._store.slots.get(row[2], {}))]
        if not wanted:
            return {}
        places = ", ".join("?" * len(wanted))
        data = self._dialect.raw_text("data")
        found = yield Call(f"SELECT n, {data} FROM {self._prefix}documents WHERE n IN ({places})", wanted)
        return {row[0]: row[1] for row in found}

    def _judged(self, row: Row, data: Any) -> tuple[Finding | None, dict[int, bytes | None]]:
        """What is wrong with a record, and the keys that its slots should hold instead."""
        _, id, type_name, metadata, document, *stored = row
        if document is None:
            return Finding(DOCUMENT_MISSING, id, type_name), {}
        try:
            record = {name: _decoded(text, id, type_name) for name, text in (("metadata", metadata), ("data", data))}
        except StorageIntegrityError as error:
            return Finding(UNREADABLE, id, type_name, detail=error.error_code), {}
        wanted = self._wanted(type_name, record)
        wrong = {slot: key for slot, key in wanted.items() if not _is_key(stored[slot], key)}
        if not wrong:
            return None, {}
        names = ", ".join(self._name(type_name, slot) for slot in wrong)
        return Finding(INDEX_KEY, id, type_name, repairable=True, detail=names), wrong

    def _wanted(self, type_name: str, record: dict[str, Any]) -> dict[int, bytes | None]:
        """The key for each slot, None where it has to be empty; slots that nobody may search yet are left out."""
        keys: dict[int, bytes | None] = dict.fromkeys(range(self._store.statements.slots))
        for path, slot in self._store.slots.get(type_name, {}).items():
            if slot.filled and path[0] in record:
                keys[slot.number] = index_key(value_at(record, path))[0]
            else:  # what names a column is asked there
                del keys[slot.number]
        return keys

    def _name(self, type_name: str, number: int) -> str:
        slots = self._store.slots.get(type_name, {})
        return next((path_text(path) for path, slot in slots.items() if slot.number == number), f"unused k{number}")


def _decoded(text: Any, id: str, type_name: str) -> dict[str, Any] | None:
    if text is None:
        return None
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:  # not its cause: that would quote the text
            raise StorageIntegrityError(f"record {id!r} holds a text that is not UTF-8") from None
    return read_back(text, id, type_name)


def _is_key(stored: str | None, key: bytes | None) -> bool:
    """Whether hexadecimal digits are those of a key."""
    if stored is None or key is None:
        return stored is None and key is None
    return stored.lower() == key.hex()


class OrphanedLogs(Check):
    """Logs whose owner is gone, or is not the record that their id names."""

    def look(self, after: int) -> Steps[Looked]:
        rows = yield self._logs("l.n > ? ORDER BY l.n LIMIT ?", [after, ROWS_AT_ONCE])
        found = [(row[0], _orphaned(row)) for row in rows]
        return [Suspect(number, finding) for number, finding in found if finding is not None], _next(rows)

    def _logs(self, where: str, values: list[Any]) -> Call:
        owner = f"FROM {self._prefix}records AS r WHERE r.n = l.owner"
        return Call(
            f"SELECT l.n, l.log_id, (SELECT r.id {owner}), (SELECT r.type {owner}) "
            f"FROM {self._prefix}logs AS l WHERE {where}",
            values,
        )

    def mend(self, suspect: Suspect) -> Steps[Finding | None]:
        name = named(suspect.finding.detail or "")
        owner = None
        if name is not None:  # first, as everybody who writes to the log
            owner = yield from records.head(self._store, name.owner_id, name.owner_type)
        yield from self._locked("logs", suspect.number)
        rows = yield self._logs("l.n = ?", [suspect.number])
        finding = _orphaned(rows[0]) if rows else None
        if finding is None or not finding.repairable:
            return finding
        if owner is not None:
            yield Call(f"UPDATE {self._prefix}logs SET owner = ? WHERE n = ?", [owner.n, suspect.number])
        else:
            yield from self._removed(suspect.number, name)
        return _mended(finding)

    def _removed(self, number: int, name: LogName | None) -> Steps[None]:
        """Remove a log that nobody owns, with its entries."""
        holder = None
        if name is not None and self._dialect.locks_rows:
            # Whoever makes the owner at this moment may be writing to the log: one of us two has to wait.
            draft = checked_record({"id": name.owner_id, "type": name.owner_type, "data": {}})
            holder = yield from records.insert(self._store, draft, Stamps(1, 0, 0))
        yield self._store.statements.delete_entries(log=number)
        yield Call(f"DELETE FROM {self._prefix}logs WHERE n = ?", [number])
        if holder is not None:
            yield self._store.statements.delete_document(row=holder)
            yield self._store.statements.delete_record(row=holder)


def named(log_id: str) -> LogName | None:
    """What a stored log id names; None for one under which no verb would look."""
    try:
        name = parse_log_id(log_id)
    except StorageValidationError:
        return None
    return name if name.log_id == log_id else None


def _orphaned(row: Row) -> Finding | None:
    _, log_id, owner_id, owner_type = row
    name = named(log_id)
    if name is None:
        return Finding(LOG_ORPHANED, repairable=owner_id is None, detail=log_id)
    if name.owner_key == (owner_id, owner_type):
        return None
    return Finding(LOG_ORPHANED, *name.owner_key, repairable=True, detail=log_id)


class OrphanedEntries(Check):
    """Entries of no log: the next log may be given their number."""

    def look(self, after: int) -> Steps[Looked]:
        rows = yield Call(f"SELECT n FROM {self._prefix}logs WHERE n > ? ORDER BY n LIMIT ?", [after, ROWS_AT_ONCE])
        end = _next(rows)
        bounds = [after, *(number for (number,) in rows), *([_EVERY_NUMBER] if end is None else [])]
        found: list[int] = []
        for gaps in parts_of(((low, high) for low, high in pairwise(bounds) if high > low + 1), _GAPS_AT_ONCE):
            for (_, high), number in zip(gaps, (yield from self._first_in(gaps)), strict=True):
                while number is not None:
                    found.append(number)
                    if len(found) == ROWS_AT_ONCE:
                        return self._suspects(found), number
                    (number,) = yield from self._first_in([(number, high)])
        return self._suspects(found), end

    def _first_in(self, gaps: Sequence[tuple[int, int]]) -> Steps[Row]:
        """The lowest number of a log that an entry names within each of the bounds, None where there is none.

        One look into the index for each: no engine walks from number to number without seeing every entry.
        """
        one = f"(SELECT min(e.log) FROM {self._prefix}entries AS e WHERE e.log > ? AND e.log < ?)"
        rows = yield Call(f"SELECT {', '.join([one] * len(gaps))}", [bound for gap in gaps for bound in gap])
        return rows[0]

    def _suspects(self, numbers: Iterable[int]) -> list[Suspect]:
        return [Suspect(number, Finding(ENTRY_ORPHANED, repairable=True, detail=f"log {number}")) for number in numbers]

    def mend(self, suspect: Suspect) -> Steps[Finding | None]:
        # What a look saw was committed without its log, and where several write no number is given twice.
        if (yield from self._has("logs", suspect.number)):
            return None
        yield self._store.statements.delete_entries(log=suspect.number)
        return _mended(suspect.finding)


class LogCounts(Check):
    """Logs that do not know how many entries they have, or would give the newest one's number again."""

    def look(self, after: int) -> Steps[Looked]:
        rows = yield Call(
            f"SELECT n, count FROM {self._prefix}logs WHERE n > ? ORDER BY n LIMIT ?", [after, ROWS_AT_ONCE]
        )
        if not rows:
            return [], None
        part = _countable(rows)
        end = part[-1][0]
        counted = yield self._counted("l.n > ? AND l.n <= ? ORDER BY l.n", [after, end])
        found = [(row[0], _miscounted(row)) for row in counted]
        suspects = [Suspect(number, finding) for number, finding in found if finding is not None]
        return suspects, end if len(part) < len(rows) else _next(rows)

    def _counted(self, where: str, values: list[Any]) -> Call:
        of_log = f"FROM {self._prefix}entries AS e WHERE e.log = l.n"
        return Call(
            f"SELECT l.n, l.log_id, l.last_seq, l.count, (SELECT count(*) {of_log}), (SELECT max(e.seq) {of_log}) "
            f"FROM {self._prefix}logs AS l WHERE {where}",
            values,
        )

    def mend(self, suspect: Suspect) -> Steps[Finding | None]:
        name = named(suspect.finding.detail or "")
        if name is not None:
            yield from self._owner(name)
        yield from self._locked("logs", suspect.number)
        rows = yield self._counted("l.n = ?", [suspect.number])
        finding = _miscounted(rows[0]) if rows else None
        if finding is None:
            return None
        _, _, last_seq, _, count, highest = rows[0]
        yield self._store.statements.update_log(log=suspect.number, last=max(last_seq, highest or 0), left=count)
        return _mended(finding)

    def _owner(self, name: LogName) -> Steps[Head | None]:
        """The head of the owner: locked before the log by everybody who writes to it."""
        return (yield from records.head(self._store, name.owner_id, name.owner_type))


def _countable(rows: Sequence[Row]) -> Sequence[Row]:
    """The first of the logs, so many that their entries, as far as they know, are counted quickly."""
    total = 0
    for place, (_, count) in enumerate(rows):
        total += max(count, 0)
        if total > _ENTRIES_AT_ONCE:
            return rows[: max(place, 1)]
    return rows


def _miscounted(row: Row) -> Finding | None:
    _, log_id, last_seq, count, counted, highest = row
    if count == counted and last_seq >= (highest or 0):
        return None
    name = named(log_id)
    owner = ("", "") if name is None else name.owner_key
    return Finding(LOG_COUNT, *owner, repairable=True, detail=log_id)


CHECKS: tuple[type[Check], ...] = (OrphanedDocuments, Records, OrphanedLogs, OrphanedEntries, LogCounts)
"""In this order: numbers that orphans hold are free before another check may need a row of its own."""
