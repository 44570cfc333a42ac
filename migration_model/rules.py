"""Every rule of the protocol as a switch, and how much may happen in one walk."""

from dataclasses import dataclass
from typing import Literal

Backfill = Literal["upsert", "insert", "insert_unless_deleted", "compare"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The defaults are the protocol; a configuration leaves something out or lets more happen."""

    # what there is, and how much of it
    members: int = 2
    spare_members: int = 0  # processes that do not run yet: they may start or be forked
    operations: int = 2
    kills: int = 1  # kill -9, and the same process starts again
    deaths: int = 0  # kill -9, and nobody starts it again
    evictions: int = 0  # of members that may be alive; the dead are evicted at no charge
    runner_evictions: int = 0  # of recoverers that may be alive
    forks: int = 0
    cancels: int = 0  # the caller goes while a thread writes the legacy store
    faults: int = 0  # one call of a store that fails
    rollbacks: int = 0
    restores: int = 0  # of the target, from a backup
    present: bool = True  # the session exists at the start
    late_copier: bool = False  # a second backfill that may be late without limit
    drop_legacy: bool = False  # the operator empties the legacy store once phase 4 is settled
    way_back: bool = False  # rollbacks go on to 2 -> 1 -> 0

    # what is checked
    visible_only: bool = False  # what a user can see, not whether the stores are equal when all is quiet
    observe: bool = True  # what was seen in a quiet moment is not un-seen later
    ghost_reads: bool = True  # an evicted member that runs on reads nothing old either

    # writing
    intent: bool = True  # a write takes the intent of the id and reads the phase in one transaction
    tombstones: bool = True  # for the writers without intents alone
    token_check: bool = True  # a writer whose intent was taken over notices in its next transaction
    journal: Literal["no", "ahead", "behind"] = "no"  # phase 1, target down: written before, or after, the legacy store
    tolerate_target_outage: bool = False  # phase 1: target down at the commit, acknowledged, the intent stays open
    tolerate_in_shadow: bool = False  # (wrong) the same in phase 2
    tolerate_legacy_outage: Literal["never", "settled", "always"] = "never"  # phase 3

    cancelled_holds: bool = True  # the intent of a call that was cancelled stays its own until its thread returned

    # backfill
    backfill: Backfill = "compare"
    copier_fence: bool = True  # the backfill's transaction looks at the phase again
    orphans: bool = True  # a pass visits ids which only the target has
    pass_after_settled: bool = True  # a pass counts if it started after every member acknowledged phase 1

    # acknowledging and changing the phase
    barrier: bool = True  # the phase moves on only when every member acknowledged it
    acknowledge_resolved: bool = True  # none acknowledges another primary while an intent of the old one is abandoned
    acknowledge_drained: bool = True  # none acknowledges phase 2 with entries in its journal
    restart_forgets: bool = False  # (wrong) a process that starts again believes in phase 0
    pass_gate: bool = True  # 1 -> 2 and 2 -> 3 need a complete pass
    intent_gate: bool = True  # 2 -> 3 refuses while a phase-1 intent is open, 3 -> 4 while one of phase 2 is
    abandoned_gate: bool = True  # 2 -> 3 refuses while any intent is abandoned or being recovered
    rollback_gate: bool = True  # 3 -> 2 needs "settled" and no abandoned intent
    recovering_gate: bool = True  # ... where one that is being recovered still counts
    way_back_barrier: bool = True  # 2 -> 1 -> 0 wait for acknowledgements too
    way_back_voids: bool = True  # 1 -> 0 voids the pass

    # recovering
    recover: bool = True
    recover_from: Literal["intent", "current"] = "intent"  # whose phase names the primary
    steal: bool = False  # intents are taken from living owners, by a time-out
    suspect_mark: bool = True  # what is taken from an owner that may live is suspect
    suspect_waits: bool = True  # ... until that owner is idle again or dead

    # evicting and joining
    eviction_voids: Literal["pass", "finished_pass", "nothing"] = "pass"
    eviction_trusts_phase: bool = False  # who acknowledged phase 2 has no journal; but it may know of a restored target
    eviction_drains: bool = True  # a dead member's journal may be drained instead
    eviction_floor: int = 2  # who may be alive is evicted only if it acknowledged this phase
    eviction_fence: bool = True  # the transaction that takes an intent refuses an evicted member
    runner_eviction_waits: bool = True  # in phase 3 a recoverer that may be alive is evicted only after "settled"
    ghost_gate: bool = True  # no store is left behind while an evicted member that may be alive reads it
    late_drain: bool = False  # (wrong) who comes back in phase 3 drains its journal
    fork_registers: bool = True  # a forked child is a member of its own

    # a target restored from a backup
    beats: bool = True  # whoever finds a counter of its own lower than it wrote says that the target was restored
    beats_on_disk: bool = True  # ... also after it was killed
    roll_call: bool = True  # a change of phase waits until every member has looked at the target once more
    copier_epoch: bool = True  # a copier of an older epoch writes nothing
    restored_epoch: bool = True  # everybody acknowledges phase 1 anew
    restore_phase: int = 2  # the last phase in which it happens
