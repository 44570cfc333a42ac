"""A new session is saved by itself, without a transaction, and one that others make at the same time is not lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from session_adapter import SessionKey, SessionStorageAdapter
from tests.session_adapter.delegates import Meddling, Spy
from unified_storage import IUnifiedStorage
from unified_storage.errors import StorageConflictError

LISTED = {"metadata": {}, "thread_configs": {}, "workflow_state": {"messages": [{"type": "HumanMessage"}]}}


@pytest.mark.parametrize("session", ["s1", SessionKey("shop", "ann", "s1")])
async def test_a_new_session_takes_one_write_and_no_transaction(storage: IUnifiedStorage, session: Any) -> None:
    spy = Spy(storage)
    await SessionStorageAdapter(spy).save_session(session, {"settings": {"a": 1}})
    assert spy.verbs == ["exists", "save"]
    found = await SessionStorageAdapter(storage).get_session(session)
    assert found is not None
    assert found["settings"] == {"a": 1}


@pytest.mark.parametrize("theirs", [{"theirs": True}, LISTED])
async def test_one_that_somebody_else_makes_meanwhile_is_saved_over(
    storage: IUnifiedStorage, theirs: dict[str, Any]
) -> None:
    sessions = SessionStorageAdapter(storage)
    meddled = Meddling(storage, "save", lambda: sessions.save_session("s1", theirs), 1)
    await SessionStorageAdapter(meddled).save_session("s1", {"mine": True})
    found, version = await sessions.get_session("s1", with_version=True) or ({}, 0)
    assert found.keys() == {"mine", "metadata"}
    assert version >= 2
    assert await sessions.events.read("s1") == []


async def test_one_that_must_be_new_conflicts_with_one_that_somebody_else_makes_meanwhile(
    storage: IUnifiedStorage,
) -> None:
    sessions = SessionStorageAdapter(storage)
    meddled = Meddling(storage, "save", lambda: sessions.save_session("s1", {"theirs": True}), 1)
    with pytest.raises(StorageConflictError) as raised:
        await SessionStorageAdapter(meddled).save_session("s1", {"mine": True}, expected_version=0)
    assert not raised.value.retryable
    found = await sessions.get_session("s1")
    assert found is not None
    assert found["theirs"] is True


async def test_in_a_transaction_it_is_undone_with_it(storage: IUnifiedStorage) -> None:
    with pytest.raises(ZeroDivisionError):
        async with storage.transaction() as tx:
            await SessionStorageAdapter(tx).save_session("s1", {"settings": {}})
            await SessionStorageAdapter(tx).save_session("s1", {"settings": {"again": 1}})
            raise ZeroDivisionError
    assert not await SessionStorageAdapter(storage).session_exists("s1")


@pytest.mark.parametrize("is_behind_another", [False, True], ids=["itself", "behind another"])
async def test_made_by_several_transactions_at_once_it_is_saved_by_each_in_the_end(
    storage: IUnifiedStorage, is_behind_another: bool
) -> None:
    front = Spy(storage) if is_behind_another else storage

    def saving(session: str, n: int) -> Callable[[IUnifiedStorage], Awaitable[None]]:
        async def save(tx: IUnifiedStorage) -> None:
            await SessionStorageAdapter(tx).save_session(session, {"settings": {"n": n}})
            await asyncio.sleep(0.01)

        return save

    for session in ("s1", "s2", "s3", "s4", "s5"):
        await asyncio.gather(*(front.atomically(saving(session, n), attempts=50) for n in range(3)))
        _, version = await SessionStorageAdapter(storage).get_session(session, with_version=True) or ({}, 0)
        assert version == 3
