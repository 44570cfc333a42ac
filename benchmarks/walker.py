"""A walk over all sessions of a store, and how much memory it took: ``python -m benchmarks.walker NAME ENGINE PLACE``.

Prints one line of JSON: ``sessions``, ``seconds``, and ``grown_mib``, the peak above what the process held before.
The exit code is 2 where the system has no such walk.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

from benchmarks.system import NotOffered
from benchmarks.systems import system_of


def peak_mib() -> float:
    """The most that this process ever held; `getrusage` would count its parent too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system tells no peak of memory")


async def walked(name: str, engine: str, place: str) -> dict[str, float]:
    system = system_of(name, engine)(engine, place)
    await system.open()
    try:
        gc.collect()
        before, begun, count = peak_mib(), time.perf_counter(), 0
        async for _ in system.stream():
            count += 1
        seconds = time.perf_counter() - begun
    finally:
        await system.close()
    return {"sessions": count, "seconds": round(seconds, 3), "grown_mib": round(peak_mib() - before, 2)}


def main() -> int:
    try:
        facts = asyncio.run(walked(*sys.argv[1:4]))
    except NotOffered:
        return 2
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
