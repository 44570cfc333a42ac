"""How long sessions and states live: from the last write of each, and what is over is not there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from session_adapter import ScopedSessionService, SessionKey, SessionNotFoundError
from unified_storage import StorageValidationError
from unified_storage.testing.clock import ManualClock

KEY = SessionKey("shop", "ann", "s1")
EVENT = {"role": "user", "content": "x"}


@pytest.fixture
def service(storage) -> ScopedSessionService:
    return ScopedSessionService(storage, session_ttl=60, user_state_ttl=timedelta(seconds=90), app_state_ttl=120.0)


async def state_of(service: ScopedSessionService) -> Any:
    session = await service.get_session(KEY)
    return None if session is None else session.state


async def test_each_level_has_its_own_end(service, clock: ManualClock) -> None:
    await service.create_session(KEY, {"s": 1, "user:u": 1, "app:a": 1})
    clock.advance(seconds=59.999999)
    assert await state_of(service) == {"s": 1, "user:u": 1, "app:a": 1}
    clock.advance(microseconds=1)
    assert await state_of(service) is None
    assert (await service.list_sessions(KEY.user)).items == []
    assert await service.list_user_states(KEY.user) == {"u": 1}
    clock.advance(seconds=30)
    assert await service.list_user_states(KEY.user) == {}
    assert await service.list_app_states("shop") == {"a": 1}
    clock.advance(seconds=30)
    assert await service.list_app_states("shop") == {}


@pytest.mark.parametrize("way", ["event", "event with a delta", "state"])
async def test_what_is_written_to_a_session_renews_it_and_no_other_level(service, clock: ManualClock, way: str) -> None:
    await service.create_session(KEY, {"s": 1, "user:u": 1, "app:a": 1})
    for _ in range(4):
        clock.advance(seconds=40)
        match way:
            case "event":
                await service.append_event(KEY, EVENT)
            case "event with a delta":
                await service.append_event(KEY, EVENT | {"state_delta": {"s": 2}})
            case "state":
                await service.update_session_state(KEY, {"s": 2})
    clock.advance(seconds=59)
    assert await state_of(service) == {"s": 1 if way == "event" else 2}
    clock.advance(seconds=1)
    assert await state_of(service) is None


async def test_states_are_renewed_by_each_way_to_write_them(service, clock: ManualClock) -> None:
    await service.create_session(KEY, {"user:u": 1, "app:a": 1})
    writes = (
        lambda: service.append_event(KEY, EVENT | {"state_delta": {"user:u": 2, "app:a": 2}}),
        lambda: service.update_session_state(KEY, {"user:u": 3, "app:a": 3}),
        lambda: service.update_user_state(KEY.user, {"u": 4}),
        lambda: service.delete_user_state(KEY.user, "none"),
    )
    for write in writes:
        clock.advance(seconds=50)
        await write()
        await service.append_event(KEY, EVENT)
    clock.advance(seconds=59)
    assert await state_of(service) == {"user:u": 4}  # the app's was written last 159 s ago
    clock.advance(seconds=31)
    assert await service.list_user_states(KEY.user) == {}


async def test_what_is_over_begins_anew(service, clock: ManualClock) -> None:
    """S1.6: an expired session is none, and nothing of it comes back; the same with states."""
    await service.create_session(KEY, {"s": 1, "user:u": 1, "app:a": 1})
    await service.append_event(KEY, EVENT)
    clock.advance(seconds=200)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(KEY, EVENT)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(KEY, EVENT | {"state_delta": {"app:a": 9}})
    with pytest.raises(SessionNotFoundError):
        await service.update_session_state(KEY, {"s": 2})
    await service.delete_session(KEY)
    session = await service.create_session(KEY, {"t": 1, "user:v": 1, "app:b": 1})
    assert session.state == {"t": 1, "user:v": 1, "app:b": 1}
    again = await service.get_session(KEY)
    assert again is not None
    assert again.events == []
    await service.update_app_state("shop", {"c": 1})
    assert await service.list_app_states("shop") == {"b": 1, "c": 1}
    clock.advance(seconds=200)
    await service.update_app_state("shop", {"d": 1})
    assert await service.list_app_states("shop") == {"d": 1}


async def test_without_an_end_an_earlier_one_stays(storage, service, clock: ManualClock) -> None:
    await service.create_session(KEY)
    endless = ScopedSessionService(storage)
    await endless.append_event(KEY, EVENT | {"state_delta": {"n": 1}})
    clock.advance(seconds=60)
    assert await endless.get_session(KEY) is None
    await endless.create_session(KEY)
    clock.advance(days=1000)
    assert await endless.get_session(KEY) is not None


@pytest.mark.parametrize("wrong", [0, -1, "60", True, timedelta(0), float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["session_ttl", "app_state_ttl", "user_state_ttl"])
def test_a_lifetime_is_more_than_nothing(name: str, wrong: Any) -> None:
    with pytest.raises(StorageValidationError, match=name):
        ScopedSessionService(**{name: wrong})


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, "5"])
def test_a_limit_is_at_least_one(wrong: Any) -> None:
    with pytest.raises(StorageValidationError, match="session_event_limit"):
        ScopedSessionService(session_event_limit=wrong)
