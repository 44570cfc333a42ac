"""The rules of the protocol, each of which tests can leave out to see that something then goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rules:
    """What a program does is always :data:`ALL`; anything else loses data, which is what tests show."""

    intents: bool = True
    """Writes of both stores take the session's intent."""
    barrier: bool = True
    """A phase is left when every member has acknowledged it."""
    pass_after_settled: bool = True
    """The pass that counts begins when every member writes both."""
    backfill: Literal["checked", "upsert", "insert"] = "checked"
    """The pass writes where nothing has moved since it read."""
    backfill_checks_phase: bool = True
    """... and where the phase is still one with L as primary."""
    orphans: bool = True
    """The pass visits what U alone has."""
    gate_pass: bool = True
    """Shadow reads need a complete pass."""
    gate_intents: bool = True
    """U becomes primary when no write of an older phase, and no abandoned one, is open."""
    acknowledge_resolved: bool = True
    """A member follows to the other primary when no write of the old one is left."""
    acknowledge_drained: bool = True
    """A member acknowledges shadow reads with an empty journal."""
    recover: bool = True
    """Abandoned writes are brought to their end."""
    recover_by_intent: bool = True
    """... from the primary of the phase they were begun in."""
    restart_reads_phase: bool = True
    """A program that starts asks for the phase, and does not serve without it."""
    closed_in_shadow: bool = True
    """From shadow reads on, what U does not have is not acknowledged."""
    journal_first: bool = True
    """The journal is written before L."""
    outbox_when_settled: bool = True
    """An outage of L is lived through only when every member reads U."""
    suspects: bool = True
    """A write that was taken from a living member leaves its session suspect."""
    tokens: bool = True
    """A member notices that its write was taken from it."""
    evict_voids_pass: bool = True
    """A member that was sent away with a journal voids the pass."""
    confirm_absence: bool = True
    """A session that is not found is looked for again before it counts as deleted."""
    mass_guard: bool = True
    """A pass that would delete many stops."""


ALL = Rules()
