"""The page that most ask for has a short way of its own, which shows what the long way shows."""

import itertools
from typing import Any

import pytest

from tests.places import Place, engines
from unified_storage import IUnifiedStorage
from unified_storage.interface import Page

LONG = "x" * 600
VALUES: tuple[Any, ...] = ("open", "", "a\0b", "\ud83d", "ä'\"%_", LONG + "1", LONG + "2", "1", 1, True, None, ["open"])
"""Those of 600 characters share what an index keeps of them; "1", 1 and True share what a careless one would."""
ORDERS = ("-updated_at", "updated_at", "-created_at", "created_at", "-id", "id")

pytestmark = pytest.mark.parametrize("engine", engines("memory", "sqlite", "postgresql", "mysql"))


def _record(number: int, status: Any, type_name: str = "session") -> dict[str, Any]:
    metadata = {"status": status, "user_id": f"u{number % 2}"}
    return {"id": f"r{number:02}", "type": type_name, "data": {"n": number}, "metadata": metadata, "thread_id": "t"}


async def _fill(storage: IUnifiedStorage) -> None:
    for number, status in enumerate((*VALUES, *VALUES, *VALUES)):
        await storage.save(_record(number, status))
    await storage.save(_record(90, "open", "note"))
    await storage.save(_record(91, "open") | {"expires_at": storage.clock()})


def _filters(status: Any) -> list[dict[str, Any]]:
    return [
        {"metadata.status": status},
        {"metadata.status": status, "metadata.user_id": "u1"},
        {"thread_id": "t", "metadata.status": status},
        {"id": "r00", "metadata.status": status},
        {"metadata.status": status, "data.n": 12},
        {"thread_id": status},
        {"metadata.status": status, "metadata.unknown": "x"},
    ]


async def _shown(storage: IUnifiedStorage, filters: dict[str, Any], order: str, with_data: bool) -> Page:
    return await storage.page(filters, limit=2, order_by=order, with_data=with_data)


async def test_the_first_page_is_the_same_however_its_type_is_said(place: Place) -> None:
    async with place.open() as storage:
        await _fill(storage)
        kinds = [status for status in VALUES if not isinstance(status, list)]
        for status, order in itertools.product(kinds, ORDERS):
            for filters in _filters(status):
                short = await _shown(storage, {"type": "session", **filters}, order, True)
                long = await _shown(storage, {"type": {"$in": ["session"]}, **filters}, order, True)
                assert short.items == long.items, (filters, order)
                assert (short.next_cursor is None) == (long.next_cursor is None)
                without = await _shown(storage, {"type": "session", **filters}, order, False)
                assert [item["id"] for item in without.items] == [item["id"] for item in long.items]
                assert not any("data" in item for item in without.items)


async def test_it_goes_on_where_it_ended(place: Place) -> None:
    async with place.open() as storage:
        await storage.batch_save([_record(number, "open") for number in range(25)])
        filters = {"type": "session", "metadata.status": "open"}
        seen, cursor = [], None
        while True:
            page = await storage.page(filters, limit=10, order_by="-id", cursor=cursor)
            seen += [item["id"] for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [f"r{number:02}" for number in reversed(range(25))]


async def test_a_transaction_sees_its_own_writes_in_it(place: Place) -> None:
    async with place.open() as storage:
        await storage.save(_record(1, "open"))
        async with storage.transaction() as tx:
            await tx.save(_record(2, "open"))
            await tx.delete("r01", type="session")
            page = await tx.page({"type": "session", "metadata.status": "open"})
            assert [item["id"] for item in page.items] == ["r02"]
