"""Upgrades of big stores: they take as long as they take, and only what they wait for has a time limit."""

import asyncio

import pytest

from tests.places import SQL, Place, engines
from unified_storage import StorageConflictError, StorageTimeoutError
from unified_storage.backends.sql import schema, server_engine
from unified_storage.backends.sql.statements import Call
from unified_storage.backends.sql.storage import SQLStorage

LIMIT = 1.0
SLOW = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000000) SELECT count(*) FROM c"
}
SLOW |= {"postgresql": "SELECT pg_sleep(1.8)", "mysql": "SELECT SLEEP(1.8)"}
"""What takes longer than the limit."""


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_engine, "_GRACE", 0.2)


@pytest.fixture
async def slow(place: Place) -> str:
    """A statement that takes too long for every verb."""
    async with place.open() as storage:
        await storage.save({"id": "a", "type": "note", "data": {"tag": "x"}})
    return SLOW[place.engine]


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_an_upgrade_may_take_longer_than_a_statement(
    place: Place, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long_step(tables, dialect):
        yield Call(slow)

    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, long_step))
    async with place.open(statement_timeout=LIMIT) as storage:
        assert (await storage.health_check())["schema"] == len(schema.STEPS)
        assert await storage.count({"type": "note"}) == 1


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_filling_the_keys_of_a_new_path_may_take_longer_than_a_statement(
    place: Place, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = schema.filled

    def filled(store, type_name, paths, after):
        yield Call(slow)
        return (yield from quick(store, type_name, paths, after))

    monkeypatch.setattr(schema, "filled", filled)
    async with place.open(statement_timeout=LIMIT, indexed={"note": ["data.tag"]}) as storage:
        assert await storage.count({"type": "note", "data.tag": "x"}) == 1
        assert [found async for batch in storage.examine() for found in batch] == []


@pytest.mark.parametrize("engine", engines("postgresql", "mysql"))
async def test_what_verbs_ask_is_limited_after_an_upgrade(
    place: Place, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engine, "_GRACE", 30)  # it has to be the server that ends them
    async with place.open(statement_timeout=LIMIT, pool_size=1, indexed={"note": ["data.tag"]}) as storage:

        def steps():
            yield Call(slow)

        assert isinstance(storage, SQLStorage)
        for carried_out in (storage._engine.read, storage._engine.write):
            with pytest.raises(StorageTimeoutError):
                await carried_out(steps, LIMIT)


@pytest.mark.parametrize("engine", engines("postgresql", "mysql"))
async def test_an_upgrade_waits_for_others_no_longer_than_a_statement_may_take(place: Place) -> None:
    async with place.open() as old:
        await old.save({"id": "a", "type": "note", "data": {"tag": "x"}})
        new = place.open(statement_timeout=LIMIT, indexed={"note": ["data.tag"]})
        async with old.transaction() as tx:
            await tx.save({"id": "b", "type": "note", "data": {"tag": "x"}})
            async with asyncio.timeout(20):
                with pytest.raises((StorageConflictError, StorageTimeoutError)) as raised:
                    await new.load("a")
            assert raised.value.retryable
        async with new:
            assert await new.count({"type": "note", "data.tag": "x"}) == 2
