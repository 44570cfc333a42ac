"""The order of values and pages, and cursors."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, FloatOperation, localcontext
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support import REPOSITORY
from tests.unified_storage import filter_cases as cases
from tests.unified_storage.filter_cases import NOON, record
from unified_storage.errors import StorageValidationError
from unified_storage.filters import MISSING, parse_filters
from unified_storage.ordering import (
    KEY_LIMIT,
    Cursor,
    Order,
    after,
    cursor_of,
    index_key,
    order_key,
    ordered,
    parse_order,
    place,
    read_cursor,
    write_cursor,
)
from unified_storage.scalars import compared, equals
from unified_storage.times import micros, moment

STATUS = ("metadata", "status")
INDEXED = {STATUS, ("metadata", "we.ird")}
INFINITY = float("inf")
EVERYTHING = parse_filters(None)

numbers = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.builds(lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(-999, 999), st.integers(-99, 99)),
    st.sampled_from(cases.NUMBERS),
)
comparable = st.one_of(numbers, st.text(st.characters(exclude_categories=())), st.datetimes(timezones=st.timezones()))


def sign(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


# keys


@given(comparable, comparable)
def test_keys_stand_in_the_order_of_the_values(left: Any, right: Any) -> None:
    found = compared(left, right)
    assume(found is not None)
    assert sign(order_key(left), order_key(right)) == found


@given(numbers, numbers)
def test_keys_of_numbers_are_exact_whatever_the_decimal_context(left: Any, right: Any) -> None:
    with localcontext() as context:
        context.prec, context.traps[FloatOperation] = 1, True
        keys = order_key(left), order_key(right)
    assert sign(*keys) == compared(left, right)


def test_kinds_follow_each_other() -> None:
    rising: list[list[Any]] = [
        [None, MISSING],
        [False],
        [True],
        [-INFINITY, Decimal("-Infinity")],
        [-(10**4299)],
        [-1.5, Decimal("-1.50")],
        [Decimal("-1.0001")],
        [-1, -1.0],
        [Decimal("-1E-999999")],
        [0, 0.0, -0.0, Decimal("-0E+5")],
        [5e-324],
        [1, 1.0, Decimal("1.00")],
        [Decimal("1.0000000000000000000000000001")],
        [2**53, float(2**53)],
        [2**53 + 1],
        [10**4299],
        [Decimal("1E+999999999999999999")],
        [INFINITY],
        [float("nan"), Decimal("NaN"), Decimal("-sNaN")],
        [""],
        ["\x00"],
        ["A"],
        ["a"],
        ["a\x00"],
        ["\ud800"],
        ["\uffff"],
        ["\U0001f600"],
        [datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23)))],
        [NOON, NOON.astimezone(timezone(timedelta(hours=9)))],
        [NOON + timedelta(microseconds=1)],
        [datetime(9999, 12, 31, tzinfo=timezone(timedelta(hours=-23)))],
        [[], {}, (1,), b"a", NOON.date(), NOON.replace(tzinfo=None)],
    ]
    keys = [{order_key(value) for value in group} for group in rising]
    assert all(len(group) == 1 for group in keys)
    flat = [key for group in keys for key in group]
    assert flat == sorted(set(flat))


@given(st.one_of(comparable, cases.values), st.one_of(comparable, cases.values))
def test_an_exact_index_key_proves_equality_and_equal_values_share_their_key(left: Any, right: Any) -> None:
    (left_key, left_exact), (right_key, _) = index_key(left), index_key(right)
    if equals(left, right):
        assert left_key == right_key
    elif left_exact:
        assert left_key != right_key


def test_an_index_key_that_may_be_cut_is_not_exact() -> None:
    just_short, full = "x" * (KEY_LIMIT - 2), "x" * (KEY_LIMIT - 1)
    assert index_key(just_short) == (order_key(just_short), True)
    # A longer text is cut to the very same key.
    assert index_key(full) == (order_key(full), False)
    assert index_key(full + "y") == (order_key(full), False)


@pytest.mark.parametrize(
    "value", [None, MISSING, float("nan"), Decimal("sNaN"), [], {}, b"a", NOON.replace(tzinfo=None)]
)
def test_an_index_key_shared_by_different_values_is_not_exact(value: Any) -> None:
    assert not index_key(value)[1]


def test_every_float_fits_into_an_index_whole() -> None:
    for number in (5e-324, -2.225073858507201e-308, 1.7976931348623157e308):
        assert index_key(number)[1]


# times


@given(st.datetimes(timezones=st.just(UTC)))
def test_moments_are_exact_microseconds(when: datetime) -> None:
    assert moment(micros(when)) == when
    assert moment(micros(when)).tzinfo is UTC


def test_micros_count_from_1970_in_both_directions() -> None:
    assert micros(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
    assert micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    assert micros(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


def test_a_naive_time_and_an_instant_outside_the_calendar_are_refused() -> None:
    with pytest.raises(StorageValidationError):
        micros(datetime(2024, 1, 1))
    for since in (micros(datetime.max.replace(tzinfo=UTC)) + 1, micros(datetime.min.replace(tzinfo=UTC)) - 1, 10**40):
        with pytest.raises(StorageValidationError):
            moment(since)


# orders


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("id", Order(("id",), False)),
        ("-id", Order(("id",), True)),
        ("created_at", Order(("created_at",), False)),
        ("-updated_at", Order(("updated_at",), True)),
        ("metadata.status", Order(STATUS, False)),
        (r"-metadata.we\.ird", Order(("metadata", "we.ird"), True)),
    ],
)
def test_an_order_is_a_field_or_an_indexed_path(text: str, order: Order) -> None:
    assert parse_order(text, INDEXED) == order
    assert str(order) == text


@pytest.mark.parametrize(
    "text",
    ["", "-", "--id", "+id", "id desc", "type", "version", "expires_at", "metadata.other", "data", "id, type", None, 1],
)
def test_any_other_order_is_refused(text: Any) -> None:
    with pytest.raises(StorageValidationError):
        parse_order(text, INDEXED)


orders = st.sampled_from(
    [parse_order(sign + name, {("data", "a")}) for sign in ("", "-") for name in ("id", "updated_at", "data.a")]
)
groups = st.lists(cases.records, max_size=8, unique_by=lambda each: (each["id"], each["type"]))


def identity(stored: dict[str, Any]) -> tuple[str, str]:
    return stored["id"], stored["type"]


def test_ties_go_by_id_and_type_upwards_in_both_directions() -> None:
    names = [("a", "x"), ("a", "y"), ("b", "x")]
    same = [record(id=id, type=type) for id, type in reversed(names)]
    for text in ("updated_at", "-updated_at", "metadata.status", "-metadata.status"):
        assert [identity(each) for each in ordered(same, parse_order(text, INDEXED))] == names
    assert [identity(each) for each in ordered(same, parse_order("-id", ()))] == [("b", "x"), ("a", "x"), ("a", "y")]


def test_pages_by_a_path_order_missing_bool_number_text() -> None:
    values: list[Any] = ["b", 10, True, "B", None, 9.5, False, [1]]
    stored = [record(id=str(n), metadata={"status": value}) for n, value in enumerate(values)]
    rising = [each["metadata"]["status"] for each in ordered(stored, Order(STATUS))]
    assert rising == [None, False, True, 9.5, 10, "B", "b", [1]]
    falling = [each["metadata"]["status"] for each in ordered(stored, Order(STATUS, descending=True))]
    assert falling == rising[::-1]


def test_values_that_differ_behind_512_bytes_are_ties() -> None:
    stored = [
        record(id="1", metadata={"status": "x" * 600 + "b"}),
        record(id="2", metadata={"status": "x" * 600 + "a"}),
    ]
    assert [each["id"] for each in ordered(stored, Order(STATUS))] == ["1", "2"]
    assert place(Order(STATUS), stored[0]) == order_key("x" * 600)[:KEY_LIMIT]


@given(groups, orders)
def test_what_comes_after_a_cursor_is_the_rest_of_the_order(stored: list[dict[str, Any]], order: Order) -> None:
    walk = ordered(stored, order)
    for n, last in enumerate(walk):
        cursor = cursor_of(order, last)
        rest = [each for each in stored if after(order, cursor, each)]
        assert [identity(each) for each in ordered(rest, order)] == [identity(each) for each in walk[n + 1 :]]


# cursors


@given(cases.records, orders, cases.filters)
def test_a_cursor_is_read_back_whole(stored: dict[str, Any], order: Order, given_filter: dict[str, Any]) -> None:
    cursor, condition = cursor_of(order, stored), parse_filters(given_filter)
    text = write_cursor(cursor, order, condition)
    assert read_cursor(text, order, condition) == cursor
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


CURSOR = Cursor(5, "r\u20ac", "note")
BY_TIME = Order(("updated_at",), descending=True)


def test_a_cursor_fits_the_same_filters_written_otherwise() -> None:
    one = parse_filters({"data.n": 1, "type": {"$in": ["a", "b"]}, "updated_at": {"$gt": NOON}})
    moved = NOON.astimezone(timezone(timedelta(hours=3)))
    same = parse_filters({"updated_at": {"$gt": moved}, "type": {"$in": ["b", "a", "a"]}, "data.n": Decimal("1.0")})
    assert read_cursor(write_cursor(CURSOR, BY_TIME, one), BY_TIME, same) == CURSOR


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"data.n": 2},
        {"data.n": True},
        {"data.n": "1"},
        {"data.n": {"$ne": 1}},
        {"data.n": {"$in": [1]}},
        {"data.m": 1},
        {"data.n": 1, "id": "a"},
        {"$not": {"data.n": 1}},
        {"data.n": b"1"},
        {"data.n": NOON.date()},
    ],
)
def test_a_cursor_is_refused_with_other_filters(other: dict[str, Any]) -> None:
    text = write_cursor(CURSOR, BY_TIME, parse_filters({"data.n": 1}))
    with pytest.raises(StorageValidationError):
        read_cursor(text, BY_TIME, parse_filters(other))


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (NOON.date(), NOON.date() + timedelta(days=1)),
        (UUID(int=1), UUID(int=2)),
        (b"a", b"b"),
        ("a", "b"),
        (NOON, None),
    ],
)
def test_a_cursor_is_refused_with_another_value_of_any_type(value: Any, other: Any) -> None:
    text = write_cursor(CURSOR, BY_TIME, parse_filters({"data.x": value}))
    with pytest.raises(StorageValidationError):
        read_cursor(text, BY_TIME, parse_filters({"data.x": other}))


@pytest.mark.parametrize("order", ["updated_at", "-created_at", "-id", "-metadata.status"])
def test_a_cursor_is_refused_with_another_order(order: str) -> None:
    text = write_cursor(CURSOR, BY_TIME, EVERYTHING)
    with pytest.raises(StorageValidationError):
        read_cursor(text, parse_order(order, INDEXED), EVERYTHING)


def test_a_cursor_with_any_character_changed_or_lost_is_refused() -> None:
    text = write_cursor(CURSOR, BY_TIME, EVERYTHING)
    damaged = [text[:n] + ("A" if text[n] != "A" else "B") + text[n + 1 :] for n in range(len(text))]
    for broken in (*damaged, *(text[:n] for n in range(len(text))), text + "A", text + "=", " " + text, text + "\n"):
        with pytest.raises(StorageValidationError):
            read_cursor(broken, BY_TIME, EVERYTHING)


@given(st.one_of(st.text(), st.binary(), st.none(), st.integers()))
def test_anything_else_is_refused_as_a_cursor(text: Any) -> None:
    with pytest.raises(StorageValidationError):
        read_cursor(text, BY_TIME, EVERYTHING)


@pytest.mark.parametrize("key", ["text", b"bytes", True, 1 << 70])
def test_a_forged_place_of_another_type_is_refused(key: Any) -> None:
    text = write_cursor(Cursor(key, "r", "note"), BY_TIME, EVERYTHING)
    with pytest.raises(StorageValidationError):
        read_cursor(text, BY_TIME, EVERYTHING)


@pytest.mark.parametrize(
    ("order", "forged"),
    [
        ("-updated_at", Cursor(5, "r\ud800", "note")),
        ("-updated_at", Cursor(5, "r\0", "note")),
        ("-updated_at", Cursor(5, "r", "note\ud800")),
        ("-updated_at", Cursor(5, "r", "no\0te")),
        ("id", Cursor("r\ud800", "r", "note")),
        ("id", Cursor("r\0", "r", "note")),
    ],
)
def test_a_forged_place_that_no_record_can_have_is_refused(order: str, forged: Cursor) -> None:
    parsed = parse_order(order, INDEXED)
    text = write_cursor(forged, parsed, EVERYTHING)
    with pytest.raises(StorageValidationError, match="the cursor is damaged"):
        read_cursor(text, parsed, EVERYTHING)


def test_a_cursor_is_understood_by_another_process() -> None:
    program = (
        "from unified_storage.ordering import *; from unified_storage.filters import parse_filters\n"
        "print(write_cursor(Cursor(5, 'r\\u20ac', 'note'), Order(('updated_at',), True),"
        " parse_filters({'type': {'$in': {'a', 'b', 'c'}}, 'data.x': b'1'})))"
    )
    condition = parse_filters({"data.x": b"1", "type": {"$in": ["c", "b", "a"]}})
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert read_cursor(run.stdout.strip(), BY_TIME, condition) == CURSOR


def test_the_digest_of_deeply_nested_filters_stays_small_work() -> None:
    nested: dict[str, Any] = {"data.x": '"\\'}
    for _ in range(30):
        nested = {"$not": nested}
    condition = parse_filters(nested)
    assert read_cursor(write_cursor(CURSOR, BY_TIME, condition), BY_TIME, condition) == CURSOR
