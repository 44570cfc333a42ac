"""Each rule of the protocol has a story that ends well by it, and badly without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from legacy.migration.live.failures import GuardStoppedError
from legacy.migration.live.phases import Phase
from legacy.migration.live.rules import ALL, Rules
from tests.migration.by_hand import Play, Program
from tests.migration.stores import Stores, document
from unified_storage.errors import StorageError

DUAL, SHADOW, PRIMARY, ALONE = list(Phase)[1:]
Story = Callable[[Play], Awaitable[str]]
WELL = "well"


async def two_writers_of_one_session(play: Play) -> str:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(DUAL, a, b)
    gate = a.files.hold("after save")
    first = a.saving("op1")
    await gate.reached()
    second = b.saving("op2")
    await asyncio.wait([second], timeout=0.3)  # by the rules it waits for the first
    gate.open()
    await asyncio.gather(first, second)
    return WELL if await play.kind() == "equal" else "stores differ"


async def one_program_stays_behind(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    await play.to(PRIMARY, b)
    await play.to(ALONE, b)
    await b.save("op1")
    return WELL if await a.seen() == "op1" else "lost"


async def a_pass_begins_while_somebody_writes_the_legacy_store_alone(play: Play) -> str:
    play.given()
    a = await play.program("a")
    gate = a.files.hold("before save")
    writing = a.saving("op1")
    await gate.reached()
    await play.to(DUAL)
    await play.run.copy()
    gate.open()
    await writing
    await play.to(DUAL)
    await play.look_after(a)
    return await _cut_over(play, a, "op1")


async def a_write_between_the_two_steps_of_the_pass(play: Play) -> str:
    play.given()
    a = await play.program("a")
    await play.to(DUAL, a)
    gate = play.run.files.hold("after get")
    copying = play.run.copying()
    await gate.reached()
    await a.save("op1")
    gate.open()
    await asyncio.gather(copying, return_exceptions=True)
    return WELL if await play.kind() == "equal" else "stores differ"


async def a_deletion_between_the_two_steps_of_the_pass(play: Play) -> str:
    play.given("s", "z")
    a = await play.program("a")
    await play.to(DUAL, a)
    gate = play.run.files.hold("after get")
    copying = play.run.copying()
    await gate.reached()
    await a.delete()
    gate.open()
    await asyncio.gather(copying, return_exceptions=True)
    return WELL if await play.stores.in_target("s") is None else "resurrected"


async def a_copier_sleeps_until_the_legacy_store_is_cleared(play: Play) -> str:
    play.given()
    a = await play.program("a")
    await play.to(DUAL, a)
    gate = play.run.files.hold("before get")
    await a.save("op1")
    copying = play.run.copying()
    await gate.reached()
    for phase in (SHADOW, PRIMARY, ALONE):
        await play.to(phase, a)
    play.stores.legacy.delete_session("s")
    gate.open()
    await asyncio.gather(copying, return_exceptions=True)
    return WELL if await a.seen() == "op1" else "lost"


async def one_deletes_in_the_legacy_store_alone_what_another_copied(play: Play) -> str:
    play.given("other")
    a, b = await play.program("a"), await play.program("b")
    await a.save("op1")
    gate = a.files.hold("before delete")
    deleting = a.deleting()
    await gate.reached()
    await play.to(DUAL, b)
    await b.save("op2")
    gate.open()
    await deleting
    await a.look()
    await play.look_after()
    return await _cut_over(play, a, None, b)


async def nothing_was_copied(play: Play) -> str:
    play.given()
    a = await play.program("a")
    await play.to(DUAL, a)
    return await _cut_over(play, a, "op0")


async def a_writer_dies_as_the_phase_changes(play: Play) -> str:
    play.given()
    a, b, c = [await play.program(name) for name in "abc"]
    await play.forward(SHADOW, a, b, c)
    gate = b.files.hold("after save")
    b.begin_to_save("op1")
    await gate.reached()
    await play.to(PRIMARY)
    b.kill()
    assert await c.seen() == "op1"  # it was never acknowledged, but somebody has seen it
    await a.look()
    return WELL if await a.seen() == "op1" else "un-seen"


async def a_write_waits_for_the_target_at_the_cut_over(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(DUAL, a, b)
    gate = a.files.hold("after save")
    writing = a.saving("op1")
    await gate.reached()
    a.lose_target()
    gate.open()
    await writing
    a.target.heal()
    await play.to(SHADOW, a, b)
    await play.to(PRIMARY, a, b)
    return WELL if await b.seen() == "op1" else "lost"


async def a_journal_is_not_drained(play: Play) -> str:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    await _saved_without_target(a, "op1")
    return await _cut_over(play, a, "op1")


async def nobody_ends_what_a_dead_program_began(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("after save")
    a.begin_to_save("op1")
    await gate.reached()
    a.kill()
    await play.look_after(b)
    await play.look_after(b)
    return WELL if await play.to(PRIMARY, b) else "stuck"


async def a_write_of_the_old_phase_is_recovered_in_the_new(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("after save")
    a.begin_to_save("op1")
    await gate.reached()
    await play.to(PRIMARY)
    a.kill()
    assert await b.seen() == "op1"
    await play.look_after(b)
    return WELL if await b.seen() == "op1" else "un-seen"


async def a_program_starts_without_asking_for_the_phase(play: Play) -> str:
    play.given()
    a = await Program(play.stores, "first", ALL).start()
    play.programs += [play.run, a][1:]
    await play.forward(PRIMARY, a)
    b = await play.program("b")
    await b.save("op1")
    return WELL if await a.seen() == "op1" else "lost"


async def the_target_goes_away_during_shadow_reads(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("after save")
    writing = a.saving("op1")
    await gate.reached()
    a.lose_target()
    gate.open()
    acknowledged = True
    try:
        await writing
    except StorageError:
        acknowledged = False
    a.target.heal()
    await play.to(PRIMARY, a, b)
    return "lost" if acknowledged and await b.seen() != "op1" else WELL


async def a_program_dies_between_its_journal_and_the_legacy_store(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(DUAL, a, b)
    gate = a.files.hold("after save")
    a.lose_target()
    a.begin_to_save("op1")
    await gate.reached()
    a.kill()
    assert await b.seen() == "op1"
    await play.look_after(b)
    return await _cut_over(play, b, "op1", fault="un-seen")


async def the_legacy_store_goes_away_while_somebody_reads_it(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    await play.to(PRIMARY, a)
    a.files.away = True
    try:
        await a.save("op1")
    except StorageError:
        return WELL
    return WELL if await b.seen() == "op1" else "lost"


async def a_write_is_taken_from_a_living_program(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    gate = a.files.hold("before save")
    writing = a.saving("op1")
    await gate.reached()
    await play.take_over()
    gate.open()
    with suppress(StorageError):
        await writing
    await a.leave()
    await play.look_after(b)
    return WELL if await play.kind() == "equal" else "stores differ"


async def who_lost_its_write_releases_that_of_another(play: Play) -> str:
    play.given()
    a, b, c = [await play.program(name) for name in "abc"]
    await play.forward(DUAL, a, b, c)
    first = a.files.hold("after save")
    writing = a.saving("op1")
    await first.reached()
    await play.take_over()
    second, third = b.files.hold("before save"), b.files.hold("after save")
    b.begin_to_save("op2")
    await second.reached()
    first.open()
    with suppress(StorageError):
        await writing
    await a.leave()
    await play.look_after(b, c)
    second.open()
    await third.reached()
    b.kill()
    await play.look_after(c)
    await play.look_after(c)
    return WELL if await play.kind() == "equal" else "stores differ"


async def a_program_dies_with_its_journal(play: Play) -> str:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(DUAL, a, b)
    await _saved_without_target(a, "op1")
    a.kill()
    a.journals.rename(a.journals.with_name("out-of-reach"))
    await play.look_after(b)
    await play.look_after(b)
    return await _cut_over(play, b, "op1")


async def the_legacy_store_does_not_find_a_session_once(play: Play) -> str:
    play.given("s", "z")
    a = await play.program("a")
    await play.to(DUAL, a)
    await play.run.copy()
    await _void(play, a)
    play.run.files.misses = 1
    await play.run.copy()
    return WELL if await play.kind() == "equal" else "lost"


async def the_legacy_store_is_not_mounted(play: Play) -> str:
    play.given("s", "z")
    a = await play.program("a")
    await play.to(DUAL, a)
    await play.run.copy()
    await _void(play, a)
    for id in ("s", "z"):
        play.stores.legacy.delete_session(id)
    with suppress(GuardStoppedError):
        await play.run.copy()
    return WELL if await play.stores.in_target("s") == document("s", value="op0") else "lost"


# what stories share


async def _cut_over(play: Play, reader: Program, expected: str | None, *others: Program, fault: str = "") -> str:
    """As far as the gates allow, and what a reader sees then."""
    for phase in (SHADOW, PRIMARY):
        await play.to(phase, reader, *others)
    seen = await reader.seen()
    if seen == expected:
        return WELL
    return fault or ("resurrected" if expected is None else "lost")


async def _saved_without_target(program: Program, value: str) -> None:
    program.lose_target()
    await program.save(value)
    program.target.heal()


async def _void(play: Play, *programs: Program) -> None:
    """Back to the beginning and forth again, so that another pass is needed."""
    await play.to(Phase.LEGACY_ONLY, *programs)
    await play.to(DUAL, *programs)


@dataclass(frozen=True)
class Ablation:
    """A rule, what it is without it, the story that shows it, and what becomes of that.

    Attributes:
        beside: what else has to be left out, where another rule stands before this one.
    """

    rule: str
    story: Story
    fault: str
    without: Any = False
    beside: tuple[tuple[str, Any], ...] = ()

    @property
    def rules(self) -> Rules:
        return replace(ALL, **dict(self.beside))

    @property
    def rules_without(self) -> Rules:
        return replace(self.rules, **{self.rule: self.without})


ABLATIONS = [
    Ablation("intents", two_writers_of_one_session, "stores differ"),
    Ablation("barrier", one_program_stays_behind, "lost"),
    Ablation("pass_after_settled", a_pass_begins_while_somebody_writes_the_legacy_store_alone, "lost"),
    Ablation("backfill", a_write_between_the_two_steps_of_the_pass, "stores differ", "upsert"),
    Ablation("backfill", a_deletion_between_the_two_steps_of_the_pass, "resurrected", "insert"),
    Ablation(
        "backfill_checks_phase",
        a_copier_sleeps_until_the_legacy_store_is_cleared,
        "lost",
        beside=(("gate_pass", False),),
    ),
    Ablation("orphans", one_deletes_in_the_legacy_store_alone_what_another_copied, "resurrected"),
    Ablation("gate_pass", nothing_was_copied, "lost"),
    Ablation(
        "gate_intents",
        a_write_waits_for_the_target_at_the_cut_over,
        "lost",
        beside=(("acknowledge_resolved", False),),
    ),
    Ablation("acknowledge_resolved", a_writer_dies_as_the_phase_changes, "un-seen"),
    Ablation("acknowledge_drained", a_journal_is_not_drained, "lost"),
    Ablation("recover", nobody_ends_what_a_dead_program_began, "stuck"),
    Ablation("recover_by_intent", a_write_of_the_old_phase_is_recovered_in_the_new, "un-seen"),
    Ablation("restart_reads_phase", a_program_starts_without_asking_for_the_phase, "lost"),
    Ablation(
        "closed_in_shadow",
        the_target_goes_away_during_shadow_reads,
        "lost",
        beside=(("acknowledge_resolved", False),),
    ),
    Ablation("journal_first", a_program_dies_between_its_journal_and_the_legacy_store, "un-seen"),
    Ablation("outbox_when_settled", the_legacy_store_goes_away_while_somebody_reads_it, "lost"),
    Ablation("suspects", a_write_is_taken_from_a_living_program, "stores differ"),
    Ablation("tokens", who_lost_its_write_releases_that_of_another, "stores differ"),
    Ablation("evict_voids_pass", a_program_dies_with_its_journal, "lost"),
    Ablation("confirm_absence", the_legacy_store_does_not_find_a_session_once, "lost"),
    Ablation("mass_guard", the_legacy_store_is_not_mounted, "lost"),
]
by_rule = pytest.mark.parametrize("one", ABLATIONS, ids=[f"{one.rule}-{one.without}" for one in ABLATIONS])


async def _told(stores: Stores, rules: Rules, story: Story) -> str:
    play = Play(stores, rules)
    try:
        return await story(play)
    finally:
        await play.end()


@by_rule
async def test_the_story_ends_well_by_the_rules(stores: Stores, one: Ablation) -> None:
    assert await _told(stores, one.rules, one.story) == WELL


@by_rule
@pytest.mark.parametrize("stores", ["memory", "sqlite"], indirect=True)
async def test_without_the_rule_it_ends_badly(stores: Stores, one: Ablation) -> None:
    assert await _told(stores, one.rules_without, one.story) == one.fault


def test_every_rule_has_a_story() -> None:
    assert {field.name for field in fields(Rules)} == {one.rule for one in ABLATIONS}
