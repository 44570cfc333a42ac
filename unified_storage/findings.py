"""What can be found wrong with a store: a stable word for each kind of damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNREADABLE = "unreadable_record"
DOCUMENT_MISSING, DOCUMENT_ORPHANED = "document_missing", "document_orphaned"
INDEX_KEY = "index_key_differs"
LOG_ORPHANED, ENTRY_ORPHANED, LOG_COUNT = "log_orphaned", "entry_orphaned", "log_count_differs"
ENTRY_KEY = "entry_key_differs"
MEMBER_MISSING, MEMBER_STALE, MEMBER_ORPHANED = "index_member_missing", "index_member_stale", "index_member_orphaned"
WRONG_PARTITION, COUNTER_BEHIND = "wrong_partition", "counter_behind"
PATH_UNFILLED, SCHEMA_INDEX = "path_unfilled", "schema_index_missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a stable word.
        id, type: the record it is about; of a log its owner, whether that is there or not. Empty where it is about
            no record.
        repairable: whether it can be mended without losing anything that somebody could still read.
        repaired: whether it was.
        detail: which part; never contents.
    """

    kind: str
    id: str = ""
    type: str = ""
    repairable: bool = False
    repaired: bool = False
    detail: str | None = None

    def to_dict(self) -> dict[str, Any]:
        names = ("kind", "id", "type", "repairable", "repaired", "detail")
        return {name: getattr(self, name) for name in names}
