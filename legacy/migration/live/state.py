"""What a migration keeps in its target: one record of it, one a member, one a session that was ever written.

All are system records, so that no view, list or copy of sessions sees them. A session's item has the id of its record,
so that both are written in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from legacy.migration.live.phases import Phase
from unified_storage.interface import IUnifiedStorage, Record

MIGRATION_TYPE, MEMBER_TYPE, ITEM_TYPE = "_migration", "_migration_member", "_migration_item"
SHADOW_TYPE = "_migration_shadow"
MIGRATION_ID = "migration"
OPEN, ODD = "open", "odd"
"""In ``thread_id`` of an item, so that they are found without a walk: a write is under way; somebody has to look."""

CONFLICT, QUARANTINED = "conflict", "quarantined"


# the migration


@dataclass(frozen=True)
class Migration:
    """The one record that says where a migration is.

    Attributes:
        epoch: counts every change that members have to acknowledge; 0 while there is no such record.
        settled: every member has acknowledged this epoch.
        dual_epoch: the epoch in which phase 1 was entered last: a pass counts when it began after that was settled.
        pass_from: the lowest epoch in which a pass that counts may have begun; moved on when a pass is made void.
        shadow_epoch: the epoch in which phase 2 was entered last: what was compared before counts no more.
        frozen: who holds writes back for a moment, ``{"token", "seconds"}``.
        hurried: members look for the next change without a pause.
        accepted: ids whose quarantine or conflict an operator has accepted.
        outbox: moves with each write that is acknowledged while L is away, so that it and a change of phase meet.
    """

    phase: Phase = Phase.LEGACY_ONLY
    epoch: int = 0
    settled: bool = False
    dual_epoch: int = 0
    pass_from: int = 0
    plan_hash: str | None = None
    source: str | None = None
    begun_at: str | None = None
    frozen: Mapping[str, Any] | None = None
    hurried: bool = False
    shadow_epoch: int = 0
    accepted: tuple[str, ...] = ()
    outbox: int = 0
    version: int = 0

    @classmethod
    def of(cls, record: Record | None) -> Self:
        if record is None:
            return cls()
        data = dict(record["data"])
        data["phase"], data["accepted"] = Phase(data["phase"]), tuple(data["accepted"])
        return cls(**data, version=record["version"])

    def record(self) -> Record:
        data = asdict(self)
        del data["version"]
        data["phase"], data["accepted"] = int(self.phase), list(self.accepted)
        return {"id": MIGRATION_ID, "type": MIGRATION_TYPE, "data": data}

    def moved(self, phase: Phase, **changes: Any) -> Migration:
        """The next epoch, in *phase*; nobody has acknowledged it yet."""
        return replace(self, phase=phase, epoch=self.epoch + 1, settled=False, **changes)


async def migration_in(storage: IUnifiedStorage) -> Migration:
    """Where the migration is; in a transaction its record is held, so that no other change of it goes between."""
    return Migration.of(await storage.load(MIGRATION_ID, type=MIGRATION_TYPE))


async def save_migration(tx: IUnifiedStorage, migration: Migration) -> None:
    """Raises ``StorageConflictError`` where it has changed since it was read."""
    await tx.save(migration.record(), expected_version=migration.version)


# members


NOT_COMPARED = {"epoch": 0, "compared": 0, "different": 0}


@dataclass(frozen=True)
class MemberState:
    """What one program that uses the migrating service says of itself.

    Attributes:
        incarnation: of this start of it.
        acked_epoch, acked_phase: it does nothing by the rules of an older epoch any more.
        journal_empty: nothing is written in L alone by it that its journal still has to tell, as far as it could say.
        journal_drained: it has ended, and somebody has drained its journal.
        beat: counts what it says, so that a target that was set back is noticed.
        evicted: somebody sent it away although it may be alive: it takes no part, and what it may read of a store
            that is left behind is seen to.
    """

    member: str
    incarnation: str
    process: Mapping[str, Any]
    acked_epoch: int = 0
    acked_phase: int = 0
    journal_empty: bool = True
    journal_drained: bool = False
    journal: str | None = None
    beat: int = 0
    open_writes: int = 0
    shadow: Mapping[str, int] = field(default_factory=lambda: dict(NOT_COMPARED))
    evicted: str | None = None
    version: int = 0

    @classmethod
    def of(cls, record: Record) -> Self:
        return cls(**record["data"], member=record["id"], version=record["version"])

    def record(self) -> Record:
        data = asdict(self)
        del data["member"], data["version"]
        return {"id": self.member, "type": MEMBER_TYPE, "data": data}


async def members_in(storage: IUnifiedStorage) -> list[MemberState]:
    """All members, those that were sent away included, by name."""
    return [MemberState.of(record) for record in await storage.list({"type": MEMBER_TYPE})]


async def add_shadow_reads(tx: IUnifiedStorage, counted: Mapping[str, int]) -> None:
    """Keep what a member that leaves has compared."""
    id = f"{counted['epoch']}"
    found = await tx.load(id, type=SHADOW_TYPE)
    before = NOT_COMPARED if found is None else found["data"]
    sums = {name: before[name] + counted[name] for name in ("compared", "different")}
    await tx.save({"id": id, "type": SHADOW_TYPE, "data": {"epoch": counted["epoch"], **sums}})


async def shadow_reads_in(storage: IUnifiedStorage, migration: Migration) -> dict[str, int]:
    """What all members, those that have left included, have compared since phase 2 was entered."""
    left = await storage.load(f"{migration.shadow_epoch}", type=SHADOW_TYPE)
    counts = [one.shadow for one in await members_in(storage)] + ([] if left is None else [left["data"]])
    now = [one for one in counts if one["epoch"] == migration.shadow_epoch]
    return {name: sum(one[name] for one in now) for name in ("compared", "different")}


# items


@dataclass(frozen=True)
class Intent:
    """A write of both stores that has begun: a lock, and the mark that they may differ.

    Attributes:
        member, process: who writes, and the process it is.
        phase: whose rules it was begun by: what it comes to in the end is decided by the primary of that phase.
        epoch: in which it was begun, where everybody had acknowledged that; else 0.
        is_open: its owner has let go of it and says so.
        recovering: it was taken over, and is being brought to its end.
    """

    member: str
    process: Mapping[str, Any]
    token: str
    phase: Phase
    epoch: int = 0
    is_open: bool = False
    recovering: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "phase": Phase(data["phase"])})


@dataclass(frozen=True)
class Item:
    """What the migration knows of one session.

    Attributes:
        seq: grows with every step of every write, and is kept after a deletion.
        suspect: the phase in which a write of it was taken from a member that may still live, which is ``suspected``.
        tombstone: it was deleted.
        legacy_hash: of the document in L when both were last known to be the same.
        synced_epoch: the epoch of the last write that was done to its end in both stores.
        unified_version: of the record in U after our last write of it; 0 for none. Another one was written by others.
        state: ``conflict`` or ``quarantined``, with ``reason``; None for neither.
    """

    id: str
    seq: int = 0
    intent: Intent | None = None
    suspect: Phase | None = None
    suspected: str | None = None
    tombstone: bool = False
    legacy_hash: str | None = None
    synced_epoch: int = 0
    unified_version: int = 0
    state: str | None = None
    reason: str | None = None
    version: int = 0

    @classmethod
    def of(cls, record: Record) -> Self:
        data = dict(record["data"])
        data["intent"] = None if data["intent"] is None else Intent.of(data["intent"])
        data["suspect"] = None if data["suspect"] is None else Phase(data["suspect"])
        return cls(**data, id=record["id"], version=record["version"])

    def record(self) -> Record:
        data = asdict(self)
        del data["id"], data["version"]
        if data["intent"] is not None:
            data["intent"]["phase"] = int(data["intent"]["phase"])
        data["suspect"] = None if self.suspect is None else int(self.suspect)
        mark = OPEN if self.intent is not None else ODD if self.is_odd else None
        return {"id": self.id, "type": ITEM_TYPE, "data": data, "thread_id": mark}

    @property
    def session_id(self) -> str:
        """The id by which programs know the session."""
        return self.id.removeprefix("~") if self.id.startswith("~~") else self.id

    @property
    def is_new(self) -> bool:
        """Whether U was never written, nor looked at, for it."""
        return not self.unified_version and not self.tombstone and self.legacy_hash is None and self.state is None

    @property
    def is_odd(self) -> bool:
        return self.suspect is not None or self.state is not None

    def stepped(self, **changes: Any) -> Item:
        """The item one step on."""
        return replace(self, seq=self.seq + 1, **changes)


async def item_in(tx: IUnifiedStorage, id: str) -> Item:
    """The item of the session whose record has this *id*; held until the transaction ends."""
    record = await tx.load(id, type=ITEM_TYPE)
    return Item(id) if record is None else Item.of(record)


async def items_in(storage: IUnifiedStorage, ids: Iterable[str]) -> dict[str, Item]:
    """The items of *ids*, one for each."""
    wanted = sorted(set(ids))
    found = await storage.list({"type": ITEM_TYPE, "id": {"$in": wanted}}) if wanted else []
    known = {record["id"]: Item.of(record) for record in found}
    return {id: known.get(id) or Item(id) for id in wanted}


async def save_item(tx: IUnifiedStorage, item: Item) -> None:
    """Raises ``StorageConflictError`` where it has changed since it was read."""
    await tx.save(item.record(), expected_version=item.version)


async def items_marked(storage: IUnifiedStorage, *marks: str) -> list[Item]:
    """The items with a write under way (``OPEN``), or to be looked at (``ODD``); those of both count as open."""
    found = await storage.list({"type": ITEM_TYPE, "thread_id": {"$in": [*marks]}})
    return [Item.of(record) for record in found]


# what a write has to know


@dataclass(frozen=True)
class Standing:
    """The migration, and the member that asks, as one step sees them."""

    migration: Migration
    member: MemberState | None


async def standing_in(tx: IUnifiedStorage, member: str) -> Standing:
    """Both, read by their ids and without holding them: writes of different sessions do not wait for each other."""
    wanted = {"type": {"$in": [MIGRATION_TYPE, MEMBER_TYPE]}, "id": {"$in": [MIGRATION_ID, member]}}
    found = {record["type"]: record for record in await tx.list(wanted)}
    mine = found.get(MEMBER_TYPE)
    return Standing(Migration.of(found.get(MIGRATION_TYPE)), None if mine is None else MemberState.of(mine))
