"""The pictures of a run: SVG files beside its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.table import number

PLOTS = {
    "append.svg": "How long one append takes, by the events that the session has",
    "operations.svg": "One operation on each engine, and many tasks at once",
}
"""Title by name of the file."""
LENGTHS = (0, 10, 1_000, 10_000, 20_000, 100_000)
PANELS = (
    ("load", "load a session, µs"),
    ("last 20 of 10 000", "last 20 of 10 000 events, µs"),
    ("page by user among 1", "page of 20 by user, µs"),
    ("64 tasks, own sessions", "64 tasks appending, /s"),
)
"""How a metric's name begins (the last one that is there counts), and its title."""
COLORS = {"raw": "#888888", "ours": "#0b6e4f", "ours (sessions)": "#5fb49c", "ours (scoped)": "#a8d5c2"}
OTHERS = ("#c1440e", "#e0a458", "#7a4fa3", "#3366aa", "#b03a5b", "#8a7a2f", "#d98fb0")


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Write every picture into *folder*; needs matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    # the same results are the same bytes, and text stays text
    matplotlib.rcParams |= {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
    cells = results["cells"]
    names = list(dict.fromkeys(name for metrics in cells.values() for of in metrics.values() for name in of))
    others = [name for name in names if name not in COLORS]
    colors = COLORS | {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    for plot, drawn in {"append.svg": _appends, "operations.svg": _operations}.items():
        figure = drawn(cells, colors)
        figure.savefig(folder / plot, format="svg", metadata={"Date": None}, bbox_inches="tight")


def _appends(cells: Mapping[str, Any], colors: Mapping[str, str]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * max(2, len(cells)), 3.4))
    for axes, (engine, metrics) in zip(_row(figure, len(cells)), cells.items(), strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for length in LENGTHS:
            of_length = metrics.get(f"append at {length:,}".replace(",", " "), {})
            for name, cell in of_length.items():
                if "median" in cell:
                    lines.setdefault(name, []).append((max(1, length), cell["median"]))
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colors[name], label=name)
        axes.set(title=engine, xscale="log", yscale="log", xlabel="events before (1: none)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("µs")
    _legend(figure)
    return figure


def _operations(cells: Mapping[str, Any], colors: Mapping[str, str]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 2.6 * max(1, len(cells))))
    grid = figure.subplots(max(1, len(cells)), len(PANELS), squeeze=False)
    for row, (engine, metrics) in zip(grid, cells.items(), strict=False):
        for axes, (beginning, title) in zip(row, PANELS, strict=True):
            of_metric = metrics.get(_last_that_begins(metrics, beginning), {})
            _bars(axes, {name: cell["median"] for name, cell in of_metric.items() if "median" in cell}, colors)
            axes.set_title(f"{engine}: {title}", fontsize=8)
    figure.tight_layout()
    return figure


def _bars(axes: Any, medians: Mapping[str, float], colors: Mapping[str, str]) -> None:
    if not medians:
        axes.axis("off")
        return
    bars = axes.barh([*medians], [*medians.values()], color=[colors[name] for name in medians])
    axes.bar_label(bars, labels=[number(median) for median in medians.values()], padding=2, fontsize=7)
    axes.set(xscale="log", xlim=(min(medians.values()) / 3, max(medians.values()) * 4))
    axes.set_xticks([], minor=True)
    axes.invert_yaxis()


def _last_that_begins(metrics: Mapping[str, Any], beginning: str) -> str:
    found = [name for name in metrics if name.startswith(beginning) and not name.endswith("(growth)")]
    return found[-1] if found else beginning


def _row(figure: Any, count: int) -> list[Any]:
    return list(figure.subplots(1, max(1, count), squeeze=False)[0][:count])


def _legend(figure: Any) -> None:
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=6, frameon=False)
