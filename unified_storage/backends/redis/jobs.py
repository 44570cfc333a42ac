"""What is sent to be done at once in one partition: checks, then changes; all of it happens, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unified_storage.backends.redis.client import Argument
from unified_storage.backends.redis.partitions import time_text
from unified_storage.backends.redis.rows import Key, Row, Stamp
from unified_storage.logs import LogName, StoredEntry
from unified_storage.placing import Append
from unified_storage.record import Draft

_REMOVING = frozenset({"drop", "pop"})


@dataclass(slots=True)
class Job:
    """Arguments for the script ``COMMIT``."""

    checks: list[Sequence[Argument]] = field(default_factory=list)
    changes: list[Sequence[Argument]] = field(default_factory=list)
    generation: int | None = None
    """Of the list of paths that the keys in it were made by; None where there are none."""

    def arguments(self) -> list[Argument]:
        """The arguments in the order in which the script takes them, their number first."""
        flat: list[Argument] = [0, "" if self.generation is None else self.generation, int(self.grows)]
        for parts in (self.checks, self.changes):
            flat.append(len(parts))
            for part in parts:
                flat.extend(part)
        flat[0] = len(flat) - 1
        return flat

    @property
    def grows(self) -> bool:
        """Whether it may need more memory: what only removes is done on a full server too."""
        return any(change[0] not in _REMOVING for change in self.changes)

    # -- checks --------------------------------------------------------------------------------------------------

    def check_readable(self, key: Key) -> None:
        """The record is not damaged, if it is there: none of the changes would get stuck in the middle of the job."""
        self.checks.append((key[1], key[0], "*", "", ""))

    def check(self, key: Key, stamp: Stamp | None) -> None:
        """The record is the one that was read, in this version; with None, there is none."""
        incarnation, version, written = ("", "", "") if stamp is None else stamp
        self.checks.append((key[1], key[0], incarnation, version, written))

    def check_document(self, key: Key, stamp: Stamp) -> None:
        """The record is as it was written when it was read; appends to its logs do not count."""
        incarnation, _, written = stamp
        self.checks.append((key[1], key[0], incarnation, "", written))

    # -- changes that decide for themselves ----------------------------------------------------------------------

    def save(self, draft: Draft, keys: bytes, now: int, *, expected: int | None = None, steps: int = 1) -> None:
        """Insert or replace a record; *steps* is how many versions that counts for."""
        self.changes.append(
            (
                *("save", draft.type, draft.id, time_text(now), _or_nothing(expected), steps),
                *(_time_or_nothing(draft.created_at), _time_or_nothing(draft.expires_at)),
                *(draft.session_id or "", draft.thread_id or "", draft.metadata_text or "", draft.data_text, keys),
            )
        )

    def append(self, asked: Append, now: int) -> None:
        """Add entries to a log of a living record, or put them in the place of all that are there."""
        name = asked.name
        self.changes.append(
            (
                *("append", name.owner_type, name.owner_id, name.log_id, time_text(now)),
                *(asked.on_duplicate, _or_nothing(asked.keep_last)),
                *(int(asked.rewrites), _or_nothing(asked.expected_version)),
                len(asked.drafts),
                *(
                    part
                    for draft in asked.drafts
                    for part in (_time_or_nothing(draft.created_at), draft.key or "", draft.body)
                ),
            )
        )

    def pop(self, name: LogName, now: int) -> None:
        """Withdraw the newest entry of a log."""
        self.changes.append(("pop", name.owner_type, name.owner_id, name.log_id, time_text(now)))

    # -- changes that were decided before ------------------------------------------------------------------------

    def put(self, row: Row, keys: bytes) -> None:
        """Write a record as it is."""
        assert row.data is not None
        self.changes.append(
            (
                *("put", row.type, row.id, row.version, time_text(row.created_at), time_text(row.updated_at)),
                *(_time_or_nothing(row.expires_at), row.session_id or "", row.thread_id or ""),
                *(row.metadata or "", row.data, keys),
            )
        )

    def touch(self, row: Row) -> None:
        """Move a record's version and time, after a change of one of its logs."""
        self.changes.append(("touch", row.type, row.id, row.version, time_text(row.updated_at)))

    def drop(self, key: Key) -> None:
        """Remove a record with its logs, if it is there."""
        self.changes.append(("drop", key[1], key[0]))

    def change_log(
        self,
        owner: Key,
        log_id: str,
        last_seq: int,
        cuts: Sequence[tuple[Argument, Argument]],
        entries: Iterable[StoredEntry],
    ) -> None:
        """Take out the ranges of numbers *cuts* (both ends go), then put *entries* in."""
        added = [(entry.seq, time_text(entry.created_at), entry.key or "", entry.body) for entry in entries]
        self.changes.append(
            (
                *("log", owner[1], owner[0], log_id, last_seq),
                *(len(cuts), *(bound for cut in cuts for bound in cut)),
                *(len(added), *(part for entry in added for part in entry)),
            )
        )


def _or_nothing(number: int | None) -> Argument:
    return "" if number is None else number


def _time_or_nothing(micros: int | None) -> str:
    return "" if micros is None else time_text(micros)
