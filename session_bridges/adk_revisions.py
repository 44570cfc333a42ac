"""What a session object has seen of the session that is stored, which ADK keeps beside it while it is handed around."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.adk.sessions.session import Session

from session_adapter.events import LOOSE_RUNS
from session_adapter.metadata import own_fields
from unified_storage.interface import Record

NOTES: Mapping[str, Any] = {LOOSE_RUNS: True}
"""What the metadata of a session says in which events of an invocation stand one by one."""
OWN_TIMES = "own_times"
"""Says that a session's times are the storage's own, which tell whether it was ever changed; an import has others."""
BEGUN: Mapping[str, Any] = {**NOTES, OWN_TIMES: True}
"""What the metadata of a session says that begins here."""
_TEXT = re.compile(r"unified:(\d+):(\d*):([01])")


@dataclass(frozen=True, slots=True)
class Revision:
    """A state of a stored session.

    Attributes:
        version: its record's.
        last_seq: the number of its newest event; None where no event was read.
        is_noted: whether its metadata holds :data:`NOTES`.
    """

    version: int
    last_seq: int | None
    is_noted: bool

    @classmethod
    def of(cls, record: Record, last_seq: int | None) -> Revision:
        """The revision that *record* has."""
        return cls(record["version"], last_seq, bool(own_fields(record).get(LOOSE_RUNS)))

    @classmethod
    def seen_by(cls, session: Session) -> Revision | None:
        """What :meth:`mark` has left; None for a session that was made by hand, or by another service."""
        found = _TEXT.fullmatch(session._storage_update_marker or "")
        if found is None:
            return None
        version, last_seq, is_noted = found.groups()
        return cls(int(version), int(last_seq) if last_seq else None, is_noted == "1")

    def mark(self, session: Session) -> None:
        """Let *session* say that this is what it has seen."""
        last_seq = "" if self.last_seq is None else self.last_seq
        session._storage_update_marker = f"unified:{self.version}:{last_seq}:{self.is_noted:d}"


FIRST = Revision(version=1, last_seq=0, is_noted=True)
"""Of a session that has just been made."""
