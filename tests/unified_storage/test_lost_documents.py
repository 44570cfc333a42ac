"""Records whose document row is gone: that is damage and told as such, and a save puts a document there again."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.places import SQL, Place, engines
from tests.unified_storage.planting import planter_at
from unified_storage import IUnifiedStorage, StorageIntegrityError, StorageTransactionError
from unified_storage.interface import Records

pytestmark = pytest.mark.parametrize("engine", engines(*SQL))


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    """A store with a record that has lost its document, between two whole ones."""
    async with place.open() as storage:
        for id in ("a", "lost", "z"):
            await storage.save({"id": id, "type": "note", "data": {"n": 1}, "metadata": {"n": 1}})
        async with planter_at(place) as planter:
            await planter.run("DELETE FROM {documents} WHERE n = ?", await planter.row_of("lost", "note"))
        yield storage


async def save(storage: IUnifiedStorage) -> None:
    await storage.save({"id": "lost", "type": "note", "data": {"n": 2}})


async def save_in_a_batch(storage: IUnifiedStorage) -> None:
    await storage.batch_save([{"id": id, "type": "note", "data": {"n": 2}} for id in ("a", "lost")])


async def restore(storage: IUnifiedStorage) -> None:
    await storage.restore([{"id": "lost", "type": "note", "data": {"n": 2}}])


@pytest.mark.parametrize("write", [save, save_in_a_batch, restore])
async def test_what_is_written_over_a_record_that_lost_its_document_is_there(
    storage: IUnifiedStorage, write: Callable[[IUnifiedStorage], Awaitable[None]]
) -> None:
    await write(storage)
    found = await storage.load("lost", type="note")
    assert found is not None
    assert (found["data"], found["version"]) == ({"n": 2}, 2)
    assert [batch async for batch in storage.examine()] == []


@pytest.mark.parametrize("type", ["note", None])
async def test_a_lost_document_is_no_absence(storage: IUnifiedStorage, type: str | None) -> None:
    with pytest.raises(StorageIntegrityError) as reading:
        await storage.load("lost", type=type)
    with pytest.raises(StorageIntegrityError) as updating:
        await storage.update("lost", {"data": {"m": 1}}, type=type)
    assert reading.value.details == updating.value.details == {"id": "lost", "type": "note"}
    assert await storage.exists("lost")
    assert await storage.load("nobody", type=type) is None
    assert not await storage.update("nobody", {}, type=type)


async def stream_list(storage: IUnifiedStorage) -> Records:
    return [record async for batch in storage.stream_list() for record in batch]


LISTS: dict[str, Callable[[IUnifiedStorage], Awaitable[object]]] = {
    "list": lambda storage: storage.list(),
    "list of a type": lambda storage: storage.list({"type": "note"}),
    "list by ids": lambda storage: storage.list({"type": "note", "id": {"$in": ["a", "lost"]}}),
    "list by data, without it": lambda storage: storage.list({"data.n": 1}, with_data=False),
    "stream_list": stream_list,
    "page": lambda storage: storage.page({"type": "note"}),
    "page of all types": lambda storage: storage.page({}, order_by="id"),
    "page by data": lambda storage: storage.page({"type": "note", "data.n": 1}, with_data=False),
    "count by data": lambda storage: storage.count({"data.n": 1}),
}


@pytest.mark.parametrize("verb", LISTS)
async def test_a_list_that_needs_a_lost_document_says_so(storage: IUnifiedStorage, verb: str) -> None:
    with pytest.raises(StorageIntegrityError, match="its document is not there") as listing:
        await LISTS[verb](storage)
    assert listing.value.details == {"id": "lost", "type": "note"}


async def test_a_list_without_data_shows_a_record_that_lost_its_document(storage: IUnifiedStorage) -> None:
    ids = ["a", "lost", "z"]
    assert [record["id"] for record in await storage.list(with_data=False)] == ids
    assert [record["id"] for record in await storage.list({"metadata.n": 1}, with_data=False)] == ids
    page = await storage.page({"type": "note"}, order_by="id", with_data=False)
    assert [record["id"] for record in page.items] == ids
    assert await storage.count() == 3


async def test_an_update_of_a_record_that_lost_its_document_dooms_its_transaction(storage: IUnifiedStorage) -> None:
    with pytest.raises(StorageTransactionError):
        async with storage.transaction() as tx:
            await tx.save({"id": "a", "type": "note", "data": {"n": 3}})
            with pytest.raises(StorageIntegrityError):
                await tx.update("lost", {"data": {"m": 1}})
    whole = await storage.load("a")
    assert whole is not None
    assert whole["data"] == {"n": 1}


async def test_a_record_that_lost_its_document_can_be_deleted(storage: IUnifiedStorage) -> None:
    assert await storage.delete("lost", type="note")
    assert await storage.load("lost") is None
    assert [batch async for batch in storage.examine()] == []
