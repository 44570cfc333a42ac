"""What a copy does with one record: why source and target differ decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from legacy.stores.parcels import CONFLICT, COPIED, EQUAL, Parcel

DELETED = "deleted_in_target"
CHANGED = "changed_in_target"
NOT_OURS = "not_written_by_this_source"
UNREADABLE_TARGET = "unreadable_target"


@dataclass(frozen=True, slots=True)
class Memo:
    """What was written last from one source to one target record.

    Attributes:
        source_hash: of the source then.
        target_hash: of the content that was written.
        told: what the copy was told (zone, conversion).
    """

    source_hash: str
    target_hash: str
    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for one record, and why; *detail* names a place in it, never contents."""

    outcome: str
    reason: str | None = None
    detail: str | None = None

    @property
    def writes(self) -> bool:
        return self.outcome == COPIED


def decided(parcel: Parcel, found: str | None, *, is_same_time: bool, memo: Memo | None, overwrite: bool) -> Decision:
    """What to do with *parcel*.

    Args:
        found: hash of the target's content; None when the target has no such record.
        is_same_time: the target's creation time is the parcel's: a new zone moves it, and nothing else.
        memo: of the last copy of it from the same source.
        overwrite: a conflict is written over.
    """
    if found is None:
        return Decision(COPIED) if memo is None else _conflict(DELETED, overwrite)
    source_moved = memo is not None and memo.source_hash != parcel.source_hash
    if found == parcel.content and (is_same_time or not source_moved):
        return Decision(EQUAL)
    if memo is None:
        return _conflict(NOT_OURS, overwrite)
    if found == memo.target_hash:
        return Decision(COPIED)
    return _conflict(CHANGED, overwrite)


def _conflict(reason: str, overwrite: bool) -> Decision:
    return Decision(COPIED, f"overwritten_{reason}") if overwrite else Decision(CONFLICT, reason)
