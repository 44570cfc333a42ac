"""What changes a session and the state of its app: one step where the storage can, else one after the other.

On a Redis Cluster an app and the sessions of its users lie in different partitions, which no step can change together.
There the app comes first, so that no event is seen without what it did to the app; who is broken off between the two
tries again. A step whose refusal is what callers race for comes first itself: only who wins it changes the app.
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
Name = Callable[[], Awaitable[str]]
"""What names a step for ever, asked once it is known that it will be done."""


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

    async def done_with_app(
        self, step: Step[T], app: Place, delta: Delta, *, name: Name | None = None, decides: bool = False
    ) -> T:
        """The same with *delta* to an app's state; without it where the step does not apply.

        Args:
            name: of a step that may be tried by several, or again, and changes the app once.
            decides: who is refused by the step must not have changed the app, also where several try at once.
        """
        if self._lie_apart:
            return await self._one_after_the_other(step, app, delta, name, decides)

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
        return await self._one_after_the_other(step, app, delta, name, decides)

    async def _one_after_the_other(
        self, step: Step[T], app: Place, delta: Delta, name: Name | None, decides: bool
    ) -> T:
        if decides:
            return await self._app_last(step, app, delta)
        tried = await self._tried(step)
        if not tried.applies:
            return tried.result
        if name is None:
            await self._states.change(app, delta)
        else:
            await self._states.change_once(app, delta, await name())
        return await self.done(step)

    async def _app_last(self, step: Step[T], app: Place, delta: Delta) -> T:
        async def changed(tx: IUnifiedStorage) -> Done[None]:
            await self._states.inside(tx).change_in_step(app, delta)
            return Done(None)

        await self._tried(changed)  # what a policy refuses
        done = await self._storage.atomically(step, attempts=ATTEMPTS)
        if done.applies:
            await self._states.change(app, delta)
        return done.result

    async def _tried(self, step: Step[T]) -> Done[T]:
        """What *step* would come to: what it refuses is refused before anything is changed."""
        found: list[Done[T]] = []

        async def trial(tx: IUnifiedStorage) -> None:
            found.append(await step(tx))
            raise _Undone

        with suppress(_Undone):
            await self._storage.atomically(trial, attempts=ATTEMPTS)
        return found[-1]


class _Undone(Exception):
    """Ends a transaction in which all went well."""
