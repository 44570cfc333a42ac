"""A gate before a real server: connections go through it, and it can stop, cut or turn them away."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from urllib.parse import urlsplit, urlunsplit

from tests.namespaces import without_query

_TLS_REQUEST = struct.pack("!ii", 8, 80877103)


class Gate:
    """Listens on a port of its own, always the same, and passes on what comes, both ways.

    Args:
        url: of the server behind it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(without_query(url))
        self._behind = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._parts = parts
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.answers: list[bytes] = []
        """What the next ones that connect are told instead of being let through."""
        self.asked = 0
        """How many have connected, or tried to."""

    @property
    def url(self) -> str:
        login = f"{self._parts.netloc.rpartition('@')[0]}@" if "@" in self._parts.netloc else ""
        return urlunsplit(self._parts._replace(netloc=f"{login}127.0.0.1:{self.port}"))

    async def __aenter__(self) -> Gate:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._let_in, "127.0.0.1", self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Nobody listens any more, and whoever was connected is cut off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """Cut off whoever is connected."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Keep everything open, and pass nothing on; new ones may come, and hear nothing."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.answers:
                await _answer(reader, writer, self.answers.pop(0))
            else:
                await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # cut off, by one side or by the test
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        behind_reader, behind_writer = await asyncio.open_connection(*self._behind)
        try:
            ways = {
                asyncio.ensure_future(self._pass_on(reader, behind_writer)),
                asyncio.ensure_future(self._pass_on(behind_reader, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            behind_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        request = await reader.readexactly(8)
        if request == _TLS_REQUEST:
            writer.write(b"N")
            request = await reader.readexactly(8)
        await reader.readexactly(struct.unpack("!i", request[:4])[0] - 8)
        writer.write(answer)
        await writer.drain()


def fatal(state: str, message: str) -> bytes:
    """A server's last words to somebody who connects."""
    body = f"SFATAL\0VFATAL\0C{state}\0M{message}\0\0".encode()
    return b"E" + struct.pack("!i", len(body) + 4) + body
