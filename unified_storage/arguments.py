"""What callers hand in besides records and entries, checked the same way on every backend."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from unified_storage.errors import StorageConflictError, StorageValidationError
from unified_storage.record import check_list, checked_id, checked_type

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
    if value is not None:
        check_number(name, value, least=least)


def check_number(name: str, value: object, *, least: int = 0) -> None:
    """Raise ``StorageValidationError`` unless *value* is a whole number of at least *least*."""
    if type(value) is int and least <= value <= _HIGHEST_COUNT:
        return
    raise StorageValidationError(
        f"{name} must be a whole number of at least {least} and below 2**63", details={"path": name}
    )


def check_switch(name: str, value: object) -> None:
    """Raise ``StorageValidationError`` unless *value* is True or False."""
    if type(value) is not bool:
        raise StorageValidationError(
            f"{name} must be True or False, not {type(value).__name__}", details={"path": name}
        )


def check_walk(batch_size: object, with_data: object) -> None:
    """Raise ``StorageValidationError`` unless a ``stream_list`` can go so."""
    check_number("batch_size", batch_size, least=1)
    check_switch("with_data", with_data)


def check_page(limit: object, skip: object, with_data: object) -> None:
    """Raise ``StorageValidationError`` unless a ``page`` can be so."""
    check_number("limit", limit)
    check_number("skip", skip)
    check_switch("with_data", with_data)


def check_repetition(fn: object, attempts: object) -> None:
    """Raise ``StorageValidationError`` unless ``atomically`` can do *fn* so often."""
    if not callable(fn):
        raise StorageValidationError(f"fn must be a function, not {type(fn).__name__}", details={"path": "fn"})
    check_number("attempts", attempts, least=1)


def checked_seconds(name: str, value: object) -> float:
    """*value* when it is a number of seconds above 0 that a clock can count."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST_WAIT:
        return float(value)
    raise StorageValidationError(
        f"{name} must be a number of seconds above 0 and at most {_LONGEST_WAIT}", details={"path": name}
    )


def idle_filter(type_name: str, retention_days: int, now: datetime) -> dict[str, Any]:
    """The filter for records of a type that nobody has changed for *retention_days* before *now*."""
    check_number("retention_days", retention_days, least=1)
    return {"type": checked_type(type_name), "updated_at": {"$lt": _days_ago(now, retention_days)}}


def _days_ago(now: datetime, days: int) -> datetime:
    """*days* before *now*, or the beginning of the calendar."""
    try:
        return now - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def checked_ids(ids: Iterable[str]) -> list[str]:
    """Every id of a batch, once."""
    check_list(ids, "ids")
    return [*dict.fromkeys(checked_id(id) for id in ids)]


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
