"""What a Redis server refuses, and which of our errors that is."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.engines import private_server, redis_client
from tests.servers import Server
from tests.servers.wire import redis_call
from tests.unified_storage.redis.clients import COUNT, client_on
from unified_storage import (
    StorageCapacityError,
    StorageConnectionError,
    StorageError,
    StoragePermissionError,
    StorageTimeoutError,
)
from unified_storage.backends.redis.client import Client, Script
from unified_storage.backends.redis.errors import Lost, NotSent, code_of, translated

FOREVER = "while true do end"


@asynccontextmanager
async def configured(raw: Any, **settings: str) -> AsyncIterator[None]:
    names = {name.replace("_", "-"): value for name, value in settings.items()}
    before = {name: (await raw.config_get(name))[name] for name in names}
    for name, value in names.items():
        await raw.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            await raw.config_set(name, value)


async def test_a_full_server_is_a_lack_of_capacity(client: Client, raw: Any, key: str) -> None:
    assert await client.run(COUNT, [key], [], timeout=5) == 1
    async with configured(raw, maxmemory="1"):
        with pytest.raises(StorageCapacityError) as refusal:
            await client.run(COUNT, [key], [], timeout=5)
    assert refusal.value.details["code"] == "OOM"
    assert await client.run(COUNT, [key], [], timeout=5) == 2


async def test_a_server_that_cannot_persist_is_a_lack_of_capacity(
    client: Client, raw: Any, server: Server, key: str
) -> None:
    await client.run(COUNT, [key], [], timeout=5)
    in_the_way = server.nodes[0].folder / "dump.rdb"
    in_the_way.mkdir()
    async with configured(raw, save="3600 1"):
        await _saved(raw, "err")
        with pytest.raises(StorageCapacityError) as refusal:
            await client.run(COUNT, [key], [], timeout=5)
        in_the_way.rmdir()
        await _saved(raw, "ok")
    assert refusal.value.details["code"] == "MISCONF"
    assert await client.run(COUNT, [key], [], timeout=5) == 2


async def _saved(raw: Any, status: str) -> None:
    """Have the server save, which ends so."""
    await raw.bgsave()
    for _ in range(500):
        if (await raw.info("persistence"))["rdb_last_bgsave_status"] == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"saving did not end with {status}")


async def test_a_replica_takes_no_writes_and_may_be_a_master_later(client: Client, raw: Any, key: str) -> None:
    await client.run(COUNT, [key], [], timeout=5)
    await raw.replicaof("127.0.0.1", "1")
    try:
        begun = time.monotonic()
        with pytest.raises(StorageConnectionError) as refusal:
            await client.run(COUNT, [key], [], timeout=30)
        assert time.monotonic() - begun < 5
        assert (refusal.value.details["code"], refusal.value.retryable) == ("READONLY", True)
        assert await client.ask([("GET", key)], timeout=5) == [b"1"]
        async with configured(raw, replica_serve_stale_data="no"):
            with pytest.raises(StorageConnectionError) as refusal:
                await client.ask([("GET", key)], timeout=5)
            assert (refusal.value.details["code"], refusal.value.retryable) == ("MASTERDOWN", True)
    finally:
        await raw.replicaof("NO", "ONE")
    assert await client.run(COUNT, [key], [], timeout=5) == 2


async def test_somebody_elses_endless_script_is_waited_for(client: Client, raw: Any, server: Server, key: str) -> None:
    await client.run(COUNT, [key], [], timeout=5)
    async with configured(raw, busy_reply_threshold="50"), redis_client(server.url) as other:
        endless = asyncio.create_task(other.eval(FOREVER, 0))
        await asyncio.sleep(0.2)
        with pytest.raises(StorageTimeoutError) as refusal:
            await client.run(COUNT, [key], [], timeout=0.5)
        assert (refusal.value.details["code"], refusal.value.retryable) == ("BUSY", True)
        waiting = [asyncio.create_task(client.run(COUNT, [key], [], timeout=10)) for _ in range(5)]
        await asyncio.sleep(0.2)
        await raw.script_kill()
        assert sorted(await asyncio.gather(*waiting)) == [2, 3, 4, 5, 6]
        with pytest.raises(ResponseError):
            await endless


async def test_a_server_that_still_loads_is_waited_for(key: str) -> None:
    with private_server("redis") as server:
        async with client_on(server.url) as client:
            counts = await asyncio.gather(*(client.run(COUNT, [key], [], timeout=5) for _ in range(4000)))
            assert sorted(counts) == [*range(1, 4001)]
            server.kill()
            node = server.nodes[0]
            # each command that it loads takes so many microseconds; after every 1024th it looks for questions
            node.command = [*node.command, "--key-load-delay", "500"]
            node.launch()
            await asyncio.to_thread(_loading, node.port)
            with pytest.raises((StorageConnectionError, StorageTimeoutError)) as refusal:
                await client.ask([("GET", key)], timeout=0.2)
            assert refusal.value.retryable
            await asyncio.to_thread(_loading, node.port)
            assert await client.ask([("GET", key)], timeout=20) == [b"4000"]
            assert await client.run(COUNT, [key], [], timeout=20) == 4001


def _loading(port: int) -> None:
    """Return when the server says that it loads, and not when it has loaded."""
    while True:
        try:
            assert not redis_call(port, "PING"), "it has loaded already"
        except OSError as error:
            if "LOADING" in str(error):
                return
            time.sleep(0.01)


async def test_one_client_too_many_waits_for_a_place(server: Server, client: Client, raw: Any, key: str) -> None:
    await client.ping(5)
    before = {found["id"] for found in await raw.client_list()}
    async with client_on(server.url, pool_size=1) as late:  # without a name, so that the script is its first word
        assert await late.run(COUNT, [key], [], timeout=5) == 1
        (number,) = {found["id"] for found in await raw.client_list()} - before
        await raw.client_kill_filter(_id=number)
        async with configured(raw, maxclients=str(len(await raw.client_list()))):
            with pytest.raises(StorageConnectionError, match="max number of clients") as refusal:
                await late.run(COUNT, [key], [], timeout=0.3)
            assert refusal.value.retryable
            assert "outcome" not in refusal.value.details
            waiting = asyncio.create_task(late.run(COUNT, [key], [], timeout=10))
            await asyncio.sleep(0.1)
            await client.let_go()
            assert await waiting == 2


async def test_what_a_user_may_not_do_is_a_lack_of_permission(server: Server, raw: Any, key: str) -> None:
    await raw.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~open:*", "+@all", "-incr")
    async with client_on(server.url, username="reader", password="pw") as client:
        for call in (client.run(COUNT, ["open:x"], [], timeout=5), client.ask([("GET", "closed")], timeout=5)):
            with pytest.raises(StoragePermissionError) as refusal:
                await call
            assert not refusal.value.retryable
        assert await client.ask([("GET", "open:x")], timeout=5) == [None]
    await raw.execute_command("ACL", "DELUSER", "reader")


async def test_any_other_refusal_keeps_its_code_and_no_document(client: Client, key: str) -> None:
    await client.run(Script("redis.call('RPUSH', KEYS[1], 'x')"), [key], [], timeout=5)
    with pytest.raises(StorageError) as refusal:
        await client.ask([("GET", key)], timeout=5)
    assert (refusal.value.error_code, refusal.value.retryable) == ("WRONGTYPE", False)
    with pytest.raises(StorageError, match="unknown command") as refusal:
        await client.ask([("NONSENSE", "k", "what somebody wrote")], timeout=5)
    assert "somebody" not in str(refusal.value.to_dict()["message"])
    with pytest.raises(StorageError) as refusal:
        await client.run(Script("return redis.error_reply('OURS it is')"), [key], [], timeout=5)
    assert refusal.value.error_code == "OURS"


async def test_one_refusal_among_many_answers_is_raised(client: Client, key: str) -> None:
    with pytest.raises(StorageError, match="unknown command"):
        await client.ask([("GET", key), ("NONSENSE", "x"), ("GET", key)], timeout=5)
    assert await client.ask([("GET", key)] * 3, timeout=5) == [None] * 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ResponseError("MISCONF Redis is configured"), "MISCONF"),
        (ResponseError("moved away", status_code="MOVED"), "MOVED"),
        (RedisConnectionError("Error 111 connecting"), ""),
        (NotSent("WORDS of our own"), ""),
        (OSError("EPIPE"), ""),
    ],
)
def test_a_code_is_the_servers_word(error: Exception, code: str) -> None:
    assert code_of(error) == code


def test_what_is_not_answered_in_time_is_a_time_out_and_what_is_lost_a_connection() -> None:
    for kind in (NotSent, Lost):
        assert type(translated(kind("late", late=True))) is StorageTimeoutError
        assert type(translated(kind("gone"))) is StorageConnectionError
        assert translated(kind("gone")).retryable
    assert type(translated(OSError("gone"))) is StorageConnectionError
    assert type(translated(TimeoutError("late"))) is StorageTimeoutError
