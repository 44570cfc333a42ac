"""What a copy asks of the place it writes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from legacy.migration.decision import Decision
from legacy.stores.contents import shown_id
from legacy.stores.parcels import COPIED, EQUAL, Item, Parcel


@dataclass(slots=True)
class Taken:
    """What became of some parcels.

    Attributes:
        items: one for each parcel, in order.
        mismatches: place among the parcels -> what differed when it was read back.
        lossy: what the target has no place for, once for each piece.
    """

    items: list[Item] = field(default_factory=list)
    mismatches: dict[int, tuple[str, ...]] = field(default_factory=dict)
    lossy: list[str] = field(default_factory=list)

    def verified(self) -> list[int]:
        """Places of the parcels that the target is known to hold."""
        there = (place for place, item in enumerate(self.items) if item.outcome in (COPIED, EQUAL))
        return [place for place in there if place not in self.mismatches]


class Target(Protocol):
    """A place that is written. Parcels come by ``(id, type)``."""

    async def take(self, parcels: Sequence[Parcel]) -> Taken:
        """Decide on, write and read back some parcels, in one step where the place has such."""

    async def finish(self) -> None:
        """All parcels were given; nothing is final before."""

    async def close(self) -> None:
        """Release what writing needed, finished or not."""


def item_of(parcel: Parcel, decision: Decision) -> Item:
    """The report's line for *parcel*: its warnings, then why it was decided so."""
    reasons = (*parcel.reasons, decision.reason) if decision.reason else parcel.reasons
    record = parcel.record
    return Item(
        parcel.file,
        shown_id(record),
        decision.outcome,
        reasons,
        record["type"],
        decision.detail,
        updated_at=record["updated_at"],
        size=parcel.size,
    )
