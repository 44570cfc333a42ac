"""What must hold in every state, and what a reader may see."""

from collections.abc import Iterator

from migration_model.rules import Rules
from migration_model.state import NAMES, Member, Standing, State
from migration_model.writers import Move


def complaint(rules: Rules, state: State) -> str | None:
    """What is wrong with this state, in words."""
    return wrong_read(rules, state) or difference(rules, state)


def wrong_read(rules: Rules, state: State) -> str | None:
    """No read is older than an acknowledged write, or than what somebody saw in a quiet moment."""
    legal = {phase: state.history.legal(state.legacy if phase <= 2 else state.unified) for phase in (2, 3)}
    if all(legal.values()):
        return None
    for index, member in enumerate(state.members):
        if reads(rules, member) and not legal[2 if member.phase <= 2 else 3]:
            return wrong(state, f"{NAMES[index]} (phase {member.phase})", member.phase)
    return None


def reads(rules: Rules, member: Member) -> bool:
    return member.alive and (rules.ghost_reads or member.standing is not Standing.GHOST)


def wrong(state: State, reader: str, phase: int) -> str:
    store, cell = ("L", state.legacy) if phase <= 2 else ("U", state.unified)
    content = state.history.content(cell)
    if content >= 0 and state.history.undone >> content & 1:
        return f"RESURRECTED: {reader} reads {store} and sees op{content}, deleted by an acknowledged delete"
    return (
        f"LOST OR UN-SEEN: {reader} reads {store} and sees {state.history.name(cell)}, "
        "older than an acknowledged or already seen op"
    )


def difference(rules: Rules, state: State) -> str | None:
    """With nothing under way and the pass complete the stores are equal."""
    if rules.visible_only or not state.complete or state.phase not in (1, 2, 3) or state.suspect or state.intent:
        return None
    if rules.beats and state.noticeable:
        return None
    history = state.history
    if history.content(state.legacy) == history.content(state.unified) or not quiet(state):
        return None
    return (
        f"DIVERGED: quiet in phase {state.phase}, pass complete, nothing open, "
        f"but L={history.name(state.legacy)} and U={history.name(state.unified)}"
    )


def quiet(state: State) -> bool:
    """Nothing is under way, and everybody that counts is in the phase of the target."""
    return state.ghost_recoverer.step == 0 and all(at_rest(state, member) for member in state.members)


def at_rest(state: State, member: Member) -> bool:
    if member.standing is Standing.NONE:
        return True
    if not member.alive:
        return not member.journal and not member.ahead
    registered = member.standing is not Standing.GHOST
    return member.idle and not member.journal and (member.phase == state.phase or not registered)


def reader_moves(rules: Rules, state: State) -> Iterator[Move]:
    """A client reads in a moment when nothing is under way and everybody reads the same store."""
    alive = [member for member in state.members if member.alive]
    phases = {member.phase for member in alive if reads(rules, member)}
    if not rules.observe or len(phases) != 1 or not all(member.idle for member in alive):
        return
    phase = phases.pop()
    cell = state.legacy if phase <= 2 else state.unified
    history = state.history.see(cell)
    if history != state.history and state.history.legal(cell):
        text = f"reader (all in phase {phase}, nothing in flight) sees {history.name(cell)}"
        yield text, state._replace(history=history)
