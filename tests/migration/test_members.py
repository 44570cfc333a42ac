"""Members of a migration: who joins, who is waited for, who is sent away, and who stops by himself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from legacy.migration.live.evicting import evict_dead, evict_unproven, member_named
from legacy.migration.live.failures import EvictedError, GateRefusedError, GuardStoppedError
from legacy.migration.live.member import Member
from legacy.migration.live.passes import pass_in
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import ALL
from legacy.migration.live.settling import settle
from legacy.migration.live.state import ODD, items_marked, members_in, migration_in
from legacy.migration.live.switching import switch, switch_frozen
from tests.migration.by_hand import Play, Program
from tests.migration.stores import Stores, document
from unified_storage import StorageConfigurationError, StorageError

LEGACY, DUAL, SHADOW, PRIMARY, ALONE = list(Phase)


# joining and being waited for


async def test_a_silent_member_holds_the_next_phase_up_and_is_named(play: Play) -> None:
    await play.program("silent")
    assert await play.to(DUAL)
    with pytest.raises(GateRefusedError, match="'silent'"):
        await switch(play.stores.storage, SHADOW)
    assert (await migration_in(play.stores.storage)).phase == DUAL


async def test_a_program_that_joins_late_goes_by_the_phase_of_the_others(play: Play) -> None:
    a = await play.program("a")
    await play.forward(PRIMARY, a)
    late = await play.program("late")
    assert late.member.phase == PRIMARY
    assert await play.to(SHADOW, a, late)


async def test_a_program_that_starts_does_not_serve_before_abandoned_writes_of_the_other_store_are_ended(
    play: Play,
) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("after save")
    a.begin_to_save("op1")
    await gate.reached()
    assert await play.to(PRIMARY)
    a.kill()
    late = Program(play.stores, "late", ALL)
    play.programs.append(late)
    await late.member.join()
    await late.upkeep()
    assert not late.member.is_serving
    await play.look_after(b)
    await late.upkeep()
    assert late.member.is_serving
    assert await late.seen() == "op1"


async def test_two_living_programs_have_not_one_name(play: Play) -> None:
    a = await play.program("a")
    twin = Program(play.stores, "a", ALL)
    play.programs.append(twin)
    with pytest.raises(StorageConfigurationError):
        await twin.member.join()
    with pytest.raises(StorageConfigurationError, match="is there already"):
        await Member(play.stores.storage, name="a", journal=None, rules=ALL).join()
    a.kill()
    await twin.start()
    assert [one.incarnation for one in await members_in(play.stores.storage)] == [twin.member.me().incarnation]


async def test_who_still_has_something_to_tell_stays_when_its_program_ends(play: Play) -> None:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(DUAL, a, b)
    a.lose_target()
    await a.save("op1")
    a.target.heal()
    await a.leave()
    assert [one.member for one in await members_in(play.stores.storage)] == ["a", "b"]
    await play.look_after(b)
    assert (await pass_in(play.stores.storage)).number == 2, "its journal might tell something"
    assert await play.kind() == "equal"
    assert await play.to(SHADOW, b)


# sent away with proof


async def test_a_dead_member_is_sent_away_and_its_write_ended(play: Play) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("after save")
    a.begin_to_save("op1")
    await gate.reached()
    a.kill()
    assert await play.to(PRIMARY) is False
    await play.look_after(b)
    assert [one.member for one in await members_in(play.stores.storage)] == ["b"]
    assert await play.kind() == "equal"
    assert not await items_marked(play.stores.storage, ODD)
    assert await play.to(PRIMARY, b)


@pytest.mark.parametrize("journal", ["empty", "told", "gone"])
async def test_only_a_journal_that_may_tell_something_makes_the_pass_void(play: Play, journal: str) -> None:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(DUAL, a, b)
    if journal == "told":
        a.lose_target()
        await a.save("op1")
    a.kill()
    if journal == "gone":
        a.journals.rename(a.journals.with_name("gone"))
    storage = play.stores.storage
    void = await evict_dead(storage, await member_named(storage, "a"))
    assert void is (journal != "empty")
    assert await settle(storage) is not void, "the others acknowledge it first"
    assert (await pass_in(storage)).counts_for(await migration_in(storage)) is not void


async def test_a_pass_that_runs_while_it_is_made_void_does_not_count(play: Play) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.to(DUAL, a, b)
    gate = play.run.files.hold("after get")
    copying = play.run.copying()
    await gate.reached()
    a.lose_target()
    await a.save("op1")
    a.kill()
    a.journals.rename(a.journals.with_name("gone"))
    await evict_dead(play.stores.storage, await member_named(play.stores.storage, "a"))
    gate.open()
    await asyncio.gather(copying, return_exceptions=True)
    await b.look()
    assert not await play.to(SHADOW, b)
    await play.look_after(b)
    assert await play.kind() == "equal"
    assert await play.to(SHADOW, b)


# sent away without proof


@pytest.mark.parametrize("phase", [LEGACY, DUAL])
async def test_who_may_write_the_legacy_store_alone_is_not_sent_away_while_it_may_live(
    play: Play, phase: Phase
) -> None:
    a = await play.program("a")
    await play.forward(phase, a)
    with pytest.raises(GateRefusedError):
        await evict_unproven(play.stores.storage, "a")
    await a.save("op1")


async def test_who_was_sent_away_writes_no_more_and_reads_no_more(play: Play) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    await evict_unproven(play.stores.storage, "a")
    with pytest.raises(EvictedError):
        await a.save("op1")
    assert await b.seen() == "op0"
    await a.look()
    with pytest.raises(EvictedError):
        a.member.check_serves()


async def test_a_write_of_who_was_sent_away_makes_its_session_suspect_until_it_is_dead(play: Play) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("before save")
    writing = a.saving("op1")
    await gate.reached()
    await evict_unproven(play.stores.storage, "a")
    await play.look_after(b)
    assert not await play.to(PRIMARY, b)
    gate.open()
    with pytest.raises(StorageError):
        await writing
    a.kill()
    await play.look_after(b)
    await play.look_after(b)
    assert await play.kind() == "equal"
    assert not await items_marked(play.stores.storage, ODD)
    assert await play.to(PRIMARY, b)


async def test_the_store_that_somebody_sent_away_may_read_is_not_left_behind(play: Play) -> None:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    await evict_unproven(play.stores.storage, "a")
    assert await play.to(PRIMARY, b)
    with pytest.raises(GateRefusedError, match="'a' may still be alive"):
        await switch(play.stores.storage, ALONE)
    b.files.away = True
    with pytest.raises(StorageError):
        await b.save("op1")
    b.files.away = False
    await b.upkeep()
    a.kill()
    await play.look_after(b)
    assert await play.to(ALONE, b)


async def test_back_to_dual_write_is_refused_while_somebody_sent_away_may_read_the_target(play: Play) -> None:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(PRIMARY, a, b)
    await evict_unproven(play.stores.storage, "a")
    assert await play.to(SHADOW, b)
    assert not await play.to(DUAL, b)
    a.kill()
    await play.look_after(b)
    assert await play.to(DUAL, b)


# the way back


async def test_a_return_to_the_beginning_makes_the_pass_void(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    assert await play.to(LEGACY, a)
    await a.save("op1")
    assert await play.to(DUAL, a)
    assert not await play.to(SHADOW, a)
    await play.look_after(a)
    assert await play.to(SHADOW, a)
    assert await play.kind() == "equal"


@pytest.mark.parametrize("back", [SHADOW, DUAL, LEGACY])
async def test_no_way_back_goes_on_before_everybody_has_followed(play: Play, back: Phase) -> None:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(Phase(back + 1), a, b)
    assert await play.to(back, a)
    for other in (Phase(back + 1), Phase(max(back - 1, 0))):
        assert not await play.to(other, a)
    await b.look()
    assert await play.to(Phase(back + 1), a, b)


# a target that was set back


async def test_a_member_stops_when_the_target_knows_less_than_before(play: Play) -> None:
    a = await play.program("a")
    await play.forward(DUAL, a)
    backup = await member_named(play.stores.storage, "a")
    await a.look()
    await a.look()
    await play.stores.storage.save(replace(backup, version=0).record())
    await a.look()
    with pytest.raises(GuardStoppedError):
        a.member.check_serves()


async def test_a_member_stops_when_the_migration_is_an_older_one(play: Play) -> None:
    a = await play.program("a")
    backup = await migration_in(play.stores.storage)
    await play.forward(SHADOW, a)
    await play.stores.storage.save(backup.record())
    await a.look()
    with pytest.raises(GuardStoppedError):
        a.member.check_serves()


# frozen


async def test_a_frozen_change_lets_every_write_through_in_the_end(stores: Stores) -> None:
    programs = [stores.program("a"), stores.program("b")]
    for program in programs:
        await program.get_session("s")
    await stores.forward(SHADOW)

    async def write(number: int) -> None:
        for round in range(10):
            await programs[number].save_session(f"s{number}", document(f"s{number}", value=f"op{round}"))

    moved, *_ = await asyncio.gather(switch_frozen(stores.storage, PRIMARY, seconds=5), write(0), write(1))
    assert (moved.phase, (await migration_in(stores.storage)).frozen) == (PRIMARY, None)
    assert [program.phase for program in programs] == [PRIMARY, PRIMARY]
    assert await stores.kinds("s0", "s1") == ["equal", "equal"]
    for number in (0, 1):
        assert (await programs[1 - number].get_session(f"s{number}"))["value"] == "op9"


async def test_a_write_outlasts_a_freeze_whose_operator_died(play: Play) -> None:
    a = await play.program("a")
    await play.forward(SHADOW, a)
    storage = play.stores.storage
    frozen = replace(await migration_in(storage), frozen={"token": "t", "seconds": 0.2})
    await storage.save(frozen.record())
    await asyncio.wait_for(a.save("op1"), 5)
    assert await play.kind() == "equal"
    assert (await migration_in(storage)).frozen is None
