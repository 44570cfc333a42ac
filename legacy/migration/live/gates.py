"""What must hold before the phase changes: each reason against it in a line that says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from legacy.migration.live.intents import is_abandoned
from legacy.migration.live.passes import pass_in
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.settling import is_settled
from legacy.migration.live.state import (
    ODD,
    OPEN,
    Item,
    MemberState,
    Migration,
    items_marked,
    members_in,
    shadow_reads_in,
)
from unified_storage.interface import IUnifiedStorage

_NAMED = 5


async def reasons_against(
    storage: IUnifiedStorage, migration: Migration, to: Phase, *, shadow_reads: int = 0, rules: Rules = ALL
) -> list[str]:
    """Why the phase cannot become *to* now; empty when it can.

    Args:
        shadow_reads: comparisons that all members together must have made before U becomes primary.
    """
    if abs(to - migration.phase) != 1:
        return [f"from {migration.phase.name_shown} the next phase is one step on or back, not {to.name_shown}"]
    if migration.phase == Phase.UNIFIED_ONLY:
        return ["unified_only is final: the way back from there is a copy"]
    members = await members_in(storage)
    found = _not_settled(migration, members) if rules.barrier else []
    items = await items_marked(storage, OPEN, ODD)
    found += _reads_left_behind(members, to)
    if to > migration.phase:
        found += await _forward(storage, migration, to, items, members, shadow_reads, rules)
    elif migration.phase == Phase.UNIFIED_PRIMARY:
        found += _open(items, rules) + _suspects(items)
    return found


async def _forward(
    storage: IUnifiedStorage,
    migration: Migration,
    to: Phase,
    items: Sequence[Item],
    members: Sequence[MemberState],
    shadow_reads: int,
    rules: Rules,
) -> list[str]:
    found: list[str] = []
    if to in (Phase.SHADOW_READ, Phase.UNIFIED_PRIMARY) and rules.gate_pass:
        found += await _pass(storage, migration)
    if to == Phase.UNIFIED_PRIMARY:
        found += _open(items, rules) + _older(items, Phase.DUAL_WRITE, rules) + _suspects(items)
        found += _odd(items, migration) + _shadow(await shadow_reads_in(storage, migration), shadow_reads)
    if to == Phase.UNIFIED_ONLY:
        found += _older(items, Phase.SHADOW_READ, rules) + _suspects(items)
    return found


def _not_settled(migration: Migration, members: Sequence[MemberState]) -> list[str]:
    if is_settled(migration, [*members]):
        return []
    late = [one.member for one in members if one.evicted is None and one.acked_epoch != migration.epoch]
    return [f"not acknowledged by {_named(late)}: wait, or repair --evict MEMBER where it is dead"]


async def _pass(storage: IUnifiedStorage, migration: Migration) -> list[str]:
    state = await pass_in(storage)
    if not state.number:
        return ["no pass was made: migrate run makes one"]
    if not state.complete:
        return [f"pass {state.number} incomplete: {state.done} of {state.total} sessions"]
    if not state.counts_for(migration):
        return [f"pass {state.number} began before everybody wrote both stores: migrate run makes another"]
    return [] if state.ledger.is_closed else [f"the ledger of pass {state.number} does not add up"]


def _open(items: Sequence[Item], rules: Rules) -> list[str]:
    left = [one.session_id for one in items if one.intent and (one.intent.recovering or is_abandoned(one.intent))]
    return [f"unfinished writes of {_named(left)}: migrate run ends them"] if left and rules.gate_intents else []


def _older(items: Sequence[Item], phase: Phase, rules: Rules) -> list[str]:
    old = [one.session_id for one in items if one.intent is not None and one.intent.phase <= phase]
    told = f"writes by the rules of an older phase: {_named(old)}: migrate run ends them"
    return [told] if old and rules.gate_intents else []


def _suspects(items: Sequence[Item]) -> list[str]:
    found = [one.session_id for one in items if one.suspect is not None]
    told = f"suspect sessions, whose writers may be alive: {_named(found)}: prove that these have ended"
    return [told] if found else []


def _odd(items: Sequence[Item], migration: Migration) -> list[str]:
    found = [one for one in items if one.state is not None and one.id not in migration.accepted]
    by_state: dict[str, list[str]] = {}
    for one in found:
        by_state.setdefault(str(one.state), []).append(one.session_id)
    return [
        f"{state}: {_named(ids)}: repair them, or accept them with repair --accept"
        for state, ids in sorted(by_state.items())
    ]


def _shadow(counted: Mapping[str, int], wanted: int) -> list[str]:
    compared, different = counted["compared"], counted["different"]
    if different:
        return [f"{different} shadow reads found a difference: migrate verify says where"]
    return [f"{compared} of {wanted} shadow reads were compared"] if compared < wanted else []


def _reads_left_behind(members: Sequence[MemberState], to: Phase) -> list[str]:
    """Who was sent away without proof that it ended, and may go on reading a store that nobody would write."""
    late = [one for one in members if one.evicted is not None]
    if to == Phase.UNIFIED_ONLY:
        names = [one.member for one in late if Phase(one.acked_phase).reads_legacy]
    elif to == Phase.DUAL_WRITE:
        names = [one.member for one in late if not Phase(one.acked_phase).reads_legacy]
    else:
        names = []
    return [f"{_named(names)} may still be alive and would read a store that is left behind"] if names else []


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(id) for id in ids[:_NAMED])
    return shown if len(ids) <= _NAMED else f"{shown} and {len(ids) - _NAMED} more"
