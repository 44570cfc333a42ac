"""What a place is and what it holds, in numbers; and one session of it, without its contents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.stores.contents import history_in, shown_id
from legacy.stores.opening import open_source
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import SESSION, Item, Parcel, Source
from legacy.stores.peers.source import PeerSource
from legacy.stores.places import place_of
from session_adapter.documents import format_of, stored_document
from session_adapter.entries import events_of
from session_adapter.timestamps import render
from unified_storage.errors import StorageNotFoundError, StorageValidationError
from unified_storage.filters import path_text
from unified_storage.interface import IUnifiedStorage

_ROLES = frozenset({"user", "assistant", "tool", "system", "unknown"})


@dataclass
class PlaceFacts:
    """What a place holds.

    Attributes:
        records: how many of each type.
        formats: of the sessions' documents, how many of each.
        entries: of all logs.
        newest: the session that changed last, ``{"session_id", "updated_at"}``; None where there is none.
        indexed: paths that are fast there, by record type; empty for what is no storage.
        left_out: what is there and is not read: outcome -> how many (quarantined, duplicate, ignored).
        health: what a storage says of itself; empty for what is none.
        version: what a store of another framework says of its own version; None where it says nothing.
    """

    place: str
    kind: str
    records: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    entries: int = 0
    newest: dict[str, str] | None = None
    indexed: dict[str, list[str]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    health: dict[str, Any] = field(default_factory=dict)
    version: str | None = None

    @property
    def sessions(self) -> int:
        return self.records[SESSION]

    def to_dict(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "kind": self.kind,
            "sessions": self.sessions,
            "records": dict(sorted(self.records.items())),
            "formats": dict(sorted(self.formats.items())),
            "entries": self.entries,
            "newest": self.newest,
            "indexed": self.indexed,
            "left_out": dict(sorted(self.left_out.items())),
            "health": self.health,
            "version": self.version,
        }


async def inspect_place(text: str | Path, *, source_timezone: str | None = None) -> PlaceFacts:
    """Read all of a place and count what is in it; nothing is written.

    Raises:
        StorageConfigurationError, StorageUnsupportedError: it is not there, or is nothing that this version reads.
    """
    place = place_of(text)
    facts = PlaceFacts(str(place), place.kind)
    async with open_source(place, source_timezone=source_timezone) as source:
        if isinstance(source, OurStorage):
            await _look_at_storage(source.storage, facts)
        if isinstance(source, PeerSource):
            facts.kind, facts.version = source.store.format.name, source.store.version
        await source.survey()
        async for items in source.findings():
            facts.left_out.update(item.outcome for item in items)
        async for batch in source.batches():
            for one in batch:
                _count(facts, one)
    return facts


async def inspect_session(
    text: str | Path, session_id: str, *, show_values: bool = False, source_timezone: str | None = None
) -> dict[str, Any]:
    """The facts of one session: its times, format, sizes, logs and the names of its keys.

    Args:
        session_id: its visible id, or its record id in a storage.
        show_values: also its document and the bodies of its history.
    Raises:
        StorageNotFoundError: there is no such session.
        StorageValidationError: several apps or users have a session of this id.
    """
    place = place_of(text)
    async with open_source(place, source_timezone=source_timezone) as source:
        parcels = await _sessions(source, session_id)
    if not parcels:
        raise StorageNotFoundError(f"no session {session_id!r} in {place}", details={"session_id": session_id})
    if len(parcels) > 1:
        names = ", ".join(parcel.key[0] for parcel in parcels)
        raise StorageValidationError(f"{len(parcels)} sessions have the id {session_id!r}; name one of {names}")
    (parcel,) = parcels
    facts = _session_facts(parcel)
    if show_values:
        facts["document"] = stored_document(parcel.record)
        facts["history"] = [entry["body"] for entry in history_in(parcel.record, parcel.logs)]
    return facts


async def _look_at_storage(storage: IUnifiedStorage, facts: PlaceFacts) -> None:
    facts.health = await storage.health_check()
    facts.indexed = {type: sorted(map(path_text, paths)) for type, paths in sorted(storage.indexed.items())}


def _count(facts: PlaceFacts, one: Parcel | Item) -> None:
    if isinstance(one, Item):
        facts.left_out[one.outcome] += 1
        return
    facts.records[one.key[1]] += 1
    facts.entries += sum(len(log["entries"]) for log in one.logs)
    if one.is_session:
        facts.formats[format_of(one.record).name] += 1
        changed = render(one.record["updated_at"])
        if facts.newest is None or facts.newest["updated_at"] < changed:
            facts.newest = {"session_id": shown_id(one.record), "updated_at": changed}


async def _sessions(source: Source, session_id: str) -> list[Parcel]:
    await source.survey()
    if isinstance(source, OurStorage):
        return await source.sessions(session_id)
    async for batch in source.batches():
        for one in batch:
            if isinstance(one, Parcel) and one.is_session and shown_id(one.record) == session_id:
                return [one]
    return []


def _roles(parcel: Parcel) -> Counter[str]:
    """How many messages each role has; a writer's own words for roles are contents, and count as other."""
    events = (event for entry in history_in(parcel.record, parcel.logs) for event in events_of(entry["body"]))
    roles = (event.get("role") for event in events)
    return Counter(role if isinstance(role, str) and role in _ROLES else "other" for role in roles)


def _session_facts(parcel: Parcel) -> dict[str, Any]:
    record = parcel.record
    expires = record.get("expires_at")
    return {
        "session_id": shown_id(record),
        "record_id": record["id"],
        "file": parcel.file,
        "format": format_of(record).name,
        "version": record.get("version"),
        "created_at": render(record["created_at"]),
        "updated_at": render(record["updated_at"]),
        "expires_at": None if expires is None else render(expires),
        "keys": [*stored_document(record)],
        "metadata_keys": [name for name in record.get("metadata") or {} if name != "~"],
        "logs": {log["log_id"]: len(log["entries"]) for log in parcel.logs},
        "roles": dict(_roles(parcel)),
        "warnings": list(parcel.reasons),
    }
