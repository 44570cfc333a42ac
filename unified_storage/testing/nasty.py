"""Nasty documents, filters, orders and queries, drawn by a seed: always the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from unified_storage.paths import path_text

NOON = datetime(2024, 5, 15, 12, 0, tzinfo=UTC)
LONG = "long " * 130

NUMBERS: list[Any] = [
    *(0, -0.0, 1, 1.0, Decimal("1.00"), -1, 2, 2.5, 0.1, Decimal("0.1"), 3, 10, 100),
    *(2**53 - 1, 2**53, 2**53 + 1, float(2**53), -(2**53) - 1, 2**63 - 1, 2**63, 2**63 + 1, float(2**63), 2**64),
    *(1e22, 10**22, 10**30, 10**400, -(10**400), 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")),
    *(Decimal("1E+400"), Decimal("-1E-400"), Decimal(2**53 + 1), Decimal("Infinity")),
]
TEXTS: list[Any] = [
    *("", "a", "A", "ab", "abc", "a ", " a", "b", "1", "true", "null", "\x00", "a\x00", "a\x00b", "é", "É", "e\u0301"),
    *(
        "\ud800",
        "\udfff\ud800",
        "\uffff",
        "🙂",
        "漢",
        "%",
        "_",
        "50%",
        "a_b",
        "a\\b",
        "it's",
        'q"',
        "line\nline",
        "$type",
    ),
    *(LONG, LONG + "x", LONG + "y", "L" * 511, "L" * 512, "L" * 513, "é" * 300, "2024-05-15T12:00:00+00:00"),
]
MOMENTS: list[Any] = [
    NOON,
    NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
    NOON + timedelta(microseconds=1),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
OTHERS: list[Any] = [date(2024, 5, 15), UUID(int=7), b"", b"\x00a"]
BOOLS: list[Any] = [True, False]
SCALARS: list[Any] = [None, *BOOLS, *NUMBERS, *TEXTS, *MOMENTS, *OTHERS]
ONLY_STORED: list[Any] = [float("nan"), Decimal("NaN"), NOON.replace(tzinfo=None), [], {}, (), set()]
KEYS = ["a", "b", "we.ird", "back\\slash", 'quo"te', "it's", "", "0", "Größe", "a b", "$eq", "%"]
PATHS = [
    *(("data", key) for key in KEYS),
    *(("data", "a", "b"), ("data", "b", "a"), ("data", "a", "we.ird"), ("data", "never"), ("data", "a", "b", "a")),
    *(("metadata", "status"), ("metadata", "user_id"), ("metadata", "a"), ("metadata", "a", "b")),
]
COLUMNS = ["id", "type", "session_id", "thread_id", "version", "created_at", "updated_at", "expires_at"]
INDEXED = {"session": ["data.a", r"data.we\.ird"], "note": ["data.b", "metadata.a"]}
"""Indexed paths beside those of sessions, for the storages under comparison."""
ORDERS = ["id", "created_at", "updated_at", "data.a", r"data.we\.ird", "data.b", "metadata.status", "metadata.user_id"]
IDS = ["a", "A", "a ", "ab", "b", "é", "10", "9", "\uffff", "🙂", "z/1", "%", "_", *(f"n{n:02}" for n in range(20))]
TYPES = ["session", "session", "session", "note", "note", "_sys"]
OPERATORS = [
    "$eq",
    "$eq",
    "$ne",
    "$in",
    "$nin",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$like",
    "$ilike",
    "$exists",
    "$contains",
]
PIECES = ["%", "_", "a", "A", "b", "L", "long ", r"\%", r"\_", r"\\", "\n", "é", "\x00", "1", ""]

_SOME_TIMES = [*MOMENTS, None, "2024"]
_FITTING: dict[str, list[Any]] = {
    "id": IDS,
    "type": TYPES,
    "session_id": IDS[:6],
    "thread_id": IDS[:6],
    "version": [0, 1, 2, 1.0, "1"],
    "created_at": _SOME_TIMES,
    "updated_at": _SOME_TIMES,
    "expires_at": _SOME_TIMES,
}


class Nasty:
    """Draws values that engines tend to disagree about."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def _pick(self, choices: Sequence[Any]) -> Any:
        return self._chance.choice(choices)

    def _happens(self, share: float) -> bool:
        return self._chance.random() < share

    # -- records -------------------------------------------------------------------------------------------------

    def value(self, depth: int = 2) -> Any:
        """Any value; few of them, so that filters hit."""
        what = self._chance.random()
        if what < 0.75 or depth == 0:
            return self._pick(SCALARS)
        if what < 0.82:
            return self._pick(ONLY_STORED)
        if what < 0.9:
            return self.document(depth - 1)
        items = [self.value(depth - 1) for _ in range(self._chance.randrange(4))]
        return items if what < 0.96 else tuple(items)

    def document(self, depth: int = 2) -> dict[str, Any]:
        """A document, mostly with the keys that filters ask for."""
        size = self._chance.randrange(5)
        return {self._pick(KEYS[:3] if self._happens(0.7) else KEYS): self.value(depth) for _ in range(size)}

    def metadata(self) -> dict[str, Any] | None:
        """None, or a few fields for filters."""
        if self._happens(0.2):
            return None
        names = [name for name in ("status", "user_id", "a") if self._happens(0.6)]
        return {name: self._pick(TEXTS[:9]) if self._happens(0.6) else self.value(1) for name in names}

    def moment(self) -> datetime:
        """One of few moments, so that many are equal."""
        return NOON + timedelta(seconds=self._chance.randrange(4), microseconds=self._chance.randrange(2))

    def records(self, count: int) -> list[dict[str, Any]]:
        """Records for ``restore``: all fields but the version, no identity twice."""
        drawn = {}
        for _ in range(count):
            record = {
                "id": self._pick(IDS),
                "type": self._pick(TYPES),
                "data": self.document(),
                "metadata": self.metadata(),
                "session_id": self._pick([None, "a", "A", "é"]),
                "thread_id": self._pick([None, "a"]),
                "created_at": self.moment(),
                "updated_at": self.moment(),
                "expires_at": self._pick([None, None, None, NOON + timedelta(days=36500), NOON - timedelta(days=1)]),
            }
            drawn[record["id"], record["type"]] = record
        return list(drawn.values())

    # -- filters -------------------------------------------------------------------------------------------------

    def path(self) -> tuple[str, ...]:
        """Mostly into documents, sometimes a column."""
        return (self._pick(COLUMNS),) if self._happens(0.2) else self._pick(PATHS[:12] if self._happens(0.5) else PATHS)

    def comparable(self, path: tuple[str, ...]) -> Any:
        """A value that is worth asking for at a path."""
        fitting = _FITTING.get(path[0])
        if fitting and self._happens(0.9):
            return self._pick(fitting)
        return self._pick(SCALARS)

    def test(self, path: tuple[str, ...]) -> tuple[str, Any]:
        """An operator and its value."""
        op = self._pick(OPERATORS)
        if op in ("$in", "$nin"):
            kind = self._pick([NUMBERS, TEXTS, TEXTS, MOMENTS, BOOLS, [None]])
            return op, [self._pick(kind) for _ in range(self._chance.randrange(5))]
        if op in ("$like", "$ilike"):
            return op, "".join(self._pick(PIECES) for _ in range(self._chance.randrange(5)))
        if op == "$exists":
            return op, self._happens(0.5)
        value = self.comparable(path)
        if value is None and op in ("$gt", "$gte", "$lt", "$lte"):
            return "$eq", None
        return op, value

    def filters(self, depth: int = 2) -> dict[str, Any]:
        """A filter that is well formed; about half of them name a type."""
        drawn: dict[str, Any] = {}
        if self._happens(0.4):
            drawn["type"] = self._pick(TYPES)
        for _ in range(self._pick([0, 1, 1, 1, 2, 2, 3])):
            path = self.path()
            op, value = self.test(path)
            drawn[path_text(path)] = value if op == "$eq" and self._happens(0.7) else {op: value}
        if depth and self._happens(0.35):
            combined = self._pick(["$and", "$or", "$or", "$not"])
            parts = [self.filters(depth - 1) for _ in range(self._chance.randrange(1, 4))]
            drawn[combined] = parts[0] if combined == "$not" else parts
        return drawn

    def order(self) -> str:
        """An order of pages."""
        return f"{self._pick(['', '-'])}{self._pick(ORDERS)}"

    def size(self) -> int:
        """Records of a page or of a batch."""
        return self._chance.randrange(1, 8)

    # -- query text ----------------------------------------------------------------------------------------------

    def query(self) -> tuple[str, dict[str, Any]]:
        """A query text with its parameters; it means something on every storage."""
        params: dict[str, Any] = {}
        text = self._condition(params, 2) if self._happens(0.95) else ""
        if text and self._happens(0.3):
            text = f"WHERE {text}"
        if self._happens(0.4):
            order = self.order()
            sign = "-" if order.startswith("-") else ""
            text += f" ORDER BY {sign}{_quoted_path(order.removeprefix('-'))}"
        if self._happens(0.4):
            text += f" LIMIT {self._chance.randrange(8)}"
        return text.strip(), params

    def _condition(self, params: dict[str, Any], depth: int) -> str:
        if depth and self._happens(0.5):
            parts = [self._condition(params, depth - 1) for _ in range(2)]
            joined = self._pick(["({} AND {})", "({} OR {})", "NOT ({} OR {})", "{} AND NOT {}"])
            return str(joined).format(*parts)
        path = self.path()
        op, value = self.test(path)
        written = _written_path(path)
        match op:
            case "$in" | "$nin":
                items = ", ".join(self._value(params, item) for item in value)
                return f"{written} {'IN' if op == '$in' else 'NOT IN'} ({items})"
            case "$exists":
                return f"EXISTS({written})" if value else f"NOT EXISTS({written})"
            case "$contains":
                return f"CONTAINS({written}, {self._value(params, value)})"
            case "$ilike":
                return f"{written} LIKE {self._value(params, value)}"
        if value is None:
            return f"{written} IS {'NOT ' if op == '$ne' else ''}NULL"
        return f"{written} {_SIGNS[op]} {self._value(params, value)}"

    def _value(self, params: dict[str, Any], value: Any) -> str:
        if self._happens(0.5) and (literal := _literal(value)) is not None:
            return literal
        name = f"p{len(params)}"
        params[name] = value
        return f":{name}"


_SIGNS = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=", "$like": "LIKE"}


def _literal(value: Any) -> str | None:
    if type(value) is str:
        return "'" + value.replace("'", "''") + "'"
    if type(value) is int and abs(value) < 10**30:
        return str(value)
    if type(value) is bool:
        return str(value).upper()
    return "NULL" if value is None else None


def _written_path(path: tuple[str, ...]) -> str:
    return ".".join([path[0], *('"' + key.replace('"', '""') + '"' for key in path[1:])])


def _quoted_path(text: str) -> str:
    return {r"data.we\.ird": 'data."we.ird"'}.get(text, text)
