"""Connections to a real MySQL or MariaDB, all closed afterwards; tables and users of a test's own."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace, mysql_connection
from tests.servers import MissingServer, start_private
from tests.servers.server import Server
from tests.unified_storage.mysql.sessions import driver_for
from unified_storage.backends.sql.mysql_connection import MySQLConnection
from unified_storage.backends.sql.statements import Call


@pytest.fixture
def url() -> str:
    return engine_url("mysql")


@pytest.fixture
async def home(url) -> AsyncIterator[dict[str, str]]:
    """The URL of a server, and a namespace of the test's own on it: arguments of ``open_storage``."""
    namespace = fresh_namespace("my")
    yield {"url": url, "namespace": namespace}
    await drop_namespace(url, namespace)


@pytest.fixture
async def connect(url) -> AsyncIterator[Callable]:
    """``await connect(...)``: one more connection to the server, set up as the storage does it."""
    made: list[MySQLConnection] = []

    async def one_more(where: str = url, **options) -> MySQLConnection:
        made.append(await driver_for(where, **options).connect(5))
        return made[-1]

    yield one_more
    for connection in made:
        await connection.close()


@pytest.fixture
async def table(connect) -> AsyncIterator[str]:
    """An empty table with columns like those of a store."""
    name = f"us_test_{secrets.token_hex(6)}"
    connection = await connect()
    columns = "n BIGINT AUTO_INCREMENT PRIMARY KEY, id VARBINARY(1024), k VARBINARY(512), v BIGINT, d LONGTEXT"
    charset = "DEFAULT CHARSET = utf8mb4 COLLATE utf8mb4_bin"
    await connection.run(Call(f"CREATE TABLE {name} ({columns}, UNIQUE KEY by_id (id)) ENGINE = InnoDB {charset}"))
    yield name
    dropping = await connect()
    await dropping.run(Call(f"DROP TABLE {name}"))


@pytest.fixture
async def own_user(url) -> AsyncIterator[str]:
    """A user of the server that nobody else logs in as, without a password."""
    name = f"us_test_{secrets.token_hex(6)}"
    async with mysql_connection(url) as connection, connection.cursor() as cursor:
        await cursor.execute(f"CREATE USER {name}@'%'")
        await cursor.execute(f"GRANT ALL ON *.* TO {name}@'%'")
        yield name
        await cursor.execute(f"DROP USER {name}@'%'")


@pytest.fixture(scope="session")
def private() -> Iterator[Server]:
    """A server for the tests of this engine alone."""
    try:
        server = start_private("mysql")
    except MissingServer as error:
        pytest.skip(f"no private MariaDB: {error}")
    with server:
        yield server
