"""What one open transaction has seen of records, where several transactions write at once.

A record that is read by its id is locked until the transaction ends, so nobody changes it meanwhile. What was read
without a lock (a record in a list, or that a record was not there) is noted, and compared before it is written over.
"""

from __future__ import annotations

from unified_storage.errors import StorageConflictError

Key = tuple[str, str]
"""A record's ``(id, type)``."""
State = tuple[int, int]
"""Its version and ``updated_at``: both move with every change."""


class Claims:
    """The records that a transaction has seen or locked."""

    def __init__(self) -> None:
        self._seen: dict[Key, State] = {}
        self._absent: set[Key | str] = set()
        self._own: set[Key] = set()

    def saw(self, key: Key, state: State) -> None:
        """The record was read without a lock; what counts is the first sight of it."""
        if key not in self._own:
            self._seen.setdefault(key, state)

    def missed(self, key: Key | str) -> None:
        """There was no such record; a mere id means of any type.

        Raises:
            StorageConflictError: we saw it before, and somebody else has deleted it; trying again helps.
        """
        seen = [key] if isinstance(key, tuple) else [seen for seen in self._seen if seen[0] == key]
        for each in seen:
            if each in self._seen and each not in self._own:
                raise _conflict(each)
        self._absent.add(key)

    def owns(self, key: Key) -> None:
        """From here on nobody else can change the record: it was inserted by us."""
        self._own.add(key)

    def take(self, key: Key, state: State | None) -> None:
        """The record is about to be written, and locked in *state* (None: it is not there).

        Raises:
            StorageConflictError: somebody changed, made or deleted it since we looked; trying again helps.
        """
        if key in self._own:
            return
        was_missed = key in self._absent or key[0] in self._absent
        if self._seen.get(key, state) != state or (was_missed and state is not None):
            raise _conflict(key)
        if state is not None:
            self._own.add(key)


def _conflict(key: Key) -> StorageConflictError:
    id, type_name = key
    return StorageConflictError(
        f"record {id!r} was changed by somebody else since this transaction read it",
        details={"id": id, "type": type_name},
        retryable=True,
    )
