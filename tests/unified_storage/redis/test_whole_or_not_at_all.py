"""What cannot be finished is not begun: damage in the middle, a server that is full. And answers that are lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.engines import fresh_namespace
from tests.servers import Server
from tests.unified_storage.redis.clients import Proxy
from tests.unified_storage.redis.whole import assert_whole
from tests.unified_storage.redis.whole import stored as everything
from unified_storage import open_storage
from unified_storage.errors import StorageCapacityError, StorageConnectionError, StorageError, StorageIntegrityError
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import bodies, body, ids, note, save_all, session, stored

pytestmark = pytest.mark.servers
Verb = Callable[[Any], Awaitable[object]]


@pytest.fixture
def namespace() -> str:
    return fresh_namespace("wn")


@pytest.fixture
async def storage(server: Server, namespace: str) -> AsyncIterator[Any]:
    async with open_storage(server.url, namespace=namespace, clock=ManualClock()) as opened:
        yield opened


# -- damage -------------------------------------------------------------------------------------------------------

DAMAGED_HEADS = {"no MessagePack": b"\xc1", "no list": b"\x00", "too short": b"\x91\x01", "wrong types": b"\x98" * 9}


def _record_key(namespace: str, id: str) -> str:
    return f"us:{namespace}:{{p00}}:r:session:{id}"


@pytest.mark.parametrize("head", DAMAGED_HEADS.values(), ids=DAMAGED_HEADS)
async def test_a_batch_that_meets_a_damaged_head_saves_nothing(
    storage: Any, raw: Any, server: Server, namespace: str, head: bytes
) -> None:
    await save_all(storage, [session(f"s{n}", {"n": n}) for n in range(5)])
    await raw.hset(_record_key(namespace, "s2"), "h", head)
    before = await everything(server.url, namespace)
    with pytest.raises(StorageIntegrityError) as damage:
        await storage.batch_save([session(f"s{n}", {"new": True}) for n in range(7)])
    assert damage.value.details == {"id": "s2", "type": "session"}
    assert await everything(server.url, namespace) == before


async def test_a_record_that_is_no_hash_is_named_as_well(storage: Any, raw: Any, namespace: str) -> None:
    await raw.set(_record_key(namespace, "blob"), "x")
    drafts = [session("a"), session("blob"), session("c")]
    for call in (storage.batch_save(drafts), storage.save(session("blob")), storage.append("log/blob", [body(1)])):
        with pytest.raises(StorageIntegrityError) as damage:
            await call
        assert damage.value.details == {"id": "blob", "type": "session"}
    assert await storage.count() == 0


async def test_a_damaged_head_in_a_transaction_leaves_all_as_it_was(
    storage: Any, raw: Any, server: Server, namespace: str
) -> None:
    await save_all(storage, [session(f"s{n}") for n in range(3)])
    with pytest.raises(StorageError):
        async with storage.transaction() as tx:
            for n in range(3):
                await tx.save(session(f"s{n}", {"new": True}))
            await raw.hset(_record_key(namespace, "s1"), "h", b"\xc1")
            before = await everything(server.url, namespace)
    assert await everything(server.url, namespace) == before


async def test_what_has_expired_is_purged_around_damage(storage: Any, raw: Any, namespace: str) -> None:
    soon = NOON + timedelta(seconds=1)
    await save_all(storage, [session(f"s{n}", expires_at=soon) for n in range(5)])
    await raw.hset(_record_key(namespace, "s2"), "h", b"\xc1")
    storage.clock.advance(seconds=2)
    for _ in range(2):
        with pytest.raises(StorageIntegrityError) as damage:
            await storage.purge_expired()
        assert damage.value.details == {"id": "s2", "type": "session"}
    assert await raw.keys(_record_key(namespace, "*")) == [_record_key(namespace, "s2").encode()]


async def test_a_damaged_entry_goes_with_the_others(storage: Any, raw: Any, server: Server, namespace: str) -> None:
    await storage.save(session("s"))
    await storage.append("log/s", [body(n, f"k{n}") for n in range(4)])
    await raw.zadd(f"us:{namespace}:{{p00}}:e:log/s", {b"no entry": 2.5})
    assert await storage.append("log/s", [body(4, "k4")], keep_last=1) == [5]
    assert await bodies(storage, "log/s") == [4]
    assert await assert_whole(server.url, namespace) == 1


async def test_an_entry_that_cannot_be_replaced_keeps_the_others_out(
    storage: Any, raw: Any, server: Server, namespace: str
) -> None:
    await storage.save(session("s"))
    await storage.append("log/s", [body(n, f"k{n}") for n in range(3)])
    await raw.hset(f"us:{namespace}:{{p00}}:k:log/s", "k1", "99")
    before = await everything(server.url, namespace)
    with pytest.raises(StorageError):
        await storage.append("log/s", [body("new", f"k{n}") for n in range(5)], on_duplicate="replace")
    assert await everything(server.url, namespace) == before


# -- a server that is full ----------------------------------------------------------------------------------------

SOON = NOON + timedelta(seconds=1)
GROWING: dict[str, Verb] = {
    "save": lambda storage: storage.save(session("new")),
    "save over": lambda storage: storage.save(session("s1", {"new": True})),
    "save over what has expired": lambda storage: storage.save(note("over", {"new": True})),
    "update": lambda storage: storage.update("s1", {"data": {"new": True}}, type="session"),
    "append": lambda storage: storage.append("log/s1", [body("new")]),
    "append and drop": lambda storage: storage.append("log/s1", [body("new")], keep_last=1),
    "replace": lambda storage: storage.append("log/s1", [body("new", "k")], on_duplicate="replace"),
    "rewrite": lambda storage: storage.rewrite("log/s1", [body("new")]),
    "batch": lambda storage: storage.batch_save([session(f"s{n}", {"new": True}) for n in range(5)]),
    "restore": lambda storage: storage.restore([session("s1", created_at=NOON, updated_at=NOON)]),
    "transaction": lambda storage: storage.transaction(
        [{"type": "delete", "id": "s0", "record_type": "session"}, {"type": "save", "data": session("s1", {"new": 1})}]
    ),
}
REMOVING: dict[str, Verb] = {
    "delete": lambda storage: storage.delete("s0"),
    "delete with its group": lambda storage: storage.delete("s1", cascade=True),
    "batch": lambda storage: storage.batch_delete(["s0", "s2"]),
    "pop": lambda storage: storage.pop("log/s1"),
    "purge": lambda storage: storage.purge_expired(),
}


@pytest.fixture
async def full(storage: Any, raw: Any) -> AsyncIterator[Any]:
    """A storage with some records, on a server that has no memory left."""
    await save_all(storage, [session(f"s{n}", {"n": n}, metadata={"status": "a"}) for n in range(4)])
    await save_all(storage, [note("under", session_id="s1"), note("over", expires_at=SOON)])
    await storage.append("log/s1", [body(1, "k"), body(2)])
    storage.clock.advance(seconds=2)
    await raw.config_set("maxmemory", "1")
    try:
        yield storage
    finally:
        await raw.config_set("maxmemory", "0")


@pytest.mark.parametrize("verb", GROWING.values(), ids=GROWING)
async def test_a_full_server_does_nothing_of_what_needs_more(
    full: Any, server: Server, namespace: str, verb: Verb
) -> None:
    before = await everything(server.url, namespace)
    with pytest.raises(StorageError) as refusal:
        await verb(full)
    assert StorageCapacityError in (type(refusal.value), type(refusal.value.__cause__))
    assert await everything(server.url, namespace) == before


@pytest.mark.parametrize("verb", REMOVING.values(), ids=REMOVING)
async def test_a_full_server_still_removes(full: Any, server: Server, namespace: str, verb: Verb) -> None:
    before = await everything(server.url, namespace)
    assert await verb(full)
    assert await everything(server.url, namespace) != before
    await assert_whole(server.url, namespace)


async def test_a_full_server_removes_beside_what_it_refuses(full: Any, server: Server, namespace: str) -> None:
    """They travel together, and the first write that was done must not let the others in."""
    growing = [full.save(session(f"new{n}", {"n": n})) for n in range(30)]
    changing = [full.update(f"s{n}", {"data": {"new": True}}, type="session") for n in (2, 3)]
    removing = [full.delete(id, type=kind) for id, kind in (("s0", "session"), ("s1", "session"), ("under", "note"))]
    outcomes = await asyncio.gather(*removing, *growing, *changing, return_exceptions=True)
    assert outcomes[:3] == [True] * 3
    assert {type(outcome) for outcome in outcomes[3:]} == {StorageCapacityError}
    assert ids(await full.list()) == ["s2", "s3"]
    assert (await stored(full, "s2"))["data"] == {"n": 2}
    await assert_whole(server.url, namespace)


# -- answers that are lost ----------------------------------------------------------------------------------------

LOST: dict[str, tuple[int, Verb]] = {
    "save": (0, lambda storage: storage.save(session("s", {"new": True}))),
    "batch": (0, lambda storage: storage.batch_save([session("s", {"new": True})])),
    "append": (0, lambda storage: storage.append("log/s", [body("new")])),
    "pop": (0, lambda storage: storage.pop("log/s")),
    "update": (1, lambda storage: storage.update("s", {"data": {"new": True}}, type="session")),
    "rewrite": (0, lambda storage: storage.rewrite("log/s", [])),
    "transaction": (1, lambda storage: storage.transaction([{"type": "save", "data": session("s", {"new": True})}])),
}
"""How many answers come before that of the write, which does not."""


@pytest.mark.parametrize(("answers", "verb"), LOST.values(), ids=LOST)
async def test_a_write_whose_answer_is_lost_is_told_as_unknown_and_done_once(
    server: Server, storage: Any, namespace: str, answers: int, verb: Verb
) -> None:
    await storage.save(session("s"))
    await storage.append("log/s", [body(1)])
    async with Proxy(server.nodes[0].port) as proxy, open_storage(proxy.url, namespace=namespace) as behind:
        assert (await stored(behind, "s"))["version"] == 2
        proxy.answers_left = answers
        with pytest.raises(StorageError) as unknown:
            await verb(behind)
        cause = unknown.value.__cause__
        lost = cause if isinstance(cause, StorageConnectionError) else unknown.value
        assert isinstance(lost, StorageConnectionError)
        assert lost.details["outcome"] == "unknown"
        assert not unknown.value.retryable
        assert (await stored(behind, "s"))["version"] == 3


async def test_a_delete_whose_answer_is_lost_is_told_as_unknown(server: Server, storage: Any, namespace: str) -> None:
    await storage.save(session("s"))
    async with Proxy(server.nodes[0].port) as proxy, open_storage(proxy.url, namespace=namespace) as behind:
        assert await behind.exists("s", type="session")
        proxy.answers_left = 1
        with pytest.raises(StorageConnectionError) as unknown:
            await behind.delete("s", type="session")
        assert (unknown.value.details["outcome"], unknown.value.retryable) == ("unknown", False)
        assert not await behind.exists("s", type="session")


async def test_an_append_whose_answer_is_lost_is_repeated_safely_by_its_key(
    server: Server, storage: Any, namespace: str
) -> None:
    await storage.save(session("s"))
    async with Proxy(server.nodes[0].port) as proxy, open_storage(proxy.url, namespace=namespace) as behind:
        await behind.exists("s")
        proxy.answers_left = 0
        with pytest.raises(StorageConnectionError):
            await behind.append("log/s", [body("once", "k")])
        assert await behind.append("log/s", [body("once", "k")], on_duplicate="skip") == [1]
        assert await bodies(behind, "log/s") == ["once"]
