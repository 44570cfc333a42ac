"""Batches and imports: as many statements for hundreds of records as for two, and what is named twice in one."""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.places import EMBEDDED, SQL, Place, engines
from unified_storage.backends.sql import batches, records
from unified_storage.backends.sql.statements import Call, Row

THEN = datetime(2024, 5, 15, tzinfo=UTC)
HUNDREDS = 400


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The statements that batches were carried out by."""
    seen: list[Call] = []

    def counted(real: Any) -> Any:
        def steps(*given: Any) -> Generator[Call, list[Row], Any]:
            running, rows = real(*given), None
            while True:
                try:
                    call = running.send(rows)
                except StopIteration as done:
                    return done.value
                seen.append(call)
                rows = yield call

        return steps

    for module, name in (
        (batches, "save_all"),
        (batches, "restore_all"),
        (records, "delete_all"),
        (records, "delete_untouched"),
        (records, "purge"),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return seen


def note(n: int, **data: Any) -> dict[str, Any]:
    return {"id": f"n{n:04}", "type": "note", "data": data, "created_at": THEN, "updated_at": THEN, "version": 1}


def log(n: int, *bodies: str) -> dict[str, Any]:
    entries = [{"seq": seq, "key": None, "created_at": THEN, "body": body} for seq, body in enumerate(bodies, 1)]
    return {"log_id": f"events@note/n{n:04}", "last_seq": len(entries), "entries": entries}


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_an_import_of_hundreds_takes_no_more_statements_than_one_of_two(place: Place, calls: list[Call]) -> None:
    async with place.open() as storage:
        numbers = {}
        for count in (2, HUNDREDS):
            for state in ("new", "over"):
                calls.clear()
                records = [note(n, state=state) for n in range(count)]
                assert await storage.restore(records, [log(n, "a", state) for n in range(count)]) == count
                numbers[count, state] = len(calls)
            assert (await storage.load(f"n{count - 1:04}", type="note") or {})["data"] == {"state": "over"}
            entries = await storage.read(f"events@note/n{count - 1:04}")
            assert [entry["body"] for entry in entries] == ["a", "over"]
            await storage.batch_delete([f"n{n:04}" for n in range(count)], type="note")
        assert numbers[HUNDREDS, "new"] == numbers[2, "new"] <= 8
        assert numbers[HUNDREDS, "over"] == numbers[2, "over"] <= 8


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_a_batch_of_hundreds_takes_no_more_statements_than_one_of_two(place: Place, calls: list[Call]) -> None:
    async with place.open() as storage:
        numbers = []
        for count in (2, HUNDREDS):
            calls.clear()
            await storage.batch_save([note(n, count=count) for n in range(count)])
            await storage.batch_delete([f"n{n:04}" for n in range(count)], type="note")
            numbers.append(len(calls))
        assert numbers[0] == numbers[1] <= 4 + 4


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_a_cleanup_of_hundreds_takes_no_more_statements_than_one_of_two(place: Place, calls: list[Call]) -> None:
    async with place.open() as storage:
        numbers = []
        for count in (2, 99):  # a cleanup goes a hundred at a time
            notes = [note(n) for n in range(count)]
            await storage.restore(notes, [log(n, "a", "b") for n in range(count)])
            calls.clear()
            assert await storage.cleanup_old_data(1, type="note") == count
            numbers.append(len(calls))
            await storage.restore([{**each, "expires_at": THEN} for each in notes], [log(n, "a") for n in range(count)])
            calls.clear()
            assert await storage.purge_expired() == count
            numbers.append(len(calls))
            assert await storage.count({"type": "note"}) == 0
        assert numbers[:2] == numbers[2:]
        assert max(numbers) <= 8


@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SQL[1:]))
async def test_what_goes_with_another_of_its_batch_counts_once(place: Place) -> None:
    """Deleted are ``z`` with ``d``, ``c``, and ``a`` with ``b``, which is gone by then, and so groups nothing."""
    under_a: list[dict[str, Any]] = [{"type": "thread", "data": {}, "session_id": "a", "id": id} for id in ("b", "c")]
    under_b = {"type": "note", "data": {}, "thread_id": "b", "id": "e"}
    of_z = {"type": "note", "data": {}, "session_id": "z", "id": "d"}
    bookkeeping = {"type": "_kept", "data": {}, "session_id": "a", "id": "a"}
    async with place.open() as storage:
        owners: list[dict[str, Any]] = [{"type": "session", "data": {}, "id": id} for id in ("a", "z")]
        await storage.batch_save([*owners, *under_a, under_b, of_z, bookkeeping])
        await storage.append("events/a", [{"body": 1}])
        await storage.append("events@thread/c", [{"body": 1}])
        assert await storage.batch_delete(["z", "c", "nobody", "a", "b"], cascade=True) == 3
        left = await storage.list({"type": {"$in": ["session", "thread", "note", "_kept"]}})
        assert {(record["type"], record["id"]) for record in left} == {("_kept", "a"), ("note", "e")}
        assert [ids async for ids in storage.logs()] == []


@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SQL[1:]))
async def test_an_expired_record_is_not_among_those_that_a_batch_deletes(place: Place) -> None:
    async with place.open() as storage:
        await storage.restore([{**note(1), "expires_at": THEN}, note(2)])
        assert await storage.batch_delete(["n0001", "n0002"]) == 1


@pytest.mark.parametrize("engine", engines(*SQL[1:]))
async def test_a_deletion_waits_for_no_writer_of_other_records(place: Place) -> None:
    """It looks at the entries of its own logs and at no others: those of a transaction that is open are locked."""
    async with place.open() as storage:
        for number in (1, 2, 3, 4):
            await storage.save(note(number))
            await storage.append(f"events@note/n{number:04}", [{"body": n} for n in range(3)])
        async with storage.transaction() as held:
            await held.append("events@note/n0002", [{"body": "mine"}])
            async with asyncio.timeout(10):
                assert await asyncio.create_task(storage.delete("n0001", type="note"))
                assert await asyncio.create_task(storage.batch_delete(["n0003", "n0004"], type="note")) == 2
        assert len(await storage.read("events@note/n0002")) == 4


@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SQL[1:]))
async def test_of_what_a_batch_names_twice_the_later_one_counts(place: Place) -> None:
    async with place.open() as storage:
        await storage.batch_save([note(1, is_="first"), note(2), note(1, is_="second")])
        found = await storage.load("n0001", type="note") or {}
        assert (found["data"], found["version"]) == ({"is_": "second"}, 2)
        await storage.restore([note(1, is_="third"), note(1, is_="fourth")], [log(1, "a", "b"), log(1, "c")])
        found = await storage.load("n0001", type="note") or {}
        assert (found["data"], found["version"]) == ({"is_": "fourth"}, 4)
        assert [entry["body"] for entry in await storage.read("events@note/n0001")] == ["c"]
