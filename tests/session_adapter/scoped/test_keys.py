"""S1.4: a key that lacks a part is refused by every method that takes one, before anything is read or written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from session_adapter import (
    AppNameRequiredError,
    InvalidSessionIdError,
    ScopedSessionService,
    SessionIdRequiredError,
    SessionKey,
    UserIdRequiredError,
    UserKey,
)
from tests.session_adapter.delegates import Spy
from unified_storage import StorageValidationError, open_storage

EVENT = {"role": "user", "content": "x"}
Method = Callable[[ScopedSessionService, Any], Awaitable[object]]

WITH_SESSION: dict[str, Method] = {
    "create_session": lambda service, key: service.create_session(key, {"a": 1}),
    "get_session": lambda service, key: service.get_session(key),
    "delete_session": lambda service, key: service.delete_session(key),
    "append_event": lambda service, key: service.append_event(key, EVENT),
    "append_event with a delta": lambda service, key: service.append_event(key, EVENT | {"state_delta": {"app:a": 1}}),
    "update_session_state": lambda service, key: service.update_session_state(key, {"a": 1}),
}
WITH_USER: dict[str, Method] = {
    "list_sessions": lambda service, key: service.list_sessions(key),
    "update_user_state": lambda service, key: service.update_user_state(key, {"a": 1}),
    "list_user_states": lambda service, key: service.list_user_states(key),
    "delete_user_state": lambda service, key: service.delete_user_state(key, "a"),
}
WITH_APP: dict[str, Method] = {
    "update_app_state": lambda service, app: service.update_app_state(app, {"a": 1}),
    "list_app_states": lambda service, app: service.list_app_states(app),
    "delete_app_state": lambda service, app: service.delete_app_state(app, "a"),
}
NO_PART: list[Any] = ["", None]


async def refused(method: Method, key: Any, error: type[StorageValidationError]) -> None:
    spy = Spy(open_storage("memory://"))
    with pytest.raises(error) as failure:
        await method(ScopedSessionService(spy), key)
    assert isinstance(failure.value, StorageValidationError)
    assert spy.verbs == []


@pytest.mark.parametrize("no", NO_PART)
@pytest.mark.parametrize("method", WITH_SESSION.values(), ids=WITH_SESSION)
async def test_a_session_key_without_its_app(method: Method, no: Any) -> None:
    await refused(method, SessionKey(no, "ann", "s1"), AppNameRequiredError)


@pytest.mark.parametrize("no", NO_PART)
@pytest.mark.parametrize("method", WITH_SESSION.values(), ids=WITH_SESSION)
async def test_a_session_key_without_its_user(method: Method, no: Any) -> None:
    await refused(method, SessionKey("shop", no, "s1"), UserIdRequiredError)


@pytest.mark.parametrize("no", NO_PART)
@pytest.mark.parametrize("name", [name for name in WITH_SESSION if name != "create_session"])
async def test_a_session_key_without_its_session(name: str, no: Any) -> None:
    await refused(WITH_SESSION[name], SessionKey("shop", "ann", no), SessionIdRequiredError)


@pytest.mark.parametrize("no", NO_PART)
@pytest.mark.parametrize("method", WITH_USER.values(), ids=WITH_USER)
async def test_a_user_key_without_its_app(method: Method, no: Any) -> None:
    await refused(method, UserKey(no, "ann"), AppNameRequiredError)


@pytest.mark.parametrize("no", NO_PART)
@pytest.mark.parametrize("method", WITH_USER.values(), ids=WITH_USER)
async def test_a_user_key_without_its_user(method: Method, no: Any) -> None:
    await refused(method, UserKey("shop", no), UserIdRequiredError)


@pytest.mark.parametrize("no", NO_PART)
@pytest.mark.parametrize("method", WITH_APP.values(), ids=WITH_APP)
async def test_no_app(method: Method, no: Any) -> None:
    await refused(method, no, AppNameRequiredError)


@pytest.mark.parametrize("key", ["s1", UserKey("shop", "ann"), ("shop", "ann", "s1"), None])
@pytest.mark.parametrize("method", WITH_SESSION.values(), ids=WITH_SESSION)
async def test_what_is_no_session_key(method: Method, key: Any) -> None:
    await refused(method, key, StorageValidationError)


@pytest.mark.parametrize("key", ["ann", SessionKey("shop", "ann", "s1"), ("shop", "ann"), None])
@pytest.mark.parametrize("method", WITH_USER.values(), ids=WITH_USER)
async def test_what_is_no_user_key(method: Method, key: Any) -> None:
    await refused(method, key, StorageValidationError)


@pytest.mark.parametrize("part", ["\0", "a\nb", "\ud800", "x" * 1001, 5, b"a"])
@pytest.mark.parametrize("method", WITH_SESSION.values(), ids=WITH_SESSION)
async def test_parts_that_no_key_can_have(method: Method, part: Any) -> None:
    await refused(method, SessionKey("shop", "ann", part), InvalidSessionIdError)
    await refused(method, SessionKey("shop", part, "s1"), StorageValidationError)
    await refused(method, SessionKey(part, "ann", "s1"), StorageValidationError)
