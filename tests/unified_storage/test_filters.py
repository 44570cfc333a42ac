"""Filters: what each operator means, what is refused, and that the meaning holds together."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, FloatOperation, localcontext
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unified_storage import filter_cases as cases
from tests.unified_storage.filter_cases import BIG, NOON, record
from unified_storage import filters
from unified_storage.errors import StorageValidationError
from unified_storage.filters import And, Not, Or, matches, parse_filters, parse_path, path_text
from unified_storage.scalars import compared

NAN = float("nan")
GONE = object()


def holds(test: Any, stored: Any) -> bool:
    """Whether ``{"data.x": test}`` matches a document that holds *stored* at x, or nothing there when it is GONE."""
    return matches(parse_filters({"data.x": test}), record({} if stored is GONE else {"x": stored}))


def refused(given: Any) -> StorageValidationError:
    with pytest.raises(StorageValidationError) as caught:
        parse_filters(given)
    return caught.value


# paths


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("id", ("id",)),
        ("data", ("data",)),
        ("data.metadata.status", ("data", "metadata", "status")),
        (r"data.we\.ird", ("data", "we.ird")),
        (r"data.back\\slash", ("data", "back\\slash")),
        (r"data.a\\.b", ("data", "a\\", "b")),
        ("data.", ("data", "")),
        ("data..a", ("data", "", "a")),
        ("metadata.\x00", ("metadata", "\x00")),
        ("data.id", ("data", "id")),
    ],
)
def test_a_path_is_keys_joined_by_dots_and_is_written_back_the_same(text: str, path: tuple[str, ...]) -> None:
    assert parse_path(text) == path
    assert path_text(path) == text


@given(st.lists(st.text(), max_size=5))
def test_every_key_of_a_document_can_be_named_in_a_path(keys: list[str]) -> None:
    path = ("data", *keys)
    assert parse_path(path_text(path)) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "status",
        "ID",
        " id",
        "id.x",
        "type.",
        "data\\",
        "data.a\\",
        r"data.\a",
        "$where",
        "data.x" * 300,
        "data[0]",
    ],
)
def test_a_path_that_no_record_has_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(StorageValidationError) as caught:
        parse_path(text)
    assert caught.value.path == text


def test_a_path_deeper_than_any_document_is_refused() -> None:
    assert len(parse_path("data" + ".x" * 256)) == 257
    with pytest.raises(StorageValidationError, match="deeper"):
        parse_path("data" + ".x" * 257)


@pytest.mark.parametrize(
    "name",
    [
        "id; DROP TABLE records",
        "id' OR '1'='1",
        'id" --',
        "1=1",
        "data->>'x'",
        "json_extract(data)",
        "data) OR (1=1",
        "*",
    ],
)
def test_t2_16_injection_in_a_field_name_is_refused(name: str) -> None:
    assert refused({name: 1}).path == name


def test_s2_24_odd_characters_behind_a_field_are_a_key_and_nothing_else() -> None:
    key = "x') OR 1=1 --"
    condition = parse_filters({f"data.{key}": 1})
    assert matches(condition, record({key: 1}))
    assert not matches(condition, record({"x": 1}))


def test_steps_of_a_path_are_keys_never_places_in_a_list() -> None:
    assert not matches(parse_filters({"data.x.0": {"$exists": True}}), record({"x": ["a"]}))
    assert matches(parse_filters({"data.x.0": "a"}), record({"x": {"0": "a"}}))


# equality


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (None, None),
        (True, True),
        (1, 1.0),
        (1.0, Decimal("1.00")),
        (0.0, -0.0),
        (BIG, float(BIG)),
        (0.5, Decimal("0.5")),
        (10**400, Decimal("1E+400")),
        (float("inf"), Decimal("Infinity")),
        ("a", "a"),
        ("\ud800", "\ud800"),
        (NOON, NOON.astimezone(timezone(timedelta(hours=-7)))),
        (date(2024, 5, 15), date(2024, 5, 15)),
        (UUID(int=1), UUID(int=1)),
        (b"a", b"a"),
    ],
)
def test_equal_values_of_one_kind_are_equal(stored: Any, wanted: Any) -> None:
    assert holds(wanted, stored)
    assert holds({"$eq": wanted}, stored)
    assert holds({"$in": [wanted]}, stored)
    assert not holds({"$ne": wanted}, stored)
    assert not holds({"$nin": [wanted]}, stored)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (GONE, None),
        (False, None),
        (True, 1),
        (0, False),
        (BIG + 1, float(BIG)),
        (0.1, Decimal("0.1")),
        (2**63 + 1, 2**63),
        ("1", 1),
        ("a", "A"),
        ("a", "a "),
        ("é", "e\u0301"),
        ("", None),
        (NOON.isoformat(), NOON),
        (NOON.replace(tzinfo=None), NOON),
        (date(2024, 5, 15), datetime(2024, 5, 15, tzinfo=UTC)),
        (str(UUID(int=1)), UUID(int=1)),
        ("a", b"a"),
        ([1], 1),
        ({"x": 1}, 1),
        (NAN, 1),
        (Decimal("sNaN"), 1),
    ],
)
def test_values_of_another_kind_or_value_are_not_equal(stored: Any, wanted: Any) -> None:
    assert not holds(wanted, stored)
    assert not holds({"$in": [wanted]}, stored)
    assert holds({"$ne": wanted}, stored)
    assert holds({"$nin": [wanted]}, stored)


def test_a_moment_in_a_repeated_hour_is_its_instant_not_its_wall_clock() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=fold) for fold in (0, 1))
    assert not holds(second, first)
    assert holds({"$lt": second}, first)


def test_in_nothing_matches_nothing_and_not_in_nothing_everything() -> None:
    for stored in (GONE, None, 1, NAN):
        assert not holds({"$in": []}, stored)
        assert holds({"$nin": []}, stored)


def test_a_column_that_is_not_set_is_null_and_exists() -> None:
    bare = record()
    for name in ("session_id", "thread_id", "expires_at", "metadata"):
        assert matches(parse_filters({name: None}), bare)
        assert matches(parse_filters({name: {"$exists": True}}), bare)
    assert not matches(parse_filters({"metadata.status": None}), bare)


def test_columns_compare_like_any_value() -> None:
    late = record(version=3, updated_at=NOON + timedelta(seconds=1))
    assert matches(parse_filters({"version": {"$gte": 3.0}, "updated_at": {"$gt": NOON}, "created_at": NOON}), late)
    assert not matches(parse_filters({"updated_at": {"$gt": NOON.isoformat()}}), late)


# order


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (False, True),
        (1, 1.5),
        (float(BIG), BIG + 1),
        (2**63, 2**63 + 1),
        (Decimal("0.1"), 0.1),
        (1e308, 10**309),
        (-(10**400), float("-1e308")),
        (1, float("inf")),
        (Decimal("1E-400"), 5e-324),
        ("A", "a"),
        ("a", "a\x00"),
        ("\uffff", "\U0001f600"),
        ("\ud800", "\ue000"),
        ("10", "9"),
        (NOON, NOON + timedelta(microseconds=1)),
        (date(2024, 5, 15), date(2024, 5, 16)),
        (b"a", b"b"),
    ],
)
def test_ordering_operators_order_exactly_within_a_kind(low: Any, high: Any) -> None:
    assert holds({"$lt": high}, low)
    assert holds({"$lte": high}, low)
    assert holds({"$gt": low}, high)
    assert holds({"$gte": low}, high)
    assert holds({"$gte": low, "$lte": low}, low)
    for op, wanted, stored in (("$lt", low, high), ("$lte", low, high), ("$gt", high, low), ("$lt", low, low)):
        assert not holds({op: wanted}, stored)


@pytest.mark.parametrize(
    "stored", [GONE, None, True, NAN, "5", [5], {"a": 5}, NOON, b"5", Decimal("NaN"), Decimal("sNaN")]
)
@pytest.mark.parametrize("op", ["$lt", "$lte", "$gt", "$gte"])
def test_ordering_against_another_kind_is_no_match(op: str, stored: Any) -> None:
    assert not holds({op: 5}, stored)


@given(st.sampled_from(cases.NUMBERS), st.sampled_from(cases.NUMBERS))
def test_numbers_compare_as_fractions_do(left: Any, right: Any) -> None:
    with localcontext() as context:
        context.prec, context.traps[FloatOperation] = 3, True
        found = compared(left, right)
    assert found == _sign(left, right)


def _sign(left: Any, right: Any) -> int:
    infinity = float("inf")
    if infinity in (abs(left), abs(right)):
        # An infinity stands beyond every other number, whatever the type of either.
        left, right = ({infinity: 1, -infinity: -1}.get(number, 0) for number in (left, right))
    low, high = Fraction(left), Fraction(right)
    return int(low > high) - int(low < high)


# $exists, $contains


def test_exists_is_about_the_key_and_null_is_a_value() -> None:
    everything: tuple[Any, ...] = (None, 0, "", [], NAN)
    for stored in everything:
        assert holds({"$exists": True}, stored)
        assert not holds({"$exists": False}, stored)
    assert holds({"$exists": False}, GONE)
    assert not holds({"$exists": True}, GONE)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (["a", 1.0], 1),
        (("x",), "x"),
        ({"x", "y"}, "y"),
        ([None], None),
        ([NOON], NOON),
        ("abc", "bc"),
        ("abc", ""),
        ("a%c", "%"),
        ([Decimal("sNaN"), 2], 2),
    ],
)
def test_contains_is_an_element_or_a_substring(stored: Any, wanted: Any) -> None:
    assert holds({"$contains": wanted}, stored)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (["abc"], "bc"),
        ([True], 1),
        ([["a"]], "a"),
        ({"a": 1}, "a"),
        ("abc", "BC"),
        ("123", 2),
        (b"abc", b"b"),
        (GONE, "a"),
        (None, None),
        ("a", "%"),
    ],
)
def test_contains_is_nothing_else(stored: Any, wanted: Any) -> None:
    assert not holds({"$contains": wanted}, stored)


# combinations


def test_none_and_empty_filters_match_everything() -> None:
    assert matches(parse_filters(None), record())
    assert matches(parse_filters({}), record())
    assert not matches(parse_filters({"$not": {}}), record())


def test_everything_in_one_mapping_must_hold() -> None:
    condition = parse_filters({"data.x": {"$gt": 1, "$lt": 3}, "type": "note"})
    assert matches(condition, record({"x": 2}))
    assert not matches(condition, record({"x": 3}))
    assert not matches(condition, record({"x": 2}, type="other"))


def test_and_or_and_not_combine_filters() -> None:
    either = parse_filters({"$or": [{"data.x": 1}, {"data.y": 1}], "$not": {"data.z": 1}})
    assert matches(either, record({"y": 1}))
    assert not matches(either, record({"y": 1, "z": 1}))
    assert not matches(either, record({}))
    assert matches(parse_filters({"$and": [{"data.x": {"$ne": 1}}, {"data.x": {"$ne": 2}}]}), record({"x": 3}))


def test_a_parsed_condition_keeps_nothing_of_the_callers_filter() -> None:
    mine = {"data.x": {"$in": [1]}}
    condition = parse_filters(mine)
    mine["data.x"]["$in"].append(2)
    assert not matches(condition, record({"x": 2}))


@given(cases.records, cases.filters)
def test_not_is_the_exact_complement(stored: dict[str, Any], given_filter: dict[str, Any]) -> None:
    assert matches(parse_filters({"$not": given_filter}), stored) != matches(parse_filters(given_filter), stored)


@given(cases.records, cases.paths, cases.scalars, cases.of_one_kind)
def test_ne_and_nin_are_the_exact_complements_of_eq_and_in(
    stored: dict[str, Any], path: str, wanted: Any, choices: list[Any]
) -> None:
    def found(op: str, value: Any) -> bool:
        return matches(parse_filters({path: {op: value}}), stored)

    assert found("$ne", wanted) != found("$eq", wanted)
    assert found("$nin", choices) != found("$in", choices)
    assert found("$in", choices) == any(found("$eq", choice) for choice in choices)


@given(cases.records, cases.filters, cases.filters)
def test_or_is_what_de_morgan_says(stored: dict[str, Any], one: dict[str, Any], other: dict[str, Any]) -> None:
    either = parse_filters({"$or": [one, other]})
    neither = parse_filters({"$and": [{"$not": one}, {"$not": other}]})
    assert matches(either, stored) != matches(neither, stored)


# what is refused


@pytest.mark.parametrize(
    "value",
    [
        *({}, [], ["a"], ("a",), {"a"}, {"status": "x"}, {"$unknown": 1}, {"$not": {"$eq": 1}}, {"$eq": 1, "x": 2}),
        *(
            {"$eq": [1]},
            {"$eq": {}},
            {"$eq": object()},
            {1: 2},
            NAN,
            Decimal("sNaN"),
            {"$eq": 10**4300},
            datetime(2024, 1, 1),
        ),
        *({"$in": "abc"}, {"$in": 1}, {"$in": {"a": 1}}, {"$in": [1, "a"]}, {"$in": [1, True]}, {"$nin": [None, "a"]}),
        *({"$in": [[1]]}, {"$in": [NAN]}, {"$nin": [NOON, NOON.isoformat()]}, {"$in": [datetime(2024, 1, 1)]}),
        *(
            {"$gt": None},
            {"$lt": [1]},
            {"$gte": datetime(2024, 1, 1)},
            {"$lte": NAN},
            {"$exists": 1},
            {"$exists": None},
        ),
        *(
            {"$like": 1},
            {"$like": None},
            {"$ilike": b"a"},
            {"$like": "a\\"},
            {"$ilike": "\\\\\\"},
            {"$contains": ["a"]},
        ),
    ],
)
def test_a_wrong_test_is_refused_and_names_the_path(value: Any) -> None:
    assert refused({r"data.a\.b.c": value}).path == r"data.a\.b.c"


@pytest.mark.parametrize(
    "given_filter",
    [
        *("id = 1", 1, ["id"], [("id", 1)], {"unknown": 1}, {1: 1}, {None: 1}, {"": 1}, {"$eq": 1}, {"$nor": [{}]}),
        *({"$and": []}, {"$or": []}, {"$and": {}}, {"$or": "ab"}, {"$or": [1]}, {"$not": []}, {"$not": None}),
        *({"$where": "1=1"}, {"$or": [{"id": 1}, {"bad": 1}]}),
    ],
)
def test_a_wrong_filter_is_refused(given_filter: Any) -> None:
    refused(given_filter)


def test_a_filter_nested_without_end_is_refused_not_a_recursion_error() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"$not": nested(depth - 1)} if depth else {"id": "r"}

    assert matches(parse_filters(nested(filters.MAX_NESTING)), record())
    refused(nested(filters.MAX_NESTING + 1))
    endless: dict[str, Any] = {}
    endless["$and"] = [endless]
    refused(endless)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(cases.SCALARS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*cases.OPERATORS, "$and", "$or", "$not", "id", "data.a", "x"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(json_like, cases.records)
def test_anything_given_as_a_filter_is_understood_or_refused(anything: Any, stored: dict[str, Any]) -> None:
    try:
        condition = parse_filters(anything)
    except StorageValidationError as error:
        json.dumps(error.to_dict())  # facts a log can take
    else:
        assert matches(condition, stored) in (True, False)


# what backends ask of a condition


def test_system_types_are_visible_only_where_a_filter_names_them() -> None:
    assert filters.visible(parse_filters(None), "session")
    assert not filters.visible(parse_filters(None), "_copy")
    assert not filters.visible(parse_filters({"type": {"$ne": "session"}}), "_copy")
    assert not filters.visible(parse_filters({"type": {"$like": "_copy"}}), "_copy")
    assert filters.visible(parse_filters({"type": "_copy"}), "_copy")
    named = parse_filters({"$or": [{"type": {"$in": ["_a", "b"]}}, {"$and": [{"id": "x"}, {"type": "_c"}]}]})
    assert filters.named_types(named) == {"_a", "b", "_c"}
    assert filters.visible(named, "_c")
    assert not filters.visible(named, "_d")


@pytest.mark.parametrize(
    ("given_filter", "sole"),
    [
        ({"type": "session", "data.x": 1}, "session"),
        ({"type": {"$in": ["note"]}}, "note"),
        ({"$and": [{"id": "a"}, {"$and": [{"type": "note"}, {"id": "b"}]}]}, "note"),
        ({"type": {"$in": ["a", "b"]}}, None),
        ({"$or": [{"type": "a"}, {"id": "x"}]}, None),
        ({"$not": {"type": "a"}}, None),
        ({"type": 1}, None),
        ({"data.type": "a"}, None),
        (None, None),
    ],
)
def test_sole_type_is_the_type_a_condition_pins(given_filter: Any, sole: str | None) -> None:
    assert filters.sole_type(parse_filters(given_filter)) == sole


@given(cases.records, cases.filters)
def test_what_a_condition_pins_holds_for_all_it_matches(stored: dict[str, Any], given_filter: dict[str, Any]) -> None:
    condition = parse_filters(given_filter)
    if matches(condition, stored):
        assert filters.sole_type(condition) in (None, stored["type"])
        assert all(matches(filters.Test(p, "$eq", v), stored) for p, v in filters.equalities(condition).items())


def test_equalities_are_those_that_must_all_hold() -> None:
    given_filter = {"type": "a", "metadata.s": {"$eq": 1, "$exists": True}, "$or": [{"id": "x"}, {"id": "y"}]}
    assert filters.equalities(parse_filters(given_filter)) == {("type",): "a", ("metadata", "s"): 1}


def test_empty_and_is_true_and_empty_or_is_false() -> None:
    assert matches(And(()), record())
    assert not matches(Or(()), record())
    assert matches(Not(Or(())), record())
