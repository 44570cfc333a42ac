"""Names for parametrised tests that are the same in every process, so that runners may share them out."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_LONGEST = 60


def named(value: object) -> str:
    """A short text for *value* without addresses, and without the order of sets, which differs from run to run."""
    text = f"set of {len(value)}" if isinstance(value, set | frozenset) else ascii(value)
    if "{" in text and _holds_a_set(value):
        text = f"{type(value).__name__} with a set"
    return _ADDRESS.sub("", text)[:_LONGEST]


def _holds_a_set(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_a_set, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_a_set, value))
    return isinstance(value, set | frozenset)
