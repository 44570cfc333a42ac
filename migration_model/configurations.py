"""The rows of the table: the protocol in many settings, and the protocol with one rule left out."""

from dataclasses import dataclass, replace

from migration_model.rules import Rules

HOLDS, VIOLATED, STUCK = "holds", "VIOLATED", "STUCK"


@dataclass(frozen=True)
class Row:
    name: str
    expected: str
    rules: Rules
    text: str
    quick: bool = True  # walked in seconds


NAIVE = Rules(
    observe=False,
    intent=False,
    barrier=False,
    pass_after_settled=False,
    backfill="upsert",
    copier_fence=False,
    orphans=False,
    tombstones=False,
    intent_gate=False,
    rollback_gate=False,
    recover=False,
    kills=0,
)
TOMBSTONES = replace(NAIVE, backfill="insert_unless_deleted", tombstones=True)
BARRIERS = replace(TOMBSTONES, barrier=True, pass_after_settled=True)

FINAL = Rules()
CALM = replace(FINAL, kills=0)
OUTAGES = replace(FINAL, faults=1, journal="ahead", tolerate_target_outage=True, tolerate_legacy_outage="settled")
BACK = replace(FINAL, rollbacks=1, faults=1, tolerate_legacy_outage="settled")

DEAD = replace(OUTAGES, kills=0, deaths=1)
GHOST = replace(OUTAGES, kills=0, evictions=1, observe=False)
OLD_RUNNER = replace(OUTAGES, kills=0, runner_evictions=1, rollbacks=1, observe=False)
FORK = replace(OUTAGES, kills=0, members=1, spare_members=1, forks=1)
RESTORED = replace(CALM, operations=1, restores=1)
WAY_BACK = replace(OUTAGES, kills=0, way_back=True, rollbacks=3)

SIMPLE_DESIGNS = [
    Row("naive", VIOLATED, replace(NAIVE, operations=1), "dual write + upsert backfill, no coordination"),
    Row(
        "naive_insert",
        VIOLATED,
        replace(NAIVE, backfill="insert", operations=1),
        "backfill inserts only if absent, deletes leave no tombstone",
    ),
    Row("naive_tomb", VIOLATED, TOMBSTONES, "plus tombstones"),
    Row("naive_tomb_barrier", VIOLATED, BARRIERS, "plus barriers: still no per-id ordering of two dual writers"),
    Row(
        "naive_tomb_barrier_1proc",
        VIOLATED,
        replace(BARRIERS, members=1, kills=1),
        "one process only, but it may be killed between its two writes",
    ),
    Row(
        "naive_visible_lost",
        VIOLATED,
        replace(NAIVE, visible_only=True, members=1, operations=1),
        "one process, backfill upsert: what the user sees",
    ),
    Row(
        "naive_visible_resurrect",
        VIOLATED,
        replace(BARRIERS, visible_only=True, members=1, operations=1, backfill="insert", tombstones=False),
        "one process, insert-if-absent, no tombstone: what the user sees",
    ),
    Row(
        "naive_tomb_visible",
        VIOLATED,
        replace(BARRIERS, visible_only=True),
        "two dual writers, tombstones, barriers: what the user sees",
    ),
    Row(
        "naive_tomb_barrier_1proc_nokill",
        HOLDS,
        replace(BARRIERS, members=1, operations=3),
        "one process, never killed: the only setting in which the naive design is right",
    ),
]

PROTOCOL = [
    Row("FINAL", HOLDS, FINAL, "the protocol, 2 ops, 1 kill"),
    Row("FINAL_3ops", HOLDS, replace(FINAL, operations=3), "3 ops, 1 kill", quick=False),
    Row("FINAL_2kills", HOLDS, replace(FINAL, kills=2), "2 ops, 2 kills"),
    Row(
        "FINAL_absent",
        HOLDS,
        replace(FINAL, present=False, operations=3),
        "session does not exist at the start, 3 ops",
        quick=False,
    ),
    Row(
        "FINAL_faults",
        HOLDS,
        replace(OUTAGES, faults=2),
        "outages of target and legacy store with fail-open, 2 faults, 1 kill",
        quick=False,
    ),
    Row("FINAL_rollback", HOLDS, BACK, "with one rollback 3->2, 1 kill, 1 fault", quick=False),
    Row(
        "FINAL_zombie_backfill",
        HOLDS,
        replace(FINAL, late_copier=True),
        "a second, arbitrarily late backfill",
        quick=False,
    ),
    Row(
        "steal_weak",
        HOLDS,
        replace(FINAL, steal=True, observe=False, rollbacks=1),
        "intents stolen from LIVE owners, suspect marks; un-seeing tolerated",
        quick=False,
    ),
    Row(
        "steal_unseen",
        VIOLATED,
        replace(FINAL, steal=True, rollbacks=1),
        "same, un-seeing not tolerated: stealing cannot be made fully safe",
        quick=False,
    ),
    Row(
        "FINAL_drop_legacy",
        HOLDS,
        replace(FINAL, late_copier=True, drop_legacy=True),
        "legacy store emptied after phase 4, late backfill",
        quick=False,
    ),
    Row(
        "FINAL_cancelled",
        HOLDS,
        replace(CALM, cancels=1, rollbacks=1),
        "a call is cancelled while its thread writes the legacy store, one rollback",
    ),
    Row("FINAL_3procs", HOLDS, replace(FINAL, members=3), "three application processes"),
    Row(
        "FINAL_all",
        HOLDS,
        replace(OUTAGES, rollbacks=1, late_copier=True, drop_legacy=True),
        "everything at once",
        quick=False,
    ),
]

ABLATIONS = [
    Row("no_intent", VIOLATED, replace(CALM, intent=False), "dual writes without the per-id intent"),
    Row("no_barrier", VIOLATED, replace(FINAL, barrier=False), "switch without waiting for acknowledgements"),
    Row(
        "pass_before_settled",
        VIOLATED,
        replace(FINAL, pass_after_settled=False),
        "a pass started before every process was in phase 1 counts",
    ),
    Row("bf_upsert", VIOLATED, replace(FINAL, backfill="upsert"), "backfill upserts without the sequence check"),
    Row(
        "bf_insert_tomb",
        VIOLATED,
        replace(FINAL, backfill="insert_unless_deleted"),
        "backfill insert-if-absent (cannot repair a stale copy)",
    ),
    Row(
        "no_orphans",
        VIOLATED,
        replace(FINAL, orphans=False, operations=3),
        "the pass walks only the ids of the legacy store",
    ),
    Row(
        "no_bf_fence",
        HOLDS,
        replace(FINAL, copier_fence=False, late_copier=True),
        "backfill does not re-check the phase (the sequence check alone is enough while L exists)",
        quick=False,
    ),
    Row(
        "no_bf_fence_drop",
        VIOLATED,
        replace(CALM, copier_fence=False, late_copier=True, drop_legacy=True),
        "same, and the legacy store is emptied after the end",
    ),
    Row(
        "bf_upsert_visible",
        VIOLATED,
        replace(CALM, backfill="upsert", visible_only=True, operations=1),
        "upserting backfill, what the user sees, one op and no kill",
    ),
    Row(
        "bf_insert_tomb_visible",
        VIOLATED,
        replace(FINAL, backfill="insert_unless_deleted", visible_only=True),
        "same for insert-if-absent, 2 ops and one kill",
    ),
    Row(
        "no_intent_visible",
        VIOLATED,
        replace(CALM, intent=False, visible_only=True),
        "no intent, what the user sees",
    ),
    Row(
        "no_intent_regular",
        HOLDS,
        replace(FINAL, intent=False, visible_only=True, observe=False),
        "no intent, if un-seeing is tolerated and the stores may differ",
    ),
    Row(
        "no_ack_resolved",
        VIOLATED,
        replace(FINAL, acknowledge_resolved=False, faults=1),
        "a process starts reading the other store while an abandoned intent of the old side is open",
    ),
    Row(
        "no_gate_open",
        HOLDS,
        replace(FINAL, abandoned_gate=False),
        "switch allowed while an abandoned intent is open (the acknowledgement rule covers it)",
    ),
    Row(
        "bf_insert_tomb_calm",
        HOLDS,
        replace(CALM, backfill="insert_unless_deleted", operations=1),
        "insert-if-absent with one op and no kill: why short tests do not find it",
    ),
    Row("no_gate_pass", VIOLATED, replace(CALM, pass_gate=False), "cut over without a complete pass"),
    Row(
        "no_gate_intents",
        HOLDS,
        replace(FINAL, intent_gate=False, abandoned_gate=False, tolerate_target_outage=True, faults=1),
        "no intent gates at the switch (the acknowledgement rule covers them)",
        quick=False,
    ),
    Row(
        "no_gate_intents_no_ack",
        VIOLATED,
        replace(
            FINAL,
            intent_gate=False,
            abandoned_gate=False,
            acknowledge_resolved=False,
            observe=False,
            tolerate_target_outage=True,
            faults=1,
        ),
        "neither intent gates nor acknowledgement rule: ACKNOWLEDGED write lost",
    ),
    Row("no_recover", STUCK, replace(FINAL, recover=False), "nobody resolves intents of dead owners (checks progress)"),
    Row(
        "recover_current",
        VIOLATED,
        replace(FINAL, recover_from="current"),
        "recover from the primary of the CURRENT phase instead of the intent's own",
    ),
    Row(
        "restart_phase0",
        VIOLATED,
        replace(FINAL, restart_forgets=True),
        "a restarted process defaults to legacy_only",
    ),
    Row(
        "failopen_in_phase2",
        VIOLATED,
        replace(FINAL, tolerate_in_shadow=True, faults=1),
        "still fail-open in shadow_read",
    ),
    Row(
        "journal_behind",
        VIOLATED,
        replace(FINAL, journal="behind", faults=1, operations=1),
        "journal written after the legacy write",
    ),
    Row(
        "ack_with_journal",
        VIOLATED,
        replace(FINAL, journal="ahead", faults=1, acknowledge_drained=False, operations=1),
        "a process acknowledges phase 2 with a non-empty journal",
    ),
    Row(
        "failopen3_always",
        VIOLATED,
        replace(CALM, tolerate_legacy_outage="always", faults=1),
        "phase 3 tolerates a legacy outage before everybody reads U",
    ),
    Row(
        "rollback_ungated",
        HOLDS,
        replace(BACK, rollback_gate=False, kills=0),
        "rollback without waiting for open intents (the acknowledgement rule covers it)",
    ),
    Row(
        "rollback_ungated_no_ack",
        VIOLATED,
        replace(BACK, rollback_gate=False, acknowledge_resolved=False, observe=False, kills=0),
        "neither rollback gate nor acknowledgement rule",
    ),
    Row(
        "rollback_recovering",
        VIOLATED,
        replace(BACK, recovering_gate=False, acknowledge_resolved=False, observe=False, kills=0),
        "without the acknowledgement rule: rollback gate forgets intents just being recovered",
    ),
    Row(
        "cancelled_releases",
        VIOLATED,
        replace(CALM, cancels=1, cancelled_holds=False),
        "a cancelled call gives its intent up while its thread still writes",
    ),
    Row(
        "steal_no_suspect",
        VIOLATED,
        replace(FINAL, steal=True, suspect_mark=False),
        "time-out stealing without suspect marks",
    ),
    Row(
        "steal_no_token",
        VIOLATED,
        replace(CALM, steal=True, suspect_mark=False, token_check=False),
        "and without token check",
    ),
]

EVICTION = [
    Row("evict_dead", HOLDS, DEAD, "a dead member is evicted and comes back, its journal voids the pass", quick=False),
    Row(
        "evict_dead_kill",
        HOLDS,
        replace(DEAD, kills=1),
        "same, and one kill -9 with a restart",
        quick=False,
    ),
    Row(
        "evict_dead_keeps_pass",
        VIOLATED,
        replace(DEAD, eviction_voids="nothing", eviction_drains=False),
        "its journal is forgotten and the pass stays valid",
    ),
    Row(
        "evict_dead_running_pass",
        VIOLATED,
        replace(DEAD, eviction_voids="finished_pass"),
        "a pass that started before the eviction counts when it is finished",
    ),
    Row(
        "evict_dead_late_drain",
        VIOLATED,
        replace(DEAD, faults=2, late_drain=True),
        "it comes back in phase 3 and drains its old journal",
        quick=False,
    ),
    Row("evict_ghost", HOLDS, GHOST, "evicted without proof of death, it runs on; un-seeing tolerated"),
    Row("evict_ghost_back", HOLDS, replace(GHOST, rollbacks=1), "same with one rollback", quick=False),
    Row("evict_2ghosts", HOLDS, replace(GHOST, evictions=2), "same for both members", quick=False),
    Row(
        "evict_ghost_dies",
        HOLDS,
        replace(GHOST, deaths=1, rollbacks=1),
        "same, and a death: of the ghost, or of a member, which is evicted with proof",
        quick=False,
    ),
    Row(
        "evict_ghost_unseen",
        VIOLATED,
        replace(GHOST, observe=True),
        "un-seeing not tolerated: evicting a living member is stealing",
        quick=False,
    ),
    Row(
        "evict_ghost_cancelled",
        HOLDS,
        replace(GHOST, cancels=1),
        "same, and a call of it, or of another, is cancelled while its thread writes",
        quick=False,
    ),
    Row(
        "evict_ghost_phase0",
        VIOLATED,
        replace(GHOST, eviction_floor=0, journal="no"),
        "of a member that may still write the legacy store alone",
    ),
    Row(
        "evict_ghost_journal",
        VIOLATED,
        replace(GHOST, eviction_floor=1),
        "of a member that acknowledged phase 1 and has a journal: it needs no target to write",
    ),
    Row(
        "evict_ghost_no_journal",
        HOLDS,
        replace(GHOST, eviction_floor=1, journal="no"),
        "same without a journal",
        quick=False,
    ),
    Row(
        "evict_ghost_no_suspect",
        VIOLATED,
        replace(GHOST, suspect_mark=False),
        "its intents are recovered and not marked suspect",
    ),
    Row(
        "evict_ghost_suspect_early",
        VIOLATED,
        replace(GHOST, suspect_waits=False),
        "suspect ids are re-checked while it may still write",
    ),
    Row(
        "evict_ghost_no_token",
        VIOLATED,
        replace(GHOST, token_check=False),
        "it commits without looking whether the intent is still its own",
    ),
    Row(
        "evict_ghost_no_fence",
        HOLDS,
        replace(GHOST, eviction_fence=False),
        "it may take new intents (tokens, suspect marks and the ghost gate cover it)",
        quick=False,
    ),
    Row(
        "evict_ghost_left_behind",
        VIOLATED,
        replace(GHOST, ghost_gate=False),
        "the phase moves away from the store that it still reads",
    ),
    Row(
        "evict_ghost_left_behind_unread",
        HOLDS,
        replace(GHOST, ghost_gate=False, ghost_reads=False),
        "same, if nobody asks what it reads: writes are safe without that gate",
        quick=False,
    ),
    Row(
        "evict_runner",
        HOLDS,
        OLD_RUNNER,
        "a recoverer evicted without proof: in phase 3 only after settled; un-seeing tolerated",
    ),
    Row(
        "evict_runner_and_ghost",
        HOLDS,
        replace(OLD_RUNNER, evictions=1),
        "same and a member too",
        quick=False,
    ),
    Row(
        "evict_runner_early",
        VIOLATED,
        replace(OLD_RUNNER, runner_eviction_waits=False),
        "same before settled: its late copy of U reaches a reader of L",
    ),
    Row(
        "evict_runner_no_suspect",
        VIOLATED,
        replace(OLD_RUNNER, suspect_mark=False),
        "and the id is not marked suspect",
        quick=False,
    ),
]

COMING_AND_GOING = [
    Row("fork", HOLDS, FORK, "a process forks; the child registers as a new member", quick=False),
    Row(
        "fork_twin",
        VIOLATED,
        replace(FORK, fork_registers=False),
        "the child goes by its parent's name",
    ),
    Row(
        "join",
        HOLDS,
        replace(OUTAGES, members=1, spare_members=1),
        "a second process starts at any moment",
        quick=False,
    ),
    Row("way_back", HOLDS, replace(WAY_BACK, operations=1), "back to phase 0 and forward again, 1 op"),
    Row("way_back_2ops", HOLDS, WAY_BACK, "same, 2 ops", quick=False),
    Row(
        "way_back_ungated",
        VIOLATED,
        replace(WAY_BACK, operations=1, way_back_barrier=False),
        "2->1->0 without waiting for acknowledgements",
    ),
    Row(
        "way_back_keeps_pass",
        VIOLATED,
        replace(WAY_BACK, operations=1, way_back_voids=False),
        "the pass of before a return to legacy_only counts",
    ),
    Row(
        "way_back_ghost",
        HOLDS,
        replace(WAY_BACK, operations=1, evictions=1, observe=False),
        "back and forward with an evicted member that runs on; un-seeing tolerated",
        quick=False,
    ),
    Row(
        "way_back_ghost_left_behind",
        VIOLATED,
        replace(WAY_BACK, operations=1, evictions=1, observe=False, ghost_gate=False, rollbacks=2),
        "2->1 while an evicted member still reads U",
    ),
]

RESTORING = [
    Row("restore", HOLDS, RESTORED, "the target is restored from a backup in phase 1 or 2, 1 op"),
    Row("restore_2ops", HOLDS, replace(RESTORED, operations=2), "same, 2 ops", quick=False),
    Row("restore_kill", HOLDS, replace(RESTORED, kills=1), "same, 1 op and 1 kill"),
    Row(
        "restore_outages",
        HOLDS,
        replace(OUTAGES, operations=1, kills=0, restores=1),
        "same, with outages and journals",
    ),
    Row(
        "restore_death",
        HOLDS,
        replace(RESTORED, deaths=1),
        "same, and who knew that it was restored may die",
        quick=False,
    ),
    Row("restore_unnoticed", VIOLATED, replace(RESTORED, beats=False), "nobody compares its beat counter"),
    Row(
        "restore_beats_in_memory",
        VIOLATED,
        replace(RESTORED, kills=1, beats_on_disk=False),
        "a process that starts again does not know how far it was",
    ),
    Row(
        "restore_no_roll_call",
        VIOLATED,
        replace(RESTORED, roll_call=False),
        "the phase moves on before the one who knows has looked",
    ),
    Row(
        "restore_old_copier",
        VIOLATED,
        replace(RESTORED, copier_epoch=False),
        "a backfill of before goes on: sequence numbers repeat",
    ),
    Row(
        "restore_old_acknowledgements",
        VIOLATED,
        replace(RESTORED, restored_epoch=False),
        "who is in phase 1 already counts without acknowledging it anew",
    ),
    Row(
        "restore_evicted_trusted",
        VIOLATED,
        replace(RESTORED, deaths=1, eviction_trusts_phase=True),
        "evicting a dead member of phase 2, whose journal is empty, keeps the pass",
        quick=False,
    ),
    Row(
        "restore_ghost",
        VIOLATED,
        replace(RESTORED, evictions=1, observe=False),
        "a limit: its intent went with the target, and it is evicted without proof before anybody noticed",
    ),
    Row(
        "restore_phase3",
        VIOLATED,
        replace(RESTORED, restore_phase=3),
        "a limit: what was in the primary is gone",
    ),
]

ROWS = [*SIMPLE_DESIGNS, *PROTOCOL, *ABLATIONS, *EVICTION, *COMING_AND_GOING, *RESTORING]
