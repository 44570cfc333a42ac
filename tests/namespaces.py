"""A place of a test's own on a server that others use too, and the plain clients that clear it away."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit


def fresh_namespace(label: str = "t") -> str:
    """A namespace that no other test uses, in this run or in another one on the same server."""
    return f"{label[:14].lower().replace('-', '_')}_{secrets.token_hex(8)}"


@asynccontextmanager
async def own_namespace(url: str, label: str = "t") -> AsyncIterator[str]:
    """A fresh namespace that is dropped afterwards."""
    namespace = fresh_namespace(label)
    try:
        yield namespace
    finally:
        await drop_namespace(url, namespace)


async def drop_namespace(url: str, namespace: str) -> None:
    """Remove all that a store left on the server under *namespace*, and nothing else."""
    scheme = urlsplit(url).scheme
    if scheme in ("postgresql", "postgres"):
        await _drop_postgresql_tables(url, namespace)
    elif scheme in ("mysql", "mariadb"):
        await _drop_mysql_tables(url, namespace)
    else:
        await _delete_redis_keys(url, namespace)


async def _drop_postgresql_tables(url: str, namespace: str) -> None:
    async with postgresql_connection(url) as connection:
        tables = await connection.fetch(
            "SELECT quote_ident(tablename) AS name FROM pg_tables"
            " WHERE schemaname = current_schema() AND starts_with(tablename, $1)",
            _table_prefix(namespace),
        )
        if tables:
            await connection.execute(f"DROP TABLE {', '.join(row['name'] for row in tables)} CASCADE")


async def _drop_mysql_tables(url: str, namespace: str) -> None:
    async with mysql_connection(url) as connection, connection.cursor() as cursor:
        await cursor.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND LEFT(table_name, CHAR_LENGTH(%s)) = %s",
            (_table_prefix(namespace), _table_prefix(namespace)),
        )
        for (table,) in await cursor.fetchall():
            await cursor.execute(f"DROP TABLE `{table}`")


async def _delete_redis_keys(url: str, namespace: str) -> None:
    from unified_storage.backends.redis.partitions import key_prefix

    async with redis_client(url) as client:
        # a cluster's client asks one node for each call: the masters are scanned one by one
        options = [{"target_nodes": node} for node in client.get_primaries()] if is_cluster(url) else [{}]
        for option in options:
            keys = [key async for key in client.scan_iter(match=f"{key_prefix(namespace)}*", count=1000, **option)]
            for start in range(0, len(keys), 1000):
                async with client.pipeline() as pipeline:
                    for key in keys[start : start + 1000]:
                        pipeline.execute_command("UNLINK", key)  # `unlink` of a cluster goes its own way
                    await pipeline.execute()


def _table_prefix(namespace: str) -> str:
    from unified_storage.backends.sql.tables import table_prefix

    return table_prefix(namespace)


@asynccontextmanager
async def postgresql_connection(url: str) -> AsyncIterator[Any]:
    """A plain connection of asyncpg; of several hosts to the one that takes writes."""
    import asyncpg  # type: ignore[import-untyped]  # it ships no types

    connection = await asyncpg.connect(without_query(url), target_session_attrs="read-write")
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def mysql_connection(url: str) -> AsyncIterator[Any]:
    """A plain connection of asyncmy that commits every statement."""
    import asyncmy

    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or "").encode(),  # it takes a text for Latin-1
        db=parts.path.removeprefix("/"),
        autocommit=True,
    )
    try:
        yield connection
    finally:
        await connection.ensure_closed()


@asynccontextmanager
async def redis_client(url: str) -> AsyncIterator[Any]:
    """A plain client of redis-py, of one server or of a cluster (`redis+cluster://host:port,host:port`)."""
    from redis.asyncio import Redis

    client: Any = _cluster_client(url) if is_cluster(url) else Redis.from_url(without_query(url))
    async with client:
        yield client


def _cluster_client(url: str) -> Any:
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    parts = urlsplit(url)
    hosts = [host.rpartition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
    return RedisCluster(
        startup_nodes=[ClusterNode(host.strip("[]"), int(port)) for host, _, port in hosts],
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        ssl=parts.scheme.startswith("rediss"),
    )


def is_cluster(url: str) -> bool:
    return "+cluster" in urlsplit(url).scheme


def without_query(url: str) -> str:
    """The URL as the driver itself understands it: our options stand in the query."""
    return url.partition("?")[0]
