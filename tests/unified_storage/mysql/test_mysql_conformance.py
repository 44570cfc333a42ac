"""MySQL or MariaDB keeps every promise, behaves like the model and answers like the reference."""

import asyncio
import itertools

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage import open_storage
from unified_storage.testing import StorageConformance, assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.differential import INDEXED

pytestmark = pytest.mark.servers


class TestMySQL(StorageConformance):
    """S0.27."""

    @pytest.fixture
    def open_store(self, home):
        return lambda **options: open_storage(**home, **options)


@pytest.mark.scaled
@pytest.mark.timeout(1800)
def test_mysql_behaves_like_the_model(scaled) -> None:
    url, namespace, numbers = engine_url("mysql"), fresh_namespace("my"), itertools.count()

    def fresh(**options):
        return open_storage(url, namespace=f"{namespace[:24]}__{next(numbers)}", **options)

    try:
        run_state_machine(fresh, examples=scaled(1000, minimum=10))
    finally:
        asyncio.run(drop_namespace(url, namespace[:24]))


@pytest.mark.scaled
@pytest.mark.timeout(1800)
async def test_mysql_answers_like_memory(home, scaled) -> None:
    """S2.24, S2.28: 2 000 generated (documents, filter, order, page) cases and 500 query texts."""
    clock = ManualClock()
    async with (
        open_storage("memory://", indexed=INDEXED, clock=clock) as memory,
        open_storage(**home, indexed=INDEXED, clock=clock) as mysql,
    ):
        cases = generated_cases(scaled(2000, minimum=60), scaled(500, minimum=20))
        tally = await assert_same_answers(memory, mysql, cases)
    assert tally.found_something > tally.asked // 10
