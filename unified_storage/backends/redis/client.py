"""What a Redis storage asks of its servers: scripts that write, sent once, and questions, asked until answered."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import redis.exceptions as driver

from unified_storage.backends.redis import facts as server_facts
from unified_storage.backends.redis.cluster import OneNode, Places, SlotMap
from unified_storage.backends.redis.errors import (
    COMES_BACK,
    Lost,
    NotSent,
    Unanswered,
    code_of,
    outcome_unknown,
    translated,
)
from unified_storage.backends.redis.line import Command, Line
from unified_storage.backends.redis.loops import PerLoop
from unified_storage.backends.redis.node import Outcome, Request
from unified_storage.backends.redis.settings import CLIENT_OPTIONS, Address, Settings, settings_of
from unified_storage.errors import StorageClosedError, StorageConfigurationError, redacted
from unified_storage.opening import StorageURL

Argument = str | bytes | int
_CLUSTER_PARTITIONS = 64
_AT_ONCE = frozenset({"NOSCRIPT", "MOVED", "ASK"})
_SOON = 5
"""Tries without a pause, as long as each answer says where to go."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
_DOUBLED_AT_MOST = 10
_WITH_TEXT = {"EVALSHA": "EVAL", "EVALSHA_RO": "EVAL_RO"}
_texts: dict[str, str] = {}
"""Every script of the program by its SHA1: a server that was started anew has to be told the text."""


class Script:
    """A Lua text and its SHA1."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        _texts[self.sha] = text

    def writing(self, keys: Sequence[str], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def reading(self, keys: Sequence[str], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """The command that runs it and lets it read only: one to :meth:`RedisClient.ask`."""
        return ("EVALSHA_RO", self.sha, len(keys), *keys, *args)


class RedisClient(Protocol):
    """One node or a cluster, for any number of event loops and threads."""

    partitions: int
    """1 on a single node, 64 on a cluster."""
    statement_timeout: float
    """Seconds for calls that are given no other time-out."""

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument], *, timeout: float) -> Any:
        """Run a script that writes, once, and return what it returns, texts as bytes.

        It is sent again only where the server cannot have executed it. A cancelled call ends when the script that
        was sent has ended.

        Raises:
            StorageConnectionError: no server can be reached; or, with ``details["outcome"] == "unknown"`` and not
                retryable, none answered any more.
            StorageTimeoutError: not sent in time.
            StorageError: what the server refuses.
        """

    async def ask(self, commands: Sequence[Command], *, timeout: float) -> list[Any]:
        """The answers to commands that only read, in order, of any slots: one round trip for each node.

        The second word of a command is its key (the fourth of one that runs a script). Asked again until *timeout*
        when a connection is lost; until ``connect_timeout`` when none can be made.
        """

    async def read_script(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], *, timeout: float
    ) -> Any:
        """Run a script that only reads; as :meth:`ask`."""

    async def facts(self) -> dict[str, Any]:
        """Version, mode, masters, durability and eviction, with a warning where the store may lose members."""

    async def ping(self, timeout: float) -> None:
        """Every master answers, or an error says why not."""

    async def let_go(self) -> None:
        """End the connections; the next call makes new ones."""

    async def close(self) -> None:
        """End the connections for good; what was sent has 5 seconds to end in."""


def opened_client(url: StorageURL, options: dict[str, Any]) -> RedisClient:
    """The client for *url*; takes what it knows out of *options*.

    ``client`` among them is a client that is shared: the one who opened it closes it.

    Raises:
        StorageConfigurationError: an address or option that redis-py cannot use.
    """
    shared: RedisClient | None = options.pop("client", None)
    if shared is not None:
        for option in options.keys() & CLIENT_OPTIONS:
            raise StorageConfigurationError(f"{option} is an option of register_redis_instance, not of one storage")
        return SharedClient(shared)
    settings = settings_of(url, options)
    try:
        Line(settings.start[0], settings)
    except (TypeError, ValueError, OSError, driver.RedisError) as error:
        raise StorageConfigurationError(f"{redacted(url.text)}: {error}", cause=error) from error
    return Client(settings)


@dataclass(slots=True)
class _Parcel:
    """A command on its way to an answer."""

    place: int
    command: Command
    asking: Address | None = None
    """The node that takes a slot over and has this key already."""
    trouble: Exception | None = None

    def words(self) -> list[Command]:
        return [self.command] if self.asking is None else [("ASKING",), self.command]


@dataclass(frozen=True, slots=True)
class _Shipment:
    """Parcels for one node."""

    address: Address
    parcels: Sequence[_Parcel]
    request: Request


class Client:
    """Sends commands to where their keys are, and again where that is safe."""

    def __init__(self, settings: Settings) -> None:
        self.partitions = _CLUSTER_PARTITIONS if settings.is_cluster else 1
        self.statement_timeout = settings.statement_timeout
        self._settings = settings
        kind: type[SlotMap | OneNode] = SlotMap if settings.is_cluster else OneNode
        self._places: PerLoop[Places] = PerLoop(lambda: kind(settings))
        self._has_answered = False

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument], *, timeout: float) -> Any:
        return (await self._deliver([script.writing(keys, args)], timeout, once=True))[0]

    async def ask(self, commands: Sequence[Command], *, timeout: float) -> list[Any]:
        return await self._deliver(commands, timeout, once=False) if commands else []

    async def read_script(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], *, timeout: float
    ) -> Any:
        return (await self.ask([script.reading(keys, args)], timeout=timeout))[0]

    async def facts(self) -> dict[str, Any]:
        mode = "cluster" if self._settings.is_cluster else "single"
        return server_facts.described(await self._of_masters(server_facts.ASKED, self.statement_timeout), mode)

    async def ping(self, timeout: float) -> None:
        for answer in await self._of_masters([("PING",)], timeout):
            if isinstance(answer[0], Exception):
                raise translated(answer[0])

    async def let_go(self) -> None:
        await self._places.let_go()

    async def close(self) -> None:
        await self._places.close()

    async def _deliver(self, commands: Sequence[Command], timeout: float, *, once: bool) -> list[Any]:
        patience = self._patience(timeout)
        answers: list[Any] = [None] * len(commands)
        left = [_Parcel(place, command) for place, command in enumerate(commands)]
        while left:
            try:
                left = await self._attempt(left, answers, patience.deadline, once)
            except NotSent as trouble:
                await patience.wait_after([trouble])
            else:
                await patience.wait_after([parcel.trouble for parcel in left if parcel.trouble is not None])
        return answers

    async def _attempt(
        self, parcels: Sequence[_Parcel], answers: list[Any], deadline: float, once: bool
    ) -> list[_Parcel]:
        """Send each parcel to its node; those that have no answer yet."""
        places = await self._known_places(deadline)
        shipments: list[_Shipment] = []
        try:
            for address, group in _by_node(parcels, places).items():
                words = [word for parcel in group for word in parcel.words()]
                request = places.nodes.at(address).request(words, deadline=deadline, once=once)
                shipments.append(_Shipment(address, group, request))
            for shipment in shipments:
                self._unpack(shipment, await shipment.request.outcome(), answers, places)
        finally:
            for shipment in shipments:
                shipment.request.abandon()
        return [parcel for parcel in parcels if parcel.trouble is not None]

    async def _known_places(self, deadline: float) -> Places:
        places = self._places.here()
        if not places.is_known:
            try:
                async with asyncio.timeout_at(deadline):
                    await places.know()
            except TimeoutError as error:
                raise NotSent("no Redis node told in time who serves what", late=True) from error
            self._has_answered = True
        return places

    def _unpack(self, shipment: _Shipment, outcome: Outcome, answers: list[Any], places: Places) -> None:
        if not isinstance(outcome, list):
            self._return(shipment, outcome, places)
            return
        at = iter(outcome)
        for parcel in shipment.parcels:
            if parcel.asking is not None:
                next(at)  # the answer to ASKING
            answer = next(at)
            if isinstance(answer, Exception):
                self._redirect(parcel, answer, places, shipment.address)
            else:
                parcel.trouble = None
                answers[parcel.place] = answer

    def _return(self, shipment: _Shipment, outcome: Unanswered | StorageClosedError, places: Places) -> None:
        """No answer: prepare the parcels to be sent again, or raise where that is not safe."""
        if isinstance(outcome, StorageClosedError):
            raise outcome
        if isinstance(outcome, Lost) and shipment.request.once:
            raise outcome_unknown(outcome)
        places.doubt()
        for parcel in shipment.parcels:
            parcel.asking, parcel.trouble = None, outcome

    def _redirect(self, parcel: _Parcel, answer: Exception, places: Places, asked: Address) -> None:
        """Not executed: prepare *parcel* to be sent again, elsewhere perhaps, or raise what it was refused for."""
        code = code_of(answer)
        if code == "READONLY":  # a master no more, and behind its name there may be another one by now
            places.nodes.keep_only(set())
        if code not in COMES_BACK and not (code == "READONLY" and self._settings.is_cluster):
            raise translated(answer)
        parcel.asking, parcel.trouble = None, answer
        if isinstance(answer, driver.MovedError):
            places.moved(answer, asked)
        elif isinstance(answer, driver.AskError):
            parcel.asking = Address(answer.host or asked.host, answer.port)
        elif code == "NOSCRIPT":
            parcel.command = _with_text(parcel.command, answer)
        elif code in ("CLUSTERDOWN", "READONLY"):
            places.doubt()

    async def _of_masters(self, commands: Sequence[Command], timeout: float) -> list[list[Any]]:
        """What every master answers; an error among the answers is one of them."""
        patience = self._patience(timeout)
        while True:
            try:
                return await self._ask_masters(commands, patience.deadline)
            except Unanswered as trouble:
                await patience.wait_after([trouble])

    async def _ask_masters(self, commands: Sequence[Command], deadline: float) -> list[list[Any]]:
        places = await self._known_places(deadline)
        requests = [places.nodes.at(address).request(commands, deadline=deadline) for address in places.masters()]
        if not requests:
            places.doubt()
            raise NotSent("the Redis cluster has no master")
        answers: list[list[Any]] = []
        try:
            for request in requests:
                outcome = await request.outcome()
                if not isinstance(outcome, list):
                    places.doubt()
                    raise outcome
                answers.append(outcome)
        finally:
            for request in requests:
                request.abandon()
        return answers

    def _patience(self, timeout: float) -> _Patience:
        # A server that never answered is likely to be named wrong: no sense in waiting for it.
        return _Patience(timeout, self._settings.connect_timeout if self._has_answered else 0.0)


class _Patience:
    """How long one call goes on trying, and the pauses it makes.

    Args:
        timeout: seconds for all of it.
        unreachable: seconds in which a server that cannot be reached may come back.
    """

    def __init__(self, timeout: float, unreachable: float) -> None:
        self.deadline = asyncio.get_running_loop().time() + timeout
        self._unreachable = unreachable
        self._until_reached: float | None = None
        self._tries = 0

    async def wait_after(self, troubles: Sequence[Exception]) -> None:
        """Wait a little before the next try; raise our error for the last of *troubles* when no time is left."""
        if not troubles:
            return
        self._tries += 1
        worst = max(troubles, key=_is_unreachable)
        pause = (
            0.0 if self._tries < _SOON and all(code_of(trouble) in _AT_ONCE for trouble in troubles) else self._pause()
        )
        if asyncio.get_running_loop().time() + pause >= self._limit(worst) or _is_hopeless(worst):
            raise translated(worst)
        await asyncio.sleep(pause)

    def _limit(self, trouble: Exception) -> float:
        if not _is_unreachable(trouble):
            return self.deadline
        if self._until_reached is None:
            self._until_reached = asyncio.get_running_loop().time() + self._unreachable
        return min(self._until_reached, self.deadline)

    def _pause(self) -> float:
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._tries, _DOUBLED_AT_MOST))
        return random.uniform(longest / 2, longest)  # or all who wait would come back together


def _is_unreachable(trouble: Exception) -> bool:
    return isinstance(trouble, Unanswered) and trouble.refusal is None


def _is_hopeless(trouble: Exception) -> bool:
    return isinstance(trouble, Unanswered) and not translated(trouble).retryable


def _by_node(parcels: Sequence[_Parcel], places: Places) -> dict[Address, list[_Parcel]]:
    groups: dict[Address, list[_Parcel]] = {}
    for parcel in parcels:
        address = parcel.asking or places.address(parcel.command)
        if address is None:
            places.doubt()
            raise NotSent("no node of the Redis cluster serves the key")
        groups.setdefault(address, []).append(parcel)
    return groups


def _with_text(command: Command, refusal: Exception) -> Command:
    """The command that brings its script along."""
    name, text = _WITH_TEXT.get(str(command[0])), _texts.get(str(command[1]))
    if name is None or text is None:
        raise translated(refusal)
    return (name, text, *command[2:])


class SharedClient:
    """A client of somebody else, who closes it."""

    def __init__(self, client: RedisClient) -> None:
        self.partitions = client.partitions
        self.statement_timeout = client.statement_timeout
        self.run = client.run
        self.ask = client.ask
        self.read_script = client.read_script
        self.facts = client.facts
        self.ping = client.ping

    async def let_go(self) -> None:
        """Nothing: others use the connections."""

    async def close(self) -> None:
        """Nothing: its owner closes it."""
