"""The plan of a migration: made by looking at both stores and changing neither; every later command goes by it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from legacy.file_store import FileSessionStore
from legacy.memory_store import MemorySessionStore
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.writes import NOT_STORABLE, hash_of
from legacy.store import ISessionStore
from legacy.stores.places import LEGACY, STORAGE, place_of
from session_adapter.formats import detect
from session_adapter.identity import SESSION, is_session_id
from session_adapter.timestamps import Zone, zone_named
from unified_storage.errors import StorageConfigurationError, StorageError, StorageUnsupportedError, redacted
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage

PYTHON = "python:"
VERSION = 1
_CLUSTER = "redis+cluster"


@dataclass(frozen=True)
class Plan:
    """What is to be migrated, and what was found when that was looked at.

    Attributes:
        source: ``legacy+file://...``, or ``python:MODULE:FACTORY``, which makes an ``ISessionStore``.
        target: the URL of one of our stores.
        source_timezone: of times without an offset; None for this machine's.
        found: ``sessions``, ``bytes``, ``formats`` (form -> sessions), ``unreadable`` and ``not_storable`` ids (a
            hundred at most), ``in_target`` sessions, and ``kind``, what the source is.
        notes: what an operator should know before beginning.
    """

    source: str
    target: str
    source_timezone: str | None = None
    version: int = VERSION
    found: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Of what the migration goes by: it stands in the target, so that no other plan is carried out there."""
        facts = {"source": self.source, "source_timezone": self.source_timezone, "version": self.version}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def source_shown(self) -> str:
        """The source without a password."""
        return redacted(self.source)

    @property
    def zone(self) -> Zone:
        return None if self.source_timezone is None else zone_named(self.source_timezone)

    def write(self, file: Path) -> None:
        """Keep it in *file*, which nobody else may read: a URL may hold a password."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump({**asdict(self), "hash": self.hash}, opened, indent=2, ensure_ascii=False)
            opened.write("\n")

    @classmethod
    def read(cls, file: Path) -> Plan:
        """Raises ``StorageConfigurationError`` where *file* holds no plan, or was edited."""
        try:
            told = json.loads(file.read_bytes())
            stated = told.pop("hash")
            plan = cls(**{**told, "notes": tuple(told["notes"])})
        except FileNotFoundError as error:
            raise StorageConfigurationError(f"no plan {str(file)!r}: migrate plan makes one") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StorageConfigurationError(f"{str(file)!r} is no plan of a migration") from error
        if plan.version != VERSION or plan.hash != stated:
            raise StorageConfigurationError(f"the plan {str(file)!r} was changed by hand: make it again")
        return plan


def legacy_store(source: str) -> ISessionStore:
    """The store that *source* names.

    Raises:
        StorageUnsupportedError: it is none that can be written, as live migration must.
        StorageConfigurationError: there is no such store.
    """
    if source.startswith(PYTHON):
        return _made_by(source)
    place = place_of(source)
    if place.kind != LEGACY or place.path is None:
        told = f"{place} is not a store of the old interface; copy --follow keeps a copy of it in step"
        raise StorageUnsupportedError(told)
    return FileSessionStore(place.path)


def _made_by(source: str) -> ISessionStore:
    module, _, name = source.removeprefix(PYTHON).partition(":")
    try:
        store = getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise StorageConfigurationError(f"{source} names nothing that makes a store: {error}") from error
    if not isinstance(store, ISessionStore):
        raise StorageConfigurationError(f"{source} made a {type(store).__name__}, no ISessionStore")
    return store


@asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[tuple[IUnifiedStorage, LegacySide]]:
    """The two stores of *plan*; both are closed afterwards."""
    legacy = LegacySide(legacy_store(plan.source))
    async with open_storage(plan.target) as storage:
        try:
            yield storage, legacy
        finally:
            await legacy.close()


def check_target(target: str) -> None:
    """Raise ``StorageUnsupportedError`` unless *target* can be migrated to while programs run."""
    place = place_of(target)
    if place.kind != STORAGE:
        raise StorageUnsupportedError(f"{place} is not one of our stores; copy fills it")
    if place.url.startswith(_CLUSTER):
        raise StorageUnsupportedError("a Redis Cluster is no target of a live migration; copy fills it")


async def made_plan(source: str, target: str, *, source_timezone: str | None = None) -> Plan:
    """Look at both stores, and write nothing.

    Raises:
        StorageConfigurationError, StorageUnsupportedError: it cannot be done.
        StorageError: a store failed.
    """
    check_target(target)
    if source_timezone is not None:
        zone_named(source_timezone)
    bare = Plan(source, target, source_timezone)
    store = legacy_store(source)
    legacy = LegacySide(store)
    try:
        found = {"kind": _kind(store), **await _found(legacy)}
    finally:
        await legacy.close()
    found["in_target"] = await _in_target(target)
    return Plan(source, target, source_timezone, found=found, notes=tuple(_notes(bare, legacy, found)))


def _kind(store: ISessionStore) -> str:
    """What can be promised of a source, in words."""
    if isinstance(store, MemorySessionStore):
        return "memory of one process: only that process can migrate it, as a program and a run in one"
    if isinstance(store, FileSessionStore):
        return "files, each replaced in one step: nothing acknowledged is lost while every writer takes part"
    return "a store of your own: nothing acknowledged is lost while every writer takes part and each save is one step"


async def _found(legacy: LegacySide) -> dict[str, Any]:
    formats: Counter[str] = Counter()
    unreadable, not_storable, size = [], [], 0
    ids = await legacy.ids()
    for id in ids:
        try:
            document = await legacy.get(id)
        except StorageError:
            unreadable.append(id)
            continue
        if document is None:
            continue  # deleted while we were looking
        size += len(json.dumps(document, ensure_ascii=False, default=str).encode("utf-8", "replace"))
        formats[detect(document).name] += 1
        if not await asyncio.to_thread(_is_storable, id, document):
            not_storable.append(id)
    return {
        "sessions": len(ids),
        "bytes": size,
        "formats": dict(sorted(formats.items(), key=lambda one: (-one[1], one[0]))),
        "unreadable": unreadable[:100],
        "not_storable": not_storable[:100],
    }


def _is_storable(id: str, document: dict[str, Any]) -> bool:
    try:
        hash_of(document)
    except NOT_STORABLE:
        return False
    return is_session_id(id)


async def _in_target(target: str) -> int:
    try:
        async with open_storage(target, create=False) as storage:
            return await storage.count({"type": SESSION})
    except StorageConfigurationError:
        return 0  # it is not there yet, and will be made


def _notes(plan: Plan, legacy: LegacySide, found: dict[str, Any]) -> list[str]:
    notes = []
    if plan.source_timezone is None:
        notes.append("times without an offset are read in this machine's zone: --source-timezone says another")
    if not legacy.keeps_exactly:
        notes.append(
            "what this store hands out is read again after each save, since nobody knows whether it changes it"
        )
    if found["unreadable"]:
        notes.append(f"{len(found['unreadable'])} sessions cannot be read, and will be quarantined")
    if found["not_storable"]:
        notes.append(f"{len(found['not_storable'])} sessions cannot be kept in the target, and will be quarantined")
    if found["in_target"]:
        notes.append(f"the target has {found['in_target']} sessions: those that no copy brought will be conflicts")
    return notes
