"""What passes over both stores make of what they find, and how far one that was stopped has come."""

from __future__ import annotations

import pytest

from legacy.migration.lease import AnotherRunError
from legacy.migration.live.batches import QUARANTINE_TYPE
from legacy.migration.live.failures import GateRefusedError, GuardStoppedError
from legacy.migration.live.passes import CHECKPOINT_TYPE, PASS_ID, Guard, Pass, PassState, pass_in
from legacy.migration.live.phases import Phase
from legacy.migration.live.runner import Runner
from legacy.migration.live.state import ODD, items_marked
from legacy.migration.live.switching import switch
from session_adapter.service import SessionService
from tests.migration.by_hand import Play
from tests.migration.stores import document

LEGACY, DUAL, SHADOW, PRIMARY, ALONE = list(Phase)


async def another_pass(play: Play, **options: object) -> PassState:
    """A new one, as after a return to the beginning."""
    await play.to(LEGACY, *play.programs[1:])
    await play.to(DUAL, *play.programs[1:])
    return await a_pass(play, **options)


async def a_pass(play: Play, **options: object) -> PassState:
    run = play.run
    return await Pass(run.target, run.side, run.recovery, None, **options).run()  # type: ignore[arg-type]  # as it takes them


async def test_a_pass_that_was_stopped_goes_on_behind_its_last_batch(play: Play) -> None:
    ids = [f"s{number}" for number in range(6)]
    play.given(*ids)
    await play.program("a")
    await play.to(DUAL, *play.programs[1:])

    def stop(state: PassState) -> None:
        if state.done == 4:
            raise KeyboardInterrupt

    run = play.run
    stopped = Pass(run.target, run.side, run.recovery, None, batch=2)
    with pytest.raises(KeyboardInterrupt):
        await stopped.run(on_batch=stop)
    assert not (await pass_in(play.stores.storage)).complete
    seen: list[int] = []
    state = await Pass(run.target, run.side, run.recovery, None, batch=2).run(
        on_batch=lambda one: seen.append(one.done)
    )
    assert seen == [6]
    assert (state.number, state.complete, state.ledger.copied, state.ledger.is_closed) == (1, True, 6, True)
    assert await play.stores.kinds(*ids) == ["equal"] * 6


async def test_a_pass_that_is_made_again_changes_nothing(play: Play) -> None:
    play.given("s", "t")
    a = await play.program("a")
    await play.to(DUAL, a)
    first = await a_pass(play)
    again = await another_pass(play)
    assert (first.ledger.copied, again.ledger.copied, again.ledger.equal) == (2, 0, 2)
    assert again.number == first.number + 1


async def test_what_was_written_in_the_target_is_kept_and_holds_the_cut_over_up(play: Play) -> None:
    play.given("s", "t")
    a = await play.program("a")
    await play.forward(DUAL, a)
    await SessionService(play.stores.storage).save_session("s", document("s", value="beside"))
    await another_pass(play)
    assert [(one.session_id, one.state) for one in await items_marked(play.stores.storage, ODD)] == [("s", "conflict")]
    assert (await play.stores.in_target("s") or {})["value"] == "beside"
    await play.to(SHADOW, a)
    with pytest.raises(GateRefusedError, match="conflict: 's'"):
        await switch(play.stores.storage, PRIMARY)
    assert await a.seen() == "op0"


async def test_a_damaged_session_is_set_aside_and_copied_when_it_is_mended(play: Play) -> None:
    play.given("s", "t")
    file = play.stores.folder / "sessions" / "s.json"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    a = await play.program("a")
    await play.to(DUAL, a)
    state = await a_pass(play)
    assert (state.ledger.copied, state.ledger.quarantined, state.ledger.is_closed) == (1, 1, True)
    await play.to(SHADOW, a)
    assert not await play.to(PRIMARY, a)
    file.write_bytes(whole)
    await play.to(DUAL, a)
    state = await another_pass(play)
    assert state.ledger.quarantined == 0
    assert await play.kind() == "equal"
    await play.to(SHADOW, a)
    assert await play.to(PRIMARY, a)


async def test_a_legacy_store_that_lost_half_its_sessions_stops_the_pass(play: Play) -> None:
    ids = [f"s{number}" for number in range(10)]
    play.given(*ids)
    a = await play.program("a")
    await play.forward(DUAL, a)
    for id in ids[:5]:
        play.stores.legacy.delete_session(id)
    with pytest.raises(GuardStoppedError, match="more than 1 sessions"):
        await another_pass(play)
    assert [await play.stores.in_target(id) is not None for id in ids] == [True] * 10
    state = await a_pass(play, guard=Guard(max_deleted=5))
    assert (state.ledger.tombstoned, state.ledger.is_closed) == (5, True)
    assert await play.stores.kinds(*ids) == ["equal"] * 10


async def test_one_run_at_a_time_looks_after_a_migration(play: Play) -> None:
    storage, side = play.stores.storage, play.stores.side
    first = Runner(storage, side, None, once=True)
    await first._take_part()
    with pytest.raises(AnotherRunError):
        await Runner(storage, side, None, once=True).run()
    await first._member.leave()
    await side.close()


async def test_what_somebody_wrote_beside_the_migration_counts_and_what_the_target_held_is_kept(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    await a.save("op1")
    play.stores.legacy.save_session("s", document("s", value="beside"))
    await play.stores.storage.delete(PASS_ID, type=CHECKPOINT_TYPE)  # one more pass, and nobody has left the phase
    state = await a_pass(play)
    kept = await play.stores.storage.list({"type": QUARANTINE_TYPE})
    assert (state.ledger.conflict, state.ledger.is_closed) == (1, True)
    assert [one["data"]["document"]["value"] for one in kept] == ["op1"]
    assert (await play.stores.in_target("s") or {})["value"] == "beside"
