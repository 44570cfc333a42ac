"""The count of a copy: every record that was read went to exactly one column."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from legacy.stores.parcels import CONFLICT, COPIED, DUPLICATE, EQUAL, IGNORED, QUARANTINED


@dataclass(slots=True)
class Ledger:
    """How many were read, and what became of them. ``ignored`` stands beside: those were no records."""

    read: int = 0
    copied: int = 0
    equal: int = 0
    duplicate: int = 0
    conflict: int = 0
    quarantined: int = 0
    ignored: int = 0
    verified: int = 0
    mismatched: int = 0

    def count(self, outcome: str) -> None:
        """One more with *outcome*."""
        if outcome not in _OUTCOMES:
            raise ValueError(f"no outcome {outcome!r}")
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome != IGNORED:
            self.read += 1

    @property
    def is_closed(self) -> bool:
        """Whether what was read is what became of it."""
        return self.read == self.copied + self.equal + self.duplicate + self.conflict + self.quarantined

    @property
    def is_clean(self) -> bool:
        """Whether nobody has to look at anything."""
        return self.is_closed and not (self.conflict or self.quarantined or self.mismatched)

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


_OUTCOMES = frozenset({COPIED, EQUAL, DUPLICATE, CONFLICT, QUARANTINED, IGNORED})
