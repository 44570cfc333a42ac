"""What a URL and options mean, and what a server says of itself. No server is needed."""

import ssl
from typing import Any

import pytest

from unified_storage import open_storage
from unified_storage.backends.sql.mysql_address import Place, places_and_login
from unified_storage.backends.sql.mysql_settings import facts, refuse_old, session, settings
from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import parse_url


def places(location: str, **options: Any) -> list[Place]:
    return places_and_login(parse_url(f"mysql://{location}"), options)[0]


def login(location: str, **options: Any) -> dict[str, Any]:
    return places_and_login(parse_url(f"mysql://{location}"), options)[1]


def test_a_url_names_hosts_ports_and_a_database() -> None:
    assert places("u@db/app") == [Place("db", 3306)]
    assert places("u@a:1,b,[::1]:3,[::1]/app") == [Place("a", 1), Place("b", 3306), Place("::1", 3), Place("::1", 3306)]
    assert places("/app") == [Place("localhost", 3306)]
    assert places("u@db/app", port=7, host="x,y:8") == [Place("x", 7), Place("y", 8)]
    assert places("u@/app", unix_socket="/run/x") == [Place("localhost", unix_socket="/run/x")]
    given = login("me%40home:p%2Fw%3A@db/my%20app")
    assert (given["user"], given["password"], given["database"]) == ("me@home", b"p/w:", "my app")
    assert login("db/app")["user"] is None


@pytest.mark.parametrize(
    "location", ["root:hush@db", "root:hush@db/", "root:hush@db:x/app", "root:hu?sh@db/app", "root:hush@db:65536/app"]
)
def test_a_url_that_is_none_is_refused_without_its_password(location) -> None:
    with pytest.raises(StorageConfigurationError) as refused:
        open_storage(f"mysql://{location}")
    assert "hu" not in f"{refused.value.to_dict()}"


@pytest.mark.parametrize(
    "options", [{"colour": "red"}, {"ssl": "perhaps"}, {"ssl_ca": "/no/such/file"}, {"pool_size": "x"}]
)
def test_an_option_that_is_none_is_refused(options) -> None:
    with pytest.raises(StorageConfigurationError):
        open_storage("mysql://root@db/app", **options)


def test_what_is_encrypted_is_checked_unless_said_otherwise() -> None:
    assert login("db/app")["ssl"] is None
    assert login("db/app", ssl="false")["ssl"] is None
    checked = login("db/app", ssl="true")["ssl"]
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert login("db/app", ssl="unverified")["ssl"].verify_mode == ssl.CERT_NONE
    own = ssl.create_default_context()
    assert login("db/app", ssl=own)["ssl"] is own


@pytest.mark.parametrize(
    "version", ["8.0.19", "8.4.3", "9.1.0-log", "5.5.5-10.5.0-MariaDB", "10.11.19-MariaDB-0+deb12u1", "11.8.2-MariaDB"]
)
def test_a_server_that_is_new_enough_is_taken(version) -> None:
    refuse_old(version)


@pytest.mark.parametrize(
    "version", ["8.0.18", "5.7.44-log", "5.5.5-10.4.34-MariaDB", "10.4.34-MariaDB", "5.7.25-TiDB-v7.5.0", "new"]
)
def test_an_old_server_is_refused(version) -> None:
    with pytest.raises(StorageConfigurationError, match="too old"):
        refuse_old(version)


def test_only_what_a_server_knows_is_set() -> None:
    mysql = settings({"sql_mode": "", "max_execution_time": "0", "transaction_isolation": ""}, 1.5)
    assert mysql == (
        "SET SESSION sql_mode = 'PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
        "transaction_isolation = 'READ-COMMITTED', max_execution_time = 1500"
    )
    assert settings({"max_statement_time": "0", "lock_wait_timeout": "1"}, 0.25) == (
        "SET SESSION lock_wait_timeout = 1, max_statement_time = 0.250"
    )


def test_one_server_is_told_from_another() -> None:
    here = {"pseudo_thread_id": "5", "max_allowed_packet": "1024", "hostname": "a", "port": "1", "server_uuid": "u"}
    assert session(here).server == session({**here, "pseudo_thread_id": "6"}).server
    for other in ({"hostname": "b"}, {"port": "2"}, {"server_uuid": "v"}, {"server_id": "9"}):
        assert session(here | other).server != session(here).server


@pytest.mark.parametrize(
    ("flush", "log_bin", "sync", "durability"),
    [
        ("1", "OFF", "0", "full"),
        ("1", "ON", "1", "full"),
        ("1", "ON", "0", "delayed"),
        ("2", "OFF", "1", "delayed"),
        ("0", "ON", "1", "delayed"),
    ],
)
def test_durability_is_what_the_server_does_at_a_commit(flush, log_bin, sync, durability) -> None:
    shown = {"innodb_flush_log_at_trx_commit": flush, "log_bin": log_bin, "sync_binlog": sync, "version": "8.4.0"}
    assert facts(shown, {}) == {"version": "8.4.0", "flavour": "MySQL", "durability": durability}


def test_a_cluster_says_how_it_is() -> None:
    shown = {"innodb_flush_log_at_trx_commit": "1", "version": "10.11.1-MariaDB", "wsrep_on": "ON"}
    status = {"wsrep_cluster_size": "3", "wsrep_cluster_status": "Primary", "wsrep_local_state_comment": "Synced"}
    assert facts(shown, status)["galera"] == {"size": 3, "status": "Primary", "state": "Synced"}
    assert "galera" not in facts(shown | {"wsrep_on": "OFF"}, status)
