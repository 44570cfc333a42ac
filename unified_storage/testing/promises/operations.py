"""Promises about ``transaction`` with a list of operations."""

from __future__ import annotations

from typing import Any

import pytest

from unified_storage.errors import (
    StorageConflictError,
    StorageError,
    StorageNotFoundError,
    StorageTransactionError,
    StorageValidationError,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import bodies, body, ids, note, save_all, session, stored
from unified_storage.testing.harness import Harness

MANY = "transactions over partitions"
LOG = "events/s"
FAULTS: list[tuple[Any, type[StorageError]]] = [
    ({"type": "explode"}, StorageValidationError),
    ({"type": "close"}, StorageValidationError),
    ({"type": "transaction", "operations": []}, StorageValidationError),
    ({"id": "s"}, StorageValidationError),
    ({"type": "load"}, StorageValidationError),
    ({"type": "load", "id": "s", "colour": "red"}, StorageValidationError),
    ({"type": "save", "data": {"id": "x"}}, StorageValidationError),
    ({"type": "update", "id": "s", "data": {"colour": "red"}}, StorageValidationError),
    ({"type": "save", "data": session("s"), "expected_version": 9}, StorageConflictError),
    ({"type": "append", "log_id": "events/nobody", "entries": [body(1)]}, StorageNotFoundError),
    (5, StorageValidationError),
    (None, StorageValidationError),
]


class OperationPromises(Harness):
    """Several verbs in one call: in order, all or nothing."""

    async def test_each_operation_has_its_result_in_order(self, storage: IUnifiedStorage) -> None:
        results = await storage.transaction(
            [
                {"type": "save", "data": session("s", {"x": 1})},
                {"type": "update", "id": "s", "data": {"data": {"y": 2}}},
                {"type": "update", "id": "s", "updates": {"metadata": {"m": 1}}, "record_type": "session"},
                {"type": "append", "log_id": LOG, "entries": [body(1), body(2)]},
                {"type": "append", "log_id": LOG, "entries": [body(3, "k")], "keep_last": 2, "expected_version": 4},
                {"type": "pop", "log_id": LOG},
                {"type": "read", "log_id": LOG, "last": 1},
                {"type": "log_info", "log_id": LOG},
                {"type": "load", "id": "s"},
                {"type": "exists", "id": "s", "record_type": "note"},
                {"type": "count"},
                {"type": "list", "filters": {"type": "session"}, "limit": 5},
                {"type": "rewrite", "log_id": LOG, "entries": []},
                {"type": "delete", "id": "s"},
            ]
        )
        assert results[:6] == ["s", True, True, [1, 2], [3], results[5]]
        assert results[5]["body"] == 3
        assert [entry["body"] for entry in results[6]] == [2]
        assert results[7] == {"first_seq": 2, "last_seq": 3, "count": 1}
        assert (results[8]["data"], results[8]["metadata"], results[8]["version"]) == ({"x": 1, "y": 2}, {"m": 1}, 6)
        assert (results[9], results[10], ids(results[11]), results[12], results[13]) == (False, 1, ["s"], [], True)
        assert len(results) == 14
        assert await storage.count() == 0

    async def test_the_results_are_a_list_that_is_true_even_when_empty(self, storage: IUnifiedStorage) -> None:
        results = await storage.transaction([])
        assert isinstance(results, list)
        assert results == []
        assert bool(results) is True

    async def test_operations_over_many_records_happen_together(self, storage: IUnifiedStorage) -> None:
        with self.promised(MANY):
            names = [f"{n}" for n in range(8)]
            results = await storage.transaction([{"type": "save", "data": note(id)} for id in names])
            assert results == names
            assert ids(await storage.list()) == names

    async def test_false_and_none_are_results_and_no_failures(self, storage: IUnifiedStorage) -> None:
        results = await storage.transaction(
            [
                {"type": "update", "id": "s", "data": {}},
                {"type": "delete", "id": "s"},
                {"type": "load", "id": "s"},
                {"type": "pop", "log_id": LOG},
                {"type": "save", "data": session("s")},
            ]
        )
        assert results == [False, False, None, None, "s"]
        assert await storage.exists("s")

    @pytest.mark.parametrize(("fault", "cause"), FAULTS, ids=lambda given: ascii(given)[:40])
    async def test_a_failure_undoes_all_and_names_its_operation(
        self, storage: IUnifiedStorage, fault: Any, cause: type[StorageError]
    ) -> None:
        """S2.25."""
        await storage.save(session("s", {"x": 1}))
        await storage.append(LOG, [body("before")])
        before = await stored(storage, "s")
        operations = [
            {"type": "update", "id": "s", "data": {"data": {"x": 2}}},
            {"type": "append", "log_id": LOG, "entries": [body("undone")]},
            fault,
            {"type": "delete", "id": "s"},
        ]
        with pytest.raises(StorageTransactionError) as failure:
            await storage.transaction(operations)
        assert failure.value.index == 2
        assert isinstance(failure.value.cause, cause)
        assert failure.value.retryable is False
        assert failure.value.__cause__ is failure.value.cause
        assert await stored(storage, "s") == before
        assert await bodies(storage, LOG) == ["before"]
        assert await storage.append(LOG, [body("after")]) == [2]

    async def test_a_failure_undoes_every_kind_of_change(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s", {"x": 1}, metadata={"m": 1}), session("s", {"x": 2}, metadata={"m": 2})])
        await storage.append(LOG, [body(n, f"k{n}") for n in range(1, 6)])
        before, entries = await storage.list(), await storage.read(LOG)
        for change in (
            {"type": "save", "data": session("s")},
            {"type": "delete", "id": "s"},
            {"type": "append", "log_id": LOG, "entries": [body("new", "k1")], "on_duplicate": "replace"},
            {"type": "append", "log_id": LOG, "entries": [body("new")], "keep_last": 1},
            {"type": "pop", "log_id": LOG},
            {"type": "rewrite", "log_id": LOG, "entries": [body("all new", "k1")]},
            {"type": "append", "log_id": "runs/s", "entries": [body(1)]},
            {"type": "batch_save", "data_list": [session("s")]},
            {"type": "batch_delete", "ids": ["s"]},
            {"type": "restore", "records": [], "logs": [{"log_id": LOG, "last_seq": 3, "entries": []}]},
        ):
            with pytest.raises(StorageTransactionError) as failure:
                await storage.transaction([change, {"type": "append", "log_id": "x/nobody", "entries": [body(1)]}])
            assert failure.value.index == 1
            assert await storage.list() == before
            assert await storage.read(LOG) == entries
            assert await storage.log_info("runs/s") is None
        with pytest.raises(StorageError):
            await storage.append(LOG, [body("again", "k1")])

    @pytest.mark.parametrize("operations", [{"type": "load", "id": "a"}, "load", 5], ids=repr)
    async def test_operations_have_to_be_a_list(self, storage: IUnifiedStorage, operations: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.transaction(operations)

    async def test_operations_are_not_changed(self, storage: IUnifiedStorage) -> None:
        operations: list[dict[str, Any]] = [
            {"type": "save", "data": session("s")},
            {"type": "update", "id": "s", "data": {"data": {"x": 1}}, "record_type": "session"},
        ]
        await storage.transaction(operations)
        await storage.transaction(operations)
        assert operations[1] == {"type": "update", "id": "s", "data": {"data": {"x": 1}}, "record_type": "session"}
        assert (await stored(storage, "s"))["version"] == 4
