"""One run: part by part on every engine, each written down when it is finished."""

from __future__ import annotations

import gc
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from benchmarks.durations import as_text
from benchmarks.engines import MissingEngine, engine_url, facts_of
from benchmarks.measuring import Sizes
from benchmarks.places import drop_orphans
from benchmarks.progress import BarProgress, PlainProgress
from benchmarks.results import Results
from benchmarks.stage import Stage
from benchmarks.systems import names_of
from benchmarks.workloads import Part, parts


@dataclass(frozen=True, slots=True)
class Step:
    """A part that is to be run on an engine."""

    engine: str
    url: str
    part: Part
    systems: Sequence[str]

    @property
    def name(self) -> str:
        return f"{self.engine}/{self.part.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    steps: list[Step]
    missing: list[str]
    """Why engines and systems that were asked for are left out."""


def planned(engines: Sequence[str], systems: str, workloads: frozenset[str], sizes: Sizes) -> Plan:
    """What a run would do, in order; starts private servers where none is named."""
    steps: list[Step] = []
    missing: list[str] = []
    chosen = [part for part in parts(sizes) if part.workloads & workloads]
    for engine in engines:
        try:
            url = engine_url(engine)
        except MissingEngine as reason:
            missing.append(str(reason))
            continue
        names, reasons = names_of(systems, engine)
        missing += [reason for reason in reasons if reason not in missing]
        for part in chosen:
            its = [name for name in names if part.takes(name)]
            if its and engine in part.engines:
                steps.append(Step(engine, url, part, its))
    return Plan(steps, missing)


async def carried_out(
    steps: Sequence[Step], sizes: Sizes, results: Results, progress: PlainProgress | BarProgress
) -> None:
    """Run what is not finished yet."""
    with _silence():
        for engine, url in {step.engine: step.url for step in steps}.items():
            await drop_orphans(engine, url)
            results.content["engines"][engine] = asdict(await facts_of(engine, url))
        for step in steps:
            if results.has(step.name, step.systems):
                progress.finish(step.name, "finished before")
            else:
                begun = time.perf_counter()
                results.note_load(step.name)
                await _run(step, sizes, results, partial(progress.tell, step.name))
                progress.finish(step.name, f"took {as_text(time.perf_counter() - begun)}")


@contextmanager
def _silence() -> Iterator[None]:
    """A peer's chatter would be measured, and drawn over the progress."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


async def _run(step: Step, sizes: Sizes, results: Results, say: Callable[[str], None]) -> None:
    spent: dict[str, float] = {}
    begun = time.perf_counter()
    async with AsyncExitStack() as stack:
        found = await step.part.run(Stage(step.engine, step.url, step.systems, sizes, say, stack, spent, {}))
    gc.unfreeze()
    for cells in found.values():
        for name, cell in cells.items():
            spent[name] = spent.get(name, 0.0) + cell.seconds
    rest = time.perf_counter() - begun - sum(spent.values())
    for name in step.systems:  # what came between them and after them is everybody's
        spent[name] = spent.get(name, 0.0) + max(0.0, rest) / len(step.systems)
    results.add(step.engine, step.part.name, step.systems, found, spent)
