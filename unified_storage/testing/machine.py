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
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from unified_storage.errors import StorageError, StorageTransactionError
from unified_storage.interface import IUnifiedStorage
from unified_storage.record import DELETE, REPLACE
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import gathered
from unified_storage.testing.harness import OpenStore
from unified_storage.testing.model import Model, Operation, Record, Refusal
from unified_storage.values import equal

IDS = ["a", "b", "é/🙂"]
TYPES = ["session", "thread", "note", "_sys"]
LOGS = [f"{name}/{id}" for name in ("events", "runs@note", "events@_sys") for id in IDS[:2]]

ids = st.sampled_from(IDS)
types = st.sampled_from(TYPES)
maybe_type = st.none() | types
logs = st.sampled_from(LOGS)
versions = st.none() | st.none() | st.integers(0, 4)
scalars = st.sampled_from([None, True, 0, 1, -0.0, 2**63, "", "x", "\x00", "é"])
names = st.sampled_from(["n", "m", "we.ird"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=4
)
documents = st.dictionaries(names, values, max_size=3)
changes: st.SearchStrategy[Any] = st.recursive(
    values | st.just(DELETE) | documents.map(REPLACE),
    lambda inner: st.dictionaries(names, inner, max_size=2),
    max_leaves=3,
)
moments = st.integers(-3, 3).map(lambda hours: NOON + timedelta(hours=hours))
records = st.fixed_dictionaries(
    {"id": ids, "type": types, "data": documents},
    optional={
        "metadata": st.none() | documents,
        "session_id": st.none() | ids,
        "thread_id": st.none() | ids,
        "created_at": moments,
        "expires_at": st.none() | moments,
    },
)
updates = st.fixed_dictionaries(
    {},
    optional={
        "data": st.dictionaries(names, changes, max_size=2) | documents.map(REPLACE),
        "metadata": st.none() | st.just(DELETE) | st.dictionaries(names, changes, max_size=2),
        "session_id": st.none() | ids,
        "expires_at": st.none() | moments,
    },
)
entries = st.lists(
    st.fixed_dictionaries(
        {"body": values}, optional={"key": st.none() | st.sampled_from(["k1", "k2", "K1"]), "created_at": moments}
    ),
    max_size=3,
)


def _numbered(gaps: list[int]) -> Callable[[list[Any]], list[Record]]:
    def number(bodies: list[Any]) -> list[Record]:
        seqs = [sum(gaps[: place + 1]) for place in range(len(bodies))]
        return [
            {"seq": seq, "key": None, "created_at": NOON, "body": body} for seq, body in zip(seqs, bodies, strict=True)
        ]

    return number


stored_entries = st.tuples(st.lists(st.integers(1, 3), min_size=3, max_size=3), st.lists(values, max_size=3)).map(
    lambda drawn: _numbered(drawn[0])(drawn[1])
)
stored_logs = st.builds(
    lambda log_id, found, more: {
        "log_id": log_id,
        "last_seq": (found[-1]["seq"] if found else 0) + more,
        "entries": found,
    },
    logs,
    stored_entries,
    st.integers(0, 2),
)
stored_records = st.builds(lambda record, moment: record | {"created_at": NOON, "updated_at": moment}, records, moments)


def operation(verb: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    """A verb with drawn arguments."""
    return st.tuples(st.just(verb), st.fixed_dictionaries(arguments))


writes = st.one_of(
    operation("save", data=records, expected_version=versions),
    operation("save", data=records),
    operation("update", id=ids, updates=updates, type=maybe_type, expected_version=versions),
    operation("update", id=ids, updates=updates, type=types),
    operation("delete", id=ids, type=maybe_type, cascade=st.booleans(), expected_version=versions),
    operation("batch_save", data_list=st.lists(records, max_size=3)),
    operation("batch_delete", ids=st.lists(ids, max_size=3), type=maybe_type, cascade=st.booleans()),
    operation("append", log_id=logs, entries=entries),
    operation(
        "append",
        log_id=logs,
        entries=entries,
        on_duplicate=st.sampled_from(["error", "skip", "replace"]),
        keep_last=st.none() | st.integers(0, 3),
        expected_version=versions,
    ),
    operation("pop", log_id=logs),
    operation("rewrite", log_id=logs, entries=entries, expected_version=versions),
    operation("restore", records=st.lists(stored_records, max_size=2), logs=st.lists(stored_logs, max_size=2)),
)
reads = st.one_of(
    operation("load", id=ids, type=maybe_type),
    operation("exists", id=ids, type=maybe_type),
    operation("log_info", log_id=logs),
    operation(
        "read", log_id=logs, after=st.integers(0, 4), before=st.none() | st.integers(0, 6), last=st.integers(0, 3)
    ),
    operation("read", log_id=logs, since=st.none() | moments, limit=st.none() | st.integers(0, 3)),
)
FILTERS: list[tuple[dict[str, Any] | None, Callable[[Record], bool], list[str]]] = [
    (None, lambda record: True, []),
    ({"type": "note"}, lambda record: record["type"] == "note", []),
    ({"type": {"$in": ["_sys", "session"]}}, lambda record: record["type"] in ("_sys", "session"), ["_sys"]),
    ({"session_id": "a"}, lambda record: record["session_id"] == "a", []),
    ({"data.n": "x"}, lambda record: record["data"].get("n") == "x", []),
    ({"data.n": {"$exists": True}}, lambda record: "n" in record["data"], []),
    ({"data.m.n": {"$ne": None}}, lambda record: not _holds_null(record["data"].get("m"), "n"), []),
    ({"updated_at": {"$gt": NOON}}, lambda record: record["updated_at"] > NOON, []),
]
ORDERS: dict[str, Callable[[Record], Any]] = {
    "id": lambda record: record["id"],
    "created_at": lambda record: record["created_at"],
    "updated_at": lambda record: record["updated_at"],
}


def _holds_null(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name in value and value[name] is None


class TakenBack(Exception):
    """Raised to leave a transaction without committing it."""


class StorageMachine(RuleBasedStateMachine):
    """One storage, one model, one clock; :func:`run_state_machine` says which storage."""

    fresh: OpenStore

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
        expected, refusal = None, None
        try:
            expected = model()
        except Refusal as error:
            refusal = error
        try:
            found = self.runner.run(_awaited(storage))
        except StorageError as error:
            if (
                refusal is None
                or error.error_code not in refusal.codes
                or _index_of(error) not in (None, refusal.index)
            ):
                raise AssertionError(f"the model gave {expected!r} or {refusal!r}") from error
            return
        assert refusal is None, f"it gave {found!r}, the model raised {refusal!r}"
        assert equal(found, expected), f"it gave {found!r}, the model {expected!r}"

    @rule(operation=writes)
    def write(self, operation: Operation) -> None:
        verb, arguments = operation
        self._compare(lambda: getattr(self.storage, verb)(**arguments), lambda: getattr(self.model, verb)(**arguments))

    @rule(operation=reads)
    def read(self, operation: Operation) -> None:
        self.write(operation)

    @rule(operations=st.lists(writes | reads, max_size=4))
    def transaction_of_a_list(self, operations: list[Operation]) -> None:
        self._compare(lambda: _listed_results(self.storage, operations), lambda: self.model.transaction(operations))

    @rule(operations=st.lists(writes | reads, max_size=4), leave=st.booleans())
    def transaction_of_a_block(self, operations: list[Operation], leave: bool) -> None:
        self._compare(
            lambda: _block_results(self.storage, operations, leave),
            lambda: self.model.transaction(operations, leave=leave),
        )

    @rule(step=st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(hours=1), timedelta(hours=-1)]))
    def time_passes(self, step: timedelta) -> None:
        self.clock.now += step

    @rule()
    def purge(self) -> None:
        self._compare(self.storage.purge_expired, self.model.purge_expired)

    @rule(days=st.integers(1, 3), type=types, dry_run=st.booleans())
    def clean_up(self, days: int, type: str, dry_run: bool) -> None:
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


def run_state_machine(fresh: OpenStore, *, examples: int = 25, steps: int = 30) -> None:
    """Compare a storage with the model in random sequences of calls; the shortest one that differs is shown.

    Args:
        fresh: ``fresh(clock=...)`` opens a new, empty store each time.
        examples: how many sequences.
        steps: how many calls in each.
    """

    class Machine(StorageMachine):
        pass

    Machine.fresh = staticmethod(fresh)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=(Phase.reuse, Phase.generate, Phase.shrink),  # explaining takes longer than all the others
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
