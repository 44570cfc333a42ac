"""SQLite, in a file and in memory, keeps every promise, behaves like the model and answers like the reference."""

import itertools
from pathlib import Path

import pytest

from unified_storage import open_storage
from unified_storage.testing import StorageConformance, assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.differential import INDEXED


class TestSQLiteFile(StorageConformance):
    """S0.27."""

    @pytest.fixture
    def open_store(self, tmp_path: Path):
        return lambda **options: open_storage(f"sqlite:///{tmp_path}/records.db", **options)


class TestSQLiteInMemory(StorageConformance):
    """S0.27."""

    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: open_storage("sqlite:///:memory:", **options)


@pytest.mark.scaled
@pytest.mark.timeout(1800)
def test_sqlite_behaves_like_the_model(tmp_path: Path, scaled) -> None:
    numbers = itertools.count()

    def fresh(**options):
        return open_storage(f"sqlite:///{tmp_path}/{next(numbers)}.db", **options)

    run_state_machine(fresh, examples=scaled(1000, minimum=25))


@pytest.mark.scaled
@pytest.mark.timeout(1800)
async def test_sqlite_answers_like_memory(tmp_path: Path, scaled) -> None:
    """S2.24, S2.28: 2 000 generated (documents, filter, order, page) cases and 500 query texts."""
    clock = ManualClock()
    async with (
        open_storage("memory://", indexed=INDEXED, clock=clock) as memory,
        open_storage(f"sqlite:///{tmp_path}/records.db", indexed=INDEXED, clock=clock) as sqlite,
    ):
        cases = generated_cases(scaled(2000, minimum=60), scaled(500, minimum=20))
        tally = await assert_same_answers(memory, sqlite, cases)
    assert tally.found_something > tally.asked // 10
