"""One client for several event loops and threads, for loops that are gone, and across a fork."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engines import redis_client
from tests.servers import Server
from tests.unified_storage.redis.clients import COUNT, COUNT_SLOWLY, client_of
from unified_storage import StorageClosedError, open_storage
from unified_storage.backends.redis import loops
from unified_storage.backends.redis.client import RedisClient
from unified_storage.testing.drafts import note, session


@pytest.fixture
def client(server: Server, key: str) -> Iterator[RedisClient]:
    client = client_of(server.url, client_name=key, pool_size=2)
    yield client
    asyncio.run(client.close())
    gc.collect()  # what was not closed would warn now, and a warning is an error
    assert connections(server, key) == 0


def connections(server: Server, name: str) -> int:
    """How many connections of that name the server has, once it has noticed those that ended."""

    async def counted() -> int:
        async with redis_client(server.url) as raw:
            await asyncio.sleep(0.05)
            return Counter(found["name"] for found in await raw.client_list())[name]

    return asyncio.run(counted())


def count(client: RedisClient, key: str, times: int = 1) -> int:
    """Count on a loop that is closed afterwards, with the client left as it is."""
    return asyncio.run(_count(client, key, times))


async def _count(client: RedisClient, key: str, times: int = 1) -> int:
    for _ in range(times):
        reached = await client.run(COUNT, [key], [], timeout=10)
    return int(reached)


class RunningLoop:
    """A loop that runs on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def running() -> Iterator[RunningLoop]:
    running = RunningLoop()
    yield running
    running.end()


def test_loops_of_several_threads_share_a_client(server: Server, client: RedisClient, key: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(lambda _: count(client, key, 50), range(8))) == 400


def test_closing_ends_the_connections_of_every_running_loop(
    server: Server, client: RedisClient, running: RunningLoop, key: str
) -> None:
    assert running.call(_count(client, key)) == 1
    assert count(client, key) == 2
    under_way = asyncio.run_coroutine_threadsafe(client.run(COUNT_SLOWLY, [key], [200_000], timeout=10), running.loop)
    time.sleep(0.05)
    asyncio.run(client.close())
    assert under_way.result(0) == 3  # it had its time to end
    assert connections(server, key) == 0
    with pytest.raises(StorageClosedError):
        running.call(_count(client, key))


def test_connections_of_closed_loops_do_not_pile_up(server: Server, client: RedisClient, key: str) -> None:
    for n in range(1, 21):
        assert count(client, key) == n
        gc.collect()
    assert connections(server, key) <= 1


def test_a_client_of_a_closed_loop_is_closed_on_another_one(server: Server, client: RedisClient, key: str) -> None:
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(_count(client, key)) == 1
    loop.close()
    assert connections(server, key) == 1
    begun = time.monotonic()
    asyncio.run(client.close())
    assert time.monotonic() - begun < 1
    assert connections(server, key) == 0
    del loop
    gc.collect()


def test_closing_does_not_wait_for_a_loop_that_stands_still(server: Server, client: RedisClient, key: str) -> None:
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(_count(client, key)) == 1
    begun = time.monotonic()
    asyncio.run(client.let_go())
    assert time.monotonic() - begun < 1
    assert loop.run_until_complete(_count(client, key)) == 2  # it goes on, with new connections
    assert connections(server, key) == 1
    asyncio.run(client.close())
    loop.close()  # and never comes to close what was left to it
    asyncio.run(client_of(server.url).close())
    assert connections(server, key) == 0
    assert not loops._unfinished
    del loop
    gc.collect()


def test_a_loop_that_was_left_in_the_middle_of_a_call_is_left_alone(
    server: Server, client: RedisClient, key: str
) -> None:
    loop = asyncio.new_event_loop()
    under_way = loop.create_task(client.run(COUNT_SLOWLY, [key], [100_000], timeout=10))
    loop.run_until_complete(asyncio.sleep(0.05))
    assert count(client, key) == 2
    assert loop.run_until_complete(under_way) == 1
    loop.close()


def test_updates_that_a_stopped_loop_has_in_hand_keep_nobody_waiting(server: Server, key: str) -> None:
    storage = open_storage(server.url, client_name=key, statement_timeout=3)
    loop = asyncio.new_event_loop()

    async def turn() -> None:
        for _ in range(5):  # enough to begin; an answer needs more
            await asyncio.sleep(0)

    async def update(name: str) -> bool:
        return await storage.update("s", {"data": {name: True}}, type="session")

    loop.run_until_complete(storage.save(session("s")))
    left = [loop.create_task(update(name)) for name in ("a", "b")]
    loop.run_until_complete(turn())
    assert not any(task.done() for task in left)
    assert asyncio.run(update("c"))
    assert asyncio.run(update("d"))
    assert loop.run_until_complete(asyncio.gather(*left)) == [True, True]
    record = loop.run_until_complete(storage.load("s"))
    assert record is not None
    assert set(record["data"]) == {"a", "b", "c", "d"}
    loop.run_until_complete(storage.close())
    loop.close()


def test_a_server_that_hangs_is_not_waited_for_long_when_closing(
    server: Server, running: RunningLoop, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(loops, "_TIME_TO_END", 0.3)
    client = client_of(server.url)
    assert running.call(_count(client, key)) == 1
    assert count(client, key) == 2
    pid = server.nodes[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        calls = [asyncio.run_coroutine_threadsafe(_count(client, key), running.loop) for _ in range(3)]
        time.sleep(0.1)
        begun = time.monotonic()
        asyncio.run(client.close())
        assert time.monotonic() - begun < 2
    finally:
        os.kill(pid, signal.SIGCONT)
    for call in calls:
        with pytest.raises(Exception, match=r"unknown|closed"):
            call.result(5)
    gc.collect()


def test_a_loop_that_is_blocked_is_not_waited_for_long_when_closing(
    server: Server, running: RunningLoop, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(loops, "_TIME_TO_END", 0.2)
    monkeypatch.setattr(loops, "_TIME_TO_NOTICE", 0.2)
    client = client_of(server.url, client_name=key)
    assert running.call(_count(client, key)) == 1
    running.loop.call_soon_threadsafe(time.sleep, 1.5)
    begun = time.monotonic()
    asyncio.run(client.close())
    assert time.monotonic() - begun < 1
    running.call(asyncio.sleep(0.1))
    assert connections(server, key) == 0


# --- fork ---------------------------------------------------------------------------------------------------------


def exit_code_of_child(work: Callable[[], int]) -> int:
    """Fork; the child does *work* and exits with what it returns, and has 10 seconds."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            code = work()
            gc.collect()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_has_connections_of_its_own(
    server: Server, client: RedisClient, running: RunningLoop, key: str
) -> None:
    def in_child() -> int:
        reached = count(client, f"{key}:child", 50)
        begun = time.monotonic()
        asyncio.run(client.close())
        return reached if time.monotonic() - begun < 1 else 0  # it waited for its parent's loop

    assert running.call(_count(client, key)) == 1
    load = asyncio.run_coroutine_threadsafe(_count(client, key, 500), running.loop)
    assert [exit_code_of_child(in_child) for _ in range(3)] == [50, 100, 150]
    assert load.result(20) == 501
    assert connections(server, key) == 1


def test_a_forked_child_waits_for_none_of_its_parents_writers(server: Server, running: RunningLoop, key: str) -> None:
    """What the parent was about to do stays its own, and so do the turns that it had with a record."""
    storage = open_storage(server.url, client_name=key, statement_timeout=5)
    ended = threading.Event()

    async def update_until_the_end(name: str) -> int:
        number = 0
        while not ended.is_set():
            number += 1
            await storage.update("s", {"data": {name: number}}, type="session")
        return number

    async def updates_beside_an_open_transaction() -> list[int]:
        async with storage.transaction() as tx:
            await tx.load("t", type="note")
            return await asyncio.gather(*(update_until_the_end(f"n{number}") for number in range(8)))

    async def write_in_child() -> None:
        await storage.update("s", {"data": {"child": True}}, type="session")
        for number in range(5):
            await storage.save(note("t", {"number": number}))

    def in_child() -> int:
        begun = time.monotonic()
        asyncio.run(write_in_child())
        return 0 if time.monotonic() - begun < 3 else 1  # each turn that it waited for costs a second

    running.call(storage.save(session("s")))
    load = asyncio.run_coroutine_threadsafe(updates_beside_an_open_transaction(), running.loop)
    time.sleep(0.1)
    try:
        assert [exit_code_of_child(in_child) for _ in range(3)] == [0, 0, 0]
    finally:
        ended.set()
    reached = {f"n{number}": last for number, last in enumerate(load.result(20))}
    record = running.call(storage.load("s", type="session"))
    assert record["data"] == reached | {"child": True}
    running.call(storage.close())


def test_a_fork_within_a_running_loop_leaves_the_parents_connections_alone(
    server: Server, client: RedisClient, key: str
) -> None:
    def in_child() -> int:
        with ThreadPoolExecutor(1) as pool:  # this thread is taken: it is still in the loop that forked
            return pool.submit(count, client, f"{key}:child", 20).result(5)

    async def fork_and_count() -> list[int]:
        assert await _count(client, key) == 1
        codes = [exit_code_of_child(in_child) for _ in range(3)]
        assert await _count(client, key, 20) == 21
        return codes

    assert asyncio.run(fork_and_count()) == [20, 40, 60]


def test_a_child_finalizes_nothing_of_its_parent(
    server: Server, client: RedisClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)  # where the warning of an unclosed connection ends

    def in_child() -> int:
        gc.collect()
        return len(said)

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(_count(client, key)) == 1
    assert exit_code_of_child(in_child) == 0
    assert loop.run_until_complete(_count(client, key)) == 2
    loop.close()
