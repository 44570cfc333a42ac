"""What a record remembers of its list: enough to see, without reading the history, that a list only goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate
from typing import Any

START = ""
"""The digest of no elements."""


def digests(texts: Iterable[str], start: str = START) -> list[str]:
    """The digest after none, after one, ... after all of *texts*: each is over the one before and the next text."""
    return [*accumulate(texts, _extended, initial=start)]


def _extended(digest: str, text: str) -> str:
    return blake2b((digest + text).encode(), digest_size=20).hexdigest()


@dataclass(frozen=True, slots=True)
class Trace:
    """How a document's list stood in the log when they were last the same.

    Attributes:
        entries: how many entries of the log showed it.
        elements: how many elements it had; a whole run shows as several.
        last_seq: the highest number among those entries; whatever is above was appended since.
        digest: over the exact texts of its elements; None when an entry was changed in its place since.
        before: the digest without its last element, where that is an entry of its own.
        unheld: numbers among those entries that no saved list has held yet.
    """

    entries: int = 0
    elements: int = 0
    last_seq: int = 0
    digest: str | None = START
    before: str | None = None
    unheld: frozenset[int] = frozenset()

    @classmethod
    def of_new(cls, texts: list[str]) -> Trace:
        """The trace of a list that was the first thing its log ever held."""
        chain = digests(texts)
        return cls(len(texts), len(texts), len(texts), chain[-1], chain[-2] if texts else None)

    @classmethod
    def kept(cls, facts: object) -> Trace | None:
        """The trace that :meth:`facts` wrote; None where there is none."""
        if not isinstance(facts, Mapping):
            return None
        return cls(
            facts["count"],
            facts["elements"],
            facts["last_seq"],
            facts.get("digest"),
            facts.get("before"),
            frozenset(facts.get("unheld", ())),
        )

    def facts(self) -> dict[str, Any]:
        """The trace as the record's metadata keeps it."""
        facts: dict[str, Any] = {"count": self.entries, "elements": self.elements, "last_seq": self.last_seq}
        optional = {"digest": self.digest, "before": self.before, "unheld": sorted(self.unheld) or None}
        return facts | {name: value for name, value in optional.items() if value is not None}

    def void(self) -> Trace:
        """The trace after an entry was changed in its place: who saved what is known, the texts no longer are."""
        return replace(self, digest=None, before=None)

    def was_saved(self, seq: int) -> bool:
        """Whether a saved list has held the entry *seq*."""
        return seq <= self.last_seq and seq not in self.unheld
