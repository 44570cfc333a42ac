"""Jobs that wait together: sent together, each with an end of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace, redis_client
from unified_storage import open_storage
from unified_storage.backends.redis import commits
from unified_storage.backends.redis.scripts import COMMIT
from unified_storage.errors import (
    StorageConflictError,
    StorageConnectionError,
    StorageIntegrityError,
    StorageNotFoundError,
    StorageTimeoutError,
)
from unified_storage.testing.drafts import bodies, body, note, save_all, session, together

pytestmark = pytest.mark.servers


class Gate:
    """A client whose writing calls wait, while it is closed, until they are let through."""

    def __init__(self, client: Any) -> None:
        self.is_closed = False
        self.jobs: list[int] = []
        """How many jobs each call had."""
        self.failure: Exception | None = None
        self._arrived = asyncio.Semaphore(0)
        self._let_through = asyncio.Semaphore(0)
        self._inner = client.run
        client.run = self.run

    def close(self) -> None:
        self.jobs.clear()
        self.is_closed = True

    async def run(self, script: Any, keys: Any, arguments: Any, **options: Any) -> Any:
        if script is COMMIT:
            self.jobs.append(arguments[0])
            if self.is_closed:
                self._arrived.release()
                await self._let_through.acquire()
            if self.failure is not None:
                raise self.failure
        return await self._inner(script, keys, arguments, **options)

    async def wait_for(self, calls: int) -> None:
        """Until so many more calls stand before it, and all other tasks have had their turn."""
        async with asyncio.timeout(5):
            for _ in range(calls):
                await self._arrived.acquire()
        for _ in range(5):
            await asyncio.sleep(0)

    def let(self, calls: int) -> None:
        """Let so many calls through."""
        for _ in range(calls):
            self._let_through.release()

    def open(self) -> None:
        self.is_closed = False
        self.let(100)


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    name = fresh_namespace("rs")
    yield name
    await drop_namespace(engine_url("redis"), name)


@pytest.fixture
async def storage(namespace: str) -> AsyncIterator[Any]:
    async with open_storage(engine_url("redis"), namespace=namespace) as opened:
        yield opened


@pytest.fixture
def gate(storage: Any) -> Gate:
    return Gate(storage._client)


async def two_under_way_and_others(storage: Any, gate: Gate, others: int) -> list[asyncio.Task[Any]]:
    """Appends to logs of their own: as many calls as there may be at once stand before the gate, the others wait."""
    tasks = []
    for n in range(2 + others):
        tasks.append(asyncio.create_task(storage.append(f"events/s{n}", [body(n)])))
        if n == 1:
            await gate.wait_for(2)
    await gate.wait_for(0)
    return tasks


async def test_what_comes_together_is_sent_together(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(64)])
    gate.jobs.clear()
    assert await together(*(storage.append(f"events/s{n}", [body(n)]) for n in range(64))) == [[1]] * 64
    assert gate.jobs == [1, commits._MOST_TOGETHER, 63 - commits._MOST_TOGETHER]
    for n in range(64):
        assert await bodies(storage, f"events/s{n}") == [n]


async def test_those_who_were_answered_together_ask_again_together(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(64)])
    gate.jobs.clear()

    async def append_often(n: int) -> None:
        for _ in range(10):
            await storage.append(f"events/s{n}", [body(n)])

    await together(*(append_often(n) for n in range(64)))
    assert sum(gate.jobs) == 640
    assert len(gate.jobs) < 30


async def test_large_ones_do_not_travel_with_each_other(storage: Any, gate: Gate, monkeypatch) -> None:
    monkeypatch.setattr(commits, "_MOST_BYTES", 10_000)
    await together(*(storage.save(note(f"{n}", {"t": "x" * 4000})) for n in range(30)))
    assert max(gate.jobs) <= 2
    assert await storage.count() == 30


async def test_each_has_its_own_refusal(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session("s"), session("t")])
    calls: list[Any] = []
    for n in range(8):
        calls += [
            storage.append("events/s", [body(n)]),
            storage.append("events/nobody", [body(n)]),
            storage.save(session("t"), expected_version=99),
            storage.pop("runs/t"),
        ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(outcome[0] for outcome in outcomes[::4] if isinstance(outcome, list)) == [*range(1, 9)]
    assert {type(outcome) for outcome in outcomes[1::4]} == {StorageNotFoundError}
    assert {type(outcome) for outcome in outcomes[2::4]} == {StorageConflictError}
    assert outcomes[3::4] == [None] * 8
    assert max(gate.jobs) > 1


async def test_damage_fails_the_one_who_meets_it(storage: Any, gate: Gate, namespace: str) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(20)])
    async with redis_client(engine_url("redis")) as client:
        await client.hset(f"us:{namespace}:{{p00}}:r:session:s7", "h", b"\xc1")
    calls = [storage.append(f"events/s{n}", [body(n)]) for n in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes.pop(7), StorageIntegrityError)
    assert outcomes == [[1]] * 19
    assert max(gate.jobs) > 1


async def test_a_cancelled_one_that_waits_is_never_done(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(6)])
    gate.close()
    tasks = await two_under_way_and_others(storage, gate, 4)
    tasks[4].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(tasks[4], 1)
    gate.open()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [await bodies(storage, f"events/s{n}") for n in range(6)] == [[0], [1], [2], [3], [], [5]]


async def test_a_cancelled_one_that_was_sent_is_waited_for(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(6)])
    gate.close()
    tasks = await two_under_way_and_others(storage, gate, 4)
    gate.let(1)
    await gate.wait_for(1)
    assert gate.jobs == [1, 1, 4]
    tasks[4].cancel()
    await asyncio.wait([tasks[4]], timeout=0.05)
    assert not tasks[4].done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(tasks[4], 5)
    assert await bodies(storage, "events/s4") == [4]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await storage.append("events/s4", [body("free")]) == [2]


async def test_one_that_waits_too_long_is_given_up_unsent(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(4)])
    storage._store._commits._timeout = 0.05
    gate.close()
    tasks = await two_under_way_and_others(storage, gate, 2)
    await asyncio.sleep(0.1)
    storage._store._commits._timeout = 30
    gate.open()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[:2] == [[1], [1]]
    for outcome in outcomes[2:]:
        assert isinstance(outcome, StorageTimeoutError)
        assert outcome.retryable
    assert await storage.log_info("events/s3") is None
    assert await storage.append("events/s3", [body(3)]) == [1]


async def test_a_lost_call_is_told_to_each_of_its_callers(storage: Any, gate: Gate) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(6)])
    gate.close()
    gate.failure = StorageConnectionError("lost", details={"outcome": "unknown"}, retryable=False)
    tasks = await two_under_way_and_others(storage, gate, 4)
    gate.open()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, StorageConnectionError)
        assert outcome.details == {"outcome": "unknown"}
    assert len({id(outcome) for outcome in outcomes[2:]}) == 4
    gate.failure = None
    assert await together(*(storage.append(f"events/s{n}", [body(n)]) for n in range(6))) == [[1]] * 6


async def test_a_loop_that_ends_in_the_middle_leaves_the_others_free(storage: Any) -> None:
    await storage.save(session("s"))

    async def leave_in_the_middle() -> None:
        tasks = [asyncio.create_task(storage.append("events/s", [body(n)])) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del tasks

    for _ in range(3):
        await asyncio.to_thread(asyncio.run, leave_in_the_middle())
    async with asyncio.timeout(10):
        numbers = await together(*(storage.append("events/s", [body(n)]) for n in range(50)))
    assert len({seq for (seq,) in numbers}) == 50
    found = [entry["seq"] for entry in await storage.read("events/s")]
    assert found == [*range(1, len(found) + 1)]
