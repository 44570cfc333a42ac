"""The few plain values that a pickle writes as calls, read by hand from what they are called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

Arguments = tuple[Any, ...]

_DATETIME_BYTES, _DATE_BYTES = 10, 4
_MAX_DIGITS = 4300
_MOST_IN_A_KEY = 64
SCALARS = frozenset({type(None), bool, int, float, str, bytes, datetime, date, Decimal, UUID})
"""The types of plain values that hold no others."""


class BadValueError(ValueError):
    """Arguments that make no such value."""


def is_hashable(value: Any) -> bool:
    """Whether *value* can be a key or the member of a set: a plain one, or a tuple of some."""
    if type(value) is tuple:
        return len(value) <= _MOST_IN_A_KEY and all(type(one) in SCALARS for one in value)
    return type(value) in SCALARS


def made_of(name: tuple[str, str], arguments: Arguments) -> Any:
    """The value that *name*, a module and a name in it, makes of *arguments*; ``NotImplemented`` for one unknown here.

    Raises:
        BadValueError: it makes none of these.
    """
    reader = _READERS.get(name)
    if reader is None:
        return NotImplemented
    try:
        return reader(*arguments)
    except BadValueError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise BadValueError(f"no {name[1]}") from error


def uuid_of(state: Mapping[Any, Any]) -> UUID:
    """The UUID with that state; raises ``BadValueError`` for one that none has."""
    number = state.get("int")
    if state.keys() - {"int", "is_safe"} or type(number) is not int or not 0 <= number < 1 << 128:
        raise BadValueError("no UUID")
    return UUID(int=number)


def _datetime(packed: Any, zone: Any = None) -> datetime:
    at = _octets(packed, _DATETIME_BYTES)
    if zone is not None and type(zone) is not timezone:
        raise BadValueError("no datetime")
    year, month, fold = at[0] << 8 | at[1], at[2] & 0x7F, at[2] >> 7
    microsecond = at[7] << 16 | at[8] << 8 | at[9]
    return datetime(year, month, at[3], at[4], at[5], at[6], microsecond, tzinfo=zone, fold=fold)


def _date(packed: Any) -> date:
    at = _octets(packed, _DATE_BYTES)
    return date(at[0] << 8 | at[1], at[2], at[3])


def _octets(packed: Any, count: int) -> bytes:
    octets = packed.encode("latin-1") if type(packed) is str else packed
    if type(octets) is not bytes or len(octets) != count:
        raise BadValueError(f"not {count} bytes")
    return octets


def _timedelta(days: Any = 0, seconds: Any = 0, microseconds: Any = 0) -> timedelta:
    if {type(days), type(seconds), type(microseconds)} != {int}:
        raise BadValueError("no timedelta")
    return timedelta(days, seconds, microseconds)


def shown_duration(took: timedelta) -> str:
    """*took* as ISO 8601 text, as pydantic writes it into JSON."""
    sign, took = ("-", -took) if took < timedelta() else ("", took)
    hours, rest = divmod(took.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    exact = f"{seconds}.{took.microseconds:06d}".rstrip("0") if took.microseconds else str(seconds)
    clock = f"{f'{hours}H' if hours else ''}{f'{minutes}M' if minutes else ''}{f'{exact}S' if exact != '0' else ''}"
    whole = f"{took.days}D" if took.days else ""
    return f"{sign}P{whole}" + (f"T{clock}" if clock else "" if whole else "T0S")


def _timezone(offset: Any, _name: Any = None) -> timezone:
    if type(offset) is not timedelta:
        raise BadValueError("no timezone")
    return timezone(offset) if offset else UTC


def _decimal(text: Any) -> Decimal:
    if type(text) is not str or len(text) > _MAX_DIGITS:
        raise BadValueError("no Decimal")
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise BadValueError("no Decimal") from error


def _bytes(*arguments: Any) -> bytes:
    """``bytes()``, ``bytes(b"..")``, ``bytearray("..", "latin-1")``, as protocols below 5 spell them."""
    match arguments:
        case ():
            return b""
        case (bytes() as octets,):
            return octets
        case (str() as text, "latin1" | "latin-1"):
            return text.encode("latin-1")
    raise BadValueError("no bytes")


def _set(members: Any = ()) -> set[Any]:
    if type(members) not in (list, tuple) or not all(map(is_hashable, members)):
        raise BadValueError("no set")
    return set(members)


_READERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("decimal", "Decimal"): _decimal,
    ("_codecs", "encode"): _bytes,
    **{
        (builtins, name): reader
        for builtins in ("builtins", "__builtin__")
        for name, reader in (("bytes", _bytes), ("bytearray", _bytes), ("set", _set), ("frozenset", _set))
    },
}
