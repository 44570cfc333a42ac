"""What the tests of one engine share: a driver for a URL, and what a server says."""

from typing import Any

import pytest
from asyncmy import errors

from tests.servers.server import Server
from unified_storage.backends.sql.mysql import MySQLDriver
from unified_storage.backends.sql.mysql_address import places_and_login
from unified_storage.backends.sql.mysql_connection import MySQLConnection
from unified_storage.backends.sql.mysql_errors import translated_error
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageError
from unified_storage.opening import parse_url


def driver_for(url: str, *, statement_timeout: float = 20.0, **options: Any) -> MySQLDriver:
    parsed = parse_url(url)
    return MySQLDriver(*places_and_login(parsed, {**parsed.options, **options}), statement_timeout=statement_timeout)


async def run_on(server: Server, *texts: str) -> None:
    connection = await driver_for(server.url).connect(5)
    for text in texts:
        await connection.run(Call(text))
    await connection.close()


async def failure_of(connection: MySQLConnection, sql: str, *values) -> StorageError:
    """Our error for what the server says of a statement."""
    with pytest.raises(errors.MySQLError) as refused:
        await connection.run(Call(sql, values))
    translated = translated_error(refused.value)
    assert translated is not None
    return translated


async def is_connected(observer: MySQLConnection, other: MySQLConnection) -> bool:
    sql = "SELECT count(*) FROM information_schema.processlist WHERE id = ?"
    return await observer.run(Call(sql, [other.session.number])) == [[1]]


def as_user(url: str, user: str) -> str:
    return f"mysql://{user}@{url.rpartition('@')[2].removeprefix('mysql://')}"


def note(id: str, n: int = 0) -> dict[str, Any]:
    return {"id": id, "type": "note", "data": {"n": n}}
