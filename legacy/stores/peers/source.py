"""A store of another framework as a source: surveyed once, then read in the order of our record ids."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from legacy.stores.file_reading import refusal_of
from legacy.stores.marks import Mark
from legacy.stores.parcels import DUPLICATE, QUARANTINED, SESSION, Item, Parcel, RecordKey, Source
from legacy.stores.peers.kinds import (
    AppKey,
    Found,
    Key,
    Marking,
    Opening,
    PeerStore,
    Unit,
    record_key,
    shown_key,
)
from legacy.stores.peers.packing import Packing
from legacy.stores.peers.registry import open_to_read
from legacy.stores.survey import in_batches, temporary_database
from session_adapter.identity import SessionKey, UserKey
from session_adapter.timestamps import zone_named
from unified_storage.errors import StorageCapacityError, StorageConfigurationError, StorageValidationError

_AT_A_TIME = 50
_SCHEMA = """
    CREATE TABLE units (id TEXT, type TEXT, key TEXT, place TEXT, label TEXT, PRIMARY KEY (id, type)) WITHOUT ROWID;
    CREATE TABLE findings (item TEXT);
"""


class PeerSource:
    """See ``Source``.

    Args:
        store: open; closed with this.
        identity: its place's URL, without a password.
        zone: of times without an offset; None is this machine's.
    """

    whole = True

    def __init__(self, store: PeerStore, identity: str, zone: str | None) -> None:
        self.identity = identity
        self.told: dict[str, Any] = {} if zone is None else {"source_timezone": zone}
        self.store = store
        named = None if zone is None else zone_named(zone)
        self._packing = Packing(store.format, store.version, named, datetime.now(UTC))
        self._index = temporary_database(_SCHEMA)

    async def survey(self) -> int:
        async for batch in self.store.units():
            for one in batch:
                self._taken_up(one)
        (count,) = self._index.execute("SELECT count(*) FROM units").fetchone()
        return int(count)

    async def marks(self) -> AsyncIterator[list[Mark]]:
        """See ``MarkedSource``."""
        store = self.store
        async for batch in store.marked_units() if isinstance(store, Marking) else store.units():
            travels = [one for one in batch if self._taken_up(one) and isinstance(one, Unit)]
            yield [Mark(unit.record_key, unit.mark, moment=unit.moment, file=unit.label) for unit in travels]

    async def parcels_at(self, keys: Sequence[RecordKey]) -> list[Parcel | Item]:
        """See ``MarkedSource``."""
        select = "SELECT key, place, label FROM units WHERE id = ? AND type = ?"
        rows = [self._index.execute(select, key).fetchone() for key in keys]
        found: list[Parcel | Item] = []
        for begin in range(0, len(rows), _AT_A_TIME):
            units = [Unit(_as_key(key), place, label) for key, place, label in rows[begin : begin + _AT_A_TIME]]
            found += await self.parcels(units)
        return found

    def _taken_up(self, one: Unit | Item) -> bool:
        """Note where *one* is, or why it does not travel; whether it does, and was not told before."""
        indexed = one if isinstance(one, Item) else self._indexed(one)
        if isinstance(indexed, Item):
            self._note(indexed)
            return False
        return indexed

    def _indexed(self, unit: Unit) -> Item | bool:
        """Note where the unit is, and whether that is news; an Item where it has no name, or that of another place."""
        try:
            stored, kind = record_key(unit.key)
        except StorageValidationError as error:
            return Item(unit.label, shown_key(unit.key), QUARANTINED, ("invalid_session_id",), detail=error.message)
        row = (stored, kind, _as_text(unit.key), unit.place, unit.label)
        if self._index.execute("INSERT OR IGNORE INTO units VALUES (?, ?, ?, ?, ?)", row).rowcount:
            return True
        known = self._index.execute("SELECT place FROM units WHERE id = ? AND type = ?", (stored, kind)).fetchone()
        if known == (unit.place,):  # told twice, as scanning does
            return False
        return Item(unit.label, shown_key(unit.key), QUARANTINED, (DUPLICATE,), kind)

    def _note(self, item: Item) -> None:
        facts = [item.file, item.id, item.outcome, item.reasons, item.type, item.detail]
        self._index.execute("INSERT INTO findings VALUES (?)", (json.dumps(facts),))

    async def findings(self) -> AsyncIterator[list[Item]]:
        for rows in in_batches(self._index, "SELECT item FROM findings ORDER BY rowid"):
            yield [_item(text) for (text,) in rows]

    async def batches(self, *, after: str | None = None) -> AsyncIterator[list[Parcel | Item]]:
        place = (after or "", "\U0010ffff" if after else "")
        select = "SELECT id, type, key, place, label FROM units WHERE (id, type) > (?, ?) ORDER BY id, type LIMIT ?"
        while rows := self._index.execute(select, (*place, _AT_A_TIME)).fetchall():
            units = [Unit(_as_key(key), where, label) for _, _, key, where, label in rows]
            yield await self.parcels(units)
            place = (rows[-1][0], rows[-1][1])

    async def parcels(self, units: Sequence[Unit]) -> list[Parcel | Item]:
        """What stands there under *units* now, in their order."""
        return [self._parcel(found) for found in await self.store.read(units)]

    def _parcel(self, found: Found | Item) -> Parcel | Item:
        if isinstance(found, Item):
            return found
        try:
            return self._packing.packed(found)
        except (StorageValidationError, StorageCapacityError) as error:
            refused = refusal_of(error)
            kind = record_key(found.key)[1]
            return Item(found.label, shown_key(found.key), QUARANTINED, (refused.reason,), kind, refused.detail)

    async def close(self) -> None:
        self._index.close()
        await self.store.close()


def check_zone(source: Source) -> None:
    """Raise ``StorageConfigurationError`` for a source whose times mean nothing without the zone of their writer."""
    if isinstance(source, PeerSource) and source.store.format.needs_zone and not source.told:
        raise StorageConfigurationError(
            f"{source.store.format.name} kept the local times of the machine that it ran on, without their offset:"
            " say its zone by --source-timezone, such as --source-timezone America/New_York"
        )


def _as_text(key: Key) -> str:
    match key:
        case SessionKey():
            parts = ["scoped", key.app_name, key.user_id, key.session_id]
        case UserKey():
            parts = ["user", key.app_name, key.user_id]
        case AppKey():
            parts = ["app", key.app_name]
        case _:
            parts = [SESSION, key]
    return json.dumps(parts)


def _as_key(text: str) -> Key:
    kind, *parts = json.loads(text)
    kinds: dict[str, Callable[..., Key]] = {SESSION: str, "scoped": SessionKey, "user": UserKey, "app": AppKey}
    return kinds[kind](*parts)


def _item(text: str) -> Item:
    file, id, outcome, reasons, kind, detail = json.loads(text)
    return Item(file, id, outcome, tuple(reasons), kind, detail)


async def open_peer_source(opening: Opening, identity: str, zone: str | None) -> PeerSource:
    """The store of another framework that *opening* names, to be read.

    Raises:
        StorageConfigurationError: it is not there, or is no such store.
    """
    return PeerSource(await open_to_read(opening, zone), identity, zone)
