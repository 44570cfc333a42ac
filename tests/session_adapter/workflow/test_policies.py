"""How a value meets one that is there, for each policy (S3.18)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from session_adapter.comparing import same
from session_adapter.formats.places import ABSENT
from session_adapter.policies import POLICIES, policies_of, policy_of
from unified_storage.errors import StorageConflictError, StorageValidationError

NAN = float("nan")

MEETINGS: list[tuple[str, Any, Any, Any]] = [
    ("last", 1, 2, 2),
    ("first", 1, 2, 1),
    ("first", None, 2, None),
    ("error", [1], [1], [1]),
    ("sum", 10, 1, 11),
    ("sum", 1, 0.5, 1.5),
    ("sum", Decimal("0.1"), Decimal("0.2"), Decimal("0.3")),
    ("sum", Decimal(1), 2, Decimal(3)),
    ("union", {1}, {2}, {1, 2}),
    ("union", frozenset({1}), frozenset({2}), frozenset({1, 2})),
    ("union", [1, {"a": 1}], [{"a": 1}, True], [1, {"a": 1}, True]),
    ("append", [1], [1, 2], [1, 1, 2]),
    ("append", (1,), (2,), (1, 2)),
    ("max", 1, 2, 2),
    ("max", 2, 1.5, 2),
    ("max", "a", "b", "b"),
    ("max", NAN, 1.0, 1.0),
    ("max", 1.0, NAN, 1.0),
    ("max", [1], [2], [2]),
]


@pytest.mark.parametrize(("policy", "stored", "new", "result"), MEETINGS)
def test_what_is_stored_where_a_new_value_meets_the_stored_one(policy: str, stored: Any, new: Any, result: Any) -> None:
    """S3.18."""
    assert same(policy_of(policy).meet(stored, new, path="k"), result)


@pytest.mark.parametrize("policy", POLICIES)
def test_where_nothing_is_stored_the_new_value_is_taken_as_it_is(policy: str) -> None:
    """S3.18."""
    for new in ([1, 1], 1, None):
        assert policy_of(policy).meet(ABSENT, new, path="k") is new


BRANCHES: list[tuple[str, Any, Any, Any, Any]] = [
    ("last", 0, 1, 2, 2),
    ("last", 0, 1, ABSENT, ABSENT),
    ("last", 0, ABSENT, 2, 2),
    ("first", 0, 0, 2, 2),
    ("first", 0, 1, 2, 1),
    ("first", 0, ABSENT, 2, ABSENT),
    ("first", ABSENT, ABSENT, 2, 2),
    ("first", 0, 0, ABSENT, ABSENT),
    ("sum", 10, 11, 12, 13),
    ("sum", 10, 10, 12, 12),
    ("sum", 0.1, 0.1, 0.3, 0.3),
    ("sum", ABSENT, 5, 7, 12),
    ("sum", 10, ABSENT, 12, 12),
    ("sum", 10, 12, ABSENT, ABSENT),
    ("union", {1}, {1, 2}, {3}, {1, 2, 3}),
    ("append", [0], [0, 1], [0, 2], [0, 1, 2]),
    ("append", [0, 1], [0, 1, 2], [0, 9], [0, 1, 2, 9]),
    ("append", [1], [1, 2], [True], [1, 2, True]),
    ("append", ABSENT, [1], [1], [1, 1]),
    ("append", None, [1], [2], [1, 2]),
    ("max", 5, 5, 3, 5),
    ("max", 5, 7, 6, 7),
]


@pytest.mark.parametrize(("policy", "start", "merged", "value", "result"), BRANCHES)
def test_what_stands_where_a_branch_meets_those_before_it(
    policy: str, start: Any, merged: Any, value: Any, result: Any
) -> None:
    """S3.18: only what a branch changed of the start counts."""
    assert same(policy_of(policy).merge(start, merged, value, path="k"), result)


@pytest.mark.parametrize(
    ("policy", "stored", "new"),
    [
        ("sum", 1, True),
        ("sum", "a", "b"),
        ("sum", 1.0, Decimal(1)),
        ("sum", 10**400, 1.0),
        ("sum", [1], [2]),
        ("union", {1}, [1]),
        ("union", "a", "b"),
        ("append", [1], 2),
        ("append", "a", "b"),
        ("max", 1, "a"),
        ("max", None, None),
        ("max", True, False),
        ("max", {1}, {2}),
    ],
)
def test_a_policy_refuses_values_it_is_not_for(policy: str, stored: Any, new: Any) -> None:
    """S3.18: the error names key and policy."""
    with pytest.raises(StorageValidationError, match=f"^counters: the policy {policy} ") as refusal:
        policy_of(policy).meet(stored, new, path="counters")
    assert refusal.value.details == {"path": "counters", "policy": policy}
    with pytest.raises(StorageValidationError):
        policy_of(policy).merge(stored, stored, new, path="counters")


def test_the_sum_of_a_branch_wants_a_number_to_begin_with() -> None:
    with pytest.raises(StorageValidationError, match="wants numbers"):
        policy_of("sum").merge("x", "x", 1, path="k")


def test_the_policy_error_names_the_key() -> None:
    """S3.18."""
    with pytest.raises(StorageConflictError, match=r"^k: ") as refusal:
        policy_of("error").meet(1, True, path="k")
    assert not refusal.value.retryable


def test_a_function_is_given_copies_and_its_answer_is_copied() -> None:
    """S3.18: a reducer of one's own may change what it is given."""
    stored, kept = [1], []

    def appended(mine: list[Any], theirs: Any) -> list[Any]:
        mine.append(theirs)
        kept.append(mine)
        return mine

    policy = policy_of(appended)
    result = policy.meet(stored, 2, path="k")
    kept[0].clear()
    assert (policy.name, stored, result) == ("appended", [1], [1, 2])
    assert policy.merge([], [1], 3, path="k") == [1, 3]


@pytest.mark.parametrize("policy", ["sums", "", 3, None])
def test_an_unknown_policy_is_refused(policy: Any) -> None:
    with pytest.raises(StorageValidationError, match="known are last, first, error, sum, union, append, max"):
        policies_of({"k": policy})
