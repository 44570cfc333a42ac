"""Which process wrote something down, and whether it is known to have ended."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """This process, as another one may ask about it: ``host``, ``boot``, ``pid`` and ``started``, all JSON."""
    pid = os.getpid()
    return {"host": _machine(), "boot": _boot(), "pid": pid, "started": _started(pid)}


def has_ended(process: Mapping[str, Any]) -> bool:
    """Whether *process* is known to have ended; of another machine, or before this one was started, nothing is."""
    if (process["host"], process.get("boot")) != (_machine(), _boot()):
        return False
    return bool(_started(process["pid"]) != process["started"])


def _machine() -> str:
    """This machine; a container with process numbers of its own is one too."""
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _boot() -> str | None:
    """Which start of which machine this is: virtual machines of one name have the same number of processes too."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When the process began, in a form that only compares; None when there is none. A number is soon used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return _known_to_run(pid)


def _known_to_run(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    if os.name != "nt":  # there, signal 0 is no question
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return "running"
    return "running"
