"""PostgreSQL keeps every promise, behaves like the model and answers like the reference."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage import open_storage
from unified_storage.testing import StorageConformance, assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.differential import INDEXED

pytestmark = pytest.mark.servers


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    """One of the test's own, whose tables go afterwards."""
    name = fresh_namespace("pg")
    yield name
    await drop_namespace(engine_url("postgresql"), name)


class TestPostgreSQL(StorageConformance):
    """S0.27."""

    @pytest.fixture
    def open_store(self, namespace: str):
        url = engine_url("postgresql")
        return lambda **options: open_storage(url, namespace=namespace, **options)


@pytest.mark.scaled
@pytest.mark.timeout(1800)
def test_postgresql_behaves_like_the_model(scaled) -> None:
    url, numbers, used = engine_url("postgresql"), itertools.count(), []
    first = fresh_namespace("pgm")

    def fresh(**options):
        used.append(f"{first[:24]}_{next(numbers)}")
        return open_storage(url, namespace=used[-1], **options)

    async def drop_all() -> None:
        for name in used:
            await drop_namespace(url, name)

    try:
        run_state_machine(fresh, examples=scaled(1000, minimum=25))
    finally:
        asyncio.run(drop_all())


@pytest.mark.scaled
@pytest.mark.timeout(1800)
async def test_postgresql_answers_like_memory(namespace: str, scaled) -> None:
    """S2.24, S2.28: 2 000 generated (documents, filter, order, page) cases and 500 query texts."""
    clock = ManualClock()
    url = engine_url("postgresql")
    async with (
        open_storage("memory://", indexed=INDEXED, clock=clock) as memory,
        open_storage(url, namespace=namespace, indexed=INDEXED, clock=clock) as postgresql,
    ):
        cases = generated_cases(scaled(2000, minimum=60), scaled(500, minimum=20))
        tally = await assert_same_answers(memory, postgresql, cases)
    assert tally.found_something > tally.asked // 10
