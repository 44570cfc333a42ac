"""One call at a time, or one transaction: for a backend whose engine knows neither locks nor transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from unified_storage.errors import StorageClosedError
from unified_storage.interface import IUnifiedStorage, TransactionCall
from unified_storage.transactions import Holders, OuterTransaction
from unified_storage.turns import Turns


class Work(NamedTuple):
    """What a backend does for one transaction: the verbs inside it, and its two ends, which never wait.

    Where the verbs work on a copy there is nothing to roll back.
    """

    verbs: IUnifiedStorage
    commit: Callable[[], object]
    rollback: Callable[[], object] = lambda: None


class Exclusive:
    """Lets one in at a time: ``async with exclusive:`` around the body of a verb, ``transaction`` for several.

    Tasks of different event loops and threads may wait for it, first come first served.

    Args:
        timeout: seconds that a verb waits for a transaction to end, then ``StorageTimeoutError``.
    """

    def __init__(self, timeout: float = 30) -> None:
        self._timeout = timeout
        self._turns = Turns()
        self._holders = Holders()
        self._closed = False

    async def __aenter__(self) -> None:
        self._holders.check()
        await self._enter(self._timeout)

    async def __aexit__(self, *failure: object) -> None:
        self._turns.leave()

    async def _enter(self, timeout: float) -> None:
        self._check_open()
        if not self._turns.take_now():
            await self._turns.take(timeout)
            if self._closed:
                self._turns.leave()
                self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageClosedError("this storage was closed")

    def transaction(
        self, begin: Callable[[], Work], operations: Sequence[Mapping[str, Any]] | None, timeout: float
    ) -> TransactionCall:
        """What a backend's ``transaction`` returns; nobody else is let in until it ends.

        Args:
            begin: called once we are in.
        """

        async def entered(seconds: float) -> _Inside:
            await self._enter(seconds)
            try:
                return _Inside(begin(), self._turns)
            except BaseException:
                self._turns.leave()
                raise

        return OuterTransaction(entered, self._holders, operations, timeout)

    def close(self) -> None:
        """From now on everybody gets ``StorageClosedError``, those who wait as well."""
        self._closed = True


class _Inside:
    """The open transaction: it has the turn until its end."""

    def __init__(self, work: Work, turns: Turns) -> None:
        self._work = work
        self._turns = turns

    @property
    def verbs(self) -> IUnifiedStorage:
        return self._work.verbs

    async def commit(self) -> None:
        try:
            self._work.commit()
        finally:
            self._turns.leave()

    async def rollback(self) -> None:
        try:
            self._work.rollback()
        finally:
            self._turns.leave()
