"""What an append makes of a log: which number each entry gets, what is replaced, what goes. Once, for every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unified_storage.interface import OnDuplicate
from unified_storage.logs import EntryDraft, LogName, duplicate_key


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

    @property
    def left(self) -> int:
        """Entries in the end."""
        return self.count - self.dropped

    @property
    def changes(self) -> bool:
        """Whether anything is written at all; else the owner stays as it is, and no log begins."""
        return bool(self.fresh or self.replaced or self.dropped)


def placed(
    name: LogName,
    drafts: Sequence[EntryDraft],
    known: Mapping[str, int],
    last_seq: int,
    count: int,
    *,
    on_duplicate: OnDuplicate = "error",
    keep_last: int | None = None,
) -> Placed:
    """Where *drafts* go in a log that has *count* entries; a ``rewrite`` is one into a log that has none.

    Args:
        known: the numbers of the keys that are present, at least of those that the drafts have.
        last_seq: the highest number that the log ever gave, 0 for a new one.
    Raises:
        StorageAlreadyExistsError: a key is present, or twice among the drafts, and *on_duplicate* is ``error``.
    """
    numbers: list[int] = []
    fresh: dict[int, EntryDraft] = {}
    replaced: dict[int, EntryDraft] = {}
    present: dict[str, int] = {}
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
    count += len(fresh)
    return Placed(
        numbers,
        fresh,
        replaced,
        last_seq=last_seq + len(fresh),
        count=count,
        dropped=0 if keep_last is None else max(0, count - keep_last),
        is_retry=bool(drafts) and all(draft.key is not None and draft.key in known for draft in drafts),
    )


def _over(earlier: EntryDraft | None, draft: EntryDraft) -> EntryDraft:
    """*draft* in the place of one of the same call: without a time of its own it keeps that one's."""
    if earlier is None or draft.created_at is not None:
        return draft
    return replace(draft, created_at=earlier.created_at)
