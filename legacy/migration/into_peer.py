"""Copying into a store of another framework: each session whole in its own form, written and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from legacy.migration.decision import NOT_OURS, UNREADABLE_TARGET, Decision
from legacy.migration.targets import Taken, item_of
from legacy.stores.contents import is_timeless
from legacy.stores.file_reading import refusal_of
from legacy.stores.parcels import CONFLICT, COPIED, EQUAL, IGNORED, QUARANTINED, Item, Parcel, Record
from legacy.stores.peers.kinds import APP_STATE, USER_STATE, AppKey, Found, Key, PeerSession, PeerStore, Settling
from legacy.stores.peers.losses import losses
from legacy.stores.peers.packing import retimed, unpacked
from legacy.stores.survey import temporary_database
from session_adapter.documents import content_hash, format_of, stored_document
from session_adapter.identity import SessionId, SessionKey, UserKey, session_id_of, visible_id
from unified_storage.errors import StorageConfigurationError, StorageError, StorageValidationError

ID_COLLISION = "id_collision"
_STATES = (USER_STATE, APP_STATE)


class IntoPeer:
    """A store of another framework as a target; see ``Target``.

    It keeps no word on who wrote a session, so one that differs is a conflict.

    Args:
        store: open to be written; closed with this.
        mapping: ``app`` and ``user`` for sessions that have none, where the store's keys have both.
    """

    def __init__(self, store: PeerStore, mapping: Mapping[str, str], *, dry_run: bool, overwrite: bool) -> None:
        self._store = store
        self._mapping = mapping
        self._dry_run = dry_run
        self._overwrite = overwrite
        self._seen = temporary_database("CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID")

    async def take(self, parcels: Sequence[Parcel]) -> Taken:
        wanted: dict[int, Found] = {}
        decisions = [self._understood(place, parcel, wanted) for place, parcel in enumerate(parcels)]
        there = await self._there(wanted)
        for place, found in wanted.items():
            decisions[place] = self._decided(self._timed(parcels[place], found, there[place]), there[place])
        mismatches = await self._written({at: found for at, found in wanted.items() if decisions[at].writes}, decisions)
        pairs = [*zip(parcels, decisions, strict=True)]
        taken = Taken([item_of(parcel, decision) for parcel, decision in pairs], mismatches=mismatches)
        held = [parcel for parcel, decision in pairs if decision.outcome in (COPIED, EQUAL, IGNORED)]
        taken.lossy = [word for parcel in held for word in losses(parcel, self._store.format)]
        return taken

    def pass_by(self, parcel: Parcel) -> None:
        """Keep the place of *parcel*, which is not taken, from being anybody else's."""
        key = self._key(parcel)
        if key is not None:
            self._is_seen(key)

    async def finish(self) -> None:
        """Every step was final by itself."""

    async def close(self) -> None:
        self._seen.close()
        await self._store.close()

    async def _written(self, wanted: Mapping[int, Found], decisions: list[Decision]) -> dict[int, tuple[str, ...]]:
        """Write *wanted* and read it back; place -> what differs. What cannot stand there is decided otherwise."""
        if not wanted or self._dry_run:
            return {}
        left = await self._stored(wanted, decisions)
        back = await self._there(left)
        return {place: ("document",) for place, found in left.items() if not self._is_same(found, back[place])}

    async def _stored(self, wanted: Mapping[int, Found], decisions: list[Decision]) -> dict[int, Found]:
        left = dict(wanted)
        while left:
            try:
                await self._store.write([*left.values()])
                break
            except StorageValidationError as error:
                if "index" not in error.details:
                    raise
                place = [*left][error.details["index"]]
                refused = refusal_of(error)
                decisions[place] = Decision(QUARANTINED, refused.reason, refused.detail)
                del left[place]
        return left

    def _understood(self, place: int, parcel: Parcel, wanted: dict[int, Found]) -> Decision:
        """Note in *wanted* what is to stand there, or say why nothing is."""
        try:
            key = self._key(parcel)
            if key is None:
                return Decision(IGNORED, "no_place")
            if self._is_seen(key):
                return Decision(QUARANTINED, ID_COLLISION)
            self._store.unit(key)  # raises for one that has no place there
            found = self._settled(unpacked(parcel, key, self._store.format))
            if isinstance(found, Item):
                return Decision(found.outcome, found.reasons[0], found.detail)
            if (decision := self._refusal(found)) is not None:
                return decision
            wanted[place] = found
        except StorageConfigurationError:
            raise
        except StorageError as error:
            refused = refusal_of(error)
            return Decision(QUARANTINED, refused.reason, refused.detail)
        return Decision(COPIED)

    def _settled(self, found: Found) -> Found | Item:
        if isinstance(found, PeerSession) and isinstance(self._store, Settling):
            return self._store.settled(found)
        return found

    def _refusal(self, found: Found) -> Decision | None:
        """Why nothing stands there for it; None where something does."""
        format = self._store.format
        if not isinstance(found, PeerSession):
            is_lost = "empty_states" in format.loses and not found.state
            return Decision(IGNORED, "no_values") if is_lost else None
        if "empty_sessions" in format.loses and not format.history(found.document):
            return Decision(IGNORED, "no_messages")
        reason = format.refusal(found.document)
        return None if reason is None else Decision(QUARANTINED, reason)

    def _key(self, parcel: Parcel) -> Key | None:
        """Under what the record stands there; None where such stores have no place for its kind."""
        record = parcel.record
        if parcel.is_session:
            return self._session_key(visible_id(record), record)
        word = record["type"]
        if word not in _STATES or word in self._store.format.loses:
            return None
        app_name = record["data"]["app_name"]
        return AppKey(app_name) if word == APP_STATE else UserKey(app_name, record["data"]["user_id"])

    def _session_key(self, named: SessionId, record: Record) -> SessionId:
        """What is said of the session itself counts; what is lacking comes from the mapping."""
        if not self._store.format.is_scoped:
            return session_id_of(named)
        if isinstance(named, SessionKey):
            return named
        told = format_of(record).read(stored_document(record)).session
        owners = {"app": told.get("app_name"), "user": told.get("user_id")}
        found = {name: value or self._mapping.get(name) for name, value in owners.items()}
        if missing := [name for name, value in found.items() if not value]:
            lacking = " and ".join(missing)
            raise StorageConfigurationError(
                f"{self._store.format.name} names sessions by app, user and id, and {named!r} has no {lacking}:"
                f" say {lacking} by --map, such as --map app=shop,user=ann"
            )
        return SessionKey(found["app"] or "", found["user"] or "", named)

    def _is_seen(self, key: Key) -> bool:
        return self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (repr(key),)).rowcount == 0

    async def _there(self, wanted: Mapping[int, Found]) -> dict[int, Found | Item]:
        """What stands there now under the same keys; an Item where nothing does, or nothing readable."""
        if not wanted:
            return {}
        found = await self._store.read([self._store.unit(found.key) for found in wanted.values()])
        return dict(zip(wanted, found, strict=True))

    def _timed(self, parcel: Parcel, found: Found, there: Found | Item) -> Found:
        """*found*; where nobody knows its times, with those that it was given when it was written."""
        if not isinstance(there, PeerSession) or not is_timeless(parcel.record):
            return found
        given = self._store.format.read(there.document).session
        settled = self._settled(unpacked(retimed(parcel, given), found.key, self._store.format))
        return found if isinstance(settled, Item) else settled

    def _decided(self, found: Found, there: Found | Item) -> Decision:
        if isinstance(there, Item):
            return (
                Decision(COPIED) if there.outcome == IGNORED else Decision(QUARANTINED, UNREADABLE_TARGET, there.detail)
            )
        if self._is_same(found, there):
            return Decision(EQUAL)
        return Decision(COPIED, f"overwritten_{NOT_OURS}") if self._overwrite else Decision(CONFLICT, NOT_OURS)

    def _is_same(self, found: Found, there: Found | Item) -> bool:
        """Whether a store holds what it is to hold."""
        if isinstance(there, Item):
            return False
        if isinstance(found, PeerSession) and isinstance(there, PeerSession):
            return content_hash(self._compared(found)) == content_hash(self._compared(there))
        return not isinstance(found, PeerSession) and not isinstance(there, PeerSession) and found.state == there.state

    def _compared(self, session: PeerSession) -> dict[str, Any]:
        format = self._store.format
        document = format.compared(session.document)
        if format.placed_log is None:
            return document
        logs = {name: [entry["body"] for entry in entries] for name, entries in session.further_logs.items()}
        return {"document": document, "logs": logs}
