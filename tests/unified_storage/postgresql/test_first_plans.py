"""A statement that was planned while its tables were empty keeps its plan while they grow: it has to be right."""

from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.namespaces import without_query
from unified_storage import open_storage
from unified_storage.backends.sql.statements import Call, Statement

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
    for call in (statements.heads_of(["a", "b"]), statements.heads_of_type(["a", "b"], "note")):
        scans = await _scans_of_records(url, call)
        assert scans
        assert all("by_id" in scan for scan in scans)
