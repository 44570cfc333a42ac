"""Which values a filter can compare, and how: the one meaning of equal and less on every backend."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from unified_storage.times import micros

_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    Decimal: "number",
    str: "text",
    datetime: "datetime",
    date: "date",
    UUID: "uuid",
    bytes: "bytes",
}


def kind_of(value: object) -> str | None:
    """The kind within which *value* compares: null, bool, number, text, datetime, date, uuid or bytes.

    None for what equals nothing, not even itself: containers, NaN and naive datetimes.
    """
    kind = _KINDS.get(type(value))
    if kind == "number" and is_nan(value):
        return None
    if isinstance(value, datetime) and value.utcoffset() is None:
        return None
    return kind


def is_nan(value: object) -> bool:
    """True for a float NaN and for a quiet or signalling Decimal NaN."""
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)


def equals(left: Any, right: Any) -> bool:
    """What ``$eq`` means: same kind and same value; 1 equals 1.0, True does not equal 1."""
    if type(left) is str and type(right) is str:
        return bool(left == right)
    return compared(left, right) == 0


def compared(left: Any, right: Any) -> int | None:
    """-1, 0 or 1 as *left* is less than, equal to or greater than *right*; None where they do not compare.

    Numbers compare exactly, never through a rounded float; texts by code point; datetimes as instants.
    """
    kind = kind_of(left)
    if kind is None or kind != kind_of(right):
        return None
    if kind == "null":
        return 0
    if kind == "datetime":
        # Two datetimes that share a zone object would compare by wall clock, blind to a repeated hour.
        left, right = micros(left), micros(right)
    elif kind == "number" and (type(left) is Decimal or type(right) is Decimal):
        left, right = exact_decimal(left), exact_decimal(right)
    return int(left > right) - int(left < right)


def exact_decimal(number: int | float | Decimal) -> Decimal:
    """*number* without loss, whatever traps the caller's decimal context has set."""
    if isinstance(number, float):
        return Decimal.from_float(number)  # noqa: FURB164  # the constructor asks the context whether it may
    return Decimal(number)
