"""Whether everything that a Redis store keeps beside its records says what the records say: read raw, key by key."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.engines import redis_client
from unified_storage.backends.redis.partitions import Layout, escaped, key_prefix, time_of, time_text
from unified_storage.filters import parse_path, value_at
from unified_storage.logs import parse_log_id
from unified_storage.order_keys import index_key
from unified_storage.values import decode

LEX = ("i", "c", "u", "x", "y", "g", "exp", "logs")


@dataclass
class Stored:
    """What lies under the names of one partition."""

    hashes: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    sets: dict[bytes, set[bytes]] = field(default_factory=dict)
    scored: dict[bytes, dict[bytes, float]] = field(default_factory=dict)


async def stored(url: str, namespace: str) -> dict[int, Stored]:
    """Everything under a namespace, by partition."""
    found: dict[int, Stored] = defaultdict(Stored)
    prefix = key_prefix(namespace).encode()
    async with redis_client(url) as client:
        options: list[dict[str, Any]] = [{}]
        if "cluster" in url:
            options = [{"target_nodes": node} for node in client.get_primaries()]
        for option in options:
            async for key in client.scan_iter(match=prefix + b"*", count=1000, **option):
                assert await client.ttl(key) == -1, f"{key!r} would go by itself"
                tag, _, name = key.removeprefix(prefix + b"{p").partition(b"}:")
                await _read(client, key, name, found[int(tag)])
    return dict(found)


async def _read(client: Any, key: bytes, name: bytes, into: Stored) -> None:
    match await client.type(key):
        case b"hash":
            into.hashes[name] = await client.hgetall(key)
        case b"set":
            into.sets[name] = set(await client.smembers(key))
        case b"zset":
            into.scored[name] = dict(await client.zrange(key, 0, -1, withscores=True))
        case other:
            raise AssertionError(f"{key!r} is a {other!r}")


async def assert_whole(url: str, namespace: str, partitions: int = 1) -> int:
    """Raise ``AssertionError`` for anything superfluous, missing or stale; how many records there are."""
    layout, records = Layout(key_prefix(namespace), partitions), 0
    for number, part in (await stored(url, namespace)).items():
        records += _check(number, part, layout)
    return records


def _check(number: int, part: Stored, layout: Layout) -> int:
    members: dict[bytes, set[bytes]] = defaultdict(set)
    hashes: dict[bytes, dict[bytes, bytes]] = {name: part.hashes[name] for name in (b"meta", b"paths")}
    paths = [name.decode().split(" ", 1) for name in hashes[b"paths"]]
    records = {name: found for name, found in part.hashes.items() if name.startswith(b"r:")}
    incarnations = set()
    for name, record in records.items():
        kind, id = name.removeprefix(b"r:").decode().split(":", 1)
        assert layout.of(id) == number, f"{id!r} lies in partition {number}"
        incarnation = _expect_members(
            kind, id, record, [path for type_name, path in paths if type_name == kind], members
        )
        assert incarnation not in incarnations, "two records have one incarnation"
        incarnations.add(incarnation)
        hashes[name] = record
        for log_id in part.hashes.get(owned := f"o:{kind}:{id}".encode(), {}):
            hashes[owned] = part.hashes[owned]
            assert parse_log_id(log_id.decode()).owner_key == (id, kind)
            members[b"logs"].add(log_id)
            _check_log(log_id, int(part.hashes[owned][log_id]), part, hashes)
    assert int(hashes[b"meta"].get(b"incarnation", 0)) >= max(incarnations, default=0)
    assert part.hashes.keys() == hashes.keys(), "hashes of nothing"
    lexical = {name: set(found) for name, found in part.scored.items() if name.split(b":")[0].decode() in LEX}
    assert lexical == members
    assert all(score == 0 for name in lexical for score in part.scored[name].values())
    logs = {b"e:" + log_id for log_id in members.get(b"logs", ())}
    assert part.scored.keys() - lexical.keys() <= logs, "entries of no log"
    kinds = {name.split(b":")[1] for name in records}
    assert part.sets.keys() <= {b"t"}
    assert kinds <= part.sets.get(b"t", set())
    return len(records)


def _expect_members(
    kind: str, id: str, record: dict[bytes, bytes], paths: list[str], members: dict[bytes, set[bytes]]
) -> int:
    head = msgspec.msgpack.decode(record[b"h"])
    incarnation, version, written, created, updated, expires, session_id, thread_id = head
    assert 1 <= written <= version
    assert all(time_text(time_of(time)) == time for time in (created, updated))
    data, metadata = decode(record[b"d"]), decode(record[b"m"]) if b"m" in record else None
    own = id.encode()
    typed = own + b"\0" + kind.encode()
    members[b"i"].add(typed)
    members[f"i:{kind}".encode()].add(own)
    members[f"c:{kind}".encode()].add(created.encode() + own)
    members[f"u:{kind}".encode()].add(updated.encode() + own)
    if session_id:
        members[b"g:s"].add(session_id.encode() + b"\0" + typed)
    if thread_id:
        members[b"g:t"].add(thread_id.encode() + b"\0" + typed)
    if expires:
        members[b"exp"].add(expires.encode() + kind.encode() + b":" + own)
    for path in paths:
        key, _ = index_key(value_at({"data": data, "metadata": metadata}, parse_path(path)))
        if key is not None:
            members[f"y:{kind}:{path}".encode()].add(escaped(key) + own)
            members[f"x:{kind}:{path}".encode()].add(escaped(key) + updated.encode() + own)
    return int(incarnation)


def _check_log(log_id: bytes, last: int, part: Stored, hashes: dict[bytes, dict[bytes, bytes]]) -> None:
    keys = {}
    for entry, score in part.scored.get(b"e:" + log_id, {}).items():
        seq, created, key, body = entry.split(b"\0", 3)
        assert int(seq) == score <= last
        assert len(created) == 18
        decode(body)
        if key:
            keys[key] = seq
    assert part.hashes.get(b"k:" + log_id, {}) == keys
    if keys:
        hashes[b"k:" + log_id] = keys
