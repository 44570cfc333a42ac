"""Times are read as people wrote them, never guessed, and always written alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter.timestamps import Reading, parse_rendered, read_time, render, zone_named
from unified_storage.errors import StorageValidationError
from unified_storage.testing.naming import named

NEW_YORK = "America/New_York"


def utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, microsecond: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-15T16:37:00", utc(2024, 5, 15, 20, 37)),
        ("2024-05-15 16:37:00", utc(2024, 5, 15, 20, 37)),
        ("2024-05-15T16:37", utc(2024, 5, 15, 20, 37)),
        ("2024-01-15T16:37:00.25", utc(2024, 1, 15, 21, 37, 0, 250_000)),
        (datetime(2024, 5, 15, 16, 37), utc(2024, 5, 15, 20, 37)),
    ],
)
def test_a_naive_time_is_read_in_the_zone(value: object, expected: datetime) -> None:
    assert read_time(value, NEW_YORK) == Reading(expected, None, naive=True)


def test_the_same_wall_time_in_two_zones_is_two_moments() -> None:
    """S2.50"""
    wall = "2024-05-15T16:37:00"
    assert read_time(wall, "Asia/Tokyo").moment == utc(2024, 5, 15, 7, 37)
    assert read_time(wall, zone_named("Europe/Berlin")).moment == utc(2024, 5, 15, 14, 37)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-15T20:00:00Z", utc(2024, 5, 15, 20)),
        ("2024-05-15t20:00:00z", utc(2024, 5, 15, 20)),
        (" 2024-05-15 20:00:00+00:00 ", utc(2024, 5, 15, 20)),
        ("2024-05-15T20:00:00-05:30", utc(2024, 5, 16, 1, 30)),
        ("2024-05-15T20:00:00.250000+0900", utc(2024, 5, 15, 11, 0, 0, 250_000)),
        ("2024-05-15T20:00:00.123456789Z", utc(2024, 5, 15, 20, 0, 0, 123_456)),
        ("2024-05-15T20:00:00.9999999Z", utc(2024, 5, 15, 20, 0, 0, 999_999)),
        (datetime(2024, 5, 15, 20, tzinfo=timezone(timedelta(hours=2))), utc(2024, 5, 15, 18)),
    ],
)
def test_an_offset_decides_whatever_the_zone(value: object, expected: datetime) -> None:
    assert read_time(value, NEW_YORK) == Reading(expected)
    assert read_time(value, "Asia/Tokyo") == Reading(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1715803200, utc(2024, 5, 15, 20)),
        (1715803200.5, utc(2024, 5, 15, 20, 0, 0, 500_000)),
        ("1715803200.5", utc(2024, 5, 15, 20, 0, 0, 500_000)),
        ("1715803200.123456789", utc(2024, 5, 15, 20, 0, 0, 123_456)),
        (1715808600250, utc(2024, 5, 15, 21, 30, 0, 250_000)),
        ("1715808600250", utc(2024, 5, 15, 21, 30, 0, 250_000)),
        (Decimal("1715803200.25"), utc(2024, 5, 15, 20, 0, 0, 250_000)),
        (0, utc(1970, 1, 1)),
        (100_000_000_001, utc(1973, 3, 3, 9, 46, 40, 1_000)),
        ("20240515", utc(1970, 8, 23, 6, 21, 55)),
    ],
)
def test_a_number_counts_from_1970_in_seconds_or_above_1e11_in_milliseconds(value: object, expected: datetime) -> None:
    assert read_time(value, NEW_YORK) == Reading(expected, "epoch_timestamp")


def test_a_date_alone_is_midnight_in_the_zone() -> None:
    assert read_time("2024-05-15", NEW_YORK) == Reading(utc(2024, 5, 15, 4), "date_only", naive=True)
    assert read_time(date(2024, 5, 15), NEW_YORK).moment == utc(2024, 5, 15, 4)
    assert read_time("2018-11-04", "America/Sao_Paulo").reason == "nonexistent_local_time"


@pytest.mark.parametrize(
    ("wall", "zone", "reason"),
    [
        ("2024-03-10T02:30:00", NEW_YORK, "nonexistent_local_time"),
        ("2024-03-10T02:00:00", NEW_YORK, "nonexistent_local_time"),
        ("2024-11-03T01:30:00", NEW_YORK, "ambiguous_local_time"),
        ("2024-11-03T01:00:00", NEW_YORK, "ambiguous_local_time"),
        ("2024-10-06T02:15:00", "Australia/Lord_Howe", "nonexistent_local_time"),
        ("2024-04-07T01:45:00", "Australia/Lord_Howe", "ambiguous_local_time"),
        ("2011-12-30T12:00:00", "Pacific/Apia", "nonexistent_local_time"),
    ],
)
def test_a_wall_time_that_never_was_or_was_twice_is_unknown(wall: str, zone: str, reason: str) -> None:
    assert read_time(wall, zone) == Reading(None, reason, naive=True)


@pytest.mark.parametrize(
    "wall", ["2024-03-10T01:59:59", "2024-03-10T03:00:00", "2024-11-03T00:59:59", "2024-11-03T02:00"]
)
def test_the_edges_of_a_clock_change_are_known(wall: str) -> None:
    assert read_time(wall, NEW_YORK).reason is None


@pytest.fixture
def local_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", NEW_YORK)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("local_zone")
def test_without_a_zone_the_machine_decides_and_its_clock_changes_count() -> None:
    for zone in (None, "local", "Local"):
        assert read_time("2024-05-15T16:37:00", zone).moment == utc(2024, 5, 15, 20, 37)
        assert read_time("2024-01-15T16:37:00", zone).moment == utc(2024, 1, 15, 21, 37)
        assert read_time("2024-03-10T02:30:00", zone).reason == "nonexistent_local_time"
        assert read_time("2024-11-03T01:30:00", zone).reason == "ambiguous_local_time"


@pytest.mark.parametrize("value", [None, "", "   "])
def test_nothing_is_a_missing_time(value: object) -> None:
    assert read_time(value, NEW_YORK) == Reading(None, "missing_timestamp")


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "soon",
        "2024-13-01T00:00:00",
        "2024-02-30",
        "2024-05-15T24:00:00",
        "2024-05-15T20:00:00+99:00",
        "2024-05-15T20:00:00Z trailing",
        "２０２４-05-15",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-05:00",
        "0001-01-01T00:00:00+05:00",
        "9" * 5_000,
        "nan",
        "1e99",
        True,
        False,
        float("nan"),
        float("inf"),
        -float("inf"),
        1e300,
        10**400,
        -(10**400),
        10**15,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("1e999999"),
        [],
        ["2024-05-15"],
        {"$date": 1},
        b"2024-05-15",
        object(),
    ],
    ids=named,
)
def test_garbage_is_an_unknown_time_with_a_reason_never_an_error(value: object) -> None:
    assert read_time(value, "UTC") == Reading(None, "bad_timestamp")


@pytest.mark.parametrize("zone", [NEW_YORK, "Asia/Tokyo", None])
@pytest.mark.parametrize("wall", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_wall_time_at_the_ends_of_the_calendar_is_kept_or_unknown(wall: str, zone: str | None) -> None:
    reading = read_time(wall, zone)
    assert reading.reason == ("bad_timestamp" if reading.moment is None else "implausible_timestamp")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9999-12-31T23:59:59Z", utc(9999, 12, 31, 23, 59, 59)),
        ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
        ("2100-01-01T00:00:00Z", utc(2100, 1, 1)),
        (99_999_999_999, utc(5138, 11, 16, 9, 46, 39)),
        (-1, utc(1969, 12, 31, 23, 59, 59)),
    ],
)
def test_an_implausible_time_is_kept_and_named(value: object, expected: datetime) -> None:
    assert read_time(value, NEW_YORK) == Reading(expected, "implausible_timestamp")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(ANYTHING | st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9])?)?Z?\Z"))
def test_a_reading_is_a_moment_in_utc_or_a_reason(value: Any) -> None:
    reading = read_time(value, NEW_YORK)
    assert (reading.moment is not None and reading.moment.tzinfo is UTC) or reading.reason is not None


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_rendered_is_read_back_and_sorts_as_text(moment: datetime) -> None:
    """T2.11"""
    text = render(moment)
    assert len(text) == 32
    assert parse_rendered(text) == read_time(text, NEW_YORK).moment == moment
    assert (text < render(utc(2024, 5, 15))) == (moment < utc(2024, 5, 15))


def test_rendering_is_fixed_in_width_and_in_utc() -> None:
    assert render(utc(2024, 5, 15, 20, 37)) == "2024-05-15T20:37:00.000000+00:00"
    assert render(utc(1, 1, 1)) == "0001-01-01T00:00:00.000000+00:00"
    two_hours_east = datetime(2024, 5, 15, 22, 37, tzinfo=timezone(timedelta(hours=2)))
    assert render(two_hours_east) == "2024-05-15T20:37:00.000000+00:00"
    with pytest.raises(StorageValidationError, match="offset"):
        render(datetime(2024, 5, 15))


@pytest.mark.parametrize("text", ["", "2024-05-15T20:37:00Z", "2024-13-15T20:37:00.000000+00:00", "x" * 32])
def test_only_what_was_rendered_is_parsed_back(text: str) -> None:
    with pytest.raises(StorageValidationError):
        parse_rendered(text)


def test_a_zone_has_a_name() -> None:
    assert zone_named("UTC") is UTC
    assert zone_named("local") is None
    assert str(zone_named("Europe/Berlin")) == "Europe/Berlin"


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "America", "a\0b", "é" * 300])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(StorageValidationError, match="no time zone"):
        zone_named(name)
    with pytest.raises(StorageValidationError):
        read_time("2024-05-15", name)
