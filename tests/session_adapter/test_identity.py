"""How sessions are named, and under which ids they are stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter import (
    AppNameRequiredError,
    InvalidSessionIdError,
    SessionAlreadyExistsError,
    SessionIdRequiredError,
    SessionKey,
    SessionNotFoundError,
    SessionStorageAdapter,
    UserIdRequiredError,
    UserKey,
    record_id,
)
from session_adapter.identity import app_scope, scope_of, user_scope, visible_id
from unified_storage import (
    IUnifiedStorage,
    StorageAlreadyExistsError,
    StorageError,
    StorageIntegrityError,
    StorageNotFoundError,
    StorageValidationError,
)
from unified_storage.errors import error_from_code

BAD_IDS = ["", " ", "\t", "a\0b", "line\n", "\x7f", "\ud800", "x" * 1001, "ä" * 501, 5, None, b"s1", ["s1"], 1.5, True]
IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40).filter(str.strip)


def digits(value: Any, count: int) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:count]


def test_a_plain_sessions_record_id_is_its_id() -> None:
    for plain in ("s1", "a:b/c", "../x", "é🥖", "{x}", "x" * 1000, "a~b"):
        assert record_id(plain) == plain
    assert record_id("~x") == "~~x"
    assert record_id("~~") == "~~~"


def test_a_scoped_sessions_record_id_is_made_of_digits() -> None:
    key = SessionKey("shop", "ann", "s1")
    scope = "~" + digits(["shop", "ann"], 24)
    assert record_id(key) == f"{scope}~{digits('s1', 40)}"
    assert user_scope(UserKey("shop", "ann")) == scope == scope_of(record_id(key)) == user_scope(key.user)
    assert app_scope("shop") == "~" + digits(["shop"], 24)
    assert scope_of("s1") is scope_of(record_id("~s1")) is None


def test_keys_are_values() -> None:
    assert SessionKey("a", "b", "c") == SessionKey("a", "b", "c") != SessionKey("a", "b", "d")
    assert len({SessionKey("a", "b", "c"), SessionKey("a", "b", "c"), UserKey("a", "b"), UserKey("a", "b")}) == 2
    with pytest.raises(AttributeError):
        SessionKey("a", "b", "c").app_name = "x"  # type: ignore[misc]


@given(st.tuples(IDS, IDS, IDS), st.tuples(IDS, IDS, IDS), IDS)
def test_different_names_have_different_records(one: Any, other: Any, plain: str) -> None:
    """S1.3: ids are opaque."""
    names: set[str | SessionKey] = {
        SessionKey(*one),
        SessionKey(*other),
        plain,
        "~" + plain,
        record_id(SessionKey(*one)),
    }
    assert len({record_id(name) for name in names}) == len(names)
    for name in names:
        metadata = {}
        if isinstance(name, SessionKey):
            metadata = {"app_name": name.app_name, "user_id": name.user_id, "session_id": name.session_id}
        assert visible_id({"id": record_id(name), "metadata": metadata}) == name
        assert visible_id({"id": record_id(name), "metadata": None, "data": metadata}) == name


def test_a_scoped_record_without_its_parts_is_damaged() -> None:
    stored = record_id(SessionKey("a", "b", "c"))
    for metadata in (None, {}, {"app_name": "a", "user_id": "b", "session_id": "x"}, {"app_name": 1}):
        with pytest.raises(StorageIntegrityError):
            visible_id({"id": stored, "metadata": metadata})


def test_each_part_of_a_key_may_have_255_characters_of_any_script() -> None:
    """S1.3: parts are hashed, so how many bytes they take does not matter."""
    wide, long = "\U0001f600" * 255, "x" * 1000
    for key in (SessionKey(wide, wide, wide), SessionKey(long, long, long), SessionKey("ä" * 500, "a", "ä" * 500)):
        assert record_id(key) == record_id(SessionKey(*map(str, (key.app_name, key.user_id, key.session_id))))
        parts = {"app_name": key.app_name, "user_id": key.user_id, "session_id": key.session_id}
        assert visible_id({"id": record_id(key), "metadata": parts}) == key
    for bad in ("\U0001f600" * 256, "x" * 1001, "ä" * 501):
        for key in (SessionKey(bad, "b", "c"), SessionKey("a", bad, "c"), SessionKey("a", "b", bad)):
            with pytest.raises(StorageValidationError):
                record_id(key)
    with pytest.raises(InvalidSessionIdError):
        record_id(wide)  # a plain one is the id of its record


def test_missing_parts_of_a_key_are_named() -> None:
    """S1.4."""
    for key, error in (
        (SessionKey("", "ann", "s1"), AppNameRequiredError),
        (SessionKey("shop", "", "s1"), UserIdRequiredError),
        (SessionKey("shop", "ann", ""), SessionIdRequiredError),
        (SessionKey("shop", "ann"), SessionIdRequiredError),
        (SessionKey(None, "ann", "s1"), AppNameRequiredError),  # type: ignore[arg-type]
        (SessionKey("shop", "ann", "\n"), InvalidSessionIdError),
        (SessionKey("shop", 5, "s1"), StorageValidationError),  # type: ignore[arg-type]
        (SessionKey("sh\0op", "ann", "s1"), StorageValidationError),
    ):
        with pytest.raises(error) as raised:
            record_id(key)
        assert isinstance(raised.value, StorageValidationError)
    with pytest.raises(AppNameRequiredError):
        app_scope("")


@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
async def test_every_method_refuses_what_cannot_name_a_session(sessions: SessionStorageAdapter, bad: Any) -> None:
    """S0.22."""
    calls: list[Any] = [
        sessions.save_session(bad, {}),
        sessions.get_session(bad),
        sessions.require_session(bad),
        sessions.delete_session(bad),
        sessions.session_exists(bad),
        sessions.update_session(bad, {}),
        sessions.session_keys(bad),
        sessions.events.read(bad),
        sessions.events.append(bad, {"role": "user"}),
        sessions.events.pop(bad),
        sessions.events.count(bad),
        sessions.runs.read(bad),
        sessions.runs.get(bad, "r1"),
        sessions.runs.append(bad, {}),
        sessions.runs.delete(bad, "r1"),
        sessions.batch_delete_sessions([bad]),
    ]
    if bad.__hash__ is not None:
        calls.append(sessions.batch_save_sessions({"s1": {}, bad: {}}))
    for call in calls:
        with pytest.raises(InvalidSessionIdError):
            await call
    assert await sessions.list_sessions() == []


def test_session_errors_are_storage_errors_and_say_which_session() -> None:
    """S0.21."""
    missing = SessionNotFoundError("no session 's1'", details={"session_id": "s1"})
    assert isinstance(missing, StorageNotFoundError)
    assert isinstance(SessionAlreadyExistsError("x", details={"session_id": "s1"}), StorageAlreadyExistsError)
    assert missing.session_id == SessionAlreadyExistsError("x", details={"session_id": "s1"}).session_id == "s1"
    for kind in (
        AppNameRequiredError,
        InvalidSessionIdError,
        SessionAlreadyExistsError,
        SessionIdRequiredError,
        SessionNotFoundError,
        UserIdRequiredError,
    ):
        assert type(error_from_code(kind.code)) is kind
        assert type(StorageError.from_dict(kind("x").to_dict())) is kind


async def test_a_scoped_session_is_none_of_the_plain_ones(storage: IUnifiedStorage) -> None:
    """S1.2: two apps, two users and the plain session of one id share nothing."""
    sessions = SessionStorageAdapter(storage)
    scoped = [SessionKey("shop", "ann", "s1"), SessionKey("shop", "bob", "s1"), SessionKey("bank", "ann", "s1")]
    names: list[str | SessionKey] = ["s1", *scoped]
    for number, name in enumerate(names):
        await sessions.save_session(name, {"settings": {"n": number}})
        await sessions.events.append(name, {"role": "user", "content": str(number)})
    for number, name in enumerate(names):
        found = await sessions.require_session(name)
        assert {key: value for key, value in found.items() if key != "metadata"} == {"settings": {"n": number}}
        assert [event["content"] for event in await sessions.events.read(name)] == [str(number)]
    assert await sessions.session_keys("s1") == ["s1", *sorted(scoped, key=record_id)]
    assert set(await sessions.session_keys("s1", "ann")) == {names[1], names[3]}
    assert await sessions.session_keys("s2") == []
    await sessions.delete_session(names[1])
    assert await sessions.session_keys("s1", "ann") == [names[3]]


async def test_the_parts_of_a_scoped_session_stand_in_its_record(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    key = SessionKey("shop", "ann", "s1")
    own = {"user_id": "somebody", "metadata": {"scope": "mine", "app_name": "other", "status": "active"}}
    await sessions.save_session(key, own)
    record = await storage.load(record_id(key))
    assert record is not None
    parts = {"app_name": "shop", "user_id": "somebody", "session_id": "s1"}
    assert record["data"] == own | parts
    metadata = {name: value for name, value in record["metadata"].items() if name != "~"}
    assert metadata == {
        "app_name": "shop",
        "user_id": "ann",
        "session_id": "s1",
        "scope": scope_of(record["id"]),
        "status": "active",
    }
    found = await sessions.require_session(key)
    assert found.keys() == own.keys()
    assert [page["key"] for page in (await sessions.page_sessions({"user_id": "ann"})).items] == [key]
    await sessions.update_session(key, {"app_name": "mine now"})
    assert (await sessions.require_session(key))["app_name"] == "mine now"
    assert (await sessions.session_keys("s1")) == [key]


async def test_a_plain_session_has_no_scope(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("~odd", {"metadata": {"scope": "mine", "session_id": "other"}})
    record = await storage.load("~~odd")
    assert record is not None
    assert record["session_id"] == "~~odd"
    assert "scope" not in record["metadata"]
    assert record["metadata"]["session_id"] == "~odd"
    assert await sessions.session_keys("~odd") == ["~odd"]
