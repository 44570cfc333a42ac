"""From a Redis URL to how its servers are reached."""

from typing import Any

import pytest

from tests.engines import private_server
from tests.servers import Server
from tests.unified_storage.redis.clients import COUNT, client_of, client_on
from unified_storage import StorageConfigurationError, StoragePermissionError, open_storage
from unified_storage.backends.redis.settings import Address, Settings, settings_of
from unified_storage.opening import parse_url


def settings(url: str, **options: Any) -> Settings:
    parsed = parse_url(url)
    given = {**parsed.options, **options}
    found = settings_of(parsed, given)
    assert not given, "an option was left"
    return found


def test_a_bare_url_means_this_machine() -> None:
    found = settings("redis://")
    assert (found.start, found.driver, found.is_cluster, found.is_secure) == (
        (Address("localhost", 6379),),
        {},
        False,
        False,
    )
    assert (found.pool_size, found.connect_timeout, found.statement_timeout) == (10, 10, 30)


@pytest.mark.parametrize(
    ("url", "start", "driver"),
    [
        ("redis://h:1/2", ("h", 1), {"db": 2}),
        ("redis://:pw@h", ("h", 6379), {"password": "pw"}),
        ("redis://us%40er:p%2Fw%3A@h:1", ("h", 1), {"username": "us@er", "password": "p/w:"}),
        ("redis://u@h/", ("h", 6379), {"username": "u"}),
        ("redis://[::1]:7000", ("::1", 7000), {}),
        ("redis://[::1]", ("::1", 6379), {}),
        (
            "redis://h/1?db=3&client_name=me&socket_keepalive=no",
            ("h", 6379),
            {"db": 3, "client_name": "me", "socket_keepalive": False},
        ),
        ("rediss://h?ssl_check_hostname=false", ("h", 6379), {"ssl_check_hostname": False}),
    ],
)
def test_a_url_names_the_server_and_who_we_are(url: str, start: tuple[str, int], driver: dict[str, Any]) -> None:
    found = settings(url)
    assert (found.start, found.driver) == ((Address(*start),), driver)
    assert found.is_secure == url.startswith("rediss")


@pytest.mark.parametrize("url", ["redis://h/abc", "redis://h/-1", "redis://h/1/2", "redis://h?db=x", "redis://h?db=-1"])
def test_a_database_is_a_number(url: str) -> None:
    with pytest.raises(StorageConfigurationError, match=r"database|db"):
        settings(url)


@pytest.mark.parametrize("database", [99, 2**31 - 1, 2**70])
async def test_a_database_that_the_server_does_not_have_is_a_fault_of_the_url(database: int) -> None:
    with private_server("redis") as server:
        server_url = server.url.rpartition("/")[0]
        with pytest.raises(StorageConfigurationError, match="database") as refusal:
            async with open_storage(f"{server_url}/{database}"):
                pass
        assert not refusal.value.retryable
        async with open_storage(f"{server_url}/15") as storage:
            assert await storage.count() == 0


def test_a_cluster_url_names_some_of_its_nodes() -> None:
    found = settings("rediss+cluster://:pw@a:7000,b:7001,[::1]:7002")
    assert found.start == (Address("a", 7000), Address("b", 7001), Address("::1", 7002))
    assert (found.is_cluster, found.is_secure, found.driver) == (True, True, {"password": "pw"})


def test_keywords_win_and_numbers_may_be_texts() -> None:
    found = settings(
        "redis://u:a@h/1?pool_size=3&connect_timeout=0.5&statement_timeout=7&protocol=2", password="b", pool_size=4
    )
    assert (found.pool_size, found.connect_timeout, found.statement_timeout) == (4, 0.5, 7)
    assert found.driver == {"username": "u", "password": "b", "db": 1}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://a,b", r"redis\+cluster"),
        ("redis://h:port", "host:port"),
        ("redis://h:70000", "host:port"),
        ("redis://h/first", "database"),
        ("redis://h?db=first", "db"),
        ("redis+cluster://h/1", "database 0"),
        ("redis://h?ssl_ca_certs=x", "rediss://"),
        ("redis://h?protocol=3", "protocol"),
        ("redis://h?pool_size=many", "pool_size"),
        ("redis://h?connect_timeout=0", "connect_timeout"),
        ("rediss://h?ssl_cert_reqs=maybe", "maybe"),
    ],
)
def test_what_cannot_be_reached_is_refused_before_it_is_tried(url: str, said: str) -> None:
    with pytest.raises(StorageConfigurationError, match=said):
        client_of(url)


def test_what_the_driver_itself_refuses_is_refused_at_once() -> None:
    with pytest.raises(StorageConfigurationError, match="credential") as refusal:
        client_of("redis://:hunter2@h", credential_provider=object())
    assert "hunter2" not in str(refusal.value.to_dict())


def test_no_password_is_shown() -> None:
    found = settings("rediss://:hunter2@h", ssl_password="hunter2")
    assert "hunter2" not in repr(found)


async def test_user_password_database_and_name_reach_the_server(server: Server, raw: Any) -> None:
    await raw.execute_command("ACL", "SETUSER", "me@home", "on", ">p/w:", "~*", "+@all")
    url = f"redis://me%40home:p%2Fw%3A@127.0.0.1:{server.nodes[0].port}/3?client_name=named"
    async with client_on(url) as client:
        await client.run(COUNT, ["settings"], [], timeout=5)
        mine = next(found for found in await raw.client_list() if found["name"] == "named")
    assert (mine["user"], mine["db"]) == ("me@home", "3")
    await raw.execute_command("ACL", "DELUSER", "me@home")


async def test_a_wrong_password_is_refused_at_once_and_not_shown(server: Server, raw: Any) -> None:
    await raw.config_set("requirepass", "right")
    try:
        for user in ("", ":hunter2@", "nobody:hunter2@"):
            async with client_on(f"redis://{user}127.0.0.1:{server.nodes[0].port}") as client:
                with pytest.raises(StoragePermissionError) as refusal:
                    await client.run(COUNT, ["settings"], [], timeout=30)
                assert "hunter2" not in str(refusal.value.to_dict())
                assert not refusal.value.retryable
    finally:
        await raw.config_set("requirepass", "")


async def test_a_database_that_is_not_there_is_refused_at_once(server: Server) -> None:
    async with client_on(f"redis://127.0.0.1:{server.nodes[0].port}/99") as client:
        with pytest.raises(Exception, match="out of range") as refusal:
            await client.run(COUNT, ["settings"], [], timeout=30)
        assert not getattr(refusal.value, "retryable", True)
