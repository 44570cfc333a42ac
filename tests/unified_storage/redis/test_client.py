"""What the Redis client promises: writes once, reads until answered, answers to those who asked."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from tests.engines import private_server, redis_client
from tests.servers import Server
from tests.unified_storage.redis.clients import COUNT, COUNT_SLOWLY, VALUE, Counted, Proxy, client_of, client_on
from unified_storage import (
    StorageClosedError,
    StorageConfigurationError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
)
from unified_storage.backends.redis import client as client_module
from unified_storage.backends.redis.client import Client, Script
from unified_storage.backends.redis.line import Line


async def test_a_script_returns_what_redis_returns_and_texts_are_bytes(client: Client, key: str) -> None:
    echo = Script("redis.call('SET', KEYS[1], ARGV[1]); return {ARGV[1], ARGV[2], ARGV[3], 7, {false, {}}}")
    answer = await client.run(echo, [key], ["ü", b"\x00\xff", 5], timeout=5)
    assert answer == ["ü".encode(), b"\x00\xff", b"5", 7, [None, []]]
    assert await client.read_script(VALUE, [key], [], timeout=5) == "ü".encode()


async def test_questions_are_answered_in_their_order(client: Client, raw: Any, key: str) -> None:
    await raw.mset({f"{key}:{n}": n for n in range(300)})
    assert await client.ask([], timeout=5) == []
    commands = [("GET", f"{key}:{n}") for n in reversed(range(300))]
    assert await client.ask(commands, timeout=5) == [str(n).encode() for n in reversed(range(300))]


async def test_a_script_that_reads_may_not_write(client: Client, key: str) -> None:
    with pytest.raises(StorageError, match="read-only"):
        await client.read_script(COUNT, [key], [], timeout=5)
    assert await client.ask([("EXISTS", key)], timeout=5) == [0]


async def test_a_server_that_forgot_the_scripts_is_told_them_again(client: Client, raw: Any, key: str) -> None:
    for n in range(1, 4):
        assert await client.run(COUNT, [key], [], timeout=5) == n
        assert await client.ask([VALUE.reading([key], [])] * 2, timeout=5) == [str(n).encode()] * 2
        await raw.script_flush()


async def test_an_argument_that_is_no_argument_harms_nobody_else(client: Client, key: str) -> None:
    given: list = [None, 5, "\ud800", True]
    outcomes = await asyncio.gather(
        *(client.run(COUNT, [key], [argument], timeout=5) for argument in given), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(int) == 1
    assert outcomes[1] == 1


async def test_what_is_asked_at_the_same_time_is_sent_together(
    client: Client, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.run(COUNT, [key], [], timeout=5)
    pieces = []
    send = Line.send

    async def counted(line: Line, packed: list[bytes]) -> None:
        pieces.append(len(packed))
        await send(line, packed)

    monkeypatch.setattr(Line, "send", counted)
    numbers = await asyncio.gather(*(client.run(COUNT, [key], [], timeout=5) for _ in range(64)))
    assert numbers == [*range(2, 66)]
    assert pieces == [64]


async def test_connections_are_never_more_than_the_pool_size(server: Server, raw: Any, key: str) -> None:
    async with client_on(server.url, pool_size=3, client_name="counted") as client:

        async def work() -> None:
            for _ in range(30):
                await client.run(COUNT_SLOWLY, [key], [50], timeout=30)
                await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(40)))
        names = Counter(connection["name"] for connection in await raw.client_list())
        assert 1 <= names["counted"] <= 3
        assert await client.ask([("GET", key)], timeout=5) == [b"1200"]


async def test_who_waits_too_long_for_a_connection_may_try_again(server: Server, key: str) -> None:
    async with client_on(server.url, pool_size=1) as client:
        slow = asyncio.create_task(client.run(COUNT_SLOWLY, [key], [500_000], timeout=5))
        await asyncio.sleep(0.1)
        with pytest.raises(StorageTimeoutError) as refusal:
            await client.run(COUNT, [key], [], timeout=0.1)
        assert refusal.value.retryable
        assert await slow == 1
        await asyncio.sleep(0.1)
        assert await client.ask([("GET", key)], timeout=5) == [b"1"]  # it was not sent afterwards either


async def test_a_call_tries_again_as_often_as_its_time_allows(
    client: Client, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a slot takes minutes to get to another node."""
    later = Script("""
        local n = redis.call('INCR', KEYS[1])
        return n < 1100 and redis.error_reply('TRYAGAIN later') or n
    """)
    monkeypatch.setattr(client_module, "_LONGEST_PAUSE", 0.0001)
    assert await client.run(later, [key], [], timeout=60) == 1100


async def test_those_who_wait_come_in_their_order(server: Server, key: str) -> None:
    async with client_on(server.url, pool_size=1) as client:
        await client.ping(5)
        slow = asyncio.create_task(client.run(COUNT_SLOWLY, [key], [100_000], timeout=5))
        await asyncio.sleep(0.01)
        waiting = []
        for _ in range(600):
            waiting.append(asyncio.create_task(client.run(COUNT, [key], [], timeout=5)))
            await asyncio.sleep(0)
        assert [await slow, *await asyncio.gather(*waiting)] == [*range(1, 602)]


async def test_a_write_that_is_not_answered_in_time_is_not_sent_again(client: Client, key: str) -> None:
    begun = time.monotonic()
    with pytest.raises(StorageConnectionError) as unknown:
        await client.run(COUNT_SLOWLY, [key], [600_000], timeout=0.2)
    assert time.monotonic() - begun < 0.5
    assert (unknown.value.details["outcome"], unknown.value.retryable) == ("unknown", False)
    assert await client.ask([("GET", key)], timeout=5) == [b"1"]


async def test_a_read_that_is_not_answered_in_time_may_be_repeated(client: Client, key: str) -> None:
    slow = asyncio.create_task(client.run(COUNT_SLOWLY, [key], [400_000], timeout=5))
    await asyncio.sleep(0.1)
    with pytest.raises(StorageTimeoutError) as late:
        await client.ask([("GET", key)], timeout=0.1)
    assert late.value.retryable
    assert await slow == 1
    assert await client.ask([("GET", key)], timeout=5) == [b"1"]


# --- cancelled callers --------------------------------------------------------------------------------------------


async def test_300_cancelled_reads_leave_no_answer_to_somebody_else(server: Server, raw: Any, key: str) -> None:
    await raw.mset({f"{key}:{n}": n for n in range(300)})
    async with client_on(server.url, pool_size=1, client_name="one") as client:
        for n in range(300):
            numbers = [n, (n * 7 + 1) % 300, (n * 11 + 2) % 300]
            before, cancelled, after = (
                asyncio.create_task(client.ask([("GET", f"{key}:{number}")], timeout=5)) for number in numbers
            )
            for _ in range(n % 7):
                await asyncio.sleep(0)
            cancelled.cancel()
            assert await client.ask([("GET", f"{key}:5")], timeout=5) == [b"5"]
            assert [await before, await after] == [[str(numbers[0]).encode()], [str(numbers[2]).encode()]]
            assert cancelled.cancelled()
        names = Counter(connection["name"] for connection in await raw.client_list())
        assert names["one"] == 1


async def test_300_cancelled_writes_are_wholly_done_or_not_done_when_their_callers_go_on(
    server: Server, raw: Any, key: str
) -> None:
    done_meanwhile = 0
    async with client_on(server.url, pool_size=1) as client:
        for n in range(300):
            before = int(await raw.get(key) or 0)
            task = asyncio.create_task(client.run(COUNT_SLOWLY, [key], [1000], timeout=5))
            for _ in range(n % 7):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            ended = int(await raw.get(key) or 0)
            await asyncio.sleep(0.003)  # what was still under way would be seen now
            assert int(await raw.get(key) or 0) == ended
            done_meanwhile += ended - before
            assert await client.ask([("GET", key)], timeout=5) == [str(ended).encode() if ended else None]
    assert 0 < done_meanwhile < 300


async def test_a_cancelled_write_waits_no_longer_than_its_time(client: Client, key: str) -> None:
    task = asyncio.create_task(client.run(COUNT_SLOWLY, [key], [800_000], timeout=0.3))
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 0.5


# --- connections that end -----------------------------------------------------------------------------------------


async def test_a_connection_that_was_ended_while_idle_costs_nobody_an_error(client: Client, raw: Any, key: str) -> None:
    for n in range(1, 51):
        assert await client.run(COUNT, [key], [], timeout=5) == n
        await raw.client_kill_filter(_type="normal", skipme=True)
        if n % 2:
            await asyncio.sleep(0.06)
        else:
            time.sleep(0.06)  # the loop had no turn in which to notice


async def test_a_loop_that_did_not_run_meanwhile_notices_an_ended_connection(server: Server, key: str) -> None:
    def in_turns() -> list[int]:
        with asyncio.Runner() as runner, asyncio.Runner() as other:
            client = client_of(server.url)
            counts = []
            for _ in range(10):
                counts.append(runner.run(client.run(COUNT, [key], [], timeout=5)))
                other.run(_kill_others(server.url))
                time.sleep(0.06)
            runner.run(client.close())
            return counts

    assert await asyncio.to_thread(in_turns) == [*range(1, 11)]


async def _kill_others(url: str) -> None:
    async with redis_client(url) as raw:
        await raw.client_kill_filter(_type="normal", skipme=True)


async def test_connections_killed_under_load_lose_no_count_and_repeat_none(server: Server, raw: Any, key: str) -> None:
    async with client_on(server.url, pool_size=4) as client:
        counted = Counted(client, key)
        load = [asyncio.create_task(counted.go_on(0.6)) for _ in range(16)]
        for _ in range(12):
            await asyncio.sleep(0.04)
            await raw.client_kill_filter(_type="normal", skipme=True)
        await asyncio.gather(*load)
        value = int((await client.ask([("GET", key)], timeout=5))[0])
    assert counted.acknowledged <= value <= counted.acknowledged + counted.unknown
    assert counted.acknowledged > 100


async def test_an_answer_that_is_lost_is_unknown_to_a_writer_and_asked_for_again_by_a_reader(
    server: Server, raw: Any, key: str
) -> None:
    async with Proxy(server.nodes[0].port) as proxy, client_on(proxy.url) as client:
        assert await client.run(COUNT, [key], [], timeout=5) == 1
        for n in range(2, 20):
            proxy.answers_left = 0
            with pytest.raises(StorageConnectionError) as unknown:
                await client.run(COUNT, [key], [], timeout=5)
            assert (unknown.value.details["outcome"], unknown.value.retryable) == ("unknown", False)
            assert int(await raw.get(key)) == n  # once
            proxy.answers_left = 0
            connections = proxy.connections
            assert await client.ask([("GET", key)], timeout=5) == [str(n).encode()]
            assert proxy.connections > connections  # it was lost, and asked again


async def test_a_killed_server_costs_no_acknowledged_count_and_comes_back_to_the_same_client(key: str) -> None:
    with private_server("redis") as server:
        async with client_on(server.url, pool_size=4) as client:
            counted = Counted(client, key)
            load = [asyncio.create_task(counted.go_on(2.0)) for _ in range(16)]
            for _ in range(3):
                await asyncio.sleep(0.4)
                server.kill()
                await asyncio.sleep(0.1)
                await asyncio.to_thread(server.start)
            await asyncio.gather(*load)
            value = int((await client.ask([("GET", key)], timeout=5))[0])
    assert counted.acknowledged <= value <= counted.acknowledged + counted.unknown
    assert counted.acknowledged > 100
    assert not counted.refused  # what was not sent waited for the server


async def test_a_server_that_never_answered_is_not_waited_for(unused_port: int) -> None:
    async with client_on(f"redis://127.0.0.1:{unused_port}/0") as client:
        for call in (
            client.run(COUNT, ["x"], [], timeout=30),
            client.ask([("GET", "x")], timeout=30),
            client.ping(30),
            client.facts(),
        ):
            begun = time.monotonic()
            with pytest.raises(StorageConnectionError) as refused:
                await call
            assert time.monotonic() - begun < 1
            assert refused.value.retryable
            assert "outcome" not in refused.value.details


@pytest.fixture
def unused_port() -> int:
    with private_server("redis") as server:
        return server.nodes[0].port


async def test_a_server_that_is_gone_is_waited_for_as_long_as_connecting_may_take(key: str) -> None:
    with private_server("redis") as server:
        async with client_on(server.url, connect_timeout=0.5) as client:
            assert await client.run(COUNT, [key], [], timeout=5) == 1
            server.kill()
            for call in (client.run(COUNT, [key], [], timeout=30), client.ask([("GET", key)], timeout=30)):
                begun = time.monotonic()
                with pytest.raises(StorageConnectionError) as refused:
                    await call
                assert 0.2 < time.monotonic() - begun < 2
                assert refused.value.retryable
            await asyncio.to_thread(server.start)
            assert await client.run(COUNT, [key], [], timeout=5) == 2


async def test_a_listener_that_does_not_speak_redis_is_refused_in_time(key: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        async with client_on(f"redis://127.0.0.1:{port}", connect_timeout=0.3) as client:
            begun = time.monotonic()
            with pytest.raises((StorageConnectionError, StorageTimeoutError)) as refused:
                await client.ask([("GET", key)], timeout=10)
            assert time.monotonic() - begun < 2
            assert refused.value.retryable


# --- closing, and what the server is ------------------------------------------------------------------------------


async def test_a_closed_client_refuses(server: Server, key: str) -> None:
    async with client_on(server.url) as client:
        await client.run(COUNT, [key], [], timeout=5)
    await client.close()
    for call in (client.run(COUNT, [key], [], timeout=5), client.ask([("GET", key)], timeout=5), client.ping(1)):
        with pytest.raises(StorageClosedError):
            await call


async def test_closing_lets_what_was_sent_end(server: Server, raw: Any, key: str) -> None:
    async with client_on(server.url, pool_size=1) as client:
        sent = asyncio.create_task(client.run(COUNT_SLOWLY, [key], [300_000], timeout=5))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(client.run(COUNT, [key], [], timeout=5))
        await asyncio.sleep(0)
    assert await sent == 1
    with pytest.raises(StorageClosedError):
        await waiting
    assert await raw.get(key) == b"1"


async def test_a_client_let_go_connects_again(server: Server, raw: Any, key: str) -> None:
    async with client_on(server.url, client_name="let-go") as client:
        assert await client.run(COUNT, [key], [], timeout=5) == 1
        await client.let_go()
        assert "let-go" not in {connection["name"] for connection in await raw.client_list()}
        assert await client.run(COUNT, [key], [], timeout=5) == 2


async def test_the_facts_name_version_durability_and_eviction(client: Client, raw: Any) -> None:
    facts = await client.facts()
    info = await raw.info("server")
    assert facts["version"] == info.get("valkey_version", info["redis_version"])
    assert (facts["mode"], facts["masters"]) == ("single", 1)
    assert (facts["durability"], facts["eviction"]) == ("full", "noeviction")
    assert "warning" not in facts


@pytest.mark.parametrize(
    ("setting", "value", "fact", "expected"),
    [
        ("appendfsync", "everysec", "durability", "every second"),
        ("appendfsync", "no", "durability", "none"),
        ("appendonly", "no", "durability", "none"),
        ("maxmemory-policy", "allkeys-lru", "eviction", "allkeys-lru"),
    ],
)
async def test_weaker_promises_are_named(
    client: Client, raw: Any, setting: str, value: str, fact: str, expected: str
) -> None:
    before = (await raw.config_get(setting))[setting]
    await raw.config_set(setting, value)
    try:
        facts = await client.facts()
        assert facts[fact] == expected
        assert ("warning" in facts) == (fact == "eviction")
    finally:
        await raw.config_set(setting, before)


async def test_facts_that_are_forbidden_are_unknown(server: Server, raw: Any, key: str) -> None:
    await raw.execute_command("ACL", "SETUSER", "shy", "on", ">hunter2", "~*", "+@all", "-config")
    async with client_on(server.url, username="shy", password="hunter2") as client:
        facts = await client.facts()
        assert (facts["durability"], facts["eviction"]) == ("unknown", "noeviction")
    await raw.execute_command("ACL", "SETUSER", "shy", "-info")
    async with client_on(server.url, username="shy", password="hunter2") as client:
        assert await client.run(COUNT, [key], [], timeout=5) == 1
        assert (await client.facts())["version"] == "unknown"
    await raw.acl_deluser("shy")


async def test_a_ping_is_answered_or_says_why_not(client: Client, raw: Any) -> None:
    await client.ping(5)
    pause = asyncio.create_task(raw.client_pause(300, all=True))
    await asyncio.sleep(0.1)
    with pytest.raises((StorageTimeoutError, StorageConnectionError)):
        await client.ping(0.1)
    await pause
    await client.ping(5)


async def test_one_node_of_a_cluster_is_no_single_server() -> None:
    with private_server("redis-cluster") as cluster:
        async with client_on(f"redis://127.0.0.1:{cluster.nodes[0].port}") as client:
            with pytest.raises(StorageConfigurationError, match=r"use redis\+cluster://"):
                await client.run(COUNT, ["x"], [], timeout=5)


async def test_a_single_server_is_no_cluster(server: Server) -> None:
    async with client_on(server.url.replace("redis://", "redis+cluster://")) as client:
        with pytest.raises(StorageConfigurationError, match="use redis://"):
            await client.ask([("GET", "x")], timeout=5)
