"""Every backend behaves like the model and answers like the memory backend: random calls, generated questions."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unified_storage import IUnifiedStorage, open_storage
from unified_storage.testing import ManualClock, assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.differential import INDEXED

Fresh = Callable[..., IUnifiedStorage]


@pytest.fixture(params=["sqlite file", "sqlite in memory"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """Opens a new, empty store each time."""
    if request.param == "sqlite in memory":
        return lambda **options: open_storage("sqlite:///:memory:", **options)
    numbers = itertools.count()
    return lambda **options: open_storage(f"sqlite:///{tmp_path}/{next(numbers)}.db", **options)


def test_it_behaves_like_the_model(fresh: Fresh, scaled) -> None:
    run_state_machine(fresh, examples=scaled(300, minimum=12))


async def test_it_answers_like_the_memory_backend(fresh: Fresh, scaled) -> None:
    """S2.24, S2.28: 2 000 filters with an order and pages, and 500 query texts, over nasty documents."""
    options: dict[str, Any] = {"indexed": INDEXED, "clock": ManualClock()}
    async with open_storage("memory://", **options) as reference, fresh(**options) as other:
        cases = generated_cases(scaled(2000, minimum=100), scaled(500, minimum=25))
        tally = await assert_same_answers(reference, other, cases)
    assert tally.found_something > tally.asked // 4


async def test_it_answers_the_same_without_indexes(fresh: Fresh, scaled) -> None:
    """Only sessions' own paths are indexed on one side: the answers that do not order by others stay the same."""
    clock = ManualClock()
    async with open_storage("memory://", clock=clock) as reference, fresh(clock=clock) as other:
        cases = generated_cases(scaled(500, minimum=40), scaled(100, minimum=10), seed=10_000)
        tally = await assert_same_answers(reference, other, cases)
    assert tally.refused > 0
    assert tally.found_something > tally.asked // 5
