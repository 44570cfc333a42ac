"""A hundred thousand sessions: pages and filters touch what they show, at any depth."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.places import ON_DISK, Place, engines
from tests.support import scaled
from tests.unified_storage.every_engine.meters import metered_page
from unified_storage import IUnifiedStorage

pytestmark = [pytest.mark.stress, pytest.mark.timeout(3000)]
TOTAL = scaled(100_000, minimum=10_000)
USERS = 50
LAST_PAGE = TOTAL // 25
"""Page 4 000 of 20 among 100 000; as deep in proportion where there are fewer."""


def _session(n: int) -> dict[str, Any]:
    return {
        "id": f"s{n:07}",
        "type": "session",
        "data": {"n": n},
        "metadata": {"app_name": "app", "user_id": f"u{n % USERS}", "status": "active" if n % 10 else "failed"},
    }


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    async with place.open() as opened:
        if place.engine == "redis-cluster":  # its batches stay within a partition
            for start in range(0, TOTAL, 200):
                await asyncio.gather(*(opened.save(_session(n)) for n in range(start, start + 200)))
        else:
            for start in range(0, TOTAL, 1000):
                await opened.batch_save([_session(n) for n in range(start, start + 1000)])
        yield opened


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_pages_touch_the_same_number_of_rows_at_any_depth(storage, engine) -> None:
    """By time alone, and by an indexed path that many sessions share."""
    for filters in ({"type": "session"}, {"type": "session", "metadata.app_name": "app"}):
        before = await storage.page(filters, limit=20 * (LAST_PAGE - 1), with_data=False)
        deep = await storage.page(filters, limit=20, cursor=before.next_cursor)
        assert len(deep.items) == 20
        first_touched = (await metered_page(storage, filters, None)).touched
        deep_touched = (await metered_page(storage, filters, before.next_cursor)).touched
        assert first_touched > 20
        assert deep_touched <= 1.5 * first_touched, f"page 1: {first_touched}, page {LAST_PAGE}: {deep_touched}"
        if engine == "redis-cluster":  # each of the 64 partitions is asked for a page
            assert first_touched < 64 * 21 + 2_000
        else:
            assert first_touched < 2_500


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_a_filter_on_an_indexed_path_uses_its_index(storage, engine) -> None:
    """The rarest of it: the plan names the path's index, and a fraction of the rows is touched."""
    filters = {"type": "session", "metadata.user_id": "u7"}
    page = await storage.page(filters, limit=20)
    assert [record["metadata"]["user_id"] for record in page.items] == ["u7"] * 20
    meter = await metered_page(storage, filters, None)
    if engine in ("sqlite", "postgresql", "mysql"):
        number = storage._store.slots["session"][("metadata", "user_id")].number
        assert any(f"by_k{number}" in plan for plan in meter.plans), meter.plans
    else:
        assert not {"KEYS", "SCAN", "ZSCAN", "HSCAN", "SSCAN"} & {plan.upper() for plan in meter.plans}
    assert meter.touched < (64 * 21 + 2_000 if engine == "redis-cluster" else 2_500)
    assert await storage.count(filters) == TOTAL // USERS
    found = await storage.list(filters, with_data=False)
    assert [record["id"] for record in found] == [f"s{n:07}" for n in range(7, TOTAL, USERS)]
