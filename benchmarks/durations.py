"""How long a run takes, from what an earlier one took part by part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring import Sizes

FILE = Path(__file__).with_name("durations.json")
UNKNOWN = {"full": 20.0, "quick": 3.0}
"""Seconds of one system in one part that was never measured."""
Seconds = dict[str, dict[str, dict[str, float]]]
"""Of a kind of run, a part (``engine/name``) and a system."""


class Durations:
    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds

    @classmethod
    def known(cls, file: Path = FILE) -> Durations:
        return cls(json.loads(file.read_text()) if file.exists() else {})

    def expected(self, part: str, systems: Iterable[str], sizes: Sizes) -> float:
        """Seconds of a part with these systems; they grow with the scale, though what is slow has its bound."""
        of_part = self._seconds.get(sizes.kind, {}).get(part, {})
        return sizes.scale * sum(of_part.get(system, UNKNOWN[sizes.kind]) for system in systems)

    def learn(self, results: Mapping[str, Any]) -> None:
        """Take over what a run took, brought to scale 1."""
        sizes = results["sizes"]
        of_kind = self._seconds.setdefault(sizes["kind"], {})
        for part, systems in results["seconds"].items():
            known = of_kind.setdefault(part, {})
            known.update({name: round(seconds / sizes["scale"], 1) for name, seconds in systems.items()})

    def save(self, file: Path = FILE) -> None:
        file.write_text(json.dumps(self._seconds, indent=1, sort_keys=True) + "\n")


def as_text(seconds: float) -> str:
    """``2 h 05 min``, ``12 min``, ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
