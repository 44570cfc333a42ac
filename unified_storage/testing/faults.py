"""Faults on purpose: a storage that fails where it is told to, and processes that are killed at random moments."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from unified_storage.delegate import Delegate
from unified_storage.errors import StorageError, StorageTransactionError
from unified_storage.interface import IUnifiedStorage, TransactionCall
from unified_storage.transactions import checked_operations, run_operations

T = TypeVar("T")


@dataclass
class Fault:
    """What happens to one call of a verb."""

    verb: str
    error: BaseException | None
    call: int | None
    after: bool
    delay: float

    def strikes(self, verb: str, call: int) -> bool:
        """Whether the *call*-th call of *verb* is the one; ``*`` is every verb."""
        return self.verb in ("*", verb) and self.call in (None, call)


@dataclass
class Faults:
    """The plan of a :class:`FaultyStorage` and of its transactions, and which verbs were called."""

    planned: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    async def around(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        """The call, with what is planned for it."""
        self.calls[verb] += 1
        self.calls["*"] += 1
        struck = [
            fault for fault in self.planned if fault.strikes(verb, self.calls["*" if fault.verb == "*" else verb])
        ]
        for fault in struck:
            await self._strike(fault, after=False)
        result = await call()
        for fault in struck:
            await self._strike(fault, after=True)
        return result

    @staticmethod
    async def _strike(fault: Fault, *, after: bool) -> None:
        if fault.after is not after:
            return
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.error is not None:
            raise fault.error


class FaultyStorage(Delegate):
    """A storage in front of another one that fails, is cancelled or dawdles at chosen calls.

    Verbs inside its transactions count and fail too, and ``commit`` is the verb of leaving one: a fault before it
    rolls back, a fault after it leaves the outcome committed.
    """

    def __init__(self, inner: IUnifiedStorage, faults: Faults | None = None) -> None:
        super().__init__(inner)
        self.faults = faults or Faults()

    def fail(self, verb: str, error: BaseException, *, call: int | None = 1, after: bool = False) -> None:
        """Raise *error* at one call of *verb*.

        Args:
            verb: a verb's name, ``commit``, or ``*`` for any of them.
            error: may be ``asyncio.CancelledError()``.
            call: the call counted from now on, 1 is the next; None means every call.
            after: do the work first, then fail: a caller cannot tell it from a lost answer.
        """
        at = None if call is None else self.faults.calls[verb] + call
        self.faults.planned.append(Fault(verb, error, at, after, 0.0))

    def delay(self, verb: str, seconds: float, *, call: int | None = None, after: bool = False) -> None:
        """Let calls of *verb* wait *seconds* before (or after) they do their work."""
        at = None if call is None else self.faults.calls[verb] + call
        self.faults.planned.append(Fault(verb, None, at, after, seconds))

    def heal(self) -> None:
        """Nothing fails any more."""
        self.faults.planned.clear()

    @property
    def calls(self) -> Counter[str]:
        """How often each verb was called; ``*`` counts all of them."""
        return self.faults.calls

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self.faults.around(verb, call)

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return _FaultyTransaction(self._inner.transaction(timeout=timeout), operations, self.faults)


class _Inside(FaultyStorage):
    """The verbs inside a transaction; after one has failed the transaction must not be committed."""

    doom: BaseException | None = None

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        if self.doom is not None:
            raise given_up(self.doom)
        try:
            return await super()._call(verb, call)
        except BaseException as error:
            self.doom = error
            raise

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return _Joined(self, operations)

    async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
        return await fn(self)


def given_up(doom: BaseException) -> StorageTransactionError:
    """What a transaction says after one of its verbs raised *doom*, itself or because it was given up before."""
    root = doom.cause if isinstance(doom, StorageTransactionError) and doom.cause is not None else doom
    retryable = isinstance(root, StorageError) and root.retryable
    return StorageTransactionError(f"the transaction was given up: {root}", cause=root, retryable=retryable)


class _Joined:
    """A transaction within one: the same verbs; what fails inside fails the whole."""

    def __init__(self, outer: _Inside, operations: Sequence[Mapping[str, Any]] | None) -> None:
        self._outer = outer
        self._operations = operations

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return run_operations(self._outer, checked_operations(self._operations)).__await__()

    async def __aenter__(self) -> IUnifiedStorage:
        return self._outer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outer.doom = self._outer.doom or error


class _FaultyTransaction:
    """A transaction whose verbs, and whose end, follow the plan."""

    def __init__(self, inner: TransactionCall, operations: Sequence[Mapping[str, Any]] | None, faults: Faults) -> None:
        self._inner = inner
        self._operations = operations
        self._faults = faults
        self._stack = AsyncExitStack()
        self._inside: _Inside | None = None

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._run().__await__()

    async def _run(self) -> list[Any]:
        operations = checked_operations(self._operations)
        async with self as tx:
            return await run_operations(tx, operations)

    async def __aenter__(self) -> IUnifiedStorage:
        tx = await self._stack.enter_async_context(self._inner)
        self._inside = _Inside(tx, self._faults)
        return self._inside

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self._stack.__aexit__(kind, error, trace)
            return
        try:
            await self._faults.around("commit", self._commit)
        except BaseException as failure:
            # Rolls back where nothing was committed yet; a stack that has been left already does nothing.
            await self._stack.__aexit__(type(failure), failure, failure.__traceback__)
            raise

    async def _commit(self) -> None:
        doom = None if self._inside is None else self._inside.doom
        if doom is not None:
            raise given_up(doom)
        await self._stack.__aexit__(None, None, None)


@dataclass(frozen=True)
class Killed:
    """One run of a command: how long it lived, in seconds, and whether it was killed before its end."""

    seconds: float
    killed: bool


def kill_at_random_moments(
    command: Sequence[str],
    *,
    times: int,
    longest: float,
    seed: int = 0,
    after_each: Callable[[Killed], None] | None = None,
    **options: Any,
) -> list[Killed]:
    """Start *command* again and again, and end each run with SIGKILL after a random while.

    Args:
        command: program and arguments; it and the processes it starts are killed, no others.
        times: how many runs.
        longest: seconds; each run gets a random part of it.
        seed: of the random moments.
        after_each: called when the run is over, to look at what it left.
        options: for ``subprocess.Popen``, such as ``cwd`` and ``env``.
    Returns:
        What became of each run. One that ended by itself in time has to have ended well.
    Raises:
        subprocess.CalledProcessError: a run ended by itself with another code than 0.
    """
    chance = random.Random(seed)
    runs = []
    for _ in range(times):
        run = _killed_after(command, chance.uniform(0, longest), options)
        runs.append(run)
        if after_each is not None:
            after_each(run)
    return runs


def _killed_after(command: Sequence[str], seconds: float, options: Mapping[str, Any]) -> Killed:
    begun = time.monotonic()
    # A session of its own: what the command starts is found by its group, and nothing else is in it.
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        code = process.wait(seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return Killed(time.monotonic() - begun, killed=True)
    if code != 0:
        raise subprocess.CalledProcessError(code, command)
    return Killed(time.monotonic() - begun, killed=False)
