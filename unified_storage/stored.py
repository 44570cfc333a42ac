"""What holds for a stored record on every backend: its version and times, how long it lives, who stands under whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from unified_storage.arguments import check_switch
from unified_storage.errors import StorageIntegrityError, StorageValidationError
from unified_storage.filters import Condition, matches, visible
from unified_storage.record import Draft, is_system, later

T = TypeVar("T")

GROUPS = {"session": "session_id", "thread": "thread_id"}
"""The column that a cascade goes by, for the types that group others."""


class Stamps(NamedTuple):
    """What the storage itself says of a record; times in microseconds."""

    version: int
    created_at: int
    updated_at: int

    def touched(self, now: int) -> Stamps:
        """After one more change, of the record or of a log that it owns."""
        return Stamps(self.version + 1, self.created_at, later(now, self.updated_at))


def saved_stamps(draft: Draft, stored: Stamps | None, now: int) -> Stamps:
    """Those of *draft* once it is saved; *stored* are those of the living record that it replaces."""
    if stored is not None:
        return stored.touched(now)
    return Stamps(1, now if draft.created_at is None else draft.created_at, now)


def restored_stamps(draft: Draft, stored: Stamps | None, now: int) -> Stamps:
    """Those of *draft* once it is restored: its own times, and a version of its own where none is *stored*."""
    created = now if draft.created_at is None else draft.created_at
    updated = created if draft.updated_at is None else draft.updated_at
    return Stamps(stored.version + 1 if stored else 1, created, updated)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as a backend can hold it: never changed, so a copy of what holds it is a snapshot."""

    draft: Draft
    stamps: Stamps

    @property
    def key(self) -> tuple[str, str]:
        """Its identity, ``(id, type)``."""
        return self.draft.key

    @property
    def version(self) -> int:
        return self.stamps.version

    def lives(self, now: int) -> bool:
        """Whether it has not expired at *now*, in microseconds."""
        return self.draft.expires_at is None or self.draft.expires_at > now

    def touched(self, now: int) -> StoredRecord:
        """The record after a log that it owns has changed."""
        return StoredRecord(self.draft, self.stamps.touched(now))

    def taken(self, others: Iterable[StoredRecord], *, cascade: bool) -> list[StoredRecord]:
        """What goes when this record is deleted: it alone, or with *cascade* those of *others* that it groups too."""
        check_switch("cascade", cascade)
        column = GROUPS.get(self.draft.type) if cascade else None
        if column is None:
            return [self]
        grouped = [other for other in others if getattr(other.draft, column) == self.draft.id]
        return [self, *(other for other in grouped if other.key != self.key and not is_system(other.draft.type))]

    def handed_out(self, with_data: bool = True) -> dict[str, Any]:
        """The record for the caller, a copy each time.

        Raises:
            StorageIntegrityError: a text of it cannot be read; ``details`` say whose.
        """
        try:
            return self.draft.as_record(*self.stamps, with_data=with_data)
        except StorageIntegrityError as error:
            id, type_name = self.key
            raise StorageIntegrityError(
                f"record {id!r} of type {type_name!r} is unreadable: {error.message}",
                details={"id": id, "type": type_name},
                cause=error,
            ) from error

    def is_listed(self, condition: Condition) -> bool:
        """Whether a listing by *condition* shows this record, given that it lives."""
        return visible(condition, self.draft.type) and matches(condition, self.handed_out())


def saved(draft: Draft, stored: StoredRecord | None, now: int) -> StoredRecord:
    """*draft* as it is held once it is saved over *stored*, the living record of its id and type."""
    return StoredRecord(draft, saved_stamps(draft, stored.stamps if stored else None, now))


def restored(draft: Draft, stored: StoredRecord | None, now: int) -> StoredRecord:
    """*draft* as it is held once it is restored over *stored*."""
    return StoredRecord(draft, restored_stamps(draft, stored.stamps if stored else None, now))


def only_one(id: str, type_name: str | None, found: Mapping[str, T]) -> T | None:
    """The record that an id and a type mean, of the living ones that the id has by type; None where there is none.

    Raises:
        StorageValidationError: no type is given, and several share the id; system types (``_...``) do not count.
    """
    if type_name is not None:
        return found.get(type_name)
    types = sorted(kind for kind in found if not is_system(kind))
    if len(types) > 1:
        raise StorageValidationError(
            f"several types share the id {id!r}: say which", details={"id": id, "types": types}
        )
    return found[types[0]] if types else None
