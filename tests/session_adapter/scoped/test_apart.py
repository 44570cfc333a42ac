"""A store in which an app and its users lie apart, as on a Redis Cluster, seen without one: what is asked, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from session_adapter import ScopedSessionService, SessionKey, SessionNotFoundError
from session_adapter.states import APP_EVENTS, APP_STATE
from unified_storage import IUnifiedStorage, StorageUnsupportedError, open_storage
from unified_storage.delegate import Delegate

T = TypeVar("T")
KEY = SessionKey("shop", "ann", "s1")


class Apart(Delegate):
    """Refuses a transaction that writes to an app and to anything else; counts transactions."""

    def __init__(self, inner: IUnifiedStorage, outer: Apart | None = None) -> None:
        super().__init__(inner)
        self._outer = outer
        self._written: set[bool] = set()
        self.transactions = 0

    async def save(self, record: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        self._write(record["type"])
        return await super().save(record, expected_version=expected_version)

    async def update(self, id: str, updates: Mapping[str, Any], *, type: str | None = None, **options: Any) -> bool:
        self._write(type)
        return await super().update(id, updates, type=type, **options)

    async def append(self, log_id: str, entries: Any, **options: Any) -> Any:
        self._write(None)
        return await super().append(log_id, entries, **options)

    def _write(self, type: str | None) -> None:
        self._written.add(type in (APP_STATE, APP_EVENTS))
        if self._outer is not None and len(self._written) > 1:
            raise StorageUnsupportedError("several partitions in one step")

    async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
        self.transactions += 1
        return await self._inner.atomically(lambda tx: fn(Apart(tx, self)), attempts=attempts)


@pytest.fixture
def storage() -> Apart:
    return Apart(open_storage("memory://"))


async def append(service: ScopedSessionService, number: int) -> int:
    delta = {"n": number, "user:n": number, "app:n": number}
    return await service.append_event(KEY, {"role": "user", "id": f"e{number}", "state_delta": delta})


async def test_that_they_lie_apart_is_found_out_once(storage: Apart) -> None:
    """Then a trial, the app's state, and the step, each in a transaction; a known event needs the trial alone."""
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    asked = []
    for number in (1, 2, 2):
        before = storage.transactions
        await append(service, number)
        asked.append(storage.transactions - before)
    assert asked == [4, 3, 1]
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {"n": 2, "user:n": 2, "app:n": 2}
    assert [event.id for event in session.events] == ["e1", "e2"]


async def test_what_is_refused_does_not_reach_the_app(storage: Apart) -> None:
    service = ScopedSessionService(storage)
    for _ in range(2):
        with pytest.raises(SessionNotFoundError):
            await append(service, 1)
    assert await service.list_app_states("shop") == {}


async def test_a_crash_between_leaves_the_apps_value_and_no_event(storage: Apart, monkeypatch) -> None:
    """Declared: the value of an event that was not acknowledged; sent again, the event is there once."""
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    await append(service, 1)
    inner, calls = storage.atomically, []

    async def crashing(fn: Any, *, attempts: int = 5) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return await inner(fn, attempts=attempts)

    monkeypatch.setattr(storage, "atomically", crashing)
    with pytest.raises(KeyboardInterrupt):
        await append(service, 2)
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {"n": 1, "user:n": 1, "app:n": 2}
    await append(service, 2)
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {"n": 2, "user:n": 2, "app:n": 2}
    assert [event.seq for event in session.events] == [1, 2]
