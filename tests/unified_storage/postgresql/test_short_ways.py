"""Records on PostgreSQL: saved in one round trip and updated in two, unless something is unusual."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unified_storage.postgresql.statements import noted
from unified_storage import DELETE, open_storage
from unified_storage.backends.sql import records
from unified_storage.clock import utc_now
from unified_storage.errors import StorageConflictError, StorageValidationError

pytestmark = pytest.mark.servers


@pytest.fixture
async def storage(url: str, namespace: str) -> AsyncIterator[Any]:
    async with open_storage(url, namespace=namespace) as storage:
        yield storage


@pytest.fixture
def sent(storage: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the connections send from here on: a word of each statement."""
    return noted(monkeypatch)


def note(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "type": "note", "data": {}, **fields}


async def test_a_record_is_saved_in_one_round_trip_also_over_another(storage: Any, sent: list[str]) -> None:
    await storage.save(note(data={"n": 1}, metadata={"m": 1}, session_id="s", expires_at=None))
    first = await storage.load("a")
    sent.clear()
    await storage.save(note(data={"n": 2}))
    assert sent == ["record"]
    second = await storage.load("a")
    assert (second["data"], second["metadata"], second["session_id"], second["version"]) == ({"n": 2}, None, None, 2)
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]


async def test_what_must_not_be_there_is_made_in_one_round_trip_or_refused(storage: Any, sent: list[str]) -> None:
    await storage.save(note(), expected_version=0)
    assert sent == ["record"]
    with pytest.raises(StorageConflictError) as refused:
        await storage.save(note(data={"mine": True}), expected_version=0)
    assert (refused.value.details["expected"], refused.value.details["found"]) == (0, 1)
    with pytest.raises(StorageConflictError):
        await storage.save(note(id="b"), expected_version=3)
    assert not await storage.exists("b")
    await storage.save(note(data={"n": 2}), expected_version=1)
    assert (await storage.load("a"))["version"] == 2


async def test_an_expired_record_is_replaced_by_a_new_one_without_its_logs(storage: Any) -> None:
    await storage.save(note())
    await storage.append("log@note/a", [{"body": 1}])
    await storage.update("a", {"expires_at": utc_now()})
    await storage.save(note(data={"new": True}))
    assert (await storage.load("a"))["version"] == 1
    assert await storage.read("log@note/a") == []


async def test_many_who_save_one_new_record_at_once_all_do(storage: Any) -> None:
    await asyncio.gather(*(storage.save(note(data={"by": n})) for n in range(16)))
    assert (await storage.load("a"))["version"] == 16
    assert len(await storage.list({"type": "note"})) == 1


async def test_an_update_is_a_look_and_a_write(storage: Any, sent: list[str]) -> None:
    await storage.save(note(data={"a": {"b": 1}, "gone": 1}, metadata={"m": 1}))
    before = await storage.load("a")
    sent.clear()
    assert await storage.update("a", {"data": {"a": {"c": 2}, "gone": DELETE}, "session_id": "s"}, expected_version=1)
    assert len(sent) == 2
    after = await storage.load("a", type="note")
    assert (after["data"], after["metadata"], after["session_id"]) == ({"a": {"b": 1, "c": 2}}, {"m": 1}, "s")
    assert (after["version"], after["created_at"]) == (2, before["created_at"])
    assert after["updated_at"] > before["updated_at"]
    with pytest.raises(StorageConflictError):
        await storage.update("a", {"data": {"x": 1}}, expected_version=1)
    assert not await storage.update("nobody", {"data": {}})
    with pytest.raises(StorageValidationError):
        await storage.update("a", {"version": 7})


async def test_what_comes_between_the_look_and_the_write_of_an_update_is_kept(
    storage: Any, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.save(note(data={"n": 0}))
    inner = storage._engine.read

    async def read(*given: Any) -> Any:
        row = await inner(*given)
        monkeypatch.undo()
        async with open_storage(url, namespace=namespace) as other:  # our own updates would wait for this one
            await other.append("log@note/a", [{"body": 1}])
            await other.update("a", {"data": {"theirs": 1}})
        return row

    monkeypatch.setattr(storage._engine, "read", read)
    assert await storage.update("a", {"data": {"ours": 1}})
    record = await storage.load("a")
    assert record["data"] == {"n": 0, "theirs": 1, "ours": 1}
    assert record["version"] == 4


async def test_a_path_that_another_program_has_indexed_gets_its_key(url: str, namespace: str, storage: Any) -> None:
    await storage.save(note(id="b", data={"colour": "red"}))
    async with open_storage(url, namespace=namespace, indexed={"note": ["data.colour"]}) as other:
        await storage.save(note(data={"colour": "red"}))
        await storage.update("b", {"data": {"colour": "blue"}})
        assert [record["id"] for record in await other.list({"type": "note", "data.colour": "red"})] == ["a"]
        assert [record["id"] for record in await other.list({"type": "note", "data.colour": "blue"})] == ["b"]


async def test_the_key_of_a_path_that_the_store_itself_writes_is_left_to_the_steps(
    url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_storage(url, namespace=namespace, indexed={"note": ["version"]}) as storage:
        told = noted(monkeypatch)
        for _ in range(3):
            await storage.save(note())
        await storage.update("a", {"data": {"n": 1}})
        assert "record" not in told
        assert [record["id"] for record in await storage.list({"type": "note", "version": 4})] == ["a"]


@pytest.mark.parametrize("verb", ["append", "save", "update"])
async def test_a_primary_that_takes_no_writes_any_more_is_asked_again(storage: Any, verb: str) -> None:
    """It has said so, and done nothing: nobody is told of an unknown outcome."""
    await storage.save(note())
    verbs = {
        "append": lambda: storage.append("log@note/a", [{"body": 1}]),
        "save": lambda: storage.save(note(data={"n": 1})),
        "update": lambda: storage.update("a", {"data": {"n": 1}}),
    }
    lease = await storage._engine._pool.lend(storage._engine._connected, 5)
    await lease.connection.asyncpg.execute("SET default_transaction_read_only = on")
    lease.give_back()
    await verbs[verb]()
    assert (await storage.load("a"))["version"] == 2


@pytest.mark.parametrize("verb", ["save", "update"])
async def test_a_thread_that_is_told_of_a_new_path_in_the_midst_of_another_s_verb_hides_no_record(
    storage: Any, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    await storage.save(note())
    async with open_storage(url, namespace=namespace, indexed={"note": ["data.p"]}) as other:
        inner = records.written

        def written(store: Any, *given: Any) -> Any:
            columns = inner(store, *given)
            if store is storage._store:
                store.slots, store.generation = other._store.slots, other._store.generation  # type: ignore[attr-defined]
            return columns

        monkeypatch.setattr(records, "written", written)
        await (storage.save(note(data={"p": 7})) if verb == "save" else storage.update("a", {"data": {"p": 7}}))
        assert [record["id"] for record in await other.list({"type": "note", "data.p": 7})] == ["a"]
