"""Places for stores of other frameworks: a Redis of the tests' own, a schema of PostgreSQL, files."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from tests.engines import engine_url, postgresql_connection, private_server
from tests.legacy.peers.fixture_stores import READ, FixtureStore, load_dump

KEY = "PEER_TEST_KEY"
"""The variable that holds the key of an encrypted store."""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[str]:
    """The URL of a Redis that nobody else writes to."""
    with private_server("redis") as server:
        yield server.url


@pytest.fixture
def empty_redis(redis_server: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
        yield client


@pytest.fixture(params=READ)
def fixture_store(request: pytest.FixtureRequest, fixtures_dir: Path) -> FixtureStore:
    """Each of the stores that the real libraries wrote."""
    return FixtureStore(request.param)


@pytest.fixture
async def store_url(fixture_store: FixtureStore, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a copy of *fixture_store*, or the store itself where it is a file."""
    family = fixture_store.family
    match fixture_store.lives_on:
        case "sqlite":
            key = fixture_store.manifest.get("encryption_key")
            yield f"{family}+sqlite:///{fixture_store.copied_to(tmp_path)}" + (f"?key_env={KEY}" if key else "")
        case "file":
            yield f"{family}+file://{fixture_store.copied_to(tmp_path)}"
        case "redis":
            client: redis.Redis = request.getfixturevalue("empty_redis")
            load_dump(client, fixture_store.dump())
            first = fixture_store.dump()[0]["key"].partition(":")[0]
            told = f"?prefix={first}" if "prefix" in fixture_store.name else ""
            yield f"{family}+{request.getfixturevalue('redis_server')}{told}"
        case _:
            async with own_schema() as (url, schema):
                await load_rows(url, schema, fixture_store)
                yield f"{family}+{url}?tables={schema}.agno_sessions"


@pytest.fixture(autouse=True)
def encryption_key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of an encrypted store, where commands look for it."""
    if "fixture_store" in request.fixturenames:
        key = request.getfixturevalue("fixture_store").manifest.get("encryption_key")
        if key:
            monkeypatch.setenv(KEY, key)


@asynccontextmanager
async def own_schema() -> AsyncIterator[tuple[str, str]]:
    """The URL of a PostgreSQL, and a schema there that is gone afterwards."""
    url, schema = engine_url("postgresql"), f"peer_{secrets.token_hex(6)}"
    async with postgresql_connection(url) as connection:
        await connection.execute(f"CREATE SCHEMA {schema}")
        try:
            yield url, schema
        finally:
            await connection.execute(f"DROP SCHEMA {schema} CASCADE")


async def load_rows(url: str, schema: str, store: FixtureStore) -> None:
    """The rows of a store that was exported line by line, in a table as its program makes it."""
    (file,) = store.folder.glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    plain = ("session_id", "session_type", "agent_id", "team_id", "workflow_id", "user_id")
    times = ("created_at", "updated_at")
    json_columns = [name for name in rows[0] if name not in (*plain, *times)]
    columns = [*(f"{name} TEXT" for name in plain), *(f"{name} JSONB" for name in json_columns)]
    columns += [f"{name} BIGINT" for name in times]
    names = [*plain, *json_columns, *times]
    marks = ", ".join(f"${at}" for at in range(1, len(names) + 1))
    async with postgresql_connection(url) as connection:
        await connection.execute(
            f"CREATE TABLE {schema}.agno_sessions ({', '.join(columns)}, PRIMARY KEY (session_id))"
        )
        values = [
            [row[name] if name not in json_columns or row[name] is None else json.dumps(row[name]) for name in names]
            for row in rows
        ]
        await connection.executemany(
            f"INSERT INTO {schema}.agno_sessions ({', '.join(names)}) VALUES ({marks})", values
        )
