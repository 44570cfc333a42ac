"""Looking a store on Redis over: damage planted by raw commands is found and mended, and nothing else is touched."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.engines import redis_client
from tests.places import Place, engines
from tests.unified_storage.redis.whole import assert_whole, stored
from unified_storage import Finding, IUnifiedStorage
from unified_storage.backends.redis import damage, examining
from unified_storage.backends.redis.partitions import Layout, escaped, key_prefix, packed_keys
from unified_storage.order_keys import order_key

BOTH = pytest.mark.parametrize("engine", engines("redis", "redis-cluster"))
ALONE = pytest.mark.parametrize("engine", engines("redis"))
INDEXED = {"note": ["data.tag", "metadata.n", "updated_at"], "thread": ["data.n"]}
EXPIRES = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_TIME_TO_FILL", 0.05)


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    """A store with some of everything."""
    async with place.open(indexed=INDEXED) as storage:
        await fill(storage)
        yield storage


async def fill(storage: IUnifiedStorage) -> None:
    for name in ("a", "b", "ü/🙂"):
        metadata = {"status": "active", "user_id": f"user {name}", "name": "x\0y" * 300}
        await storage.save({"id": name, "type": "session", "data": {"n": 1}, "metadata": metadata})
        await storage.save({"id": name, "type": "note", "data": {"tag": f"t{name}", "n": 2}, "session_id": name})
        await storage.append(f"history/{name}", [{"body": {"n": n}, "key": f"k{n}"} for n in range(5)])
        await storage.append(f"track:x@note/{name}", [{"body": "x"}] * 4, keep_last=2)
    await storage.rewrite("history/b", [])
    await storage.save({"id": "sys", "type": "_copy", "data": {}})
    grouped = {"id": "th", "type": "thread", "data": {"n": 3}, "thread_id": "t1", "session_id": "a"}
    await storage.save({**grouped, "expires_at": EXPIRES})
    gone = {"id": "gone", "type": "session", "data": {}, "expires_at": datetime(2001, 1, 1, tzinfo=UTC)}
    await storage.restore([gone], [{"log_id": "history/gone", "last_seq": 7, "entries": []}])


async def found_by(storage: IUnifiedStorage, *, repair: bool = False) -> list[Finding]:
    return [finding async for batch in storage.examine(repair=repair) for finding in batch]


class Planter:
    """A plain client, and the names of the keys of a place."""

    def __init__(self, place: Place, client: Any) -> None:
        self._place = place
        self.run = client
        self.partitions = 64 if place.engine == "redis-cluster" else 1
        self.layout = Layout(key_prefix(place.namespace), self.partitions)

    def key(self, name: str, id: str) -> bytes:
        """A key in the partition of a record."""
        return self.layout.beside(id, name)

    async def member(self, name: str, id: str) -> bytes:
        """The member by which a set knows a record."""
        found = [member for member in await self.run.zrange(self.key(name, id), 0, -1) if id.encode() in member]
        assert len(found) == 1
        return bytes(found[0])

    async def dump(self) -> dict[tuple[int, bytes], Any]:
        """Everything in the store; a record's keys unpacked, since they may be packed in more than one way."""
        found: dict[tuple[int, bytes], Any] = {}
        for number, part in (await stored(self._place.url, self._place.namespace)).items():
            found |= {(number, name): each for name, each in part.sets.items()}
            found |= {(number, name): each for name, each in part.scored.items()}
            for name, fields in part.hashes.items():
                key = self.layout.key(number, name.decode())
                keys = await self.run.eval(UNPACKED, 1, key) if b"k" in fields and name[:2] == b"r:" else None
                found[number, name] = fields if keys is None else fields | {b"k": sorted(keys)}
        return found

    async def is_whole(self) -> bool:
        await assert_whole(self._place.url, self._place.namespace, self.partitions)
        return True


UNPACKED = """
local found = {}
for path, key in pairs(cmsgpack.unpack(redis.call('HGET', KEYS[1], 'k'))) do found[#found + 1] = path .. '=' .. key end
return found
"""


@pytest.fixture
async def planter(place: Place) -> AsyncIterator[Planter]:
    async with redis_client(place.url) as client:
        yield Planter(place, client)


def key(value: Any) -> bytes:
    return escaped(order_key(value))


# -- sorted sets -------------------------------------------------------------------------------------------------

KNOWN_BY = {
    "i": ("a", "session"),
    "i:note": ("b", "note"),
    "c:session": ("ü/🙂", "session"),
    "u:session": ("a", "session"),
    "u:_copy": ("sys", "_copy"),
    "exp": ("th", "thread"),
    "g:s": ("th", "thread"),
    "g:t": ("th", "thread"),
    "x:session:metadata.user_id": ("a", "session"),
    "y:session:metadata.name": ("b", "session"),
    "y:note:data.tag": ("ü/🙂", "note"),
}
"""A record for every kind of set."""
SETS = pytest.mark.parametrize("name", KNOWN_BY)


@BOTH
async def test_a_healthy_store_has_no_findings_and_is_not_touched(storage: IUnifiedStorage, planter: Planter) -> None:
    before = await planter.dump()
    assert await found_by(storage) == []
    assert await found_by(storage, repair=True) == []
    assert await planter.dump() == before
    assert await planter.is_whole()


async def is_mended(storage: IUnifiedStorage, planter: Planter, whole: Any, expected: list[Finding]) -> None:
    """What was planted is found; then it is mended, and everything is as it was."""
    damaged = await planter.dump()
    assert damaged != whole
    assert in_order(await found_by(storage)) == in_order(expected)
    assert await planter.dump() == damaged
    mended = await found_by(storage, repair=True)
    assert in_order(mended) == in_order([replace(finding, repaired=True) for finding in expected])
    assert await planter.dump() == whole
    assert await found_by(storage) == []
    assert await planter.is_whole()


def in_order(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (one.kind, one.id, one.type, one.detail or ""))


@ALONE
@SETS
async def test_a_member_that_is_missing_is_put_back(storage: IUnifiedStorage, planter: Planter, name: str) -> None:
    whole = await planter.dump()
    id, kind = KNOWN_BY[name]
    member = id.encode() + b"\0" + kind.encode() if name == "i" else await planter.member(name, id)
    assert await planter.run.zrem(planter.key(name, id), member) == 1
    await is_mended(storage, planter, whole, [Finding("index_member_missing", id, kind, True, detail=name)])


@ALONE
async def test_the_list_of_types_is_put_back(storage: IUnifiedStorage, planter: Planter) -> None:
    whole = await planter.dump()
    await planter.run.srem(planter.key("t", "th"), "thread")
    await is_mended(storage, planter, whole, [Finding("index_member_missing", "th", "thread", True, detail="t")])


EARLIER = b"000000000000000017"
STALE = {
    "c:session": EARLIER + b"a",
    "u:session": EARLIER + b"a",
    "exp": EARLIER + b"session:a",
    "g:s": b"old\0a\0session",
    "g:t": b"old\0a\0session",
    "x:session:metadata.user_id": key("old") + EARLIER + b"a",
    "y:session:metadata.user_id": key("old") + b"a",
    "y:session:metadata.agent_id": key("o\0l\0\1d") + b"a",
}


@ALONE
@pytest.mark.parametrize("name", STALE)
async def test_a_member_that_its_record_says_no_more_is_removed(
    storage: IUnifiedStorage, planter: Planter, name: str
) -> None:
    whole = await planter.dump()
    await planter.run.zadd(planter.key(name, "a"), {STALE[name]: 0})
    await is_mended(storage, planter, whole, [Finding("index_member_stale", "a", "session", True, detail=name)])


NOBODY = {
    "i": b"nobody\0session",
    "i:session": b"nobody",
    "c:session": EARLIER + b"nobody",
    "exp": EARLIER + b"session:nobody",
    "g:s": b"a\0nobody\0session",
    "x:session:metadata.user_id": key("old") + EARLIER + b"nobody",
    "y:session:metadata.user_id": key("old") + b"nobody",
}


@ALONE
@pytest.mark.parametrize("name", NOBODY)
async def test_a_member_of_no_record_is_removed(storage: IUnifiedStorage, planter: Planter, name: str) -> None:
    whole = await planter.dump()
    await planter.run.zadd(planter.key(name, "nobody"), {NOBODY[name]: 0})
    await is_mended(storage, planter, whole, [Finding("index_member_orphaned", "nobody", "session", True, detail=name)])


@ALONE
@pytest.mark.parametrize("name", ["i", "exp", "g:s", "y:session:metadata.user_id"])
async def test_a_member_that_says_nothing_is_removed(storage: IUnifiedStorage, planter: Planter, name: str) -> None:
    whole = await planter.dump()
    await planter.run.zadd(planter.key(name, "a"), {b"rubbish": 0})
    await is_mended(storage, planter, whole, [Finding("index_member_orphaned", "", "", True, detail=name)])


@ALONE
async def test_a_set_that_is_out_of_order_is_put_in_order(storage: IUnifiedStorage, planter: Planter) -> None:
    """A member with another score than 0 spoils the order of the bytes, in which everything is found."""
    whole = await planter.dump()
    await planter.run.zadd(planter.key("u:session", "a"), {await planter.member("u:session", "a"): 3})
    await planter.run.zadd(planter.key("i:note", "b"), {b"b": -1})
    kinds = {(one.kind, one.id, one.detail) for one in await found_by(storage, repair=True) if one.repaired}
    assert kinds == {("index_member_missing", "a", "u:session"), ("index_member_missing", "b", "i:note")}
    assert await planter.dump() == whole
    assert await found_by(storage) == []


@ALONE
async def test_what_does_not_belong_there_and_is_out_of_order_goes_too(
    storage: IUnifiedStorage, planter: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "_MEMBERS_AT_ONCE", 1)
    whole = await planter.dump()
    strangers = {EARLIER + name: score for score, name in zip((3, -3, 2, -2), (b"a", b"b", b"c", b"d"), strict=True)}
    await planter.run.zadd(planter.key("u:session", "a"), strangers)
    mended = await found_by(storage, repair=True)
    assert {(one.kind, one.detail) for one in mended} == {
        ("index_member_stale", "u:session"),
        ("index_member_orphaned", "u:session"),
    }
    assert await planter.dump() == whole
    assert await found_by(storage) == []


# -- records -----------------------------------------------------------------------------------------------------

Plant = Callable[[Planter], Awaitable[list[Finding]]]
"""Plants damage; what has to be found."""


def packed(*pairs: tuple[str, bytes]) -> bytes:
    return packed_keys(pairs)


@ALONE
@pytest.mark.parametrize("keys", [packed(), packed(("metadata.status", key("gone"))), b"\x01", b"\xdf\x09"])
async def test_keys_that_its_document_does_not_give_are_mended(
    storage: IUnifiedStorage, planter: Planter, keys: bytes
) -> None:
    whole = await planter.dump()
    await planter.run.hset(planter.layout.record("a", "session"), "k", keys)
    names = ["metadata.name", "metadata.status", "metadata.user_id"]
    look = await found_by(storage)
    assert ("index_key_differs", ", ".join(names)) in [(one.kind, one.detail) for one in look]
    assert {one.id for one in look} == {"a"}
    assert {one.kind for one in look} <= {"index_key_differs", "index_member_stale"}
    assert [(one.kind, one.id, one.detail, one.repaired) for one in await found_by(storage, repair=True)] == [
        ("index_key_differs", "a", ", ".join(names), True)
    ]
    assert await planter.dump() == whole
    assert await found_by(storage) == []


@ALONE
async def test_keys_that_lie_with_the_sets_are_mended_in_both(storage: IUnifiedStorage, planter: Planter) -> None:
    """The record and the sets agree, and both are wrong."""
    whole = await planter.dump()
    tag = "data.tag"
    await planter.run.hset(planter.layout.record("b", "note"), "k", packed((tag, key("gone"))))
    for letter, end in (("x", await planter.member("u:note", "b")), ("y", b"b")):
        await planter.run.zrem(planter.key(f"{letter}:note:{tag}", "b"), key("tb") + end)
        await planter.run.zadd(planter.key(f"{letter}:note:{tag}", "b"), {key("gone") + end: 0})
    await is_mended(storage, planter, whole, [Finding("index_key_differs", "b", "note", True, detail=tag)])


async def head_damaged(planter: Planter) -> list[Finding]:
    await planter.run.hset(planter.layout.record("a", "session"), "h", b"\x93\x01\x02\x03")
    return [Finding("unreadable_record", "a", "session", detail="head")]


async def head_gone(planter: Planter) -> list[Finding]:
    await planter.run.hdel(planter.layout.record("a", "session"), "h")
    return [Finding("unreadable_record", "a", "session", detail="head")]


async def metadata_damaged(planter: Planter) -> list[Finding]:
    await planter.run.hset(planter.layout.record("a", "session"), "m", b'{"user_id":"\xff"}')
    return [Finding("unreadable_record", "a", "session", detail="STORAGE_INTEGRITY_ERROR")]


async def document_gone(planter: Planter) -> list[Finding]:
    await planter.run.hdel(planter.layout.record("a", "session"), "d")
    return [Finding("document_missing", "a", "session")]


@ALONE
@pytest.mark.parametrize("plant", [head_damaged, head_gone, metadata_damaged, document_gone])
async def test_what_cannot_be_mended_is_named_and_left(
    storage: IUnifiedStorage, planter: Planter, plant: Plant
) -> None:
    expected = await plant(planter)
    damaged = await planter.dump()
    assert await found_by(storage) == expected
    assert await found_by(storage, repair=True) == expected
    assert await planter.dump() == damaged


@BOTH
async def test_what_a_record_leaves_behind_goes(storage: IUnifiedStorage, planter: Planter) -> None:
    await storage.save({"id": "nobody", "type": "note", "data": {"tag": "t"}, "session_id": "s", "expires_at": EXPIRES})
    await storage.append("history@note/nobody", [{"body": 1, "key": "k"}])
    await storage.append("empty@note/nobody", [])
    await storage.rewrite("empty@note/nobody", [])
    await planter.run.delete(planter.layout.record("nobody", "note"))
    mended = await found_by(storage, repair=True)
    assert {(one.kind, one.detail) for one in mended} == {
        ("log_orphaned", "history@note/nobody"),
        ("log_orphaned", "empty@note/nobody"),
        *(("index_member_orphaned", name) for name in ("i", "i:note", "c:note", "u:note", "exp", "g:s")),
        *(("index_member_orphaned", f"{letter}:note:data.tag") for letter in "xy"),
    }
    assert all(one.repaired and (one.id, one.type) == ("nobody", "note") for one in mended)
    assert len(mended) == 10
    assert await planter.is_whole()
    assert not [name for _, name in await planter.dump() if b"nobody" in name]
    assert await found_by(storage) == []


# -- logs --------------------------------------------------------------------------------------------------------


async def log_forgotten(planter: Planter) -> list[Finding]:
    await planter.run.hdel(planter.key("o:session:a", "a"), "history/a")
    return [Finding("log_orphaned", "a", "session", True, detail="history/a")]


async def log_forgotten_wholly(planter: Planter) -> list[Finding]:
    await planter.run.zrem(planter.key("logs", "b"), "track:x@note/b")
    await planter.run.delete(planter.key("o:note:b", "b"))
    return [Finding("log_orphaned", "b", "note", True, detail="track:x@note/b")]


async def log_unlisted(planter: Planter) -> list[Finding]:
    await planter.run.zrem(planter.key("logs", "a"), "history/a")
    await planter.run.zrem(planter.key("logs", "b"), "history/b")
    return [Finding("index_member_missing", id, "session", True, detail="logs") for id in "ab"]


async def log_out_of_order(planter: Planter) -> list[Finding]:
    await planter.run.zadd(planter.key("logs", "a"), {"history/a": 1})
    return [Finding("index_member_missing", "a", "session", True, detail="logs")]


async def log_listed_only(planter: Planter) -> list[Finding]:
    await planter.run.zadd(planter.key("logs", "a"), {"track:y/a": 0, "track:y/nobody": 0})
    return [Finding("log_orphaned", id, "session", True, detail=f"track:y/{id}") for id in ("a", "nobody")]


async def log_of_nobody(planter: Planter) -> list[Finding]:
    await planter.run.zadd(planter.key("e:history/nobody", "nobody"), {b"1\0" + EARLIER + b"\0\0" + b"1": 1})
    await planter.run.hset(planter.key("k:track:z/nobody", "nobody"), "k", 1)
    await planter.run.hset(planter.key("o:session:nobody", "nobody"), "track:y/nobody", 3)
    return [
        Finding("log_orphaned", "nobody", "session", True, detail=log)
        for log in ("history/nobody", "track:y/nobody", "track:z/nobody")
    ]


async def log_of_no_name(planter: Planter) -> list[Finding]:
    await planter.run.zadd(planter.key("e:hi%73tory/a", "a"), {b"1\0" + EARLIER + b"\0\0" + b"1": 1})
    return [Finding("log_orphaned", "", "", True, detail="hi%73tory/a")]


async def log_of_a_stranger(planter: Planter) -> list[Finding]:
    await planter.run.hset(planter.key("o:session:a", "a"), "history/b", 9)
    return [Finding("log_orphaned", "b", "session", True, detail="history/b")]


async def number_to_be_given_again(planter: Planter) -> list[Finding]:
    await planter.run.hset(planter.key("o:session:a", "a"), "history/a", 4)
    return [Finding("log_count_differs", "a", "session", True, detail="history/a")]


async def entry_keys(planter: Planter) -> list[Finding]:
    await planter.run.hset(planter.key("k:history/a", "a"), mapping={"k1": 9, "none": 3, "no number": "x"})
    await planter.run.hdel(planter.key("k:history/a", "a"), "k2")
    await planter.run.delete(planter.key("k:history/ü/🙂", "ü/🙂"))
    await planter.run.hset(planter.key("k:history/b", "b"), "k1", 2)
    return [Finding("entry_key_differs", id, "session", True, detail=f"history/{id}") for id in ("a", "b", "ü/🙂")]


@BOTH
@pytest.mark.parametrize(
    "plant",
    [
        *(log_forgotten, log_forgotten_wholly, log_unlisted, log_out_of_order, log_listed_only, log_of_nobody),
        *(log_of_no_name, log_of_a_stranger, number_to_be_given_again, entry_keys),
    ],
)
async def test_logs_are_mended_and_keep_their_entries(storage: IUnifiedStorage, planter: Planter, plant: Plant) -> None:
    whole = await planter.dump()
    expected = await plant(planter)
    await is_mended(storage, planter, whole, expected)


# -- the store ---------------------------------------------------------------------------------------------------


@BOTH
async def test_paths_that_nobody_fills_are_filled(storage: IUnifiedStorage, planter: Planter) -> None:
    whole = await planter.dump()
    for id in "ab":
        await planter.run.hset(planter.key("paths", id), "session metadata.user_id", "new")
    record, place = planter.layout.record("a", "session"), planter.key("y:session:metadata.user_id", "a")
    await planter.run.hset(record, "k", packed(("metadata.status", key("active")), ("metadata.name", NAME)))
    await planter.run.zrem(place, key("user a") + b"a")
    end = await planter.member("u:session", "a")
    await planter.run.zrem(planter.key("x:session:metadata.user_id", "a"), key("user a") + end)
    expected = Finding("path_unfilled", "", "session", True, detail="metadata.user_id")
    assert await found_by(storage) == [expected]
    assert await found_by(storage, repair=True) == [replace(expected, repaired=True)]
    after = await planter.dump()
    for number in range(planter.partitions):
        for found in (whole, after):
            del found[number, b"meta"][b"generation"]
    assert after == whole
    assert await found_by(storage) == []
    assert await storage.count({"type": "session", "metadata.user_id": "user a"}) == 1


NAME = escaped(order_key("x\0y" * 300)[:512])


@ALONE
async def test_a_counter_that_would_give_a_number_twice_is_set_right(
    storage: IUnifiedStorage, planter: Planter
) -> None:
    whole = await planter.dump()
    meta = planter.layout.meta(0)
    await planter.run.hset(meta, "incarnation", int(await planter.run.hget(meta, "incarnation")) - 3)
    await is_mended(storage, planter, whole, [Finding("counter_behind", "", "", True, detail="partition 0")])


@BOTH
async def test_what_lies_in_another_partition_is_told_and_left(storage: IUnifiedStorage, planter: Planter) -> None:
    number = (planter.layout.of("a") + 1) % 64
    fields = await planter.run.hgetall(planter.layout.record("a", "session"))
    await planter.run.hset(planter.layout.key(number, "r:session:a"), mapping=fields)
    await planter.run.zadd(planter.layout.key(number, "e:history/a"), {"x": 1})
    damaged = await planter.dump()
    expected = [
        Finding("wrong_partition", "a", "session", detail=detail)
        for detail in (f"partition {number}", f"partition {number}, history/a")
    ]
    assert in_order(await found_by(storage)) == expected
    assert in_order(await found_by(storage, repair=True)) == expected
    assert await planter.dump() == damaged


@BOTH
async def test_more_than_is_looked_at_at_once_is_found_whole(
    storage: IUnifiedStorage, planter: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.append("history/a", [{"body": n, "key": f"more{n}"} for n in range(600)])
    whole = await planter.dump()
    for name in ("_HEADS_AT_ONCE", "_WHOLE_AT_ONCE", "_LOGS_AT_ONCE", "_ENTRIES_AT_ONCE", "_MEMBERS_AT_ONCE"):
        monkeypatch.setattr(damage, name, 2)
    monkeypatch.setattr(examining, "_KEYS_AT_ONCE", 2)
    for id in ("a", "b", "ü/🙂"):
        await planter.run.zrem(planter.key("i:session", id), id)
        await planter.run.zadd(planter.key("u:note", id), {EARLIER + id.encode(): 0})
    await planter.run.hset(planter.key("k:history/a", "a"), mapping={f"no{n}": n for n in range(600)})
    await planter.run.hdel(planter.key("k:history/a", "a"), "more599", "more7")
    expected = [
        *(Finding("index_member_missing", id, "session", True, detail="i:session") for id in ("a", "b", "ü/🙂")),
        *(Finding("index_member_stale", id, "note", True, detail="u:note") for id in ("a", "b", "ü/🙂")),
        Finding("entry_key_differs", "a", "session", True, detail="history/a"),
    ]
    await is_mended(storage, planter, whole, expected)


@ALONE
async def test_what_a_writer_sets_right_meanwhile_is_not_overwritten(
    storage: IUnifiedStorage, planter: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document changes between the look at it and the mending of its keys."""
    await planter.run.hset(planter.layout.record("a", "session"), "k", packed(("metadata.status", key("gone"))))
    mend, meanwhile = damage.Damage._with_keys, asyncio.Event()

    async def later(self: damage.Damage, *arguments: Any) -> list[Finding]:
        if not meanwhile.is_set():
            meanwhile.set()
            await storage.update("a", {"metadata": {"status": "done"}}, type="session")
        return await mend(self, *arguments)

    monkeypatch.setattr(damage.Damage, "_with_keys", later)
    # the write itself went by the wrong keys, and left the places of the right ones behind
    assert {(one.kind, one.repaired) for one in await found_by(storage, repair=True)} == {("index_member_stale", True)}
    assert meanwhile.is_set()
    assert [one["id"] for one in await storage.list({"type": "session", "metadata.status": "done"})] == ["a"]
    assert await found_by(storage) == []
    assert await planter.is_whole()
