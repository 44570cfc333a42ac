"""What changes a session and the state of its app: one step where the storage can, else the app's first.

On a Redis Cluster an app and the sessions of its users lie in different partitions, which no step can change together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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


async def in_one_step(storage: IUnifiedStorage, step: Step[T]) -> T:
    """What ``step(tx)`` comes to, in a transaction that is repeated on retryable conflicts."""
    return (await storage.atomically(step, attempts=ATTEMPTS)).result


async def with_app(storage: IUnifiedStorage, step: Step[T], states: States, app: Place, delta: Delta) -> T:
    """What ``step(tx)`` comes to, with *delta* to an app's state; no delta where the step does not apply."""

    async def both(tx: IUnifiedStorage) -> Done[T]:
        done = await step(tx)
        if done.applies:
            await states.inside(tx).change_in_step(app, delta)
        return done

    try:
        return await in_one_step(storage, both)
    except StorageUnsupportedError:
        if is_transaction(storage):
            raise  # its caller's, who has to know that they do not go together
    tried = await _tried(storage, step)
    if not tried.applies:
        return tried.result
    await states.change(app, delta)
    return await in_one_step(storage, step)


class _Undone(Exception):
    """Ends a transaction in which all went well."""


async def _tried(storage: IUnifiedStorage, step: Step[T]) -> Done[T]:
    """What *step* would come to: what it refuses is refused before the app's state is touched."""
    found: list[Done[T]] = []

    async def trial(tx: IUnifiedStorage) -> None:
        found.append(await step(tx))
        raise _Undone

    try:
        await storage.atomically(trial, attempts=ATTEMPTS)
    except _Undone:
        return found[-1]
    raise AssertionError("a trial ends by its own exception")
