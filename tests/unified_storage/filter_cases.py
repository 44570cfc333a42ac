"""Generated records and filters, for everything that must give filters one meaning."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

NOON = datetime(2024, 5, 15, 12, 0, tzinfo=UTC)
BIG = 2**53

# Few values, so that generated filters hit generated records; each stands for a trap.
NUMBERS: list[Any] = [
    *(0, 1, 1.0, -1, 2, BIG, BIG + 1, float(BIG), 2**63, 2**63 + 1, 10**400, -(10**400), 0.1, -0.0, 5e-324, 1e22),
    *(float("inf"), float("-inf"), Decimal("1.00"), Decimal("0.1"), Decimal("-1E+400"), Decimal("1E-400")),
]
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "b%",
    "50%_\\",
    "line\nline",
    "é",
    "É",
    "z\x00",
    "\ud800",
    "\uffff",
    "\U0001f600",
    "x" * 600,
]
MOMENTS = [NOON, NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), NOON + timedelta(microseconds=1)]
OTHERS: list[Any] = [date(2024, 5, 15), UUID(int=7), b"", b"\x00a"]
SCALARS: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *MOMENTS, *OTHERS]
NOT_COMPARABLE: list[Any] = [float("nan"), Decimal("NaN"), Decimal("sNaN"), NOON.replace(tzinfo=None), [], {}, (), [1]]

KEYS = ["a", "b", "we.ird", "back\\slash", 'quo"te', "", "and", "0", "Größe"]
PATHS = ["data.a", "data.b", "data.a.b", r"data.we\.ird", r"data.back\\slash", 'data.quo"te', "data.", "metadata.a"]
COLUMNS = ["id", "type", "session_id", "thread_id", "version", "created_at", "updated_at", "expires_at"]

scalars = st.sampled_from(SCALARS)
values = st.one_of(
    scalars,
    st.sampled_from(NOT_COMPARABLE),
    st.lists(scalars, max_size=3),
    st.lists(scalars, max_size=3).map(tuple),
    st.dictionaries(st.sampled_from(KEYS), scalars, max_size=2),
)
documents = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
moments = st.sampled_from(MOMENTS)
records = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "B", "é", "10", "9"]),
        "type": st.sampled_from(["session", "note", "_copy"]),
        "data": documents,
        "metadata": st.none() | documents,
        "session_id": st.sampled_from([None, "a"]),
        "thread_id": st.sampled_from([None, "a"]),
        "version": st.integers(1, 3),
        "created_at": moments,
        "updated_at": moments,
        "expires_at": st.none() | moments,
    }
)

paths = st.sampled_from(PATHS + COLUMNS)
patterns = st.lists(st.sampled_from(["%", "_", "a", "A", "b", "x", r"\%", r"\_", r"\\", "\n", "é"]), max_size=5).map(
    "".join
)
of_one_kind = st.one_of(
    *(st.lists(st.sampled_from(kind), max_size=4) for kind in (NUMBERS, TEXTS, MOMENTS, [True, False], [None]))
)
_ordering = scalars.filter(lambda value: value is not None)
_OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "$eq": scalars,
    "$ne": scalars,
    "$in": of_one_kind,
    "$nin": of_one_kind,
    "$gt": _ordering,
    "$gte": _ordering,
    "$lt": _ordering,
    "$lte": _ordering,
    "$like": patterns,
    "$ilike": patterns,
    "$exists": st.booleans(),
    "$contains": scalars,
}
OPERATORS = sorted(_OPERANDS)
operators = st.fixed_dictionaries({}, optional=_OPERANDS).filter(bool)
single_tests = st.sampled_from(OPERATORS).flatmap(lambda op: st.tuples(paths, st.just(op), _OPERANDS[op]))


def _combined(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        lists.map(lambda p: {"$and": p}), lists.map(lambda p: {"$or": p}), parts.map(lambda p: {"$not": p})
    )


filters: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(paths, scalars | operators, max_size=2), _combined, max_leaves=6
)


def record(data: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A record that holds *data*, every column set."""
    whole = {
        "id": "r",
        "type": "note",
        "data": data or {},
        "metadata": None,
        "session_id": None,
        "thread_id": None,
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
        "expires_at": None,
    }
    return whole | fields
