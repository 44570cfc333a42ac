"""Where a migration is, as one answer for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from legacy.migration.live.gates import reasons_against
from legacy.migration.live.intents import is_abandoned
from legacy.migration.live.passes import pass_in
from legacy.migration.live.phases import Phase
from legacy.migration.live.runner import NAME
from legacy.migration.live.state import (
    ODD,
    OPEN,
    Item,
    MemberState,
    items_marked,
    members_in,
    migration_in,
    shadow_reads_in,
)
from legacy.migration.live.throttle import settings_in, throttled
from unified_storage.interface import IUnifiedStorage
from unified_storage.processes import has_ended

_MOST = 1000


async def status(storage: IUnifiedStorage, *, shadow_reads: int = 0) -> dict[str, Any]:
    """Everything that is known, without the content of any session.

    Returns:
        ``phase epoch settled frozen plan_hash begun_at``; ``members`` (``total acknowledged`` and one line each),
        ``pass`` with its ``ledger``, ``intents`` (``in_flight open``), ``journals`` (members that may have more to
        tell), ``suspect conflict quarantined`` (session ids, a thousand at most), ``shadow`` (``compared different``),
        ``runner`` (whether one is at work), ``throttled`` (why it copies nothing at this moment), ``settings``, and
        ``next``: the phase after this one, and ``reasons`` against it.
    """
    migration = await migration_in(storage)
    members = await members_in(storage)
    state = await pass_in(storage)
    items = await items_marked(storage, OPEN, ODD)
    programs = [one for one in members if one.member != NAME]
    following = min(Phase.UNIFIED_ONLY, migration.phase + 1)
    is_over = migration.phase == Phase.UNIFIED_ONLY
    reasons = [] if is_over else await reasons_against(storage, migration, Phase(following), shadow_reads=shadow_reads)
    pass_facts = asdict(state)
    del pass_facts["version"], pass_facts["later"]
    pass_facts |= {"rate": state.rate, "eta": state.seconds_left, "valid": state.from_epoch >= migration.pass_from}
    return {
        "phase": migration.phase.name_shown,
        "epoch": migration.epoch,
        "settled": migration.settled,
        "frozen": migration.frozen is not None,
        "plan_hash": migration.plan_hash,
        "begun_at": migration.begun_at,
        "members": {
            "total": len(programs),
            "acknowledged": sum(one.acked_epoch == migration.epoch for one in programs if one.evicted is None),
            "each": [_member(one, migration.epoch) for one in programs],
        },
        "pass": pass_facts | {"counts": state.counts_for(migration), "retrying": len(state.later)},
        "intents": _intents(items),
        "journals": [one.member for one in programs if not one.journal_empty],
        **_odd(items),
        "accepted": len(migration.accepted),
        "shadow": await shadow_reads_in(storage, migration),
        "runner": any(one.member == NAME and not has_ended(one.process) for one in members),
        "throttled": await throttled(storage),
        "settings": {key: value for key, value in asdict(await settings_in(storage)).items() if key != "version"},
        "next": None if is_over else {"phase": Phase(following).name_shown, "reasons": reasons},
    }


def _member(one: MemberState, epoch: int) -> dict[str, Any]:
    return {
        "member": one.member,
        "process": f"{one.process['pid']} on {str(one.process['host']).split(' ')[0]}",
        "acknowledged": one.acked_epoch == epoch,
        "phase": Phase(one.acked_phase).name_shown if one.acked_epoch >= 0 else None,
        "journal_empty": one.journal_empty,
        "open_writes": one.open_writes,
        "evicted": one.evicted,
        "ended": has_ended(one.process),
        "beat": one.beat,
    }


def _intents(items: list[Item]) -> dict[str, Any]:
    held = [one for one in items if one.intent is not None]
    left = [one.session_id for one in held if is_abandoned(one.intent) or (one.intent and one.intent.recovering)]
    return {"in_flight": len(held) - len(left), "open": len(left), "ids": left[:_MOST]}


def _odd(items: list[Item]) -> dict[str, Any]:
    found: dict[str, Any] = {"suspect": [one.session_id for one in items if one.suspect is not None][:_MOST]}
    states = Counter(one.state for one in items)
    for state in ("conflict", "quarantined"):
        told = [{"id": one.session_id, "reason": one.reason} for one in items if one.state == state]
        found[state] = {"total": states[state], "sessions": told[:_MOST]}
    return found
