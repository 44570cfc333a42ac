"""One node on one event loop: a few lines, and requests that wait together are sent together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from unified_storage.backends.redis.errors import Lost, NotSent
from unified_storage.backends.redis.line import Command, Line
from unified_storage.backends.redis.settings import Address, Settings
from unified_storage.errors import StorageClosedError
from unified_storage.transactions import to_the_end

Outcome = list[Any] | NotSent | Lost | StorageClosedError
log = logging.getLogger(__name__)
_MOST_TOGETHER = 256
_MOST_BYTES = 1 << 20
"""A bigger request travels alone: the server holds what it has received of one connection in memory."""
_LONG_SILENCE = 1.5
_LAST_MOMENT = 1.0
"""Seconds, both."""


class Request:
    """Commands for one node, in one piece, and who waits for their answers.

    Args:
        deadline: the loop's time at which waiting ends; what was sent by then is ``Lost``, else it is ``NotSent``.
        once: they write, so a cancelled caller waits for the end of what was sent.
    """

    __slots__ = ("_caller", "_ended", "_is_over", "_is_sent", "_timer", "answers", "deadline", "once", "packed")

    def __init__(self, packed: bytes, answers: int, *, deadline: float, once: bool) -> None:
        loop = asyncio.get_running_loop()
        self.packed = packed
        self.answers = answers
        self.deadline = deadline
        self.once = once
        self._is_sent = False
        self._is_over = False
        self._caller: asyncio.Future[Outcome] = loop.create_future()
        self._ended: asyncio.Future[None] | None = None
        self._timer = loop.call_at(deadline, self._expire)

    def take(self) -> bool:
        """Whether it is to be sent, now: nobody may wait for it any more."""
        self._is_sent = not self._caller.done()
        return self._is_sent

    def settle(self, outcome: Outcome) -> None:
        """The end of it, unless it has ended before."""
        self._is_over = True
        self._timer.cancel()
        if not self._caller.done():
            self._caller.set_result(outcome)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def abandon(self) -> None:
        """Nobody asks for the outcome any more."""
        self._timer.cancel()
        self._caller.cancel()

    def _expire(self) -> None:
        if self._is_sent:
            self.settle(Lost("Redis gave no answer in time", late=True))
        else:
            self.settle(NotSent("no connection to Redis was free in time", late=True))

    async def outcome(self) -> Outcome:
        """The answers, errors of the server among them, or why there are none."""
        try:
            return await self._caller
        except asyncio.CancelledError:
            if self.once and self._is_sent and not self._is_over:
                # Wholly done or not done: whoever cancels a write finds it at its end.
                self._ended = asyncio.get_running_loop().create_future()
                await to_the_end(self._ended)
            raise
        finally:
            self._timer.cancel()


class Node:
    """What is asked of one node: at most ``pool_size`` lines, first come first served.

    Args:
        on_silence: called with the address about every second in which the node was asked and gave no answer.
    """

    def __init__(self, address: Address, settings: Settings, on_silence: Callable[[Address], None]) -> None:
        self.address = address
        self._settings = settings
        self._on_silence = on_silence
        self._listener: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._packer = Line(address, settings)
        self._waiting: deque[Request] = deque()
        self._free: list[Line] = []
        self._made: list[Line] = []
        self._at_work: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._is_retired = False

    def request(self, commands: Sequence[Command], *, deadline: float, once: bool = False) -> Request:
        """Have *commands* sent as soon as a line is free; what else is asked meanwhile goes with them.

        Raises:
            redis.DataError: an argument that is neither text, bytes nor a number.
        """
        request = Request(self._packer.packed(commands), len(commands), deadline=deadline, once=once)
        self._waiting.append(request)
        self._begin_soon()
        return request

    def _begin_soon(self) -> None:
        if not self._is_due:
            # At the end of this turn of the loop: those whose answers came together ask together again, and lines
            # that the server ended meanwhile are known to be lost, before anything is sent that it may have executed.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        loop = asyncio.get_running_loop()
        while self._waiting and (line := self._free_line()) is not None:
            work = loop.create_task(self._work(line, self._next_batch()))
            self._at_work.add(work)
            work.add_done_callback(self._at_work.discard)
        if self._listener is None:
            self._heard_at = loop.time()
            self._listen()

    def _listen(self) -> None:
        """Look once a second, as long as something is under way, whether anything was heard."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_at > _LONG_SILENCE:
            self._on_silence(self.address)
        self._listener = loop.call_later(1, self._listen) if self._at_work and not self._is_retired else None

    def _free_line(self) -> Line | None:
        if self._free:
            return self._free.pop()
        if len(self._made) >= self._settings.pool_size:
            return None
        self._made.append(Line(self.address, self._settings))
        return self._made[-1]

    async def _work(self, line: Line, batch: list[Request]) -> None:
        try:
            while batch:
                await _exchange(line, batch, self._settings.attempt_timeout)
                self._heard_at = asyncio.get_running_loop().time()
                batch = self._next_batch()
        finally:
            if self._is_retired:
                line.cut()
            self._free.append(line)
            if self._waiting:
                self._begin_soon()

    def _next_batch(self) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while self._waiting and len(batch) < _MOST_TOGETHER:
            size += len(self._waiting[0].packed)
            if batch and size > _MOST_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    @property
    def is_at_work(self) -> bool:
        return bool(self._at_work)

    def retire(self) -> None:
        """Nothing will be asked of this node any more: what waits is not sent, and what was sent has a moment."""
        self._is_retired = True
        while self._waiting:
            self._waiting.popleft().settle(NotSent(f"{self.address} is not used any more"))
        for line in self._free:
            line.cut()
        asyncio.get_running_loop().call_later(_LAST_MOMENT, self.cut)

    async def close(self, seconds: float) -> None:
        """Refuse what waits, let what was sent end for *seconds* at most, then end every line."""
        while self._waiting:
            self._waiting.popleft().settle(StorageClosedError("the Redis client was closed"))
        try:
            async with asyncio.timeout(seconds):
                if self._at_work:
                    await asyncio.wait(self._at_work)
                await asyncio.gather(*(line.hang_up() for line in self._made), return_exceptions=True)
        except TimeoutError:
            log.warning("connections to Redis were cut: no answer came", extra={"address": str(self.address)})
        finally:
            for work in self._at_work:
                work.cancel()
            self.cut()

    def cut(self) -> list[asyncio.WriteTransport]:
        """End every line at once; what the loop has still to close."""
        return [transport for line in self._made if (transport := line.cut()) is not None]


class Nodes:
    """The nodes that one event loop talks to, until they are closed."""

    def __init__(self, settings: Settings, on_silence: Callable[[Address], None]) -> None:
        self._settings = settings
        self._on_silence = on_silence
        self._nodes: dict[Address, Node] = {}
        self._retired: set[Node] = set()
        """Let go of, with something under way perhaps."""
        self._are_closed = False

    def at(self, address: Address) -> Node:
        """The node there.

        Raises:
            StorageClosedError: whoever closed these would never hear of a new one.
        """
        if self._are_closed:
            raise StorageClosedError("the Redis client was closed")
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(address, self._settings, self._on_silence)
        return node

    def keep_only(self, addresses: set[Address]) -> None:
        """Let go of nodes that are gone."""
        for address in self._nodes.keys() - addresses:
            node = self._nodes.pop(address)
            node.retire()
            self._retired = {each for each in self._retired if each.is_at_work} | {node}

    async def close(self, seconds: float) -> None:
        self._are_closed = True
        await asyncio.gather(*(node.close(seconds) for node in self._all()))

    def cut(self) -> list[asyncio.WriteTransport]:
        """End every line at once; what the loop has still to close."""
        self._are_closed = True
        return [transport for node in self._all() for transport in node.cut()]

    def _all(self) -> list[Node]:
        return [*self._nodes.values(), *self._retired]


async def _exchange(line: Line, batch: list[Request], connect_timeout: float) -> None:
    """Send all of *batch*, then read their answers; every request of it has ended afterwards."""
    try:
        await line.connect(connect_timeout)
        batch = [request for request in batch if request.take()]
        if batch:
            async with asyncio.timeout_at(max(request.deadline for request in batch)):
                await line.send([request.packed for request in batch])
                for request in batch:
                    request.settle([await line.answer() for _ in range(request.answers)])
    except BaseException as error:
        line.cut()
        trouble = _trouble(error)
        for request in batch:
            request.settle(trouble)
        if not isinstance(error, NotSent | RedisError | OSError):
            raise


def _trouble(error: BaseException) -> NotSent | Lost:
    if isinstance(error, NotSent):
        return error
    if isinstance(error, RedisConnectionError) and error.status_code == "ERR":
        trouble: NotSent | Lost = NotSent(f"Redis refused the connection: {error}")  # one client too many
    else:
        trouble = Lost(f"the connection to Redis was lost: {error}")
    trouble.__cause__ = error
    return trouble
