"""Many sessions in one step, and pages of summaries."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from session_adapter import SessionKey, SessionNotFoundError, SessionStorageAdapter
from tests.session_adapter.delegates import Spy
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from unified_storage import IUnifiedStorage, StorageCapacityError, StorageValidationError


async def test_a_batch_saves_what_single_saves_would(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    batch: dict[str | SessionKey, Any] = {name: sample(name) for name in SAMPLE_FORMATS}
    batch[SessionKey("shop", "ann", "g1")] = sample("g1")
    mine = deepcopy(batch)
    await sessions.batch_save_sessions(batch)
    assert batch == mine
    shown = {name: await sessions.require_session(name) for name in batch}
    logs = {name: await storage.read(f"history/{name}") for name in SAMPLE_FORMATS}
    await sessions.batch_save_sessions(shown)  # over those that are there
    for name in batch:
        again = await sessions.require_session(name)
        assert again["metadata"].pop("updated_at") > shown[name]["metadata"].pop("updated_at")
        assert again == shown[name]
    assert logs == {name: await storage.read(f"history/{name}") for name in SAMPLE_FORMATS}
    await sessions.batch_save_sessions({})


async def test_a_batch_goes_on_with_lists_that_are_there(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("g1", sample("g1"))
    await sessions.events.append("g1", {"role": "user", "content": "from elsewhere"})
    longer = sample("g1")
    longer["state"]["messages"].append({"type": "AIMessage", "content": "new"})
    await sessions.batch_save_sessions({"g1": longer, "g2": sample("g2")})
    found = (await sessions.require_session("g1"))["state"]["messages"]
    assert [message["content"] for message in found[-2:]] == ["from elsewhere", "new"]


async def test_a_batch_is_all_or_nothing_and_names_the_item(storage: IUnifiedStorage) -> None:
    """S2.13, T2.19."""
    sessions = SessionStorageAdapter(storage)
    for bad in ({"settings": {"x": object()}}, {"metadata": {}, "state": {"messages": [object()]}}, None, [1]):
        batch: dict[str | SessionKey, Any] = {f"s{number}": {"settings": {"n": number}} for number in range(1000)}
        batch["s500"] = bad
        with pytest.raises(StorageValidationError) as raised:
            await sessions.batch_save_sessions(batch)
        assert (raised.value.details["session_id"], raised.value.details["index"]) == ("s500", 500)
        assert "s500" in raised.value.message
        assert "500" in raised.value.message
        assert await storage.count() == 0


async def test_a_session_of_a_batch_that_is_too_large_is_named(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    large = {"metadata": {"note": "x" * (9 << 20)}}  # a record holds it twice: in the document, and to filter by
    with pytest.raises(StorageCapacityError) as raised:
        await sessions.batch_save_sessions({"a": {}, "b": large})
    assert (raised.value.details["session_id"], raised.value.details["index"]) == ("b", 1)
    assert await storage.count() == 0


async def test_a_batch_is_one_transaction_of_sets(storage: IUnifiedStorage) -> None:
    """T2.19: the records go in one statement, not in a loop."""
    spy = Spy(storage)
    batch: dict[str | SessionKey, Any] = {f"s{number}": {"settings": {"n": number}} for number in range(100)}
    await SessionStorageAdapter(spy).batch_save_sessions(batch)
    assert spy.verbs == ["list", "batch_save"]


@pytest.mark.parametrize("bad", [None, [], "s1", [("s1", {})]], ids=repr)
async def test_what_is_no_batch_is_refused(sessions: SessionStorageAdapter, bad: Any) -> None:
    with pytest.raises(StorageValidationError):
        await sessions.batch_save_sessions(bad)


async def test_batch_delete_deletes_those_that_are_there(storage: IUnifiedStorage) -> None:
    """S2.14, T2.18."""
    sessions = SessionStorageAdapter(storage)
    key = SessionKey("shop", "ann", "a")
    await sessions.batch_save_sessions({"a": sample("g1"), "b": {}, "c": {}, key: sample("g1")})
    await storage.save({"id": "x", "type": "thread", "data": {}})
    result = await sessions.batch_delete_sessions(["b", "x", key, "a", "a", "y"])
    assert (result.deleted, result.missing) == (["b", key, "a"], ["x", "y"])
    assert [page["key"] for page in (await sessions.page_sessions()).items] == ["c"]
    assert await storage.exists("x")
    assert [batch async for batch in storage.logs()] in ([], [[]])
    assert await sessions.batch_delete_sessions([]) == type(result)([], [])


async def test_batch_delete_with_missing_as_an_error_deletes_nothing(sessions: SessionStorageAdapter) -> None:
    """S2.14."""
    await sessions.batch_save_sessions({"a": {}, "b": {}})
    with pytest.raises(SessionNotFoundError) as raised:
        await sessions.batch_delete_sessions(["a", "nobody", "b"], missing="error")
    assert raised.value.session_id == "nobody"
    assert len(await sessions.list_sessions()) == 2
    result = await sessions.batch_delete_sessions(["a", "b"], missing="error")
    assert (result.deleted, result.missing) == (["a", "b"], [])
    with pytest.raises(StorageValidationError):
        await sessions.batch_delete_sessions(["a"], missing="maybe")  # type: ignore[arg-type]
    with pytest.raises(StorageValidationError):
        await sessions.batch_delete_sessions("ab")


# pages


async def test_pages_are_summaries_without_documents(storage: IUnifiedStorage) -> None:
    spy = Spy(storage)
    sessions = SessionStorageAdapter(spy)
    await sessions.save_session("s1", sample("g0"))
    shown = (await sessions.require_session("s1"))["metadata"]
    spy.forget()
    [summary] = (await sessions.page_sessions()).items
    assert spy.verbs == ["page"]
    assert summary.keys() == {"key", "session_id", "metadata", "created_at", "updated_at"}
    assert (summary["key"], summary["session_id"]) == ("s1", "s1")
    assert summary["created_at"].utcoffset() is not None
    assert summary["metadata"].items() >= {**shown, "session_id": "s1"}.items()
    assert "~" not in summary["metadata"]


async def test_pages_walk_every_session_once(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    batch: dict[str | SessionKey, Any] = {
        f"s{number:02}": {"metadata": {"status": "active" if number % 3 else "idle"}} for number in range(25)
    }
    await sessions.batch_save_sessions(batch)
    for order_by in ("-updated_at", "updated_at", "id", "-id", "status", "created_at", "name"):
        seen, cursor = [], None
        while True:
            page = await sessions.page_sessions({"status": "active"}, limit=4, order_by=order_by, cursor=cursor)
            seen += [item["key"] for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(seen) == sorted(key for number, key in enumerate(batch) if number % 3)
    by_id = await sessions.page_sessions(order_by="id", limit=2, skip=3)
    assert [item["key"] for item in by_id.items] == ["s03", "s04"]
    wrong: list[dict[str, Any]] = [{"order_by": "tags"}, {"order_by": 5}, {"limit": -1}, {"cursor": "nonsense"}]
    for arguments in wrong:
        with pytest.raises(StorageValidationError):
            await sessions.page_sessions(**arguments)
