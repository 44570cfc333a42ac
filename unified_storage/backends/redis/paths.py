"""The list of indexed paths that stands in a store: it grows at open, is filled in batches, and never shrinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unified_storage.backends.redis.client import RedisClient
from unified_storage.backends.redis.partitions import Layout, escaped
from unified_storage.backends.redis.rows import BYTES_AT_ONCE, HEAD, WHOLE, Row, row_of
from unified_storage.backends.redis.scripts import ADD_PATHS, FILL, FILLED, RECORDS
from unified_storage.backends.redis.together import together
from unified_storage.errors import StorageConfigurationError, StorageIntegrityError
from unified_storage.filters import Path, parse_path, path_text, value_at
from unified_storage.interface import Indexed
from unified_storage.order_keys import index_key

SCHEMA = 1
_FILL_AT_ONCE = 200
_FILLED_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class Paths:
    """The list as it was read last."""

    generations: Sequence[int] = ()
    """By partition: which list a writer has to know so that what it writes has every key."""
    by_type: Mapping[str, Mapping[Path, bool]] = field(default_factory=dict)
    """Every path, and whether all records have their key there: until then it must not be searched by."""
    unfilled: Sequence[tuple[int, str, Path]] = ()
    """Partition, type and path where records may lack their key."""
    is_made: bool = False
    """Whether every partition has the schema, and all of them the same paths: else somebody was killed making them."""
    is_begun: bool = False
    """Whether it has that of any partition."""

    def of(self, type_name: str) -> Mapping[Path, bool]:
        return self.by_type.get(type_name, {})


def _wanted(indexed: Indexed) -> dict[str, list[Path]]:
    """The paths to be indexed: columns have sorted sets of their own, or none."""
    return {kind: [path for path in sorted(paths) if len(path) > 1] for kind, paths in sorted(indexed.items())}


async def read_paths(client: RedisClient, layout: Layout, timeout: float) -> Paths:
    """The list of a store, an empty one where there is no store yet.

    Raises:
        StorageConfigurationError: the store has a later schema than this program knows.
    """
    asked: list[tuple[Any, ...]] = []
    for partition in range(layout.partitions):
        asked.append(("HMGET", layout.meta(partition), "schema", "generation"))
        asked.append(("HGETALL", layout.key(partition, "paths")))
    answers = await client.ask(asked, timeout=timeout)
    generations, unfilled, made = list[int](), list[tuple[int, str, Path]](), list[bool]()
    by_type: dict[str, dict[Path, bool]] = {}
    listed_by = Counter[tuple[str, Path]]()
    for partition, ((schema, generation), listed) in enumerate(zip(answers[::2], answers[1::2], strict=True)):
        _check_schema(schema)
        made.append(schema is not None)
        generations.append(int(generation or 0))
        for name, state in zip(listed[::2], listed[1::2], strict=True):
            kind, _, text = name.decode("utf-8", "surrogatepass").partition(" ")
            paths, path = by_type.setdefault(kind, {}), parse_path(text)
            paths[path] = paths.get(path, True) and state == b"filled"
            listed_by[kind, path] += 1
            if state != b"filled":
                unfilled.append((partition, kind, path))
    partial = [place for place, count in listed_by.items() if count < layout.partitions]
    for kind, path in partial:
        by_type[kind][path] = False
    return Paths(generations, by_type, unfilled, is_made=all(made) and not partial, is_begun=any(made))


def _check_schema(schema: bytes | None) -> None:
    if schema is not None and int(schema) > SCHEMA:
        raise StorageConfigurationError(
            f"the store has schema version {int(schema)}, this program knows {SCHEMA}: upgrade unified-storage",
            details={"found": int(schema), "known": SCHEMA},
        )


async def prepared_paths(client: RedisClient, layout: Layout, indexed: Indexed, timeout: float) -> Paths:
    """The list of a store that has every path of *indexed*, filled; makes the store where there is none."""
    paths = await read_paths(client, layout, timeout)
    wanted = _wanted(indexed)
    if not paths.is_made or any(set(each) - paths.of(kind).keys() for kind, each in wanted.items()):
        known = {kind: {*paths.of(kind), *wanted.get(kind, ())} for kind in {*paths.by_type, *wanted}}
        await _add(client, layout, known, timeout)
        paths = await read_paths(client, layout, timeout)
    for start in range(0, len(paths.unfilled), _FILLED_TOGETHER):
        some = paths.unfilled[start : start + _FILLED_TOGETHER]
        await together(_fill(client, layout, *each, timeout) for each in some)
    return await read_paths(client, layout, timeout) if paths.unfilled else paths


async def _add(client: RedisClient, layout: Layout, wanted: Mapping[str, Iterable[Path]], timeout: float) -> None:
    named = [(kind, _written(path)) for kind, paths in wanted.items() for path in paths]
    arguments = [SCHEMA, len(named), *(part for pair in named for part in pair)]
    every_partition = map(layout.script_keys, range(layout.partitions))
    await together(client.run(ADD_PATHS, keys, arguments, timeout=timeout) for keys in every_partition)


def _written(path: Path) -> bytes:
    return path_text(path).encode("utf-8", "surrogatepass")


async def _fill(client: RedisClient, layout: Layout, partition: int, kind: str, path: Path, timeout: float) -> None:
    """Give every record of a type in one partition its key at *path*, a few at a time."""
    script_keys = layout.script_keys(partition)
    ids_key, place = layout.key(partition, f"i:{kind}"), b"-"
    while True:
        command = ("ZRANGE", ids_key, place, "+", "BYLEX", "LIMIT", 0, _FILL_AT_ONCE)
        (ids,) = await client.ask([command], timeout=timeout)
        looked_at, keys = await _keys(client, script_keys, kind, path, ids, timeout)
        if keys:
            arguments = [kind, _written(path), len(keys), *(part for each in keys for part in each)]
            await client.run(FILL, script_keys, arguments, timeout=timeout)
        if looked_at == len(ids) < _FILL_AT_ONCE:
            break
        place = b"(" + ids[looked_at - 1]
    field_name = kind.encode() + b" " + _written(path)
    await client.run(FILLED, script_keys, [field_name], timeout=timeout)


async def _keys(
    client: RedisClient, script_keys: Sequence[str], kind: str, path: Path, ids: Sequence[bytes], timeout: float
) -> tuple[int, list[tuple[bytes, int, int, bytes]]]:
    """How many of the first *ids* were looked at; id, incarnation, version when written, and key of those of them
    that have a value at *path*."""
    if not ids:
        return 0, []
    with_data = path[0] == "data"
    asked = [int(with_data), 1, BYTES_AT_ONCE, *(part for id in ids for part in (kind, id))]
    found = await client.read_script(RECORDS, script_keys, asked, timeout=timeout)
    width = len(WHOLE if with_data else HEAD)
    keys = []
    looked_at = len(found) // width
    for place, id in enumerate(ids[:looked_at]):
        key, row = _key((id.decode(), kind), found[place * width : (place + 1) * width], path)
        if key is not None and row is not None:
            keys.append((id, row.incarnation, row.written, escaped(key)))
    return looked_at, keys


def _key(record: tuple[str, str], stored: Sequence[bytes | None], path: Path) -> tuple[bytes | None, Row | None]:
    try:
        row = row_of(record, stored)
        return (None if row is None else index_key(value_at(row.handed_out(path[0] == "data"), path))[0]), row
    except StorageIntegrityError:
        return None, None  # who reads it is told so; the others are not to wait for it
