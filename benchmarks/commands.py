"""The command line of the benchmarks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.durations import Durations, as_text
from benchmarks.engines import leave_engines
from benchmarks.goals import findings
from benchmarks.measuring import FULL, QUICK, Sizes
from benchmarks.plots import PLOTS, draw
from benchmarks.progress import shown_progress
from benchmarks.results import Results
from benchmarks.runner import Plan, carried_out, planned
from benchmarks.systems import ENGINES
from benchmarks.table import goals_table, tables
from benchmarks.workloads import WORKLOADS

FOLDER = Path(".bench")
WIDE = 200
app = typer.Typer(add_completion=False, help="Measure this storage beside the drivers and beside its peers.")
console = Console(width=None if sys.stdout.isatty() else WIDE)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    engines: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(ENGINES),
    systems: Annotated[str, typer.Option(help="Such as raw, ours, ours (scoped), agno, adk; commas between.")] = "all",
    workloads: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(WORKLOADS),
    quick: Annotated[bool, typer.Option("--quick", help="Small counts, a few minutes.")] = False,
    scale: Annotated[float, typer.Option(help="Multiplies the counts.")] = 1.0,
    results: Annotated[
        Path | None, typer.Option(help="The file of the run.  [default: .bench/full.json or .bench/quick.json]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again where a run was interrupted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how long it would take.")] = False,
) -> None:
    """Run what is not finished yet, and show the tables."""
    if context.invoked_subcommand:
        return
    sizes = replace(QUICK if quick else FULL, scale=scale)
    kept = Results.begun(results or FOLDER / f"{sizes.kind}.json", sizes, fresh=fresh)
    try:
        plan = planned(_known(engines, ENGINES), systems, frozenset(_known(workloads, WORKLOADS)), sizes)
        kept.forget((step.name, step.systems) for step in plan.steps)
        expected = _told(plan, sizes, kept)
        if not dry_run:
            with shown_progress(console, expected) as progress:
                asyncio.run(carried_out(plan.steps, sizes, kept, progress))
            _show(kept)
            _draw(kept)
    finally:
        leave_engines()


@app.command()
def report(file: Annotated[Path, typer.Argument(help="The file of a run.")] = FOLDER / "full.json") -> None:
    """Keep a run: its file, plots, and the page of the documentation that shows it."""
    from benchmarks.report import PAGE, keep

    keep(file)
    console.print(f"{PAGE} shows {file}")


@app.command()
def http(
    engines: Annotated[str, typer.Option(help="Names with commas between.")] = "sqlite,postgresql",
    quick: Annotated[bool, typer.Option("--quick", help="Small counts, a minute.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="The file of the run.  [default: .bench/http.json or .bench/http-quick.json]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again where a run was interrupted.")] = False,
) -> None:
    """Measure the HTTP service beside AgentOS."""
    from benchmarks import http_run

    scope = http_run.QUICK if quick else http_run.FULL
    kept = Results.begun(results or FOLDER / f"http{'-quick' if quick else ''}.json", scope.sizes, fresh=fresh)
    try:
        asyncio.run(http_run.measure(_known(engines, http_run.ENGINES), scope, kept, console.print))
    finally:
        leave_engines()
    for table in tables(kept.cells):
        console.print(table)


@app.command()
def http_report(file: Annotated[Path, typer.Argument(help="The file of a run beside AgentOS.")]) -> None:
    """Keep a run beside AgentOS: its file, and the page of the documentation that shows it."""
    from benchmarks.http_page import PAGE, keep

    keep(file)
    console.print(f"{PAGE} shows {file}")


@app.command()
def show(file: Annotated[Path, typer.Argument(help="The file of a run.")] = FOLDER / "full.json") -> None:
    """Show the tables of a run once more."""
    _show(Results(file, json.loads(file.read_text(encoding="utf-8"))))


@app.command()
def learn(file: Annotated[Path, typer.Argument(help="The file of a run.")] = FOLDER / "full.json") -> None:
    """Take over how long a run's parts took, for what later runs say beforehand."""
    durations = Durations.known()
    durations.learn(json.loads(file.read_text(encoding="utf-8")))
    durations.save()


def _told(plan: Plan, sizes: Sizes, kept: Results) -> dict[str, float]:
    """Say what is left out and how long the rest takes; gives expected seconds by part."""
    for reason in plan.missing:
        console.print(f"left out: {reason}", style="yellow", highlight=False)
    durations = Durations.known()
    expected = {}
    of_engine: dict[str, float] = {}
    for step in plan.steps:
        is_finished = kept.has(step.name, step.systems)
        seconds = 0.0 if is_finished else durations.expected(step.name, step.systems, sizes)
        expected[step.name] = seconds
        of_engine[step.engine] = of_engine.get(step.engine, 0.0) + seconds
    parts = ", ".join(f"{engine} {as_text(seconds)}" for engine, seconds in of_engine.items())
    console.print(f"expected: {as_text(sum(of_engine.values()))} ({parts})", highlight=False)
    return expected


def _show(kept: Results) -> None:
    for table in tables(kept.cells):
        console.print(table)
    console.print(goals_table(findings(kept.cells)))


def _draw(kept: Results) -> None:
    try:
        draw(kept.content, kept.path.parent)
    except ModuleNotFoundError as error:
        console.print(f"no plots: {error.name} is not installed; `make bench` installs it", highlight=False)
    else:
        console.print(f"plots: {', '.join(str(kept.path.parent / plot) for plot in PLOTS)}", highlight=False)


def _known(text: str, names: Collection[str]) -> list[str]:
    asked = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in asked if word not in names]:
        raise typer.BadParameter(f"there is no {unknown[0]!r}; there are {', '.join(names)}")
    return asked


def main() -> None:
    app()
