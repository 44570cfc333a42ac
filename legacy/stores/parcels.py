"""What travels between places: a record with its logs, or the word on something that does not travel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

Record = dict[str, Any]
Log = dict[str, Any]
"""``{"log_id", "last_seq", "entries"}``, as ``restore`` takes it."""
RecordKey = tuple[str, str]
"""``(id, type)``"""

SESSION = "session"
COPIED, EQUAL, DUPLICATE = "copied", "equal", "duplicate"
CONFLICT, QUARANTINED, IGNORED = "conflict", "quarantined", "ignored"


@dataclass(slots=True)
class Item:
    """One line of a report: what became of one file or record.

    Attributes:
        file: where it was found: a file's name, ``archive:line``; None where it has no such place.
        id: the session's visible id, another record's id; None where it has none.
        outcome: copied, equal, duplicate, conflict, quarantined or ignored.
        reasons: stable words, such as ``invalid_json at offset 17``'s ``invalid_json``; warnings too.
        type: of the record.
        detail: what helps to find the fault (an offset, a path); never contents.
        updated_at: when it changed last, in UTC; None for what was not read so far.
        size: about how many bytes it takes, likewise.
    """

    file: str | None
    id: str | None
    outcome: str
    reasons: tuple[str, ...] = ()
    type: str = SESSION
    detail: str | None = None
    updated_at: datetime | None = None
    size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """``{file, id, outcome, reasons}``, and ``type`` and ``detail`` where they say something."""
        facts: dict[str, Any] = {
            "file": self.file,
            "id": self.id,
            "outcome": self.outcome,
            "reasons": list(self.reasons),
        }
        if self.type != SESSION:
            facts["type"] = self.type
        if self.detail is not None:
            facts["detail"] = self.detail
        return facts


@dataclass(slots=True)
class Parcel:
    """One record with its logs, on its way.

    Attributes:
        record: all fields, as ``restore`` takes them.
        logs: the logs it brings; each replaces the target's whole.
        source_hash: changes when what the source says changes (for documents: or the zone they are read in).
        content: hash of what a target holds once this was written there.
        whole: every field and log counts when it is compared; otherwise document and history alone.
        file: where it was found, for reports.
        reasons: warnings for the report.
        size: about how many bytes it takes.
    """

    record: Record
    logs: list[Log]
    source_hash: str
    content: str
    whole: bool
    file: str | None = None
    reasons: tuple[str, ...] = ()
    size: int = field(default=0)

    @property
    def key(self) -> RecordKey:
        return self.record["id"], self.record["type"]

    @property
    def is_session(self) -> bool:
        return bool(self.record["type"] == SESSION)


class Source(Protocol):
    """A place that is read. Nothing in it is ever changed.

    Attributes:
        identity: the place's normalised URL, without a password: the same place has the same identity.
        whole: whether its records are ours already, with every field.
        told: what the reading depends on (zone, conversion), kept with what was copied.
    """

    identity: str
    whole: bool
    told: dict[str, Any]

    async def survey(self) -> int:
        """Look at everything once; how many records there are to read."""

    def findings(self) -> AsyncIterator[list[Item]]:
        """What the survey found that does not travel, batch by batch."""

    def batches(self, *, after: str | None = None) -> AsyncIterator[list[Parcel | Item]]:
        """What travels, by ``(id, type)`` in order of code points; an Item where one turned out unreadable.

        Args:
            after: goes on behind this id.
        """

    async def close(self) -> None:
        """Release what reading needed."""
