"""Why goals are missed: written by hand, in ``results/notes.md``, and shown on the page.

A heading ``### P1, P2: sqlite`` begins the note on these goals on these engines; without an engine, on all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.goals import Finding
from benchmarks.systems import ENGINES

HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Note:
    heading: str

    @property
    def anchor(self) -> str:
        """What a link to its heading has behind the ``#``."""
        return re.sub(r"[^\w\- ]", "", self.heading.lower()).replace(" ", "-")

    def explains(self, finding: Finding) -> bool:
        words = set(re.findall(r"\w+", self.heading))
        return finding.goal in words and (finding.engine in words or words.isdisjoint(ENGINES))


def notes_of(text: str) -> list[Note]:
    return [Note(heading.strip()) for heading in HEADING.findall(text)]


def note_on(finding: Finding, notes: list[Note]) -> Note | None:
    """The first note on a finding."""
    return next((note for note in notes if note.explains(finding)), None)
