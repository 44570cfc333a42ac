"""Calls that hypothesis draws for the state machine: small worlds, so that they meet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from unified_storage.record import DELETE, REPLACE
from unified_storage.testing.clock import NOON
from unified_storage.testing.model import Operation, Record

IDS = ["a", "b/🙂"]
TYPES = ["session", "thread", "note", "_sys"]
LOGS = ["events/a", "events/b/🙂", "runs/a", "events@note/a", "events@_sys/a"]

ids = st.sampled_from(IDS)
types = st.sampled_from(TYPES)
maybe_type = st.sampled_from([None, "session", "session", "thread", "note", "_sys"])
logs = st.sampled_from(LOGS)
versions = st.sampled_from([None] * 8 + [0, 1, 2, 3])
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
expiries = st.sampled_from([None] * 4 + [NOON - timedelta(hours=1)] + [NOON + timedelta(hours=n) for n in (1, 2, 3)])
records = st.fixed_dictionaries(
    {"id": ids, "type": types, "data": documents},
    optional={
        "metadata": st.none() | documents,
        "session_id": st.none() | ids,
        "thread_id": st.none() | ids,
        "created_at": moments,
        "expires_at": expiries,
    },
)
updates = st.fixed_dictionaries(
    {},
    optional={
        "data": st.dictionaries(names, changes, max_size=2) | documents.map(REPLACE),
        "metadata": st.none() | st.just(DELETE) | st.dictionaries(names, changes, max_size=2),
        "session_id": st.none() | ids,
        "expires_at": expiries,
    },
)
drafts = st.lists(
    st.fixed_dictionaries(
        {"body": values}, optional={"key": st.none() | st.sampled_from(["k1", "k2", "K1"]), "created_at": moments}
    ),
    max_size=3,
)
entries = drafts.filter(bool)


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


on_duplicate = st.sampled_from(["error", "skip", "replace"])
record_updates = operation("update", id=ids, updates=updates, type=maybe_type, expected_version=versions)
record_changes = st.one_of(
    operation("save", data=records),
    operation("save", data=records, expected_version=versions),
    operation("delete", id=ids, type=maybe_type, cascade=st.booleans(), expected_version=versions),
    operation("batch_save", data_list=st.lists(records, max_size=3)),
    operation("batch_delete", ids=st.lists(ids, max_size=3), type=maybe_type, cascade=st.booleans()),
)
log_changes = st.one_of(
    operation("append", log_id=logs, entries=entries),
    operation("append", log_id=logs, entries=entries, on_duplicate=on_duplicate, expected_version=versions),
    operation("append", log_id=logs, entries=drafts, on_duplicate=on_duplicate, keep_last=st.integers(0, 3)),
    operation("pop", log_id=logs),
    operation("rewrite", log_id=logs, entries=drafts, expected_version=versions),
)
restores = operation("restore", records=st.lists(stored_records, max_size=2), logs=st.lists(stored_logs, max_size=2))
reads = st.one_of(
    operation("load", id=ids, type=maybe_type),
    operation("exists", id=ids, type=maybe_type),
    operation("log_info", log_id=logs),
    operation(
        "read", log_id=logs, after=st.integers(0, 4), before=st.none() | st.integers(0, 6), last=st.integers(0, 3)
    ),
    operation("read", log_id=logs, since=st.none() | moments, limit=st.none() | st.integers(0, 3)),
)
operations = st.lists(st.one_of(record_changes, record_updates, log_changes, restores, reads), max_size=4)
beginnings = st.lists(
    st.sampled_from([("save", {"data": {"id": id, "type": type, "data": {}}}) for id in IDS for type in TYPES]),
    min_size=4,
)
"""Records that are there from the start, so that logs have owners."""
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
