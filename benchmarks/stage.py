"""What a part of a workload works on: the systems of one engine, each opened in places of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.measuring import Cell, Metric, Sizes, interleaved
from benchmarks.places import place_on
from benchmarks.system import NotOffered, System
from benchmarks.systems import system_of

Prepare = Callable[[System], Awaitable[None]]
Found = dict[str, dict[str, Cell]]
"""Cells by metric and system."""

LONGEST_SECONDS = 900.0
"""What a store may take to be filled: a run has to come to its end without anybody looking."""


@dataclass
class Stage:
    engine: str
    url: str
    names: Sequence[str]
    """The systems that take part."""
    sizes: Sizes
    say: Callable[[str], None]
    """Told what happens now, in a few words."""
    stack: AsyncExitStack
    spent: dict[str, float]
    """Seconds that each system took to open and to fill its stores."""
    failed: dict[str, str]
    """Why a system could not be opened or filled."""

    async def stores(self, prepare: Prepare | None = None) -> dict[str, System]:
        """Every system opened in a place of its own and prepared; one that cannot be is left out."""
        opened = {}
        for name in self.names:
            if name in self.failed:
                continue
            self.say(f"{name}: opening and filling")
            begun = time.perf_counter()
            try:
                opened[name] = await self._opened(name, prepare)
            except NotOffered as reason:
                self.failed[name] = f"not offered: {reason}" if str(reason) else "not offered"
            except Exception as error:  # noqa: BLE001  # what a system fails with is a result
                self.failed[name] = f"fails: {type(error).__name__}: {str(error)[:200]}"
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - begun
        return opened

    async def measured(self, *metrics: Metric) -> Found:
        """The cells of metrics, whose repetitions take turns; a system that failed has a cell that says so."""
        self.say(" | ".join(metric.name for metric in metrics))
        found = await interleaved(metrics, self.sizes)
        for metric in metrics:
            for name, reason in self.failed.items():
                found.setdefault(metric.name, {}).setdefault(name, Cell(metric.unit, note=reason))
        return found

    async def _opened(self, name: str, prepare: Prepare | None) -> System:
        place = place_on(self.engine, self.url)
        system = system_of(name, self.engine)(self.engine, await self.stack.enter_async_context(place))
        await self.stack.enter_async_context(_open(system))
        if prepare is not None:
            async with asyncio.timeout(LONGEST_SECONDS):
                await prepare(system)
        return system


@asynccontextmanager
async def _open(system: System) -> AsyncIterator[None]:
    await system.open()
    try:
        yield
    finally:
        await system.close()
