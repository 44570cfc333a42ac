"""Answers do not depend on what is indexed, nor on where SQLite keeps its data."""

from pathlib import Path

import pytest

from unified_storage import open_storage
from unified_storage.testing import ManualClock, assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.differential import INDEXED


@pytest.mark.parametrize("indexed", [None, INDEXED], ids=["few indexes", "many indexes"])
async def test_answers_do_not_depend_on_indexes(tmp_path: Path, indexed, scaled) -> None:
    """What is indexed on one side only may be refused as an order on the other, and changes nothing else."""
    clock = ManualClock()
    async with (
        open_storage("memory://", clock=clock) as reference,
        open_storage(f"sqlite:///{tmp_path}/records.db", indexed=indexed, clock=clock) as sqlite,
    ):
        cases = generated_cases(scaled(500, minimum=40), scaled(100, minimum=10), seed=10_000)
        tally = await assert_same_answers(reference, sqlite, cases, orders_alike=indexed is None)
    assert tally.refused > 0
    assert tally.found_something > tally.asked // 5


def test_a_database_in_memory_behaves_like_the_model(scaled) -> None:
    run_state_machine(lambda **options: open_storage("sqlite:///:memory:", **options), examples=scaled(300, minimum=10))
