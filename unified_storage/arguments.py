"""What callers hand in besides records and entries, checked the same way on every backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from unified_storage.errors import StorageConflictError, StorageValidationError
from unified_storage.record import checked_id, checked_type

_LONGEST_WAIT = 10_000_000
_HIGHEST_COUNT = (1 << 63) - 1

Place = str | tuple[str, str]
"""Where a walk by ``(id, type)`` goes on: behind all types of an id, or behind one record."""


def check_version(expected: int | None, found: int, id: str) -> None:
    """Raise ``StorageConflictError`` unless *found* (0 = not there) is *expected*, or nothing is expected.

    What can be no version at all is a ``StorageValidationError``.
    """
    check_expected(expected)
    if expected is None or expected == found:
        return
    raise StorageConflictError(
        f"record {id!r} has version {found}, not {expected}",
        details={"id": id, "expected": expected, "found": found},
    )


def check_expected(expected: object) -> None:
    """Raise ``StorageValidationError`` unless *expected* can be a version."""
    check_count("expected_version", expected)


def check_count(name: str, value: object, *, least: int = 0) -> None:
    """Raise ``StorageValidationError`` unless *value* is None or a whole number of at least *least*."""
    if value is None or (type(value) is int and least <= value <= _HIGHEST_COUNT):
        return
    raise StorageValidationError(
        f"{name} must be a whole number of at least {least} and below 2**63", details={"path": name}
    )


def checked_seconds(name: str, value: object) -> float:
    """*value* when it is a number of seconds above 0 that a clock can count."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST_WAIT:
        return float(value)
    raise StorageValidationError(
        f"{name} must be a number of seconds above 0 and at most {_LONGEST_WAIT}", details={"path": name}
    )


def days_ago(now: datetime, days: int) -> datetime:
    """*days* before *now*, or the beginning of the calendar."""
    try:
        return now - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def checked_kind(type_name: str | None) -> str | None:
    """A type to look for, or None for any."""
    return None if type_name is None else checked_type(type_name)


def checked_place(after: Place | None) -> Place | None:
    """*after* when it is an id or an ``(id, type)``."""
    if after is None:
        return None
    if isinstance(after, str):
        return checked_id(after, "after")
    if not isinstance(after, tuple) or len(after) != 2:
        raise StorageValidationError("after is an id or (id, type)", details={"path": "after"})
    return (checked_id(after[0], "after"), checked_type(after[1], "after"))


def behind(after: Place | None) -> tuple[str, str]:
    """The checked ``(id, type)`` behind which a walk goes on; below every key for None."""
    place = checked_place(after)
    if place is None:
        return ("", "")
    return (place + "\0", "") if isinstance(place, str) else place  # no id has a control character
