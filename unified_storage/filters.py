"""Filters: parsed and checked once, with one meaning on every backend; :func:`matches` is the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from unified_storage.errors import StorageValidationError
from unified_storage.likes import check_pattern, is_like
from unified_storage.paths import COLUMNS, MISSING, Missing, Path, parse_path, path_text, value_at
from unified_storage.scalars import compared, equals, is_nan, kind_of

__all__ = [
    "COLUMNS",
    "MISSING",
    "And",
    "Condition",
    "Missing",
    "Not",
    "Or",
    "Path",
    "Test",
    "conjuncts",
    "equalities",
    "matches",
    "named_types",
    "parse_filters",
    "parse_path",
    "path_text",
    "sole_type",
    "tested",
    "value_at",
    "visible",
]

MAX_NESTING = 32
"""How deep ``$and``, ``$or`` and ``$not`` may stand in each other."""

_INTEGER_LIMIT = 10**4300
_TYPE: Path = ("type",)


@dataclass(frozen=True, slots=True)
class Test:
    """The value at *path* passes operator *op* (``"$eq"`` ...) with *value*; ``$in`` and ``$nin`` hold a tuple."""

    __test__ = False  # pytest would take the name for a class of tests

    path: Path
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class And:
    """All *parts* hold; without parts always true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of *parts* holds; without parts always false."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """*part* does not hold."""

    part: Condition


Condition: TypeAlias = Test | And | Or | Not


def parse_filters(filters: Mapping[str, Any] | Condition | None) -> Condition:
    """The condition that *filters* writes; None and ``{}`` match everything, a condition stands for itself.

    Keys are paths (:func:`parse_path`), values scalars (equality) or mappings of operators that must all hold.
    ``$and`` and ``$or`` take a non-empty list of filters, ``$not`` one filter. Scalars are None, bool, int, float,
    Decimal, str, bytes, UUID, date and aware datetime: the very types, no subclasses. NaN is refused, since nothing
    equals it; so is a pattern that ends with a lone backslash.

    Raises:
        StorageValidationError: anything else; ``details["path"]`` names the place.
    """
    if isinstance(filters, Test | And | Or | Not):
        return filters
    return And(()) if filters is None else _parsed(filters, 0)


def _parsed(filters: object, depth: int) -> Condition:
    if not isinstance(filters, Mapping):
        raise StorageValidationError(f"a filter is a mapping, not {type(filters).__name__}")
    if depth > MAX_NESTING:
        raise StorageValidationError(f"a filter nests at most {MAX_NESTING} deep")
    return joined(And, [part for key, value in filters.items() for part in _entry(key, value, depth)])


def joined(kind: type[And] | type[Or], parts: list[Condition]) -> Condition:
    """*parts* under one ``And`` or ``Or``; a single part stands for itself."""
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _entry(key: object, value: object, depth: int) -> list[Condition]:
    if isinstance(key, str) and key.startswith("$"):
        return [_combined(key, value, depth + 1)]
    path = parse_path(key)  # type: ignore[arg-type]  # refuses what is no text
    if type(value) is str:  # most of what filters say
        return [Test(path, "$eq", value)]
    if not isinstance(value, Mapping):
        return [tested(path, "$eq", value)]
    if not value:
        raise _refused(path, "an operator mapping must not be empty")
    return [tested(path, op, operand) for op, operand in value.items()]


def _combined(key: str, value: object, depth: int) -> Condition:
    if key == "$not":
        return Not(_parsed(value, depth))
    if key not in ("$and", "$or"):
        raise StorageValidationError(f"unknown operator {key!r}", details={"path": key})
    if not isinstance(value, list | tuple) or not value:
        raise StorageValidationError(f"{key} takes a list of at least one filter", details={"path": key})
    return joined(And if key == "$and" else Or, [_parsed(part, depth) for part in value])


def tested(path: Path, op: str, value: object) -> Test:
    """One checked test: operator *op* with *value* on *path*.

    Raises:
        StorageValidationError: unknown operator, or a value it does not take.
    """
    if not isinstance(op, str) or op not in _OPERATORS:
        raise _refused(path, f"unknown operator {op!r}")
    if op in ("$in", "$nin"):
        return Test(path, op, _choices(path, op, value))
    if op == "$exists":
        if not isinstance(value, bool):
            raise _refused(path, f"$exists takes true or false, not {type(value).__name__}")
    elif op in ("$like", "$ilike"):
        _check_pattern(path, op, value)
    else:
        _check_scalar(path, op, value)
        if value is None and op in _ORDERINGS:
            raise _refused(path, f"{op} does not order null")
    return Test(path, op, value)


def _choices(path: Path, op: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise _refused(path, f"{op} takes a list, not {type(value).__name__}")
    for choice in value:
        _check_scalar(path, op, choice)
    kinds = {str(kind_of(choice)) for choice in value}
    if len(kinds) > 1:
        raise _refused(path, f"{op} takes values of one type, not {' and '.join(sorted(kinds))}")
    return tuple(value)


def _check_pattern(path: Path, op: str, value: object) -> None:
    if type(value) is not str:
        raise _refused(path, f"{op} takes a text, not {type(value).__name__}")
    try:
        check_pattern(value)
    except StorageValidationError as error:
        raise _refused(path, error.message) from error


def _check_scalar(path: Path, op: str, value: object) -> None:
    if is_nan(value):
        raise _refused(path, f"nothing equals NaN, so {op} does not take it")
    if type(value) is int and abs(value) >= _INTEGER_LIMIT:
        raise _refused(path, "an integer has at most 4300 digits")
    if kind_of(value) is None:
        what = "a datetime without an offset" if hasattr(value, "utcoffset") else type(value).__name__
        raise _refused(path, f"{op} does not take {what}")


def _refused(path: Path, reason: str) -> StorageValidationError:
    written = path_text(path)
    return StorageValidationError(f"filter on {written!r}: {reason}", details={"path": written})


def matches(condition: Condition, record: Mapping[str, Any]) -> bool:
    """Whether *record* passes *condition*.

    Args:
        record: all fields of a record, times aware, ``data`` and ``metadata`` decoded.
    """
    match condition:
        case Test(path, op, value):
            return _OPERATORS[op](value_at(record, path), value)
        case And(parts):
            return all(matches(part, record) for part in parts)
        case Or(parts):
            return any(matches(part, record) for part in parts)
        case Not(part):
            return not matches(part, record)


def _is_among(stored: object, choices: tuple[Any, ...]) -> bool:
    return any(equals(stored, choice) for choice in choices)


def _contains(stored: object, wanted: object) -> bool:
    if isinstance(stored, str):
        return isinstance(wanted, str) and wanted in stored
    return isinstance(stored, list | tuple | set) and any(equals(element, wanted) for element in stored)


def _is_like(stored: object, pattern: str) -> bool:
    return isinstance(stored, str) and is_like(stored, pattern, fold=False)


def _is_ilike(stored: object, pattern: str) -> bool:
    return isinstance(stored, str) and is_like(stored, pattern, fold=True)


_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda stored, wanted: compared(stored, wanted) == 1,
    "$gte": lambda stored, wanted: compared(stored, wanted) in (0, 1),
    "$lt": lambda stored, wanted: compared(stored, wanted) == -1,
    "$lte": lambda stored, wanted: compared(stored, wanted) in (0, -1),
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": equals,
    "$ne": lambda stored, wanted: not equals(stored, wanted),
    "$in": _is_among,
    "$nin": lambda stored, choices: not _is_among(stored, choices),
    **_ORDERINGS,
    "$like": _is_like,
    "$ilike": _is_ilike,
    "$exists": lambda stored, wanted: (stored is not MISSING) == wanted,
    "$contains": _contains,
}


def named_types(condition: Condition) -> frozenset[str]:
    """The types that *condition* names by ``$eq`` or ``$in`` anywhere; system types are seen only when named."""
    match condition:
        case Test(path, "$eq", str(name)) if path == _TYPE:
            return frozenset({name})
        case Test(path, "$in", names) if path == _TYPE:
            return frozenset(name for name in names if isinstance(name, str))
        case And(parts) | Or(parts):
            return frozenset().union(*map(named_types, parts))
        case Not(part):
            return named_types(part)
    return frozenset()


def visible(condition: Condition, record_type: str) -> bool:
    """Whether a listing by *condition* may show records of *record_type*: a system type (``_...``) must be named."""
    return not record_type.startswith("_") or record_type in named_types(condition)


def sole_type(condition: Condition) -> str | None:
    """The one type that can match at all, where the condition pins it by equality at its top; else None."""
    for part in conjuncts(condition):
        if isinstance(part, Test) and part.path == _TYPE:
            name = part.value[0] if part.op == "$in" and len(part.value) == 1 else part.value
            if part.op in ("$eq", "$in") and isinstance(name, str):
                return name
    return None


def equalities(condition: Condition) -> dict[Path, Any]:
    """Path and value of every ``$eq`` that must hold for the whole to hold; the first where a path has two."""
    found: dict[Path, Any] = {}
    for part in conjuncts(condition):
        if isinstance(part, Test) and part.op == "$eq":
            found.setdefault(part.path, part.value)
    return found


def conjuncts(condition: Condition) -> list[Condition]:
    """The parts that must all hold."""
    if not isinstance(condition, And):
        return [condition]
    if And not in map(type, condition.parts):
        return [*condition.parts]
    return [inner for part in condition.parts for inner in (conjuncts(part) if isinstance(part, And) else (part,))]
