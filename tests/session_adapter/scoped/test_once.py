"""What an event or a creation does to an app it does once, and what is refused does nothing: on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_adapter import ScopedSessionService, SessionAlreadyExistsError, SessionKey, SessionStorageAdapter
from session_adapter.identity import app_scope
from session_adapter.states import APP_EVENTS
from tests.places import EMBEDDED, SERVERS, engines, place_on
from tests.session_adapter.scoped.test_apart import Apart
from unified_storage import IUnifiedStorage, StorageConflictError, StorageUnsupportedError, open_storage

KEY = SessionKey("shop", "ann", "s1")
SUM = {"app:n": "sum", "n": "sum", "user:n": "sum"}


@pytest.fixture(params=[*engines(*EMBEDDED, *SERVERS), "apart"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    """Every engine, and memory that behaves as a cluster does."""
    if request.param == "apart":
        yield Apart(open_storage("memory://"))
        return
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


def event(number: int, **fields: Any) -> dict[str, Any]:
    delta = {"n": 1, "user:n": 1, "app:n": 1, f"app:k{number}": number}
    return {"role": "user", "content": str(number), "state_delta": delta, **fields}


async def state_of(service: ScopedSessionService) -> Any:
    session = await service.get_session(KEY)
    assert session is not None
    return session.state


async def together(*calls: Any) -> tuple[list[Any], list[BaseException]]:
    """What came of each of the calls: the results, and the errors."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    errors = [one for one in found if isinstance(one, BaseException)]
    return [one for one in found if not isinstance(one, BaseException)], errors


async def test_an_event_that_several_send_counts_once_on_each_level(storage: IUnifiedStorage) -> None:
    service = ScopedSessionService(storage, policies=SUM)
    await service.create_session(KEY)
    for number in range(3):
        results, errors = await together(*(service.append_event(KEY, event(0, id=f"e{number}")) for _ in range(5)))
        assert (set(results), errors) == ({number + 1}, [])
    assert await state_of(service) == {"n": 3, "user:n": 3, "app:n": 3, "app:k0": 0}


async def test_of_many_who_create_a_session_one_changes_the_app(storage: IUnifiedStorage) -> None:
    service = ScopedSessionService(storage, policies=SUM)
    results, errors = await together(
        *(service.create_session(KEY, {"app:n": 1, f"app:k{number}": 1, "n": number}) for number in range(5))
    )
    assert len(results) == 1
    assert {type(error) for error in errors} == {SessionAlreadyExistsError}
    state = await state_of(service)
    assert state == {"app:n": 1, f"app:k{state['n']}": 1, "n": state["n"]}


async def test_of_many_who_expect_a_version_one_changes_the_app(storage: IUnifiedStorage) -> None:
    service = ScopedSessionService(storage, policies=SUM)
    await service.create_session(KEY)
    found = await SessionStorageAdapter(storage).get_session(KEY, with_version=True)
    assert found is not None
    version = found[1]
    results, errors = await together(
        *(service.append_event(KEY, event(number), expected_version=version) for number in range(5))
    )
    assert (results, {type(error) for error in errors}) == ([1], {StorageConflictError})
    session = await service.get_session(KEY)
    assert session is not None
    won = session.events[0].content
    assert session.state == {"n": 1, "user:n": 1, "app:n": 1, f"app:k{won}": int(won)}


async def test_an_event_of_a_session_that_was_made_again_is_another_one(storage: IUnifiedStorage) -> None:
    service = ScopedSessionService(storage, policies=SUM)
    for _ in range(2):
        await service.create_session(KEY)
        assert await service.append_event(KEY, event(0, id="e1")) == 1
        await service.delete_session(KEY)
    other = SessionKey("shop", "bob", "s1")
    await service.create_session(other)
    await service.append_event(other, event(0, id="e1"))
    assert (await service.list_app_states("shop"))["n"] == 3


async def test_an_event_that_was_broken_off_and_sent_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the app lies apart: whatever of its steps was the last one."""
    storage = Apart(open_storage("memory://"))
    service = ScopedSessionService(storage, policies=SUM)
    await service.create_session(KEY)
    await service.append_event(KEY, event(0, id="e0"))
    inner = storage.atomically
    for broken in range(1, 5):
        calls: list[int] = []

        async def crashing(fn: Any, *, attempts: int = 5, calls: list[int] = calls, broken: int = broken) -> Any:
            calls.append(1)
            if len(calls) == broken:
                raise KeyboardInterrupt
            return await inner(fn, attempts=attempts)

        monkeypatch.setattr(storage, "atomically", crashing)
        try:
            await service.append_event(KEY, event(0, id=f"e{broken}"))
        except KeyboardInterrupt:
            assert broken < 4
        monkeypatch.setattr(storage, "atomically", inner)
        assert await service.append_event(KEY, event(0, id=f"e{broken}")) == broken + 1
        assert await state_of(service) == {"app:k0": 0} | dict.fromkeys(("n", "user:n", "app:n"), broken + 1)


async def test_the_newest_thousand_events_of_an_app_are_known_beside_its_state() -> None:
    storage = Apart(open_storage("memory://"))
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    for number in range(1003):
        await service.append_event(KEY, {"role": "user", "id": f"e{number}", "state_delta": {"app:n": number}})
    record = await storage.load(app_scope("shop"), type=APP_EVENTS)
    assert record is not None
    assert len(set(record["data"]["known"])) == len(record["data"]["known"]) == 1000
    assert await service.list_app_states("shop") == {"n": 1002}


async def test_a_policy_that_lacks_something_is_not_taken_for_a_cluster() -> None:
    def lacking(stored: Any, new: Any) -> Any:
        raise StorageUnsupportedError("not this")

    storage = Apart(open_storage("memory://"))
    service = ScopedSessionService(storage._inner, policies={"app:a": lacking})
    await service.create_session(KEY, {"app:a": 1})
    with pytest.raises(Exception, match="not this") as refused:
        await service.append_event(KEY, {"role": "user", "state_delta": {"app:a": 2}})
    assert not isinstance(refused.value, StorageUnsupportedError)
    assert refused.value.details == {"path": "state.app:a"}  # type: ignore[attr-defined]
