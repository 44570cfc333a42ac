"""Real processes that write all the time, a migration there and back, and kill -9 on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.migration.trials import THERE_AND_BACK, Outcome, Trial
from tests.places import Place, engines, place_on
from tests.support import scaled

TARGETS = ("sqlite", "postgresql", "mysql", "redis")


@pytest.fixture(params=engines(*TARGETS))
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(request.param, tmp_path) as opened:
        yield opened


def assert_right(outcome: Outcome) -> None:
    told = f"killed: {outcome.killed}\n{outcome.logs}"
    assert not outcome.wrong, f"{outcome.wrong}\n{told}"
    assert outcome.left_open == 0, told
    assert outcome.ledger_closed, told
    assert outcome.operations > 50, told


@pytest.mark.scaled
def test_nothing_is_lost_doubled_or_brought_back(place: Place, tmp_path: Path) -> None:
    trial = Trial(tmp_path, place.address, seed=1, sessions=scaled(20_000, minimum=200), phases=(*THERE_AND_BACK, 4))
    assert_right(trial.run())


@pytest.mark.scaled
@pytest.mark.parametrize("seed", range(scaled(100, minimum=1)))
def test_kill_9_of_anybody_loses_nothing(place: Place, tmp_path: Path, seed: int) -> None:
    assert_right(Trial(tmp_path, place.address, seed=seed, kills=4, phases=(*THERE_AND_BACK, 4)).run())


@pytest.mark.scaled
@pytest.mark.parametrize("seed", range(scaled(50, minimum=1)))
def test_who_stands_still_while_the_phase_changes_loses_nothing(place: Place, tmp_path: Path, seed: int) -> None:
    assert_right(Trial(tmp_path, place.address, seed=seed, stops=3, phases=(*THERE_AND_BACK, 4)).run())
