"""Where a benchmarked system keeps its data: a folder, database or Redis number of its own, gone afterwards.

A name tells machine and process, so that what a killed run has left is dropped by the next one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.namespaces import mysql_connection, postgresql_connection, redis_client

FOLDER = Path(".bench/places")
PREFIX = f"bench_{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}_"
OWNER = "benchmarks:owner"
"""The key that says whose a number of Redis is."""
REDIS_NUMBERS = range(15, 0, -1)
_numbers = itertools.count(1)


class NoPlace(Exception):
    """There is no room for another place."""


@asynccontextmanager
async def place_on(engine: str, url: str) -> AsyncIterator[str]:
    """A folder that is there and empty (sqlite), or the URL of an empty database, dropped afterwards.

    Raises:
        NoPlace: all numbers of the Redis are in use.
    """
    name = f"{PREFIX}{os.getpid()}_{next(_numbers)}"
    if engine == "redis":
        place = await _claimed_number(url, name)
        try:
            yield place
        finally:
            await _empty(place)
    elif engine == "sqlite":
        folder = (FOLDER / name).absolute()
        folder.mkdir(parents=True)
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        await _execute(engine, url, f"CREATE DATABASE {name}")
        try:
            yield _with_database(url, name)
        finally:
            await _drop(engine, url, name)


async def drop_orphans(engine: str, url: str) -> None:
    """Drop what runs on this machine have left that are not there any more."""
    if engine == "sqlite":
        _drop_orphaned_folders()
    elif engine == "redis":
        for number in REDIS_NUMBERS:
            async with redis_client(_with_database(url, str(number))) as client:
                if _is_orphan((await client.get(OWNER) or b"").decode()):
                    await client.flushdb()
    else:
        for name in await _databases(engine, url):
            if _is_orphan(name):
                await _drop(engine, url, name)


def _drop_orphaned_folders() -> None:
    for folder in FOLDER.glob(f"{PREFIX}*"):
        if _is_orphan(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _is_orphan(name: str) -> bool:
    if not name.startswith(PREFIX):
        return False
    process = int(name.removeprefix(PREFIX).partition("_")[0])
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return False
    return True


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}", query=""))


async def _claimed_number(url: str, name: str) -> str:
    for number in REDIS_NUMBERS:
        place = _with_database(url, str(number))
        async with redis_client(place) as client:
            if await client.dbsize() == 0 and await client.set(OWNER, name, nx=True):
                return place
    raise NoPlace("every number of this Redis from 1 to 15 holds something")


async def _empty(place: str) -> None:
    async with redis_client(place) as client:
        await client.flushdb()


async def _execute(engine: str, url: str, statement: str) -> None:
    if engine == "postgresql":
        async with postgresql_connection(url) as connection:
            await connection.execute(statement)
    else:
        async with mysql_connection(url) as connection, connection.cursor() as cursor:
            await cursor.execute(statement)


async def _drop(engine: str, url: str, name: str) -> None:
    force = " WITH (FORCE)" if engine == "postgresql" else ""
    await _execute(engine, url, f"DROP DATABASE IF EXISTS {name}{force}")


async def _databases(engine: str, url: str) -> list[str]:
    if engine == "postgresql":
        async with postgresql_connection(url) as connection:
            return [row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")]
    async with mysql_connection(url) as connection, connection.cursor() as cursor:
        await cursor.execute("SHOW DATABASES")
        return [name for (name,) in await cursor.fetchall()]
