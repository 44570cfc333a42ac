"""What happens while a call is under way: to what its caller handed in, and to what it reads."""

import asyncio
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import Any

import pytest

from session_adapter import SessionStorageAdapter
from unified_storage import DELETE, REPLACE, open_storage
from unified_storage.delegate import Delegate
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import ManualClock


def document(mark: str, status: str = "active") -> dict[str, Any]:
    messages = [{"type": "HumanMessage", "content": f"{mark}-{n}"} for n in range(3)]
    return {
        "metadata": {"session_id": "s1", "status": status},
        "thread_configs": {},
        "workflow_state": {"messages": messages, "mark": mark},
        "settings": {},
    }


class Disturbed(Delegate):
    """A storage in which something happens once, just after histories were read."""

    def __init__(self, inner: IUnifiedStorage, happens: Callable[[], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._happens: Callable[[], Awaitable[None]] | None = happens

    async def _call(self, verb: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if verb == "read_many" and self._happens is not None:
            happens, self._happens = self._happens, None
            await happens()
        return await call()


async def test_a_session_made_anew_meanwhile_is_not_mixed_with_the_old_one(storage: IUnifiedStorage) -> None:
    """Its version counts from the beginning again, and may be the same by chance."""
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", document("old"))

    async def made_anew() -> None:
        async with storage.transaction() as tx:
            await SessionStorageAdapter(tx).delete_session("s1")
            await SessionStorageAdapter(tx).save_session("s1", document("new"))

    before = await storage.load("s1")
    found = await SessionStorageAdapter(Disturbed(storage, made_anew)).get_session("s1")
    after = await storage.load("s1")
    assert before is not None
    assert after is not None
    assert before["version"] == after["version"]  # or the test shows nothing
    assert found is not None
    assert found["workflow_state"] == document(found["workflow_state"]["mark"])["workflow_state"]


async def test_a_session_that_matches_no_more_is_not_listed(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", document("one"))

    async def completed() -> None:
        await sessions.update_session("s1", {"metadata": {"status": "completed"}})

    listing = SessionStorageAdapter(Disturbed(storage, completed))
    assert await listing.list_sessions({"status": "active"}) == []


async def test_updates_and_runs_are_those_that_were_handed_in(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"settings": {}})
    updates: dict[str, Any] = {"settings": {"a": [1]}}
    updating = asyncio.ensure_future(sessions.update_session("s1", updates))
    await asyncio.sleep(0)
    updates["settings"]["a"].append(2)
    updates["settings"]["b"] = 2
    await updating
    run: dict[str, Any] = {"run_id": "r1", "messages": [{"role": "user", "content": "Hello"}]}
    adding = asyncio.ensure_future(sessions.runs.append("s1", run))
    await asyncio.sleep(0)
    run["messages"][0]["content"] = "changed"
    await adding
    found = await sessions.get_session("s1")
    assert found is not None
    assert found["settings"] == {"a": [1]}
    assert [event["content"] for event in await sessions.events.read("s1")] == ["Hello"]


async def test_a_session_made_anew_in_the_same_instant_is_not_mixed_with_the_old_one() -> None:
    async with open_storage("memory://", clock=ManualClock()) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("s1", document("old"))

        async def made_anew() -> None:
            await sessions.delete_session("s1")
            await sessions.save_session("s1", document("new"))

        found = await SessionStorageAdapter(Disturbed(storage, made_anew)).get_session("s1")
        assert found is not None
        assert found["workflow_state"] == document(found["workflow_state"]["mark"])["workflow_state"]


async def test_filters_are_those_that_were_handed_in(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", document("one"))
    wanted = ["active"]
    filters: dict[str, Any] = {"status": {"$in": wanted}}

    async def changed() -> None:
        wanted[:] = ["completed"]
        filters["user_id"] = "ann"

    assert len(await SessionStorageAdapter(Disturbed(storage, changed)).list_sessions(filters)) == 1


async def test_the_marks_in_updates_stay_and_what_they_hold_is_copied(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"settings": {"a": 1, "b": 2}, "state": {"x": 1}})
    given: dict[str, Any] = {"settings": {"a": DELETE}, "state": REPLACE({"y": [1]})}
    updating = asyncio.ensure_future(sessions.update_session("s1", MappingProxyType(given)))
    await asyncio.sleep(0)
    given["state"].value["y"].append(2)
    given["settings"]["b"] = DELETE
    given["late"] = True
    await updating
    found = await sessions.require_session("s1")
    assert {name: value for name, value in found.items() if name != "metadata"} == {
        "settings": {"b": 2},
        "state": {"y": [1]},
    }


@pytest.mark.parametrize("on_duplicate", ["error", "replace"])
async def test_events_are_those_that_were_handed_in(storage: IUnifiedStorage, on_duplicate: Any) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {})
    event: dict[str, Any] = {"role": "user", "run_id": "r1", "content": [{"text": "Hello"}]}
    adding = asyncio.ensure_future(sessions.events.append("s1", event, on_duplicate=on_duplicate))
    await asyncio.sleep(0)
    event["content"][0]["text"] = "changed"
    await adding
    [shown] = await sessions.events.read("s1")
    assert shown["content"] == [{"text": "Hello"}]
