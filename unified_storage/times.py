"""Moments as whole microseconds since 1970 in UTC, exact for every year from 1 to 9999."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from unified_storage.errors import StorageValidationError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * 1_000_000
_SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)


def micros(when: datetime) -> int:
    """Microseconds from 1970-01-01T00:00Z to the instant of *when*, negative before it.

    Raises:
        StorageValidationError: *when* is naive, so it names no instant.
    """
    if when.tzinfo is not UTC and when.utcoffset() is None:
        raise StorageValidationError("a datetime without an offset names no instant")
    # timedelta holds days, seconds and microseconds as integers: no float on the way.
    since = when - _EPOCH
    return since.days * _DAY + since.seconds * _SECOND + since.microseconds


@lru_cache(maxsize=4096)
def moment(since: int) -> datetime:
    """The UTC datetime *since* microseconds after 1970-01-01T00:00Z; the inverse of :func:`micros`.

    Raises:
        StorageValidationError: the instant lies outside the years 1 to 9999.
    """
    # Kept, as nobody can change it: the end of a log is read again and again, and every time costs a long division.
    try:
        return _EPOCH + since * _MICROSECOND
    except OverflowError as error:
        raise StorageValidationError(
            "the instant lies outside the years 1 to 9999", details={"micros": since}
        ) from error
