"""The page of the documentation that shows a run beside AgentOS, written from its file alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.http_run import FULL, MEMORY, PROCESSOR
from benchmarks.http_services import AGENTOS, CONNECTIONS, OURS
from benchmarks.page import ENGINE_NAMES, HELD
from benchmarks.report import REPOSITORY
from benchmarks.table import number

RESULTS = REPOSITORY / "benchmarks" / "results" / "http.json"
PAGE = REPOSITORY / "docs" / "explanation" / "http-performance.md"
WANTED = {
    "get a session": 2.0,
    "list of 20": 3.0,
    "list of 20 with long histories": 20.0,
    "post a session": 3.0,
    "patch its state": 3.0,
}
"""How many times the requests per second of AgentOS."""
INTRODUCTION = f"""\
# The HTTP service beside AgentOS

This page is written by `python -m benchmarks http-report` from
[what a run measured](../../benchmarks/results/http.json). Measure again with `python -m benchmarks http` in the
environment of the benchmarks.

Both services run as one process with one worker of uvicorn, on a store of their own on the same engine, with the same
durability, filled with the same sessions: {FULL.stock.sessions} of half a KB, and {FULL.stock.long} with histories of
{FULL.stock.runs} runs of 5 KB. {CONNECTIONS} connections each send their next request when the last one was answered;
the services take turns repetition by repetition. AgentOS runs with its synchronous database, as its documentation
starts it, and writes no access log; ours does.

- **/s** are requests a second, medians of the repetitions; *p99* is what 99 of 100 requests took at most.
- **processor** is the time that the service's process had a processor for one request. One worker answers as many
  requests as fit into a second of it, however busy the machine is with other work; waiting for a disk is not in it.
- Every acknowledged POST and PATCH is looked for afterwards; *lost* are those that are not there.
"""


def page(results: Mapping[str, Any]) -> str:
    """The whole page, from the content of a run's file."""
    sections = ["\n".join(_engine(engine, cells)) for engine, cells in results["cells"].items()]
    return "\n".join([INTRODUCTION, "\n".join(_run(results)), *sections])


def written() -> str:
    """The page as it has to be."""
    return page(json.loads(RESULTS.read_text(encoding="utf-8")))


def keep(run: Path) -> None:
    """Make *run* the run that the page shows."""
    if run.resolve() != RESULTS:
        shutil.copyfile(run, RESULTS)
    PAGE.write_text(written(), encoding="utf-8")


def _run(results: Mapping[str, Any]) -> Iterator[str]:
    machine, load = results["machine"], max(results["load"].values())
    yield f"A run of {results['date'][:10]}, commit `{results['commit']}`, on {machine['cores']} cores"
    yield f"({machine['processor']}), {machine['system']}, Python {machine['python']}."
    if load > machine["cores"]:
        yield f"**The machine was busy with other work** ({load:g} tasks that wanted a processor): trust the"
        yield "processor's time, and of the rates no more than which of two is higher."
    yield "\nPackages: " + ", ".join(f"{name} {version}" for name, version in results["packages"].items()) + ".\n"


def _engine(engine: str, cells: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {ENGINE_NAMES[engine]}\n"
    yield "| request | ours, /s | AgentOS, /s | times | wanted | | p99, ms | processor, ms | times |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in cells:
        if PROCESSOR.format(name) in cells:
            yield _row(name, cells)
    lost = {service: _lost(cells, service) for service in (OURS, AGENTOS)}
    yield f"\nLost of the acknowledged writes: ours {lost[OURS]}, AgentOS {lost[AGENTOS]}."
    yield from _memory(cells)
    yield ""


def _row(name: str, cells: Mapping[str, Any]) -> str:
    ours, theirs = (cells[name][service].get("median") for service in (OURS, AGENTOS))
    slow = " / ".join(number(cells[f"{name}, p99"][service]["median"]) for service in (OURS, AGENTOS))
    work = [cells[PROCESSOR.format(name)][service]["median"] for service in (OURS, AGENTOS)]
    wanted = WANTED.get(name)
    held = "" if wanted is None else HELD[ours / theirs >= wanted]
    shown = "" if wanted is None else f"{wanted:g}x"
    times = f"| {number(ours)} | {number(theirs)} | {_times(ours / theirs)} | {shown} | {held} | {slow} "
    return f"| {name} {times}| {' / '.join(map(number, work))} | {_times(work[1] / work[0])} |"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{ratio:.0f}x"


def _lost(cells: Mapping[str, Any], service: str) -> str:
    checked = [cell[service] for cell in cells.values() if cell.get(service, {}).get("checked")]
    return f"{sum(cell['lost'] for cell in checked)} of {sum(cell['checked'] for cell in checked)}"


def _memory(cells: Mapping[str, Any]) -> Iterator[str]:
    beginning = MEMORY.partition("{")[0]
    taken = {name: cell[OURS]["median"] for name, cell in cells.items() if name.startswith(beginning)}
    if taken:
        steps = ", ".join(f"{number(value)}" for value in taken.values())
        yield f"\nMemory of our process over {[*taken][-1].removeprefix(beginning)} of all kinds, in ten steps: "
        yield f"{steps} MiB."
