"""Opening: sixteen at once, stores of earlier versions, stores of later ones."""

import asyncio
import sys
from collections.abc import Sequence

import pytest

from tests.places import ON_DISK, SQL, Place, engines
from tests.support import REPOSITORY
from unified_storage import StorageConfigurationError
from unified_storage.backends.sql import schema
from unified_storage.backends.sql.statements import Call
from unified_storage.backends.sql.storage import SQLStorage
from unified_storage.filters import Path

OPENER = """
import asyncio, sys
from unified_storage import open_storage

async def main(url, namespace, number):
    sys.stdin.readline()
    async with open_storage(url, namespace=namespace, indexed={"note": ["data.a", f"data.own{number}"]}) as storage:
        await storage.save({"id": f"n{number}", "type": "note", "data": {"a": number, f"own{number}": 1}})
        assert await storage.count({"type": "note", f"data.own{number}": 1}) == 1

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_sixteen_processes_open_an_empty_place_at_once(place: Place) -> None:
    """None fails, each finds what it indexed itself, and the store is whole afterwards."""
    openers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-c", OPENER, place.url, place.namespace, str(number)),
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for number in range(16)
    ]
    outcomes = await asyncio.gather(*(opener.communicate(b"go\n") for opener in openers))
    failed = [out.decode() for opener, (out, _) in zip(openers, outcomes, strict=True) if opener.returncode]
    assert failed == []
    async with place.open() as storage:
        for number in range(16):
            found = await storage.list({"type": "note", "data.a": number})
            assert [record["id"] for record in found] == [f"n{number}"]
        assert len(await storage.list({"type": "note", "data.a": {"$exists": True}})) == 16


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_a_store_of_the_previous_schema_is_upgraded_and_twice_is_nothing(place: Place, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", schema.STEPS[:-1])
        async with place.open() as storage:
            await storage.save({"id": "a", "type": "session", "data": {}, "metadata": {"status": "old"}})
            await storage.append("events/a", [{"body": 1}])
            assert (await storage.health_check())["schema"] == len(schema.STEPS)
    for _ in range(2):
        async with place.open() as storage:
            assert (await storage.health_check())["schema"] == len(schema.STEPS)
            assert await storage.count({"type": "session", "metadata.status": "old"}) == 1
            assert [entry["body"] for entry in await storage.read("events/a")] == [1]
            await _refuses_two_paths_in_one_slot(storage, place)


async def _refuses_two_paths_in_one_slot(storage, place: Place) -> None:
    """What the newest step adds."""
    assert isinstance(storage, SQLStorage)
    table = storage._tables.paths.name
    twice = f"INSERT INTO {table} (type, path, slot, filled) SELECT type, 'other', slot, 1 FROM {table} WHERE slot = 0"

    def steps():
        yield Call(twice)

    with pytest.raises(Exception, match=r"(?i)unique|duplicate|conflict|changed|exist"):
        await storage._engine.write(steps, 2)


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_a_store_of_a_later_schema_is_refused(place: Place, monkeypatch) -> None:
    async with place.open() as storage:
        await storage.save({"id": "a", "type": "note", "data": {}})
    monkeypatch.setattr(schema, "STEPS", schema.STEPS[:-1])
    with pytest.raises(StorageConfigurationError, match="upgrade unified-storage"):
        async with place.open() as storage:
            await storage.load("a")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_paths_are_indexed_while_others_write(place: Place) -> None:
    """A store that is being written gets a new indexed path: no record is missing from it, whoever wrote it when."""
    async with place.open() as storage:
        over = asyncio.Event()
        written: list[str] = []

        async def write(writer: int) -> None:
            while not over.is_set():
                name = f"w{writer}n{len(written)}"
                await storage.save({"id": name, "type": "note", "data": {"tag": "x"}})
                written.append(name)

        writers = [asyncio.create_task(write(writer)) for writer in range(6)]
        await asyncio.sleep(0.3)
        async with place.open(indexed={"note": ["data.tag"]}) as indexing:
            assert await indexing.count({"type": "note", "data.tag": "x"}) > 0
            await asyncio.sleep(0.3)
            over.set()
            await asyncio.gather(*writers)
            found = await indexing.list({"type": "note", "data.tag": "x"})
            assert {record["id"] for record in found} == {*written}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_nobody_hears_of_a_path_that_is_indexed_meanwhile(place: Place) -> None:
    """Neither single verbs nor open transactions fail while another program adds a path, which waits for them."""
    async with place.open() as storage:
        await storage.save({"id": "n0", "type": "note", "data": {"tag": "x"}})
        over = asyncio.Event()

        async def write(writer: int) -> int:
            count = 0
            while not over.is_set():
                async with storage.transaction() as tx:
                    await tx.load(f"n{writer}", type="note")
                    await asyncio.sleep(0.002)
                    await tx.save({"id": f"n{writer}", "type": "note", "data": {"tag": "x", "count": count}})
                count += 1
            return count

        writers = [asyncio.create_task(write(writer)) for writer in range(4)]
        await asyncio.sleep(0.1)
        for number in range(3):
            async with place.open(indexed={"note": [f"data.tag{number}", "data.tag"]}) as indexing:
                assert await indexing.count({"type": "note", "data.tag": "x"}) > 0
        over.set()
        assert min(await asyncio.gather(*writers)) > 0


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("engine", engines("postgresql", "mysql"))
async def test_a_path_is_indexed_after_those_who_did_not_know_of_it(place: Place, others: int) -> None:
    """A transaction that has begun before writes no key of the path: whoever fills the index waits for it."""
    async with place.open() as old:
        new = place.open(indexed={"note": ["data.colour"]})
        for number in range(others):
            await old.save({"id": f"n{number}", "type": "note", "data": {"colour": "blue"}})
        async with old.transaction() as tx:
            await tx.save({"id": "late", "type": "note", "data": {"colour": "red"}})
            opening = asyncio.ensure_future(new.count({"type": "note", "data.colour": "red"}))
            await asyncio.sleep(0.5)
            assert not opening.done()
        async with new:
            assert await opening == 1
            assert await new.count({"type": "note", "data.colour": "blue"}) == others


@pytest.mark.parametrize("engine", engines("postgresql", "mysql"))
async def test_a_key_is_filled_of_what_stands_there_after_a_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling the index of a record that somebody is writing to waits, and then takes the new document."""
    fill = SQLStorage._fill
    async with place.open() as old:
        await old.save({"id": "n", "type": "note", "data": {"colour": "blue"}})

        async def held_up(storage: SQLStorage, type_name: str, paths: Sequence[Path]) -> None:
            async with old.transaction() as tx:
                await tx.update("n", {"data": {"colour": "red"}}, type="note")
                filling = asyncio.ensure_future(fill(storage, type_name, paths))
                await asyncio.sleep(0.5)
                assert not filling.done()
            await filling

        monkeypatch.setattr(SQLStorage, "_fill", held_up)
        async with place.open(indexed={"note": ["data.colour"]}) as new:
            assert await new.count({"type": "note", "data.colour": "red"}) == 1
            assert await new.count({"type": "note", "data.colour": "blue"}) == 0
            assert [found async for batch in new.examine() for found in batch] == []
