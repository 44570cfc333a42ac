"""What every verb needs to know of its store, and how it asks and writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from unified_storage.backends.redis.client import Argument, RedisClient, Script
from unified_storage.backends.redis.commits import Commits
from unified_storage.backends.redis.jobs import Job
from unified_storage.backends.redis.partitions import Layout
from unified_storage.backends.redis.paths import Paths, read_paths
from unified_storage.backends.redis.rows import BYTES_AT_ONCE, HEAD, WHOLE, Key, Row, packed_index_keys, row_of
from unified_storage.backends.redis.scripts import OF_ID, RECORDS
from unified_storage.clock import Clock
from unified_storage.errors import StorageTimeoutError
from unified_storage.record import Draft, now_micros

Command = tuple[Argument, ...]
_RECORDS_AT_ONCE = 500


class Store:
    """A client, the layout of the keys, the clock, and the list of indexed paths as it was read last."""

    def __init__(self, client: RedisClient, layout: Layout, clock: Clock, timeout: float) -> None:
        self.client = client
        self.layout = layout
        self.clock = clock
        self.timeout = timeout
        self.paths = Paths()
        self._commits = Commits(client, layout, timeout)

    def now(self) -> int:
        return now_micros(self.clock)

    # -- asking --------------------------------------------------------------------------------------------------

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        return await self.client.ask(commands, timeout=self.timeout) if commands else []

    def reading(self, script: Script, partition: int, *arguments: Argument) -> Command:
        """The command that runs a reading script in a partition."""
        return script.reading(self.layout.script_keys(partition), arguments)

    async def row(self, key: Key, *, with_data: bool) -> Row | None:
        """A stored record, also one whose time is over."""
        fields = WHOLE if with_data else HEAD
        (stored,) = await self.ask([("HMGET", self.layout.record(*key), *fields)])
        return row_of(key, stored)

    async def heads(self, keys: Sequence[Key]) -> list[Row | None]:
        """Stored records in the order of *keys*, without their documents."""
        found = await self.some_rows(keys, with_data=False)
        return [found[key] for key in keys]

    async def some_rows(self, keys: Sequence[Key], *, with_data: bool) -> dict[Key, Row | None]:
        """Stored records, the first of *keys* among them: of documents so many as are some megabytes, else all."""
        by_partition: dict[int, list[Key]] = {}
        for key in keys:
            by_partition.setdefault(self.layout.of(key[0]), []).append(key)
        batches = [
            (partition, wanted[place : place + _RECORDS_AT_ONCE])
            for partition, wanted in by_partition.items()
            for place in range(0, len(wanted), _RECORDS_AT_ONCE)
        ]
        most = BYTES_AT_ONCE // max(1, len(batches))
        answers = await self.ask(
            [
                self.reading(
                    RECORDS,
                    partition,
                    *(int(with_data), int(batch[0] == keys[0]), most),
                    *(part for id, kind in batch for part in (kind, id)),
                )
                for partition, batch in batches
            ]
        )
        width = len(WHOLE if with_data else HEAD)
        return {
            key: row_of(key, answer[place * width : (place + 1) * width])
            for (_, batch), answer in zip(batches, answers, strict=True)
            for place, key in enumerate(batch[: len(answer) // width])
        }

    async def rows_of(self, id: str, *, with_data: bool) -> list[Row]:
        """The stored records of an id, of whatever type, by type."""
        return (await self.rows_of_each([id], with_data=with_data))[0]

    async def rows_of_each(self, ids: Sequence[str], *, with_data: bool) -> list[list[Row]]:
        answers = await self.ask([self.reading(OF_ID, self.layout.of(id), id, int(with_data)) for id in ids])
        width = 1 + len(WHOLE if with_data else HEAD)
        found = []
        for id, answer in zip(ids, answers, strict=True):
            each = (answer[place : place + width] for place in range(0, len(answer), width))
            found.append([row for kind, *stored in each if (row := row_of((id, kind.decode()), stored)) is not None])
        return found

    # -- writing -------------------------------------------------------------------------------------------------

    def index_keys(self, row: Row | Draft) -> bytes:
        """The keys of a record at the indexed paths of its type."""
        paths = self.paths.of(row.type)
        if isinstance(row, Draft):
            return packed_index_keys(paths, row.data_text, row.metadata_text)
        assert row.data is not None
        return packed_index_keys(paths, row.data, row.metadata)

    def job(self, partition: int) -> Job:
        """A job of changes whose keys are made by the present list of paths."""
        return Job(generation=self.paths.generations[partition])

    async def commit(self, partition: int, build: Callable[[], Job]) -> list[Any]:
        """Have a job done; what the script says of it, ``done`` or why not.

        Args:
            build: makes the job; again where another program has indexed more paths meanwhile.
        """
        while True:
            reply = await self._commits.done(partition, build().arguments())
            if reply[0] != b"paths":
                return reply
            await self.reload_paths()

    async def reload_paths(self) -> None:
        self.paths = await read_paths(self.client, self.layout, self.timeout)


class Patience:
    """Pauses between attempts that others keep disturbing, up to a limit."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = asyncio.get_running_loop().time() + timeout
        self._longest = 0.001

    async def pause(self) -> None:
        """Wait a random while, longer each time.

        Raises:
            StorageTimeoutError: the time is over.
        """
        if asyncio.get_running_loop().time() >= self._end:
            raise StorageTimeoutError(f"others changed the same record for {self._timeout} s")
        await asyncio.sleep(random.uniform(0, self._longest))
        self._longest = min(self._longest * 2, 0.05)
