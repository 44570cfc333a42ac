"""Listing L as a unified storage would list it: each session read, filtered and ordered by the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from legacy.migration.live.legacy_side import Document, LegacySide
from session_adapter.documents import imported
from session_adapter.filters import session_filters
from session_adapter.formats import detect
from session_adapter.timestamps import Zone, read_time
from unified_storage.arguments import check_count
from unified_storage.filters import matches, parse_filters

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


async def selected(
    legacy: LegacySide, filters: Mapping[str, Any] | None, limit: int | None, zone: Zone
) -> list[Document]:
    """The matching documents of L as it holds them, the one changed last first, ties by id.

    Sessions whose time of change is unknown come last.
    """
    check_count("limit", limit)
    condition = parse_filters(session_filters(filters))
    found: list[tuple[datetime, str, Document]] = []
    for id in await legacy.ids():
        document = await legacy.get(id)
        if document is None:
            continue  # deleted while we were listing
        record = _as_record(id, document, zone)
        if matches(condition, record):
            found.append((record["updated_at"], record["id"], document))
    found.sort(key=lambda one: one[1])
    found.sort(key=lambda one: one[0], reverse=True)
    return [document for _, _, document in found[:limit]]


def _as_record(id: str, document: Document, zone: Zone) -> dict[str, Any]:
    """The record that *document* would be."""
    format = detect(document)
    created = read_time(format.created_at(document), zone).moment or _LONG_AGO
    updated = read_time(format.updated_at(document), zone).moment or created
    record, _ = imported(document, key=id, created_at=created, updated_at=updated, source_timezone=zone, now=_LONG_AGO)
    return record
