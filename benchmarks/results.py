"""The file of a run: what was measured so far, on which machine, of which versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.machine_load import load_now
from benchmarks.measuring import Sizes
from benchmarks.stage import Found

FORMAT = 1
MEASURED = (
    "unified_storage",
    "session_adapter",
    "session_api",
    "legacy",
    "unified_storage_cli",
    "benchmarks",
    ":!benchmarks/results",
)
"""What another state of means other results."""
PACKAGES = (
    *("asyncpg", "asyncmy", "redis", "sqlalchemy", "msgspec", "pydantic", "aiosqlite", "psycopg"),
    *("agno", "google-adk", "openai-agents", "langgraph"),
    *("fastapi", "uvicorn", "httptools"),
    *("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "langgraph-checkpoint-redis"),
)


class Results:
    """Cells and finished parts, written after each part so that a killed run loses that part alone."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self.content = content

    @classmethod
    def begun(cls, path: Path, sizes: Sizes, *, fresh: bool) -> Results:
        """What is in the file where it is of the same commit and sizes, else an empty one."""
        empty = _empty(sizes)
        if not fresh and path.exists():
            there = json.loads(path.read_text())
            if all(there.get(name) == empty[name] for name in ("format", "commit", "sizes")):
                return cls(path, there)
        return cls(path, empty)

    @property
    def cells(self) -> dict[str, Any]:
        cells: dict[str, Any] = self.content["cells"]
        return cells

    def forget(self, steps: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Where all of these are finished they are wanted once more; else what is finished stays."""
        asked = [(part, list(systems)) for part, systems in steps]
        if all(self.has(part, systems) for part, systems in asked):
            for part, _ in asked:
                del self.content["finished"][part]

    def has(self, part: str, systems: Iterable[str]) -> bool:
        """Whether a part (``engine/name``) is finished with all these systems."""
        return set(systems) <= set(self.content["finished"].get(part, ()))

    def note_load(self, part: str) -> None:
        """Keep what else the machine has to do before a part begins."""
        load = load_now()
        self.content["load"][part] = load.normal
        self.content.setdefault("low_load", {})[part] = load.low

    def add(self, engine: str, part: str, systems: Iterable[str], found: Found, spent: dict[str, float]) -> None:
        of_engine = self.cells.setdefault(engine, {})
        for metric, cells in found.items():
            of_engine.setdefault(metric, {}).update({name: cell.as_json() for name, cell in cells.items()})
        name = f"{engine}/{part}"
        self.content["finished"][name] = list(systems)
        self.content["seconds"][name] = {system: round(seconds, 1) for system, seconds in spent.items()}
        self.content["date"] = _now()
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.content, indent=1, ensure_ascii=False) + "\n")
        os.replace(beside, self.path)


def _empty(sizes: Sizes) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "date": _now(),
        "commit": _commit(),
        "machine": _machine(),
        "packages": _packages(),
        "sizes": {
            "kind": sizes.kind,
            "scale": sizes.scale,
            "repetitions": sizes.repetitions,
            "operations": sizes.operations,
            "seconds": sizes.seconds,
        },
        "engines": {},
        "load": {},
        "finished": {},
        "seconds": {},
        "cells": {},
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str:
    """The commit, and behind a + what tells changes of the measured code from other changes."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD").decode().strip()
        changes = _git("diff", "HEAD", "--", *MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+{hashlib.sha256(changes).hexdigest()[:8]}" if changes else commit


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
