"""What a member does: writes, drains its journal, learns the phase."""

from collections.abc import Callable, Iterator

from migration_model.rules import Rules
from migration_model.state import NAMES, NOTHING, Holder, Intent, Member, Standing, State, Step

Move = tuple[str, State]


def member_moves(rules: Rules, state: State) -> Iterator[Move]:
    for index, member in enumerate(state.members):
        if member.alive:
            yield from STEPS[member.step](rules, state, index, NAMES[index], member)


def legacy_cell(state: State, operation: int) -> int:
    """A delete leaves nothing in the legacy store; in the target it leaves its own number as a tombstone."""
    return operation if state.history.saves[operation] else NOTHING


def acknowledged(state: State, index: int, member: Member) -> State:
    """Its caller hears of it, unless that has gone."""
    if member.unheard:
        return failed(state, index, member)
    return state.with_member(index, member.rested(), history=state.history.acknowledge(member))


def failed(state: State, index: int, member: Member) -> State:
    return state.with_member(index, member.rested(), history=state.history.fail(member.operation))


def abandon(state: State, member: Member) -> State:
    """What the member holds is open from now on."""
    if not member.holds or state.intent is None:
        return state
    return state._replace(intent=state.intent._replace(holder=Holder.NOBODY))


def taken(state: State, index: int, member: Member) -> State:
    """The intent of the id, for the phase the target is in."""
    return state.with_member(index, member, intent=Intent(Holder.MEMBER, state.phase)).counted()


# --- between two operations ------------------------------------------------------------------------------------


def idle(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    if state.left.operations:
        yield from invocations(rules, state, index, name, member)
    fenced = member.standing is Standing.GHOST and rules.eviction_fence
    if not fenced and may_acknowledge(rules, state, member):
        learned = member._replace(phase=state.phase)
        yield f"{name}: learns phase {state.phase} and acknowledges it", state.with_member(index, learned)
    if member.journal and not fenced and state.intent is None and may_drain(rules, state):
        draining = member._replace(step=Step.DRAIN_READ, under=state.phase, holds=True)
        yield f"{name}: drains its journal: takes the intent (U.txn)", taken(state, index, draining)


def invocations(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    before = state.history.acknowledged | state.history.ended
    left = state.spent("operations")
    for save in (True, False):
        history = state.history.invoked(save)
        operation = len(history.saves) - 1
        called = member._replace(
            step=first_step(rules, member.phase), operation=operation, before=before, under=member.phase
        )
        verb = "save" if save else "delete"
        yield (
            f"{name}(phase {member.phase}): client calls {verb} -> op{operation}",
            state.with_member(index, called, history=history, left=left),
        )


def first_step(rules: Rules, phase: int) -> Step:
    if phase == 0:
        return Step.WRITE_LEGACY_ALONE
    if rules.intent:
        return Step.TAKE_INTENT
    return NAIVE_FIRST[phase]


NAIVE_FIRST = {
    1: Step.NAIVE_LEGACY_FIRST,
    2: Step.NAIVE_LEGACY_FIRST,
    3: Step.NAIVE_UNIFIED_FIRST,
    4: Step.NAIVE_UNIFIED_ALONE,
}


def may_acknowledge(rules: Rules, state: State, member: Member) -> bool:
    if member.phase == state.phase or (rules.barrier and abs(member.phase - state.phase) > 1):
        return False
    if rules.acknowledge_resolved and state.foreign:
        return False
    return not (rules.acknowledge_drained and member.journal and member.phase == 1 and state.phase > 1)


def may_drain(rules: Rules, state: State) -> bool:
    return state.phase in (1, 2) or (rules.late_drain and state.phase == 3)


def drain_read(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    read = member._replace(step=Step.DRAIN_COMMIT, read=state.legacy)
    yield f"{name}: drain reads L", state.with_member(index, read)


def drain_commit(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    if member.holds:
        drained = member.rested()._replace(journal=False)
        after = state.with_member(index, drained, unified=member.read, intent=None).counted()
        yield f"{name}: drain copies L to U, releases (U.txn)", after
    else:
        yield f"{name}: drain finds its intent taken over, stops", state.with_member(index, member.rested())


# --- one write -------------------------------------------------------------------------------------------------


def write_legacy_alone(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    after = acknowledged(state, index, member)._replace(legacy=legacy_cell(state, member.operation))
    yield f"{name}: op{member.operation} writes L only, acknowledged", after


def take_intent(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    if member.standing is Standing.GHOST and rules.eviction_fence:
        yield f"{name}: op{member.operation} finds its member evicted, returns an error", failed(state, index, member)
    else:
        yield from allowed_intent(rules, state, index, name, member)
    if state.left.faults and rules.journal != "no" and member.phase == 1:
        yield journalling(rules, state, index, name, member)


def allowed_intent(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    operation, phase = member.operation, state.phase
    if phase == 4:
        after = acknowledged(state, index, member)._replace(unified=operation).counted()
        yield f"{name}: op{operation} writes U only, phase 4, acknowledged (U.txn)", after
    elif state.intent is not None:
        return
    elif phase == 0:
        alone = member._replace(step=Step.WRITE_LEGACY_ALONE, under=0)
        yield f"{name}: op{operation} sees phase 0 in U", state.with_member(index, alone)
    elif phase == 3:
        holding = member._replace(step=Step.WRITE_LEGACY_AFTER, under=3, holds=True)
        after = taken(state, index, holding)._replace(unified=operation)
        yield f"{name}: op{operation} takes the intent AND writes U, phase 3 (U.txn)", after
    else:
        holding = member._replace(step=Step.WRITE_LEGACY, under=phase, holds=True)
        yield f"{name}: op{operation} takes the intent in U, phase {phase} (U.txn)", taken(state, index, holding)


def journalling(rules: Rules, state: State, index: int, name: str, member: Member) -> Move:
    left = state.spent("faults")
    if rules.journal == "ahead":
        noted = member._replace(step=Step.JOURNALLED, journal=True, under=1)
        return (
            f"{name}: U is down; op{member.operation} goes into the local journal",
            state.with_member(index, noted, left=left),
        )
    late = member._replace(step=Step.JOURNAL_LATE)
    cell = legacy_cell(state, member.operation)
    return (
        f"{name}: U is down; op{member.operation} writes L first",
        state.with_member(index, late, left=left, legacy=cell),
    )


def journalled(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    after = acknowledged(state, index, member)._replace(legacy=legacy_cell(state, member.operation))
    yield f"{name}: op{member.operation} writes L, acknowledged", after


def journal_late(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    after = acknowledged(state, index, member._replace(journal=True))
    yield f"{name}: op{member.operation} journalled, acknowledged", after


def cancelled(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    """The outcome stays unknown: its thread is about to write the legacy store, and has not ended."""
    if not state.left.cancels or member.unheard:
        return
    holds = member.holds and rules.cancelled_holds
    after = state if rules.cancelled_holds else abandon(state, member)
    unheard = member._replace(unheard=True, holds=holds)
    text = f"{name}: the caller of op{member.operation} goes, its thread goes on"
    yield text, after.with_member(index, unheard, left=state.spent("cancels"))


def write_legacy(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    written = member._replace(step=Step.COMMIT)
    cell = legacy_cell(state, member.operation)
    yield f"{name}: op{member.operation} writes L", state.with_member(index, written, legacy=cell)
    yield from cancelled(rules, state, index, name, member)


def commit(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    operation = member.operation
    if member.holds or not rules.token_check:
        after = released(state, member)._replace(unified=operation).counted()
        yield f"{name}: op{operation} writes U, releases, acknowledged (U.txn)", acknowledged(after, index, member)
    else:
        yield f"{name}: op{operation} finds its intent stolen, returns an error", failed(state, index, member)
    if state.left.faults and (member.holds or member.standing is Standing.GHOST):
        yield from failing_commit(rules, state, index, name, member)


def released(state: State, member: Member) -> State:
    return state._replace(intent=None) if member.holds else state


def failing_commit(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    """The target is down. Whether the intent is still its own the member cannot ask."""
    opened = abandon(state, member)._replace(left=state.spent("faults"))
    operation = member.operation
    tolerated = (member.under == 1 and rules.tolerate_target_outage) or (member.under == 2 and rules.tolerate_in_shadow)
    if tolerated:
        after = acknowledged(opened, index, member)
        yield f"{name}: U is down at commit; op{operation} acknowledged anyway, intent stays open", after
    after = failed(opened, index, member)
    yield f"{name}: U is down at commit; op{operation} returns an error, intent stays open", after


def write_legacy_after(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    written = member._replace(step=Step.RELEASE)
    cell = legacy_cell(state, member.operation)
    yield f"{name}: op{member.operation} writes L", state.with_member(index, written, legacy=cell)
    yield from cancelled(rules, state, index, name, member)
    if not state.left.faults:
        return
    opened = abandon(state, member)._replace(left=state.spent("faults"))
    if tolerates_legacy_outage(rules, state, member):
        after = acknowledged(opened, index, member)
        yield f"{name}: L is down; op{member.operation} acknowledged, intent stays open (U.txn)", after
    else:
        after = failed(opened, index, member)
        yield f"{name}: L is down; op{member.operation} returns an error, intent stays open", after


def tolerates_legacy_outage(rules: Rules, state: State, member: Member) -> bool:
    if rules.tolerate_legacy_outage != "settled":
        return rules.tolerate_legacy_outage == "always"
    if member.standing is Standing.GHOST and rules.eviction_fence:
        return False
    return state.phase == 3 and state.settled(3) and not (rules.ghost_gate and state.ghost_reads_legacy)


def release(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    if member.holds or not rules.token_check:
        after = acknowledged(released(state, member).counted(), index, member)
        yield f"{name}: op{member.operation} releases, acknowledged (U.txn)", after
    else:
        after = failed(state, index, member)
        yield f"{name}: op{member.operation} finds its intent stolen, returns an error", after


# --- writers without intents, which go by the phase they remember ----------------------------------------------


def unified_cell(rules: Rules, state: State, operation: int) -> int:
    return operation if state.history.saves[operation] or rules.tombstones else NOTHING


def naive_legacy_first(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    written = member._replace(step=Step.NAIVE_UNIFIED_SECOND)
    cell = legacy_cell(state, member.operation)
    yield f"{name}: op{member.operation} writes L", state.with_member(index, written, legacy=cell)


def naive_unified_second(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    cell = unified_cell(rules, state, member.operation)
    after = acknowledged(state, index, member)._replace(unified=cell).counted()
    yield f"{name}: op{member.operation} writes U, acknowledged", after


def naive_unified_first(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    written = member._replace(step=Step.NAIVE_LEGACY_SECOND)
    cell = unified_cell(rules, state, member.operation)
    yield f"{name}: op{member.operation} writes U", state.with_member(index, written, unified=cell).counted()


def naive_legacy_second(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    after = acknowledged(state, index, member)._replace(legacy=legacy_cell(state, member.operation))
    yield f"{name}: op{member.operation} writes L, acknowledged", after


def naive_unified_alone(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    cell = unified_cell(rules, state, member.operation)
    after = acknowledged(state, index, member)._replace(unified=cell).counted()
    yield f"{name}: op{member.operation} writes U only, acknowledged", after


STEPS: dict[Step, Callable[[Rules, State, int, str, Member], Iterator[Move]]] = {
    Step.IDLE: idle,
    Step.TAKE_INTENT: take_intent,
    Step.WRITE_LEGACY_ALONE: write_legacy_alone,
    Step.WRITE_LEGACY: write_legacy,
    Step.COMMIT: commit,
    Step.WRITE_LEGACY_AFTER: write_legacy_after,
    Step.RELEASE: release,
    Step.JOURNALLED: journalled,
    Step.JOURNAL_LATE: journal_late,
    Step.DRAIN_READ: drain_read,
    Step.DRAIN_COMMIT: drain_commit,
    Step.NAIVE_LEGACY_FIRST: naive_legacy_first,
    Step.NAIVE_UNIFIED_SECOND: naive_unified_second,
    Step.NAIVE_UNIFIED_FIRST: naive_unified_first,
    Step.NAIVE_LEGACY_SECOND: naive_legacy_second,
    Step.NAIVE_UNIFIED_ALONE: naive_unified_alone,
}
