"""What happens while a call is under way: to what its caller handed in, and to what it reads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from session_adapter import SessionStorageAdapter
from unified_storage.delegate import Delegate
from unified_storage.interface import IUnifiedStorage


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
        result = None
        if verb == "read_many" and self._happens is not None:
            happens, self._happens = self._happens, None
            await happens()
        result = await call()
        return result


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
