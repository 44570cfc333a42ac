"""A client that costs little: some connections, each sending its next request when the last one was answered."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"

Answered = Callable[[int, int, bytes], None]
"""Is told of each answer: the number of its request, its status, its body."""


@dataclass(slots=True)
class Measured:
    """What some requests took.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: of each answered request, in seconds.
        failures: requests that were answered by another status than 2xx, or not at all.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: int = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """What *share* of the requests took at most, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    @property
    def median(self) -> float:
        """In milliseconds."""
        return statistics.median(self.latencies) * 1000


def request(method: str, path: str, body: Any = None) -> bytes:
    """The bytes of a request; *body* is sent as JSON unless it is None."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\naccept: application/json\r\n"
    if content:
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return f"{head}\r\n".encode() + content


async def loaded(port: int, requests: Sequence[bytes], connections: int, answered: Answered | None = None) -> Measured:
    """Send *requests* over so many *connections*; each takes the next one when it is free."""
    measured, waiting = Measured(), iter(enumerate(requests))
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Connection(measured, waiting, answered), HOST, port))[1]
        for _ in range(min(connections, len(requests)))
    ]
    begun = time.perf_counter()
    for client in clients:
        client.begin()
    await asyncio.gather(*(client.ended for client in clients))
    measured.seconds = time.perf_counter() - begun
    return measured


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request. An answer tells its length, or has no body."""

    def __init__(self, measured: Measured, waiting: Iterator[tuple[int, bytes]], answered: Answered | None) -> None:
        self._measured = measured
        self._waiting = waiting
        self._answered = answered
        self._received = b""
        self._under_way: int | None = None
        self._sent = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def begin(self) -> None:
        """Send the next request; the connection ends where there is none."""
        number, sent = next(self._waiting, (None, b""))
        self._under_way = number
        if number is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(sent)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(_END)
        if not found:
            return
        told = _LENGTH.search(head)
        if len(body) < (int(told[1]) if told else 0):
            return
        self._received = b""
        self._note(int(head[9:12]), body)
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._measured.failures += self._under_way is not None
        self.ended.set_result(None)

    def _note(self, status: int, body: bytes) -> None:
        assert self._under_way is not None
        self._measured.latencies.append(time.perf_counter() - self._sent)
        self._measured.failures += not 200 <= status < 300
        if self._answered is not None:
            self._answered(self._under_way, status, body)
