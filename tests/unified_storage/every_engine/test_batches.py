"""Batches and imports: as many statements for hundreds of records as for two, and what is named twice in one."""

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.places import EMBEDDED, SQL, Place, engines
from unified_storage.backends.sql import batches
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

    for name in ("save_all", "restore_all"):
        monkeypatch.setattr(batches, name, counted(getattr(batches, name)))
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
        assert numbers[0] == numbers[1] <= 4


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
