"""``SessionState`` (S3.1 to S3.9, S3.25)."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from session_adapter.comparing import same
from session_adapter.workflow import SessionState, StateCopyError
from tests.session_adapter.workflow.models import Color, Order, Point, Profile, UserInfo
from unified_storage.errors import StorageCapacityError, StorageValidationError

EVERY_TYPE: dict[str, Any] = {
    "none": None,
    "bool": True,
    "int": 1,
    "float": -0.0,
    "nan": float("nan"),
    "text": "zh-CN 谢谢 \0",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"a"),
    "list": [1, [2]],
    "tuple": (1, ([2],)),
    "set": {1, "a"},
    "frozenset": frozenset({1}),
    "int keys": {1: "one", (2, 3): [4]},
    "datetime": datetime(2024, 5, 1, 12, tzinfo=UTC),
    "date": date(2024, 5, 1),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "enum": Color.RED,
    "dataclass": Order(UserInfo("Ann", 3, ("x",)), Color.BLUE, [Point(0.0, 1.0)]),
    "model": Profile(fullName="Ann", friends=[UserInfo("Ben")]),
    "deque": deque([1], maxlen=3),
    "function": len,
}


def test_a_state_begins_empty_or_with_a_copy_of_a_mapping() -> None:
    """S3.1."""
    assert len(SessionState()) == 0
    assert SessionState().get_all() == {}
    source = {"a": [1], "b": {"c": 2}}
    state = SessionState(source)
    source["a"].append(2)  # type: ignore[attr-defined]
    source["d"] = [3]
    assert state.get_all() == {"a": [1], "b": {"c": 2}}


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_a_thousand_threads_lose_nothing() -> None:
    """S3.2."""
    state, gate = SessionState(max_total_bytes=10**6), threading.Barrier(1000)

    def setting(n: int) -> None:
        gate.wait()
        for text in ("x" * 10, "", "x" * 20):
            state.set(f"k{n}", text)
        state.set(f"k{n}", n)

    with ThreadPoolExecutor(1000) as pool:
        list(pool.map(setting, range(1000)))
    assert state.get_all() == {f"k{n}": n for n in range(1000)}
    for n in range(1000):
        state.delete(f"k{n}")
    state.set("full", "x" * (10**6 - 4))  # the count of bytes lost nothing either
    with pytest.raises(StorageCapacityError):
        state.set("k", "")


async def test_a_thousand_tasks_lose_nothing() -> None:
    """S3.2."""
    state = SessionState()

    async def setting(n: int) -> None:
        await asyncio.sleep(0)
        state.set(f"k{n}", n)

    await asyncio.gather(*(setting(n) for n in range(1000)))
    assert state.get_all() == {f"k{n}": n for n in range(1000)}


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_any_type_goes_in_and_comes_out(name: str) -> None:
    """S3.2."""
    state = SessionState()
    state.set("k", EVERY_TYPE[name])
    value, exists = state.get("k")
    assert exists
    assert same(value, EVERY_TYPE[name])


def test_a_stored_none_is_not_a_missing_key() -> None:
    """S3.3: both forms."""
    state = SessionState({"none": None})
    assert state.get("none") == (None, True)
    assert state.get("missing") == (None, False)
    assert state.get_value("none", 7) is None
    assert state.get_value("missing", 7) == 7
    assert state.get_value("missing") is None
    assert state["none"] is None
    with pytest.raises(KeyError, match="missing"):
        state["missing"]


def test_a_state_is_used_like_a_mapping() -> None:
    """S3.3."""
    state = SessionState()
    state["b"], state["a"] = [1], 2
    assert ("b" in state, "c" in state, len(state)) == (True, False, 2)
    assert list(state) == state.keys() == ["b", "a"]
    assert dict(state) == {"b": [1], "a": 2}
    del state["b"]
    with pytest.raises(KeyError, match="b"):
        del state["b"]
    assert repr(state) == "SessionState('a')"
    assert state == SessionState({"a": 2})
    assert state != SessionState({"a": 2.0})
    assert state != {"a": 2}


def test_what_is_read_can_be_changed_without_changing_the_state() -> None:
    """S3.4, T3.8: the live object is never handed out, nor kept."""
    state = SessionState()
    mine = {"list": [1], "user": UserInfo("Ann")}
    state.set("k", mine)
    mine["list"].append(2)  # type: ignore[attr-defined]
    for read in (state.get("k")[0], state.get_value("k"), state["k"], state.get_all()["k"], dict(state)["k"]):
        read["list"].append(3)
        read["user"].name = "Ben"
        read["new"] = 1
    assert state["k"] == {"list": [1], "user": UserInfo("Ann")}
    changed = state["k"]
    changed["list"].append(4)
    state.set("k", changed)
    assert state["k"]["list"] == [1, 4]


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_a_clone_keeps_types(name: str) -> None:
    """S3.5, T3.6: no way through JSON: tuples, sets, integer keys, dates, bytes and classes stay what they are."""
    state = SessionState({"k": EVERY_TYPE[name]})
    clone = state.clone()
    assert same(clone["k"], EVERY_TYPE[name])
    assert clone == state == deepcopy(state)


def test_a_clone_shares_nothing() -> None:
    """S3.5."""
    state = SessionState({"a": {"b": [1]}, "gone": 1})
    clone = state.clone()
    inner = clone["a"]
    inner["b"].append(2)
    assert state["a"] == clone["a"] == {"b": [1]}
    clone.set("a", inner)
    clone.delete("gone")
    clone.set("new", 1)
    assert state.get_all() == {"a": {"b": [1]}, "gone": 1}
    state.set("later", 1)
    assert clone.get_all() == {"a": {"b": [1, 2]}, "new": 1}


def test_references_within_a_value_stay() -> None:
    """S3.5."""
    shared: list[Any] = [1]
    shared.append(shared)
    read = SessionState({"k": [shared, shared]})["k"]
    assert read[0] is read[1] is read[0][1]
    assert read[0] is not shared


UNCOPYABLE: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "nested": lambda: {"a": [threading.Lock()]},
    "generator": lambda: (n for n in "abc"),
    "asyncio lock": asyncio.Lock,
    "nested asyncio queue": lambda: [asyncio.Queue()],
    "object": object,
}


@pytest.mark.parametrize("name", UNCOPYABLE)
def test_what_cannot_be_copied_is_an_error_that_names_the_key(name: str) -> None:
    """S3.6: nothing is shared silently."""
    state = SessionState({"fine": 1})
    state.set("lock", UNCOPYABLE[name]())
    for act in (
        state.clone,
        state.get_all,
        lambda: state.get("lock"),
        lambda: state["lock"],
        lambda: state.clone(share=["other"]),
        lambda: SessionState({"lock": UNCOPYABLE[name]()}).get_value("lock"),
    ):
        with pytest.raises(StateCopyError, match="'lock'") as refusal:
            act()
        assert refusal.value.key == "lock"
    assert state["fine"] == 1
    assert state.shared == []


def test_what_cannot_be_copied_is_shared_on_purpose_and_listed() -> None:
    """S3.6."""
    lock = threading.Lock()
    state = SessionState({"lock": lock, "list": [1]})
    for clone in (state.clone(share=["lock"]), state.clone(on_uncopyable="share")):
        assert clone["lock"] is lock
        assert clone.clone().get_all()["lock"] is lock
        assert clone.shared == ["lock"]
        assert clone["list"] is not clone["list"]
    other = SessionState()
    other.merge_from(state.clone(share=["lock"]))
    with pytest.raises(StateCopyError):  # who takes it over has not said that he shares it
        other.get("lock")
    made = SessionState({"lock": lock}, on_uncopyable="share")
    made.set("more", [lock])
    assert made.shared == ["lock", "more"]
    assert made["more"][0] is lock


def test_a_key_that_is_shared_hands_out_the_object_itself() -> None:
    """S3.6."""
    cache = {"a": 1}
    state = SessionState({"cache": cache}, share=["cache"])
    assert state["cache"] is cache
    assert state.clone()["cache"] is cache
    assert state.shared == ["cache"]
    with pytest.raises(StorageValidationError, match="list of keys"):
        SessionState(share="cache")
    with pytest.raises(StorageValidationError, match="on_uncopyable"):
        SessionState(on_uncopyable="ignore")  # type: ignore[arg-type]


def test_all_values_are_read_as_copies() -> None:
    """S3.7."""
    state = SessionState({"a": [1], "b": {"c": []}})
    everything = state.get_all()
    everything["a"].append(2)
    everything["b"]["c"].append(3)
    del everything["b"]
    assert state.get_all() == {"a": [1], "b": {"c": []}}


def test_the_values_of_the_other_win_and_it_is_not_changed() -> None:
    """S3.8."""
    state, other = SessionState({"a": 1, "b": 1}), SessionState({"b": 2, "c": [3]})
    state.merge_from(other)
    state.merge_from(None)
    assert state.get_all() == {"a": 1, "b": 2, "c": [3]}
    assert other.get_all() == {"b": 2, "c": [3]}
    mine = {"d": [4]}
    state.merge_from(mine)
    mine["d"].append(5)
    assert state["d"] == [4]


def test_states_that_merge_into_each_other_at_once_end() -> None:
    """S3.8, T3.10: no deadlock, also of a state with itself."""
    one, other = SessionState({"a": 1}), SessionState({"b": 2})
    one.merge_from(one)
    threads = [
        threading.Thread(target=lambda mine=mine, theirs=theirs: [mine.merge_from(theirs) for _ in range(3000)])
        for mine, theirs in ((one, other), (other, one))
        for _ in range(2)
    ]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert one.get_all() == other.get_all() == {"a": 1, "b": 2}


def test_no_lock_is_held_while_another_state_is_read() -> None:
    """T3.10: forced, since two threads rarely meet."""
    one, other = SessionState({"a": 1}), SessionState({"b": 2})
    read = other.snapshot

    def meanwhile() -> Any:
        thread = threading.Thread(target=lambda: other.merge_from(one), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "the other way round waits for us"
        return read()

    other.snapshot = meanwhile  # type: ignore[method-assign]
    one.merge_from(other)
    assert one.get_all() == {"a": 1, "b": 2}


def test_clear_empties_and_delete_removes_one_key() -> None:
    """S3.9."""
    state = SessionState({"a": 1, "b": None, "c": 3})
    assert state.delete("b") is True
    assert state.delete("b") is False
    assert state.get_all() == {"a": 1, "c": 3}
    state.clear()
    assert state.get_all() == {}
    assert state.get("a") == (None, False)


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_a_key_is_a_text(key: Any) -> None:
    with pytest.raises(StorageValidationError, match="is a text"):
        SessionState().set(key, 1)


MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10 * MEGABYTE,
        ["ü" * 5 * MEGABYTE],
        {"k": b"x" * 10 * MEGABYTE},
        UserInfo("x" * 10 * MEGABYTE),
        1 << 83886080,
    ],
    ids=["text", "list", "bytes", "dataclass", "integer"],
)
def test_a_value_over_the_limit_is_refused_and_advice_is_given(value: Any) -> None:
    """S3.25."""
    state = SessionState({"big": 1}, max_value_bytes=MEGABYTE)
    for act in (lambda: state.set("big", value), lambda: state.merge_from({"fine": 1, "big": value})):
        with pytest.raises(StorageCapacityError, match="store a reference to it instead") as refusal:
            act()
        assert refusal.value.details["key"] == "big"
        assert refusal.value.details["limit"] == MEGABYTE
        assert refusal.value.details["size"] >= 10 * MEGABYTE
    assert state.get_all() == {"big": 1}, "nothing of a refused merge stays"
    with pytest.raises(StorageCapacityError):
        SessionState({"k": value}, max_value_bytes=MEGABYTE)


def test_all_values_together_have_a_limit() -> None:
    """S3.25: what is replaced or deleted no longer counts; clones have the same limits."""
    state = SessionState(max_total_bytes=100)
    state.set("a", "x" * 40)
    state.set("a", "y" * 40)
    state.set("b", "x" * 40)
    clone = state.clone()
    for full in (state, clone):
        with pytest.raises(StorageCapacityError, match="the state takes about"):
            full.set("c", "x" * 40)
        full.delete("b")
        full.set("c", "x" * 40)
        assert full.keys() == ["a", "c"]
    state.clear()
    state.set("all", "x" * 97)
