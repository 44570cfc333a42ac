"""What a follower knows of its source, in a temporary file: the mark of each record, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic

from legacy.migration.ledger import Ledger
from legacy.migration.report import CopyReport
from legacy.stores.marks import Mark
from legacy.stores.parcels import CONFLICT, COPIED, EQUAL, QUARANTINED, SESSION, Item, RecordKey
from legacy.stores.survey import in_batches, temporary_database

YOUNG = 2.0
"""Seconds within which a second change may leave a mark as it is: many stores know whole seconds only."""
VANISHED = "vanished"
MISMATCH = "mismatch:"
_OLD = timedelta(days=1)
"""By how much no two clocks differ, whatever their zones."""
_AT_A_TIME = 50
_GONE_AT_A_TIME = 200
_SCHEMA = """
    CREATE TABLE units (
        id TEXT, type TEXT, mark TEXT, since REAL, read REAL, hash TEXT, outcome TEXT, told TEXT, file TEXT,
        pass INTEGER NOT NULL, PRIMARY KEY (id, type)
    ) WITHOUT ROWID;
    CREATE TABLE findings (file TEXT, id TEXT, outcome TEXT, told TEXT);
    CREATE INDEX findings_by_file ON findings (file);
"""
_NOTE = """
    INSERT INTO units (id, type, mark, since, file, pass) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id, type) DO UPDATE SET
        since = CASE WHEN mark IS excluded.mark THEN since ELSE excluded.since END,
        read = CASE WHEN mark IS excluded.mark THEN read END,
        mark = excluded.mark, file = excluded.file, pass = excluded.pass
"""
_TROUBLED = f"outcome IN ('{CONFLICT}', '{QUARANTINED}', '{VANISHED}')"
_DUE = f"(read IS NULL OR mark IS NULL OR read < since + {YOUNG} OR {_TROUBLED})"
# A file that cannot be read now may be the one that held it; where nobody remembers its file, any such may be.
_GONE = f"""
    pass < ? AND NOT EXISTS (
        SELECT 1 FROM findings AS f WHERE f.outcome = '{QUARANTINED}' AND f.file = units.file
    ) AND NOT (
        units.file IS NULL AND EXISTS (
            SELECT 1 FROM findings AS f
            WHERE f.outcome = '{QUARANTINED}' AND f.file IS NOT NULL AND f.id IS NULL
        )
    )
"""


class Known:
    """See above. Each pass begins with :meth:`begin`.

    Args:
        clock: seconds, whose zero means nothing.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._database = temporary_database(_SCHEMA)
        self._pass = 0
        self._begun = 0.0

    def remember(self, keys: Iterable[RecordKey]) -> None:
        """Earlier runs copied *keys* from the same source."""
        insert = "INSERT OR IGNORE INTO units (id, type, pass) VALUES (?, ?, 0)"
        self._write(insert, keys)

    def begin(self) -> None:
        """A pass begins; the source is looked at from now on."""
        self._pass += 1
        self._begun = self._clock()
        self._database.execute("DELETE FROM findings")

    def note(self, marks: Iterable[Mark]) -> None:
        """The source has these."""
        now = self._clock()
        self._write(_NOTE, [(*mark.key, mark.value, _since(mark, now), mark.file, self._pass) for mark in marks])

    def note_findings(self, items: Iterable[Item]) -> None:
        """The source has these too, which do not travel."""
        rows = [(item.file, item.id, item.outcome, _as_json(item)) for item in items]
        self._write("INSERT INTO findings VALUES (?, ?, ?, ?)", rows)

    def due(self) -> Iterator[dict[RecordKey, str | None]]:
        """Those of this pass that are to be read, some at a time, by key: with the hash of what was read last.

        They are those whose mark is new, or was new when they were read; those without marks; and those that could
        not be copied, which come without a hash.
        """
        hashed = f"CASE WHEN {_TROUBLED} THEN NULL ELSE hash END"
        select = f"SELECT id, type, {hashed} FROM units WHERE pass = ? AND (id, type) > (?, ?) AND {_DUE}"
        place: RecordKey = ("", "")
        while rows := self._database.execute(
            f"{select} ORDER BY id, type LIMIT {_AT_A_TIME}", (self._pass, *place)
        ).fetchall():
            yield {(id, type): hash for id, type, hash in rows}
            place = (rows[-1][0], rows[-1][1])

    @property
    def due_count(self) -> int:
        """How many of this pass are to be read."""
        return self._counted(f"pass = ? AND {_DUE}", self._pass)

    def unchanged(self, keys: Iterable[RecordKey]) -> None:
        """They were read in this pass, and are what they were."""
        self._write("UPDATE units SET read = ? WHERE id = ? AND type = ?", [(self._begun, *key) for key in keys])

    def missed(self, keys: Iterable[RecordKey]) -> None:
        """They had just vanished when they were to be read."""
        self._write("UPDATE units SET pass = 0 WHERE id = ? AND type = ?", keys)

    def settle(self, outcomes: Iterable[tuple[RecordKey, str | None, Item]]) -> None:
        """They were read in this pass: key, the hash of what was read, and what became of it."""
        # What this run wrote once counts as copied, also when it is found equal later.
        outcome = f"CASE WHEN outcome = '{COPIED}' AND :outcome = '{EQUAL}' THEN outcome ELSE :outcome END"
        update = (
            f"UPDATE units SET read = :read, hash = :hash, told = :told, outcome = {outcome}"
            " WHERE id = :id AND type = :type"
        )
        rows: list[dict[str, object]] = [
            {"id": id, "type": type, "read": self._begun, "hash": hash, "outcome": item.outcome, "told": _as_json(item)}
            for (id, type), hash, item in outcomes
        ]
        self._write(update, rows)

    # what the source has no more

    @property
    def count(self) -> int:
        """How many the source had in this pass."""
        return self._counted("pass = ?", self._pass)

    @property
    def vanished(self) -> int:
        """How many the source had and has no more; not those that others changed in the target, which stay."""
        return self._counted(f"{_GONE} AND outcome IS NOT '{CONFLICT}'", self._pass)

    @property
    def has_trouble(self) -> bool:
        """Whether something could not be copied or deleted."""
        return self._counted(f"outcome IN ('{CONFLICT}', '{QUARANTINED}')") > 0

    def gone(self) -> Iterator[list[RecordKey]]:
        """The keys of what the source has no more, some at a time."""
        select = f"SELECT id, type FROM units WHERE {_GONE} AND (id, type) > (?, ?) ORDER BY id, type"
        place: RecordKey = ("", "")
        while keys := self._database.execute(f"{select} LIMIT {_GONE_AT_A_TIME}", (self._pass, *place)).fetchall():
            yield keys
            place = keys[-1]

    def forget(self, keys: Iterable[RecordKey]) -> None:
        """They are nowhere any more."""
        self._write("DELETE FROM units WHERE id = ? AND type = ?", keys)

    def keep_vanished(self) -> None:
        """What the source has no more stays in the target."""
        update = f"UPDATE units SET outcome = '{VANISHED}' WHERE {_GONE} AND outcome IS NOT '{CONFLICT}'"
        self._database.execute(update, (self._pass,))

    def keep(self, kept: Mapping[RecordKey, str]) -> None:
        """They are gone from the source and stay in the target, for these reasons."""
        items = {key: self._told_before(key) for key in kept}
        for key, why in kept.items():
            items[key].reasons = (why,)
        self.settle((key, None, item) for key, item in items.items())

    def _told_before(self, key: RecordKey) -> Item:
        (told,) = self._database.execute("SELECT told FROM units WHERE id = ? AND type = ?", key).fetchone()
        return Item(None, key[0], CONFLICT, type=key[1]) if told is None else _item(told, CONFLICT)

    # in the end

    def tell(self, report: CopyReport) -> None:
        """Add to *report* what became of every record of the source, and what does not travel."""
        for rows in in_batches(
            self._database, f"SELECT outcome, told FROM units WHERE told IS NOT NULL AND outcome <> '{VANISHED}'"
        ):
            items = [_item(told, outcome) for outcome, told in rows]
            report.add(items)
            for item in items:
                _count_verified(report.ledger if item.type == SESSION else report.others, item)
        for rows in in_batches(self._database, "SELECT outcome, told FROM findings"):
            report.add([_item(told, outcome) for outcome, told in rows])

    def close(self) -> None:
        self._database.close()

    def _counted(self, condition: str, *parameters: object) -> int:
        row = self._database.execute(f"SELECT count(*) FROM units WHERE {condition}", parameters).fetchone()
        return int(row[0])

    def _write(self, sql: str, rows: Iterable[tuple[object, ...]] | Iterable[dict[str, object]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(sql, rows)
        self._database.execute("COMMIT")


def _since(mark: Mark, now: float) -> float | None:
    """Since when the mark is known; None for one that no second change leaves as it is.

    What the source says of the moment decides nothing but that it is long ago: its clock is not ours.
    """
    is_old = mark.moment is not None and mark.moment < datetime.now(UTC) - _OLD
    return None if mark.is_exact or is_old else now


def _as_json(item: Item) -> str:
    return json.dumps([item.file, item.id, item.reasons, item.type, item.detail])


def _count_verified(ledger: Ledger, item: Item) -> None:
    if any(reason.startswith(MISMATCH) for reason in item.reasons):
        ledger.mismatched += 1
    elif item.outcome in (COPIED, EQUAL):
        ledger.verified += 1


def _item(told: str, outcome: str) -> Item:
    file, id, reasons, type, detail = json.loads(told)
    return Item(file, id, outcome, tuple(reasons), type, detail)
