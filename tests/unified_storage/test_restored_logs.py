"""The logs of an import are looked at together: what is told of them is what a look at each of them tells."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from unified_storage import logs as module
from unified_storage.errors import StorageError
from unified_storage.logs import checked_logs

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
MISSING = object()
ODD: dict[str, list[Any]] = {
    "key": [MISSING, "b", "é" * 127, "é" * 128, "x" * 255, "x" * 256, "", "\0", "\ud800", 5, b"a"],
    "created_at": [
        *(MISSING, None, 0, NOON + timedelta(microseconds=1), NOON.astimezone(timezone(timedelta(hours=2)))),
        *(NOON.replace(tzinfo=None), datetime.max.replace(tzinfo=UTC)),
    ],
    "body": [MISSING, None, {"$type": "x"}, {"a": "$type"}, {1: 2}, (1,), float("nan"), object(), "\ud800", 1 << 70],
    "seq": [MISSING, None, 0, 1, 3, True, "2", 2.0, 1 << 53],
    "more": [1],
}


def logs_with(name: str, value: object) -> list[dict[str, Any]]:
    """Two logs of three entries, one of which is as it says."""
    given: list[dict[str, Any]] = []
    for log_id in ("events/a", "events/b"):
        entries = [{"seq": seq, "key": f"k{seq}", "created_at": NOON, "body": {"n": seq}} for seq in (1, 2, 3)]
        given.append({"log_id": log_id, "last_seq": 3, "entries": entries})
    odd: dict[str, Any] = given[1]["entries"][1]
    odd[name] = value
    if value is MISSING:
        del odd[name]
    return given


def outcome(logs: list[dict[str, Any]]) -> Any:
    try:
        return checked_logs(logs)
    except StorageError as error:
        return type(error), error.message, error.details


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_together_they_are_what_each_of_them_is(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    together = outcome(logs_with(name, value))
    monkeypatch.setattr(module, "_plain_drafts", lambda _entries: None)
    assert together == outcome(logs_with(name, value))


@pytest.mark.parametrize(
    ("name", "value"), [("key", "k1"), ("seq", 1), ("seq", 0), ("created_at", None), ("more", 1), ("key", "x" * 256)]
)
def test_a_fault_of_one_entry_is_told(name: str, value: object) -> None:
    with pytest.raises(StorageError):
        checked_logs(logs_with(name, value))


@pytest.mark.parametrize("last_seq", [2, 0, True, None, "3", 1 << 53])
def test_a_last_number_that_cannot_be_is_refused(last_seq: object) -> None:
    with pytest.raises(StorageError):
        checked_logs([logs_with("key", None)[0] | {"last_seq": last_seq}])


def test_most_logs_are_looked_at_together() -> None:
    given = logs_with("key", None)
    assert module._plain_drafts([entry for log in given for entry in log["entries"]]) is not None


def test_the_entries_of_a_log_may_come_one_by_one() -> None:
    entries = [{"seq": seq, "key": None, "created_at": NOON, "body": seq} for seq in (1, 2)]
    (log,) = checked_logs([{"log_id": "events/a", "last_seq": 2, "entries": iter(entries)}])
    assert [entry.body for entry in log.entries] == ["1", "2"]
