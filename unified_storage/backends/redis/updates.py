"""Updates of one record that wait together are written together: each is applied, one after the other, once read."""

from __future__ import annotations

import asyncio
import copy
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unified_storage.arguments import check_version
from unified_storage.backends.redis.jobs import Job
from unified_storage.backends.redis.record_turns import RecordTurns
from unified_storage.backends.redis.records import only_one
from unified_storage.backends.redis.rows import Row
from unified_storage.backends.redis.store import Patience, Store
from unified_storage.errors import StorageError
from unified_storage.interface import Record
from unified_storage.portal import leave_behind
from unified_storage.record import Draft, checked_record, is_system, updated_record
from unified_storage.transactions import to_the_end
from unified_storage.turns import Turns

_MOST_TOGETHER = 64


@dataclass(slots=True, eq=False)
class _Update:
    """What one caller wants, and what became of it."""

    changes: Mapping[str, Any]
    expected_version: int | None
    outcome: bool | StorageError | None = None

    def result(self) -> bool:
        if isinstance(self.outcome, StorageError):
            raise copy.copy(self.outcome)  # others may have the same one
        assert self.outcome is not None
        return self.outcome


@dataclass(slots=True)
class _Queue:
    turns: Turns = field(default_factory=Turns)
    waiting: list[_Update] = field(default_factory=list)
    users: int = 0
    at_work: asyncio.AbstractEventLoop | None = None
    """The loop that has some of them in hand."""

    @property
    def stands_still(self) -> bool:
        """Whether its work was left in the middle, by a loop that was stopped and may never go on."""
        return self.at_work is not None and not self.at_work.is_running()


class Updates:
    """The updates under way in this process, by what they name."""

    def __init__(self, store: Store, turns: RecordTurns) -> None:
        self._store = store
        self._turns = turns
        self._guard = threading.Lock()
        self._queues: dict[tuple[str, str | None], _Queue] = {}
        _all.add(self)

    async def update(self, id: str, kind: str | None, changes: Mapping[str, Any], expected_version: int | None) -> bool:
        mine = _Update(changes, expected_version)
        queue = self._joined(id, kind, mine)
        try:
            try:
                await queue.turns.take(self._store.timeout)
            except (asyncio.CancelledError, StorageError):
                await self._withdrawn(queue, mine)
                raise
            queue.at_work = asyncio.get_running_loop()
            try:
                if mine.outcome is None:
                    await self._turns.give_way(id)
                    await to_the_end(self._carry_out(id, kind, self._taken(queue, mine)))
            finally:
                queue.at_work = None
                queue.turns.leave()
        finally:
            self._left((id, kind), queue, mine)
        return mine.result()

    def _joined(self, id: str, kind: str | None, mine: _Update) -> _Queue:
        with self._guard:
            queue = self._queues.get((id, kind))
            if queue is None or queue.stands_still:
                queue = self._queues[id, kind] = _Queue()
            queue.waiting.append(mine)
            queue.users += 1
            return queue

    def _taken(self, queue: _Queue, mine: _Update) -> list[_Update]:
        """Ours, and as many of the others as go together."""
        with self._guard:
            others = [update for update in queue.waiting if update is not mine]
            taken = [mine, *others[: _MOST_TOGETHER - 1]]
            queue.waiting = others[_MOST_TOGETHER - 1 :]
            return taken

    async def _withdrawn(self, queue: _Queue, mine: _Update) -> None:
        """Take ours back; where another has it in hand, wait until it is done: it must not go on behind us."""
        with self._guard:
            if mine in queue.waiting:
                queue.waiting.remove(mine)
                return
        await to_the_end(queue.turns.take(self._store.timeout))
        queue.turns.leave()

    def _left(self, key: tuple[str, str | None], queue: _Queue, mine: _Update) -> None:
        with self._guard:
            if mine in queue.waiting:
                queue.waiting.remove(mine)
            queue.users -= 1
            if not queue.users and self._queues.get(key) is queue:
                del self._queues[key]

    def leave_behind(self) -> None:
        """In a forked child: what waits here, and what was taken in hand, is the parent's to do."""
        leave_behind(self._queues)
        self._queues = {}
        self._guard = threading.Lock()

    # -- doing ---------------------------------------------------------------------------------------------------

    async def _carry_out(self, id: str, kind: str | None, updates: list[_Update]) -> None:
        """Give every one of *updates* its outcome."""
        patience = Patience(self._store.timeout)
        try:
            while updates:
                updates = await self._attempt(id, kind, updates, patience)
        except StorageError as error:
            for update in updates:
                update.outcome = error

    async def _attempt(self, id: str, kind: str | None, updates: list[_Update], patience: Patience) -> list[_Update]:
        """Apply as many as possible in one write; those that are left to do."""
        now = self._store.now()
        row = await self._living(id, kind, now)
        if row is None:
            for update in updates:
                update.outcome = _outcome_without_record(id, update)
            return []
        merged = _merged(row, updates, now)
        if merged.draft is not None and not await self._is_written(row, merged, now):
            await patience.pause()
            return updates
        for update, refusal in merged.refused:
            update.outcome = refusal
        for update in merged.applied:
            update.outcome = True
        return [update for update in updates if update.outcome is None]

    async def _living(self, id: str, kind: str | None, now: int) -> Row | None:
        if kind is not None:
            row = await self._store.row((id, kind), with_data=True)
            return row if row is not None and row.lives(now) else None
        rows = await self._store.rows_of(id, with_data=True)
        return only_one([row for row in rows if row.lives(now) and not is_system(row.type)])

    async def _is_written(self, row: Row, merged: _Merged, now: int) -> bool:
        """Whether the record was still the one that was read, and now is what was made of it."""
        store, draft = self._store, merged.draft
        assert draft is not None
        partition = store.layout.of(row.id)

        def job() -> Job:
            made = store.job(partition)
            if any(update.expected_version is not None for update in merged.applied):
                made.check(row.key, row.stamp)
            else:
                made.check_document(row.key, row.stamp)
            made.save(draft, store.index_keys(draft), now, steps=len(merged.applied))
            return made

        reply = await store.commit(partition, job)
        return bool(reply[0] == b"done")


@dataclass(slots=True)
class _Merged:
    """What becomes of a record, by which updates; and those that it refuses."""

    draft: Draft | None = None
    applied: list[_Update] = field(default_factory=list)
    refused: list[tuple[_Update, StorageError]] = field(default_factory=list)


def _merged(row: Row, updates: list[_Update], now: int) -> _Merged:
    record: Record = row.handed_out()
    merged = _Merged()
    for update in updates:
        try:
            check_version(update.expected_version, row.version + len(merged.applied), row.id)
            changed = updated_record(record, update.changes)
            merged.draft = checked_record(changed)
        except StorageError as error:
            merged.refused.append((update, error))
            continue
        record = changed
        merged.applied.append(update)
        if merged.draft.expires_at is not None and merged.draft.expires_at <= now:
            break  # its time is over: the next one has nothing to change
    return merged


def _outcome_without_record(id: str, update: _Update) -> bool | StorageError:
    try:
        check_version(update.expected_version, 0, id)
        updated_record({}, update.changes)  # refuses what is wrong also when there is nothing to change
    except StorageError as error:
        return error
    return False


def _after_fork_in_child() -> None:
    for updates in [*_all]:
        updates.leave_behind()


_all: weakref.WeakSet[Updates] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
