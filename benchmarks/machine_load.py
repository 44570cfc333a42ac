"""What else the machine has to do: other tasks that want a processor, those of the lowest priority apart."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SAMPLES, _PAUSE = 20, 0.02
_STATE, _NICE, _POLICY = 0, 16, 38
"""Places in a ``stat`` line of Linux, counted behind the command's name."""
_IDLE_POLICY = 5


class Load(NamedTuple):
    """How many tasks of other processes wanted a processor, in the median of some looks.

    Attributes:
        normal: of the usual priority: they take time from what is measured.
        low: of the lowest priority (nice 19, or the idle class): they run when nobody else wants to.
    """

    normal: float
    low: float


def load_now() -> Load:
    """Look for half a second; where a system does not tell, the load average of the last minute."""
    if not Path("/proc/self/stat").exists():
        return Load(round(os.getloadavg()[0], 1), 0.0)
    looks = []
    for _ in range(_SAMPLES):
        looks.append(_counted())
        time.sleep(_PAUSE)
    return Load(*(statistics.median(counts) for counts in zip(*looks, strict=True)))


def _counted() -> tuple[int, int]:
    waiting = [is_low for state, is_low in _tasks() if state == "R"]
    return waiting.count(False), waiting.count(True)


def _tasks() -> Iterator[tuple[str, bool]]:
    """State and priority of every process but this one."""
    own = str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != own:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            yield fields[_STATE], int(fields[_NICE]) == 19 or int(fields[_POLICY]) == _IDLE_POLICY
