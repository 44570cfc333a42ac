"""What is measured: parts that run by themselves, so that a run goes on behind the last one that was finished."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.measuring import Sizes
from benchmarks.stage import Found, Stage
from benchmarks.systems import ENGINES


@dataclass(frozen=True, slots=True)
class Part:
    """One unit of a run on one engine."""

    name: str
    """Of letters, digits and hyphens."""
    workloads: frozenset[str]
    """What ``--workloads`` has to name for it: one of them."""
    run: Callable[[Stage], Awaitable[Found]]
    engines: tuple[str, ...] = ENGINES
    takes: Callable[[str], bool] = bool
    """Whether it is for a system of this name."""


WORKLOADS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "sync", "start", "copy")


def parts(sizes: Sizes) -> list[Part]:
    """Everything, the short ones first."""
    # here: they need the class above
    from benchmarks.workloads import (
        appending,
        concurrency,
        copying,
        creating,
        growth,
        importing,
        paging,
        reading,
        starting,
        sync,
    )

    modules = (creating, appending, reading, concurrency, importing, paging, growth, sync, starting, copying)
    return [part for module in modules for part in module.parts(sizes)]


def counted(number: int) -> str:
    """1 000 000, as in the names of metrics."""
    return f"{number:,}".replace(",", " ")
