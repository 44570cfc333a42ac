"""What a copy tells: its ledger, and one line for each file or record, kept in a temporary file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from legacy.migration.exit_codes import DONE, TO_LOOK_AT
from legacy.migration.ledger import Ledger
from legacy.stores.parcels import SESSION, Item
from legacy.stores.survey import in_batches, temporary_database


class Items:
    """The lines of a report, on disk: a copy of any size takes the same memory."""

    def __init__(self) -> None:
        self._database = temporary_database(
            "CREATE TABLE items (n INTEGER PRIMARY KEY, file TEXT, id TEXT, outcome TEXT, reasons TEXT, type TEXT,"
            " detail TEXT, updated_at TEXT, size INTEGER)"
        )

    def add(self, items: Iterable[Item]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO items VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, items))
        self._database.execute("COMMIT")

    def __iter__(self) -> Iterator[Item]:
        told = "SELECT file, id, outcome, reasons, type, detail, updated_at, size FROM items ORDER BY n"
        for rows in in_batches(self._database, told):
            for file, id, outcome, reasons, type, detail, updated_at, size in rows:
                moment = None if updated_at is None else datetime.fromisoformat(updated_at)
                yield Item(file, id, outcome, tuple(json.loads(reasons)), type, detail, moment, size)

    def close(self) -> None:
        self._database.close()


def _row(item: Item) -> tuple[str | int | None, ...]:
    moment = None if item.updated_at is None else item.updated_at.isoformat()
    reasons = json.dumps(item.reasons)
    return item.file, item.id, item.outcome, reasons, item.type, item.detail, moment, item.size


@dataclass
class CopyReport:
    """The result of a copy.

    Attributes:
        source, target: where from and where to, passwords masked.
        source_timezone: the zone in which times without an offset were read; None where there are none.
        ledger: of sessions.
        others: of records of other types.
        lossy: what the target could not hold: kind -> how many.
        items: one line each, for every file and record; iterate, and :meth:`close` when done.
        seconds: how long it took.
    """

    source: str
    target: str
    source_timezone: str | None
    dry_run: bool
    ledger: Ledger = field(default_factory=Ledger)
    others: Ledger = field(default_factory=Ledger)
    lossy: dict[str, int] = field(default_factory=dict)
    items: Items = field(default_factory=Items)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 when nobody has to look at anything, else 3."""
        return DONE if self.ledger.is_clean and self.others.is_clean else TO_LOOK_AT

    def add(self, items: list[Item]) -> None:
        """Count *items* and keep them."""
        for item in items:
            (self.ledger if item.type == SESSION else self.others).count(item.outcome)
        self.items.add(items)

    def add_lossy(self, kind: str) -> None:
        self.lossy[kind] = self.lossy.get(kind, 0) + 1

    def to_dict(self, *, with_items: bool = True) -> dict[str, Any]:
        """Plain data; the items take memory, so leave them out where there are very many."""
        facts: dict[str, Any] = {
            "source": self.source,
            "target": self.target,
            "source_timezone": self.source_timezone,
            "dry_run": self.dry_run,
            "ledger": self.ledger.to_dict(),
            "others": self.others.to_dict(),
            "lossy": dict(self.lossy),
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
        }
        return facts | {"items": [item.to_dict() for item in self.items]} if with_items else facts

    def write_json(self, path: str | Path) -> None:
        """The whole report as JSON in a file."""
        with Path(path).open("w", encoding="utf-8") as file:
            self.write_json_to(file, self.items)

    def write_json_to(self, out: TextIO, items: Iterable[Item]) -> None:
        """The report as JSON with some of its items, line by line: however many they are, they take no memory."""
        head = json.dumps(self.to_dict(with_items=False), indent=2).removesuffix("\n}")
        out.write(f'{head},\n  "items": [')
        lines = (json.dumps(item.to_dict()) for item in items)
        out.writelines(f"{',' if place else ''}\n    {line}" for place, line in enumerate(lines))
        out.write("\n  ]\n}\n")

    def close(self) -> None:
        """Forget the items."""
        self.items.close()
