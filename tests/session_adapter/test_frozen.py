"""Copies of runs as bytes tell every difference that a storage keeps."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter.frozen import digest, frozen, thawed
from unified_storage import StorageValidationError
from unified_storage.values import encode, equal

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
LEAVES = st.sampled_from(
    [None, True, 1, 1.0, 0, 0.0, -0.0, float("nan"), float("inf"), 2**70, "1", b"1", "", "\ud800", "text:", "$type"]
)
ODD = st.sampled_from(
    [NOON, NOON.astimezone(timezone(timedelta(hours=2))), NOON.date(), Decimal("1.0"), Decimal("1.00"), UUID(int=7)]
)
VALUES = st.recursive(
    LEAVES | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "$type"]), inner, max_size=3)
        | st.tuples(inner)
        | st.builds(lambda item: [item, item], inner)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3)


@given(BODIES, BODIES)
def test_equal_bytes_are_the_same_content(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = encode(one) == encode(other)
    assert (frozen(one, "run") == frozen(other, "run")) == same
    assert (digest(frozen(one, "run")) == digest(frozen(other, "run"))) == same


@given(BODIES)
def test_what_thaws_is_the_same_and_shared_with_nobody(body: dict[str, Any]) -> None:
    first, second = thawed(frozen(body, "run")), thawed(frozen(copy.deepcopy(body), "run"))
    assert equal(first, body)
    assert frozen(first, "run") == frozen(second, "run") == frozen(body, "run")
    first["mine"] = 1
    for value in first.values():
        if isinstance(value, list):
            value.append("spoilt")
    assert equal(second, body)


def test_parts_that_others_hold_make_no_difference() -> None:
    shared = ["x" * 10]
    name = "".join(["run", "_id"])
    assert frozen({name: shared, "again": shared}, "run") == frozen({"run_id": ["x" * 10], "again": ["x" * 10]}, "run")


@pytest.mark.parametrize("value", [object(), {1: object()}, NOON.time()])
def test_what_cannot_be_kept_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(StorageValidationError) as raised:
        frozen({"a": [value]}, "runs[3]")
    assert str(raised.value.path).startswith("runs[3].a[0]")


def test_what_contains_itself_is_refused() -> None:
    body: dict[str, Any] = {}
    body["self"] = [body]
    with pytest.raises(StorageValidationError):
        frozen(body, "run")
