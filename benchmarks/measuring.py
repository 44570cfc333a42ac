"""How it is measured: repetition by repetition, one system after the other, so that a slow minute is everybody's."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.system import NotOffered

Unit = Literal["us", "per_s", "MiB", "ms"]
"""``us`` and ``ms`` for one operation, ``per_s`` operations a second, ``MiB`` of memory."""
LESS_IS_BETTER: frozenset[Unit] = frozenset({"us", "ms", "MiB"})


@dataclass
class Cell:
    """What was measured of one system in one metric."""

    unit: Unit
    samples: list[float] = field(default_factory=list)
    """One number a repetition: the median of its operations, or their rate."""
    lost: int = 0
    """Acknowledged writes that are not there."""
    errors: int = 0
    """Operations that raised; they count as not done."""
    gaps: int = 0
    """Sequence numbers that are missing or out of order."""
    checked: int = 0
    """Acknowledged writes that were looked for."""
    note: str = ""
    """Why there are no samples, or fewer."""
    seconds: float = 0.0
    busy: float = 0.0
    """Seconds of what was measured: the others went into preparing it and looking for what was written."""

    def as_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"unit": self.unit, "seconds": round(self.seconds, 2)}
        if self.samples:
            low, median, high = quartiles(self.samples)
            facts |= {"median": median, "low": low, "high": high, "samples": [round(one, 3) for one in self.samples]}
        if self.checked:
            facts |= {"lost": self.lost, "gaps": self.gaps, "checked": self.checked}
        if self.errors:
            facts["errors"] = self.errors
        if self.note:
            facts["note"] = self.note
        return facts


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return round(low, 3), round(median, 3), round(high, 3)


def times_the_work(cells: Mapping[str, Mapping[str, Any]], name: str, other: str) -> float | None:
    """How many times the work of *other* a system does in one metric, above 1 is slower, whatever the unit.

    Args:
        cells: as JSON, by system.
    Returns:
        None where one of them has no figure.
    """
    mine, theirs = cells.get(name, {}).get("median"), cells.get(other, {}).get("median")
    if not mine or not theirs:
        return None
    return float(mine / theirs if cells[name]["unit"] in LESS_IS_BETTER else theirs / mine)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done; a full run, or one of a few minutes."""

    repetitions: int
    operations: int
    """Of one repetition; a slow system does fewer."""
    seconds: float
    """Of measuring one system in one metric: slow ones get fewer repetitions, but one at least."""
    is_full: bool
    scale: float = 1.0

    def scaled(self, count: int, least: int = 1) -> int:
        return max(least, round(count * self.scale))

    @property
    def kind(self) -> Literal["full", "quick"]:
        return "full" if self.is_full else "quick"

    @property
    def slice(self) -> float:
        """Seconds of one repetition."""
        return self.seconds / self.repetitions


QUICK = Sizes(repetitions=12, operations=10, seconds=1.0, is_full=False)
FULL = Sizes(repetitions=20, operations=20, seconds=2.0, is_full=True)

LONGEST_SECONDS = 60.0
"""What one repetition may take: a run has to come to its end without anybody looking."""
Repetition = Callable[[Any, Cell, int], Awaitable[float]]
"""Gives the sample of one repetition with a store, whose number it is told; notes in the cell what was lost."""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: Unit
    stores: Mapping[str, Any]
    """By the name of the system."""
    repeat: Repetition


async def interleaved(metrics: Iterable[Metric], sizes: Sizes) -> dict[str, dict[str, Cell]]:
    """The cells by metric and system. The first repetition only warms up, unless it has used up all the time."""
    turns = [(metric, name) for metric in metrics for name in metric.stores]
    cells = {(metric.name, name): Cell(metric.unit) for metric, name in turns}
    over: set[tuple[str, str]] = set()
    gc.collect()
    gc.freeze()  # modules and opened stores: a collection before each repetition is quick then
    for number in range(sizes.repetitions + 1):
        for metric, name in turns:
            key = (metric.name, name)
            if key not in over and not await _repeated(metric, metric.stores[name], cells[key], number, sizes):
                over.add(key)
    found: dict[str, dict[str, Cell]] = {}
    for (metric_name, name), cell in cells.items():
        found.setdefault(metric_name, {})[name] = cell
    return found


async def _repeated(metric: Metric, store: Any, cell: Cell, number: int, sizes: Sizes) -> bool:
    """Do one repetition; whether there is time for another."""
    gc.collect()
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            sample = await metric.repeat(store, cell, number)
    except NotOffered as reason:
        cell.note = f"not offered: {reason}" if str(reason) else "not offered"
        return False
    except Exception as error:  # noqa: BLE001  # what a system fails with is a result
        cell.note = f"fails: {type(error).__name__}: {str(error)[:200]}"
        return False
    took = time.perf_counter() - begun
    cell.seconds += took
    is_used_up = cell.busy * (number + 2) / (number + 1) > sizes.seconds * 1.1 or cell.seconds > sizes.seconds * 3
    if number > 0 or is_used_up:
        cell.samples.append(sample)
    return not is_used_up


async def latency(cell: Cell, operations: Iterable[Callable[[], Awaitable[Any]]], seconds: float) -> float:
    """The median of what operations take, in microseconds; stops after *seconds*, but not before the first is done."""
    taken: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    for operation in operations:
        begun = time.perf_counter_ns()
        await operation()
        ended = time.perf_counter_ns()
        taken.append(ended - begun)
        if ended > end:
            break
    cell.busy += sum(taken) / 1e9
    return statistics.median(taken) / 1000


@contextmanager
def stopwatch(cell: Cell) -> Iterator[Callable[[], float]]:
    """What tells, after the block, how many seconds it took."""
    begun = time.perf_counter()
    taken = [0.0]
    try:
        yield lambda: taken[0]
    finally:
        taken[0] = time.perf_counter() - begun
        cell.busy += taken[0]
