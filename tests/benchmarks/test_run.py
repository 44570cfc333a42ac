"""A run goes on where it was interrupted, and says beforehand how long it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import commands, places, results
from benchmarks.durations import Durations, as_text
from benchmarks.measuring import QUICK, Cell
from benchmarks.progress import PlainProgress
from benchmarks.results import Results
from benchmarks.runner import Step, carried_out, planned
from benchmarks.stage import Found, Stage
from benchmarks.workloads import WORKLOADS, Part, parts

TINY = replace(QUICK, repetitions=1, operations=2, seconds=0.2, scale=0.01)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "FOLDER", tmp_path / "places")
    return tmp_path


class Counting:
    """Parts that count how often they run; one may be killed."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def steps(self, *names: str, killed: str = "") -> list[Step]:
        return [Step("sqlite", "", self._part(name, killed == name), ["raw", "ours"]) for name in names]

    def _part(self, name: str, is_killed: bool) -> Part:
        async def run(stage: Stage) -> Found:
            self.ran.append(name)
            if is_killed:
                raise KeyboardInterrupt
            return {name: {system: Cell("us", [1.0, 2.0, 3.0]) for system in stage.names}}

        return Part(name, frozenset({"W1"}), run)


def silent(steps: list[Step]) -> PlainProgress:
    from rich.console import Console

    return PlainProgress(Console(quiet=True), {step.name: 1.0 for step in steps})


async def run(steps: list[Step], kept: Results) -> None:
    await carried_out(steps, TINY, kept, silent(steps))


async def test_a_killed_run_goes_on_behind_the_last_finished_part(tmp_path: Path) -> None:
    counting, file = Counting(), tmp_path / "run.json"
    with pytest.raises(KeyboardInterrupt):
        await run(counting.steps("one", "two", "three", killed="two"), Results.begun(file, TINY, fresh=False))

    steps = counting.steps("one", "two", "three")
    kept = Results.begun(file, TINY, fresh=False)
    kept.forget((step.name, step.systems) for step in steps)
    await run(steps, kept)

    assert counting.ran == ["one", "two", "two", "three"]
    stored = json.loads(file.read_text())
    assert [*stored["cells"]["sqlite"]] == ["one", "two", "three"]
    assert stored["cells"]["sqlite"]["one"]["ours"]["median"] == 2.0
    assert [*stored["load"]] == ["sqlite/one", "sqlite/two", "sqlite/three"]
    assert stored["engines"]["sqlite"]["settings"]["synchronous"] == "full"


async def test_a_part_is_run_again_for_a_system_that_it_lacks(tmp_path: Path) -> None:
    counting, kept = Counting(), Results.begun(tmp_path / "run.json", TINY, fresh=False)
    steps = counting.steps("one")
    await run(steps, kept)
    await run(steps, kept)
    await run([replace(steps[0], systems=["raw", "agno"])], kept)
    assert counting.ran == ["one", "one"]
    assert [*kept.cells["sqlite"]["one"]] == ["raw", "ours", "agno"]


async def test_a_finished_run_that_is_asked_for_once_more_is_run_once_more(tmp_path: Path) -> None:
    counting, kept = Counting(), Results.begun(tmp_path / "run.json", TINY, fresh=False)
    steps = counting.steps("one", "two")
    await run(steps, kept)
    kept.forget((step.name, step.systems) for step in steps)
    await run(steps, kept)
    assert counting.ran == ["one", "two", "one", "two"]


async def test_results_of_other_code_or_sizes_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, file = Counting(), tmp_path / "run.json"
    steps = counting.steps("one")
    await run(steps, Results.begun(file, TINY, fresh=False))
    same = Results.begun(file, TINY, fresh=False)
    assert same.has("sqlite/one", ["raw", "ours"])
    for other in (
        Results.begun(file, TINY, fresh=True),
        Results.begun(file, replace(TINY, scale=0.02), fresh=False),
    ):
        assert not other.has("sqlite/one", ["raw", "ours"])
    monkeypatch.setattr(results, "_commit", lambda: "another")
    assert not Results.begun(file, TINY, fresh=False).has("sqlite/one", ["raw", "ours"])


def test_every_workload_has_a_part_and_parts_have_names_of_their_own() -> None:
    found = parts(QUICK)
    assert {workload for part in found for workload in part.workloads} == set(WORKLOADS)
    assert len({part.name for part in found}) == len(found)


async def test_every_part_of_sqlite_runs_and_loses_nothing(tmp_path: Path) -> None:
    plan = planned(["sqlite"], "raw,ours,ours (sessions)", frozenset(WORKLOADS) - {"start"}, TINY)
    kept = Results.begun(tmp_path / "run.json", TINY, fresh=False)

    await run(plan.steps, kept)

    cells = [cell for of_metric in kept.cells["sqlite"].values() for cell in of_metric.values()]
    assert [cell for cell in cells if "note" in cell] == []
    assert all("median" in cell for cell in cells)
    checked = [cell for cell in cells if "checked" in cell]
    assert checked
    assert all(cell["lost"] == cell["gaps"] == 0 for cell in checked)
    assert [*(tmp_path / "places").iterdir()] == []


# --- how long it takes ------------------------------------------------------------------------------------------


def test_what_a_run_took_is_expected_of_the_next_and_grows_with_the_scale(tmp_path: Path) -> None:
    file = tmp_path / "durations.json"
    known = Durations.known(file)
    known.learn({"sizes": {"kind": "quick", "scale": 0.5}, "seconds": {"sqlite/one": {"raw": 10.0, "ours": 20.0}}})
    known.save(file)
    again = Durations.known(file)
    assert again.expected("sqlite/one", ["raw", "ours"], QUICK) == 60.0
    assert again.expected("sqlite/one", ["raw"], replace(QUICK, scale=2.0)) == 40.0
    assert again.expected("sqlite/two", ["raw", "ours"], QUICK) > 0


@pytest.mark.parametrize(("seconds", "text"), [(40.0, "40 s"), (720.0, "12 min"), (7500.0, "2 h 05 min")])
def test_times_are_told_in_words(seconds: float, text: str) -> None:
    assert as_text(seconds) == text


def test_a_dry_run_says_how_long_it_would_take_and_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    told = CliRunner().invoke(
        commands.app, ["--quick", "--engines", "sqlite", "--systems", "raw", "--dry-run", "--results", str(file)]
    )
    assert told.exit_code == 0, told.output
    assert not file.exists()


def test_a_name_that_there_is_not_ends_the_command() -> None:
    told = CliRunner().invoke(commands.app, ["--quick", "--workloads", "W9"])
    assert told.exit_code == 2
