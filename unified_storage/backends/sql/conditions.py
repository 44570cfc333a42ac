"""Filters as SQL: what is compiled may find too many rows, never too few.

Each part knows whether it is exact. What is not is compared again with the reference matcher before a row is
returned or counted; the negation of an inexact part says nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from unified_storage.backends.sql.store import Slot
from unified_storage.filters import And, Condition, Not, Or, Path, Test
from unified_storage.order_keys import index_key
from unified_storage.times import micros

_TEXTS = frozenset({"id", "type", "session_id", "thread_id"})
_TIMES = frozenset({"created_at", "updated_at", "expires_at"})
_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_BIGGEST = 2**63
_MOST_VALUES = 5_000
_MOST_PARTS = 500
"""More would be deeper than engines take an expression, or more values than one statement may have."""


class Clause(NamedTuple):
    """A condition in SQL with its values in order; never NULL where it is exact."""

    text: str
    values: tuple[Any, ...] = ()
    exact: bool = True
    column: str | None = None
    """The column of which it says that it equals the one value."""
    depth: int = 1
    """How deep the engine's tree of its expression is, at most."""


_TRUE = "1=1"
EVERYTHING = Clause(_TRUE)
NOTHING = Clause("1=0")
UNKNOWN = Clause(_TRUE, exact=False)
"""Nothing is known: every row has to be looked at."""


def all_of(clauses: Sequence[Clause]) -> Clause:
    """Every clause holds."""
    said = [clause for clause in clauses if clause.text != _TRUE]
    exact = all(clause.exact for clause in clauses)
    if not said:
        return EVERYTHING if exact else UNKNOWN
    return _joined(" AND ", said, exact)


def any_of(clauses: Sequence[Clause]) -> Clause:
    """At least one clause holds."""
    if any(clause.text == _TRUE for clause in clauses):
        return EVERYTHING if all(clause.exact for clause in clauses) else UNKNOWN
    if not clauses:
        return NOTHING
    return _joined(" OR ", clauses, all(clause.exact for clause in clauses))


def _joined(word: str, clauses: Sequence[Clause], exact: bool) -> Clause:
    depth = len(clauses) + max([clause.depth for clause in clauses])
    values = tuple([value for clause in clauses for value in clause.values])
    if depth > _MOST_PARTS or len(values) > _MOST_VALUES:
        return UNKNOWN
    return Clause(word.join([f"({clause.text})" for clause in clauses]), values, exact, depth=depth)


def opposite(clause: Clause) -> Clause:
    """The clause does not hold."""
    return Clause(f"NOT ({clause.text})", clause.values, depth=clause.depth + 1) if clause.exact else UNKNOWN


def compiled(condition: Condition, slots: Mapping[Path, Slot]) -> Clause:
    """*condition* as SQL over the records table, called ``r``; *slots* are those that may be searched."""
    match condition:
        case And(parts) if (said := equal_texts(parts, slots)) is not None:
            columns, values = said
            return Clause(all_equal(columns), values, depth=len(columns) + 1)
        case And(parts):
            return all_of([compiled(part, slots) for part in parts])
        case Or(parts):
            return any_of([compiled(part, slots) for part in parts])
        case Not(part):
            return opposite(compiled(part, slots))
        case Test():
            return _test(condition, slots)


def equal_texts(
    parts: Sequence[Condition], slots: Mapping[Path, Slot]
) -> tuple[tuple[str, ...], tuple[Any, ...]] | None:
    """The columns and their values of a filter that says of texts that they are equal, as most do; else None."""
    columns, values = [], []
    if len(parts) > _MOST_PARTS // 2:
        return None
    for part in parts:
        if not isinstance(part, Test) or part.op != "$eq" or type(part.value) is not str:
            return None
        column, value, exact = _equal_text(part, slots)
        if not exact:
            return None
        columns.append(column)
        values.append(value)
    return tuple(columns), tuple(values)


def _equal_text(test: Test, slots: Mapping[Path, Slot]) -> tuple[str, Any, bool]:
    """The column, its value, and whether their equality is exactly what *test* says."""
    name = test.path[0]
    if len(test.path) == 1:
        return f"r.{name}", test.value, name in _TEXTS and is_text(test.value)
    slot = slots.get(test.path)
    return ("", None, False) if slot is None else (f"r.k{slot.number}", *index_key(test.value))


@lru_cache(maxsize=256)
def all_equal(columns: Sequence[str]) -> str:
    """That each of several columns equals its value."""
    return all_of([_equals(column, None) for column in columns]).text


def _test(test: Test, slots: Mapping[Path, Slot]) -> Clause:
    if test.op == "$ne":
        return opposite(_test(Test(test.path, "$eq", test.value), slots))
    if test.op == "$nin":
        return opposite(_test(Test(test.path, "$in", test.value), slots))
    if test.op == "$in":
        return _among(test, slots)
    if len(test.path) == 1 and test.path[0] not in ("data", "metadata"):
        return _on_column(test, test.path[0])  # also where it was indexed as a path: an append moves it alone
    slot = slots.get(test.path)
    return UNKNOWN if slot is None else _on_slot(test, f"r.k{slot.number}")


def _among(test: Test, slots: Mapping[Path, Slot]) -> Clause:
    """``$in`` as one list, which an index can serve; element by element where it is not that simple."""
    if len(test.value) > _MOST_VALUES:
        return UNKNOWN
    each = [_test(Test(test.path, "$eq", value), slots) for value in test.value]
    column = each[0].column if each else None
    if column is None or any(clause.column != column for clause in each):
        return any_of(each)
    places = ", ".join("?" * len(each))
    values = tuple(clause.values[0] for clause in each)
    exact = all(clause.exact for clause in each)
    return Clause(f"{column} IS NOT NULL AND {column} IN ({places})", values, exact)


def _equals(column: str, value: Any, exact: bool = True) -> Clause:
    # Also false, not NULL, where the column is NULL; and an index of what is not NULL may serve it.
    return Clause(f"{column} IS NOT NULL AND {column} = ?", (value,), exact, column)


def _on_slot(test: Test, slot: str) -> Clause:
    key, exact = index_key(test.value) if test.op in ("$eq", *_SIGNS) else (None, False)
    if key is None:
        # Null stands in a slot as nothing, like a missing value; other operators say nothing about keys.
        return Clause(f"{slot} IS NULL", exact=False) if test.op == "$eq" else UNKNOWN
    if test.op == "$eq":
        return _equals(slot, key, exact)
    kind = key[:1]
    if test.op in ("$gt", "$gte"):
        return Clause(f"{slot} >= ? AND {slot} < ?", (key, bytes([kind[0] + 1])), exact=False)
    # A longer value that was cut has the same key as *key*, or a smaller one.
    return Clause(f"{slot} >= ? AND {slot} <= ?", (kind, key), exact=False)


def _on_column(test: Test, name: str) -> Clause:
    column = f"r.{name}"
    if test.op == "$exists":
        return EVERYTHING if test.value else NOTHING
    if test.op == "$eq" and test.value is None:
        return Clause(f"{column} IS NULL")
    if test.op != "$eq" and test.op not in _SIGNS:
        return UNKNOWN
    if name in _TEXTS:
        return _compared(column, test.op, test.value) if is_text(test.value) else _odd_text(test)
    if name in _TIMES:
        return _compared(column, test.op, micros(test.value)) if isinstance(test.value, datetime) else NOTHING
    if type(test.value) is int and abs(test.value) < _BIGGEST:
        return _compared(column, test.op, test.value)
    return UNKNOWN


def _odd_text(test: Test) -> Clause:
    """A value that no text column holds: never equal; a text with NUL or lone surrogates may be greater or smaller."""
    return UNKNOWN if isinstance(test.value, str) and test.op in _SIGNS else NOTHING


def is_text(value: object) -> bool:
    """Whether every engine can be asked for *value* in a text column."""
    if not isinstance(value, str) or "\0" in value:  # PostgreSQL takes no NUL
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _compared(column: str, op: str, value: Any) -> Clause:
    if op == "$eq":
        return _equals(column, value)
    return Clause(f"{column} IS NOT NULL AND {column} {_SIGNS[op]} ?", (value,))
