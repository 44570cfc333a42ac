"""Real servers for the tests: where one is, and how a test gets a place of its own on it.

@pytest.fixture
async def open_store(self):
    url, namespace = engine_url("postgresql"), fresh_namespace("pg")
    yield lambda **options: open_storage(url, namespace=namespace, **options)
    await drop_namespace(url, namespace)
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

SERVERS = {
    "postgresql": "TEST_POSTGRES_URL",
    "mysql": "TEST_MYSQL_URL",
    "redis": "TEST_REDIS_URL",
    "redis-cluster": "TEST_REDIS_CLUSTER_URL",
}


def required() -> frozenset[str]:
    """The engines that this run may not leave out: those of REQUIRE_ENGINES, `all` or names with commas between."""
    names = os.environ.get("REQUIRE_ENGINES", "").replace(",", " ").split()
    if "all" in names:
        return frozenset(SERVERS)
    if unknown := sorted(set(names) - SERVERS.keys()):
        raise pytest.UsageError(f"REQUIRE_ENGINES names {unknown[0]!r}; there are all, {', '.join(SERVERS)}")
    return frozenset(names)


def engine_url(name: str) -> str:
    """The URL of a running server; without one the test is skipped, or fails where REQUIRE_ENGINES names it."""
    url = os.environ.get(SERVERS[name])
    if url:
        return url
    reason = f"no {name}: {SERVERS[name]} is not set"
    if name in required():
        pytest.fail(f"{reason}, and REQUIRE_ENGINES wants it", pytrace=False)
    pytest.skip(reason)


def fresh_namespace(label: str = "t") -> str:
    """A namespace that no other test uses, in this run or in another one on the same server."""
    return f"{label[:14].lower().replace('-', '_')}_{secrets.token_hex(8)}"


async def drop_namespace(url: str, namespace: str) -> None:
    """Remove all that a store left on the server under *namespace*, and nothing else."""
    scheme = urlsplit(url).scheme
    if scheme in ("postgresql", "postgres"):
        await _drop_postgresql_tables(url, namespace)
    elif scheme in ("mysql", "mariadb"):
        await _drop_mysql_tables(url, namespace)
    else:
        await _delete_redis_keys(url, namespace)


def _table_prefix(namespace: str) -> str:
    from unified_storage.backends.sql.tables import table_prefix

    return table_prefix(namespace)


async def _drop_postgresql_tables(url: str, namespace: str) -> None:
    import asyncpg  # type: ignore[import-untyped]  # it ships no types

    connection = await asyncpg.connect(without_query(url))
    try:
        tables = await connection.fetch(
            "SELECT quote_ident(tablename) AS name FROM pg_tables"
            " WHERE schemaname = current_schema() AND starts_with(tablename, $1)",
            _table_prefix(namespace),
        )
        if tables:
            await connection.execute(f"DROP TABLE {', '.join(row['name'] for row in tables)} CASCADE")
    finally:
        await connection.close()


async def _drop_mysql_tables(url: str, namespace: str) -> None:
    async with mysql_connection(url) as connection, connection.cursor() as cursor:
        await cursor.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND LEFT(table_name, CHAR_LENGTH(%s)) = %s",
            (_table_prefix(namespace), _table_prefix(namespace)),
        )
        for (table,) in await cursor.fetchall():
            await cursor.execute(f"DROP TABLE `{table}`")


@asynccontextmanager
async def mysql_connection(url: str) -> AsyncIterator[Any]:
    """A plain connection of asyncmy that commits every statement."""
    import asyncmy

    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        db=parts.path.removeprefix("/"),
        autocommit=True,
    )
    try:
        yield connection
    finally:
        await connection.ensure_closed()


async def _delete_redis_keys(url: str, namespace: str) -> None:
    async with redis_client(url) as client:
        # a cluster's client asks one node for each call: the masters are scanned one by one
        options = [{"target_nodes": node} for node in client.get_primaries()] if is_cluster(url) else [{}]
        for option in options:
            keys = [key async for key in client.scan_iter(match=f"us:{namespace}:*", count=1000, **option)]
            for key in keys:
                await client.unlink(key)


def is_cluster(url: str) -> bool:
    return "cluster" in urlsplit(url).scheme


@asynccontextmanager
async def redis_client(url: str) -> AsyncIterator[Any]:
    """A plain client of redis-py, of one server or of a cluster (`redis+cluster://`)."""
    from redis.asyncio import Redis, RedisCluster

    plain = without_query(url).replace("+cluster", "", 1)
    client: Any = RedisCluster.from_url(plain) if is_cluster(url) else Redis.from_url(plain)
    async with client:
        yield client


def without_query(url: str) -> str:
    """The URL as the driver itself understands it: our options stand in the query."""
    return url.partition("?")[0]
