"""What `migrate run` and the operator do: backfill, recovery of abandoned intents, changes of phase."""

from collections.abc import Iterator

from migration_model.rules import Rules
from migration_model.state import NOTHING, UNDER_INTENT, Copier, Holder, Intent, Recoverer, State
from migration_model.writers import Move

PHASES = ("legacy_only", "dual_write", "shadow_read", "unified_primary", "unified_only")


def runner_moves(rules: Rules, state: State) -> Iterator[Move]:
    for index, copier in enumerate(state.copiers):
        yield from copier_moves(rules, state, index, copier)
    yield from recoverer_moves(rules, state)
    yield from ghost_recoverer_moves(state)
    yield from phase_moves(rules, state)


# --- backfill --------------------------------------------------------------------------------------------------


def copier_moves(rules: Rules, state: State, index: int, copier: Copier) -> Iterator[Move]:
    name = "old backfill" if index else "backfill"
    if copier.step == 0:
        yield from begin_copy(rules, state, index, name)
    elif copier.step == 1:
        read = copier._replace(step=2, read=state.legacy)
        yield f"{name}: reads L", state.with_copier(index, read)
    else:
        yield end_copy(rules, state, index, name, copier)
    if state.left.kills and copier.step and index == 0:
        yield f"{name}: KILLED", state.with_copier(index, Copier(), left=state.spent("kills"))


def begin_copy(rules: Rules, state: State, index: int, name: str) -> Iterator[Move]:
    if state.phase not in (1, 2) or (index == 0 and state.complete):
        return
    if rules.pass_after_settled and not state.all_dual:
        return
    compare = rules.backfill == "compare"
    if compare and state.intent is not None:
        return
    in_unified = state.history.content(state.unified) != NOTHING
    if state.legacy != NOTHING or (in_unified and rules.orphans):
        text = f"{name}: reads the sequence number, no intent, from U" if compare else f"{name}: lists x"
        yield text, state.with_copier(index, Copier(1, current=compare))
    elif index == 0:
        yield f"{name}: nothing to copy, pass complete", state._replace(complete=True)


def end_copy(rules: Rules, state: State, index: int, name: str, copier: Copier) -> Move:
    rested = state.with_copier(index, Copier())
    if rules.copier_fence and state.phase not in (1, 2):
        return f"{name}: phase moved on, stops", rested
    if rules.backfill == "compare":
        if not copier.current or state.intent is not None:
            return f"{name}: sequence number or intent changed, retries", rested
        return f"{name}: nothing moved, writes U (U.txn)", visited(rested, index, copier.read)
    if copier.read == NOTHING:
        return f"{name}: gone in L, skips", rested._replace(complete=rested.complete or index == 0)
    if rules.backfill == "upsert":
        return f"{name}: upserts into U", visited(rested, index, copier.read)
    if rules.backfill == "insert":
        absent = state.history.content(state.unified) == NOTHING
        return f"{name}: inserts if absent", visited(rested, index, copier.read if absent else state.unified)
    kept = copier.read if state.unified == NOTHING else state.unified
    return f"{name}: inserts if absent and no tombstone", visited(rested, index, kept)


def visited(state: State, index: int, unified: int) -> State:
    return state._replace(unified=unified, complete=state.complete or index == 0).counted()


# --- recovery --------------------------------------------------------------------------------------------------


def recoverer_moves(rules: Rules, state: State) -> Iterator[Move]:
    worker = state.recoverer
    if worker.step == 0:
        yield from begin_recovery(rules, state)
        return
    yield recover(state, worker)
    if state.left.kills:
        opened = opened_recovery(state)._replace(left=state.spent("kills"))
        yield "recoverer: KILLED", opened
    if state.left.runner_evictions and state.ghost_recoverer.step == 0 and runner_evictable(rules, state, worker):
        yield evicted_recoverer(rules, state, worker)


def begin_recovery(rules: Rules, state: State) -> Iterator[Move]:
    intent = state.intent
    if intent is None:
        if state.suspect and not (rules.suspect_waits and stale_writers(state)):
            checking = taken_over(state, state.suspect, state.suspect)._replace(suspect=0)
            yield "recoverer: re-checks the suspect id under the intent (U.txn)", checking
        return
    if not rules.recover:
        return
    source = intent.phase if rules.recover_from == "intent" else state.phase
    if intent.holder is Holder.NOBODY:
        text = f"recoverer: takes over the open intent of phase {intent.phase} (U.txn)"
        yield text, taken_over(state, intent.phase, source)
    elif intent.holder is Holder.MEMBER and rules.steal:
        stolen = taken_over(state, intent.phase, source)
        members = tuple([member._replace(holds=False) for member in state.members])
        suspect = (2 if intent.phase <= 2 else 3) if rules.suspect_mark else state.suspect
        text = f"recoverer: takes over the LIVE intent of phase {intent.phase} (U.txn)"
        yield text, stolen._replace(members=members, suspect=suspect)


def taken_over(state: State, phase: int, source: int) -> State:
    return state._replace(intent=Intent(Holder.RECOVERER, phase), recoverer=Recoverer(1, source)).counted()


def stale_writers(state: State) -> bool:
    """Somebody who may be alive has a call of the legacy store under way, or may begin it."""
    writing = any(member.step in UNDER_INTENT for member in state.members)
    return writing or state.ghost_recoverer.step != 0


def recover(state: State, worker: Recoverer) -> Move:
    ours = worker.phase <= 2
    if worker.step == 1:
        read = worker._replace(step=2, read=state.legacy if ours else state.unified)
        return f"recoverer: reads {'L' if ours else 'U'}", state._replace(recoverer=read)
    if worker.step == 2 and not ours:
        written = worker._replace(step=3, read=NOTHING)
        return (
            "recoverer: copies U to L",
            state._replace(legacy=state.history.content(worker.read), recoverer=written),
        )
    after = state._replace(intent=None, recoverer=Recoverer()).counted()
    if worker.step == 2:
        return "recoverer: copies L to U, releases (U.txn)", after._replace(unified=worker.read)
    return "recoverer: releases (U.txn)", after


def opened_recovery(state: State) -> State:
    phase = state.intent.phase if state.intent else state.phase
    return state._replace(intent=Intent(Holder.NOBODY, phase), recoverer=Recoverer())


def runner_evictable(rules: Rules, state: State, worker: Recoverer) -> bool:
    """Its writes of the target are checked; an old value for the legacy store asks nobody, so nobody may read that."""
    if worker.phase <= 2 or not rules.runner_eviction_waits:
        return True
    return state.phase == 3 and state.settled(3) and not state.ghost_reads_legacy


def evicted_recoverer(rules: Rules, state: State, worker: Recoverer) -> Move:
    phase = state.intent.phase if state.intent else state.phase
    suspect = (2 if phase <= 2 else 3) if rules.suspect_mark else state.suspect
    after = opened_recovery(state)._replace(
        suspect=suspect, ghost_recoverer=worker, left=state.spent("runner_evictions")
    )
    return "operator: evicts the recoverer without proof of death", after


def ghost_recoverer_moves(state: State) -> Iterator[Move]:
    """It has lost its intent; only its write of the legacy store asks nobody."""
    ghost = state.ghost_recoverer
    if ghost.step == 1:
        read = ghost._replace(step=2, read=state.legacy if ghost.phase <= 2 else state.unified)
        yield "old recoverer: reads the primary", state._replace(ghost_recoverer=read)
    elif ghost.step == 2 and ghost.phase > 2:
        cell = state.history.content(ghost.read)
        yield "old recoverer: copies U to L", state._replace(legacy=cell, ghost_recoverer=Recoverer(3, ghost.phase))
    elif ghost.step:
        stopped = state._replace(ghost_recoverer=Recoverer())
        yield "old recoverer: finds its intent taken over, stops", stopped


# --- phases ----------------------------------------------------------------------------------------------------


def phase_moves(rules: Rules, state: State) -> Iterator[Move]:
    if rules.roll_call and rules.beats and not state.roll_called:
        return
    target = state.phase + 1
    if ADVANCES[state.phase](rules, state):
        yield f"switch -> {target} {PHASES[target]}", state._replace(phase=target)
    if rules.drop_legacy and state.phase == 4 and state.settled(4) and state.legacy != NOTHING:
        yield "operator: empties the legacy store", state._replace(legacy=NOTHING)
    if state.left.rollbacks and may_roll_back(rules, state):
        yield rolled_back(rules, state)


def barrier(rules: Rules, state: State) -> bool:
    return not rules.barrier or state.settled(state.phase)


def to_dual_write(rules: Rules, state: State) -> bool:
    return not rules.way_back or barrier(rules, state)


def to_shadow_read(rules: Rules, state: State) -> bool:
    return barrier(rules, state) and (state.complete or not rules.pass_gate)


def to_unified_primary(rules: Rules, state: State) -> bool:
    if not to_shadow_read(rules, state) or state.suspect:
        return False
    intent = state.intent
    if intent is None:
        return True
    return not (rules.intent_gate and intent.phase <= 1) and not (rules.abandoned_gate and intent.abandoned)


def to_unified_only(rules: Rules, state: State) -> bool:
    if not barrier(rules, state) or state.suspect or (rules.ghost_gate and state.ghost_reads_legacy):
        return False
    return not (rules.intent_gate and state.intent is not None and state.intent.phase <= 2)


def finished(rules: Rules, state: State) -> bool:
    return False


ADVANCES = (to_dual_write, to_shadow_read, to_unified_primary, to_unified_only, finished)


def may_roll_back(rules: Rules, state: State) -> bool:
    if state.phase == 3:
        return not rules.rollback_gate or (
            barrier(rules, state) and not state.suspect and not blocks_rollback(rules, state)
        )
    if not rules.way_back or state.phase not in (1, 2):
        return False
    if state.phase == 2 and rules.ghost_gate and state.ghost_reads_unified:
        return False
    return not rules.way_back_barrier or state.settled(state.phase)


def blocks_rollback(rules: Rules, state: State) -> bool:
    if state.intent is None or not state.intent.abandoned:
        return False
    return state.intent.holder is Holder.NOBODY or rules.recovering_gate


def rolled_back(rules: Rules, state: State) -> Move:
    target = state.phase - 1
    after = state._replace(phase=target, left=state.spent("rollbacks"))
    if target == 0 and rules.way_back_voids:
        after = after._replace(complete=False, copiers=(Copier(), *state.copiers[1:]))
    return f"ROLLBACK -> {target} {PHASES[target]}", after
