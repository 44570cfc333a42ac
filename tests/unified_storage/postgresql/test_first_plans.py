"""A statement that was planned while its tables were empty keeps its plan while they grow: it has to be right."""

from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.namespaces import without_query
from unified_storage import open_storage
from unified_storage.backends.sql import listing
from unified_storage.backends.sql.statements import Call, Statement
from unified_storage.filters import parse_filters

pytestmark = pytest.mark.servers
BY_ID = ["head", "peek", "heads", "peeks", "claim", "load", "claim_any", "load_any"]


async def _scans_of_records(url: str, call: Call) -> list[str]:
    connection = await asyncpg.connect(without_query(url), server_settings={"plan_cache_mode": "force_generic_plan"})
    try:
        await connection.execute("SET enable_sort = off; SET enable_bitmapscan = off")  # as our own connections have it
        await connection.execute(f"PREPARE planned AS {call.sql}")
        told = await connection.fetch(f"EXPLAIN EXECUTE planned({', '.join(['NULL'] * len(call.values))})")
        return [row[0] for row in told if "Scan" in row[0] and "records" in row[0]]
    finally:
        await connection.close()


@pytest.mark.parametrize("name", BY_ID)
async def test_a_record_is_found_by_its_id(url: str, namespace: str, name: str) -> None:
    async with open_storage(url, namespace=namespace) as storage:
        statement: Statement = getattr(storage._store.statements, name)  # type: ignore[attr-defined]
    scans = await _scans_of_records(url, statement(**dict.fromkeys(statement.names)))
    assert scans
    assert all("by_id" in scan for scan in scans)


async def test_records_are_found_by_their_ids(url: str, namespace: str) -> None:
    async with open_storage(url, namespace=namespace) as storage:
        statements: Any = storage._store.statements  # type: ignore[attr-defined]
    whole = statements.whole_of(["a", "b"], ["note"], 0, with_data=True)
    for call in (statements.heads_of(["a", "b"]), statements.heads_of_type(["a", "b"], "note"), whole):
        scans = await _scans_of_records(url, call)
        assert scans
        assert all("by_id" in scan for scan in scans)


@pytest.mark.parametrize("more", [{}, {"data.n": 1}])
async def test_a_list_of_named_records_is_asked_for_by_that(url: str, namespace: str, more: dict[str, Any]) -> None:
    filters = {"$and": [{"type": "note"}, {"id": {"$in": ["b", "a"]}}, more]}
    async with open_storage(url, namespace=namespace) as storage:
        store: Any = storage._store  # type: ignore[attr-defined]
        asked = next(listing.in_order(store, parse_filters(filters), None, None, True))
        assert asked.sql == store.statements.whole_of(["a", "b"], ["note"], 0, with_data=True).sql
