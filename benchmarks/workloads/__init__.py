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
    only: frozenset[str] | None = None
    """The systems that it is for; None for all."""


def parts(sizes: Sizes) -> list[Part]:
    from benchmarks.workloads import appending, creating  # here: they need the class above

    return [*creating.parts(sizes), *appending.parts(sizes)]


def counted(number: int) -> str:
    """1 000 000, as in the names of metrics."""
    return f"{number:,}".replace(",", " ")
