"""``create=False``: a store that has to be there already. Opening it makes, upgrades and indexes nothing."""

import pytest

from tests.places import ON_DISK, SQL, Place, engines
from tests.traces import state_of
from tests.unified_storage.planting import planter_at
from unified_storage import IUnifiedStorage, StorageConfigurationError, open_storage
from unified_storage.backends.sql.schema import STEPS
from unified_storage.testing.drafts import ids, note, save_all

ON_EVERY_ENGINE = pytest.mark.parametrize("engine", engines(*ON_DISK))
ON_SQL = pytest.mark.parametrize("engine", engines(*SQL))


@ON_EVERY_ENGINE
async def test_where_there_is_no_store_none_is_made(place: Place) -> None:
    storage = place.open(create=False)
    for verb in (storage.count, storage.health_check, lambda: storage.save(note("a")), storage.__aenter__):
        with pytest.raises(StorageConfigurationError, match="there is no store of ours in ") as refusal:
            await verb()
        assert refusal.value.details["found"] == 0
        assert place.url.partition("?")[0].rpartition("@")[2] in str(refusal.value)
    assert await state_of(place) == {}
    async with place.open() as maker:
        await maker.save(note("a"))
    assert await storage.count() == 1, "what is made meanwhile is found"
    await storage.close()


@ON_EVERY_ENGINE
async def test_another_namespace_is_another_store(place: Place) -> None:
    async with place.open() as storage:
        await storage.save(note("a"))
    with pytest.raises(StorageConfigurationError, match="no store of ours"):
        await open_storage(place.url, namespace=f"{place.namespace}x", create=False).count()


@ON_EVERY_ENGINE
async def test_opening_one_changes_nothing_and_paths_without_an_index_are_searched(place: Place) -> None:
    notes = [note(name, data={"tag": f"t{number}"}) for number, name in enumerate("abcd")]
    async with place.open() as storage:
        await save_all(storage, notes)
    before = await state_of(place)
    async with place.open(create=False, indexed={"note": ["data.tag"]}) as storage:
        assert ids(await storage.list({"type": "note", "data.tag": {"$gt": "t1"}})) == ["c", "d"]
        assert ids((await storage.page({"type": "note"}, order_by="-data.tag", limit=3)).items) == ["d", "c", "b"]
        assert (await storage.health_check())["status"] == "ok"
    assert await state_of(place) == before
    async with place.open(create=False) as storage:
        await storage.save(note("e"))
        async with storage.transaction() as tx:
            await tx.delete("e", type="note")
        assert ids(await storage.list()) == ["a", "b", "c", "d"]


@ON_SQL
async def test_an_older_schema_is_read_as_it_is_and_upgraded_by_others(place: Place) -> None:
    async with place.open() as storage:
        await storage.save(note("a"))
    async with planter_at(place) as planter:
        await planter.drop_index("by_slot", "paths")
        await planter.run("UPDATE {schema} SET version = 1")
    before = await state_of(place)
    async with place.open(create=False) as storage:
        assert ids(await storage.list()) == ["a"]
        for write in (storage.save(note("b")), enter(storage), storage.delete("a")):
            with pytest.raises(StorageConfigurationError, match="doctor upgrades it") as refusal:
                await write
            assert refusal.value.details == {"found": 1, "known": len(STEPS)}
    assert await state_of(place) == before
    async with place.open() as storage:
        assert (await storage.health_check())["schema"] == len(STEPS)
    async with place.open(create=False) as storage:
        await storage.save(note("b"))


async def enter(storage: IUnifiedStorage) -> None:
    async with storage.transaction():
        pass


@ON_SQL
async def test_a_schema_too_old_to_be_read_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.open():
        pass
    monkeypatch.setattr("unified_storage.backends.sql.schema.OLDEST_READ", len(STEPS) + 1)
    with pytest.raises(StorageConfigurationError, match="doctor upgrades it"):
        await place.open(create=False).count()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
async def test_what_lives_in_memory_is_always_there(url: str) -> None:
    async with open_storage(url, create=False) as storage:
        await storage.save(note("a"))
        assert await storage.count() == 1


@pytest.mark.parametrize("url", ["memory://", "sqlite:///x.db", "postgresql://h/d", "mysql://h/d", "redis://h"])
def test_create_is_a_switch_in_urls_too(url: str) -> None:
    for word in ("true", "FALSE", "1", "0", "yes", "no"):
        open_storage(f"{url}?create={word}")
    with pytest.raises(StorageConfigurationError, match="create must be true or false, not 'perhaps'"):
        open_storage(f"{url}?create=perhaps")
