"""Query text: its grammar, that it means what filters mean, and that nothing else passes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unified_storage import filter_cases as cases
from tests.unified_storage.filter_cases import NOON, record
from unified_storage.errors import StorageValidationError
from unified_storage.filters import MAX_NESTING, And, matches, parse_filters, parse_path
from unified_storage.query import Query, parse_query


def refused(text: Any, params: Any = None) -> StorageValidationError:
    with pytest.raises(StorageValidationError) as caught:
        parse_query(text, params)
    return caught.value


def test_a_whole_query() -> None:
    text = "type = 'session' AND metadata.status = :s ORDER BY -updated_at LIMIT 20"
    condition = parse_filters({"type": "session", "metadata.status": "active"})
    assert parse_query(text, {"s": "active"}) == Query(condition, "-updated_at", 20)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("id = 'a'", {"id": "a"}),
        ("WHERE id = 'a'", {"id": "a"}),
        ("where id='a'", {"id": "a"}),
        ("data.n != 1", {"data.n": {"$ne": 1}}),
        ("data.n < 1", {"data.n": {"$lt": 1}}),
        ("data.n <= -1", {"data.n": {"$lte": -1}}),
        ("data.n > +1.5", {"data.n": {"$gt": 1.5}}),
        ("data.n >= 1e3", {"data.n": {"$gte": 1000.0}}),
        ("data.n = 123456789012345678901234567890", {"data.n": 123456789012345678901234567890}),
        ("data.n = TRUE", {"data.n": True}),
        ("data.n = false", {"data.n": False}),
        ("data.n = NULL", {"data.n": None}),
        ("data.n IN (1, 2.5)", {"data.n": {"$in": [1, 2.5]}}),
        ("data.n in ()", {"data.n": {"$in": []}}),
        ("data.n NOT IN ('a')", {"data.n": {"$nin": ["a"]}}),
        ("data.n LIKE 'a%\\_'", {"data.n": {"$like": "a%\\_"}}),
        ("data.n IS NULL", {"data.n": None}),
        ("data.n IS NOT NULL", {"data.n": {"$ne": None}}),
        ("CONTAINS(data.n, 'x')", {"data.n": {"$contains": "x"}}),
        ("exists ( data.n )", {"data.n": {"$exists": True}}),
        ("NOT EXISTS(data.n)", {"$not": {"data.n": {"$exists": True}}}),
        ("id = 'it''s'", {"id": "it's"}),
        ("id = ''", {"id": ""}),
        ("id = ''''", {"id": "'"}),
        ("id = 'a\\' OR id = 'b'", {"$or": [{"id": "a\\"}, {"id": "b"}]}),
        ('data."we.ird ""key""" = 1', {r'data.we\.ird "key"': 1}),
        ('data."".x = 1', {"data..x": 1}),
        ("data.0.and = 1", {"data.0.and": 1}),
        ("data.Größe = 1", {"data.Größe": 1}),
        ("id='a'\n\tAND\r\ntype='b'", {"id": "a", "type": "b"}),
        ("id = '--' AND type = ';'", {"id": "--", "type": ";"}),
    ],
)
def test_every_form_is_the_filter_of_that_meaning(text: str, same_as: dict[str, Any]) -> None:
    assert parse_query(text) == Query(parse_filters(same_as))


def test_not_binds_before_and_and_before_or() -> None:
    found = parse_query("id = 'a' OR NOT id = 'b' AND id = 'c' OR (id = 'd' OR id = 'e') AND id = 'f'").condition
    a, b, c, d, e, f = ({"id": name} for name in "abcdef")
    expected = {"$or": [a, {"$and": [{"$not": b}, c]}, {"$and": [{"$or": [d, e]}, f]}]}
    assert found == parse_filters(expected)


@pytest.mark.parametrize("text", ["", " \n ", "ORDER BY id", "LIMIT 3", "ORDER BY id LIMIT 3"])
def test_a_query_without_condition_is_about_everything(text: str) -> None:
    query = parse_query(text)
    assert query.condition == And(())
    assert query.order_by == ("id" if "ORDER" in text else None)
    assert query.limit == (3 if "LIMIT" in text else None)


def test_is_not_null_is_the_exact_negation_so_it_matches_a_missing_field() -> None:
    present = parse_query("data.x IS NOT NULL AND EXISTS(data.x)").condition
    for stored, is_null, has_value in (({}, False, False), ({"x": None}, True, False), ({"x": 0}, False, True)):
        assert matches(parse_query("data.x IS NULL").condition, record(stored)) == is_null
        assert matches(parse_query("data.x IS NOT NULL").condition, record(stored)) != is_null
        assert matches(present, record(stored)) == has_value


def test_params_bind_any_value_a_filter_takes() -> None:
    params = {"when": NOON, "few": [Decimal("1.5"), 2], "n": 4, "like": "a%"}
    query = parse_query("updated_at > :when AND data.x IN :few AND id LIKE :like LIMIT :n", params)
    wanted = {"updated_at": {"$gt": NOON}, "data.x": {"$in": [Decimal("1.5"), 2]}, "id": {"$like": "a%"}}
    assert query == Query(parse_filters(wanted), None, 4)
    assert parse_query("id IN (:a, 'b', :a)", {"a": "x"}).condition == parse_filters({"id": {"$in": ["x", "b", "x"]}})


def test_a_bound_text_stays_a_text_whatever_stands_in_it() -> None:
    for text in ("' OR 1=1 --", "'; DROP TABLE records", ":n", "\x00", "\ud800", '"'):
        assert parse_query("id = :x", {"x": text}).condition == parse_filters({"id": text})


@pytest.mark.parametrize(
    ("params", "offset"),
    [
        ({}, 5),
        (None, 5),
        ({"y": 1}, 5),
        ({"x": "a", "y": 1}, 7),
        ({"x": "a", 1: 1}, 7),
        ({"x": ["a"]}, 3),
        ({"x": {}}, 3),
    ],
)
def test_a_param_that_is_missing_unused_or_no_scalar_is_refused(params: Any, offset: int) -> None:
    assert refused("id = :x", params).details["offset"] == offset


def test_params_that_are_no_mapping_are_refused() -> None:
    refused("id = :x", ["a"])
    refused("", "x")


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("id", 2),
        ("id =", 4),
        ("= 'a'", 0),
        ("id = id", 5),
        ("'a' = id", 0),
        ("1=1", 0),
        ("id == 'a'", 4),
        ("id <> 'a'", 4),
        ("id = 'a", 5),
        ("id = 'a''b", 5),
        ('data."a""b = 1', 4),
        ("id = 'a' 'b'", 9),
        ('id = "a"', 5),
        ("id = 'a' AND", 12),
        ("id = 'a' id = 'b'", 9),
        ("(id = 'a'", 9),
        ("id = 'a')", 8),
        ("WHERE", 5),
        ("WHERE ORDER BY id", 6),
        ("NOT", 3),
        ("id NOT LIKE 'a'", 7),
        ("id NOT 'a'", 7),
        ("id IS 'a'", 6),
        ("id IS NOT TRUE", 10),
        ("id IN 'a'", 6),
        ("id IN ('a',)", 11),
        ("id IN ('a', 1)", 3),
        ("id IN (id)", 7),
        ("data.x < NULL", 7),
        ("id LIKE 1", 3),
        ("id LIKE 'a\\'", 3),
        ("id ILIKE 'a'", 3),
        ("id BETWEEN 1 AND 2", 3),
        ("CONTAINS(data.x)", 15),
        ("CONTAINS('a', 'b')", 9),
        ("EXISTS data.x", 7),
        ("EXISTS(SELECT 1)", 7),
        ("unknown = 1", 0),
        ("id.x = 1", 0),
        ("data.x.y-z = 1", 8),
        ("data .x = 1", 5),
        ("data. = 1", 4),
        ("data.x = 12ab", 9),
        ("data.x = 1.", 9),
        ("data.x = .5", 9),
        ("data.x = 0x10", 9),
        ("data.x = 1e999", 9),
        ("data.x = " + "9" * 5000, 9),
        ("data.x = - 5", 9),
        ("data.x = ١", 9),
        ("ORDER id", 6),
        ("ORDER BY", 8),
        ("ORDER BY updated_at DESC", 20),
        ("ORDER BY id, type", 11),
        ("ORDER BY 1", 9),
        ("ORDER BY -nothing", 10),
        ("ORDER BY id ORDER BY id", 12),
        ("LIMIT", 5),
        ("LIMIT -1", 6),
        ("LIMIT 1.0", 6),
        ("LIMIT TRUE", 6),
        ("LIMIT 99999999999999999999", 6),
        ("LIMIT 1 OFFSET 2", 8),
        ("LIMIT 1 ORDER BY id", 8),
        ("lıke = 1", 0),
        ("id lıke 'a'", 3),
    ],
)
def test_anything_else_is_refused_with_its_offset(text: str, offset: int) -> None:
    assert refused(text).details["offset"] == offset


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM records",
        "DELETE FROM records",
        "DROP TABLE records",
        "id = 'a'; DROP TABLE records",
        "id = 'a' -- comment",
        "id = 'a' /* comment */",
        "id = 'a' UNION SELECT id FROM logs",
        "id = 'a' OR 1=1",
        "id = (SELECT id)",
        "`id` = 'a'",
        "[id] = 'a'",
        "json_extract(data, '$.x') = 1",
        "data->>'x' = 1",
        "id = 'a' || 'b'",
        "id = ?",
        "id = $1",
        "id = %s",
        "id = :x::text",
        "id LIKE 'a' ESCAPE 'b'",
        "id = 'a' COLLATE nocase",
        "LIMIT 1; SELECT 1",
        "ORDER BY (SELECT 1)",
        "id = 'a'\x00",
        "PRAGMA table_info(records)",
        "ATTACH 'x' AS y",
    ],
)
def test_s2_28_raw_sql_never_passes(text: str) -> None:
    refused(text, {"x": "a"} if ":x" in text else None)


def test_the_path_of_a_refused_value_is_named() -> None:
    error = refused(r'id = 1 AND data."a.b" LIKE 5')
    assert error.path == r"data.a\.b"
    assert error.details["offset"] == 22


def test_errors_repeat_no_values() -> None:
    for text in ("'secret' = id", "id = 'a' 'secret'", "LIMIT 'secret'", "id IN ('secret', 1)", "id LIKE 'secret\\'"):
        assert "secret" not in refused(text).message


@pytest.mark.parametrize("text", [None, 1, b"id = 'a'", ["id"]])
def test_only_text_is_a_query(text: Any) -> None:
    refused(text)


def test_brackets_and_not_without_end_are_refused_not_a_recursion_error() -> None:
    assert parse_query("(" * MAX_NESTING + "id = 'a'" + ")" * MAX_NESTING)
    assert refused("(" * (MAX_NESTING + 1) + "id = 'a'").details["offset"] == MAX_NESTING
    refused("(" * 100_000)
    refused("NOT " * 100_000 + "id = 'a'")
    many = parse_query(" OR ".join(["(id = 'a' AND NOT id = 'b')"] * 1000))
    assert matches(many.condition, record(id="a"))


def test_long_text_is_read_in_little_time() -> None:
    refused("id = '" + "a''" * 200_000)
    refused('data."' + '""' * 200_000)
    refused(" " * 200_000 + "§")
    refused("data" + ".a" * 200_000 + "§")


# the same as filters


_SIGNS = {"$eq": "=", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=", "$like": "LIKE"}


class Writer:
    """Writes a filter as query text; values that have no literal become params."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def condition(self, given_filter: dict[str, Any]) -> str:
        parts = [part for key, value in given_filter.items() for part in self._parts(key, value)]
        return "(" + " AND ".join(parts) + ")"

    def _parts(self, key: str, value: Any) -> list[str]:
        if key == "$not":
            return ["NOT " + self.condition(value)]
        if key in ("$and", "$or"):
            return ["(" + f" {key[1:].upper()} ".join(self.condition(part) for part in value) + ")"]
        tests = value if isinstance(value, dict) else {"$eq": value}
        return [self._test(_quoted(key), op, operand) for op, operand in tests.items()]

    def _test(self, path: str, op: str, value: Any) -> str:
        if op == "$exists":
            return f"EXISTS({path})" if value else f"NOT EXISTS({path})"
        if op == "$contains":
            return f"CONTAINS({path}, {self._value(value)})"
        if op in ("$in", "$nin"):
            listed = "(" + ", ".join(map(self._value, value)) + ")" if len(value) % 2 else self._param(value)
            return f"{path} {'IN' if op == '$in' else 'NOT IN'} {listed}"
        if value is None:
            return f"{path} IS {'' if op == '$eq' else 'NOT '}NULL"
        return f"{path} {_SIGNS[op]} {self._value(value)}"

    def _value(self, value: Any) -> str:
        if isinstance(value, str):
            return "'" + value.replace("'", "''") + "'"
        if value is None or isinstance(value, bool):
            return str(value).replace("None", "NULL").upper()
        if isinstance(value, int) or (isinstance(value, float) and abs(value) != float("inf")):
            return repr(value)
        return self._param(value)

    def _param(self, value: Any) -> str:
        name = f"p{len(self.params)}"
        self.params[name] = value
        return f":{name}"


def _quoted(path: str) -> str:
    first, *keys = parse_path(path)
    return ".".join([first, *('"' + key.replace('"', '""') + '"' for key in keys)])


def _writable(given_filter: Any) -> bool:
    """Without what the language has no word for: $ilike, and a condition about nothing inside another."""
    if isinstance(given_filter, dict):
        return bool(given_filter) and "$ilike" not in given_filter and all(map(_writable, given_filter.values()))
    return not isinstance(given_filter, list) or all(map(_writable, given_filter))


@given(cases.filters.filter(_writable), cases.records)
def test_query_text_means_what_the_filter_means(given_filter: dict[str, Any], stored: dict[str, Any]) -> None:
    writer = Writer()
    text = writer.condition(given_filter)
    found = parse_query(text, writer.params).condition
    assert matches(found, stored) == matches(parse_filters(given_filter), stored)


WORDS = (
    "WHERE AND OR NOT IN LIKE IS NULL CONTAINS EXISTS ORDER BY LIMIT TRUE ( ) , = != < - id data.x 'a' 1 2.5 :p ' \" ;"
)
word_salad = st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join)


@given(st.one_of(st.text(), word_salad), st.none() | st.dictionaries(st.just("p"), cases.values))
def test_any_text_is_understood_or_refused_with_an_offset(text: str, params: dict[str, Any] | None) -> None:
    outcome = _understood(text, params)
    if isinstance(outcome, Query):
        assert matches(outcome.condition, record()) in (True, False)
    else:
        assert 0 <= outcome.details["offset"] <= len(text)


def _understood(text: str, params: Any) -> Query | StorageValidationError:
    try:
        return parse_query(text, params)
    except StorageValidationError as error:
        return error
