"""The page of the documentation that shows a run, written from its file alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.goals import Finding, findings
from benchmarks.notes import Note, note_on, notes_of
from benchmarks.table import SHOWN_UNITS, shown

ENGINE_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL and MariaDB", "redis": "Redis"}
HELD = {True: "held", False: "**missed**", None: "not told"}
INTRODUCTION = """\
# Performance

This page is written by `python -m benchmarks report` from [what a run measured](../../benchmarks/results/{file});
nothing on it is typed but [the notes](../../benchmarks/results/notes.md) on what was missed. Measure again with
`make bench` (about an hour; the peers get an environment of their own) or `make bench-quick` (minutes, small counts).

## How to read it

- **raw** is the engine's driver alone, doing the same logical transaction as an expert would write it by hand: the
  event's row, its sequence number, and the session's version and `updated_at`. On SQLite it has a thread of its own,
  one hop for each operation. **ours** is the storage (`open_storage`), **ours (sessions)** the session adapter on it,
  **ours (scoped)** the service for the sessions of an app's users, which writes and reads states of three levels.
  The others are what their documentation tells a program to call, their asynchronous class where they have one.
- Each figure is a median: of repetitions, each of which is the median of its operations (µs), or a rate (/s). The
  systems of one engine take turns repetition by repetition, on the same server, so that a slow minute is everybody's.
  Trust the ratios; the figures themselves are those of one machine.
- In brackets: how many times the work of raw for ours, and how many times the work of ours for the others. Above 1x is
  slower, with rates as well as with times.
- Durability is the same on all sides: that of the server, named below; on SQLite `synchronous=FULL` for everybody.
  Every acknowledged write of the tasks that run at once is looked for afterwards; *lost* are those that are not there.
- Among many sessions each user has a hundred of them (a thousand among a million), and pages are asked for of ten
  users again and again: what is measured is how a store finds them, and not how cold its memory is.
- `adk migrate session` reads nothing but databases of ADK before 1.22. What stands beside it is
  our verified copy of as many session files with as many messages, not of such a database.
- *not offered*: the system has no such operation. One that is too slow does fewer repetitions, but one at least.
"""


def page(results: Mapping[str, Any], file: str, plots: Mapping[str, str], notes: str = "") -> str:
    """The whole page.

    Args:
        results: the content of a run's file.
        file: its name, beside which the plots lie.
        plots: what is drawn, by the name of its file.
        notes: why goals are missed, as Markdown (:mod:`benchmarks.notes`).
    """
    found = findings(results["cells"])
    sections = [
        INTRODUCTION.format(file=file),
        "\n".join(_run(results)),
        "\n".join(f"![{title}](../../benchmarks/results/{plot})\n" for plot, title in plots.items()),
        "\n".join(_goals(found, notes_of(notes))),
        "\n".join(_missed(found, notes)),
        *("\n".join(_engine(engine, metrics)) for engine, metrics in results["cells"].items()),
    ]
    return "\n".join(sections)


def _run(results: Mapping[str, Any]) -> Iterator[str]:
    machine, sizes = results["machine"], results["sizes"]
    yield "## The run\n"
    yield f"A {sizes['kind']} run of {results['date'][:10]}, commit `{results['commit']}`, on {machine['cores']} cores"
    yield f"({machine['processor']}, {machine['memory_gib']} GiB), {machine['system']}, Python {machine['python']}."
    if sizes["kind"] == "quick" or sizes["scale"] != 1:
        yield "\nIts counts are small, so that goals at full counts are not told, and its figures are rough."
    yield from _missing_parts(results)
    yield from _other_work(results)
    yield "\n| engine | what durability depends on |\n|---|---|"
    for engine in results["engines"].values():
        settings = ", ".join(f"`{name}={value}`" for name, value in engine["settings"].items())
        yield f"| {engine['version']} | {settings} |"
    yield "\nPackages: " + ", ".join(f"{name} {version}" for name, version in results["packages"].items()) + ".\n"


def _missing_parts(results: Mapping[str, Any]) -> Iterator[str]:
    """Which engines a run that was broken off has not come to, or not through."""
    parts = Counter(name.partition("/")[0] for name in results.get("finished", {}))
    if any(not parts[engine] for engine in results["engines"]):
        told = ", ".join(f"{ENGINE_NAMES.get(engine, engine)} {parts[engine]}" for engine in results["engines"])
        yield f"\n**It was broken off.** Parts that were finished: {told}."


def _other_work(results: Mapping[str, Any]) -> Iterator[str]:
    load, cores = statistics.median(results["load"].values()), results["machine"]["cores"]
    if load > cores:
        yield f"\n**The machine was busy with other work** (load {load:g} on {cores} cores): figures and ratios of this"
        yield "run say little about speed."
    low = statistics.median(results.get("low_load", {"": 0}).values())
    if low >= 1:
        yield f"\nBeside it ran work of the lowest priority ({low:g} tasks in the median), which waits while anything"
        yield "else wants a processor."


def _goals(found: list[Finding], notes: list[Note]) -> Iterator[str]:
    told = [finding for finding in found if finding.held is not None]
    held = sum(finding.held is True for finding in told)
    yield f"## Goals\n\nHeld: {held} of {len(told)}. Not told by this run: {len(found) - len(told)}.\n"
    yield "| goal | what | engine | wanted | measured | |\n|---|---|---|---|---|---|"
    for finding in found:
        yield (
            f"| {finding.goal} | {finding.what} | {finding.engine} | {finding.wanted} | {finding.measured} "
            f"| {_outcome(finding, notes)} |"
        )
    yield ""


def _outcome(finding: Finding, notes: list[Note]) -> str:
    if finding.held is not False:
        return HELD[finding.held]
    note = note_on(finding, notes)
    return f"{HELD[False]}, not explained" if note is None else f"{HELD[False]}, [why](#{note.anchor})"


def _missed(found: list[Finding], notes: str) -> Iterator[str]:
    """The notes, and which misses they leave open."""
    missed = [finding for finding in found if finding.held is False]
    if not missed and not notes.strip():
        return
    yield "## What was missed, what was tried, where the time goes\n"
    known = notes_of(notes)
    if unexplained := [finding for finding in missed if note_on(finding, known) is None]:
        named = ", ".join(dict.fromkeys(f"{finding.goal} on {finding.engine}" for finding in unexplained))
        yield f"Missed and **not explained**: {named}.\n"
    if notes.strip():
        yield notes.strip() + "\n"


def _engine(engine: str, metrics: Mapping[str, Any]) -> Iterator[str]:
    systems = list(dict.fromkeys(name for cells in metrics.values() for name in cells))
    yield f"## {ENGINE_NAMES.get(engine, engine)}\n"
    yield f"| | {' | '.join(systems)} |\n|---|{'---|' * len(systems)}"
    for metric, cells in metrics.items():
        unit = SHOWN_UNITS[next(iter(cells.values()))["unit"]]
        yield f"| {metric}, {unit} | {' | '.join(shown(cells, name) for name in systems)} |"
    yield ""
