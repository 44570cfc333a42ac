"""Merging the states of parallel branches (S3.15 to S3.19)."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from session_adapter.comparing import same
from session_adapter.workflow import SessionState, StateConflictError, merge_parallel_session_states
from tests.session_adapter.workflow import merge_reference as reference
from tests.session_adapter.workflow.models import UserInfo
from unified_storage import DELETE
from unified_storage.errors import StorageCapacityError, StorageValidationError

VALUES: list[Any] = [None, False, True, 0, 1, 1.0, 0.0, -0.0, float("nan"), "", "1", b"1"]
NESTED = [[1], (1,), [True], {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": True, "b": 2}, {}, []]


def merged(original: Any, *modified: Any, **options: Any) -> dict[str, Any]:
    return merge_parallel_session_states(original, modified, **options).get_all()


def test_a_branch_that_left_a_key_alone_overwrites_nothing() -> None:
    """S3.15, T3.1: its copy of the start is no change."""
    assert merged({"k": 0, "l": 0}, {"k": 1, "l": 0}, {"k": 0, "l": 2}) == {"k": 1, "l": 2}
    start = SessionState({"k": 0})
    one, other = start.clone(), start.clone()
    one.set("k", 1)
    other.set("k", other["k"])
    assert merged(start, one, other) == merged(start, other, one) == {"k": 1}


def test_the_later_branch_wins_and_none_of_the_states_is_changed() -> None:
    """S3.15."""
    states = [SessionState({"k": n}) for n in range(4)]
    result = merge_parallel_session_states(states[0], states[1:])
    assert result.get_all() == {"k": 3}
    result.set("k", 9)
    assert [state["k"] for state in states] == [0, 1, 2, 3]


def test_a_deletion_survives_unless_a_later_branch_set_the_key() -> None:
    """S3.16, T3.2."""
    start = {"k": 1, "other": 1}
    gone, left, changed = {"other": 1}, start, {"k": 2, "other": 1}
    assert merged(start, gone) == merged(start, gone, left) == merged(start, left, gone) == {"other": 1}
    assert merged(start, changed, gone) == {"other": 1}
    assert merged(start, gone, changed) == {"k": 2, "other": 1}


@pytest.mark.parametrize("empty", [None, {}, SessionState()])
def test_an_empty_start_loses_nothing(empty: Any) -> None:
    """S3.16, T3.3."""
    assert merged(empty, {"a": 1}, {"b": 2}, None) == {"a": 1, "b": 2}
    assert merged(empty, {"a": 1}, {}) == {"a": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [(True, 1), (1, 1.0), (0.0, -0.0), ([1], (1,)), ({"a": 1}, {"a": True}), (UserInfo("a", 1), UserInfo("a", True))],
)
def test_a_change_of_type_is_a_change(before: Any, after: Any) -> None:
    """S3.16, T3.4."""
    assert same(merged({"k": before}, {"k": after}, {"k": before}), {"k": after})


@pytest.mark.parametrize(
    ("before", "after"), [({"a": 1, "b": 2}, {"b": 2, "a": 1}), (float("nan"), float("nan")), ([{}], [{}])]
)
def test_what_only_looks_different_is_no_change(before: Any, after: Any) -> None:
    """T3.4: the order of keys, or another NaN."""
    assert merged({"k": before}, {"k": "new"}, {"k": after}) == {"k": "new"}


def test_fifty_branches_with_fifty_keys_all_survive() -> None:
    """S3.17."""
    start = {"common": [1]}
    branches = [start | {f"branch_{n}_result": n} for n in range(50)]
    assert merged(start, *branches) == start | {f"branch_{n}_result": n for n in range(50)}


def test_reducers_combine_what_the_branches_changed() -> None:
    """S3.18."""
    start = {"n": 10, "seen": {0}, "log": ["start"], "top": 5, "own": 1}
    branches = [{"n": 10 + n, "seen": {0, n}, "log": ["start", n], "top": 5 + n % 3, "own": 1 + n} for n in (1, 2, 3)]
    policies: dict[Any, Any] = {
        "n": "sum",
        "seen": "union",
        "log": "append",
        "top": "max",
        "own": lambda left, right: left * right,
    }
    assert merged(start, *branches, policies=policies) == {
        "n": 16,
        "seen": {0, 1, 2, 3},
        "log": ["start", 1, 2, 3],
        "top": 7,
        "own": 24,
    }
    assert merged(start, *branches, default="first") == branches[0]


def test_conflicts_are_reported_with_key_branches_and_values() -> None:
    """S3.18."""
    start = {"k": 0, "same": 0, "gone": 0, "left": 0}
    result = merge_parallel_session_states(
        start,
        [start, start | {"k": 1, "same": 1}, {"k": True, "same": 1, "left": 0}, start | {"gone": 1}],
        names=["w", "x", "y", "z"],
    )
    told = {conflict.key: (conflict.branches, conflict.values, conflict.policy) for conflict in result.conflicts}
    assert told == {"k": (("x", "y"), (1, True), "last"), "gone": (("y", "z"), (DELETE, 1), "last")}
    assert result.get_all() == {"k": True, "same": 1, "gone": 1, "left": 0}


def test_the_policy_error_lists_key_branches_and_values() -> None:
    """S3.18."""
    with pytest.raises(StateConflictError, match=r"k: 0 has 1, 2 has 'b'") as refusal:
        merge_parallel_session_states(
            {"k": 0, "l": 0}, [{"k": 1, "l": 1}, {"k": 0, "l": 2}, {"k": "b", "l": 1}], policies={"k": "error"}
        )
    assert refusal.value.conflicts == [
        {"key": "k", "path": ["k"], "branches": [0, 2], "values": [1, "b"], "policy": "error"}
    ]
    assert not refusal.value.retryable
    assert merged({"k": 0}, {"k": 1}, {"k": 0}, {"k": 1}, default="error") == {"k": 1}


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(StorageValidationError, match="no policy 'sums'"):
        merge_parallel_session_states({}, [], policies={"k": "sums"})


def test_by_default_a_value_is_merged_whole() -> None:
    """S3.19."""
    start = {"cfg": {"db": 0, "cache": 0}}
    assert merged(start, {"cfg": {"db": 1, "cache": 0}}, {"cfg": {"db": 0, "cache": 2}}) == {
        "cfg": {"db": 0, "cache": 2}
    }


def test_deep_keeps_changes_of_different_places() -> None:
    """S3.19."""
    start = {"cfg": {"db": {"host": "a", "port": 1}, "cache": 0, "old": 1}}
    one = {"cfg": {"db": {"host": "b", "port": 1}, "cache": 0}}
    other = {"cfg": {"db": {"host": "a", "port": 2}, "cache": 2, "old": 1}}
    result = merge_parallel_session_states(start, [one, other], deep=True)
    assert result.get_all() == {"cfg": {"db": {"host": "b", "port": 2}, "cache": 2}}
    assert result.conflicts == ()
    assert start == {"cfg": {"db": {"host": "a", "port": 1}, "cache": 0, "old": 1}}
    assert merged({}, {"cfg": {"db": 1}}, {"cfg": {"cache": 2}}, deep=True) == {"cfg": {"db": 1, "cache": 2}}
    assert merged({}, {"cfg": {}}, {"cfg": {}}, deep=True) == {"cfg": {}}


def test_deep_puts_what_was_replaced_or_deleted_in_whole() -> None:
    """S3.19: the later branch wins where one of them has no such place any more."""
    start = {"cfg": {"db": 0, "cache": 0}}
    changed = {"cfg": {"db": 1, "cache": 0}}
    assert merged(start, {}, changed, deep=True) == merged(start, {"cfg": 5}, changed, deep=True) == changed
    assert merged(start, changed, {}, deep=True) == {}
    assert merged(start, changed, {"cfg": 5}, deep=True) == {"cfg": 5}
    assert same(merged({"cfg": {1: 0}}, {"cfg": {True: 0}}, deep=True), {"cfg": {True: 0}})


def test_deep_conflicts_name_the_place() -> None:
    """S3.18, S3.19."""
    start = {"cfg": {"db": 0, "n": 10}}
    branches = [{"cfg": {"db": 1, "n": 11}}, {"cfg": {"db": 2, "n": 12}}]
    result = merge_parallel_session_states(start, branches, deep=True, policies={("cfg", "n"): "sum"})
    assert result.get_all() == {"cfg": {"db": 2, "n": 13}}
    assert [(conflict.path, conflict.values, conflict.policy) for conflict in result.conflicts] == [
        (("cfg", "db"), (1, 2), "last"),
        (("cfg", "n"), (11, 12), "sum"),
    ]
    above = merge_parallel_session_states(start, [branches[0], {}], deep=True).conflicts
    assert [(conflict.path, conflict.values) for conflict in above] == [(("cfg",), ({"db": 1, "n": 11}, DELETE))]
    whole = merge_parallel_session_states(start, branches, deep=True, policies={"cfg": "first"})
    assert whole.get_all() == branches[0]


def test_the_limits_of_the_start_hold_for_the_merged_state() -> None:
    """S3.25."""
    start = SessionState(max_total_bytes=100)
    branches = [start.clone(), start.clone()]
    for name, branch in zip("ab", branches, strict=True):
        branch.set(name, "x" * 60)
    with pytest.raises(StorageCapacityError):
        merge_parallel_session_states(start, branches)


def test_what_is_shared_stays_shared() -> None:
    """S3.6."""
    lock = threading.Lock()
    start = SessionState({"lock": lock}, on_uncopyable="share")
    branches = [start.clone(), start.clone()]
    branches[0].set("mine", [lock])
    branches[1].set("mine", threading.Lock())
    result = merge_parallel_session_states(start, branches)
    assert result["lock"] is lock
    assert result.shared == ["lock", "mine"]
    assert result.conflicts[0].values[0][0] is lock


def value(draw: random.Random) -> Any:
    return draw.choice(VALUES) if draw.random() < 0.7 else draw.choice(NESTED)


def history(draw: random.Random, keys: str, start: dict[str, Any]) -> list[reference.Operation]:
    operations: list[reference.Operation] = []
    for _ in range(draw.randrange(6)):
        key, act = draw.choice(keys), draw.random()
        if act < 0.25:
            operations.append(("delete", key, None))
        elif act < 0.4 and key in start:
            operations.append(("set", key, start[key]))  # back to what it was
        else:
            operations.append(("set", key, value(draw)))
    return operations


def play(state: SessionState, operations: list[reference.Operation]) -> SessionState:
    for act, key, item in operations:
        if act == "set":
            state.set(key, item)
        else:
            state.delete(key)
    return state


def test_merges_equal_the_simple_reference(scaled: Callable[..., int]) -> None:
    """S3.15, S3.16, S3.18: 10 000 generated histories in full, conflicts included."""
    for seed in range(scaled(10_000)):
        draw = random.Random(seed)
        keys = "abcd"[: draw.randrange(1, 5)]
        start = {key: value(draw) for key in keys if draw.random() < 0.6}
        histories = [history(draw, keys, start) for _ in range(draw.randrange(1, 6))]
        branches = [reference.played(start, operations) for operations in histories]
        wanted = reference.merged(start, branches)
        original = SessionState(start)
        states = [play(original.clone(), operations) for operations in histories]
        result = merge_parallel_session_states(original, states)
        assert reference.text_of(result.get_all()) == reference.text_of(wanted), seed
        assert {found.key: list(found.branches) for found in result.conflicts} == reference.conflicts(start, branches)
        assert reference.text_of(merged(start, *branches)) == reference.text_of(wanted), seed
        assert reference.text_of(original.get_all()) == reference.text_of(start), seed


def test_deep_merges_equal_the_simple_reference(scaled: Callable[..., int]) -> None:
    """S3.19: of two levels, which are one level of keys with a dot."""
    for seed in range(scaled(10_000)):
        draw = random.Random(seed)
        start = {key: {inner: draw.choice(VALUES) for inner in "xyz" if draw.random() < 0.6} for key in "ab"}
        branches = []
        for _ in range(draw.randrange(1, 5)):
            branch = {key: dict(item) for key, item in start.items()}
            for _ in range(draw.randrange(4)):
                place = branch[draw.choice("ab")]
                if draw.random() < 0.3:
                    place.pop(draw.choice("xyz"), None)
                else:
                    place[draw.choice("xyz")] = draw.choice(VALUES)
            branches.append(branch)
        result = merge_parallel_session_states(start, branches, deep=True)
        flats = [reference.flat(branch) for branch in branches]
        wanted = reference.merged(reference.flat(start), flats)
        assert reference.text_of(reference.flat(result.get_all())) == reference.text_of(wanted), seed
        told = {".".join(found.path): list(found.branches) for found in result.conflicts}
        assert told == reference.conflicts(reference.flat(start), flats), seed


def test_sums_equal_the_simple_reference(scaled: Callable[..., int]) -> None:
    """S3.18."""
    for seed in range(scaled(10_000)):
        draw = random.Random(seed)
        start = draw.randrange(100)
        ends = [draw.randrange(100) for _ in range(draw.randrange(1, 6))]
        wanted = start + sum(end - start for end in ends)
        assert merged({"n": start}, *({"n": end} for end in ends), policies={"n": "sum"}) == {"n": wanted}, seed
