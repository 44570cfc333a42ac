"""``ExecutionContext`` (S3.10 to S3.12, S3.22)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from session_adapter import SessionIdRequiredError, SessionKey
from session_adapter.workflow import ExecutionContext, SessionState, StateTypeError, new_execution_context_with_session
from tests.session_adapter.workflow.models import Point, UserInfo
from unified_storage.errors import StorageIntegrityError, StorageValidationError

GOLDEN = Path(__file__).parent / "golden" / "context.json"
TYPES = {"user": UserInfo}


class Account(BaseModel):
    name: str
    age: int


class Told(TypedDict):
    name: str


def full() -> ExecutionContext:
    ctx = new_execution_context_with_session({"question": "Where is my order?"}, SessionKey("shop", "ann", "s1"))
    ctx.output = ["on", 1, 1.5, None]
    ctx.data["raw"] = b"\xff"
    ctx.metadata["trace"] = "t-1"
    ctx.set_session_state("age", 42)
    ctx.set_session_state("preferences", {"lang": "de"})
    ctx.set_session_state("user", UserInfo("Ann", 42, ("x",)))
    return ctx


def test_the_json_form_is_the_golden_one() -> None:
    """S3.10: the names are these, and what belongs to a session is left out where there is none."""
    golden = json.loads(GOLDEN.read_text("utf-8"))
    for name, ctx in (("plain", ExecutionContext()), ("full", full())):
        told = json.loads(ctx.to_json(TYPES))
        assert told == golden[name]
        assert list(told) == list(golden[name])


def test_the_json_form_is_read_again() -> None:
    """S3.10."""
    text = full().to_json(TYPES)
    ctx = ExecutionContext.from_json(text, TYPES)
    assert ctx.to_json(TYPES) == text
    assert ctx.session_state == full().session_state
    assert ctx.session == SessionKey("shop", "ann", "s1")
    assert ExecutionContext.from_json(text).session_state["user"] == {"name": "Ann", "age": 42, "tags": ("x",)}
    for wrong in ("[]", '{"other": 1}'):
        with pytest.raises(StorageValidationError, match="describes no context"):
            ExecutionContext.from_json(wrong)
    with pytest.raises(StorageIntegrityError):
        ExecutionContext.from_json("{")


def test_a_context_that_cannot_be_written_names_the_place() -> None:
    """S3.10."""
    with pytest.raises(StorageValidationError, match=r"data\.when\[0\]") as refusal:
        ExecutionContext(data={"when": [object()]}).to_json()
    assert refusal.value.path == "data.when[0]"


def test_state_that_was_set_is_read_back() -> None:
    """S3.11: name, age and preferences."""
    ctx = new_execution_context_with_session("hello", "s1", "ann")
    assert (ctx.input, ctx.session_id, ctx.user_id, ctx.session) == ("hello", "s1", "ann", "s1")
    for key, value in {"name": "Ann", "age": 42, "preferences": {"lang": "de"}}.items():
        ctx.set_session_state(key, value)
    assert ctx.get_session_state("name") == ("Ann", True)
    assert ctx.get_session_state("age") == (42, True)
    preferences, _ = ctx.get_session_state("preferences")
    preferences["lang"] = "en"
    assert ctx.get_session_state("preferences") == ({"lang": "de"}, True)
    assert ctx.get_session_state("missing") == (None, False)


def test_the_key_of_a_scoped_session_names_its_user() -> None:
    """S3.11, S3.21."""
    key = SessionKey("shop", "ann", "s1")
    ctx = new_execution_context_with_session(None, key, "ann")
    assert (ctx.session_id, ctx.user_id, ctx.app_name, ctx.session) == ("s1", "ann", "shop", key)
    with pytest.raises(StorageValidationError, match="another user"):
        new_execution_context_with_session(None, key, "ben")


def test_a_context_without_a_session_has_a_state() -> None:
    """S3.12, T3.9: also one that was told to have none."""
    for ctx in (ExecutionContext(), ExecutionContext(session_state=None), new_execution_context_with_session(1, "s")):
        ctx.set_session_state("k", 1)
        assert ctx.get_session_state("k") == (1, True)
    ctx = ExecutionContext()
    ctx.session_state = None
    assert ctx.get_session_state("k") == (None, False)
    ctx.session_state = {"k": [1]}
    assert ctx.get_session_state("k") == ([1], True)
    with pytest.raises(SessionIdRequiredError):
        _ = ctx.session


def test_two_contexts_share_no_state() -> None:
    """S3.21: the same session id under two users, and under two apps."""
    contexts = [new_execution_context_with_session(None, "s1", user) for user in ("ann", "ben")]
    contexts += [new_execution_context_with_session(None, SessionKey(app, "ann", "s1")) for app in ("a", "b")]
    for number, ctx in enumerate(contexts):
        ctx.set_session_state("k", number)
        ctx.data["k"] = number
    assert [ctx.session_state["k"] for ctx in contexts] == [ctx.data["k"] for ctx in contexts] == [0, 1, 2, 3]


def test_a_state_given_is_used_and_mappings_given_are_not_kept() -> None:
    state, data = SessionState({"k": 1}), {"a": 1}
    ctx = ExecutionContext(data=data, session_state=state)
    ctx.set_session_state("k", 2)
    ctx.data["b"] = 2
    assert (state["k"], data) == (2, {"a": 1})


TYPED: list[tuple[Any, Any, Any]] = [
    (UserInfo("Ann", 3), UserInfo, UserInfo("Ann", 3)),
    ({"name": "Ann", "age": 3}, UserInfo, UserInfo("Ann", 3)),
    ({"name": "Ann", "age": 3}, Account, Account(name="Ann", age=3)),
    (Account(name="Ann", age=3), Account, Account(name="Ann", age=3)),
    ({"name": "Ann"}, Told, {"name": "Ann"}),
    ({"name": "Ann"}, dict, {"name": "Ann"}),
    ([1, 2], list[int], [1, 2]),
    ([{"name": "Ann", "age": 3}], list[Account], [Account(name="Ann", age=3)]),
    (None, int | None, None),
    (1, int, 1),
    (True, bool, True),
    (True, object, True),
    ("a", Any, "a"),
]


@pytest.mark.parametrize(("value", "wanted", "result"), TYPED)
def test_a_value_is_read_as_its_type(value: Any, wanted: Any, result: Any) -> None:
    """S3.22: a stored dict becomes a model."""
    ctx = ExecutionContext(session_state={"k": value})
    assert ctx.get_typed("k", wanted) == result


@pytest.mark.parametrize(
    ("value", "wanted", "expected", "found"),
    [
        ({"age": 3}, UserInfo, "UserInfo", "dict"),
        ({"name": "Ann", "age": "old"}, Account, "Account", "dict"),
        (Point(0, 0), UserInfo, "UserInfo", "Point"),
        ("Ann", UserInfo, "UserInfo", "str"),
        ("1", int, "int", "str"),
        (True, int, "int", "bool"),
        (1, float, "float", "int"),
        (["1"], list[int], "list[int]", "list"),
        ((1,), list, "list", "tuple"),
        ({"name": 1}, Told, "Told", "dict"),
        (None, str, "str", "NoneType"),
    ],
)
def test_a_value_of_another_type_is_an_error_with_key_and_types(
    value: Any, wanted: Any, expected: str, found: str
) -> None:
    """S3.22."""
    ctx = ExecutionContext(session_state={"user_info": value})
    with pytest.raises(StateTypeError, match="'user_info'") as refusal:
        ctx.get_typed("user_info", wanted)
    assert refusal.value.key == "user_info"
    assert (refusal.value.details["expected"], refusal.value.details["found"]) == (expected, found)
    assert f"is no {expected} but a {found}" in refusal.value.message


def test_the_fields_that_do_not_fit_are_named_without_their_values() -> None:
    """S3.22."""
    ctx = ExecutionContext(session_state={"k": {"name": "Ann", "age": "a secret"}})
    with pytest.raises(StateTypeError, match=r"\(age: ") as refusal:
        ctx.get_typed("k", Account)
    assert "secret" not in str(refusal.value)


def test_a_missing_key_is_a_key_error() -> None:
    """S3.22."""
    with pytest.raises(KeyError, match="user_info"):
        ExecutionContext().get_typed("user_info", UserInfo)
