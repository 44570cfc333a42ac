"""Promises about arguments of the wrong type: they are refused before anything happens, and named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import note, stored
from unified_storage.testing.harness import Harness

LOG = "h@note/a"
CALLS: dict[str, dict[str, Any]] = {
    "save": {"data": note("a"), "expected_version": None},
    "load": {"id": "a", "type": None},
    "update": {"id": "a", "updates": {"data": {"x": 2}}, "type": None, "expected_version": None},
    "delete": {"id": "a", "type": None, "cascade": True, "expected_version": None},
    "exists": {"id": "a", "type": None},
    "list": {"filters": None, "limit": None, "with_data": True},
    "page": {"filters": None, "limit": 5, "order_by": "id", "cursor": None, "skip": 0, "with_data": True},
    "stream_list": {"filters": None, "batch_size": 5, "after": None, "with_data": True},
    "query": {"query": "type = 'note'", "params": None},
    "count": {"filters": None},
    "batch_save": {"data_list": [note("a")]},
    "batch_delete": {"ids": ["a"], "type": None, "cascade": False},
    "get_by_session": {"session_id": "s"},
    "get_by_thread": {"thread_id": "t"},
    "append": {
        "log_id": LOG,
        "entries": [{"body": 2}],
        "on_duplicate": "error",
        "keep_last": None,
        "expected_version": None,
    },
    "pop": {"log_id": LOG},
    "read": {"log_id": LOG, "after": 0, "before": None, "last": None, "since": None, "limit": None},
    "read_many": {"log_ids": [LOG], "last": None, "limit": None},
    "rewrite": {"log_id": LOG, "entries": [], "expected_version": None},
    "log_info": {"log_id": LOG},
    "logs": {"prefix": ""},
    "transaction": {"operations": [], "timeout": 5},
    "restore": {"records": [note("a")], "logs": []},
    "cleanup_old_data": {"retention_days": 1, "type": "note", "dry_run": False},
}
"""Calls that a storage takes, by verb."""
_TEXTS = {"id", "log_id", "query", "session_id", "thread_id", "prefix", "order_by", "on_duplicate"}
_NUMBERS = {"batch_size", "skip", "after of read", "retention_days", "limit of page"}
_SWITCHES = {"cascade", "with_data", "dry_run"}
_LISTS = {"data_list", "ids", "log_ids", "entries", "records", "logs"}
_MAPPINGS = {"data", "updates"}
_WRONG_NUMBERS: list[Any] = [1.5, True, -1, "1", b"1", [1], {}]
_WRONG: dict[str, list[Any]] = {
    **{name: [None, 5, 1.5, True, b"a", ["a"], ("a",), {}] for name in _TEXTS},
    **{name: [None, 0, 1, "yes", b"", [], {}] for name in _SWITCHES},
    **{name: [None, 5, 1.5, True, "ab", b"ab", {"a": 1}, [5], [None]] for name in _LISTS},
    **{name: [None, 5, "a", b"a", [], [("id", "a")]] for name in _MAPPINGS},
    **{name: [None, *_WRONG_NUMBERS] for name in _NUMBERS},
    **dict.fromkeys(("limit", "keep_last", "expected_version", "before", "last"), _WRONG_NUMBERS),
    "type": [5, b"note", True, ["note"], {}],
    "type of cleanup_old_data": [None, 5, b"note", ["note"]],
    "filters": [5, "a", b"a", [], [5]],
    "params": [5, "a", b"a", []],
    "cursor": [5, b"a", True, [], {}],
    "after": [5, b"a", True, ["a"], ["a", "note"], ("a",), ("a", None), {}],
    "since": [5, 1.5, "2024-05-15", b"a", []],
    "operations": [5, "a", b"a", {}],
    "timeout": [None, "5", b"5", True, [5], 0],
}


def wrong_calls() -> Iterator[tuple[str, str, Any]]:
    """A verb, the name of one of its arguments, and a value that has the wrong type for it."""
    for verb, arguments in CALLS.items():
        for name in arguments:
            for value in _WRONG.get(f"{name} of {verb}", _WRONG.get(name, [])):
                yield verb, name, value


async def outcome_of(storage: IUnifiedStorage, verb: str, arguments: dict[str, Any]) -> Any:
    """What a call gives, also one whose batches have to be asked for."""
    result = getattr(storage, verb)(**arguments)
    return [batch async for batch in result] if hasattr(result, "__aiter__") else await result


class ArgumentPromises(Harness):
    """What was given by mistake is told by its name, whichever the backend."""

    @pytest.mark.parametrize("verb", CALLS)
    async def test_arguments_of_a_wrong_type_are_refused_and_named(self, storage: IUnifiedStorage, verb: str) -> None:
        await storage.save(note("a", {"x": 1}))
        await storage.append(LOG, [{"body": 1}])
        for name, value in [(name, value) for each, name, value in wrong_calls() if each == verb]:
            with pytest.raises(StorageValidationError) as refused:
                await outcome_of(storage, verb, {**CALLS[verb], name: value})
            path = str(refused.value.details.get("path", name))
            named = ("[", "record", name.removesuffix("s"))
            assert path.startswith(named), f"{verb}({name}={value!r}): {refused.value.message}"
        assert (await stored(storage, "a"))["data"] == {"x": 1}
        assert [entry["body"] for entry in await storage.read(LOG)] == [1]

    async def test_what_is_no_function_is_not_done(self, storage: IUnifiedStorage) -> None:
        async def nothing(tx: IUnifiedStorage) -> None: ...

        wrong: list[Any] = [None, 5, "f", b"f", []]
        for value in wrong:
            with pytest.raises(StorageValidationError):
                await storage.atomically(value)
        attempts: list[Any] = [None, 0, True, 1.5, "5", b"5", []]
        for value in attempts:
            with pytest.raises(StorageValidationError):
                await storage.atomically(nothing, attempts=value)
        await storage.atomically(nothing, attempts=1)
