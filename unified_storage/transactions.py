"""Transactions, the same on every backend: entering, joining, being doomed, running a list of operations."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from unified_storage.arguments import check_repetition, checked_seconds
from unified_storage.delegate import Delegate
from unified_storage.errors import StorageError, StorageTimeoutError, StorageTransactionError, StorageValidationError
from unified_storage.handed_in import kept_items
from unified_storage.interface import Findings, IUnifiedStorage, TransactionCall

T = TypeVar("T")

_RECORD_VERBS = {"save", "load", "update", "delete", "exists", "list", "page", "query", "count"}
_GROUP_VERBS = {"batch_save", "batch_delete", "get_by_session", "get_by_thread", "restore", "purge_expired"}
_LOG_VERBS = {"append", "pop", "read", "read_many", "rewrite", "log_info"}
OPERATIONS = frozenset(_RECORD_VERBS | _GROUP_VERBS | _LOG_VERBS)
"""The verbs that a list of operations may name."""


_HANDED_IN = {"data", "updates", "entries", "data_list", "records", "logs", "filters", "params", "ids", "log_ids"}


class Results(list[Any]):
    """One result per operation; true even when empty, since older callers test it."""

    def __bool__(self) -> bool:
        return True


class Unit(Protocol):
    """An engine's open transaction: the storage verbs on it, and its two ends."""

    @property
    def verbs(self) -> IUnifiedStorage: ...

    async def commit(self) -> None:
        """Make it last; a commit that fails has ended it as well."""

    async def rollback(self) -> None: ...


class Holders:
    """Which tasks hold an open transaction of a storage; its own verbs refuse to wait for themselves."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def check(self) -> None:
        """Raise ``StorageTransactionError`` when the current task holds a transaction of this storage."""
        if self._tasks and _current_task() in self._tasks:
            raise StorageTransactionError("this task holds an open transaction of this storage: use the transaction")

    def enter(self) -> asyncio.Task[Any] | None:
        task = _current_task()
        if task is not None:
            self._tasks.append(task)
        return task

    def leave(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self._tasks.remove(task)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class Transaction(Delegate):
    """The verbs of a storage inside one open transaction: one at a time, and none after one has raised."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit.verbs)
        self._unit = unit
        self._turn = asyncio.Lock()
        self._over: str | None = None
        self._doom: BaseException | None = None

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        async with self._turn:
            self._refuse_when_over()
            try:
                return await call()
            except BaseException as error:
                self._doom = self._doom or error
                raise

    def _refuse_when_over(self) -> None:
        if self._doom is not None:
            raise self._doomed()
        if self._over is not None:
            raise StorageTransactionError(f"the transaction was {self._over}")

    def _doomed(self) -> StorageTransactionError:
        doom = self._doom
        return StorageTransactionError(
            f"the transaction was given up: {doom}",
            cause=doom,
            retryable=isinstance(doom, StorageError) and doom.retryable,
        )

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        """Joins: the same transaction, which the outermost one commits."""
        return _Joined(self, operations)

    async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
        """``fn`` in this very transaction, once: only the outermost caller can try again."""
        check_repetition(fn, attempts)
        return await fn(self)

    def examine(self, *, repair: bool = False) -> AsyncIterator[Findings]:
        return self._batches("examine", _refused())

    async def close(self) -> None:
        raise StorageTransactionError("a transaction ends by leaving its block, not by close()")

    async def commit(self) -> None:
        async with self._turn:
            self._refuse_when_over()
            self._over = "committed"
            await self._unit.commit()

    async def rollback(self) -> None:
        """Undo everything; waits for a verb that is still running."""
        async with self._turn:
            if self._over is None:
                self._over = "rolled back"
                await self._unit.rollback()

    def give_up(self, error: BaseException) -> None:
        """No verb and no commit from now on; *error* is the reason that they give."""
        self._doom = self._doom or error


def is_transaction(storage: IUnifiedStorage) -> bool:
    """Whether *storage* is an open transaction, also where other delegates stand in front of it."""
    while isinstance(storage, Delegate) and not isinstance(storage, Transaction):
        storage = storage._inner
    return isinstance(storage, Transaction)


async def _refused() -> AsyncIterator[Findings]:
    raise StorageTransactionError("a store is not examined inside a transaction: use the storage")
    yield []  # what makes it a stream


class OuterTransaction:
    """What ``storage.transaction(...)`` returns: await it with a list, or enter it.

    Args:
        begin: starts the engine's transaction.
        holders: the storage's, to find a task that would wait for itself.
        timeout: seconds from the beginning until it is rolled back.
    """

    def __init__(
        self,
        begin: Callable[[float], Awaitable[Unit]],
        holders: Holders,
        operations: Sequence[Mapping[str, Any]] | None,
        timeout: float,
    ) -> None:
        self._begin = begin
        self._holders = holders
        self._operations = operations
        self._timeout = checked_seconds("timeout", timeout)
        self._transaction: Transaction | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ending: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, Results]:
        return self._run().__await__()

    async def _run(self) -> Results:
        operations = checked_operations(self._operations)
        async with self as tx:
            return await run_operations(tx, operations)

    async def __aenter__(self) -> Transaction:
        if self._transaction is not None:
            raise StorageTransactionError("a transaction is entered once")
        self._holders.check()
        self._transaction = Transaction(await self._begin(self._timeout))
        self._task = self._holders.enter()
        self._alarm = asyncio.get_running_loop().call_later(self._timeout, self._end_it, self._transaction)
        return self._transaction

    def _end_it(self, transaction: Transaction) -> None:
        transaction.give_up(StorageTimeoutError(f"the transaction was open for more than {self._timeout} s"))
        self._ending = asyncio.ensure_future(transaction.rollback())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction, alarm = self._transaction, self._alarm
        assert transaction is not None
        assert alarm is not None
        self._holders.leave(self._task)
        try:
            if error is None:
                # A commit that was sent is waited for, also when we are cancelled meanwhile.
                await to_the_end(transaction.commit())
        finally:
            alarm.cancel()
            await self._undo(transaction, error)

    async def _undo(self, transaction: Transaction, error: BaseException | None) -> None:
        """Roll back what was not committed; the caller's own error stays the one that is raised."""
        try:
            await to_the_end(transaction.rollback())
        except StorageError as failure:
            if error is None:
                raise
            error.add_note(f"rolling back failed too: {failure}")


async def to_the_end(work: Awaitable[T]) -> T:
    """Await *work* whatever happens to us, and only then let a cancellation go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at: the cancellation is what goes on
        raise cancelled
    return task.result()


class _Joined:
    """``tx.transaction(...)``: the same transaction; a failure inside gives the whole of it up."""

    def __init__(self, outer: Transaction, operations: Sequence[Mapping[str, Any]] | None) -> None:
        self._outer = outer
        self._operations = operations

    def __await__(self) -> Generator[Any, None, Results]:
        return run_operations(self._outer, checked_operations(self._operations)).__await__()

    async def __aenter__(self) -> Transaction:
        return self._outer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._outer.give_up(error)


def checked_operations(operations: Iterable[Mapping[str, Any]] | None) -> list[tuple[str, dict[str, Any]]]:
    """Each operation as a verb and its arguments; a fault in one raises before anything is done."""
    if operations is None or isinstance(operations, Mapping | str | bytes) or not isinstance(operations, Iterable):
        raise StorageValidationError("await a transaction with a list of operations", details={"path": "operations"})
    return [_checked_operation(operation, index) for index, operation in enumerate(operations)]


def _checked_operation(operation: object, index: int) -> tuple[str, dict[str, Any]]:
    try:
        if not isinstance(operation, Mapping):
            raise StorageValidationError("an operation is a mapping", details={"path": f"operations[{index}]"})
        return _verb_and_arguments(operation, index)
    except StorageValidationError as error:
        raise _failed(index, error) from error


def _verb_and_arguments(operation: Mapping[str, Any], index: int) -> tuple[str, dict[str, Any]]:
    arguments = dict(operation)
    verb = arguments.pop("type", None)
    if verb not in OPERATIONS:
        raise StorageValidationError(f"unknown operation {verb!r}", details={"path": f"operations[{index}].type"})
    if "record_type" in arguments:
        arguments["type"] = arguments.pop("record_type")
    if verb == "update" and "data" in arguments:
        arguments.setdefault("updates", arguments.pop("data"))
    for name in _HANDED_IN & arguments.keys():
        arguments[name] = kept_items(arguments[name], f"operations[{index}].{name}")
    try:
        inspect.signature(getattr(IUnifiedStorage, verb)).bind(None, **arguments)
    except TypeError as error:
        raise StorageValidationError(f"{verb}: {error}", details={"path": f"operations[{index}]"}) from error
    return verb, arguments


async def run_operations(tx: IUnifiedStorage, operations: Sequence[tuple[str, dict[str, Any]]]) -> Results:
    """The results of the operations, in order, or ``StorageTransactionError`` with the index of the one that failed."""
    results = Results()
    for index, (verb, arguments) in enumerate(operations):
        try:
            results.append(await getattr(tx, verb)(**arguments))
        except StorageError as error:
            raise _failed(index, error) from error
    return results


def _failed(index: int, error: StorageError) -> StorageTransactionError:
    return StorageTransactionError(
        f"operation {index} failed, nothing was done: {error.message}",
        details={"index": index, "cause": error.error_code},
        cause=error,
        retryable=error.retryable,
    )
