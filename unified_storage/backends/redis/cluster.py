"""Which node of a cluster serves which slot; a single node serves them all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import MovedError

from unified_storage.backends.redis.errors import COMES_BACK, NotSent, code_of, translated
from unified_storage.backends.redis.facts import check_version, parsed_info
from unified_storage.backends.redis.line import Command
from unified_storage.backends.redis.node import Nodes
from unified_storage.backends.redis.settings import Address, Settings
from unified_storage.errors import (
    StorageClosedError,
    StorageConfigurationError,
    StorageError,
    StoragePermissionError,
)

_KEY_AT = {b"EVALSHA": 3, b"EVALSHA_RO": 3, b"EVAL": 3, b"EVAL_RO": 3}
"""Where a command's first key stands, if it is not the word behind its name."""


class Places(Protocol):
    """Where keys are, as one event loop knows it."""

    is_known: bool

    @property
    def nodes(self) -> Nodes: ...

    async def know(self) -> None:
        """Find out what is not known; ``NotSent`` when no server can be asked."""

    def address(self, command: Command) -> Address | None:
        """Who serves the key of *command*; None while nobody does."""

    def masters(self) -> list[Address]:
        """Every node that serves keys."""

    def moved(self, error: MovedError, asked: Address) -> None:
        """What a node answered that does not serve a key."""

    def doubt(self) -> None:
        """A node is gone or does not know: find out again before the next request."""


class OneNode:
    """A single node, asked once what it is."""

    def __init__(self, settings: Settings) -> None:
        self.nodes = Nodes(settings, _no_matter)
        self._address = settings.start[0]
        self._timeout = settings.connect_timeout
        self.is_known = False

    async def know(self) -> None:
        server = await _server(self.nodes, self._address, self._timeout)
        check_version(server)
        if server.get("redis_mode") == "cluster":
            raise StorageConfigurationError(f"{self._address} belongs to a Redis cluster: use redis+cluster://")
        if server.get("redis_mode") == "sentinel":
            raise StorageConfigurationError(f"{self._address} is a Redis Sentinel, which stores nothing")
        self.is_known = True

    def address(self, command: Command) -> Address:
        return self._address

    def masters(self) -> list[Address]:
        return [self._address]

    def moved(self, error: MovedError, asked: Address) -> None:
        raise StorageConfigurationError(f"{asked} belongs to a Redis cluster: use redis+cluster://") from error

    def doubt(self) -> None:
        pass


class SlotMap:
    """The masters of a cluster by slot, as one of its nodes told it."""

    def __init__(self, settings: Settings) -> None:
        self.nodes = Nodes(settings, self._suspect)
        self._inquiry: asyncio.Task[None] | None = None
        self._start = settings.start
        self._attempt_timeout = settings.attempt_timeout
        self._slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._nodes: list[Address] = []
        self.is_known = False
        self._is_checked = False
        self._asking = asyncio.Lock()

    async def know(self) -> None:
        async with self._asking:  # one asks for all
            if not self.is_known:
                await self._learn()

    def _suspect(self, silent: Address) -> None:
        """Ask the others whether a node that gives no answer is still one of them: else it is let go.

        A machine without power ends no connection, and what was asked of it would be waited for to the last.
        """
        if self._inquiry is None or self._inquiry.done():
            self._inquiry = asyncio.get_running_loop().create_task(self._inquire(silent))

    async def _inquire(self, silent: Address) -> None:
        with suppress(NotSent, StorageError):  # nobody can say: whoever waits learns what comes of it
            async with self._asking:
                await self._learn(besides=silent)

    async def _learn(self, besides: Address | None = None) -> None:
        candidates = [*{*self._nodes, *self._start} - {besides}]
        random.shuffle(candidates)  # the first one may be cut off and not know it
        failure = NotSent("no node of the Redis cluster is known")
        for address in candidates:
            try:
                self._take_in(await self._told(address), address)
            except NotSent as error:
                failure = error
            else:
                return
        raise failure

    async def _told(self, address: Address) -> Sequence[Any]:
        if not self._is_checked:
            server = await _server(self.nodes, address, self._attempt_timeout)
            check_version(server)
            if server.get("redis_mode", "cluster") != "cluster":
                raise StorageConfigurationError(f"{address} is no Redis cluster: use redis://")
            self._is_checked = True
        told: Sequence[Any] = await _answer(self.nodes, address, ("CLUSTER", "SLOTS"), self._attempt_timeout)
        if not told:
            raise NotSent(f"{address} knows of no slot of the Redis cluster")
        return told

    def _take_in(self, ranges: Sequence[Any], teller: Address) -> None:
        slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: set[Address] = set()
        for first, last, *members in ranges:
            addresses = [_named(member, teller) for member in members]
            nodes.update(addresses)
            slots[first : last + 1] = [addresses[0]] * (last + 1 - first)
        self._slots, self._nodes = slots, [*nodes]
        self.is_known = True
        self.nodes.keep_only(nodes)

    def address(self, command: Command) -> Address | None:
        name = _as_bytes(command[0]).upper()
        return self._slots[key_slot(_as_bytes(command[_KEY_AT.get(name, 1)]))]

    def masters(self) -> list[Address]:
        return sorted({address for address in self._slots if address is not None})

    def moved(self, error: MovedError, asked: Address) -> None:
        # Followed at once; the rest of the map is likely to be old as well.
        self._slots[error.slot_id] = Address(error.host or asked.host, error.port)
        self.is_known = False

    def doubt(self) -> None:
        self.is_known = False


def _no_matter(silent: Address) -> None:
    """There is nobody else to ask."""


def _as_bytes(word: str | bytes | float) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _named(member: Sequence[Any], teller: Address) -> Address:
    """A node as ``CLUSTER SLOTS`` names it; where it knows no name, it is where the telling node is."""
    host, port = member[0], member[1]
    return Address(teller.host if host in (None, b"", b"?") else host.decode(), int(port))


async def _answer(nodes: Nodes, address: Address, command: Command, timeout: float) -> Any:
    """What one node answers; ``NotSent`` where another one, or the same one later, may answer."""
    deadline = asyncio.get_running_loop().time() + timeout
    outcome = await nodes.at(address).request([command], deadline=deadline).outcome()
    if isinstance(outcome, StorageClosedError):
        raise outcome
    if not isinstance(outcome, list):
        raise NotSent(str(outcome)) from (outcome.__cause__ or outcome)
    answer = outcome[0]
    if not isinstance(answer, Exception):
        return answer
    if code_of(answer) in COMES_BACK:
        raise NotSent(str(answer)) from answer
    raise translated(answer)


async def _server(nodes: Nodes, address: Address, timeout: float) -> dict[str, str]:
    """What a node says of itself; nothing where it may not be asked."""
    try:
        return parsed_info(await _answer(nodes, address, ("INFO", "server"), timeout))
    except StoragePermissionError:
        return {}
