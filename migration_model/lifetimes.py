"""How processes end and begin: kill -9, death for ever, eviction with and without proof, starting, forking."""

from collections.abc import Iterator

from migration_model.rules import Rules
from migration_model.state import NAMES, NOTHING, Copier, Member, Standing, State, Step
from migration_model.writers import Move, abandon, failed


def lifetime_moves(rules: Rules, state: State) -> Iterator[Move]:
    for index, member in enumerate(state.members):
        name = NAMES[index]
        if member.alive:
            yield from endings(rules, state, index, name, member)
            yield from evictions_without_proof(rules, state, index, name, member)
            yield from forks(rules, state, index, name, member)
        elif member.standing is Standing.MEMBER:
            yield from evictions_of_the_dead(rules, state, index, name, member)
        if member.standing in (Standing.GHOST, Standing.NONE):
            yield from starts(rules, state, index, name, member)


# --- ending ----------------------------------------------------------------------------------------------------


def endings(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    registered = member.standing is Standing.MEMBER
    if state.left.kills and registered and not member.idle:
        yield restarted(rules, state, index, name, member)
    if state.left.kills and registered and rules.restart_forgets and member.idle and member.phase:
        old_image = state.with_member(index, member._replace(phase=0), left=state.spent("kills"))
        yield f"{name}: restarted from an old image, believes phase 0", old_image
    if state.left.deaths:
        yield f"{name}: KILLED, and nobody starts it again", dead(state, index, member)


def restarted(rules: Rules, state: State, index: int, name: str, member: Member) -> Move:
    """A start acknowledges the phase, and obeys the rules of acknowledging."""
    after = failed(abandon(state, member), index, member)._replace(left=state.spent("kills"))
    waits = (rules.acknowledge_resolved and after.foreign) or (
        member.journal and rules.acknowledge_drained and member.phase == 1
    )
    phase = 0 if rules.restart_forgets else member.phase if waits else state.phase
    fresh = member.rested()._replace(phase=phase, ahead=member.ahead and rules.beats_on_disk)
    during = f" during op{member.operation}" if member.operation != NOTHING else ""
    return f"{name}: KILLED{during}; restarts in phase {phase}", after.with_member(index, fresh)


def dead(state: State, index: int, member: Member) -> State:
    standing = Standing.MEMBER if member.standing is Standing.MEMBER else Standing.NONE
    body = member.rested()._replace(step=Step.DEAD, standing=standing)
    after = failed(abandon(state, member), index, member)
    return after.with_member(index, body, left=state.spent("deaths"))


# --- evicting --------------------------------------------------------------------------------------------------


def evictions_of_the_dead(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    out = state.with_member(index, member._replace(standing=Standing.NONE))
    yield f"operator: evicts {name}, proven dead", voided(rules, out, member)
    restored = rules.beats and state.restored and member.ahead  # the file of its journal says how far it was
    if not rules.eviction_drains or restored:
        return
    if not member.journal:
        yield f"operator: evicts {name}, proven dead, its journal read and empty", out
    elif state.intent is None and state.phase in (1, 2):
        drained = out.with_member(index, member._replace(journal=False, standing=Standing.NONE))
        copied = drained._replace(unified=state.legacy).counted()
        # the runner's reconcile takes the intent too, but between its steps nothing of the dead can happen
        yield f"operator: drains the journal of {name}, proven dead, and evicts it", copied


def voided(rules: Rules, state: State, member: Member) -> State:
    """What it wrote may be in its journal alone, or in a target that is no more: a pass must look again."""
    if (member.phase >= 2 and rules.eviction_trusts_phase) or rules.eviction_voids == "nothing":
        return state
    copiers = state.copiers
    if rules.eviction_voids == "pass":
        copiers = (Copier(), *copiers[1:])
    return state._replace(complete=False, copiers=copiers)


def evictions_without_proof(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    registered = member.standing is Standing.MEMBER
    if not state.left.evictions or not registered or member.phase < rules.eviction_floor:
        return
    after = abandon(state, member)
    if member.holds and state.intent is not None and rules.suspect_mark:
        after = after._replace(suspect=2 if state.intent.phase <= 2 else 3)
    ghost = member._replace(standing=Standing.GHOST, holds=False)
    after = after.with_member(index, ghost, left=state.spent("evictions"))
    yield f"operator: evicts {name} without proof of death", voided(rules, after, member)


# --- beginning -------------------------------------------------------------------------------------------------


def starts(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    """A new incarnation registers: with nothing of the old one under way, and as an acknowledgement of the phase."""
    if member.alive and not member.idle:
        return
    if rules.acknowledge_resolved and state.foreign:
        return
    phase, journal = state.phase, member.journal
    if journal and phase in (1, 2):
        phase = 1  # it serves, and acknowledges phase 2 when it has drained
    elif journal and not rules.late_drain:
        journal = False  # set aside: the pass after the eviction has seen what it is about
    yield (
        f"{name}: registers as a new member in phase {phase}",
        state.with_member(index, Member(phase, journal=journal)),
    )


def forks(rules: Rules, state: State, index: int, name: str, member: Member) -> Iterator[Move]:
    if not state.left.forks or member.standing is not Standing.MEMBER:
        return
    for spare, free in enumerate(state.members):
        if free.alive or free.standing is not Standing.NONE:
            continue
        if not rules.fork_registers:
            child = Member(member.phase, journal=member.journal, standing=Standing.TWIN)
        elif rules.acknowledge_resolved and state.foreign:
            continue
        else:
            child = Member(state.phase)
        text = f"{name}: forks {NAMES[spare]}, which " + ("registers" if rules.fork_registers else "goes by its name")
        yield text, state.with_member(spare, child, left=state.spent("forks"))
