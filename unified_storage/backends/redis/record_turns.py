"""Whose turn it is with a record, among the transactions of this process.

Nothing correct depends on it: what a transaction read is checked when it commits. But of transactions that read and
write the same record all but one would be in vain, so they go one after the other, as far as waiting is worth it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass, field

from unified_storage.errors import StorageTimeoutError
from unified_storage.portal import leave_behind
from unified_storage.turns import Turns

_FIRST_WAIT = 5.0
_FURTHER_WAIT = 0.05
"""Whoever holds a turn already may be waited for by the one he waits for."""
_COURTESY = 1.0
"""What a single verb waits for a transaction that will have been in vain after it."""
_LONG = 5.0
"""Whoever has had a turn for longer is waited for no more: its loop may have stopped."""


@dataclass(slots=True)
class _Turn:
    turns: Turns = field(default_factory=Turns)
    users: int = 0
    taken_at: float | None = None

    def is_held_long(self) -> bool:
        return self.taken_at is not None and time.monotonic() - self.taken_at > _LONG


class RecordTurns:
    """A fair turn for each id that somebody wants."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_id: dict[str, _Turn] = {}
        _all.add(self)

    async def give_way(self, id: str) -> None:
        """Let a transaction that holds *id* come to its end, if that does not take long."""
        if id in self._by_id and await self.take(id, _COURTESY):
            self.leave(id)

    async def take(self, id: str, seconds: float) -> bool:
        """Wait for the turn; whether it came in time."""
        with self._guard:
            turn = self._by_id.setdefault(id, _Turn())
            turn.users += 1
        try:
            await turn.turns.take(0 if turn.is_held_long() else seconds)
            turn.taken_at = time.monotonic()
            return True
        except BaseException as error:
            self._forget(id)
            if isinstance(error, StorageTimeoutError):
                return False
            raise

    def leave(self, id: str) -> None:
        turn = self._by_id[id]
        turn.taken_at = None
        turn.turns.leave()
        self._forget(id)

    def _forget(self, id: str) -> None:
        with self._guard:
            turn = self._by_id[id]
            turn.users -= 1
            if not turn.users:
                del self._by_id[id]

    def leave_behind(self) -> None:
        """In a forked child: those who have a turn, or wait for one, are the parent's."""
        leave_behind(self._by_id)
        self._by_id = {}
        self._guard = threading.Lock()


class HeldTurns:
    """The turns that one transaction has taken."""

    def __init__(self, turns: RecordTurns) -> None:
        self._turns = turns
        self._held: set[str] = set()
        self._tried: set[str] = set()

    async def take(self, id: str) -> None:
        """Wait for the turn with a record, once; go on without it when it does not come."""
        if id in self._tried:
            return
        self._tried.add(id)
        if await self._turns.take(id, _FURTHER_WAIT if self._held else _FIRST_WAIT):
            self._held.add(id)

    def leave(self) -> None:
        while self._held:
            self._turns.leave(self._held.pop())


def _after_fork_in_child() -> None:
    for turns in [*_all]:
        turns.leave_behind()


_all: weakref.WeakSet[RecordTurns] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
