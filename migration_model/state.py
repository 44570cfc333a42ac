"""One state of the model, and the questions every actor asks of it.

One session id. Each transaction of the target and each call of the legacy store is one step. A save or delete is an
operation with a number; a store holds the number of the operation whose outcome it has, or NOTHING. Sequence numbers
are not counted: a copier remembers whether the number it read is still the current one.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from migration_model.rules import Rules

NOTHING = -1
NAMES = "ABCD"  # of members, by their place


class Step(StrEnum):
    """What a member does next."""

    IDLE = "idle"
    DEAD = "dead"
    TAKE_INTENT = "take intent"
    WRITE_LEGACY_ALONE = "write legacy alone"
    WRITE_LEGACY = "write legacy"
    COMMIT = "commit"
    WRITE_LEGACY_AFTER = "write legacy after"
    RELEASE = "release"
    JOURNALLED = "journalled"
    JOURNAL_LATE = "journal late"
    DRAIN_READ = "drain: read"
    DRAIN_COMMIT = "drain: commit"
    NAIVE_LEGACY_FIRST = "naive: legacy first"
    NAIVE_UNIFIED_SECOND = "naive: unified second"
    NAIVE_UNIFIED_FIRST = "naive: unified first"
    NAIVE_LEGACY_SECOND = "naive: legacy second"
    NAIVE_UNIFIED_ALONE = "naive: unified alone"


UNDER_INTENT = frozenset({
    Step.WRITE_LEGACY, Step.COMMIT, Step.WRITE_LEGACY_AFTER, Step.RELEASE, Step.DRAIN_READ, Step.DRAIN_COMMIT,
})  # fmt: skip


class Standing(StrEnum):
    """What the target knows about a process."""

    MEMBER = "member"
    GHOST = "ghost"  # evicted without proof of death: it may be alive
    NONE = "none"  # evicted and dead, or not started yet
    TWIN = "twin"  # a forked child that goes by its parent's name


class Member(NamedTuple):
    phase: int  # the phase it acknowledged: decides its reads, and whether it knows of the migration
    step: Step = Step.IDLE
    operation: int = NOTHING
    before: int = 0  # bits of the operations that had ended when this one was invoked
    journal: bool = False  # its journal has an entry
    under: int = 0  # the phase which the operation runs under
    read: int = NOTHING  # what a drain read
    holds: bool = False  # the intent is its own
    unheard: bool = False  # its caller has gone
    standing: Standing = Standing.MEMBER
    ahead: bool = False  # its beat counter is higher than in the backup of the target
    behind: bool = False  # it has not acknowledged the epoch in which the target was declared restored

    @property
    def idle(self) -> bool:
        return self.step is Step.IDLE

    @property
    def alive(self) -> bool:
        return self.step is not Step.DEAD

    def rested(self) -> "Member":
        """Between two operations."""
        return Member(self.phase, journal=self.journal, standing=self.standing, ahead=self.ahead, behind=self.behind)


class Holder(StrEnum):
    MEMBER = "member"
    NOBODY = "nobody"  # abandoned: its owner is dead, was evicted or reported it open
    RECOVERER = "recoverer"


class Intent(NamedTuple):
    holder: Holder
    phase: int

    @property
    def abandoned(self) -> bool:
        """Without an owner that will release it: open, or just being recovered."""
        return self.holder is not Holder.MEMBER


class Copier(NamedTuple):
    """A backfill: 0 looks for work, 1 knows the sequence number, 2 has read the legacy store."""

    step: int = 0
    current: bool = False  # the sequence number it knows has not moved
    read: int = NOTHING


class Recoverer(NamedTuple):
    """0 looks for work, 1 holds the intent, 2 has read the primary, 3 wrote the legacy store."""

    step: int = 0
    phase: int = 0  # its primary is the source
    read: int = NOTHING


class History(NamedTuple):
    """What clients know. Bits are numbered by operation."""

    saves: tuple[bool, ...]  # save or delete, by operation
    acknowledged: int = 1
    ended: int = 1
    outdated: int = 0  # reading them now would be wrong
    undone: int = 0  # ... because of an acknowledged delete
    seen: int = 0

    def content(self, cell: int) -> int:
        """What a reader sees in a cell of either store."""
        return NOTHING if cell == NOTHING or not self.saves[cell] else cell

    def legal(self, cell: int) -> bool:
        """May a read return this cell now?"""
        content = self.content(cell)
        if content != NOTHING:
            return not self.outdated >> content & 1
        return any(not save and not self.outdated >> operation & 1 for operation, save in enumerate(self.saves))

    def invoked(self, save: bool) -> "History":
        return self._replace(saves=(*self.saves, save))

    def acknowledge(self, member: Member) -> "History":
        bit = 1 << member.operation
        undone = 0 if self.saves[member.operation] else member.before
        return self._replace(
            acknowledged=self.acknowledged | bit,
            ended=self.ended | bit,
            outdated=self.outdated | member.before,
            undone=self.undone | undone,
        )

    def fail(self, operation: int) -> "History":
        """It ended with an error or with its process: it may be seen or not."""
        return self if operation == NOTHING else self._replace(ended=self.ended | 1 << operation)

    def see(self, cell: int) -> "History":
        """A read in a quiet moment: all that was acknowledged or seen before is older now."""
        content = self.content(cell)
        saved = sum(1 << operation for operation, save in enumerate(self.saves) if save)
        older = (self.acknowledged | self.seen) & (saved if content == NOTHING else ~(1 << content))
        seen = self.seen if content == NOTHING else self.seen | 1 << content
        return self._replace(outdated=self.outdated | older, seen=seen)

    def name(self, cell: int) -> str:
        content = self.content(cell)
        return "nothing" if content == NOTHING else f"op{content}"


class Backup(NamedTuple):
    """What a copy of the target holds."""

    phase: int
    complete: bool
    unified: int
    intent: Intent | None
    suspect: int
    copiers: tuple[bool, ...]  # whose sequence number is the one in the copy


class Left(NamedTuple):
    """How much may still happen."""

    operations: int
    kills: int
    deaths: int
    evictions: int
    runner_evictions: int
    forks: int
    cancels: int
    faults: int
    rollbacks: int
    restores: int


class State(NamedTuple):
    phase: int
    complete: bool  # a pass that counts visited the id
    legacy: int
    unified: int
    intent: Intent | None
    suspect: int  # 0, or the phase whose primary the id had when its intent was taken from an owner that may live
    members: tuple[Member, ...]
    copiers: tuple[Copier, ...]
    recoverer: Recoverer
    ghost_recoverer: Recoverer  # evicted without proof of death
    history: History
    left: Left
    backup: Backup | None = None
    restored: bool = False  # the target is what the backup was, and nobody has noticed
    runner_ahead: bool = False  # the runner's own file is newer than the backup

    def settled(self, phase: int) -> bool:
        return all(
            member.phase == phase and not member.behind for member in self.members if member.standing is Standing.MEMBER
        )

    @property
    def all_dual(self) -> bool:
        """Every member writes both stores."""
        return all(
            member.phase >= 1 and not member.behind for member in self.members if member.standing is Standing.MEMBER
        )

    @property
    def foreign(self) -> bool:
        """An abandoned intent or a suspect mark belongs to the other primary."""
        ours = self.phase <= 2
        if self.suspect and (self.suspect <= 2) != ours:
            return True
        return self.intent is not None and self.intent.abandoned and (self.intent.phase <= 2) != ours

    @property
    def noticeable(self) -> bool:
        """The target was restored, and whoever knows better has only to look at it."""
        knowing = any(member.ahead and member.alive and member.standing is Standing.MEMBER for member in self.members)
        return self.restored and (knowing or self.runner_ahead)

    @property
    def roll_called(self) -> bool:
        """Every member has looked at the target once more; the dead do not, and must be evicted first."""
        knowing = any(member.ahead and member.standing is Standing.MEMBER for member in self.members)
        return not self.restored or not (knowing or self.runner_ahead)

    @property
    def ghost_reads_legacy(self) -> bool:
        return any(member.standing is Standing.GHOST and member.phase <= 2 for member in self.members)

    @property
    def ghost_reads_unified(self) -> bool:
        return any(member.standing is Standing.GHOST and member.phase >= 3 for member in self.members)

    def with_member(self, index: int, member: Member, **changes: Any) -> "State":
        members = (*self.members[:index], member, *self.members[index + 1 :])
        return self._replace(members=members, **changes)

    def with_copier(self, index: int, copier: Copier, **changes: Any) -> "State":
        copiers = (*self.copiers[:index], copier, *self.copiers[index + 1 :])
        return self._replace(copiers=copiers, **changes)

    def counted(self) -> "State":
        """The sequence number grew: what a copier knows of it is old."""
        return self._replace(copiers=tuple([copier._replace(current=False) for copier in self.copiers]))

    def spent(self, budget: str) -> Left:
        return self.left._replace(**{budget: getattr(self.left, budget) - 1})

    def sorted(self) -> "State":
        """The same state for members that have swapped names."""
        return self._replace(members=tuple(sorted(self.members)))


def first_state(rules: Rules) -> State:
    members = [Member(0)] * rules.members
    members += [Member(0, step=Step.DEAD, standing=Standing.NONE)] * rules.spare_members
    return State(
        phase=0,
        complete=False,
        legacy=0 if rules.present else NOTHING,
        unified=NOTHING,
        intent=None,
        suspect=0,
        members=tuple(members),
        copiers=(Copier(),) * (2 if rules.late_copier else 1),
        recoverer=Recoverer(),
        ghost_recoverer=Recoverer(),
        history=History((rules.present,)),  # operation 0 is the content at the start
        left=Left(**{budget: getattr(rules, budget) for budget in Left._fields}),
    )
