"""What an append makes of a log: which number each entry gets, what is replaced, what goes. Once, for every backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unified_storage.arguments import check_expected, check_version
from unified_storage.interface import OnDuplicate
from unified_storage.logs import (
    EntryDraft,
    LogName,
    StoredEntry,
    check_append,
    checked_entries,
    duplicate_key,
    no_owner,
    parse_log_id,
)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where each entry of one ``append`` or ``rewrite`` goes, and what the log has afterwards."""

    numbers: list[int]
    """One a draft, in their order: what the verb returns."""
    fresh: dict[int, EntryDraft]
    """What is new, by its number, rising."""
    replaced: dict[int, EntryDraft]
    """What takes the place of an entry that is there, by its number; without a time it keeps that entry's."""
    last_seq: int
    """The highest number ever given, these included."""
    count: int
    """Entries after adding, before any is dropped."""
    dropped: int
    """How many of the oldest go then, new ones among them."""
    is_retry: bool
    """Every key was there already: ``expected_version`` is not applied."""
    changes: bool
    """Whether anything is written; if not, the owner stays as it is, and no log begins."""

    @property
    def left(self) -> int:
        """Entries in the end."""
        return self.count - self.dropped

    def applied_to(self, entries: Sequence[StoredEntry], now: int) -> list[StoredEntry]:
        """The entries of the log afterwards, for a backend that holds a log whole.

        Args:
            entries: those that were there, oldest first.
            now: microseconds, for new entries without a time of their own.
        """
        kept = [
            self.replaced[entry.seq].stored(entry.seq, entry.created_at) if entry.seq in self.replaced else entry
            for entry in entries
        ]
        return [*kept, *(draft.stored(seq, now) for seq, draft in self.fresh.items())][self.dropped :]


def placed(
    name: LogName,
    drafts: Sequence[EntryDraft],
    known: Mapping[str, int],
    last_seq: int,
    count: int,
    *,
    on_duplicate: OnDuplicate = "error",
    keep_last: int | None = None,
    rewrites: bool = False,
) -> Placed:
    """Where *drafts* go in a log that has *count* entries.

    Args:
        known: the numbers of the keys that are present, at least of those that the drafts have.
        last_seq: the highest number that the log ever gave, 0 for a new one.
        rewrites: all that was there goes, so its keys are free; what is left are the drafts.
    Raises:
        StorageAlreadyExistsError: a key is present, or twice among the drafts, and *on_duplicate* is ``error``.
    """
    numbers: list[int] = []
    fresh: dict[int, EntryDraft] = {}
    replaced: dict[int, EntryDraft] = {}
    present: dict[str, int] = {}
    known = {} if rewrites else known
    for draft in drafts:
        seq = None if draft.key is None else present.get(draft.key, known.get(draft.key))
        if seq is None:
            seq = last_seq + len(fresh) + 1
            fresh[seq] = draft
            if draft.key is not None:
                present[draft.key] = seq
        elif on_duplicate == "error":
            raise duplicate_key(name, draft.key)
        elif on_duplicate == "replace":
            target = fresh if seq in fresh else replaced
            target[seq] = _over(target.get(seq), draft)
        numbers.append(seq)
    most = len(fresh) if rewrites else keep_last
    dropped = 0 if most is None else max(0, count + len(fresh) - most)
    return Placed(
        numbers,
        fresh,
        replaced,
        last_seq=last_seq + len(fresh),
        count=count + len(fresh),
        dropped=dropped,
        is_retry=bool(drafts) and not fresh,
        changes=rewrites or bool(fresh or replaced or dropped),
    )


def _over(earlier: EntryDraft | None, draft: EntryDraft) -> EntryDraft:
    """*draft* in the place of one of the same call: without a time of its own it keeps that one's."""
    if earlier is None or draft.created_at is not None:
        return draft
    return draft._replace(created_at=earlier.created_at)


class Append(NamedTuple):
    """What ``append`` or ``rewrite`` was given, checked."""

    name: LogName
    drafts: list[EntryDraft]
    expected_version: int | None
    on_duplicate: OnDuplicate = "error"
    keep_last: int | None = None
    rewrites: bool = False

    def placed(self, known: Mapping[str, int], last_seq: int, count: int, version: int | None) -> Placed:
        """Where the drafts go in a log that has *count* entries; a ``rewrite`` drops all of those.

        Args:
            known: the numbers of the keys that are present, at least of those that the drafts have.
            last_seq: the highest number that the log ever gave, 0 for a new one.
            version: of the owner; None where it is not there.
        Raises:
            StorageNotFoundError: nobody owns the log.
            StorageAlreadyExistsError: a key is present, or twice among the drafts, and that is an error.
            StorageConflictError: the owner has another version than the expected one.
        """
        if version is None:
            raise no_owner(self.name)
        found = placed(
            self.name,
            self.drafts,
            known,
            last_seq,
            count,
            on_duplicate=self.on_duplicate,
            keep_last=self.keep_last,
            rewrites=self.rewrites,
        )
        if not found.is_retry:
            check_version(self.expected_version, version, self.name.owner_id)
        return found


def checked_append(
    log_id: str,
    entries: Iterable[Mapping[str, Any]],
    on_duplicate: OnDuplicate,
    keep_last: int | None,
    expected_version: int | None,
) -> Append:
    """The arguments of ``append``; ``StorageValidationError`` names what is wrong with them."""
    name, drafts = parse_log_id(log_id), checked_entries(entries)
    check_append(on_duplicate, keep_last)
    check_expected(expected_version)
    return Append(name, drafts, expected_version, on_duplicate, keep_last)


def checked_rewrite(log_id: str, entries: Iterable[Mapping[str, Any]], expected_version: int | None) -> Append:
    """The arguments of ``rewrite``."""
    name, drafts = parse_log_id(log_id), checked_entries(entries)
    check_expected(expected_version)
    return Append(name, drafts, expected_version, rewrites=True)
