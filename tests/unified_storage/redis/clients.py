"""Clients and servers for the tests of the Redis client."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from unified_storage import StorageError
from unified_storage.backends.redis.client import Client, RedisClient, Script, opened_client
from unified_storage.opening import parse_url

COUNT = Script("return redis.call('INCR', KEYS[1])")
"""Writes, and tells how often it has been carried out."""
COUNT_SLOWLY = Script(
    """
    local n = redis.call('INCR', KEYS[1])
    local function now()
      local time = redis.call('TIME')
      return time[1] * 1000000 + time[2]
    end
    local till = now() + tonumber(ARGV[1])
    while now() < till do end
    return n
    """
)
"""The same, in so many microseconds."""
VALUE = Script("return redis.call('GET', KEYS[1])")


def client_of(url: str, **options: Any) -> RedisClient:
    parsed = parse_url(url)
    return opened_client(parsed, {**parsed.options, **options})


@asynccontextmanager
async def client_on(url: str, **options: Any) -> AsyncIterator[Client]:
    client = client_of(url, **options)
    assert isinstance(client, Client)
    try:
        yield client
    finally:
        await client.close()


class Counted:
    """Counts on a key, and remembers what was acknowledged and what was not."""

    def __init__(self, client: RedisClient, key: str, timeout: float = 15) -> None:
        self._client = client
        self._key = key
        self._timeout = timeout
        self.acknowledged = 0
        self.unknown = 0
        self.refused: list[StorageError] = []

    async def go_on(self, seconds: float) -> None:
        till = time.monotonic() + seconds
        while time.monotonic() < till:
            try:
                await self._client.run(COUNT, [self._key], [], timeout=self._timeout)
            except StorageError as error:
                if error.details.get("outcome") == "unknown":
                    self.unknown += 1
                else:
                    self.refused.append(error)
            else:
                self.acknowledged += 1


class Proxy:
    """A server in front of a server, which can keep its answers to itself."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.answers_left = -1
        """How many pieces of answers still pass before the connection is cut; below 0 all of them."""
        self.connections = 0

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, forth))
                both.create_task(self._pump(back, writer, counted=True))
        except* (ConnectionError, _CutError):
            pass
        finally:
            self._tasks.discard(task)
            for stream in (forth, writer):
                stream.close()
                with suppress(ConnectionError):
                    await stream.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool = False) -> None:
        while piece := await reader.read(1 << 16):
            if counted and self.answers_left == 0:
                self.answers_left = -1
                raise _CutError
            self.answers_left -= counted
            writer.write(piece)
            await writer.drain()
        raise _CutError


class _CutError(Exception):
    pass
