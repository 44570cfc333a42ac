"""The command line of the benchmarks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.measuring import FULL, QUICK
from benchmarks.results import Results
from benchmarks.runner import Step, carried_out, planned
from benchmarks.systems import ENGINES
from benchmarks.table import tables
from benchmarks.workloads import WORKLOADS

FOLDER = Path(".bench")
app = typer.Typer(add_completion=False, help="Measure this storage beside the drivers and beside its peers.")
console = Console()


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    engines: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(ENGINES),
    systems: Annotated[
        str, typer.Option(help="raw, ours, ours (sessions), agno, adk, openai_agents, langgraph.")
    ] = "all",
    workloads: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(WORKLOADS),
    quick: Annotated[bool, typer.Option("--quick", help="Small counts, a few minutes.")] = False,
    scale: Annotated[float, typer.Option(help="Multiplies the counts.")] = 1.0,
    results: Annotated[
        Path | None, typer.Option(help="The file of the run; .bench/quick.json or .bench/full.json.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again where a run was interrupted.")] = False,
) -> None:
    """Run what is not finished yet, and show the table."""
    if context.invoked_subcommand:
        return
    sizes = replace(QUICK if quick else FULL, scale=scale)
    path = results or FOLDER / ("quick.json" if quick else "full.json")
    plan = planned(_words(engines), systems, frozenset(_words(workloads)), sizes)
    for reason in plan.missing:
        console.print(f"left out: {reason}", style="yellow")
    kept = Results.begun(path, sizes, fresh=fresh)
    kept.forget((step.name, step.systems) for step in plan.steps)
    asyncio.run(carried_out(plan.steps, sizes, kept, _tell))
    for table in tables(kept.cells):
        console.print(table)


def _tell(step: Step, what: str) -> None:
    console.print(f"{step.name}: {what}", highlight=False)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def main() -> None:
    app()
