"""The migration protocol holds, and every rule of it is needed: leaving it out is found."""

import re
import subprocess
import sys

import pytest

from migration_model.configurations import HOLDS, ROWS, Row
from migration_model.explore import Walk, explore
from migration_model.rules import Rules
from tests.support import REPOSITORY, scale

_WALKED_BY = "long rows are walked by make model and make stress"
LONG = (pytest.mark.stress, pytest.mark.skipif(scale() < 1, reason=_WALKED_BY))


def parameters() -> list[object]:
    return [pytest.param(row, id=row.name, marks=() if row.quick else LONG) for row in ROWS]


@pytest.mark.parametrize("row", parameters())
@pytest.mark.timeout(900)
def test_row_comes_out_as_the_table_says(row: Row) -> None:
    outcome = explore(row.rules)
    assert outcome.verdict.startswith(row.expected), (outcome.complaint, outcome.story)
    assert bool(outcome.story) == (row.expected != HOLDS)
    assert written_down()[row.name] == (outcome.verdict, outcome.states), "results.txt is of other rules"


def written_down() -> dict[str, tuple[str, int]]:
    """Verdict and states of each row of the table that is kept."""
    table = (REPOSITORY / "migration_model" / "results.txt").read_text()
    rows = re.findall(r"^(\w+) +(holds|VIOLATED|STUCK in \d+ states) +([\d,]+) states ", table, re.MULTILINE)
    return {name: (verdict, int(states.replace(",", ""))) for name, verdict, states in rows}


def test_every_row_has_its_own_name_and_is_in_the_table() -> None:
    assert [row.name for row in ROWS] == list(written_down())


def test_every_rule_is_tried_in_some_row() -> None:
    """A switch that no row sets says nothing about the protocol."""
    defaults = Rules()
    unused = [
        name for name in Rules.__slots__ if all(getattr(row.rules, name) == getattr(defaults, name) for row in ROWS)
    ]
    assert unused == []


def test_story_ends_where_the_complaint_is() -> None:
    outcome = explore(Rules(pass_gate=False, kills=0))
    assert outcome.story[-1] == "A: learns phase 3 and acknowledges it"
    assert outcome.complaint is not None
    assert "A (phase 3) reads U and sees nothing" in outcome.complaint


def test_swapping_the_names_of_members_hides_nothing() -> None:
    """The short walk takes states that differ in names alone for one; the long walk does not."""
    named = {row.name: walked(row.rules) for row in ROWS if row.name in {"FINAL", "no_barrier", "evict_ghost_journal"}}
    assert named == {"FINAL": True, "no_barrier": False, "evict_ghost_journal": False}


def walked(rules: Rules) -> bool:
    return Walk(rules, swap_names=False).run()


def test_command_prints_a_row_and_its_story() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "migration_model", "fork_twin", "bf_insert_tomb_calm"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "fork_twin                        VIOLATED" in run.stdout
    assert "A: forks B, which goes by its name" in run.stdout
    assert "bf_insert_tomb_calm              holds" in run.stdout
    assert run.stdout.endswith("2 rows, 0 unexpected\n")
