"""Times as documents spell them, read into moments and written in one fixed width.

A *zone* is a ``tzinfo``, the name of one, or None (``"local"``) for the zone of this machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

from unified_storage.errors import StorageValidationError

MISSING = "missing_timestamp"
BAD = "bad_timestamp"
EPOCH = "epoch_timestamp"
DATE_ONLY = "date_only"
NONEXISTENT = "nonexistent_local_time"
AMBIGUOUS = "ambiguous_local_time"
IMPLAUSIBLE = "implausible_timestamp"

Zone = tzinfo | str | None

_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_PLAUSIBLE_FROM = _EPOCH_START
_PLAUSIBLE_UNTIL = datetime(2100, 1, 1, tzinfo=UTC)
_MILLISECONDS_ABOVE = 10**11  # as seconds this is the year 5138, as milliseconds 1973
_EPOCH_LIMIT = 10**15  # milliseconds; beyond the year 9999 in either unit
_NUMERIC = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")
_ISO = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?P<clock>[Tt ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})([.,](?P<fraction>[0-9]+))?)?"
    r" ?(?P<offset>[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2})(:?(?P<minutes>[0-9]{2}))?)?)?"
)
_RENDERED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00")


@dataclass(frozen=True)
class Reading:
    """What a value says about a moment.

    Attributes:
        moment: aware and in UTC, with microseconds; None when it cannot be known.
        reason: what to report about it, also of a moment that is known; None when nothing is odd.
        naive: the value named no offset, so the zone decided.
    """

    moment: datetime | None
    reason: str | None = None
    naive: bool = False


def read_time(value: object, zone: Zone = None) -> Reading:
    """The moment *value* names, or why it names none; nothing in *value* raises.

    Text is ISO 8601 (a blank for the ``T``, digits beyond the sixth are cut) or a number. Numbers count seconds since
    1970 in UTC, above 1e11 milliseconds. A date alone is midnight in *zone*. A wall time that *zone* skips or shows
    twice, and what leaves the years 1-9999 in UTC, is unknown. A time outside 1970-2100 is kept, with a reason.

    Raises:
        StorageValidationError: *zone* is the name of no zone.
    """
    resolved = zone_named(zone) if isinstance(zone, str) else zone
    try:
        return _plausible(_reading(value, resolved))
    except (ArithmeticError, ValueError, OSError):  # no such day or hour, or outside what a datetime can hold
        return Reading(None, BAD)


def render(moment: datetime) -> str:
    """*moment* as ``2024-05-15T20:37:00.000000+00:00``: 32 characters for every year, so that text order is time order.

    Raises:
        StorageValidationError: *moment* is naive.
    """
    if moment.tzinfo is not UTC:
        if moment.utcoffset() is None:
            raise StorageValidationError("a time without an offset names no moment; give it one")
        moment = moment.astimezone(UTC)
    # without being asked for them it shows them too, where there are any, and takes a third less
    return moment.isoformat() if moment.microsecond else moment.isoformat(timespec="microseconds")


def parse_rendered(text: str) -> datetime:
    """The moment that :func:`render` wrote as *text*.

    Raises:
        StorageValidationError: *text* is not of that form.
    """
    if _RENDERED.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except ValueError as error:
            raise StorageValidationError("no such time", details={"text": text}) from error
    raise StorageValidationError("not a time as this library writes it", details={"text": text[:40]})


def zone_named(name: str) -> tzinfo | None:
    """The zone called *name*: an IANA name such as ``Europe/Berlin``, ``UTC``, or ``local`` (None, this machine's).

    Raises:
        StorageValidationError: there is no such zone.
    """
    if name.casefold() == "local":
        return None
    if name.casefold() == "utc":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = f"no time zone {name!r}; use an IANA name such as Europe/Berlin, UTC or local"
        raise StorageValidationError(message, details={"zone": name}) from error


def _reading(value: object, zone: tzinfo | None) -> Reading:
    match value:
        case bool():
            return Reading(None, BAD)
        case None | "":
            return Reading(None, MISSING)
        case str():
            return _from_text(value.strip(), zone)
        case datetime() if value.utcoffset() is not None:
            return Reading(value.astimezone(UTC))
        case datetime():
            return _from_wall(value.replace(tzinfo=zone))
        case date():
            return _midnight(value, zone)
        case int():
            return _from_epoch(Decimal(value))
        case float():
            return _from_epoch(Decimal(repr(value)))
        case Decimal():
            return _from_epoch(value)
    return Reading(None, BAD)


def _from_text(text: str, zone: tzinfo | None) -> Reading:
    if not text:
        return Reading(None, MISSING)
    if _NUMERIC.fullmatch(text):
        return _from_epoch(Decimal(text))
    found = _ISO.fullmatch(text)
    if found is None:
        return Reading(None, BAD)
    if found["clock"] is None:
        return _midnight(date(int(found["year"]), int(found["month"]), int(found["day"])), zone)
    if found["offset"] is None:
        return _from_wall(_datetime(found, zone))
    return Reading(_datetime(found, _offset(found)).astimezone(UTC))


def _datetime(found: re.Match[str], zone: tzinfo | None) -> datetime:
    year, month, day, hour, minute = (int(found[name]) for name in ("year", "month", "day", "hour", "minute"))
    microsecond = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    return datetime(year, month, day, hour, minute, int(found["second"] or 0), microsecond, tzinfo=zone)


def _offset(found: re.Match[str]) -> tzinfo:
    if found["sign"] is None:
        return UTC
    offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"] or 0))
    return timezone(-offset if found["sign"] == "-" else offset)


def _from_epoch(number: Decimal) -> Reading:
    if not number.is_finite() or abs(number) > _EPOCH_LIMIT:
        return Reading(None, BAD)
    per_unit = 1_000 if abs(number) > _MILLISECONDS_ABOVE else 1_000_000
    return Reading(_EPOCH_START + timedelta(microseconds=int(number * per_unit)), EPOCH)


def _midnight(day: date, zone: tzinfo | None) -> Reading:
    reading = _from_wall(datetime.combine(day, time(), tzinfo=zone))
    return reading if reading.reason else replace(reading, reason=DATE_ONLY)


def _from_wall(wall: datetime) -> Reading:
    # A wall time that exists comes back from UTC as it was; in an overlap it does so from two moments, in a gap from
    # none. A tzinfo of None makes astimezone use the machine's zone, in both directions.
    candidates = {wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
    shown = wall.replace(tzinfo=None)
    moments = [moment for moment in candidates if moment.astimezone(wall.tzinfo).replace(tzinfo=None) == shown]
    if len(moments) == 1:
        return Reading(moments[0], naive=True)
    return Reading(None, AMBIGUOUS if moments else NONEXISTENT, naive=True)


def _plausible(reading: Reading) -> Reading:
    if reading.moment is None or _PLAUSIBLE_FROM <= reading.moment < _PLAUSIBLE_UNTIL:
        return reading
    return replace(reading, reason=IMPLAUSIBLE)
