"""W4 and W7 at their largest: a page among a thousand sessions and among a million, and the memory of a walk."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from functools import partial

from benchmarks.measuring import Cell, Sizes
from benchmarks.stage import Found, Stage
from benchmarks.system import System
from benchmarks.workloads import Part, counted, paging

FEW = 1_000
WALKED = {"full": 10_000, "quick": 2_000}
LONGEST_SECONDS = 300.0
"""Of one walk: a run has to come to its end without anybody looking."""
LARGE = ("raw", "ours")
"""The systems that are filled with a million sessions."""


def parts(sizes: Sizes) -> list[Part]:
    return [
        Part("growth", frozenset({"W4", "W7"}), _run, takes=LARGE.__contains__),
        Part("memory", frozenset({"W7"}), _others, takes=lambda name: name not in LARGE),
    ]


async def _run(stage: Stage) -> Found:
    sizes = stage.sizes
    few, walked = (sizes.scaled(count, least=paging.LEAST) for count in (FEW, WALKED[sizes.kind]))
    many = sizes.scaled(1_000_000 if sizes.is_full else 30_000, least=paging.LEAST)
    small = await stage.stores(partial(paging.filled, count=few))
    large = await stage.stores(partial(paging.filled, count=many))
    pages = await stage.measured(*paging.metrics(sizes, few, small), *paging.metrics(sizes, many, large))
    found = {f"{metric} (growth)": cells for metric, cells in pages.items()}
    medium = await stage.stores(partial(paging.filled, count=walked))
    return {**found, **await _walks(stage, {walked: medium, many: large})}


async def _others(stage: Stage) -> Found:
    count = stage.sizes.scaled(WALKED[stage.sizes.kind], least=paging.LEAST)
    return await _walks(stage, {count: await stage.stores(partial(paging.filled, count=count))})


async def _walks(stage: Stage, stores: Mapping[int, Mapping[str, System]]) -> Found:
    found: Found = {}
    for count, systems in stores.items():
        memory, speed = f"memory of a walk over {counted(count)}", f"walk over {counted(count)}"
        for name, system in systems.items():
            stage.say(f"{name}: {speed}")
            cells = Cell("MiB"), Cell("per_s")
            await _walk(system, count, *cells)
            found.setdefault(memory, {})[name], found.setdefault(speed, {})[name] = cells
        for name, reason in stage.failed.items():
            found.setdefault(memory, {}).setdefault(name, Cell("MiB", note=reason))
    return found


async def _walk(system: System, count: int, memory: Cell, speed: Cell) -> None:
    """Walk over a store in a process of its own, whose peak is the walk's alone."""
    begun = time.perf_counter()
    walker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.walker", system.name, system.engine, system.place),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told, complaint = await asyncio.wait_for(walker.communicate(), LONGEST_SECONDS)
    except TimeoutError:
        walker.kill()
        await walker.wait()
        memory.note = speed.note = f"fails: not done within {LONGEST_SECONDS:.0f} s"
        return
    memory.seconds = time.perf_counter() - begun
    if walker.returncode == 2:
        memory.note = speed.note = "not offered"
    elif walker.returncode:
        memory.note = speed.note = f"fails: {complaint.decode().strip().rpartition(chr(10))[2][:200]}"
    else:
        facts = json.loads(told)
        memory.samples, speed.samples = [facts["grown_mib"]], [facts["sessions"] / facts["seconds"]]
        memory.checked = count
        memory.lost = max(0, count - facts["sessions"])
