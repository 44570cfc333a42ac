"""Copying into one of our storages: some hundred records a transaction, each decided on, written and read back.

A storage may be unable to change all of them in one transaction, as a Redis cluster is whose records lie on several
nodes, and refuses it. Each id is then a step of its own: its records, their logs and the memo of what was written there
always lie together, so that a copy that is killed has done each of them wholly or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from legacy.migration.decision import CHANGED, NOT_OURS, UNREADABLE_TARGET, Decision, Memo, decided
from legacy.migration.differences import exact_differences
from legacy.migration.lease import Lease
from legacy.migration.memos import Memos
from legacy.migration.targets import Taken, item_of
from legacy.stores.contents import history_in, session_content, whole_content
from legacy.stores.file_reading import refusal_of
from legacy.stores.ours import LogIndex, read_logs
from legacy.stores.parcels import EQUAL, QUARANTINED, Log, Parcel, Record, RecordKey
from session_adapter.entries import history_of
from unified_storage.errors import (
    StorageCapacityError,
    StorageConflictError,
    StorageError,
    StorageIntegrityError,
    StorageUnsupportedError,
    StorageValidationError,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.logs import checked_log
from unified_storage.record import checked_record

T = TypeVar("T")
_STEP_TIMEOUT = 600.0
_ATTEMPTS = 5
_STEPS_AT_ONCE = 16
_ONLY_THE_TARGETS = ("expires_at", "thread_id")
"""Fields of a session that formats without them say nothing about."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What became of records that were to be deleted.

    Attributes:
        keys: of those that are not there any more.
        kept: of those that stay, and why.
    """

    keys: list[RecordKey]
    kept: dict[RecordKey, str]


class IntoStorage:
    """A storage as a target; see ``Target``. Each step is one transaction, together with what is kept about it.

    Args:
        storage: open; the caller closes it.
        lease: this run's right to write there.
        identity: of the source.
        told: what the copy was told, kept with what it wrote.
        whole: whether the source's records come with every field and log.
    """

    def __init__(
        self,
        storage: IUnifiedStorage,
        lease: Lease,
        *,
        identity: str,
        told: dict[str, Any],
        whole: bool,
        dry_run: bool,
        overwrite: bool,
    ) -> None:
        self._storage = storage
        self._lease = lease
        self._memos = Memos(identity)
        self._told = told
        self._whole = whole
        self._dry_run = dry_run
        self._overwrite = overwrite
        self._index: LogIndex | None = None
        self._one_id_a_step = False

    async def take(self, parcels: Sequence[Parcel]) -> Taken:
        await self._fill_index()
        decisions = await self._decisions(parcels)
        taken = Taken([item_of(parcel, decision) for parcel, decision in zip(parcels, decisions, strict=True)])
        if not self._dry_run:
            taken.mismatches = await self._mismatches(parcels, decisions)
        return taken

    async def delete(self, keys: Sequence[RecordKey]) -> Gone:
        """Delete records that the source has no more, each with its logs and what was kept about it.

        What others wrote or changed stays, unless conflicts are overwritten. What is not there is deleted already.
        """
        await self._fill_index()
        try:
            return await self._deleted_in_one_step(keys)
        except StorageUnsupportedError:  # they cannot be changed together
            self._one_id_a_step = True
            await self._take_lease()
        except StorageIntegrityError:
            if len(keys) == 1:
                return Gone([], {keys[0]: UNREADABLE_TARGET})
        steps = [await self.delete([key]) for key in keys]
        kept = {key: why for step in steps for key, why in step.kept.items()}
        return Gone([key for step in steps for key in step.keys], kept)

    async def finish(self) -> None:
        """Every batch was final by itself."""

    async def close(self) -> None:
        if self._index is not None:
            self._index.close()

    async def _fill_index(self) -> None:
        if self._whole and self._index is None:
            self._index = LogIndex()
            await self._index.fill(self._storage)

    async def _deleted_in_one_step(self, keys: Sequence[RecordKey]) -> Gone:
        gone = await in_one_step(self._storage, lambda tx: self._delete(tx, keys))
        if gone.keys:
            self._lease.settled()
        return gone

    async def _delete(self, tx: IUnifiedStorage, keys: Sequence[RecordKey]) -> Gone:
        known = await self._memos.read(tx, (id for id, _ in keys))
        stored = await self._stored(tx, dict.fromkeys(keys, ()))
        kept = {key: why for key in keys if (why := self._reason_to_stay(key, stored.get(key), known)) is not None}
        gone = [key for key in keys if key not in kept]
        if gone:
            if not self._one_id_a_step:
                await self._lease.hold(tx)
            for id, type in gone:
                await tx.delete(id, type=type)
            await self._memos.forget(tx, gone, known)
        return Gone(gone, kept)

    def _reason_to_stay(
        self, key: RecordKey, stored: tuple[Record, list[Log]] | None, known: Mapping[str, dict[str, Any]]
    ) -> str | None:
        memo = self._memos.memo(known.get(key[0], {}), key[1])
        if stored is None or self._overwrite:
            return None
        if memo is None:
            return NOT_OURS
        return None if self._content(*stored) == memo.target_hash else CHANGED

    async def _decisions(self, parcels: Sequence[Parcel]) -> list[Decision]:
        """Have *parcels* decided on and written, in one step or, once the storage refuses that, in one for each id."""
        if self._dry_run:
            return await self._apart(parcels, self._only_decided)
        if not self._one_id_a_step:
            try:
                return await self._apart(parcels, self._in_one_step)
            except StorageUnsupportedError:
                self._one_id_a_step = True
        return await self._id_by_id(parcels)

    async def _apart(
        self, parcels: Sequence[Parcel], step: Callable[[Sequence[Parcel]], Awaitable[list[Decision]]]
    ) -> list[Decision]:
        """What *step* decides; what is refused, or cannot be read back there, costs itself and not the others."""
        try:
            return await step(parcels)
        except StorageIntegrityError:
            unreadable = [place for place, parcel in enumerate(parcels) if not await self._is_readable(parcel)]
            refused = dict.fromkeys(unreadable, Decision(QUARANTINED, UNREADABLE_TARGET))
            if not refused:
                raise
        except (StorageValidationError, StorageCapacityError):
            refused = {place: why for place, parcel in enumerate(parcels) if (why := _refused(parcel)) is not None}
            if not refused:
                raise
        others = [parcel for place, parcel in enumerate(parcels) if place not in refused]
        decisions = iter(await self._apart(others, step))
        return [refused.get(place) or next(decisions) for place in range(len(parcels))]

    async def _is_readable(self, parcel: Parcel) -> bool:
        """Whether what the target has where *parcel* goes can be read back."""
        try:
            await self._only_decided([parcel])
        except StorageIntegrityError:
            return False
        return True

    async def _only_decided(self, parcels: Sequence[Parcel]) -> list[Decision]:
        decisions, _, _ = await self._decided(self._storage, parcels)
        return decisions

    async def _id_by_id(self, parcels: Sequence[Parcel]) -> list[Decision]:
        decided = await self._settled(parcels)
        by_id: dict[str, list[int]] = {}
        for place, parcel in enumerate(parcels):
            if place not in decided:
                by_id.setdefault(parcel.key[0], []).append(place)
        if by_id:
            await self._take_lease()
        groups = [*by_id.values()]
        for start in range(0, len(groups), _STEPS_AT_ONCE):
            some = groups[start : start + _STEPS_AT_ONCE]
            steps = [self._apart([parcels[place] for place in places], self._in_one_step) for places in some]
            for places, decisions in zip(some, await _all_ended(steps), strict=True):
                decided.update(zip(places, decisions, strict=True))
        return [decided[place] for place in range(len(parcels))]

    async def _settled(self, parcels: Sequence[Parcel]) -> dict[int, Decision]:
        """The decisions, by place, for which nothing is to be written."""
        try:
            decisions, _, known = await self._decided(self._storage, parcels)
        except StorageIntegrityError:
            return {}  # whose fault it is turns out id by id
        memos = self._changed_memos(parcels, decisions, known)
        return {
            place: decision
            for place, decision in enumerate(decisions)
            if not decision.writes and parcels[place].key not in memos
        }

    async def _take_lease(self) -> None:
        """Take the right to write, or make sure that it is still ours, in a step of its own.

        A run that was followed after a long silence may still write the batch that it was about to write. Every step
        changes what it has seen and nothing else: the one that follows finds it equal, or a conflict.
        """
        await in_one_step(self._storage, self._lease.hold)
        self._lease.settled()

    async def _in_one_step(self, parcels: Sequence[Parcel]) -> list[Decision]:
        decisions, wrote = await in_one_step(self._storage, lambda tx: self._write(tx, parcels))
        if wrote:
            self._lease.settled()
        return decisions

    async def _write(self, tx: IUnifiedStorage, parcels: Sequence[Parcel]) -> tuple[list[Decision], bool]:
        """The decisions, carried out inside *tx*, and whether that wrote anything."""
        decisions, stored, known = await self._decided(tx, parcels)
        taken = [parcel for parcel, decision in zip(parcels, decisions, strict=True) if decision.writes]
        memos = self._changed_memos(parcels, decisions, known)
        if (taken or memos) and not self._one_id_a_step:
            await self._lease.hold(tx)
        if taken:
            records = [self._over(parcel, stored.get(parcel.key)) for parcel in taken]
            await tx.restore(records, _logs_to_restore(taken, stored))
        if memos:
            await self._memos.write(tx, memos, known)
        return decisions, bool(taken or memos)

    def _over(self, parcel: Parcel, stored: tuple[Record, list[Log]] | None) -> Record:
        """The record to write: what the source cannot know of stays as the target has it."""
        if self._whole or stored is None:
            return parcel.record
        return parcel.record | {name: stored[0][name] for name in _ONLY_THE_TARGETS}

    async def _decided(
        self, reader: IUnifiedStorage, parcels: Sequence[Parcel]
    ) -> tuple[list[Decision], dict[RecordKey, tuple[Record, list[Log]]], dict[str, dict[str, Any]]]:
        stored = await self._stored(reader, _brought_by(parcels))
        known = await self._memos.read(reader, (parcel.key[0] for parcel in parcels))
        return [self._decision(parcel, stored.get(parcel.key), known) for parcel in parcels], stored, known

    def _decision(
        self, parcel: Parcel, stored: tuple[Record, list[Log]] | None, known: Mapping[str, dict[str, Any]]
    ) -> Decision:
        return decided(
            parcel,
            None if stored is None else self._content(*stored),
            is_same_time=stored is not None and stored[0]["created_at"] == parcel.record["created_at"],
            memo=self._memos.memo(known.get(parcel.key[0], {}), parcel.key[1]),
            overwrite=self._overwrite,
        )

    def _content(self, record: Record, logs: list[Log]) -> str:
        return whole_content(record, logs) if self._whole else session_content(record, history_in(record, logs))

    def _changed_memos(
        self, parcels: Sequence[Parcel], decisions: Sequence[Decision], known: Mapping[str, dict[str, Any]]
    ) -> dict[RecordKey, Memo]:
        memos: dict[RecordKey, Memo] = {}
        for parcel, decision in zip(parcels, decisions, strict=True):
            memo = Memo(parcel.source_hash, parcel.content, self._told)
            kept = self._memos.memo(known.get(parcel.key[0], {}), parcel.key[1])
            # What only happens to be equal was not written by this source: it may not be written over later.
            if decision.writes or (decision.outcome == EQUAL and kept is not None and memo != kept):
                memos[parcel.key] = memo
        return memos

    async def _stored(
        self, reader: IUnifiedStorage, wanted: Mapping[RecordKey, Iterable[str]]
    ) -> dict[RecordKey, tuple[Record, list[Log]]]:
        """What the target has of the records *wanted*, with the logs that are compared, those named there included."""
        by_type: dict[str, list[str]] = {}
        for id, type in wanted:
            by_type.setdefault(type, []).append(id)
        records: dict[RecordKey, Record] = {}
        for type, ids in by_type.items():
            for record in await reader.list({"type": type, "id": {"$in": ids}}):
                records[record["id"], record["type"]] = record
        if self._index is not None:
            names = {key: sorted({*self._index.logs_of(key), *wanted[key]}) for key in records}
            return {key: (record, await read_logs(reader, names[key])) for key, record in records.items()}
        histories = await reader.read_many([history_of(id) for id, _ in records])
        return {key: (record, _as_logs(histories, history_of(key[0]))) for key, record in records.items()}

    async def _mismatches(self, parcels: Sequence[Parcel], decisions: Sequence[Decision]) -> dict[int, tuple[str, ...]]:
        """Read back what was written and compare every field and entry; place -> what differs."""
        written = [place for place, decision in enumerate(decisions) if decision.writes]
        stored = await self._stored(self._storage, _brought_by(parcels[place] for place in written))
        found = {place: _differences(parcels[place], stored.get(parcels[place].key)) for place in written}
        return {place: differences for place, differences in found.items() if differences}


async def in_one_step(storage: IUnifiedStorage, fn: Callable[[IUnifiedStorage], Awaitable[T]]) -> T:
    """``fn(tx)`` in a transaction that may take long, tried again on conflicts of the engine."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with storage.transaction(timeout=_STEP_TIMEOUT) as tx:
                return await fn(tx)
        except StorageConflictError as error:
            if attempt == _ATTEMPTS or not error.retryable:
                raise
        await asyncio.sleep(0.05 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


async def _all_ended(steps: Iterable[Awaitable[T]]) -> list[T]:
    """The results of *steps*, done side by side; all have ended before the failure of one is raised."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes  # type: ignore[return-value]  # nothing else is left


def _brought_by(parcels: Iterable[Parcel]) -> dict[RecordKey, list[str]]:
    """Where *parcels* go, and the ids of the logs that each brings."""
    return {parcel.key: [log["log_id"] for log in parcel.logs] for parcel in parcels}


def _refused(parcel: Parcel) -> Decision | None:
    """The quarantine of what no storage takes, such as a record that is too large; None for what it takes."""
    try:
        checked_record(parcel.record, restored=True)
        for log in parcel.logs:
            checked_log(log)
    except StorageError as error:
        refused = refusal_of(error)
        return Decision(QUARANTINED, refused.reason, refused.detail)
    return None


def _logs_to_restore(parcels: Sequence[Parcel], stored: Mapping[RecordKey, tuple[Record, list[Log]]]) -> Iterable[Log]:
    """The logs of *parcels*, and those of the target that they no longer have, emptied."""
    for parcel in parcels:
        yield from parcel.logs
        brought = {log["log_id"] for log in parcel.logs}
        _, there = stored.get(parcel.key, ({}, []))
        for log in there:
            if log["log_id"] not in brought and log["entries"]:
                yield {**log, "entries": []}


def _as_logs(histories: Mapping[str, list[dict[str, Any]]], id: str) -> list[Log]:
    entries = histories.get(id) or []
    return [{"log_id": id, "last_seq": entries[-1]["seq"], "entries": entries}] if entries else []


def _differences(parcel: Parcel, stored: tuple[Record, list[Log]] | None) -> tuple[str, ...]:
    return ("missing",) if stored is None else exact_differences(parcel, *stored)
