"""Looking a store over while others use it: every key of it is come by once, by scanning the servers."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from unified_storage.backends.redis.damage import Damage, SeenLog
from unified_storage.backends.redis.damage_scripts import KEYS_BY_NAME, NODE
from unified_storage.backends.redis.paths import prepared_paths, read_paths
from unified_storage.backends.redis.rows import Key
from unified_storage.backends.redis.store import Store
from unified_storage.errors import StorageValidationError
from unified_storage.filters import Path, path_text
from unified_storage.findings import LOG_ORPHANED, PATH_UNFILLED, WRONG_PARTITION, Finding
from unified_storage.interface import Findings
from unified_storage.logs import parse_log_id

_KEYS_AT_ONCE = 500
_TIME_TO_FILL = 3.0
"""Seconds that somebody who is filling a path has to get through, in a store that was walked through quickly."""
_SETS = (b"i", b"c", b"u", b"x", b"y", b"g", b"exp", b"logs")
_NOBODY: Key = ("", "")
Unfilled = set[tuple[int, str, Path]]
"""Partitions, types and paths where records may lack their key."""


@dataclass
class _Names:
    """What the names of some keys tell, by partition."""

    records: dict[int, list[Key]] = field(default_factory=lambda: defaultdict(list))
    logs: dict[int, list[SeenLog]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[int, list[Key]] = field(default_factory=lambda: defaultdict(list))
    misplaced: Findings = field(default_factory=list)


class Examination:
    """One walk through every key of a store.

    Args:
        ready: gives the store, or says why it may not be used now.
    """

    def __init__(self, ready: Callable[[], Awaitable[Store]], *, repair: bool) -> None:
        self._ready = ready
        self._repair = repair
        self._damages: dict[int, Damage] = {}

    async def findings(self) -> AsyncGenerator[Findings, None]:
        """What is wrong, and was mended where that was asked for, batch by batch."""
        waiting = await self._unfilled()
        for partition in await self._one_of_each_node():
            async for found in self._on_node(partition):
                yield found
        for damage in self._damages.values():
            if found := await damage.of_counter():
                yield found
        if found := await self._left_unfilled(waiting):
            yield found

    async def _of(self, partition: int) -> Damage:
        store = await self._ready()
        if partition not in self._damages:
            self._damages[partition] = Damage(store, partition, repair=self._repair)
        return self._damages[partition]

    # -- keys ----------------------------------------------------------------------------------------------------

    async def _one_of_each_node(self) -> Iterable[int]:
        """A partition on each node: by its key ``meta`` the node is asked what keys it has."""
        store = await self._ready()
        partitions = range(store.layout.partitions)
        if len(partitions) == 1:
            return partitions
        nodes = await store.ask([store.reading(NODE, partition) for partition in partitions])
        return {node: partition for partition, node in zip(partitions, nodes, strict=True)}.values()

    async def _on_node(self, partition: int) -> AsyncGenerator[Findings, None]:
        sets: set[tuple[int, bytes]] = set()
        cursor = b"0"
        while True:
            store = await self._ready()
            pattern = f"{store.layout.prefix}{{p*"
            ask = store.reading(KEYS_BY_NAME, partition, cursor, pattern, _KEYS_AT_ONCE)
            ((cursor, keys),) = await store.ask([ask])
            if found := await self._of_names(_names(store, keys, sets)):
                yield found
            if cursor == b"0":
                break
        # Behind the records: what is put right there is right in the sets too.
        for number, name in sorted(sets):
            async for found in (await self._of(number)).of_set(name):
                yield found

    async def _of_names(self, names: _Names) -> Findings:
        found = [*names.misplaced]
        for partition, keys in names.records.items():
            found += await (await self._of(partition)).of_records(keys)
        for partition, owners in names.owners.items():
            found += await self._of_owners(partition, owners)
        for partition, logs in names.logs.items():
            damage = await self._of(partition)
            of_logs = await damage.of_logs(logs)
            found += of_logs
            # What goes with its log, or belongs to it again, is no finding of its own.
            known = set() if self._repair else {one.detail for one in of_logs if one.kind == LOG_ORPHANED}
            left = [log for log in logs if log.log_id not in known]
            found += await damage.of_entries(await self._first_seen(partition, left))
        return found

    async def _first_seen(self, partition: int, logs: list[SeenLog]) -> list[SeenLog]:
        """*logs* without those told by their keys that their entries tell of too."""
        store = await self._ready()
        by_keys = [log for log in logs if log.told_by == "k"]
        answers = await store.ask([("EXISTS", store.layout.key(partition, f"e:{log.log_id}")) for log in by_keys])
        with_entries = {log for log, answer in zip(by_keys, answers, strict=True) if answer}
        return [log for log in logs if log not in with_entries]

    async def _of_owners(self, partition: int, owners: list[Key]) -> Findings:
        """What records say their logs are: they may be strangers', or have no entries that would tell of them."""
        store, damage = await self._ready(), await self._of(partition)
        answers = await store.ask([("HKEYS", store.layout.key(partition, f"o:{kind}:{id}")) for id, kind in owners])
        found: Findings = []
        for owner, members in zip(owners, answers, strict=True):
            logs = [_log(member, "o") for member in members]
            for log in logs:
                if log.owner != owner:
                    found += await damage.of_stranger(owner, log)
            found += await damage.of_logs([log for log in logs if log.owner == owner])
        return found

    # -- paths ---------------------------------------------------------------------------------------------------

    async def _unfilled(self) -> Unfilled:
        store = await self._ready()
        return {*(await read_paths(store.client, store.layout, store.timeout)).unfilled}

    async def _left_unfilled(self, waiting: Unfilled) -> Findings:
        """The paths that were unfilled before the walk, and stay so behind it: nobody is on the way with them.

        Where somebody is after all, the keys are written twice, and are the same.
        """
        due = time.monotonic() + _TIME_TO_FILL
        while left := waiting & await self._unfilled():
            if time.monotonic() > due:
                break
            await asyncio.sleep(_TIME_TO_FILL / 20)
        after = left
        if left and self._repair:
            store = await self._ready()
            store.paths = await prepared_paths(store.client, store.layout, {}, store.timeout)
            after = await self._unfilled()
        by_path = {(kind, path) for _, kind, path in left}
        still = {(kind, path) for _, kind, path in after}
        return [
            Finding(PATH_UNFILLED, "", kind, True, self._repair and (kind, path) not in still, path_text(path))
            for kind, path in sorted(by_path)
        ]


def _names(store: Store, keys: Iterable[bytes], sets: set[tuple[int, bytes]]) -> _Names:
    """What *keys* are; sorted sets, which come later, are added to *sets*."""
    names, prefix = _Names(), f"{store.layout.prefix}{{p".encode()
    for key in {*keys}:
        tag, _, name = key.removeprefix(prefix).partition(b"}:")
        letter, _, rest = name.partition(b":")
        partition = int(tag) if tag.isdigit() else store.layout.partitions
        if letter in _SETS and partition < store.layout.partitions:
            sets.add((partition, name))
        elif letter in (b"r", b"o"):
            kind, _, id = rest.decode().partition(":")
            _sort_in(store, names, partition, letter, (id, kind), None)
        elif letter in (b"e", b"k"):
            log = _log(rest, letter.decode())
            _sort_in(store, names, partition, letter, log.owner, log)
    return names


def _sort_in(store: Store, names: _Names, partition: int, letter: bytes, owner: Key, log: SeenLog | None) -> None:
    if partition != store.layout.of(owner[0]) and owner != _NOBODY:
        if letter in (b"r", b"e"):
            detail = f"partition {partition}" if log is None else f"partition {partition}, {log.log_id}"
            names.misplaced.append(Finding(WRONG_PARTITION, *owner, detail=detail))
    elif log is not None:
        names.logs[partition].append(log)
    elif letter == b"r":
        names.records[partition].append(owner)
    else:
        names.owners[partition].append(owner)


def _log(log_id: bytes, told_by: str) -> SeenLog:
    """A log as a key or a field tells it; one under whose id no verb would look has no owner."""
    text = log_id.decode("utf-8", "backslashreplace")
    try:
        name = parse_log_id(text)
    except StorageValidationError:
        return SeenLog(_NOBODY, text, told_by)
    return SeenLog(name.owner_key if name.log_id == text else _NOBODY, text, told_by)
