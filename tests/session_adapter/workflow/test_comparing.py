"""Same type and same content, to the leaves (T3.4)."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict, deque
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from session_adapter.comparing import same
from tests.session_adapter.workflow.models import Color, Open, Point, Profile, UserInfo

NAN = float("nan")
LATER = timezone(timedelta(hours=2))


def itself() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


class Bare:
    def __init__(self, n: int) -> None:
        self.n = n


class Silent:
    """Cannot be taken apart, and says that it equals nothing."""

    def __reduce_ex__(self, _: object) -> Any:
        raise RuntimeError("no")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no")

    __hash__ = object.__hash__


class Global:
    def __reduce__(self) -> str:
        return "GLOBAL"


def one() -> None: ...
def other() -> None: ...


DIFFERENT: list[tuple[Any, Any]] = [
    (True, 1),
    (1, 1.0),
    (True, 1.0),
    (0, False),
    (-0.0, 0.0),
    ((1,), [1]),
    ({1}, frozenset({1})),
    ({1}, {True}),
    ({1: "a"}, {True: "a"}),
    ({"a": 1}, {"a": True}),
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, {"a": 1, "b": 2}),
    ([1, 2], [2, 1]),
    ([1], [1, 1]),
    ("1", 1),
    (b"a", "a"),
    (None, False),
    (Decimal("1.0"), Decimal("1.00")),
    (datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 1, 1, 14, tzinfo=LATER)),
    (datetime(2024, 1, 1), datetime(2024, 1, 1, fold=1)),
    (UserInfo("a", 1), UserInfo("a", True)),
    (UserInfo("a"), {"name": "a", "age": 0, "tags": ()}),
    (Point(0.0, 1.0), Point(-0.0, 1.0)),
    (Profile(fullName="a"), Profile(fullName="b")),
    (Open.model_validate({"n": 1, "x": 1}), Open.model_validate({"n": 1, "x": True})),
    (Color.RED, Color.BLUE),
    (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    (deque([1]), deque([True])),
    (Bare(1), Bare(2)),
    (one, other),
    (int, float),
    ({(1, NAN)}, {(2, NAN)}),
    (threading.Lock(), threading.Lock()),
    (Silent(), Silent()),
    (Global(), Global()),
]

SAME: list[tuple[Any, Any]] = [
    (NAN, float("nan")),
    ([NAN], [float("nan")]),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({float("nan"): 1}, {float("nan"): 1}),
    ({(1, float("nan"))}, {(1, float("nan"))}),
    (defaultdict(int, a=1, b=2), defaultdict(int, b=2, a=1)),
    (Bare(1), Bare(1)),
    (itself(), itself()),
    (complex(1, -0.0), complex(1, -0.0)),
    (one, one),
    (range(3), range(3)),
]


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_values_that_differ_in_type_or_content_are_not_the_same(left: Any, right: Any) -> None:
    """T3.4: True, 1 and 1.0 differ, wherever they stand."""
    assert not same(left, right)
    assert not same(right, left)
    assert not same([left], [right])
    assert not same({"k": (left,)}, {"k": (right,)})


@pytest.mark.parametrize(("left", "right"), SAME)
def test_values_that_look_different_are_the_same(left: Any, right: Any) -> None:
    """T3.4: NaN equals itself, the order of a dict's keys is no difference."""
    assert same(left, right)
    assert same({"k": [left]}, {"k": [right]})


COPYABLE = [value for pair in DIFFERENT for value in pair if not isinstance(value, Silent | type(threading.Lock()))]


@pytest.mark.parametrize("value", [value for value in COPYABLE if not isinstance(value, Global)])
def test_a_copy_is_the_same(value: Any) -> None:
    assert same(value, deepcopy(value))
