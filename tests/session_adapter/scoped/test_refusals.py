"""A conflict that may pass is told as one, and never taken for the answer that something is there already."""

from __future__ import annotations

from typing import Any

import pytest

from session_adapter import ScopedSessionService, Session, SessionAlreadyExistsError, SessionKey, SessionRepository
from unified_storage import StorageConflictError
from unified_storage.testing.faults import FaultyStorage

KEY = SessionKey("shop", "ann", "s1")


@pytest.fixture
def faulty(storage) -> FaultyStorage:
    return FaultyStorage(storage)


def busy() -> StorageConflictError:
    return StorageConflictError("somebody else is writing", retryable=True)


async def test_a_busy_store_does_not_say_that_a_session_exists(faulty: FaultyStorage) -> None:
    service = ScopedSessionService(faulty)
    faulty.fail("save", busy())
    with pytest.raises(StorageConflictError, match="somebody") as refused:
        await service.create_session(KEY, {"n": 1})
    assert refused.value.retryable
    await service.create_session(KEY, {"n": 1})
    with pytest.raises(SessionAlreadyExistsError):
        await service.create_session(KEY, {"n": 2})


@pytest.mark.parametrize("level", ["app", "user"])
async def test_a_busy_store_does_not_say_that_a_state_has_begun(faulty: FaultyStorage, level: str) -> None:
    service = ScopedSessionService(faulty)

    async def change(value: int) -> None:
        if level == "app":
            await service.update_app_state("shop", {"n": value})
        else:
            await service.update_user_state(KEY.user, {"n": value})

    faulty.fail("save", busy())
    with pytest.raises(StorageConflictError, match="somebody"):
        await change(1)
    assert await service.list_app_states("shop") == await service.list_user_states(KEY.user) == {}
    await change(2)
    found: dict[str, Any] = {
        "app": await service.list_app_states("shop"),
        "user": await service.list_user_states(KEY.user),
    }
    assert found == {"app": {}, "user": {}} | {level: {"n": 2}}


async def test_a_busy_store_is_asked_again_before_a_session_is_said_to_exist(faulty: FaultyStorage) -> None:
    repository = SessionRepository(faulty)
    faulty.fail("save", busy())
    await repository.create(Session(session_id="s1", name="mine"), if_exists="error")
    assert (await repository.get("s1")).name == "mine"
    with pytest.raises(SessionAlreadyExistsError):
        await repository.create(Session(session_id="s1", name="other"), if_exists="error")
    assert (await repository.get("s1")).name == "mine"
