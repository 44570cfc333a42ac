"""What changes a session and the state of its app: one step where the storage can, else the app's first.

On a Redis Cluster an app and the sessions of its users lie in different partitions, which no step can change together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from session_adapter.levels import Delta
from session_adapter.reading import ATTEMPTS
from session_adapter.states import Place, States
from unified_storage.errors import StorageUnsupportedError
from unified_storage.interface import IUnifiedStorage
from unified_storage.transactions import is_transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a step came to.

    Attributes:
        applies: False where it found itself done already, so that nothing else is to be changed either.
    """

    result: T
    applies: bool = True


Step = Callable[[IUnifiedStorage], Awaitable[Done[T]]]


class Steps:
    """Steps on one storage, or inside one transaction of it."""

    def __init__(self, storage: IUnifiedStorage, states: States) -> None:
        self._storage = storage
        self._states = states
        self._lie_apart = False
        """Whether it turned out here that an app and its users lie in different partitions."""

    async def done(self, step: Step[T]) -> T:
        """What ``step(tx)`` comes to, in a transaction that is repeated on retryable conflicts."""
        return (await self._storage.atomically(step, attempts=ATTEMPTS)).result

    async def done_with_app(self, step: Step[T], app: Place, delta: Delta) -> T:
        """The same with *delta* to an app's state; without it where the step does not apply."""
        if self._lie_apart:
            return await self._one_after_the_other(step, app, delta)

        async def both(tx: IUnifiedStorage) -> Done[T]:
            done = await step(tx)
            if done.applies:
                await self._states.inside(tx).change_in_step(app, delta)
            return done

        try:
            return await self.done(both)
        except StorageUnsupportedError:
            if is_transaction(self._storage):
                raise  # its caller's, who has to know that they do not go together
        self._lie_apart = True
        return await self._one_after_the_other(step, app, delta)

    async def _one_after_the_other(self, step: Step[T], app: Place, delta: Delta) -> T:
        tried = await self._tried(step)
        if not tried.applies:
            return tried.result
        await self._states.change(app, delta)
        return await self.done(step)

    async def _tried(self, step: Step[T]) -> Done[T]:
        """What *step* would come to: what it refuses is refused before the app's state is touched."""
        found: list[Done[T]] = []

        async def trial(tx: IUnifiedStorage) -> None:
            found.append(await step(tx))
            raise _Undone

        with suppress(_Undone):
            await self._storage.atomically(trial, attempts=ATTEMPTS)
        return found[-1]


class _Undone(Exception):
    """Ends a transaction in which all went well."""
