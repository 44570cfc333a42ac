"""What is particular about a store on Redis: its keys, its incarnations, its paths, its transactions."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace, redis_client
from tests.unified_storage.redis.whole import assert_whole, stored
from unified_storage import DELETE, open_storage
from unified_storage.backends.redis import logs, record_turns
from unified_storage.backends.redis.client import Script
from unified_storage.backends.redis.partitions import escaped, time_of, time_text, unescaped
from unified_storage.backends.redis.scripts import COMMIT, FILL, RECORDS
from unified_storage.errors import (
    StorageConfigurationError,
    StorageConflictError,
    StorageError,
    StorageIntegrityError,
    StorageTransactionError,
    StorageUnsupportedError,
    StorageValidationError,
)
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.differential import INDEXED
from unified_storage.testing.drafts import body, gathered, ids, note, save_all, session, together
from unified_storage.testing.drafts import stored as stored_record
from unified_storage.testing.nasty import Nasty
from unified_storage.times import micros, moment

LOG = "events/s"


class Place:
    """An empty store on one of the servers."""

    def __init__(self, engine: str) -> None:
        self.url = engine_url(engine)
        self.namespace = fresh_namespace("rs")
        self.partitions = 64 if engine == "redis-cluster" else 1

    def open(self, **options: Any) -> Any:
        return open_storage(self.url, namespace=self.namespace, **options)

    async def assert_whole(self) -> int:
        return await assert_whole(self.url, self.namespace, self.partitions)


pytestmark = pytest.mark.servers
BOTH = pytest.mark.parametrize("engine", ["redis", "redis-cluster"])


@pytest.fixture
def engine() -> str:
    return "redis"


@pytest.fixture
async def place(engine: str) -> AsyncIterator[Place]:
    found = Place(engine)
    yield found
    await drop_namespace(found.url, found.namespace)


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[Any]:
    async with place.open() as opened:
        yield opened


def before_next(client: Any, call: str, script: Script, interrupt: Callable[[], Awaitable[object]]) -> None:
    """Do something in between: just before *client* runs *script* for the next time."""
    inner = getattr(client, call)

    async def interrupted(first: Any, *others: Any, **options: Any) -> Any:
        if first is script or (call == "ask" and any(script.sha in command for command in first)):
            setattr(client, call, inner)
            await interrupt()
        return await inner(first, *others, **options)

    setattr(client, call, interrupted)


# -- texts --------------------------------------------------------------------------------------------------------


def test_times_keep_their_order_as_texts() -> None:
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    moments += [datetime(1970, 1, 1, tzinfo=UTC), NOON, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    times = [micros(moment) for moment in moments]
    texts = [time_text(time) for time in times]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {18}
    assert [time_of(text) for text in texts] == times


def test_keys_keep_their_order_and_none_begins_with_another() -> None:
    keys = [
        b"",
        b"\0",
        b"\0\0",
        b"\0\1",
        b"\0\xff",
        b"\1",
        b"a",
        b"a\0",
        b"a\0\1",
        b"a\0b",
        b"a\1",
        b"ab",
        b"\xff",
        b"\xff\0",
    ]
    made = [escaped(key) for key in keys]
    assert made == sorted(made)
    assert [unescaped(each) for each in made] == keys
    assert not any(one != other and other.startswith(one) for one in made for other in made)


# -- what is stored -----------------------------------------------------------------------------------------------


def _chance_call(chance: random.Random, storage: Any, nasty: Nasty) -> Any:
    """Some verb, on few enough records that calls meet."""
    record = nasty.records(1)[0]
    record.pop("updated_at")
    id, kind = record["id"], record["type"]
    log_id = f"{chance.choice(['events', 'runs'])}@{kind}/{id}"
    entries = [body(nasty.value(1), chance.choice([None, "k1", "k2"])) for _ in range(chance.randrange(3))]
    match chance.randrange(12):
        case 0 | 1 | 2:
            return storage.save(record)
        case 3:
            return storage.update(id, {"data": {"a": nasty.value(1), "b": DELETE}, "session_id": "a"}, type=kind)
        case 4:
            return storage.update(id, {"metadata": None, "expires_at": record["expires_at"]}, type=kind)
        case 5 | 6:
            return storage.append(log_id, entries, on_duplicate=chance.choice(["skip", "replace", "error"]))
        case 7:
            return storage.append(log_id, entries, keep_last=chance.randrange(3))
        case 8:
            return storage.pop(log_id)
        case 9:
            return storage.rewrite(log_id, entries)
        case 10:
            return storage.delete(id, type=kind, cascade=chance.random() < 0.3)
    stored_log = {"log_id": log_id, "last_seq": 7, "entries": [{"seq": 5, "key": "k1", "body": 1, "created_at": NOON}]}
    return storage.restore([record | {"updated_at": NOON}], [stored_log])


@BOTH
async def test_whatever_is_done_the_sets_say_what_the_records_say(place: Place, scaled) -> None:
    """S1.28. Verbs, transactions and clean-ups, from two storages at once."""
    clock = ManualClock()
    async with place.open(clock=clock, indexed=INDEXED) as one, place.open(clock=clock, indexed=INDEXED) as other:
        nasty, chance = Nasty(7), random.Random(7)

        async def in_a_transaction(storage: Any) -> None:
            async with storage.transaction() as tx:
                for _ in range(3):
                    await _chance_call(chance, tx, nasty)

        async def attempt(call: Any) -> None:
            with contextlib.suppress(
                StorageConflictError, StorageUnsupportedError, StorageTransactionError, StorageError
            ):
                await call

        for _ in range(scaled(2000, minimum=60)):
            calls = [_chance_call(chance, storage, nasty) for storage in (one, other) for _ in range(4)]
            await together(*map(attempt, [*calls, in_a_transaction(one), in_a_transaction(other)]))
            clock.advance(seconds=chance.randrange(2), microseconds=1)
            if chance.random() < 0.05:
                await one.purge_expired()
        assert await place.assert_whole() > 10
        everything = await one.list({"type": {"$in": ["session", "note", "_sys"]}}, with_data=False)
        for record in everything:
            await other.delete(record["id"], type=record["type"])
        await other.purge_expired()
        assert await place.assert_whole() == 0
    names = {name for part in (await stored(place.url, place.namespace)).values() for name in part.hashes}
    assert names <= {b"meta", b"paths"}


async def test_namespaces_see_nothing_of_each_other(place: Place) -> None:
    other = fresh_namespace("rs")
    async with place.open() as storage, open_storage(place.url, namespace=other) as beside:
        await storage.save(session("s", metadata={"status": "x"}))
        await storage.append(LOG, [body(1)])
        assert await beside.count() == 0
        assert await gathered(beside.logs()) == []
    await drop_namespace(place.url, other)


@pytest.mark.parametrize("namespace", ["A", "a b", "{p00}", "1a", "a" * 32, "a:b"])
def test_a_namespace_that_is_none_is_refused(namespace: str) -> None:
    with pytest.raises(StorageConfigurationError):
        open_storage("redis://127.0.0.1:1/0", namespace=namespace)


async def test_times_far_from_now_move_on_by_a_microsecond(place: Place) -> None:
    """The server counts in floats, which have not room for them."""
    clock = ManualClock()
    async with place.open(clock=clock) as storage:
        far = moment(time_of("283986999999999999"))  # all of its lower half turns over
        for id, when in (
            ("far", far),
            ("last", datetime.max.replace(tzinfo=UTC)),
            ("early", datetime(1, 1, 1, tzinfo=UTC)),
        ):
            await storage.restore([session(id, created_at=NOON, updated_at=when)])
            await storage.append(f"events/{id}", [body(1)])
        moved = {record["id"]: record["updated_at"] for record in await storage.list()}
        assert moved["far"] == far + timedelta(microseconds=1)
        assert moved["last"] == datetime.max.replace(tzinfo=UTC)
        assert moved["early"] == NOON
        await storage.update("far", {})
        assert (await storage.load("far"))["updated_at"] == far + timedelta(microseconds=2)
        assert ids((await storage.page(order_by="-updated_at")).items) == ["last", "far", "early"]
    await place.assert_whole()


async def test_numbers_of_entries_that_are_no_exact_scores_are_refused(storage: Any) -> None:
    log = {"log_id": LOG, "last_seq": 2**53, "entries": []}
    with pytest.raises(StorageValidationError):
        await storage.restore([session("s", created_at=NOON, updated_at=NOON)], [log])
    assert await storage.count() == 0
    await storage.restore([session("s", created_at=NOON, updated_at=NOON)], [log | {"last_seq": 2**53 - 3}])
    assert await storage.append(LOG, [body(1), body(2)]) == [2**53 - 2, 2**53 - 1]
    assert (await storage.log_info(LOG))["last_seq"] == 2**53 - 1


async def test_thousands_at_once_go_in_one_step(storage: Any) -> None:
    """More than a Lua call may have results."""
    await storage.save(session("s"))
    numbers = [*range(1, 10_001)]
    assert await storage.append(LOG, [body(n, f"k{n}") for n in numbers]) == numbers
    assert await storage.append(LOG, [body(n, f"k{n}") for n in numbers], on_duplicate="replace") == numbers
    assert await storage.rewrite(LOG, [body(n) for n in numbers]) == [n + 10_000 for n in numbers]
    assert len(await storage.batch_save(note(f"{n:05}") for n in range(5000))) == 5000
    assert await storage.count({"type": "note"}) == 5000
    assert await storage.batch_delete(f"{n:05}" for n in range(5000)) == 5000


async def test_damage_costs_the_record_it_is_in(place: Place, storage: Any) -> None:
    await save_all(
        storage, [session(id, {"x": 1}, metadata={"m": 1}) for id in ("head", "data", "meta", "gone", "well")]
    )
    for id in ("head", "well"):
        await storage.append(f"events/{id}", [body(1), body(2)])
    key = f"us:{place.namespace}:{{p00}}:r:session:"
    async with redis_client(place.url) as client:
        await client.hset(f"{key}head", "h", b"\x00")
        await client.hset(f"{key}data", "d", b'{"x": ')
        await client.hset(f"{key}meta", "m", b"[1]")
        await client.hdel(f"{key}gone", "d")
    for id in ("head", "data", "meta", "gone"):
        with pytest.raises(StorageIntegrityError) as damage:
            await storage.load(id, type="session")
        assert damage.value.details == {"id": id, "type": "session"}
    assert (await storage.load("well"))["data"] == {"x": 1}
    assert [entry["body"] for entry in await storage.read("events/well")] == [1, 2]
    entries = f"us:{place.namespace}:{{p00}}:e:events/well"
    async with redis_client(place.url) as client:
        await client.zadd(entries, {b"3\x00" + time_text(0).encode() + b"\x00\x00{": 3})
    with pytest.raises(StorageIntegrityError) as damage:
        await storage.read("events/well")
    assert damage.value.details["seq"] == 3
    assert len(await storage.read("events/well", before=3)) == 2


# -- schema and paths ---------------------------------------------------------------------------------------------


async def test_a_store_of_a_later_schema_is_refused(place: Place) -> None:
    async with place.open() as storage:
        await storage.save(note("a"))
        assert (await storage.health_check())["schema"] == 1
    async with redis_client(place.url) as client:
        await client.hset(f"us:{place.namespace}:{{p00}}:meta", "schema", 2)
    for _ in range(2):
        later = place.open()
        with pytest.raises(StorageConfigurationError) as refusal:
            await later.load("a")
        assert refusal.value.details == {"found": 2, "known": 1}
        await later.close()


@BOTH
async def test_who_does_not_know_a_new_path_still_writes_its_keys(place: Place) -> None:
    async with place.open() as earlier:
        await save_all(earlier, [note(f"old{n}", {"tag": n % 2}) for n in range(20)])
        async with place.open(indexed={"note": ["data.tag"]}) as later:
            await save_all(earlier, [note(f"new{n}", {"tag": n % 2}) for n in range(20)])
            await earlier.update("old1", {"data": {"tag": 0}})
            async with contextlib.AsyncExitStack() as stack:
                if place.partitions == 1:
                    tx = await stack.enter_async_context(earlier.transaction())
                    await tx.save(note("newest", {"tag": 0}))
            found = await later.list({"type": "note", "data.tag": 0})
            assert len(found) == 21 + (place.partitions == 1)
    await place.assert_whole()


async def test_a_value_that_goes_while_its_path_is_filled_is_found_no_more(place: Place) -> None:
    async with place.open() as writing:
        await save_all(writing, [note(id, {"tag": 1}) for id in ("a", "anew", "appended", "bare", "deleted")])

        async def change() -> None:
            await writing.save(note("a"))
            await writing.delete("bare")
            await writing.save(note("bare"))  # anew, in the version that was read
            await writing.delete("deleted")
            await writing.delete("anew")
            await writing.save(note("anew", {"tag": 2}))
            await writing.append("log@note/appended", [body(1)])

        filling = place.open(indexed={"note": ["data.tag"]})
        before_next(filling._client, "run", FILL, change)
        async with filling:
            assert ids(await filling.list({"type": "note", "data.tag": 1})) == ["appended"]
            assert await filling.count({"type": "note", "data.tag": 1}) == 1
    await place.assert_whole()


@BOTH
async def test_paths_are_filled_while_others_write(place: Place, scaled) -> None:
    total = scaled(20_000, minimum=500)
    async with place.open() as writing:
        for start in range(0, total, 100):
            await together(*(writing.save(note(f"{n:06}", {"tag": n % 7})) for n in range(start, start + 100)))

        async def write() -> None:
            chance = random.Random(3)
            for _ in range(total):
                id = f"{chance.randrange(total):06}"
                match chance.randrange(3):
                    case 0:
                        await writing.append(f"log@note/{id}", [body(1)])
                    case 1:
                        await writing.update(id, {"data": {"tag": chance.randrange(7)}})
                    case _:
                        await writing.save(note(id, {"tag": None}))

        busy = asyncio.create_task(write())
        async with place.open(indexed={"note": ["data.tag"]}) as reading:
            for tag in range(7):
                await reading.list({"type": "note", "data.tag": tag}, with_data=False)
            await busy
            for tag in range(7):
                found = await reading.list({"type": "note", "data.tag": tag})
                assert {record["data"]["tag"] for record in found} == {tag}
            counted = [await reading.count({"type": "note", "data.tag": tag}) for tag in range(7)]
            everything = await reading.list({"type": "note"})
            assert sum(counted) == sum(record["data"]["tag"] is not None for record in everything)
    assert await place.assert_whole() == total


async def test_a_damaged_record_does_not_keep_a_store_from_being_opened(place: Place) -> None:
    async with place.open() as storage:
        await save_all(storage, [note("bad", {"tag": 1}), note("good", {"tag": 1})])
    async with redis_client(place.url) as client:
        await client.hset(f"us:{place.namespace}:{{p00}}:r:note:bad", "d", b"{")
    async with place.open(indexed={"note": ["data.tag"]}) as storage:
        assert ids(await storage.list({"type": "note", "data.tag": 1})) == ["good"]


@pytest.mark.parametrize("order", ["version", "-version", "session_id", "data", "-metadata"])
async def test_columns_and_whole_documents_may_be_named_as_indexed(place: Place, order: str) -> None:
    """They have no sorted set, so a page reads and sorts; the answer is that of the reference."""
    named = {"note": ["version", "session_id", "data", "metadata", "type"]}
    async with place.open(indexed=named) as storage, open_storage("memory://", indexed=named) as memory:
        for each in (storage, memory):
            await save_all(each, [note(f"{n}", {"n": n}, session_id=f"s{n % 3}" if n % 2 else None) for n in range(9)])
            for n in range(4):
                await each.update(f"{n}", {"metadata": {"m": n}})
            await each.save(session("0"))
        assert ids((await storage.page(order_by=order, limit=4)).items) == ids(
            (await memory.page(order_by=order, limit=4)).items
        )
        assert ids((await storage.page(order_by=order)).items) == ids((await memory.page(order_by=order)).items)


async def test_paths_of_every_spelling_can_be_indexed(place: Place) -> None:
    names = ["{p00}", "a:b", "a b", "we.ird", "é🙂", "", "x" * 300]
    paths = ["data.{p00}", "data.a:b", "data.a b", r"data.we\.ird", "data.é🙂", "data.", f"data.{'x' * 300}"]
    for _ in range(2):
        async with place.open(indexed={"note": paths}) as storage:
            for n, (name, path) in enumerate(zip(names, paths, strict=True)):
                await storage.save(note(f"{n}", {name: n}))
                assert ids(await storage.list({"type": "note", path: n})) == [f"{n}"]
                assert ids((await storage.page({"type": "note"}, order_by=f"-{path}", limit=1)).items) == [f"{n}"]
    await place.assert_whole()


async def test_a_server_that_forgot_everything_is_a_new_store(place: Place) -> None:
    async with place.open() as storage:
        await storage.save(session("s", metadata={"status": "x"}))
        await drop_namespace(place.url, place.namespace)
        assert await storage.load("s") is None
        await storage.save(session("s", {"new": True}, metadata={"status": "y"}))
        assert ids(await storage.list({"type": "session", "metadata.status": "y"})) == ["s"]


# -- pages --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("order", ["-updated_at", "updated_at", "-created_at", "-metadata.status", "metadata.status"])
@pytest.mark.parametrize("limit", [1, 2, 7, 30])
async def test_long_ties_are_cut_by_pages_anywhere(place: Place, order: str, limit: int) -> None:
    async with place.open() as storage:
        records = [
            session(
                f"{n * 37 % 60:02}",
                metadata={"status": [None, "a", "b"][n // 25]},
                created_at=NOON + timedelta(seconds=n // 20),
                updated_at=NOON + timedelta(seconds=n // 28),
            )
            for n in range(60)
        ]
        await storage.restore(records)
        whole = ids((await storage.page({"type": "session"}, order_by=order, limit=100)).items)
        async with open_storage("memory://") as memory:
            await memory.restore(records)
            assert whole == ids((await memory.page({"type": "session"}, order_by=order, limit=100)).items)
        seen: list[str] = []
        cursor = None
        for filters in (None, {"type": "session"}):
            while True:
                page = await storage.page(filters, order_by=order, limit=limit, cursor=cursor)
                seen += ids(page.items)
                cursor = page.next_cursor
                if cursor is None:
                    break
        assert seen == whole * 2


async def test_a_page_shows_a_record_that_moves_while_it_is_read(place: Place) -> None:
    """Found in a sorted set, then moved by an append before it is looked at: it stays where it was found."""
    async with place.open() as storage, place.open() as other:
        await save_all(storage, [session(f"s{n}") for n in range(10)])
        before_next(storage._client, "ask", RECORDS, lambda: other.append("events/s5", [body(1)]))
        page = await storage.page({"type": "session"}, limit=5)
        assert ids(page.items) == ["s9", "s8", "s7", "s6", "s5"]
        assert page.items[-1]["version"] == 2
        following = await storage.page({"type": "session"}, limit=9, cursor=page.next_cursor)
        assert ids(following.items) == ["s4", "s3", "s2", "s1", "s0"]


# -- reading logs -------------------------------------------------------------------------------------------------


async def test_every_part_of_a_long_log_is_read_as_from_memory(place: Place, scaled) -> None:
    chance = random.Random(11)
    async with place.open() as storage, open_storage("memory://") as memory:
        for each in (storage, memory):
            await each.save(session("s"))
        entries = [body(n, created_at=NOON + timedelta(minutes=chance.randrange(600))) for n in range(1000)]
        for each in (storage, memory):
            await each.append(LOG, entries)
            for _ in range(5):
                await each.pop(LOG)
            await each.append(LOG, entries[:20], keep_last=900)
        for _ in range(scaled(2000, minimum=100)):
            part: dict[str, Any] = {"after": chance.choice([0, chance.randrange(1100)])}
            part["before"] = chance.choice([None, chance.randrange(1100)])
            part["since"] = chance.choice([None, NOON + timedelta(minutes=chance.randrange(650))])
            part[chance.choice(["last", "limit"])] = chance.choice([None, 0, 1, 5, 300, 2000, 2**63 - 1])
            assert await storage.read(LOG, **part) == await memory.read(LOG, **part), part


@BOTH
async def test_log_ids_of_all_partitions_are_merged_in_small_batches(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(logs, "_LOG_IDS_AT_ONCE", 3)
    chance = random.Random(4)
    names = sorted({f"{chance.randrange(100):02}/s{chance.randrange(40)}" for _ in range(300)})
    async with place.open() as storage:
        await together(*(storage.save(session(f"s{n}")) for n in range(39)))
        await together(*(storage.append(name, [body(1)]) for name in names if not name.endswith("/s39")))
        there = [name for name in names if not name.endswith("/s39")]
        assert await gathered(storage.logs()) == there
        assert await gathered(storage.logs("4")) == [name for name in there if name.startswith("4")]
        async with storage.transaction() as tx:
            await tx.rewrite("50x/s1", [])
            assert await gathered(tx.logs("5")) == sorted([name for name in there if name.startswith("5")] + ["50x/s1"])


# -- transactions -------------------------------------------------------------------------------------------------


async def test_a_record_made_anew_with_the_same_version_is_another_one(storage: Any) -> None:
    await storage.save(note("a", {"n": 1}))
    with pytest.raises(StorageConflictError) as conflict:
        async with storage.transaction() as tx:
            assert (await tx.load("a"))["version"] == 1

            async def make_anew() -> None:
                await storage.delete("a")
                await storage.save(note("a", {"n": 2}))

            await asyncio.create_task(make_anew())
            await tx.save(note("a", {"n": 3}))
    assert conflict.value.retryable
    assert (await storage.load("a"))["data"] == {"n": 2}


@pytest.mark.parametrize("looking", ["load", "load_untyped", "exists_untyped", "list_id"])
@pytest.mark.parametrize("writing", ["save", "batch_save", "restore"])
async def test_what_a_transaction_did_not_find_must_not_have_come(place: Place, looking: str, writing: str) -> None:
    """Of two processes, which take no turns with each other."""
    ours = note("a", {"ours": 1})
    look: Callable[[Any], Awaitable[Any]] = {
        "load": lambda tx: tx.load("a", type="note"),
        "load_untyped": lambda tx: tx.load("a"),
        "exists_untyped": lambda tx: tx.exists("a"),
        "list_id": lambda tx: tx.list({"id": "a"}),
    }[looking]
    write: Callable[[Any], Awaitable[Any]] = {
        "save": lambda tx: tx.save(ours),
        "batch_save": lambda tx: tx.batch_save([ours]),
        "restore": lambda tx: tx.restore([ours]),
    }[writing]
    async with place.open() as one, place.open() as other:
        with pytest.raises(StorageConflictError) as conflict:
            async with one.transaction() as tx:
                assert not await look(tx)
                await asyncio.create_task(other.save(note("a", {"theirs": 1})))
                await write(tx)
        assert conflict.value.retryable
        assert (await stored_record(other, "a"))["data"] == {"theirs": 1}


async def test_updates_of_several_processes_lose_nothing(place: Place) -> None:
    async with contextlib.AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(place.open()) for _ in range(4)]
        await storages[0].save(note("a"))
        await together(
            *(each.update("a", {"data": {f"{m}-{n}": 1}}) for m, each in enumerate(storages) for n in range(40))
        )
        record = await stored_record(storages[0], "a")
        assert len(record["data"]) == 160
        assert record["version"] == 161


async def test_an_append_in_between_is_seen_by_an_update_that_expects_a_version(place: Place) -> None:
    async with place.open() as one, place.open() as other:
        await one.save(session("s"))
        before_next(one._client, "run", COMMIT, lambda: other.append(LOG, [body(1)]))
        with pytest.raises(StorageConflictError) as conflict:
            await one.update("s", {"data": {"x": 1}}, expected_version=1)
        assert (conflict.value.expected, conflict.value.found) == (1, 2)
        before_next(one._client, "run", COMMIT, lambda: other.append(LOG, [body(1)]))
        assert await one.update("s", {"data": {"x": 1}})
        assert (await stored_record(one, "s"))["version"] == 4
        before_next(one._client, "run", COMMIT, lambda: other.append(LOG, [body(1)]))
        with pytest.raises(StorageConflictError):
            await one.delete("s", expected_version=4)
        before_next(one._client, "run", COMMIT, lambda: other.append(LOG, [body(1)]))
        assert await one.delete("s")


async def test_a_transaction_lists_what_it_wrote_by_the_whole_filter(storage: Any) -> None:
    """Sorted sets answer for what is stored only."""
    wanted = {"type": "session", "metadata.status": "a", "data.x": 1}
    await save_all(storage, [session(f"s{n}", {"x": n % 2}, metadata={"status": "a"}) for n in range(6)])
    async with storage.transaction() as tx:
        await tx.save(session("s1", {"x": 1}, metadata={"status": "b"}))
        await tx.save(session("s2", {"x": 1}, metadata={"status": "a"}))
        await tx.save(session("new", {"x": 1}, metadata={"status": "b"}))
        await tx.append("events/s3", [body(1)])
        await tx.delete("s5")
        for with_data in (True, False):
            assert ids(await tx.list(wanted, with_data=with_data)) == ["s2", "s3"]
            assert ids((await tx.page(wanted, order_by="id", with_data=with_data)).items) == ["s2", "s3"]
        assert await tx.count(wanted) == 2
        assert (await tx.list(wanted))[1]["version"] == 2


async def test_a_stream_of_a_transaction_shows_what_it_wrote_between_two_batches(storage: Any) -> None:
    await save_all(storage, [note(id) for id in "bcde"])
    async with storage.transaction() as tx:
        await tx.save(note("a"))
        shown = []
        async for batch in tx.stream_list(batch_size=2):  # "c" and what follows it may have been read by now
            shown += batch
            if ids(batch) == ["a", "b"]:
                await tx.delete("c")
                await tx.update("d", {"data": {"ours": 1}})
    assert [(record["id"], record["data"]) for record in shown] == [("a", {}), ("b", {}), ("d", {"ours": 1}), ("e", {})]


@pytest.mark.parametrize("reading", ["load", "exists", "list", "page", "count_log", "read_log"])
async def test_what_a_transaction_read_in_any_way_must_not_have_changed(storage: Any, reading: str) -> None:
    """An append to a log is a change of its owner."""
    await storage.save(session("s", {"n": 1}))
    read = {
        "load": lambda tx: tx.load("s"),
        "exists": lambda tx: tx.exists("s", type="session"),
        "list": lambda tx: tx.list({"type": "session"}),
        "page": lambda tx: tx.page(),
        "count_log": lambda tx: tx.log_info(LOG),
        "read_log": lambda tx: tx.read(LOG),
    }[reading]
    with pytest.raises(StorageConflictError) as conflict:
        async with storage.transaction() as tx:
            await read(tx)
            await asyncio.create_task(storage.append(LOG, [body(1)]))
            await tx.update("s", {"data": {"n": 2}})
    assert conflict.value.retryable
    assert conflict.value.details == {"id": "s", "type": "session"}
    assert (await storage.load("s"))["data"] == {"n": 1}


async def test_changes_of_records_that_are_only_read_disturb_nothing(storage: Any) -> None:
    await save_all(storage, [note("a"), note("b")])
    async with storage.transaction() as tx:
        await tx.load("a")
        await asyncio.create_task(storage.update("a", {"data": {"x": 1}}))
        await tx.update("b", {"data": {"x": 1}})
    assert (await storage.load("b"))["data"] == {"x": 1}


async def test_a_transaction_reads_one_state_of_a_record(storage: Any) -> None:
    await storage.save(note("a", {"n": 1}))
    async with storage.transaction() as tx:
        assert (await tx.load("a"))["data"] == {"n": 1}
        await asyncio.create_task(storage.save(note("a", {"n": 2})))
        assert (await tx.load("a"))["data"] == {"n": 1}


@pytest.mark.parametrize("first", ["load", "list", "read", "read_many", "log_info"])
@pytest.mark.parametrize("second", ["list", "read", "read_many", "log_info"])
async def test_a_record_and_its_logs_are_read_in_one_state_or_not_at_all(place: Place, first: str, second: str) -> None:
    """Also where nothing is written afterwards; others of this process give way, those of another one do not."""
    async with place.open() as storage, place.open() as other:
        await storage.save(session("s"))
        await storage.append(LOG, [body(0)])
        read: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "load": lambda tx: tx.load("s", type="session"),
            "list": lambda tx: tx.list({"type": "session", "id": {"$in": ["s", "t"]}}),
            "read": lambda tx: tx.read(LOG),
            "read_many": lambda tx: tx.read_many(["runs/s", LOG]),
            "log_info": lambda tx: tx.log_info(LOG),
        }
        async with storage.transaction() as tx:
            await read[first](tx)
            await read[second](tx)
        with pytest.raises(StorageConflictError) as conflict:
            async with storage.transaction() as tx:
                await read[first](tx)
                await other.append(LOG, [body(1)])
                await read[second](tx)
        assert conflict.value.retryable


async def test_a_change_in_the_middle_of_a_listing_by_name_is_noticed(place: Place) -> None:
    async with place.open() as storage, place.open() as other:
        await storage.save(session("s"))
        named = {"type": "session", "id": "s"}

        async def then_append() -> None:
            before_next(storage._client, "ask", RECORDS, lambda: other.append(LOG, [body(1)]))

        with pytest.raises(StorageConflictError):
            async with storage.transaction() as tx:
                before_next(storage._client, "ask", RECORDS, then_append)
                await tx.list(named)


async def test_named_records_that_came_or_went_are_noticed(place: Place) -> None:
    async with place.open() as storage, place.open() as other:
        named = {"type": "session", "id": {"$in": ["s", "t"]}}
        for change in (lambda: other.save(session("s")), lambda: other.delete("s")):
            with pytest.raises(StorageConflictError):
                async with storage.transaction() as tx:
                    await tx.list(named)
                    await change()
                    await tx.list(named)


async def test_nothing_is_sent_before_the_commit(place: Place, storage: Any) -> None:
    """S2.26."""
    await storage.save(session("s", {"x": 1}))
    before = await stored(place.url, place.namespace)
    async with storage.transaction() as tx:
        await tx.save(session("s", {"x": 2}, metadata={"status": "new"}))
        await tx.append(LOG, [body(1, "k")])
        await tx.pop(LOG)
        await tx.rewrite("runs/s", [body(1)])
        await tx.restore([note("n", created_at=NOON, updated_at=NOON)])
        await tx.delete("s", cascade=True)
        await tx.save(session("s", {"x": 3}))
        assert await stored(place.url, place.namespace) == before
    assert await place.assert_whole() == 2
    assert (await storage.load("s"))["version"] == 1
    assert await gathered(storage.logs()) == []


async def test_a_transaction_that_goes_through_its_own_log_many_times(place: Place) -> None:
    """Every way to change a log, on top of every other, against memory."""
    chance = random.Random(5)
    async with place.open() as storage, open_storage("memory://") as memory:
        for each in (storage, memory):
            await each.save(session("s"))
            await each.append(LOG, [body(n, f"k{n}", created_at=NOON) for n in range(6)])
        for _ in range(60):
            plan = [(chance.randrange(7), chance.randrange(8), chance.randrange(4)) for _ in range(6)]
            answers = []
            for each in (storage, memory):
                found = []
                async with each.transaction() as tx:
                    for what, n, keep in plan:
                        entries = [body([what, n], f"k{n}", created_at=NOON), body(n, created_at=NOON)]
                        match what:
                            case 0:
                                found.append(await tx.append(LOG, entries, on_duplicate="replace"))
                            case 1:
                                found.append(await tx.append(LOG, entries, on_duplicate="skip", keep_last=keep + 2))
                            case 2 | 3:
                                found.append(await tx.pop(LOG))
                            case 4 if n == 0:
                                found.append(await tx.rewrite(LOG, entries))
                            case 5:
                                found.append(await tx.read(LOG, last=keep))
                            case _:
                                found.append([await tx.log_info(LOG), await tx.read(LOG, since=NOON, limit=keep)])
                found.append(
                    [await each.read(LOG), await each.log_info(LOG), (await stored_record(each, "s"))["version"]]
                )
                answers.append(found)
            assert answers[0] == answers[1], plan
    await place.assert_whole()


async def test_transactions_of_one_process_take_turns(storage: Any) -> None:
    """Not one conflict, where by chance alone most attempts would be in vain."""
    await storage.save(session("s", {"n": 0}))

    async def increment() -> None:
        async with storage.transaction() as tx:
            n = (await stored_record(tx, "s"))["data"]["n"]
            await tx.append(LOG, [body(n)])
            await asyncio.sleep(0.001)
            await tx.update("s", {"data": {"n": n + 1}}, type="session")

    await together(*(increment() for _ in range(40)))
    assert (await storage.load("s"))["data"] == {"n": 40}
    assert [entry["body"] for entry in await storage.read(LOG)] == [*range(40)]


async def test_transactions_that_want_each_others_records_come_to_an_end(storage: Any) -> None:
    await save_all(storage, [note("a", {"n": 0}), note("b", {"n": 0})])

    async def move(first: str, second: str) -> None:
        async def both(tx: Any) -> None:
            for id in (first, second):
                n = (await tx.load(id))["data"]["n"]
                await asyncio.sleep(0.001)
                await tx.update(id, {"data": {"n": n + 1}})

        await storage.atomically(both, attempts=50)

    async with asyncio.timeout(60):
        await together(*(move(*pair) for pair in [("a", "b"), ("b", "a")] * 8))
    assert [(await storage.load(id))["data"]["n"] for id in "ab"] == [16, 16]


async def test_a_transaction_that_never_ends_is_not_waited_for_long(storage: Any, monkeypatch) -> None:
    """As one of a loop that was stopped in the middle."""
    monkeypatch.setattr(record_turns, "_LONG", 0.05)
    await storage.save(note("a"))
    held = storage.transaction(timeout=60)
    tx = await held.__aenter__()
    await tx.load("a")
    await asyncio.sleep(0.1)

    async def change() -> None:
        async with asyncio.timeout(0.5):
            await storage.update("a", {"data": {"x": 1}})
            async with storage.transaction() as other:
                await other.update("a", {"data": {"y": 1}})

    await asyncio.create_task(change())
    await held.__aexit__(None, None, None)
    assert (await storage.load("a"))["data"] == {"x": 1, "y": 1}


async def test_every_verb_gets_through_a_stream_of_appends(storage: Any) -> None:
    await save_all(storage, [session("s", {"n": 0}), note("other")])
    await storage.append(LOG, [body(0)])

    async def append() -> None:
        while await storage.exists("other"):
            await storage.append(LOG, [body(1)])

    appending = [asyncio.create_task(append()) for _ in range(16)]
    try:
        async with asyncio.timeout(60):
            for n in range(20):
                assert await storage.pop(LOG) is not None
                await storage.update("s", {"data": {"n": n}})
                await storage.rewrite("runs/s", [body(n)])
                await storage.save(session("s", {"saved": n}))
            assert await storage.delete("s") is True
    finally:
        await storage.delete("other")
        await asyncio.gather(*appending, return_exceptions=True)
    assert await storage.log_info(LOG) is None


async def test_updates_that_wait_together_fail_alone(storage: Any) -> None:
    await storage.save(note("a", {"n": 0}))
    wrong: list[Any] = [{"data": {"x": object()}}, {"colour": 1}, {"data": None}, {"session_id": 5}]
    calls = [storage.update("a", {"data": {f"k{n}": n}}) for n in range(30)]
    calls += [storage.update("a", updates) for updates in wrong]
    calls += [
        storage.update("a", {}, expected_version=99),
        storage.update("a", {"data": {"last": 1}}, expected_version=None),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in errors] == [StorageValidationError] * 4 + [StorageConflictError]
    record = await storage.load("a")
    assert record["data"] == {"n": 0, "last": 1} | {f"k{n}": n for n in range(30)}
    assert record["version"] == 32


async def test_updates_behind_the_one_that_ends_a_record_find_nothing(place: Place) -> None:
    clock = ManualClock()
    async with place.open(clock=clock) as storage:
        await storage.save(note("a"))
        calls = [storage.update("a", {"data": {"x": 1}}), storage.update("a", {"expires_at": NOON})]
        calls += [storage.update("a", {"data": {"y": n}}) for n in range(5)]
        assert await together(*calls) == [True, True] + [False] * 5
        assert await storage.load("a") is None
        assert await storage.purge_expired() == 1


# -- cluster ------------------------------------------------------------------------------------------------------

CLUSTER = pytest.mark.parametrize("engine", ["redis-cluster"])


@CLUSTER
async def test_what_a_cluster_cannot_do_at_once_is_refused_before_anything_is_written(
    place: Place, storage: Any
) -> None:
    await save_all(storage, [session(f"s{n}", session_id="s0") for n in range(8)])
    before = await stored(place.url, place.namespace)
    many = [session(f"s{n}", {"new": 1}) for n in range(8)]
    for call in (
        lambda: storage.batch_save(many),
        lambda: storage.batch_delete([f"s{n}" for n in range(8)]),
        lambda: storage.batch_delete(["s0"], cascade=True),
    ):
        with pytest.raises(StorageUnsupportedError):
            await call()
    with pytest.raises(StorageTransactionError) as refusal:
        async with storage.transaction() as tx:
            await tx.update("s0", {"data": {"x": 1}})
            assert len(await tx.list()) == 8  # reading is no question
            with pytest.raises(StorageUnsupportedError):
                for n in range(1, 8):
                    await tx.append(f"events/s{n}", [body(1)])
    assert isinstance(refusal.value.cause, StorageUnsupportedError)
    with pytest.raises(StorageTransactionError):
        async with storage.transaction() as tx:
            with pytest.raises(StorageUnsupportedError):
                await tx.delete("s0", cascade=True)
    assert await stored(place.url, place.namespace) == before


@CLUSTER
async def test_what_belongs_to_one_user_is_changed_in_one_step(place: Place, storage: Any) -> None:
    """S1.28."""
    user = "~0123456789abcdef01234567"
    names = [f"{user}~{n:040x}" for n in range(8)]
    async with storage.transaction() as tx:
        await tx.save({"id": user, "type": "user_state", "data": {}})
        for name in names:
            await tx.save(session(name))
            await tx.append(f"history/{name}", [body(1)])
    assert await storage.batch_delete(names[:4]) == 4
    assert ids(await storage.list()) == [user, *names[4:]]
    assert len((await stored(place.url, place.namespace)).keys()) == 64
    assert await place.assert_whole() == 5


@CLUSTER
async def test_a_cascade_goes_through_partitions_and_can_be_repeated(place: Place, storage: Any) -> None:
    await save_all(storage, [session("s"), *(note(f"n{n}", session_id="s") for n in range(40)), note("other")])
    inner = storage._client.run
    calls = 0

    async def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise StorageError("in the middle")
        return await inner(*arguments, **options)

    storage._client.run = failing
    with pytest.raises(StorageError, match="in the middle"):
        await storage.delete("s", cascade=True)
    storage._client.run = inner
    left = await storage.list()
    assert 2 < len(left) < 42
    assert await storage.exists("s"), "the session goes last"
    assert await storage.delete("s", cascade=True) is True
    assert ids(await storage.list()) == ["other"]
    assert await place.assert_whole() == 1


@CLUSTER
async def test_a_cascade_comes_to_an_end_while_others_go_on_adding(place: Place, storage: Any) -> None:
    await save_all(storage, [session("s"), *(note(f"n{n}", session_id="s") for n in range(8))])
    inner = storage._client.run
    late: list[str] = []

    async def disturbed(*arguments: Any, **options: Any) -> Any:
        late.append(f"late{len(late)}")
        async with place.open() as other:
            await other.save(note(late[-1], session_id="s"))
        return await inner(*arguments, **options)

    storage._client.run = disturbed
    assert await storage.delete("s", cascade=True) is True
    storage._client.run = inner
    assert {*ids(await storage.list())} <= {*late}
    assert len(late) < 70, "at most once for each partition, and a few times where somebody came in between"


@CLUSTER
async def test_an_import_that_fails_names_what_was_written(storage: Any) -> None:
    records = [session(f"s{n:03}", created_at=NOON, updated_at=NOON) for n in range(100)]
    logs = [{"log_id": f"events/s{n:03}", "last_seq": 1, "entries": []} for n in range(100)]
    inner = storage._client.run
    calls = 0

    async def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 50:
            raise StorageError("in the middle")
        return await inner(*arguments, **options)

    storage._client.run = failing
    with pytest.raises(StorageError, match="in the middle") as failure:
        await storage.restore(records, logs)
    storage._client.run = inner
    written = {id for id, kind in failure.value.details["written"] if kind == "session"}
    there = set(ids(await storage.list()))
    assert written == there
    assert 0 < len(there) < 100
    assert set(await gathered(storage.logs())) == {f"events/{id}" for id in there}
    assert await storage.restore(records, logs) == 100


@CLUSTER
async def test_partitions_are_spread_over_the_masters(place: Place, storage: Any) -> None:
    await storage.save(note("a"))
    async with redis_client(place.url) as client:
        owners = [client.get_node_from_key(f"us:{place.namespace}:{{p{n:02}}}:meta").port for n in range(64)]
    assert min(owners.count(port) for port in set(owners)) > 10
    assert len(set(owners)) == 3


async def test_index_keys_that_cannot_be_read_stop_no_write_half_way(place: Place) -> None:
    """What a script does it does whole; a save writes the keys anew."""
    async with place.open() as storage, redis_client(place.url) as client:
        await storage.save(session("s"))
        layout = storage._store.layout
        await client.hset(layout.record("s", "session"), "k", b"\xc1junk")
        assert await storage.append(LOG, [body(1)]) == [1]
        record = await storage.load("s", type="session")
        assert record is not None
        assert record["version"] == 2
        await storage.save(session("s"))
        assert await storage.delete("s", type="session")
        assert await storage.read(LOG) == []
