"""The target is restored from a backup while everybody works: who notices, and what follows from it.

Every transaction of a member raises its own beat counter in the target, and it keeps the number in a file; so does the
runner. Whoever finds a lower number than it wrote declares the target restored: phase 1 begins anew.
"""

from collections.abc import Iterator

from migration_model.rules import Rules
from migration_model.state import NAMES, Backup, Copier, Holder, Intent, Member, Recoverer, Standing, State
from migration_model.writers import Move, failed


def restore_moves(rules: Rules, state: State) -> Iterator[Move]:
    if not state.left.restores:
        yield from acknowledgements(rules, state)
    elif state.backup is None and state.phase in (1, 2):
        copiers = tuple([copier.current for copier in state.copiers])
        copy = Backup(state.phase, state.complete, state.unified, state.intent, state.suspect, copiers)
        yield "operator: makes a backup of U", state._replace(backup=copy)
    elif state.backup is not None and state.phase <= rules.restore_phase:
        yield "U IS RESTORED from the backup", restored(rules, state, state.backup)
    if state.restored and rules.beats:
        yield from polls(rules, state)


def restored(rules: Rules, state: State, backup: Backup) -> State:
    """Intents taken since are gone; one in the backup whose owner has finished has nobody to release it."""
    members = tuple([member._replace(holds=member.holds and not member.ahead) for member in state.members])
    intent = backup.intent
    if intent is not None and not any(member.holds for member in members):
        intent = Intent(Holder.NOBODY, intent.phase)
    copiers = [
        copier._replace(current=known and not rules.copier_epoch)
        for copier, known in zip(state.copiers, backup.copiers, strict=True)
    ]
    return state._replace(
        phase=backup.phase,
        complete=backup.complete,
        unified=backup.unified,
        intent=intent,
        suspect=backup.suspect,
        members=members,
        copiers=tuple(copiers),
        recoverer=Recoverer(),
        backup=None,
        restored=True,
        left=state.spent("restores"),
    )


def noticed(rules: Rules, state: State, text: str, after: State) -> Move:
    """A move as it is, or what comes of it when the mover finds the target restored."""
    if after.backup is not None:
        return text, beaten(state, after, after.backup)
    if not state.restored or not rules.beats or not touches(state, after):
        return text, after
    for index, member in enumerate(state.members):
        if after.members[index] != member and member.ahead and still(member, after.members[index]):
            stopped = failed(state, index, member)
            return f"{NAMES[index]}: finds U restored, returns an error", declared(rules, stopped)
    if state.runner_ahead and by_runner(state, after):
        return "runner: finds U restored", declared(rules, state)
    return text, after


def still(member: Member, after: Member) -> bool:
    """It did that itself: it neither died nor was evicted."""
    return after.alive and after.standing is member.standing


def touches(state: State, after: State) -> bool:
    """It was a transaction of the target."""
    stored = (state.phase, state.complete, state.unified, state.intent)
    if stored != (after.phase, after.complete, after.unified, after.intent):
        return True
    return any(
        was.phase != now.phase or was.standing is not now.standing
        for was, now in zip(state.members, after.members, strict=True)
    )


def beaten(state: State, after: State, backup: Backup) -> State:
    """Whose transaction it was is further than the backup; a copier that ends knows none of its numbers any more."""
    known = [flag and copier.step > 0 for flag, copier in zip(backup.copiers, after.copiers, strict=True)]
    after = after._replace(backup=backup._replace(copiers=tuple(known)))
    if not touches(state, after):
        return after
    if by_runner(state, after):
        return after._replace(runner_ahead=True)
    members = [
        now._replace(ahead=now.ahead or was != now) for was, now in zip(state.members, after.members, strict=True)
    ]
    return after._replace(members=tuple(members))


def by_runner(state: State, after: State) -> bool:
    """It was the runner's: no member changed, or one was evicted."""
    return all(
        was == now or (was.standing is Standing.MEMBER and now.standing is not Standing.MEMBER)
        for was, now in zip(state.members, after.members, strict=True)
    )


def polls(rules: Rules, state: State) -> Iterator[Move]:
    for index, member in enumerate(state.members):
        if member.ahead and member.idle and member.standing is Standing.MEMBER:
            yield f"{NAMES[index]}: polls and finds U restored", declared(rules, state)
    if state.runner_ahead:
        yield "runner: finds U restored", declared(rules, state)


def declared(rules: Rules, state: State) -> State:
    """Phase 1 in a new epoch: nobody has acknowledged it, and no pass has started."""
    intent = state.intent
    if intent is not None and not any(member.holds for member in state.members):
        intent = Intent(Holder.NOBODY, intent.phase)
    return state._replace(
        phase=1,
        complete=False,
        intent=intent,
        copiers=(Copier(),) * len(state.copiers) if rules.copier_epoch else state.copiers,
        recoverer=Recoverer(),
        restored=False,
        runner_ahead=False,
        members=tuple([member._replace(ahead=False, behind=rules.restored_epoch) for member in state.members]),
    )


def acknowledgements(rules: Rules, state: State) -> Iterator[Move]:
    for index, member in enumerate(state.members):
        if member.behind and member.idle and member.standing is Standing.MEMBER and state.phase == 1:
            again = member._replace(behind=False, phase=1)
            yield f"{NAMES[index]}: acknowledges phase 1 anew", state.with_member(index, again)
