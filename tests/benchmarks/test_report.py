"""What is shown of a run: tables and the page, from a small file."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.goals import findings
from benchmarks.notes import note_on, notes_of
from benchmarks.page import page
from benchmarks.plots import PLOTS, draw
from benchmarks.report import PAGE, RESULTS, written
from benchmarks.table import goals_table, number, shown, tables

CELLS: dict[str, Any] = {
    "sqlite": {
        "load": {
            "raw": {"unit": "us", "median": 50.0},
            "ours": {"unit": "us", "median": 70.0},
            "agno": {"unit": "us", "median": 8_400.0},
            "langgraph": {"unit": "us", "note": "not offered: no such thing"},
        },
        "16 tasks, keys of one state": {
            "ours": {"unit": "per_s", "median": 900.0, "lost": 0, "gaps": 0, "checked": 80},
            "agno": {"unit": "per_s", "median": 90.0, "lost": 74, "gaps": 0, "checked": 80, "errors": 2},
        },
    }
}
SAMPLE: dict[str, Any] = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc123",
    "machine": {"cores": 2, "memory_gib": 24, "processor": "P", "system": "Linux", "python": "3.11.7"},
    "load": {"sqlite/one": 0.5, "sqlite/two": 9.0, "sqlite/three": 1.5},
    "sizes": {"kind": "full", "scale": 1.0},
    "packages": {"agno": "3.1.10"},
    "engines": {"sqlite": {"version": "SQLite 3.40.1", "settings": {"synchronous": "full"}}},
    "cells": CELLS,
}


def test_a_cell_shows_its_median_and_its_ratio() -> None:
    load = CELLS["sqlite"]["load"]
    assert shown(load, "raw") == "50"
    assert shown(load, "ours") == "70 (1.4x)"
    assert shown(load, "agno") == "8 400 (120x)"
    assert shown(load, "langgraph") == "not offered"
    assert shown(load, "adk") == ""


def test_a_cell_shows_what_was_lost() -> None:
    assert shown(CELLS["sqlite"]["16 tasks, keys of one state"], "agno") == "90 (10x), 74 of 80 lost, 2 errors"


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.123"), (12.34, "12.3"), (1234567.8, "1 234 568")])
def test_numbers_show_what_counts(value: float, text: str) -> None:
    assert number(value) == text


def test_tables_have_every_metric_and_system() -> None:
    told = StringIO()
    console = Console(file=told, width=160)
    for table in (*tables(CELLS), goals_table(findings(CELLS))):
        console.print(table)
    text = told.getvalue()
    for word in ("load, µs", "16 tasks, keys of one state, /s", "langgraph", "8 400 (120x)", "P10", "held"):
        assert word in text


def test_the_page_says_what_was_run_and_what_was_held() -> None:
    text = page(SAMPLE, "latest.json", {"append.svg": "Appends"})
    for part in (
        "A full run of 2026-01-02, commit `abc123`, on 2 cores",
        "| SQLite 3.40.1 | `synchronous=full` |",
        "agno 3.1.10",
        "Held: 2 of 2. Not told by this run: 1.",
        "| P1 | load | sqlite | at most 1.5 x raw | 1.4 x raw | held |",
        "| load, µs | 50 | 70 (1.4x) | 8 400 (120x) | not offered |",
        "![Appends](../../benchmarks/results/append.svg)",
    ):
        assert part in text


def test_a_missed_goal_is_explained_by_a_note_or_named_as_unexplained() -> None:
    slow = {
        engine: {"load": {"raw": {"unit": "us", "median": 10.0}, "ours": {"unit": "us", "median": 70.0}}}
        for engine in ("sqlite", "redis")
    }
    notes = "### P1, P7: sqlite\n\nThe hop takes all of it.\n"

    text = page({**SAMPLE, "cells": slow}, "latest.json", {}, notes)

    assert "| P1 | load | sqlite | at most 1.5 x raw | 7 x raw | **missed**, [why](#p1-p7-sqlite) |" in text
    assert "| P1 | load | redis | at most 1.5 x raw | 7 x raw | **missed**, not explained |" in text
    assert "Missed and **not explained**: P1 on redis.\n" in text
    assert "The hop takes all of it." in text


def test_a_note_without_an_engine_is_on_all_of_them_and_one_on_another_goal_explains_nothing() -> None:
    [finding] = [
        one
        for one in findings(
            {"redis": {"load": {"raw": {"unit": "us", "median": 10.0}, "ours": {"unit": "us", "median": 70.0}}}}
        )
        if one.goal == "P1"
    ]
    assert note_on(finding, notes_of("### P1\n")) is not None
    for other in ("### P10\n", "### P2: redis\n", "### P1: sqlite, mysql\n", "P1: redis\n"):
        assert note_on(finding, notes_of(other)) is None


def test_the_page_says_when_the_machine_was_busy() -> None:
    assert "busy" not in page(SAMPLE, "latest.json", {})
    busy = page({**SAMPLE, "load": {"sqlite/one": 9.0, "sqlite/two": 7.0}}, "latest.json", {})
    assert "**The machine was busy with other work** (load 8 on 2 cores)" in busy


def test_the_page_says_when_counts_were_small() -> None:
    assert "counts are small" in page({**SAMPLE, "sizes": {"kind": "quick", "scale": 1.0}}, "latest.json", {})
    assert "counts are small" not in page(SAMPLE, "latest.json", {})


def test_plots_show_every_system(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in .venv-bench alone")
    cells = {"sqlite": {"append at 0": CELLS["sqlite"]["load"], "load": CELLS["sqlite"]["load"]}}
    draw({"cells": cells}, tmp_path)
    for plot in PLOTS:
        picture = (tmp_path / plot).read_text("utf-8")
        assert "agno" in picture
        assert "sqlite" in picture
    drawn = (tmp_path / "append.svg").read_bytes()
    draw({"cells": cells}, tmp_path)
    assert (tmp_path / "append.svg").read_bytes() == drawn, "the same results are the same picture"


def test_the_page_of_the_documentation_is_the_generated_one() -> None:
    assert RESULTS.exists()
    assert PAGE.read_text("utf-8") == written(), "run: python -m benchmarks report benchmarks/results/latest.json"
