"""The phases of a live migration: who is written, and who is believed."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """L is the legacy store, U the unified one."""

    LEGACY_ONLY = 0
    """L alone; U is not touched."""
    DUAL_WRITE = 1
    """L, then U; L is read. An outage of U is lived through."""
    SHADOW_READ = 2
    """The same, but nothing is acknowledged that U does not have; reads are compared beside."""
    UNIFIED_PRIMARY = 3
    """U, then L; U is read. An outage of L is lived through once every member reads U."""
    UNIFIED_ONLY = 4
    """U alone; L is never looked at again."""

    @property
    def name_shown(self) -> str:
        """As people write it: ``dual_write``."""
        return self.name.lower()

    @property
    def reads_legacy(self) -> bool:
        return self <= Phase.SHADOW_READ

    @property
    def writes_both(self) -> bool:
        return Phase.DUAL_WRITE <= self <= Phase.UNIFIED_PRIMARY

    def has_primary_of(self, other: Phase) -> bool:
        """Whether the same store is believed in both phases."""
        return self.reads_legacy == other.reads_legacy


def phase_named(name: str) -> Phase:
    """The phase of a name such as ``dual_write`` or a number; ValueError for neither."""
    if name.isdecimal():
        return Phase(int(name))
    try:
        return Phase[name.upper()]
    except KeyError:
        raise ValueError(f"no phase {name!r}; there are {', '.join(one.name_shown for one in Phase)}") from None
