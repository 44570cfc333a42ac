"""What was measured, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from benchmarks.goals import Finding
from benchmarks.measuring import times_the_work

SHOWN_UNITS = {"us": "µs", "per_s": "/s", "MiB": "MiB", "ms": "ms"}


def tables(cells: Mapping[str, Any]) -> list[Table]:
    """One table an engine: raw, ours and peers, each with its ratio (see the title)."""
    return [_table(engine, metrics) for engine, metrics in cells.items()]


def _table(engine: str, metrics: Mapping[str, Any]) -> Table:
    systems = list(dict.fromkeys(name for cells in metrics.values() for name in cells))
    table = Table(title=f"{engine}: medians, in brackets how many times the work of raw (ours) or of ours (others)")
    table.add_column("")
    for name in systems:
        table.add_column(name, justify="right")
    for metric, cells in metrics.items():
        unit = next(iter(cells.values()))["unit"]
        table.add_row(f"{metric}, {SHOWN_UNITS[unit]}", *(shown(cells, name) for name in systems))
    return table


def goals_table(found: Iterable[Finding]) -> Table:
    table = Table(title="goals")
    for column in ("", "what", "engine", "wanted", "measured", ""):
        table.add_column(column)
    for finding in found:
        held = {True: "held", False: "[red]missed[/red]", None: "not told"}[finding.held]
        table.add_row(finding.goal, finding.what, finding.engine, finding.wanted, finding.measured, held)
    return table


def shown(cells: Mapping[str, Any], name: str) -> str:
    """One cell as text: its median, its ratio, and what was lost."""
    cell = cells.get(name)
    if cell is None:
        return ""
    if "median" not in cell:
        return str(cell["note"]).partition(":")[0]
    text = number(cell["median"])
    ratio = None if name == "raw" else times_the_work(cells, name, "raw" if name.startswith("ours") else "ours")
    if ratio is not None:
        text += f" ({ratio:.2g}x)" if ratio < 100 else f" ({ratio:,.0f}x)".replace(",", " ")
    if cell.get("lost"):
        text += f", {cell['lost']} of {cell['checked']} lost"
    if cell.get("errors"):
        text += f", {cell['errors']} errors"
    return text


def number(value: float) -> str:
    """Three digits that count, with thin groups."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
