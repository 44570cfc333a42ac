"""Writing U inside the step that moves a session's item, so that both tell the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from legacy.migration.live.intents import WriteUnified
from legacy.migration.live.state import CONFLICT, QUARANTINED, Item
from legacy.migration.live.unified_side import ForeignWriteError, copied_version, put_document
from session_adapter.documents import content_hash
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageCapacityError, StorageError, StorageValidationError
from unified_storage.interface import IUnifiedStorage

WRITTEN_IN_TARGET = "written_in_target"
NOT_STORABLE = (StorageValidationError, StorageCapacityError)


def document_written(session_id: str, document: Mapping[str, Any] | None, zone: Zone) -> WriteUnified:
    """Make U hold *document*, None for a deleted session. What others wrote there stays, and is a conflict."""

    async def write(tx: IUnifiedStorage, item: Item) -> Item:
        known = item.unified_version
        try:
            if item.is_new:
                known = await copied_version(tx, session_id)
            version = await put_document(tx, session_id, document, zone, known=known)
        except ForeignWriteError:
            return replace(item, state=CONFLICT, reason=WRITTEN_IN_TARGET, legacy_hash=hash_of(document))
        return brought(item, hash_of(document), version)

    return write


def brought(item: Item, content: str | None, version: int) -> Item:
    """*item* where both stores hold what has the hash *content* (None for nothing), in U as *version*."""
    return replace(
        item,
        tombstone=content is None,
        legacy_hash=content,
        unified_version=version,
        state=None,
        reason=None,
    )


def hash_of(document: Mapping[str, Any] | None) -> str | None:
    """The hash by which L's document is known again; None for none."""
    return None if document is None else content_hash(dict(document))


def set_aside(error: StorageError) -> WriteUnified:
    """Leave U as it is: what L holds cannot be kept there."""
    reason = error.error_code.lower()

    async def write(_: IUnifiedStorage, item: Item) -> Item:
        return replace(item, state=QUARANTINED, reason=reason)

    return write


async def unchanged(_: IUnifiedStorage, item: Item) -> Item:
    """Leave U as it is, where nothing was written."""
    return item
