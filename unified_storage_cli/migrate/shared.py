"""What the commands of a migration share: the plan they go by, and the stores it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.plan import Plan
    from unified_storage.interface import IUnifiedStorage

T = TypeVar("T")

PlanFile = Annotated[Path, typer.Option("--plan", metavar="FILE", help="The plan of the migration.")]
DEFAULT_PLAN = Path("plan.json")
SHADOW_READS = 100
"""Reads that are to be compared before the target becomes primary, unless the operator says otherwise."""
ShadowReads = Annotated[
    int,
    typer.Option(
        "--shadow-reads", metavar="N", min=0, help="Reads compared without a difference before unified_primary."
    ),
]


def with_stores(file: Path, work: Callable[[IUnifiedStorage, LegacySide, Plan], Awaitable[T]]) -> T:
    """What *work* gives, with the stores that the plan in *file* names; SIGTERM interrupts it as Ctrl-C does."""
    import asyncio

    from legacy.migration.live.plan import Plan, opened

    plan = Plan.read(file)

    async def worked() -> T:
        _interrupt_on_sigterm()
        async with opened(plan) as (storage, legacy):
            return await work(storage, legacy, plan)

    return asyncio.run(worked())


def _interrupt_on_sigterm() -> None:
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)


def parsed_settings(words: list[str]) -> dict[str, Any]:
    """``max-rate=500``, ``max-p95=50ms``, ``nice=0.5``, ``pause`` and ``resume`` as settings; ``none`` lifts one."""
    changes: dict[str, Any] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if name in ("pause", "resume") and not separator:
            changes["paused"] = name == "pause"
        elif name == "max-rate" and value:
            changes["max_rate"] = None if value == "none" else _number(value.removesuffix("/s"), word)
        elif name == "max-p95" and value:
            changes["max_p95"] = None if value == "none" else parsed_time(value)
        elif name == "nice" and value:
            changes["nice"] = _number(value, word, least=0.0)
        else:
            told = "write max-rate=N, max-p95=50ms, nice=0.5, pause or resume"
            raise typer.BadParameter(f"{word!r} is no setting; {told}")
    return changes


def parsed_time(text: str) -> float:
    """``50ms`` or ``0.05s`` in seconds."""
    if text.endswith("ms"):
        return _number(text[:-2], text) / 1000
    return _number(text.removesuffix("s"), text)


def _number(text: str, shown: str, *, least: float | None = None) -> float:
    try:
        number = float(text)
    except ValueError:
        raise typer.BadParameter(f"{shown!r} is no number") from None
    if not (number > 0 if least is None else number >= least) or number == float("inf"):
        raise typer.BadParameter(f"{shown!r} is out of range")
    return number


def parsed_limit(text: str) -> tuple[int | None, float | None]:
    """``500`` sessions, or ``1%`` of them."""
    if text.endswith("%"):
        return None, _number(text[:-1], text, least=0.0) / 100
    return int(_number(text, text, least=0.0)), None


def confirmed(question: str, word: str) -> None:
    """Go on only where somebody types *word*."""
    if typer.prompt(f"{question}\nType {word!r} to go on", default="", show_default=False, err=True) != word:
        raise typer.Abort
