"""One connection to one node, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from unified_storage.backends.redis.answers import Answers
from unified_storage.backends.redis.errors import NotSent
from unified_storage.backends.redis.settings import Address, Settings

_MOST_READ = 1 << 18
Command = Sequence[str | bytes | int | float]


class Line:
    """A connection that redis-py makes, and whose streams we use.

    Which kind of end it comes to decides what may be sent again; and lists are read in a fraction of the time.
    """

    def __init__(self, address: Address, settings: Settings) -> None:
        self._address = address
        self._answers = Answers()
        kind = SSLConnection if settings.is_secure else Connection
        # No time-outs of its own: whoever uses the line limits the time, and learns what was reached by then.
        self._connection: Any = kind(
            host=address.host,
            port=address.port,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            socket_connect_timeout=settings.connect_timeout,
            **settings.driver,
        )

    def packed(self, commands: Sequence[Command]) -> bytes:
        """*commands* as they go over the wire."""
        pieces: list[bytes] = []
        for command in commands:
            pieces.append(b"*%d\r\n" % len(command))
            for word in command:
                if type(word) is str:
                    text = word.encode()
                elif type(word) is bytes:
                    text = word
                elif type(word) is int:
                    text = b"%d" % word
                else:  # redis-py takes more kinds, and refuses what is none, in three times the time
                    return b"".join(self._connection.pack_commands(commands))
                pieces.append(b"$%d\r\n%b\r\n" % (len(text), text))
        return b"".join(pieces)

    async def connect(self, timeout: float) -> None:
        """Be connected, with nothing left unread; ``NotSent`` after *timeout* seconds or when it is refused."""
        if self._is_usable():
            return
        self.cut()
        try:
            async with asyncio.timeout(timeout):
                await self._connection.connect()
        except (RedisError, OSError) as error:
            self.cut()
            raise NotSent(f"no connection to Redis at {self._address}: {error}") from error
        except BaseException:
            self.cut()
            raise

    def _is_usable(self) -> bool:
        """Whether the loop, which had a turn since this was asked for, has seen no end and no stray answer."""
        reader, writer = self._connection._reader, self._connection._writer
        if reader is None or writer is None:
            return False
        is_quiet = self._answers.is_empty and not reader._buffer
        return is_quiet and not (reader.at_eof() or reader.exception() or writer.is_closing())

    async def send(self, packed: Sequence[bytes]) -> None:
        await self._connection.send_packed_command(packed, check_health=False)

    async def answer(self) -> Any:
        """The next answer; an error that the server answers with is returned."""
        while not self._answers.whole:
            reader = self._connection._reader  # none any more once the line was cut
            piece = b"" if reader is None else await reader.read(_MOST_READ)
            if not piece:
                raise RedisConnectionError("it has ended")
            self._answers.feed(piece)
        found = self._answers.whole.popleft()
        # Not of the command, but of the connection: it was refused as one too many.
        if isinstance(found, RedisConnectionError) and found.status_code == "ERR":
            raise found
        return found

    async def hang_up(self) -> None:
        """End the connection in an orderly way; connecting again is possible."""
        await self._connection.disconnect()

    def cut(self) -> asyncio.WriteTransport | None:
        """End the connection at once; on another thread than the loop's only while the loop does not run.

        Returns:
            What the loop has still to close, at its next turn.
        """
        writer, connection = self._connection._writer, self._connection
        connection._parser.on_disconnect()
        connection._writer = connection._reader = None
        self._answers = Answers()
        if writer is None:
            return None
        with suppress(RuntimeError):  # the loop is closed
            writer.transport.abort()
        transport: asyncio.WriteTransport = writer.transport
        return transport


def close_for(loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
    """Close the socket of a transport whose *loop* was closed before it could do so."""
    assert loop.is_closed()
    secured = getattr(transport, "_ssl_protocol", None)
    inner = transport if secured is None else secured._transport
    # There is no public way: every other one asks the closed loop for a turn.
    finish = getattr(inner, "_call_connection_lost", None)
    if finish is not None:
        with suppress(RuntimeError, AttributeError):  # whoever waited on that loop cannot be woken any more
            finish(None)
