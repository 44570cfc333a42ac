"""All that a program has left in a place, whatever it is, as text that can be compared."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.places import OWNER
from tests.namespaces import mysql_connection, postgresql_connection, redis_client

TABLES = {
    "postgresql": "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
    " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "mysql": "SHOW TABLES",
}
EVERY_TIME_OTHERWISE = (
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:\d\d|Z)?",
    r"\b1[6-9]\d{8}(\.\d+)?\b",  # seconds of these years
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
)


async def stored_rows(engine: str, place: str) -> list[str]:
    """Every row of every table, or every key with its value, each as one text."""
    if engine == "sqlite":
        return [row for file in Path(place).glob("*.db") for row in _of_file(file)]
    if engine == "redis":
        return await _of_redis(place)
    async with (postgresql_connection if engine == "postgresql" else mysql_connection)(place) as connection:
        return await (_of_postgresql if engine == "postgresql" else _of_mysql)(connection)


def masked(row: str) -> str:
    """Without times, and what is random."""
    row = re.sub(r"(?s)..(0{25,}\d+)\.[0-9.e-]+", r"\1", row)  # LangGraph's versions, with their lengths before them
    for pattern in EVERY_TIME_OTHERWISE:
        row = re.sub(pattern, "*", row)
    return row


def _of_file(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return [_text(table, row) for (table,) in tables for row in connection.execute(f"SELECT * FROM {table}")]


async def _of_postgresql(connection) -> list[str]:
    tables = [table for (table,) in await connection.fetch(TABLES["postgresql"])]
    return [_text(table, row.values()) for table in tables for row in await connection.fetch(f"SELECT * FROM {table}")]


async def _of_mysql(connection) -> list[str]:
    rows = []
    async with connection.cursor() as cursor:
        await cursor.execute(TABLES["mysql"])
        for (table,) in await cursor.fetchall():
            await cursor.execute(f"SELECT * FROM `{table}`")
            rows += [_text(table, row) for row in await cursor.fetchall()]
    return rows


async def _of_redis(place: str) -> list[str]:
    async with redis_client(place) as client:
        keys = [key async for key in client.scan_iter() if key.decode() != OWNER]
        return [_text(key.decode(), [await _value(client, key)]) for key in keys]


async def _value(client, key: bytes):
    match (await client.type(key)).decode():
        case "string":
            return await client.get(key)
        case "hash":
            return sorted((await client.hgetall(key)).items())
        case "set":
            return sorted(await client.smembers(key))
        case "zset":
            return await client.zrange(key, 0, -1, withscores=True)
        case "list":
            return await client.lrange(key, 0, -1)
        case other:
            raise AssertionError(f"a key of type {other}")


def _text(name: str, values) -> str:
    shown = (value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values)
    return f"{name}: {' | '.join(shown)}"
