"""What is asked of a store: the same for long histories as for short ones, and for many sessions as for few."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter, UserKey, record_id
from session_adapter.entries import history_of
from session_adapter.scoped_reading import ScopedReading, Window
from tests.places import EMBEDDED, SERVERS, SQL, Place, engines, place_on
from tests.session_adapter.delegates import Spy
from unified_storage import DELETE, IUnifiedStorage, open_storage
from unified_storage.backends.sql import listing, logs
from unified_storage.testing.clock import NOON

KEY = SessionKey("shop", "ann", "s1")
MANY = 10_000


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(engine, tmp_path) as found:
        yield found


async def filled(storage: IUnifiedStorage, count: int) -> None:
    await ScopedSessionService(storage).create_session(KEY, {"n": 1, "user:u": 1, "app:a": 1})
    for start in range(0, count, 1000):
        entries = [
            {"body": {"role": "user", "content": f"m{n}"}, "created_at": NOON + timedelta(seconds=n)}
            for n in range(start, min(start + 1000, count))
        ]
        await storage.append(history_of(record_id(KEY)), entries)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SERVERS))
async def test_a_part_of_a_long_history_reads_no_more_than_that(place: Place) -> None:
    """S1.12: of 10 000 events; two verbs, whatever is asked for."""
    async with place.open() as storage:
        await filled(storage, MANY)
        spy = Spy(storage)
        service = ScopedSessionService(spy)
        late = NOON + timedelta(seconds=MANY - 7)
        for window, count in (
            ({"event_num": 20}, 20),
            ({"event_num": 5, "event_time": NOON}, 5),
            ({"event_time": late}, 7),
            ({"event_time": late, "event_num": 50}, 7),
            ({"event_num": 0}, 0),
        ):
            spy.forget()
            session = await service.get_session(KEY, **window)
            assert session is not None
            assert [event.content for event in session.events] == [f"m{n}" for n in range(MANY - count, MANY)]
            assert spy.numbers.get("read", 0) == count
            assert spy.verbs == ["list", "read"][: 2 if count else 1]
        spy.forget()
        session = await service.get_session(KEY, event_num=20, turn_safe=True)
        assert session is not None
        assert spy.numbers["read"] < 100


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_the_newest_events_are_asked_for_with_a_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1.12."""
    asked: list[str] = []

    def noting(name: str, module: Any) -> None:
        inner = getattr(module, name)

        def steps(*given: Any, **named: Any) -> Any:
            running, rows = inner(*given, **named), None
            while True:
                try:
                    call = running.send(rows)
                except StopIteration as done:
                    return done.value
                asked.append(call.sql)
                rows = yield call

        monkeypatch.setattr(module, name, steps)

    async with place.open() as storage:
        await filled(storage, 30)
        noting("in_order", listing)
        noting("read", logs)
        service = ScopedSessionService(storage)
        assert await service.get_session(KEY, event_num=3, event_time=NOON) is not None
        assert len(asked) == 2
        named, newest = asked
        assert "id IN (" in named
        assert "LIMIT" in newest


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SERVERS))
async def test_a_page_of_many_sessions_is_one_query_and_one_for_their_states(place: Place) -> None:
    """S1.15: and one more for all histories, where they are asked for."""
    total, user = 1000, UserKey("shop", "ann")
    async with place.open() as storage:
        sessions = SessionStorageAdapter(storage)
        for start in range(0, total, 250):
            await sessions.batch_save_sessions(
                {
                    SessionKey("shop", "ann", f"s{n}"): {"session_id": f"s{n}", "state": {"n": n}}
                    for n in range(start, start + 250)
                }
            )
        spy = Spy(storage)
        service = ScopedSessionService(spy)
        await service.append_event(SessionKey("shop", "ann", "s7"), {"role": "user", "content": "x"})
        found, cursor = [], None
        for _ in range(10):
            spy.forget()
            page = await service.list_sessions(user, limit=100, cursor=cursor)
            assert spy.verbs == ["page", "list"]
            found += page.items
            cursor = page.next_cursor
        assert cursor is None
        assert {session.session_id for session in found} == {f"s{n}" for n in range(total)}
        assert found[0].session_id == "s7"
        spy.forget()
        page = await service.list_sessions(user, limit=100, with_events=True)
        assert [len(session.events) for session in page.items] == [1] + [0] * 99
        assert spy.verbs == ["page", "list", "read_many"]
        spy.forget()
        assert len((await service.list_sessions(user)).items) == total
        assert spy.verbs == ["page", "list"]


async def test_an_event_is_one_append_and_writes_itself_alone() -> None:
    """T1.2: nothing else of the session is written, so that appends share their commits."""
    spy = Spy(open_storage("memory://"))
    service = ScopedSessionService(spy, session_event_limit=500)
    await service.create_session(KEY, {"large": "x" * 100_000})
    spy.forget()
    await service.append_event(KEY, {"role": "user", "content": "Hello", "id": "e1"})
    assert spy.verbs == ["append"]
    assert spy.numbers["bytes"] < 100


async def test_a_change_of_the_session_alone_is_an_update_that_others_can_share() -> None:
    spy = Spy(open_storage("memory://"))
    service = ScopedSessionService(spy)
    await service.create_session(KEY)
    spy.forget()
    await service.update_session_state(KEY, {"n": 1})
    assert spy.verbs == ["load", "update"]
    spy.forget()
    await service.update_app_state("shop", {"n": 1})
    await service.update_app_state("shop", {"n": 2})
    assert spy.verbs == ["update", "save", "update"]


@pytest.mark.parametrize("deletes", [False, True])
async def test_a_history_that_never_holds_still_is_read_in_a_transaction(deletes: bool) -> None:
    """A reader that is disturbed each time ends all the same, with what belongs together."""
    storage = open_storage("memory://")
    service = ScopedSessionService(storage)
    await service.create_session(KEY, {"n": 0})
    number = 0

    class Disturbed(Spy):
        async def read(self, log_id: str, **bounds: Any) -> list[dict[str, Any]]:
            nonlocal number
            number += 1
            await service.update_session_state(KEY, {f"k{number}": 1})
            delta = {f"k{number}": DELETE} if deletes else {"n": number}
            await service.append_event(KEY, {"role": "user", "state_delta": delta})
            return await super().read(log_id, **bounds)

        async def atomically(self, fn: Any, *, attempts: int = 5) -> Any:
            return await storage.atomically(fn, attempts=attempts)

    session = await ScopedReading(Disturbed(storage), None).session(KEY, Window())
    assert session is not None
    assert session.events[-1].seq == number == 3
    assert session.state == ({"n": 0} if deletes else {"n": 3, "k1": 1, "k2": 1, "k3": 1})
