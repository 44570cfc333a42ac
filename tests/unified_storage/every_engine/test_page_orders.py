"""Pages by an indexed path, by id and by age: what they show, and that a page costs a page."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.places import Place, engines
from tests.unified_storage.every_engine.meters import metered_page
from unified_storage import IUnifiedStorage, open_storage
from unified_storage.backends.sql import listing

MANY = 4_000
INDEXED = {"task": ["metadata.kind", "metadata.name", "metadata.group"]}
ORDERS = (
    "metadata.kind",
    "-metadata.kind",
    "metadata.name",
    "-metadata.name",
    "id",
    "-id",
    "created_at",
    "-created_at",
)


def _task(number: int) -> dict[str, Any]:
    """Ids go another way than names; every third has no kind, the others one of two; a few share a group."""
    metadata: dict[str, Any] = {"name": f"name {number:05}", "group": f"g{number // 7}"}
    if number % 3:
        metadata["kind"] = "ab"[number % 2]
    return {"id": f"t{number * 7919 % MANY:05}", "type": "task", "data": {"n": number}, "metadata": metadata}


async def _walked(storage: IUnifiedStorage, filters: dict[str, Any], order_by: str, limit: int) -> list[str]:
    seen: list[str] = []
    cursor = None
    while True:
        page = await storage.page(filters, order_by=order_by, limit=limit, cursor=cursor)
        seen += [item["id"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return seen


@pytest.mark.parametrize("few", [1, 5, 1_000])
@pytest.mark.parametrize("engine", engines("sqlite", "postgresql", "mysql"))
async def test_every_order_is_walked_as_in_memory(place: Place, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are held for few."""
    monkeypatch.setattr(listing, "_FEW_FOR_A_PAGE", few)
    tasks = [_task(number) for number in range(40)]
    others = [record | {"type": "tool"} for record in tasks[::4]]
    filters: list[dict[str, Any]] = [
        {"type": "task"},
        {},
        {"type": "task", "metadata.group": "g2"},
        {"type": "task", "metadata.kind": "a", "data.n": {"$gt": 10}},
        {"type": "task", "thread_id": "th"},
    ]
    async with place.open(indexed=INDEXED) as storage, open_storage("memory://", indexed=INDEXED) as memory:
        for each in (storage, memory):
            await each.restore([record | {"created_at": each.clock(), "thread_id": "th"} for record in tasks + others])
        for wanted in filters:
            for order_by in ORDERS[:6]:
                whole = await _walked(memory, wanted, order_by, 100)
                assert await _walked(storage, wanted, order_by, 3) == whole, (wanted, order_by)
                assert await _walked(storage, wanted, order_by, 100) == whole, (wanted, order_by)


@pytest.fixture
async def full(place: Place) -> AsyncIterator[IUnifiedStorage]:
    async with place.open(indexed=INDEXED) as storage:
        await storage.batch_save([_task(number) for number in range(MANY)])
        yield storage


@pytest.mark.parametrize("engine", engines("sqlite"))
async def test_a_page_touches_no_more_than_a_page_in_any_order(
    full: IUnifiedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many share a key as where each has its own, from the beginning as from within."""
    monkeypatch.setattr(listing, "_FEW_FOR_A_PAGE", 50)
    for order_by in ("-metadata.kind", "-metadata.name", "metadata.kind"):
        cursor = (await full.page({"type": "task"}, order_by=order_by)).next_cursor
        for place in (None, cursor):
            meter = await metered_page(full, {"type": "task"}, place, order_by=order_by)
            assert meter.touched < 6_000, (order_by, meter.touched, meter.plans)


@pytest.mark.parametrize("engine", engines("sqlite"))
async def test_what_an_index_finds_is_sorted_where_it_is_little(full: IUnifiedStorage) -> None:
    for order_by in ("id", "-id", "created_at", "-created_at", "updated_at", "-updated_at"):
        meter = await metered_page(full, {"type": "task", "metadata.group": "g99"}, None, order_by=order_by)
        assert meter.touched < 1_000, (order_by, meter.touched, meter.plans)
