"""What is sent to be done at once in one partition: checks, then changes; all of it happens, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from unified_storage.backends.redis.partitions import raw, time_text
from unified_storage.backends.redis.rows import Key, Row, Stamp
from unified_storage.logs import LogName, StoredEntry
from unified_storage.placing import Append
from unified_storage.record import Draft

Part = str | int | msgspec.Raw
_REMOVING = frozenset({"drop", "pop"})
_packed = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Job:
    """Arguments for the script ``COMMIT``."""

    checks: list[Sequence[Part]] = field(default_factory=list)
    changes: list[Sequence[Part]] = field(default_factory=list)
    generation: int | None = None
    """Of the list of paths that the keys in it were made by; None where there are none."""

    def arguments(self) -> list[bytes]:
        """What is asked, then the changes, as the script takes them: MessagePack, which the server unpacks in C."""
        generation = "" if self.generation is None else str(self.generation)
        asked = _packed((generation, self.grows, self.checks, len(self.changes)))
        return [asked, *map(_packed, self.changes)]

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
                *(
                    draft.session_id or "",
                    draft.thread_id or "",
                    draft.metadata_text or "",
                    draft.data_text,
                    _raw(keys),
                ),
            )
        )

    def append(self, asked: Append, now: int) -> None:
        """Add entries to a log of a living record, or put them in the place of all that are there."""
        name = asked.name
        change: list[Part] = ["append", name.owner_type, name.owner_id, name.log_id, time_text(now)]
        change += (asked.on_duplicate, _or_nothing(asked.keep_last), asked.rewrites)
        change += (_or_nothing(asked.expected_version), len(asked.drafts))
        for draft in asked.drafts:
            change += (_time_or_nothing(draft.created_at), draft.key or "", draft.body)
        self.changes.append(change)

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
                *(_raw(row.metadata or b""), _raw(row.data), _raw(keys)),
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
        cuts: Sequence[tuple[Part, Part]],
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


def _raw(text: bytes) -> msgspec.Raw:
    return msgspec.Raw(raw(text))


def _or_nothing(number: int | None) -> Part:
    return "" if number is None else number


def _time_or_nothing(micros: int | None) -> str:
    return "" if micros is None else time_text(micros)
