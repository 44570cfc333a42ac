"""The texts of many values at once are those of each, and what is called plain is what msgspec writes exactly."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_storage.errors import StorageValidationError
from unified_storage.texts import encode_each, is_plain
from unified_storage.values import decode, encode

_NAMES = st.text(max_size=4) | st.sampled_from(["$type", "a", "é", "\ud800"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _NAMES | st.binary(max_size=2)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=4))
def test_the_texts_of_many_are_those_of_each(values: list[Any]) -> None:
    assert encode_each(values, str) == [encode(value) for value in values]


@given(VALUES)
def test_of_a_plain_value_msgspec_writes_and_reads_every_part_exactly(value: Any) -> None:
    parts = [*value.values()] if type(value) is dict else value if type(value) is list else [value]
    if is_plain(value):
        assert [msgspec.json.encode(part).decode() for part in parts] == [encode(part) for part in parts]
        assert encode(decode(encode(value))) == encode(value)


@pytest.mark.parametrize(
    "value",
    [(1,), {1}, b"x", float("nan"), datetime(2024, 5, 15, tzinfo=UTC), {"$type": 1}, {1: 2}, "\ud800"],
)
def test_what_has_a_form_of_its_own_or_none_is_not_plain(value: object) -> None:
    assert not is_plain({"deep": [value]})


def test_a_refusal_names_the_value() -> None:
    with pytest.raises(StorageValidationError) as raised:
        encode_each([1, {"x": object()}], lambda place: f"entries[{place}].body")
    assert raised.value.details["path"] == "entries[1].body.x"
