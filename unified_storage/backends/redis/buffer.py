"""What a transaction read and what it will write: nothing is sent before it commits.

Reads go through here. Each record that was read, or not found, is remembered with the version it had; the commit
checks those that are written (or whose logs are) and does everything at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from unified_storage.backends.redis.jobs import Job
from unified_storage.backends.redis.rows import Key, Row, Stamp
from unified_storage.backends.redis.store import Store
from unified_storage.errors import StorageConflictError, StorageUnsupportedError
from unified_storage.logs import LogName, StoredEntry
from unified_storage.record import is_system, later


@dataclass(slots=True)
class OpenLog:
    """A log as a transaction changes it: what is left of the stored entries, and what came on top."""

    name: LogName
    last_seq: int
    exists: bool
    stored: int
    """How many of the stored entries are left."""
    floor: int = 0
    """Stored entries up to this number are gone."""
    ceiling: int | None = None
    """Stored entries from this number on are gone."""
    is_rewritten: bool = False
    """No stored entry is left, whatever the numbers say."""
    fresh: dict[int, StoredEntry] = field(default_factory=dict)
    """Entries above all stored ones, their numbers rising."""
    replaced: dict[int, StoredEntry] = field(default_factory=dict)
    """What takes the place of stored entries."""
    is_changed: bool = False

    @property
    def count(self) -> int:
        return self.stored + len(self.fresh)

    def holds_stored(self, seq: int) -> bool:
        """Whether the stored entry *seq* is still in the log."""
        return not self.is_rewritten and seq > self.floor and (self.ceiling is None or seq < self.ceiling)

    def forget_stored(self) -> None:
        self.stored, self.is_rewritten, self.replaced = 0, True, {}

    def cuts(self) -> list[tuple[int | str, int | str]]:
        """The ranges of numbers to take out of what is stored, both ends included."""
        if self.is_rewritten:
            return [("-inf", "+inf")]
        cuts: list[tuple[int | str, int | str]] = [(seq, seq) for seq in self.replaced]
        if self.floor:
            cuts.append(("-inf", self.floor))
        if self.ceiling is not None:
            cuts.append((self.ceiling, "+inf"))
        return cuts


class Buffer:
    """The reads and writes of one transaction, or of one verb that has to read before it writes.

    Args:
        turn: waits for a turn with a record, by its id, before it is read.
        stays_open: callers decide by what they read, so that no change of it is overlooked, not even an append.
    """

    def __init__(
        self, store: Store, turn: Callable[[str], Awaitable[None]] | None = None, *, stays_open: bool = False
    ) -> None:
        self.store = store
        self.written: dict[Key, Row | None] = {}
        """What the commit will leave of each record; None: it goes."""
        self.logs: dict[str, OpenLog] = {}
        self.partition: int | None = None
        """The one that is written."""
        self._turn = turn
        self._stays_open = stays_open
        self._seen: dict[Key, Stamp | None] = {}
        self._rows: dict[Key, Row | None] = {}
        self._known_ids: set[str] = set()
        """Ids all of whose records were read."""
        self._dropped: set[Key] = set()
        self._versions_count: set[Key] = set()
        self._rewritten: set[Key] = set()

    def now(self) -> int:
        return self.store.now()

    # -- reading -------------------------------------------------------------------------------------------------

    async def row(self, key: Key, *, with_data: bool = False) -> Row | None:
        """The record after all that was written here, also when its time is over."""
        if key in self.written:
            row = self.written[key]
            return row if row is None or row.data is not None or not with_data else await self._completed(row)
        if key in self._rows or (key[0] in self._known_ids and key not in self._seen):
            row = self._rows.get(key)
            if row is None or row.data is not None or not with_data:
                self._seen.setdefault(key, None)
                return row
        if self._turn is not None:
            await self._turn(key[0])
        return self.note(key, await self.store.row(key, with_data=with_data))

    async def _completed(self, row: Row) -> Row:
        """A record of which only logs were changed here, with its documents."""
        stored = await self.store.row(row.key, with_data=True)
        if stored is None or (stored.incarnation, stored.written) != (row.incarnation, row.written):
            raise changed_meanwhile(row.key)
        whole = replace(row, data=stored.data, metadata=stored.metadata)
        self.written[row.key] = whole
        return whole

    async def living(self, key: Key, *, with_data: bool = False) -> Row | None:
        row = await self.row(key, with_data=with_data)
        return row if row is not None and row.lives(self.now()) else None

    async def prepare(self, keys: Iterable[Key]) -> None:
        """Read the heads of several records in one go, so that :meth:`row` has them."""
        await self.look_again(key for key in keys if key not in self._rows)

    async def look_again(self, keys: Iterable[Key]) -> None:
        """Read the heads of several records in one go; in a transaction those read before must not have changed."""
        asked = [key for key in dict.fromkeys(keys) if key not in self.written]
        for key, row in zip(asked, await self.store.heads(asked), strict=True):
            self.note(key, row)

    async def prepare_ids(self, ids: Iterable[str]) -> None:
        """Read the heads of all records of several ids in one go, so that :meth:`rows_of` has them."""
        unread = [id for id in dict.fromkeys(ids) if id not in self._known_ids]
        for rows in await self.store.rows_of_each(unread, with_data=False):
            for row in rows:
                if row.key not in self.written:
                    self.note(row.key, row)
        self._known_ids.update(unread)

    async def rows_of(self, id: str, *, with_data: bool = False) -> list[Row]:
        """Every living record of an id that is no system record."""
        if id not in self._known_ids:
            if self._turn is not None:
                await self._turn(id)
            for row in await self.store.rows_of(id, with_data=with_data):
                if row.key not in self.written:
                    self.note(row.key, row)
            self._known_ids.add(id)
        known = {key for key in (*self._rows, *self.written) if key[0] == id and not is_system(key[1])}
        found = [await self.living(key, with_data=with_data) for key in sorted(known)]
        return [row for row in found if row is not None]

    def note(self, key: Key, row: Row | None) -> Row | None:
        """Remember what was read.

        Raises:
            StorageConflictError: a transaction has read it before, and it has changed since.
        """
        stamp = None if row is None else row.stamp
        if self._first_seen(key, stamp) != stamp and self._stays_open:
            raise changed_meanwhile(key)
        known = self._rows.get(key)
        if row is None or known is None or row.data is not None or row.stamp != known.stamp:
            self._rows[key] = row
        return row

    def note_listed(self, key: Key, stamp: Stamp, *, by_name: bool) -> None:
        """Remember that a listing showed a record; not what stood in it."""
        if self._first_seen(key, stamp) != stamp and by_name:
            raise changed_meanwhile(key)

    def _first_seen(self, key: Key, stamp: Stamp | None) -> Stamp | None:
        """The stamp with which a record was seen first; *stamp* where that is now."""
        # Who was told of all records of an id was told that there is none of any other type.
        return self._seen.setdefault(key, None if key[0] in self._known_ids else stamp)

    async def wait_for_turns(self, ids: Iterable[str]) -> None:
        """Wait for a turn with each of some records that are named."""
        if self._turn is not None:
            for id in ids:
                await self._turn(id)

    def is_anew(self, key: Key) -> bool:
        """Whether the stored record, with its logs, will be gone."""
        return key in self._dropped

    # -- writing -------------------------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        """Write a record; it has been read before."""
        self.claim(row.id)
        self.written[row.key] = row
        self._rewritten.add(row.key)

    def touch(self, row: Row) -> None:
        """Move a record's version and time, since one of its logs has changed."""
        self.claim(row.id)
        self.written[row.key] = row.touched(later(self.now(), row.updated_at))

    def drop(self, key: Key) -> None:
        """Remove a record with its logs; it has been read before."""
        self.claim(key[0])
        self.written[key] = None
        self._dropped.add(key)
        self._rewritten.discard(key)
        for log_id in [log_id for log_id, log in self.logs.items() if log.name.owner_key == key]:
            del self.logs[log_id]

    def heed_version(self, key: Key) -> None:
        """The record goes only in the version that was read: a version was expected of it."""
        self._versions_count.add(key)

    def claim(self, id: str) -> None:
        """Only one partition can be written at once.

        Raises:
            StorageUnsupportedError: *id* lies in another one than what was written before.
        """
        partition = self.store.layout.of(id)
        if self.partition is None:
            self.partition = partition
        if self.partition != partition:
            raise StorageUnsupportedError(
                "a Redis cluster cannot change records of several partitions in one step", details={"id": id}
            )

    def job(self) -> Job:
        """Everything as one job; the keys of records are made by the present list of paths."""
        assert self.partition is not None
        job = self.store.job(self.partition)
        for key, row in self.written.items():
            stamp = self._seen[key]
            if stamp is not None and row is None and not (self._stays_open or key in self._versions_count):
                job.check_document(key, stamp)  # a verb that only removes it is not disturbed by appends
            else:
                job.check(key, stamp)
            if key in self._dropped:
                job.drop(key)
            if row is not None and key in self._rewritten:
                job.put(row, self.store.index_keys(row))
            elif row is not None:
                job.touch(row)
        for log_id, log in self.logs.items():
            if log.is_changed:
                entries = [*log.replaced.values(), *log.fresh.values()]
                job.change_log(log.name.owner_key, log_id, log.last_seq, log.cuts(), entries)
        return job


def changed_meanwhile(key: Key) -> StorageConflictError:
    """What a transaction reads or writes has been changed by others since it read it."""
    return StorageConflictError(
        f"record {key[0]!r} of type {key[1]!r} was changed by others meanwhile",
        details={"id": key[0], "type": key[1]},
        retryable=True,
    )
