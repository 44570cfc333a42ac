"""A state machine that does the same to a storage and to the model, and compares every answer.

def test_it_behaves_like_the_model(tmp_path):
    names = itertools.count()
    run_state_machine(lambda **options: open_storage(f"sqlite:///{tmp_path}/{next(names)}.db", **options))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from unified_storage.errors import StorageError, StorageTransactionError, StorageUnsupportedError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.calls import (
    FILTERS,
    LOGS,
    ORDERS,
    TYPES,
    beginnings,
    log_changes,
    operations,
    reads,
    record_changes,
    record_updates,
    restores,
    types,
)
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.drafts import gathered
from unified_storage.testing.harness import OpenStore
from unified_storage.testing.model import Model, Operation, Record, Refusal
from unified_storage.values import equal


class TakenBack(Exception):
    """Raised to leave a transaction without committing it."""


class StorageMachine(RuleBasedStateMachine):
    """One storage, one model, one clock; :func:`run_state_machine` says which storage."""

    fresh: OpenStore
    missing: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.model = Model(self.clock)
        self.runner = asyncio.Runner()
        self.storage: IUnifiedStorage = type(self).fresh(clock=self.clock)

    def teardown(self) -> None:
        try:
            self.runner.run(self.storage.close())
        finally:
            self.runner.close()

    def _compare(self, storage: Callable[[], Awaitable[Any]], model: Callable[[], Any]) -> None:
        found, failure = None, None
        try:
            found = self.runner.run(_awaited(storage))
        except StorageError as error:
            if self.missing and _is_lack(error):
                return  # then nothing was done, which the invariants look at
            failure = error
        expected, refusal = None, None
        try:
            expected = model()
        except Refusal as error:
            refusal = error
        if refusal is None and failure is None:
            assert equal(found, expected), f"it gave {found!r}, the model {expected!r}"
        elif failure is None:
            raise AssertionError(f"it gave {found!r}, the model raised {refusal!r}")
        elif (
            refusal is None
            or failure.error_code not in refusal.codes
            or _index_of(failure) not in (None, refusal.index)
        ):
            raise AssertionError(f"the model gave {expected!r} or {refusal!r}") from failure

    def _do(self, operation: Operation) -> None:
        verb, arguments = operation
        self._compare(lambda: getattr(self.storage, verb)(**arguments), lambda: getattr(self.model, verb)(**arguments))

    @initialize(operations=beginnings)
    def begin(self, operations: list[Operation]) -> None:
        for operation in operations:
            self._do(operation)

    @rule(operation=record_changes)
    def change_a_record(self, operation: Operation) -> None:
        self._do(operation)

    @rule(operation=record_updates)
    def update_a_record(self, operation: Operation) -> None:
        self._do(operation)

    @rule(operation=log_changes)
    def change_a_log(self, operation: Operation) -> None:
        self._do(operation)

    @rule(operation=log_changes)
    def change_another_log(self, operation: Operation) -> None:
        self._do(operation)

    @rule(operation=restores)
    def restore(self, operation: Operation) -> None:
        self._do(operation)

    @rule(operation=reads)
    def look(self, operation: Operation) -> None:
        self._do(operation)

    @rule(operations=operations)
    def transaction_of_a_list(self, operations: list[Operation]) -> None:
        self._compare(lambda: _listed_results(self.storage, operations), lambda: self.model.transaction(operations))

    @rule(operations=operations, leave=st.booleans())
    def transaction_of_a_block(self, operations: list[Operation], leave: bool) -> None:
        self._compare(
            lambda: _block_results(self.storage, operations, leave),
            lambda: self.model.transaction(operations, leave=leave),
        )

    @rule(step=st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(hours=1), timedelta(hours=-1)]))
    def time_passes(self, step: timedelta) -> None:
        self.clock.now += step

    @rule(days=st.integers(0, 3), type=types, dry_run=st.booleans())
    def clean_up(self, days: int, type: str, dry_run: bool) -> None:
        if days == 0:
            self._compare(self.storage.purge_expired, self.model.purge_expired)
            return
        self.clock.now += timedelta(days=2)
        self._compare(
            lambda: self.storage.cleanup_old_data(days, type=type, dry_run=dry_run),
            lambda: self.model.cleanup_old_data(days, type=type, dry_run=dry_run),
        )
        self.clock.now -= timedelta(days=2)

    @rule(asked=st.sampled_from(FILTERS), limit=st.none() | st.integers(0, 3))
    def list_some(self, asked: Any, limit: int | None) -> None:
        filters, holds, named = asked
        self._compare(lambda: self.storage.list(filters, limit), lambda: self.model.list_where(holds, named)[:limit])
        self._compare(lambda: self.storage.count(filters), lambda: len(self.model.list_where(holds, named)))

    @rule(asked=st.sampled_from(FILTERS), order=st.sampled_from([*ORDERS]), down=st.booleans(), limit=st.integers(1, 3))
    def page_through(self, asked: Any, order: str, down: bool, limit: int) -> None:
        filters, holds, named = asked

        def expected() -> list[Record]:
            return sorted(self.model.list_where(holds, named), key=ORDERS[order], reverse=down)

        order_by = f"-{order}" if down else order
        self._compare(lambda: _all_pages(self.storage, filters, order_by, limit), expected)

    @invariant()
    def both_hold_the_same(self) -> None:
        every_type = {"type": {"$in": TYPES}}
        self._compare(
            lambda: gathered(self.storage.stream_list(every_type, 4)),
            lambda: self.model.list_where(lambda record: True, TYPES),
        )
        for prefix in ("", "events@_sys/"):
            self._compare(lambda: gathered(self.storage.logs(prefix)), lambda: self.model.logs(prefix))  # noqa: B023

    @invariant()
    def the_logs_are_the_same(self) -> None:
        self._compare(
            lambda: self.storage.read_many(LOGS), lambda: {log_id: self.model.read(log_id) for log_id in LOGS}
        )


def _is_lack(error: StorageError) -> bool:
    """Whether a call was refused, alone or in a transaction, for a skill that the storage lacks."""
    return isinstance(error, StorageUnsupportedError) or isinstance(error.__cause__, StorageUnsupportedError)


def _index_of(error: StorageError) -> int | None:
    return error.index if isinstance(error, StorageTransactionError) else None


async def _awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


async def _listed_results(storage: IUnifiedStorage, operations: list[Operation]) -> list[Any]:
    written = []
    for verb, arguments in operations:
        named = {"record_type" if name == "type" else name: value for name, value in arguments.items()}
        written.append({"type": verb, **named})
    return list(await storage.transaction(written))


async def _block_results(storage: IUnifiedStorage, operations: list[Operation], leave: bool) -> list[Any]:
    results: list[Any] = []
    try:
        async with storage.transaction() as tx:
            for verb, arguments in operations:
                try:
                    results.append(await getattr(tx, verb)(**arguments))
                except StorageError:
                    break  # it is doomed now, and has to say so on leaving
            else:
                if not leave:
                    raise TakenBack
    except TakenBack:
        pass
    return results


async def _all_pages(storage: IUnifiedStorage, filters: Any, order_by: str, limit: int) -> list[Record]:
    found: list[Record] = []
    cursor = None
    while True:
        page = await storage.page(filters, limit=limit, order_by=order_by, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def run_state_machine(
    fresh: OpenStore,
    *,
    examples: int = 25,
    steps: int = 30,
    shrink: bool = True,
    missing: frozenset[str] = frozenset(),
) -> None:
    """Compare a storage with the model in random sequences of calls; a short one that differs is shown.

    Args:
        fresh: ``fresh(clock=...)`` opens a new, empty store each time.
        examples: how many sequences.
        steps: how many calls in each.
        shrink: look for the shortest sequence that differs, which may take minutes; else the first one is shown.
        missing: skills that the storage lacks, as in the conformance suite: it may refuse what needs them, undone.
    Raises:
        AssertionError: the storage did something else than the model.
    """

    # Explaining is left out: it takes longer than all the others.
    phases = [Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])]

    class Machine(StorageMachine):
        pass

    Machine.fresh = staticmethod(fresh)
    Machine.missing = missing
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=phases,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
