"""Every command that a Redis server is asked for, as it tells itself."""

import asyncio
import contextlib
import re
import shlex
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.engines import fresh_namespace

SCANNING = {"KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN", "RANDOMKEY"}
"""Commands that look at all keys, or at all of one."""
_LINE = re.compile(rb"\+[\d.]+ \[\d+ (?P<who>[^\]]+)\] (?P<words>.*)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One that was executed; ``by_script`` inside of a script."""

    by_script: bool
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0].upper()


@dataclass
class Told:
    """The commands of one stretch of time, of all nodes, those of a script behind it."""

    commands: list[Command] = field(default_factory=list)

    def names(self, *, by_script: bool | None = None) -> Counter[str]:
        return Counter(each.name for each in self.commands if by_script in (None, each.by_script))

    @property
    def asked(self) -> int:
        """What came over the wire."""
        return sum(not each.by_script for each in self.commands)


class Monitor:
    """Listens to every command of the nodes of a server."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Told]:
        told = Told()
        streams = [await asyncio.open_connection("127.0.0.1", port) for port in self._ports]
        for reader, writer in streams:
            writer.write(b"MONITOR\r\n")
            assert await reader.readline() == b"+OK\r\n"
        try:
            yield told
            for (reader, _), port in zip(streams, self._ports, strict=True):
                told.commands += await _until_marked(reader, port)
        finally:
            for _, writer in streams:
                writer.close()
                await writer.wait_closed()


async def _until_marked(reader: asyncio.StreamReader, port: int) -> list[Command]:
    mark = fresh_namespace("mark")
    other, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"ECHO {mark}\r\n".encode())
    await other.readline()
    writer.close()
    await writer.wait_closed()
    found = []
    while mark.encode() not in (line := await reader.readline()):
        told = _LINE.match(line.strip())
        assert told is not None, line
        found.append(Command(told["who"] == b"lua", tuple(shlex.split(told["words"].decode("latin-1")))))
    return [each for each in found if each.name not in ("HELLO", "CLIENT", "PING", "INFO", "CLUSTER", "SELECT")]
