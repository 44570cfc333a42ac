"""How long programs take to start: the import beside pydantic's own, and the command's help."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.measuring import Cell, Metric, Sizes, stopwatch
from benchmarks.stage import Found, Stage
from benchmarks.workloads import Part

PYDANTIC = ("-c", "from pydantic import BaseModel")
OURS = ("-c", "from pydantic import BaseModel; import unified_storage")
PYTHON = ("-c", "pass")
HELP = ("-m", "unified_storage_cli", "--help")


def parts(_sizes: Sizes) -> list[Part]:
    return [Part("start", frozenset({"start"}), _run, engines=("sqlite",), takes="ours".__eq__)]


async def _run(stage: Stage) -> Found:
    return await stage.measured(
        Metric("import", "ms", {"pydantic alone": PYDANTIC, "ours": OURS}, _started),
        Metric("--help", "ms", {"python alone": PYTHON, "ours": HELP}, _started),
    )


async def _started(arguments: tuple[str, ...], cell: Cell, _number: int) -> float:
    """Milliseconds from the start of a process to its end."""
    silent = asyncio.subprocess.DEVNULL
    with stopwatch(cell) as seconds:
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=silent, stderr=silent)
        if await process.wait():
            raise RuntimeError(f"exit code {process.returncode}")
    return seconds() * 1000
