"""Where the engines are, and what they say of themselves: versions, and what they do before they acknowledge.

A URL in the environment (``TEST_POSTGRES_URL`` and so on, as for the tests) wins; otherwise a private server is
started, and ended with this process.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass

from tests.namespaces import mysql_connection, postgresql_connection, redis_client
from tests.servers import KINDS, MissingServer, ServerError, shared

POSTGRESQL_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_connections")
MYSQL_SETTINGS = ("innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "innodb_buffer_pool_size")
REDIS_SETTINGS = ("appendonly", "appendfsync", "save")


class MissingEngine(Exception):
    """An engine cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    version: str
    settings: dict[str, str]
    """What durability depends on: the same for all systems, since they share the server."""


def engine_url(engine: str) -> str:
    """The URL of a running server; empty for SQLite.

    Raises:
        MissingEngine: no URL is given, and no server can be started.
    """
    if engine == "sqlite":
        return ""
    if url := os.environ.get(KINDS[engine].variable):
        return url
    try:
        return str(shared.join(engine, user=os.getpid())["url"])
    except (MissingServer, ServerError) as error:
        raise MissingEngine(f"no {engine}: {error}") from error


def leave_engines() -> None:
    """End the private servers that nobody else uses."""
    shared.leave(os.getpid())


async def facts_of(engine: str, url: str) -> EngineFacts:
    asked = {"sqlite": _of_sqlite, "postgresql": _of_postgresql, "mysql": _of_mysql, "redis": _of_redis}
    return await asked[engine](url)


async def _of_sqlite(_url: str) -> EngineFacts:
    return EngineFacts(f"SQLite {sqlite3.sqlite_version}", {"journal_mode": "wal", "synchronous": "full"})


async def _of_postgresql(url: str) -> EngineFacts:
    async with postgresql_connection(url) as connection:
        version = await connection.fetchval("SHOW server_version")
        settings = {name: await connection.fetchval(f"SHOW {name}") for name in POSTGRESQL_SETTINGS}
    return EngineFacts(f"PostgreSQL {version}", settings)


async def _of_mysql(url: str) -> EngineFacts:
    async with mysql_connection(url) as connection, connection.cursor() as cursor:
        await cursor.execute(f"SELECT version(), {', '.join(f'@@{name}' for name in MYSQL_SETTINGS)}")
        version, *values = await cursor.fetchone()
    name = "MariaDB" if "MariaDB" in version else "MySQL"
    return EngineFacts(f"{name} {version}", dict(zip(MYSQL_SETTINGS, map(str, values), strict=True)))


async def _of_redis(url: str) -> EngineFacts:
    async with redis_client(url) as client:
        info = await client.info("server")
        settings = {name: (await client.config_get(name)).get(name, "") for name in REDIS_SETTINGS}
    name = "Valkey" if "valkey_version" in info else "Redis"
    return EngineFacts(f"{name} {info.get('valkey_version', info['redis_version'])}", settings)
