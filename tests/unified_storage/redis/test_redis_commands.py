"""What a Redis server is asked for, as it tells itself: nothing is scanned, and depth costs nothing."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.engines import fresh_namespace, private_server
from tests.servers import Server
from tests.unified_storage.redis.monitor import SCANNING, Monitor
from unified_storage import open_storage
from unified_storage.errors import StorageAlreadyExistsError, StorageConflictError
from unified_storage.testing.clock import NOON
from unified_storage.testing.drafts import body, gathered, note, save_all, session, together
from unified_storage.testing.promises.upkeep import VERBS

pytestmark = pytest.mark.servers
PATH = {"note": ["data.tag"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server("redis") as server:
        yield server


@pytest.fixture
def monitor(server: Server) -> Monitor:
    return Monitor([node.port for node in server.nodes])


@pytest.fixture
async def storage(server: Server) -> AsyncIterator[Any]:
    async with open_storage(server.url, namespace=fresh_namespace("rc"), indexed=PATH) as opened:
        yield opened


async def _filled(storage: Any, count: int) -> None:
    for start in range(0, count, 1000):
        await storage.restore(
            session(
                f"s{n:07}",
                {"n": n},
                metadata={"user_id": f"u{n % 100}", "status": "ab"[n % 2]},
                session_id=f"g{n % 50}",
                created_at=NOON + timedelta(microseconds=n),
                updated_at=NOON + timedelta(microseconds=2 * n),
            )
            for n in range(start, min(start + 1000, count))
        )


LISTINGS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "list": lambda storage: storage.list(),
    "list of a type": lambda storage: storage.list({"type": "session"}),
    "list by an indexed path": lambda storage: storage.list({"type": "session", "metadata.user_id": "u7"}),
    "list by another path": lambda storage: storage.list({"data.n": 7}),
    "list by update": lambda storage: storage.list({"type": "session", "updated_at": {"$gt": NOON}}),
    "list by ids": lambda storage: storage.list({"id": {"$in": ["s0000001", "s0000002"]}}),
    "group": lambda storage: storage.get_by_session("g7"),
    "stream": lambda storage: gathered(storage.stream_list(batch_size=50)),
    "page": lambda storage: storage.page(),
    "page by an indexed path": lambda storage: storage.page({"type": "session"}, order_by="-metadata.status"),
    "page of a user": lambda storage: storage.page({"type": "session", "metadata.user_id": "u7"}),
    "page of several": lambda storage: storage.page({"type": "session", "metadata.user_id": {"$in": ["u1", "u2"]}}),
    "count": lambda storage: storage.count(),
    "count by an indexed path": lambda storage: storage.count({"type": "session", "metadata.status": "a"}),
    "count by another path": lambda storage: storage.count({"data.n": {"$gt": 7}}),
    "query": lambda storage: storage.query("type = 'session' AND metadata.status = 'a' ORDER BY -updated_at LIMIT 5"),
    "logs": lambda storage: gathered(storage.logs()),
    "logs of a prefix": lambda storage: gathered(storage.logs("events/")),
    "clean-up": lambda storage: storage.cleanup_old_data(100_000),
    "purge": lambda storage: storage.purge_expired(),
}


async def test_no_listing_scans_the_keys(storage: Any, monitor: Monitor) -> None:
    """S1.28."""
    await _filled(storage, 300)
    await together(*(storage.append(f"events/s{n:07}", [body(n)]) for n in range(20)))
    for name, call in LISTINGS.items():
        async with monitor.listening() as told:
            await call(storage)
        names = told.names()
        assert names, name
        assert not SCANNING & names.keys(), name
        written = {"ZADD", "HSET", "ZREM", "UNLINK", "SADD", "EVALSHA", "EVAL"} & names.keys()
        assert not written or name == "purge", f"{name} wrote: {written}"


@pytest.mark.parametrize("order", ["-updated_at", "updated_at", "id", "-id", "-created_at", "-metadata.status"])
async def test_page_4000_touches_as_many_keys_as_page_2(storage: Any, monitor: Monitor, order: str, scaled) -> None:
    limit, pages = 5, scaled(4000, minimum=200)
    await _filled(storage, (pages + 2) * limit)
    counts = []
    for skipped in (limit, pages * limit):
        cursor = (await storage.page({"type": "session"}, limit=skipped, order_by=order, with_data=False)).next_cursor
        async with monitor.listening() as told:
            page = await storage.page({"type": "session"}, limit=limit, order_by=order, cursor=cursor)
        assert len(page.items) == limit
        counts.append(told.names())
    assert counts[0] == counts[1]
    assert counts[0]["HMGET"] == limit + 1


@pytest.mark.parametrize("size", [300, 3000])
async def test_a_page_of_a_user_reads_his_sessions_and_no_others(storage: Any, monitor: Monitor, size: int) -> None:
    await _filled(storage, size)
    async with monitor.listening() as told:
        page = await storage.page({"type": "session", "metadata.user_id": "u7"}, limit=2)
    assert len(page.items) == 2
    assert told.names() == {"ZRANGE": 1, "EVALSHA_RO": 2, "HMGET": 3}


async def test_a_page_that_ends_in_a_tie_asks_no_more_often(storage: Any, monitor: Monitor) -> None:
    """As after an import, where many were written at the same moment."""
    await storage.restore(session(f"s{n:03}", created_at=NOON, updated_at=NOON) for n in range(200))
    async with monitor.listening() as told:
        page = await storage.page({"type": "session"}, limit=5)
    assert [record["id"] for record in page.items] == [f"s{n:03}" for n in range(5)]
    assert told.asked == 2
    assert told.names()["HMGET"] == 6


async def test_the_rarer_of_two_indexed_values_is_looked_up(storage: Any, monitor: Monitor) -> None:
    await _filled(storage, 1000)
    async with monitor.listening() as told:
        found = await storage.list({"type": "session", "metadata.status": "b", "metadata.user_id": "u7"})
    assert len(found) == 10
    assert told.names()["HMGET"] == 10


async def test_what_is_counted_is_not_read(storage: Any, monitor: Monitor) -> None:
    await _filled(storage, 1000)
    async with monitor.listening() as told:
        assert await storage.count() == 1000
        assert await storage.count({"type": "session"}) == 1000
        assert await storage.count({"type": "session", "metadata.status": "a"}) == 500
    assert told.names()["HMGET"] == 0


async def test_documents_that_are_not_wanted_are_not_read(storage: Any, monitor: Monitor) -> None:
    await _filled(storage, 50)
    await save_all(storage, [note(f"{n}", {"tag": 1}) for n in range(30)])
    async with monitor.listening() as told:
        await storage.list(with_data=False)
        await storage.page({"type": "session", "metadata.user_id": "u7"}, with_data=False)
        await storage.count({"metadata.status": {"$like": "a%"}})
        await storage.list({"type": "note", "data.tag": 1}, with_data=False)
        await storage.exists("s0000001")
        await storage.append("events/s0000001", [body(1)])
    read = [each.words for each in told.commands if each.name in ("HMGET", "HGETALL", "HGET")]
    assert len(read) > 100
    assert not [words for words in read if "d" in words[2:] or words[0].upper() == "HGETALL"]


async def test_an_append_costs_the_same_at_any_length(storage: Any, monitor: Monitor, scaled) -> None:
    await storage.save(session("s", metadata={"user_id": "u", "status": "a"}))
    counts = []
    for length in (10, scaled(100_000, minimum=5000)):
        while (info := await storage.log_info("events/s")) is None or info["count"] < length:
            await storage.append("events/s", [body(n) for n in range(min(length, 1000))])
        async with monitor.listening() as told:
            await storage.append("events/s", [body("new", f"key{length}")])
            await storage.read("events/s", last=20)
            await storage.append("events/s", [body("newer")], keep_last=info["count"] + 1)
            await storage.pop("events/s")
        counts.append(told.names())
    assert counts[0] == counts[1]


ONE_ROUND: dict[str, Callable[[Any], Awaitable[object]]] = {
    "load": lambda storage: storage.load("s", type="session"),
    "load of any type": lambda storage: storage.load("s"),
    "exists": lambda storage: storage.exists("s"),
    "save": lambda storage: storage.save(session("s")),
    "save of a version": lambda storage: storage.save(session("n"), expected_version=0),
    "batch": lambda storage: storage.batch_save([note("a"), note("b")]),
    "append": lambda storage: storage.append("events/s", [body(1, "k")], keep_last=5),
    "pop": lambda storage: storage.pop("events/s"),
    "rewrite": lambda storage: storage.rewrite("events/s", [body(1)]),
    "log_info": lambda storage: storage.log_info("events/s"),
    "logs": lambda storage: gathered(storage.logs("none")),
    "purge": lambda storage: storage.purge_expired(),
}


@pytest.mark.parametrize("verb", ONE_ROUND)
async def test_simple_verbs_are_one_command(storage: Any, monitor: Monitor, verb: str) -> None:
    """Also where the server refuses."""
    await storage.save(session("s"))
    await ONE_ROUND[verb](storage)  # the server knows the script by now
    async with monitor.listening() as told:
        with contextlib.suppress(StorageConflictError, StorageAlreadyExistsError):
            await ONE_ROUND[verb](storage)
    assert told.asked == 1, told.commands


async def test_a_transaction_is_sent_as_one_script(storage: Any, monitor: Monitor) -> None:
    """S2.26."""
    await save_all(storage, [session("s"), note("n")])
    async with monitor.listening() as told, storage.transaction() as tx:
        await tx.update("s", {"data": {"x": 1}}, type="session")
        await tx.append("events/s", [body(1)])
        await tx.save(note("n", {"tag": 1}))
        await tx.delete("n", type="note")
        await tx.batch_save([note(f"{n}") for n in range(10)])
    sent = [each.name for each in told.commands if not each.by_script]
    assert [name for name in sent if name in ("EVALSHA", "EVAL")] == ["EVALSHA"]
    assert sent[-1] == "EVALSHA"
    assert not {"MULTI", "EXEC", "WATCH"} & {*sent}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    with private_server("redis-cluster") as server:
        yield server


@pytest.mark.timeout(300)
async def test_a_script_touches_keys_of_its_own_slot_only(cluster: Server) -> None:
    """S1.28: what small tests let pass, since a node has many slots, is looked at key by key."""
    monitor = Monitor([node.port for node in cluster.nodes])
    namespace = fresh_namespace("rc")
    touched = Counter[str]()
    async with open_storage(cluster.url, namespace=namespace, indexed=PATH) as storage:
        await save_all(storage, [session(f"s{n}", metadata={"user_id": "u"}, session_id="s") for n in range(30)])
        async with monitor.listening() as told:
            for id in ("s", "s1", "s2"):
                await storage.save(
                    session(id, metadata={"user_id": "u"}, session_id="s", expires_at=NOON.replace(year=9000))
                )
                await storage.append(f"events/{id}", [body(1, "k")], on_duplicate="replace", keep_last=1)
            for verb, call in VERBS.items():
                await storage.save(session("s"))
                if not verb.startswith("batch"):
                    await call(storage)
            await storage.save(session("s"))
            async with storage.transaction() as tx:
                await tx.update("s", {"metadata": {"user_id": "v"}})
                await tx.rewrite("events/s", [body(1)])
            await storage.delete("s1", cascade=True)
            await storage.page({"type": "session"}, order_by="metadata.user_id")
    tag = ""
    for command in told.commands:
        if not command.by_script:
            tag = command.words[3] if command.name.startswith("EVAL") else ""
            continue
        if command.name in ("SCAN", "CLUSTER"):  # an examination's, which name no key
            continue
        keys = command.words[1:] if command.name == "UNLINK" else command.words[1:2]
        assert all(key.startswith(tag.removesuffix("meta")) for key in keys), command
        touched[command.name] += 1
    assert touched["ZADD"] > 20
    assert touched["UNLINK"] > 2
