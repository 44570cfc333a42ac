"""One batch of a pass: what L held of some sessions that nobody has written since, decided on, written, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from legacy.migration.live.legacy_side import Document
from legacy.migration.live.rules import Rules
from legacy.migration.live.state import CONFLICT, QUARANTINED, Item, Migration
from legacy.migration.live.unified_side import Held, copied_contents, delete_document, held_in, import_documents
from legacy.migration.live.writes import NOT_STORABLE, WRITTEN_IN_TARGET, brought, hash_of
from session_adapter.timestamps import Zone
from unified_storage.errors import StorageError, StorageIntegrityError
from unified_storage.interface import IUnifiedStorage

COPIED, EQUAL, TOMBSTONED = "copied", "equal", "tombstoned"
QUARANTINE_TYPE = "_migration_quarantine"
UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""For sessions that tell no time: the same whenever they are copied again."""

Answer = Document | StorageError | None
"""What L said of a session: its document, why it cannot be read, or None for a session that is not there."""


class Batch:
    """Sessions to be brought to what L holds of them."""

    def __init__(self, zone: Zone, rules: Rules, migration: Migration) -> None:
        self._zone = zone
        self._epoch = migration.epoch if migration.settled else 0
        self._migration = migration
        self._rules = rules
        self._ids: set[str] = set()
        self._items: dict[str, Item] = {}
        self._answers: dict[str, Answer] = {}

    def add(self, item: Item, answer: Answer) -> None:
        """A session, as nothing has moved it since L said *answer*."""
        self._ids.add(item.id)
        self._items[item.session_id] = item
        self._answers[item.session_id] = answer

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    async def write(self, tx: IUnifiedStorage) -> dict[str, str]:
        """Do it; the outcome of each, by record id."""
        held = await held_in(tx, self._items)
        outcomes: dict[str, str] = {}
        changed: list[Item] = []
        documents: dict[str, Document] = {}
        deleted: list[str] = []
        kept: list[dict[str, Any]] = []
        copied = await copied_contents(tx, [item.id for item in self._items.values() if item.is_new])
        for session_id, item in self._items.items():
            there = held[session_id]
            outcome, item_then = self._decided(item, self._answers[session_id], there, copied.get(item.id, set()))
            outcomes[item.id] = outcome
            if item_then != item:
                changed.append(item_then.stepped(synced_epoch=max(item.synced_epoch, self._epoch)))
            answer = self._answers[session_id]
            if outcome == TOMBSTONED:
                deleted.append(session_id)
            elif outcome in (COPIED, CONFLICT) and item_then.state is None and isinstance(answer, dict):
                documents[session_id] = answer
            if outcome == CONFLICT and there.document is not None:
                kept.append(kept_record(item, there))
        # items before sessions, as writes take them: so nobody waits for another in a ring
        await tx.batch_save([item.record() for item in changed])
        await import_documents(tx, documents, self._zone, unknown_time=UNKNOWN_TIME)
        for session_id in deleted:
            await delete_document(tx, session_id)
        await tx.batch_save(kept)
        await self._check_written(tx, documents, {item.session_id: item for item in changed})
        return outcomes

    def _decided(self, item: Item, answer: Answer, there: Held, copied: set[str]) -> tuple[str, Item]:
        """What becomes of a session, and its item then."""
        if isinstance(answer, StorageError):
            return QUARANTINED, replace(item, state=QUARANTINED, reason=answer.error_code.lower())
        try:
            content = hash_of(answer)
        except NOT_STORABLE as error:
            return QUARANTINED, replace(item, state=QUARANTINED, reason=error.error_code.lower())
        if content == there.content:
            return EQUAL, brought(item, content, there.version)
        is_ours = there.version == item.unified_version or (item.is_new and there.content in copied)
        if not is_ours and self._rules.backfill == "checked":
            return CONFLICT, replace(item, state=CONFLICT, reason=WRITTEN_IN_TARGET, legacy_hash=content)
        if self._rules.backfill == "insert" and there.document is not None:
            return EQUAL, item
        if answer is None:
            return TOMBSTONED, brought(item, None, 0)
        # L was written by somebody who does not take part: what it holds counts, what U held is kept
        known = item.synced_epoch >= self._migration.pass_from and item.legacy_hash is not None
        by_others = known and item.legacy_hash != content and there.document is not None
        return (CONFLICT if by_others else COPIED), brought(item, content, there.version + 1)

    async def _check_written(
        self, tx: IUnifiedStorage, documents: Mapping[str, Document], items: Mapping[str, Item]
    ) -> None:
        held = await held_in(tx, documents)
        for session_id, there in held.items():
            item = items[session_id]
            if (there.content, there.version) != (item.legacy_hash, item.unified_version):
                told = "what was written to the target does not come back from it"
                raise StorageIntegrityError(told, details={"session_id": session_id})


def kept_record(item: Item, there: Held) -> dict[str, Any]:
    """What U held of a session before L's content took its place, for whoever looks into it."""
    data = {"session_id": item.session_id, "version": there.version, "content": there.content}
    return {"id": item.id, "type": QUARANTINE_TYPE, "data": {**data, "document": there.document}}
