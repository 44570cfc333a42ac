"""How connections to MySQL or MariaDB are made."""

import gc
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from asyncmy import errors

from tests.servers.server import Server
from tests.unified_storage.mysql.sessions import driver_for, failure_of, run_on
from unified_storage import open_storage
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import (
    StorageConfigurationError,
    StorageConnectionError,
    StoragePermissionError,
)

pytestmark = pytest.mark.servers


async def test_a_session_is_set_up(connect) -> None:
    connection = await connect(statement_timeout=12.25)
    shown = dict(await connection.run(Call("SHOW SESSION VARIABLES")))
    assert shown["sql_mode"] == "PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
    assert shown.get("transaction_isolation", shown.get("tx_isolation")) == "READ-COMMITTED"
    assert shown["autocommit"] == "ON"
    assert shown["time_zone"] == "+00:00"
    assert shown["innodb_lock_wait_timeout"] == shown["lock_wait_timeout"] == "13"
    assert float(shown.get("max_statement_time", 12.25)) == 12.25
    assert shown.get("max_execution_time", "12250") == "12250"
    assert shown.get("wsrep_sync_wait", "1") == "1"
    assert shown["character_set_client"] == shown["character_set_connection"] == "utf8mb4"


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("nobody:hush-hush@{host}/test", StoragePermissionError),
        ("us_unknown:hush-hush@{host}/test", StoragePermissionError),
        ("root@{host}/us_no_such_database", StorageConfigurationError),
        ("root:hush-hush@127.0.0.1:1/test", StorageConnectionError),
    ],
)
async def test_what_is_wrong_with_a_login_is_said_without_the_password(private, location, kind) -> None:
    host = f"127.0.0.1:{private.nodes[0].port}"
    await run_on(private, "CREATE USER IF NOT EXISTS nobody@'%' IDENTIFIED BY 'right'")
    url = "mysql://" + location.format(host=host)
    with pytest.raises(kind) as refused:
        async with open_storage(url, connect_timeout=3):
            pass
    shown = f"{refused.value} {refused.value.to_dict()} {refused.value.__cause__!r}"
    assert "hush-hush" not in shown


@pytest.mark.parametrize(
    ("login", "given"),
    [
        ("nobody:YES", "with"),
        ("nobody:a", "with"),
        ("nobody:root", "with"),
        ("nobody:NO", "with"),
        ("nobody", "without"),
    ],
)
async def test_a_login_that_is_refused_says_whether_there_was_a_password_and_not_which(private, login, given) -> None:
    await run_on(private, "CREATE USER IF NOT EXISTS nobody@'%' IDENTIFIED BY 'right'")
    with pytest.raises(StoragePermissionError) as refused:
        async with open_storage(f"mysql://{login}@127.0.0.1:{private.nodes[0].port}/test", connect_timeout=3):
            pass
    said = f"Access denied for user 'nobody'@'[a-z0-9.]+' \\({given} a password\\)"
    assert re.fullmatch(rf"MySQL: {said} \(1045\)", refused.value.message)
    assert re.fullmatch(rf'OperationalError: \(1045, "{said}"\)', refused.value.to_dict()["cause"])


async def test_a_password_may_have_any_character(private) -> None:
    await run_on(
        private,
        "CREATE OR REPLACE USER pässwort@'%' IDENTIFIED BY 'a@b:c/d?e%é😀'",
        "GRANT ALL ON test.* TO pässwort@'%'",
    )
    place = f"127.0.0.1:{private.nodes[0].port}/test"
    in_url = driver_for(f"mysql://p%C3%A4sswort:a%40b%3Ac%2Fd%3Fe%25%C3%A9%F0%9F%98%80@{place}")
    as_option = driver_for(f"mysql://{place}", user="pässwort", password="a@b:c/d?e%é😀")
    for driver in (in_url, as_option):
        connection = await driver.connect(5)
        assert await connection.run(Call("SELECT 1")) == [[1]]
        await connection.close()


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    """asyncmy's own limit ends with the connection to the port; what it waits for is the greeting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        driver = driver_for(f"mysql://root@127.0.0.1:{silent.getsockname()[1]}/test")
        began = time.monotonic()
        with pytest.raises(errors.OperationalError, match="no answer") as refused:
            await driver.connect(0.3)
        assert time.monotonic() - began < 2
    translated = driver.translated(refused.value)
    assert isinstance(translated, StorageConnectionError)
    assert translated.retryable


async def test_hosts_are_tried_in_turn_and_the_one_that_serves_is_remembered(url) -> None:
    location = url.removeprefix("mysql://").rpartition("@")[2]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        driver = driver_for(f"mysql://root@127.0.0.1:1,127.0.0.1:{silent.getsockname()[1]},{location}")
        first = await driver.connect(3)
        began = time.monotonic()
        second = await driver.connect(3)
        assert time.monotonic() - began < 0.9, "the silent host was asked again"
    assert first.session.server == second.session.server
    await first.close()
    await second.close()


async def test_of_several_hosts_one_that_takes_writes_is_chosen(private, url) -> None:
    location = url.removeprefix("mysql://").rpartition("@")[2]
    several = f"mysql://root@127.0.0.1:{private.nodes[0].port},{location}"
    await run_on(private, "SET GLOBAL read_only = 1")
    try:
        chosen = await driver_for(several).connect(5)
        assert chosen.session.server[1] == location.partition("/")[0].rpartition(":")[2]
        await chosen.close()
        only = await driver_for(private.url).connect(5)  # it may be meant
        assert only.session.is_read_only
        await only.close()
    finally:
        await run_on(private, "SET GLOBAL read_only = 0")


async def test_a_primary_that_takes_writes_no_more_is_left(private) -> None:
    await run_on(
        private, "CREATE USER us_writer@'%'", "GRANT ALL ON test.* TO us_writer@'%'", "CREATE TABLE test.w (n INT)"
    )
    connection = await driver_for(private.url.replace("root", "us_writer")).connect(5)
    await run_on(private, "SET GLOBAL read_only = 1")
    try:
        error = await failure_of(connection, "INSERT INTO w VALUES (?)", 1)
    finally:
        await run_on(private, "SET GLOBAL read_only = 0", "DROP TABLE test.w")
    assert isinstance(error, StorageConnectionError)
    assert error.retryable
    assert not connection.is_open


async def test_a_socket_file_does_instead_of_a_host(private) -> None:
    file = private.nodes[0].folder / "socket"
    connection = await driver_for(f"mysql://root@/test?unix_socket={file}").connect(5)
    assert connection.session.server[1] == str(private.nodes[0].port)
    await connection.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate with")
async def test_a_connection_is_encrypted_and_the_server_proves_who_it_is(private, tmp_path) -> None:
    own, other = _certificate(private.folder, "own"), _certificate(tmp_path, "other")
    _restart(private, f"--ssl-cert={own}", f"--ssl-key={own.with_suffix('.key')}")
    url = private.url.replace("127.0.0.1", "localhost")
    good: list[dict[str, Any]] = [{"ssl_ca": str(own)}, {"ssl": "unverified"}]
    for options in good:
        connection = await driver_for(url, **options).connect(5)
        ((_, cipher),) = await connection.run(Call("SHOW SESSION STATUS LIKE 'Ssl_cipher'"))
        assert cipher
        assert await connection.run(Call("SELECT ?", ["x" * 5_000_000])) == [["x" * 5_000_000]]
        await connection.close()
        assert not connection.is_open
    bad: list[dict[str, Any]] = [{"ssl": "true"}, {"ssl_ca": str(other)}]
    for options in bad:
        with pytest.raises(errors.OperationalError, match="certificate verify failed"):
            await driver_for(url, **options).connect(5)
    gc.collect()


def _certificate(folder: Path, name: str) -> Path:
    """A certificate for localhost that signs itself, with its key beside it."""
    file = folder / f"{name}.pem"
    key = file.with_suffix(".key")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject)
    subprocess.run([*made, "-keyout", key, "-out", file], check=True, capture_output=True)
    key.chmod(0o644)  # the server is another user
    return file


def _restart(server: Server, *options: str) -> None:
    server.stop()
    server.nodes[0].command = [*server.nodes[0].command, *options]
    server.start()


async def test_a_health_check_says_what_the_server_is(home) -> None:
    async with open_storage(**home) as storage:
        shown = await storage.health_check()
    assert shown["backend"] == "mysql"
    assert shown["status"] == "ok"
    assert shown["flavour"] in ("MySQL", "MariaDB")
    assert shown["version"][0].isdigit()
    assert shown["durability"] in ("full", "delayed")
