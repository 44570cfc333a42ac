"""Scoped sessions: created, read, listed and deleted, each level where it belongs. The names say which requirement."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from session_adapter import (
    Event,
    ScopedSessionService,
    SessionAlreadyExistsError,
    SessionKey,
    SessionNotFoundError,
    SessionRepository,
    SessionStorageAdapter,
    UserKey,
    record_id,
)
from session_adapter.identity import user_scope
from session_adapter.states import place_of_app, place_of_user, state_record
from unified_storage import DELETE, IUnifiedStorage, StorageConflictError, StorageValidationError
from unified_storage.testing.clock import NOON, ManualClock

KEY = SessionKey("shop", "ann", "s1")
LONG = "x" * 255
WIDE = "\U0001f600" * 255
ODD = [
    "a:b",
    "a",
    "b:c",
    "b",
    "c",
    "a/b",
    "{a}",
    "}{",
    " a ",
    "\U0001f600",
    LONG,
    LONG[:-1] + "y",
    WIDE,
    WIDE[:-1] + "y",
    "a::",
    ":a",
    "~a",
    "%3A",
]


def said(number: int, **fields: Any) -> Event:
    return Event(role="user", content=f"m{number}", **fields)


async def appended(service: ScopedSessionService, count: int, key: SessionKey = KEY) -> None:
    for number in range(count):
        await service.append_event(key, said(number))


async def read(service: ScopedSessionService, key: SessionKey = KEY, **window: Any) -> Any:
    session = await service.get_session(key, **window)
    assert session is not None
    return session


def contents(session: Any) -> list[Any]:
    return [event.content for event in session.events]


async def test_each_session_sees_its_own_level_that_of_its_user_and_that_of_the_app(service) -> None:
    """S1.1."""
    keys = [SessionKey("shop", user, name) for user in ("ann", "bob") for name in ("s1", "s2")]
    for key in keys:
        await service.create_session(key, {"mine": f"{key.user_id}/{key.session_id}"})
    await service.update_app_state("shop", {"motd": "hello"})
    for user in ("ann", "bob"):
        await service.update_user_state(UserKey("shop", user), {"name": user.title()})
    for key in keys:
        assert (await read(service, key)).state == {
            "mine": f"{key.user_id}/{key.session_id}",
            "app:motd": "hello",
            "user:name": key.user_id.title(),
        }


async def test_two_apps_share_nothing(service) -> None:
    """S1.2: the same user and session ids under two apps."""
    one, other = SessionKey("one", "ann", "s1"), SessionKey("other", "ann", "s1")
    await service.create_session(one, {"n": 1, "user:u": 1, "app:a": 1})
    assert await service.get_session(other) is None
    assert (await service.list_sessions(other.user)).items == []
    await service.create_session(other)
    await service.append_event(one, said(1))
    assert (await read(service, other)).model_dump(include={"state", "events"}) == {}
    await service.delete_session(other)
    found = await read(service, one)
    assert found.state == {"n": 1, "user:u": 1, "app:a": 1}
    assert contents(found) == ["m1"]


async def test_ids_are_opaque_and_never_meet(service) -> None:
    """S1.3, T1.1."""
    keys = [SessionKey("app", user, session) for user, session in itertools.product(ODD, repeat=2)][::5]
    keys += [SessionKey("a:b", "c", "s"), SessionKey("a", "b:c", "s"), SessionKey("a", "b", "c:s")]
    for number, key in enumerate(keys):
        await service.create_session(key, {"n": number})
        await service.append_event(key, said(number))
    for number, key in enumerate(keys):
        found = await read(service, key)
        assert (found.state, contents(found)) == ({"n": number}, [f"m{number}"])
        assert found.key == key
    for user in {key.user for key in keys}:
        page = await service.list_sessions(user)
        assert {item.key for item in page.items} == {key for key in keys if key.user == user}


async def test_a_session_without_an_id_gets_a_uuid(service) -> None:
    """S1.5."""
    made = [await service.create_session(SessionKey("shop", "ann"), {"n": n}) for n in range(2)]
    assert [UUID(session.session_id).version for session in made] == [4, 4]
    assert made[0].session_id != made[1].session_id
    assert (await read(service, SessionKey("shop", "ann", made[1].session_id))).state == {"n": 1}


async def test_a_session_that_exists_is_not_created_again(service) -> None:
    """S1.6, T1.5; nothing on any level changes then."""
    await service.create_session(KEY, {"n": 1})
    with pytest.raises(SessionAlreadyExistsError) as refused:
        await service.create_session(KEY, {"n": 2})
    assert refused.value.session_id == "s1"
    with pytest.raises(SessionAlreadyExistsError):
        await service.create_session(KEY, {"n": 2, "user:u": 2, "app:a": 2})
    assert (await read(service)).state == {"n": 1}
    await service.delete_session(KEY)
    assert (await service.create_session(KEY)).state == {}


VALUES = {
    "bytes": b"zh-CN",
    "raw": b"\x00\xff",
    "nested": {"a": [1, {"b": None, "c": [True, -0.0, "\x00"]}], "": {"$type": "bytes"}, "d.e": {"$set": 1}},
    "big": 10**400,
    "text": "\U0001f600 ~ app:x",
    "none": None,
    "list": [[], {}, [b"\x00"]],
}


@pytest.mark.parametrize("level", ["", "user:", "app:"])
async def test_values_come_back_as_they_went_in(service, level: str) -> None:
    """S1.7, T1.6."""
    state = {f"{level}{key}": value for key, value in VALUES.items()}
    await service.create_session(KEY, state)
    assert repr((await read(service)).state) == repr(state)
    await service.append_event(KEY, {"role": "user", "state_delta": {f"{level}again": VALUES}})
    found = await read(service)
    assert repr(found.state[f"{level}again"]) == repr(VALUES)
    assert repr(found.events[0].state_delta) == repr({f"{level}again": VALUES})
    await service.update_session_state(KEY, {f"{level}nested": {"new": b"\x01"}})
    assert (await read(service)).state[f"{level}nested"] == {"new": b"\x01"}  # replaced, not merged into


async def test_a_session_that_is_not_there_is_none_and_a_failure_is_an_error(service, storage) -> None:
    """S1.8, T1.4."""
    assert await service.get_session(KEY) is None
    assert (await service.list_sessions(KEY.user)).items == []
    await storage.close()
    with pytest.raises(Exception, match="closed"):
        await service.get_session(KEY)
    with pytest.raises(Exception, match="closed"):
        await service.list_sessions(KEY.user)


async def test_states_are_merged_when_read_and_never_written_into_the_session(service, storage) -> None:
    """S1.9, T1.9."""
    await service.create_session(KEY, {"mine": 1, "app:motd": "old", "user:lang": "de"})
    await service.update_app_state("shop", {"motd": "new"})
    await service.append_event(KEY, said(1, state_delta={"mine": 2, "user:lang": "fr"}))
    assert (await read(service)).state == {"mine": 2, "app:motd": "new", "user:lang": "fr"}
    assert (await storage.load(record_id(KEY), type="session"))["data"]["state"] == {"mine": 2}
    assert (await storage.load(user_scope(KEY.user), type="user_state"))["data"] == {
        "app_name": "shop",
        "user_id": "ann",
        "state": {"lang": "fr"},
    }


@pytest.mark.parametrize("count", [0, 1, 5, 7, 8])
async def test_the_newest_events_oldest_first(service, count: int) -> None:
    """S1.10."""
    await service.create_session(KEY)
    await appended(service, 7)
    assert contents(await read(service, event_num=count)) == [f"m{n}" for n in range(7)][7 - min(count, 7) :]


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "1"])
async def test_a_wrong_number_of_events_is_refused(wrong: Any) -> None:
    """S1.10."""
    with pytest.raises(StorageValidationError):
        await ScopedSessionService().get_session(KEY, event_num=wrong)


async def test_events_since_a_time_and_then_the_newest_of_them(service) -> None:
    """S1.11, S1.12: the boundary is included, and the time goes first."""
    await service.create_session(KEY)
    hours = [5, 1, 2, 3, 2, 4]
    for number, hour in enumerate(hours):
        await service.append_event(KEY, said(number, timestamp=NOON + timedelta(hours=hour)))
    since = NOON + timedelta(hours=2)
    assert contents(await read(service, event_time=since)) == ["m0", "m2", "m3", "m4", "m5"]
    assert contents(await read(service, event_time=since + timedelta(microseconds=1))) == ["m0", "m3", "m5"]
    assert contents(await read(service, event_time=since, event_num=2)) == ["m4", "m5"]
    assert contents(await read(service, event_time=NOON + timedelta(days=1), event_num=2)) == []
    assert contents(await read(service, event_time=since, event_num=0)) == []


async def test_a_time_without_an_offset_is_refused() -> None:
    """S1.11."""
    for wrong in (datetime(2024, 5, 15), "2024-05-15T00:00:00+00:00"):
        with pytest.raises(StorageValidationError):
            await ScopedSessionService().get_session(KEY, event_time=wrong)  # type: ignore[arg-type]


async def test_deleting_takes_the_events_along_and_is_no_error_when_there_is_nothing(service, storage) -> None:
    """S1.13."""
    await service.create_session(KEY)
    await appended(service, 3)
    await storage.append(f"track:plan/{record_id(KEY)}", [{"body": 1}])
    await storage.save({"id": "c1", "type": "checkpoint", "data": {}, "session_id": record_id(KEY)})
    await service.delete_session(KEY)
    await service.delete_session(KEY)
    assert await service.get_session(KEY) is None
    assert [log async for batch in storage.logs() for log in batch] == []
    assert not await storage.exists("c1", type="checkpoint")
    await service.create_session(KEY)
    assert contents(await read(service)) == []


async def test_nothing_of_a_user_is_left_with_the_last_session_but_the_users_state(service, storage) -> None:
    """S1.14."""
    other = SessionKey("shop", "ann", "s2")
    await service.create_session(KEY, {"user:lang": "de"})
    await service.create_session(other)
    await service.delete_session(KEY)
    assert [item.key for item in (await service.list_sessions(KEY.user)).items] == [other]
    await service.delete_session(other)
    assert [record["type"] for record in await storage.list()] == ["user_state"]
    assert await service.list_user_states(KEY.user) == {"lang": "de"}


async def test_sessions_are_listed_newest_first_in_pages(service, clock: ManualClock) -> None:
    """S1.15: without events but where they are asked for; other users' are not among them."""
    for number in range(9):
        clock.advance(seconds=number % 3)  # some at the same moment
        await service.create_session(SessionKey("shop", "ann", f"s{number}"), {"n": number, "user:u": number})
        await service.create_session(SessionKey("shop", "bob", f"s{number}"))
    clock.advance(seconds=1)
    await service.append_event(SessionKey("shop", "ann", "s4"), said(4))
    await service.update_app_state("shop", {"a": 1})
    everything = (await service.list_sessions(UserKey("shop", "ann"))).items
    assert everything[0].session_id == "s4"
    order = [(session.updated_at, record_id(session.key)) for session in everything]
    assert order == sorted(order, key=lambda each: (-each[0].timestamp(), each[1]))
    assert all(session.events == [] for session in everything)
    assert [session.state for session in everything] == [
        {"n": int(session.session_id[1:]), "user:u": 8, "app:a": 1} for session in everything
    ]
    paged, cursor = [], None
    while True:
        page = await service.list_sessions(UserKey("shop", "ann"), limit=4, cursor=cursor)
        paged += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == 4
    assert paged == everything
    with_events = (await service.list_sessions(UserKey("shop", "ann"), with_events=True)).items
    assert [contents(session) for session in with_events] == [["m4"]] + [[]] * 8


async def test_states_of_app_and_user_change_key_by_key(service) -> None:
    """S1.16: with or without the prefix, and the app and the user begin with it."""
    assert await service.list_app_states("shop") == {}
    await service.update_app_state("shop", {"a": {"x": 1}, "app:b": 2, "temp:t": 3})
    await service.update_app_state("shop", {"a": {"y": 1}, "c": None})
    assert await service.list_app_states("shop") == {"a": {"y": 1}, "b": 2, "c": None}
    await service.update_app_state("shop", {"a": DELETE, "app:nothing": DELETE})
    await service.delete_app_state("shop", "app:b")
    await service.delete_app_state("shop", "nothing")
    await service.delete_app_state("nobody", "a")
    assert await service.list_app_states("shop") == {"c": None}
    assert await service.list_app_states("nobody") == {}
    user = UserKey("shop", "ann")
    await service.update_user_state(user, {"user:a": 1, "b": 2, "gone": DELETE})
    await service.update_user_state(user, {})
    await service.delete_user_state(user, "a")
    assert await service.list_user_states(user) == {"b": 2}
    await service.delete_user_state(user, "user:b")
    assert await service.list_user_states(user) == {}
    assert await service.list_user_states(UserKey("shop", "bob")) == {}


async def test_a_state_of_one_level_refuses_keys_of_another() -> None:
    """S1.16."""
    service: Any = ScopedSessionService()
    user = UserKey("shop", "ann")
    for refused in (
        service.update_app_state("shop", {"user:a": 1}),
        service.update_user_state(user, {"app:a": 1}),
        service.update_app_state("shop", {"a": 1, "app:a": 2}),
        service.update_app_state("shop", {1: 1}),
        service.update_app_state("shop", [("a", 1)]),
        service.delete_app_state("shop", "user:a"),
        service.delete_user_state(user, None),
        service.create_session(KEY, "state"),
        service.create_session(KEY, {None: 1}),
        service.update_app_state("shop", {"a": {"b": DELETE}}),
        service.update_app_state("shop", {"a": object()}),
    ):
        with pytest.raises(StorageValidationError):
            await refused
    assert await service.list_app_states("shop") == {}


async def test_an_event_its_delta_and_the_time_are_one_step(service, storage, clock: ManualClock) -> None:
    """S1.17: on all levels, and a key that is not known to them is left alone."""
    await service.create_session(KEY, {"cart": ["tea"], "keep": 1, "old": 1, "user:n": 1, "app:n": 1})
    before = (await read(service)).updated_at
    clock.advance(seconds=1)
    delta = {"cart": ["milk"], "old": DELETE, "user:n": 2, "user:m": 1, "app:n": DELETE, "temp:t": 1}
    assert await service.append_event(KEY, Event(id="e1", role="user", content="Milk", state_delta=delta)) == 1
    found = await read(service)
    assert found.state == {"cart": ["milk"], "keep": 1, "user:n": 2, "user:m": 1}
    assert found.updated_at > before
    assert found.events[0].state_delta == {"cart": ["milk"], "user:n": 2, "user:m": 1}
    assert found.events[0].model_extra == {"state_deleted": ["old", "app:n"]}
    assert found.updated_at == (await storage.load(record_id(KEY), type="session"))["updated_at"]


async def test_an_event_read_from_one_session_does_the_same_in_another(service) -> None:
    """S1.17: what it deleted is told in a form that every history can hold."""
    other = SessionKey("shop", "ann", "s2")
    for key in (KEY, other):
        await service.create_session(key, {"old": 1, "cart": []})
    await service.append_event(KEY, said(1, state_delta={"old": DELETE, "cart": ["tea"]}))
    await service.append_event(other, (await read(service)).events[0])
    assert (await read(service, other)).state == {"cart": ["tea"]}


@pytest.mark.parametrize("prefix", ["", "user:", "app:"])
async def test_an_event_that_is_known_changes_nothing_again(service, prefix: str) -> None:
    """S1.17: also with another delta, also without one, also where the session has moved on."""
    await service.create_session(KEY)
    first = said(1, id="e1", state_delta={f"{prefix}n": 1})
    assert await service.append_event(KEY, first) == 1
    await service.append_event(KEY, said(2, id="e2", state_delta={f"{prefix}n": 2}))
    version = (await service.storage.load(record_id(KEY), type="session"))["version"]
    assert await service.append_event(KEY, first) == 1
    assert await service.append_event(KEY, first, expected_version=1) == 1
    assert await service.append_event(KEY, said(3, id="e1", state_delta={f"{prefix}m": 3})) == 1
    assert await service.append_event(KEY, said(3, id="e1")) == 1
    found = await read(service)
    assert found.state == {f"{prefix}n": 2}
    assert contents(found) == ["m1", "m2"]
    assert (await service.storage.load(record_id(KEY), type="session"))["version"] == version


@pytest.mark.parametrize("delta", [{}, {"a": 1}, {"user:a": 1}, {"app:a": 1}, {"a": 1, "user:a": 1, "app:a": 1}])
async def test_an_event_for_no_session_changes_nothing(service, delta: dict[str, Any]) -> None:
    with pytest.raises(SessionNotFoundError) as missing:
        await service.append_event(KEY, said(1, state_delta=delta))
    assert missing.value.session_id == "s1"
    with pytest.raises(SessionNotFoundError):
        await service.update_session_state(KEY, delta)
    assert await service.list_app_states("shop") == {}
    assert await service.list_user_states(KEY.user) == {}


@pytest.mark.parametrize("delta", [{}, {"a": 1}, {"a": 1, "user:a": 1, "app:a": 1}])
async def test_an_expected_version_that_has_passed_changes_nothing(service, delta: dict[str, Any]) -> None:
    await service.create_session(KEY)
    await appended(service, 1)
    with pytest.raises(StorageConflictError) as passed:
        await service.append_event(KEY, said(2, state_delta=delta), expected_version=1)
    assert (passed.value.expected, passed.value.found) == (1, 2)
    assert not passed.value.retryable
    found = await read(service)
    assert (found.state, contents(found)) == ({}, ["m0"])
    assert await service.append_event(KEY, said(2, state_delta=delta), expected_version=2) == 2
    assert (await read(service)).state == delta


async def test_a_delta_that_cannot_be_stored_leaves_no_event(service) -> None:
    await service.create_session(KEY)
    for delta in ({"a": object()}, {"user:a": {"b": DELETE}}, {"app:a": {1: 2}}, [1], "text"):
        with pytest.raises(StorageValidationError):
            await service.append_event(KEY, {"role": "user", "state_delta": delta})
    for event in ({"content": "no role"}, "text", None, {"role": "user", "state_deleted": "text"}):
        with pytest.raises(StorageValidationError):
            await service.append_event(KEY, event)
    found = await read(service)
    assert (found.state, found.events) == ({}, [])


@pytest.mark.parametrize("delta", [False, True])
async def test_only_the_newest_entries_stay(storage, delta: bool) -> None:
    """S1.18, S1.24: exactly the limit, and the numbers go on."""
    service = ScopedSessionService(storage, session_event_limit=20)
    await service.create_session(KEY)
    for number in range(70):
        assert await service.append_event(KEY, said(number, state_delta={"n": number} if delta else {})) == number + 1
        if number in (19, 20):
            assert len((await read(service)).events) == 20
    found = await read(service)
    assert contents(found) == [f"m{number}" for number in range(50, 70)]
    assert [event.seq for event in found.events] == [*range(51, 71)]
    assert found.state == ({"n": 69} if delta else {})


async def test_two_equal_events_at_the_same_moment_are_two(service) -> None:
    """T1.3."""
    await service.create_session(KEY)
    for _ in range(3):
        await service.append_event(KEY, said(1, timestamp=datetime(2024, 1, 1, tzinfo=UTC)))
    assert contents(await read(service)) == ["m1"] * 3


async def test_what_one_view_writes_the_others_read(service, storage) -> None:
    """One stored session: the dict view keeps what the scoped one wrote, and the other way round."""
    sessions = SessionStorageAdapter(storage)
    await service.create_session(KEY, {"n": 1, "app:a": 1})
    await service.append_event(KEY, said(1, state_delta={"n": 2}))
    document = await sessions.require_session(KEY)
    assert document["state"] == {"n": 2}
    assert {name: document[name] for name in ("app_name", "user_id", "session_id")} == {
        "app_name": "shop",
        "user_id": "ann",
        "session_id": "s1",
    }
    await sessions.save_session(KEY, document | {"name": "Tea"})
    await sessions.update_session(KEY, {"state": {"m": 3}})
    await sessions.events.append(KEY, {"role": "assistant", "content": "Yes"})
    found = await read(service)
    assert (found.name, found.state, contents(found)) == ("Tea", {"n": 2, "m": 3, "app:a": 1}, ["m1", "Yes"])
    assert [page["key"] for page in (await sessions.page_sessions({"user_id": "ann"})).items] == [KEY]


async def test_what_is_shown_of_other_levels_is_not_written_back_by_other_views(service, storage) -> None:
    """T1.9: a typed session that is changed and stored again keeps its own keys alone."""
    await service.create_session(KEY, {"mine": 1, "app:a": 1, "user:u": 1})
    session = await read(service)
    session.state["mine"] = 2
    session.name = "Tea"
    await SessionRepository(storage).update(session)
    assert (await storage.load(record_id(KEY), type="session"))["data"]["state"] == {"mine": 2}
    await service.update_app_state("shop", {"a": 2})
    found = await read(service)
    assert (found.name, found.state) == ("Tea", {"mine": 2, "app:a": 2, "user:u": 1})


async def test_a_window_can_be_cut_at_a_turn(service) -> None:
    """T1.7: exactly so many events, or so many more that no result stands without its call."""
    await service.create_session(KEY)
    call = [{"id": "c1", "type": "function", "function": {"name": "stock", "arguments": "{}"}}]
    for event in (
        Event(role="user", content="Is there tea?"),
        Event(role="assistant", tool_calls=call, state_delta={"asked": True}),
        Event(role="tool", tool_call_id="c1", content="12"),
        Event(role="assistant", content="Yes, 12."),
    ):
        await service.append_event(KEY, event)
    assert [event.role for event in (await read(service, event_num=2)).events] == ["tool", "assistant"]
    found = await read(service, event_num=2, turn_safe=True)
    assert [event.role for event in found.events] == ["user", "assistant", "tool", "assistant"]
    assert found.state == {"asked": True}
    assert (await read(service, event_num=0, turn_safe=True)).events == []


async def test_an_event_of_a_run_and_its_delta_are_one_step(service, storage) -> None:
    sessions = SessionStorageAdapter(storage)
    await service.create_session(KEY)
    await service.append_event(KEY, said(1, run_id="r1", id="e1", state_delta={"n": 1}))
    await service.append_event(KEY, said(2, run_id="r1", state_delta={"user:n": 2}))
    assert await service.append_event(KEY, said(1, run_id="r1", id="e1", state_delta={"n": 3})) == 1
    assert (await read(service)).state == {"n": 1, "user:n": 2}
    assert [run["run_id"] for run in await sessions.runs.read(KEY)] == ["r1"]
    whole = {"run_id": "r1", "messages": [{"role": "user", "content": "m1", "id": "e1"}]}
    await sessions.runs.append(KEY, whole | {"run_id": "r2"})
    assert len((await read(service)).events) == 3


async def test_what_a_writer_left_in_a_wrong_type_does_not_hide_the_session(service, storage) -> None:
    await service.create_session(KEY, {"n": 1})
    odd = {"role": "user", "content": "x", "name": 5, "tool_calls": "none", "usage": [1], "mine": {"a": 1}}
    await SessionStorageAdapter(storage).events.append(KEY, odd)
    await storage.append(f"history/{record_id(KEY)}", [{"body": {"role": 5, "content": "y", "state_delta": [1]}}])
    first, second = (await read(service)).events
    assert (first.content, first.name, first.tool_calls, first.usage) == ("x", None, None, None)
    assert first.model_extra == {"mine": {"a": 1}}
    assert (second.role, second.content, second.state_delta) == ("unknown", "y", {})


async def test_the_state_of_an_older_document_is_where_its_format_keeps_it(service, storage) -> None:
    sessions = SessionStorageAdapter(storage)
    messages = [{"type": "HumanMessage", "content": "Hi", "additional_kwargs": {}}]
    older = {"metadata": {"session_id": "s1"}, "workflow_state": {"messages": messages, "step": 1}, "settings": {}}
    await sessions.save_session(KEY, older)
    await service.append_event(KEY, said(1, state_delta={"step": 2, "app:a": 1}))
    await service.update_session_state(KEY, {"more": True})
    found = await read(service)
    assert found.state == {"step": 2, "more": True, "app:a": 1}
    assert contents(found) == ["Hi", "m1"]
    document = await sessions.require_session(KEY)
    assert document["workflow_state"]["step"] == 2
    assert [message["content"] for message in document["workflow_state"]["messages"]] == ["Hi", "m1"]
    for change in (
        service.update_session_state(KEY, {"messages": []}),
        service.append_event(KEY, said(2, state_delta={"messages": []})),
    ):
        with pytest.raises(StorageValidationError, match="history"):
            await change
    assert len((await read(service)).events) == 2


async def test_a_state_that_is_no_object_is_not_written_over(service, storage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session(KEY, {"session_id": "s1", "state": [1]})
    with pytest.raises(StorageValidationError, match="no object"):
        await service.update_session_state(KEY, {"n": 1})
    with pytest.raises(StorageValidationError, match="no object"):
        await service.append_event(KEY, said(1, state_delta={"n": 1}))
    assert (await sessions.require_session(KEY))["state"] == [1]
    assert (await read(service)).state == {}
    await sessions.save_session(KEY, {"session_id": "s1", "state": None})
    await service.update_session_state(KEY, {"n": 1})
    assert (await read(service)).state == {"n": 1}


async def test_what_the_caller_keeps_changes_nothing_and_what_he_gets_is_his(service) -> None:
    """S0.23 for scoped sessions."""
    state: dict[str, Any] = {"a": {"b": [1]}, "user:u": [1], "app:p": {"q": [1]}}
    await service.create_session(KEY, state)
    state["a"]["b"].append(2)
    found = await read(service)
    found.state["a"]["b"].append(3)
    found.state["user:u"].append(3)
    found.state["app:p"]["q"].append(3)
    found.state["new"] = 1
    delta: dict[str, Any] = {"c": [1], "user:d": [1]}
    await service.append_event(KEY, {"role": "user", "content": [{"text": "x"}], "state_delta": delta})
    delta["c"].append(2)
    again = await read(service)
    assert again.state == {"a": {"b": [1]}, "c": [1], "user:u": [1], "user:d": [1], "app:p": {"q": [1]}}
    again.events[0].content[0]["text"] = "y"
    assert (await read(service)).events[0].content == [{"text": "x"}]


async def test_what_the_caller_changes_while_he_waits_changes_nothing(service) -> None:
    def given() -> dict[str, Any]:
        return {"mine": [1], "user:theirs": [1]}

    state = given()
    event: dict[str, Any] = {"role": "user", "content": ["x"], "state_delta": given()}
    creating = asyncio.create_task(service.create_session(KEY, state))
    await asyncio.sleep(0)
    for value in state.values():
        value.append("late")
    await creating
    assert (await read(service)).state == given()
    appending = asyncio.create_task(service.append_event(KEY, event))
    await asyncio.sleep(0)
    for value in (*event["state_delta"].values(), event["content"]):
        value.append("late")
    await appending
    found = await read(service)
    assert found.state == found.events[0].state_delta == given()
    assert contents(found) == [["x"]]


async def test_several_changes_and_a_session_join_a_transaction(service, storage: IUnifiedStorage) -> None:
    async with storage.transaction() as tx:
        inside = ScopedSessionService(tx)
        await inside.create_session(KEY, {"n": 1, "user:u": 1})
        await inside.append_event(KEY, said(1, state_delta={"n": 2}))
        assert (await read(inside)).state == {"n": 2, "user:u": 1}
        assert contents(await read(inside)) == ["m1"]
    assert (await read(service)).state == {"n": 2, "user:u": 1}
    with pytest.raises(ZeroDivisionError):
        async with storage.transaction() as tx:
            await ScopedSessionService(tx).append_event(KEY, said(2, state_delta={"n": 3, "user:u": 3}))
            raise ZeroDivisionError
    found = await read(service)
    assert (found.state, contents(found)) == ({"n": 2, "user:u": 1}, ["m1"])


@pytest.mark.parametrize("key", ["app:user:x", "app:app:x", "app:temp:x", "user:app:x", "user:user:x", "user:temp:x"])
async def test_a_key_with_two_prefixes_is_refused(service, key: str) -> None:
    """Without the first it would be shown as another level's, and could not be handed in again."""
    await service.create_session(KEY, {"n": 1})
    calls = [
        (service.create_session(SessionKey("shop", "ann", "s2"), {key: 1}), "state"),
        (service.update_session_state(KEY, {"n": 2, key: 1}), "state"),
        (service.append_event(KEY, {"role": "user", "state_delta": {"n": 2, key: 1}}), "event.state_delta"),
        (
            service.update_app_state("shop", {key: 1})
            if key.startswith("app:")
            else service.update_user_state(KEY.user, {key: 1}),
            "state",
        ),
    ]
    for call, path in calls:
        with pytest.raises(StorageValidationError) as refused:
            await call
        assert refused.value.path == f"{path}.{key}"
    assert (await read(service)).state == {"n": 1}
    assert await service.list_app_states("shop") == await service.list_user_states(KEY.user) == {}


async def test_keys_with_two_prefixes_that_are_there_can_be_deleted(service, storage: IUnifiedStorage) -> None:
    """Such as an earlier version stored."""
    for place in (place_of_app("shop"), place_of_user(KEY.user)):
        await storage.save(state_record(place, {"user:x": 1, "app:x": 2, "y": 3}))
    await service.delete_app_state("shop", "app:user:x")
    await service.update_app_state("shop", {"app:app:x": DELETE})
    await service.delete_user_state(KEY.user, "user:user:x")
    await service.create_session(KEY, {"user:app:x": DELETE})
    assert await service.list_app_states("shop") == await service.list_user_states(KEY.user) == {"y": 3}


async def test_what_is_listed_of_a_level_can_be_handed_in_again(service) -> None:
    await service.update_app_state("shop", {"a": 1, "app:b": {"x": 1}, "": 2, "x:y": 3})
    await service.update_user_state(KEY.user, {"a": 1, "user:b": [1]})
    app, user = await service.list_app_states("shop"), await service.list_user_states(KEY.user)
    assert (app, user) == ({"a": 1, "b": {"x": 1}, "": 2, "x:y": 3}, {"a": 1, "b": [1]})
    await service.update_app_state("shop", app)
    await service.update_user_state(KEY.user, user)
    assert (await service.list_app_states("shop"), await service.list_user_states(KEY.user)) == (app, user)


@pytest.mark.parametrize("key", ["a", "user:a", "app:a"])
async def test_a_value_that_no_state_can_hold_is_named_by_its_key(service, key: str) -> None:
    """With its prefix, as it was handed in, wherever it would have been stored."""
    place = f'["{key}"].deep[0]' if ":" in key else f".{key}.deep[0]"
    await service.create_session(KEY)
    state = {"good": 1, "user:good": 1, "app:good": 1, key: {"deep": [object()]}}
    calls = [
        service.create_session(SessionKey("shop", "ann", "s2"), state),
        service.update_session_state(KEY, state),
        service.update_session_state(KEY, {key: {"deep": [object()]}, "b": DELETE}),
    ]
    if key.startswith("app:"):
        calls += [service.update_app_state("shop", {key: {"deep": [object()]}, "good": DELETE})]
    if key.startswith("user:"):
        calls += [service.update_user_state(KEY.user, {key: {"deep": [object()]}, "good": DELETE})]
    for call in calls:
        with pytest.raises(StorageValidationError) as refused:
            await call
        assert refused.value.path == f"state{place}"
        assert refused.value.path in str(refused.value)
    with pytest.raises(StorageValidationError) as refused:
        await service.append_event(KEY, {"role": "user", "id": "e", "state_delta": state})
        assert refused.value.path == f"event.state_delta{place}"
    assert (await read(service)).model_dump(include={"state", "events"}) == {}


@pytest.mark.parametrize("delta", [{}, {"a": 1}, {"app:a": 1}])
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"content": {"deep": [object()]}}, "event.content.deep[0]"),
        ({"id": "x" * 2000}, "event.id"),
        ({"id": 5}, "event.id"),
        ({"role": ""}, "event.role"),
        ({"role": None}, "event.role"),
        ({"state_delta": 5}, "event.state_delta"),
        ({"state_deleted": 5}, "event.state_deleted"),
    ],
)
async def test_what_is_wrong_in_an_event_is_named_by_its_place_in_it(service, fields, path, delta) -> None:
    await service.create_session(KEY)
    with pytest.raises(StorageValidationError) as refused:
        await service.append_event(KEY, {"role": "user", "state_delta": delta, **fields})
    assert refused.value.path == path
    assert "events[0]" not in str(refused.value)
    assert "entries[0]" not in str(refused.value)
    assert (await read(service)).model_dump(include={"state", "events"}) == {}


async def test_sessions_of_a_page_share_nothing_that_their_states_show(service) -> None:
    """T1.1: what a holder does to a nested value of the app or the user shows in no other session."""
    for number in range(3):
        state = {"mine": {"a": [1]}, "app:shared": {"a": [1]}, "user:shared": {"a": [1]}}
        await service.create_session(SessionKey("shop", "ann", f"s{number}"), state)
    for with_events in (False, True):
        first, *others = (await service.list_sessions(KEY.user, with_events=with_events)).items
        for key in ("mine", "app:shared", "user:shared"):
            first.state[key]["a"].append(2)
            first.state[key]["b"] = 3
        for other in (*others, *(await service.list_sessions(KEY.user)).items):
            assert [other.state[key] for key in ("mine", "app:shared", "user:shared")] == [{"a": [1]}] * 3
    assert await service.list_app_states("shop") == await service.list_user_states(KEY.user) == {"shared": {"a": [1]}}


async def test_of_a_key_that_an_event_sets_and_deletes_the_value_stands(service) -> None:
    """Then its history says nothing of a deletion, nor of one that was the step's own."""
    await service.create_session(KEY, {"a": 1, "b": 1, "app:c": 1})
    delta = {"a": 2, "app:c": 2, "temp:d": DELETE}
    event = {"role": "user", "state_delta": delta, "state_deleted": ["a", "app:c", "temp:e"]}
    await service.append_event(KEY, event)
    found = await read(service)
    assert found.state == {"a": 2, "b": 1, "app:c": 2}
    assert found.events[0].state_delta == {"a": 2, "app:c": 2}
    assert found.events[0].model_extra == {}
    await service.append_event(KEY, found.events[0].model_dump(exclude={"seq"}))
    assert (await read(service)).state == found.state
    await service.append_event(KEY, event | {"state_deleted": ["a", "b"]})
    found = await read(service)
    assert (found.state, found.events[-1].model_extra) == ({"a": 2, "app:c": 2}, {"state_deleted": ["b"]})
