"""Several databases behind one service."""

from __future__ import annotations

import pytest

from session_api.databases import Database, Databases
from session_api.our_tables import OurTables
from tests.session_api.clients import client_of
from unified_storage import open_storage


def two(default_id: str | None = None) -> Databases:
    places = [Database(name, OurTables(open_storage("memory://")), f"table_{name}") for name in ("one", "two")]
    return Databases(places, default_id)


async def test_the_same_id_in_two_databases_is_two_sessions():
    """S4.11: writes to one are not seen in the other."""
    async with client_of(two()) as client:
        for name in ("one", "two"):
            body = {"session_id": "s", "session_name": f"in {name}"}
            assert (await client.post("/sessions", params={"db_id": name}, json=body)).status_code == 201
        assert (await client.delete("/sessions/s", params={"db_id": "one"})).status_code == 204
        assert (await client.get("/sessions/s", params={"db_id": "one"})).status_code == 404
        assert (await client.get("/sessions/s", params={"db_id": "two"})).json()["session_name"] == "in two"


async def test_a_default_database_is_meant_where_none_is_named():
    async with client_of(two("two")) as client:
        await client.post("/sessions", json={"session_id": "s"})
        assert (await client.get("/sessions/s", params={"db_id": "two"})).status_code == 200
        assert (await client.get("/sessions/s", params={"db_id": "one"})).status_code == 404
    async with client_of(two()) as client:
        assert (await client.get("/sessions")).status_code == 400


async def test_a_table_has_to_be_that_of_the_database():
    async with client_of(two()) as client:
        asked = {"db_id": "one", "table": "table_one"}
        assert (await client.get("/sessions", params=asked)).status_code == 200
        assert (await client.get("/sessions", params=asked | {"table": "table_two"})).status_code == 404
        assert (await client.get("/sessions", params={"table": "table_one"})).status_code == 400


def test_a_default_that_is_none_of_them_is_refused():
    with pytest.raises(ValueError, match="three"):
        two("three")
