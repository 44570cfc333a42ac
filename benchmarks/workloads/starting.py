"""What programs take of the processor to start: the import on top of pydantic's own, and the command's help."""

from __future__ import annotations

import asyncio
import resource
import sys

from benchmarks.measuring import Cell, Metric, Sizes, stopwatch
from benchmarks.stage import Found, Stage
from benchmarks.workloads import Part

IMPORT = """
import time
from pydantic import BaseModel
begun = time.process_time()
import unified_storage
print((time.process_time() - begun) * 1000)
"""
PYTHON = ("-c", "pass")
HELP = ("-m", "unified_storage_cli", "--help")


def parts(_sizes: Sizes) -> list[Part]:
    return [Part("start", frozenset({"start"}), _run, engines=("sqlite",), takes="ours".__eq__)]


async def _run(stage: Stage) -> Found:
    return await stage.measured(
        Metric("import beside pydantic", "ms", {"ours": ("-c", IMPORT)}, _imported),
        Metric("--help", "ms", {"python alone": PYTHON, "ours": HELP}, _started),
    )


async def _imported(arguments: tuple[str, ...], cell: Cell, _number: int) -> float:
    return float(await _said(arguments, cell))


async def _started(arguments: tuple[str, ...], cell: Cell, _number: int) -> float:
    """Milliseconds of the whole process; time on the processor, so that what others do does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    await _said(arguments, cell)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


async def _said(arguments: tuple[str, ...], cell: Cell) -> bytes:
    """What a Python program with these arguments prints."""
    with stopwatch(cell):
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return said
