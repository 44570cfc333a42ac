"""Systems take turns, slow ones do less, and what was lost is counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import measuring
from benchmarks.measuring import QUICK, Cell, Metric, interleaved, latency, quartiles, stopwatch, times_the_work
from benchmarks.system import NotOffered, System
from benchmarks.workloads.concurrency import _Appends, _updated
from tests.benchmarks.naive import Naive

SIZES = replace(QUICK, repetitions=3, operations=4, seconds=60.0)


async def test_systems_take_turns_and_the_first_repetition_warms_up() -> None:
    turns: list[tuple[str, int]] = []

    async def repeated(store: str, cell: Cell, number: int) -> float:
        turns.append((store, number))
        return float(number)

    found = await interleaved([Metric("m", "us", {"a": "A", "b": "B"}, repeated)], SIZES)

    assert turns == [(store, number) for number in range(4) for store in "AB"]
    assert found["m"]["a"].samples == [1.0, 2.0, 3.0]


async def test_metrics_take_turns_too() -> None:
    turns: list[str] = []

    def of(name: str) -> Metric:
        async def repeated(store: Any, cell: Cell, number: int) -> float:
            turns.append(name)
            return 1.0

        return Metric(name, "us", {"a": None}, repeated)

    await interleaved([of("short"), of("long")], SIZES)
    assert turns == ["short", "long"] * 4


async def test_a_system_that_is_too_slow_has_one_sample() -> None:
    async def repeated(store: Any, cell: Cell, number: int) -> float:
        cell.busy += 1e6
        return 7.0

    found = await interleaved([Metric("m", "us", {"slow": None}, repeated)], SIZES)
    assert found["m"]["slow"].samples == [7.0]


async def test_what_is_not_offered_or_fails_is_said_and_stops_nobody_else() -> None:
    async def repeated(store: str, cell: Cell, number: int) -> float:
        if store == "lacks":
            raise NotOffered("no listing")
        if store == "fails":
            raise RuntimeError("out of order")
        return 1.0

    stores = {name: name for name in ("lacks", "fails", "works")}
    found = (await interleaved([Metric("m", "us", stores, repeated)], SIZES))["m"]

    assert found["lacks"].note == "not offered: no listing"
    assert found["fails"].note == "fails: RuntimeError: out of order"
    assert found["works"].samples == [1.0] * 3


async def test_a_latency_stops_when_its_time_is_over_but_not_before_the_first() -> None:
    done = []

    async def operation() -> None:
        done.append(1)

    cell = Cell("us")
    await latency(cell, [operation] * 10, seconds=-1.0)
    assert len(done) == 1
    await latency(cell, [operation] * 10, seconds=60.0)
    assert len(done) == 11


def test_time_counts_as_busy_where_it_is_stopped() -> None:
    cell = Cell("per_s")
    with stopwatch(cell) as seconds:
        pass
    assert 0 < seconds() == cell.busy


def test_the_spread_is_told_by_quartiles() -> None:
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


@pytest.mark.parametrize(("unit", "ratio"), [("us", 4.0), ("per_s", 0.25)])
def test_a_ratio_above_one_is_more_work_whatever_the_unit(unit: str, ratio: float) -> None:
    cells: dict[str, Any] = {
        "a": {"unit": unit, "median": 8.0},
        "b": {"unit": unit, "median": 2.0},
        "c": {"unit": unit},
    }
    assert times_the_work(cells, "a", "b") == ratio
    assert times_the_work(cells, "a", "c") is None


# --- what is counted when many tasks write ----------------------------------------------------------------------


async def counted_appends(system: System, sessions: int) -> Cell:
    appends, cell = _Appends(SIZES, 16, sessions), Cell("per_s")
    for number in range(2):
        await appends.repeated(system, cell, number)
    return cell


@pytest.mark.parametrize("sessions", [16, 1])
async def test_a_system_without_faults_loses_nothing(sessions: int) -> None:
    cell = await counted_appends(Naive(), sessions)
    assert (cell.lost, cell.errors, cell.gaps) == (0, 0, 0)
    assert cell.checked == 16 + 16 * 50


async def test_lost_appends_are_counted() -> None:
    cell = await counted_appends(Naive(loses=True), 1)
    assert cell.lost > cell.checked / 2
    assert cell.errors == 0


async def test_refused_appends_are_errors_and_not_lost() -> None:
    cell = await counted_appends(Naive(refuses_every=4), 1)
    assert cell.errors == 4 + 200
    assert cell.checked == 12 + 600
    assert cell.lost == 0
    assert cell.note == "RuntimeError: busy"


async def test_numbers_that_do_not_begin_at_one_are_gaps() -> None:
    cell = await counted_appends(Naive(numbers_from=2), 1)
    assert cell.gaps == cell.checked


@pytest.mark.parametrize(("loses", "lost"), [(False, 0), (True, 75)])
async def test_lost_state_updates_are_counted(loses: bool, lost: int) -> None:
    """Of 80 in all: of those made at the same moment one survives."""
    cell = Cell("per_s")
    await _updated(Naive(loses=loses), cell, 1)
    assert (cell.checked, cell.lost) == (80, lost)


async def test_a_repetition_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "LONGEST_SECONDS", 0.01)

    async def repeated(store: Any, cell: Cell, number: int) -> float:
        await asyncio.sleep(60)
        return 1.0

    found = await interleaved([Metric("m", "us", {"stuck": None}, repeated)], SIZES)
    assert found["m"]["stuck"].note.startswith("fails: TimeoutError")
