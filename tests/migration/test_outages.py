"""A store that goes away while sessions move: what is acknowledged, what is refused, and what is made good later."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from legacy.migration.live.failures import LegacyStoreError
from legacy.migration.live.phases import Phase
from legacy.migration.live.state import ODD, OPEN, items_marked
from tests.migration.by_hand import Play, Program
from unified_storage import StorageConnectionError, StorageError

LEGACY, DUAL, SHADOW, PRIMARY, ALONE = list(Phase)


async def save_half(program: Program, value: str) -> None:
    """Save where the target goes away between its two steps, and comes back."""
    gate = program.files.hold("after save")
    writing = program.saving(value)
    await gate.reached()
    program.lose_target()
    gate.open()
    try:
        await writing
    finally:
        program.target.heal()


# the target, in dual_write


async def test_a_write_without_the_target_is_in_the_journal_first_and_copied_later(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    a.lose_target()
    await a.save("op1")
    await a.delete()
    await a.save("op2")
    journal = a.member.journal
    assert journal is not None
    assert journal.ids() == ["s"]
    assert await a.seen() == "op2"
    a.target.heal()
    await a.upkeep()
    assert await play.kind() == "equal"
    assert journal.ids() == []
    assert await play.to(SHADOW, a)


async def test_without_a_journal_such_a_write_is_refused_and_nothing_written(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    assert a.member.journal is not None
    a.member.journal.close()
    a.member.journal = None
    a.lose_target()
    with pytest.raises(StorageConnectionError):
        await a.save("op1")
    assert await a.seen() == "op0"


@pytest.mark.parametrize("room", [0, 5])
async def test_a_journal_without_room_refuses_the_write_before_anything_is_written(play: Play, room: int) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    journal = a.member.journal
    assert journal is not None
    a.lose_target()
    await a.save("op1")
    with no_file_grows(beyond=journal.size + room), pytest.raises(OSError, match=r"File too large|no room"):
        await a.save("op2", "other")
    assert journal.ids() == ["s"]
    assert await a.seen("other") is None
    await a.save("op3", "other")
    assert journal.ids() == ["s", "other"]


async def test_a_journal_is_told_of_what_was_added_while_it_was_drained(play: Play) -> None:
    a = await play.program("a")
    journal = a.member.journal
    assert journal is not None
    journal.add("s")
    known = journal.size
    journal.add("t")
    assert not journal.clear(known)
    assert journal.ids() == ["s", "t"]
    assert journal.clear(journal.size)


async def test_a_torn_last_line_of_a_journal_is_no_id(play: Play) -> None:
    a = await play.program("a")
    journal = a.member.journal
    assert journal is not None
    journal.add("s")
    with journal.path.open("ab") as file:
        file.write(b'{"id": "t')
    assert journal.ids() == ["s"]


async def test_a_write_that_the_target_loses_half_way_is_acknowledged_and_ended_later(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    await save_half(a, "op1")
    assert [item.session_id for item in await items_marked(play.stores.storage, OPEN)] == ["s"]
    await a.upkeep()
    assert await play.kind() == "equal"
    assert not await items_marked(play.stores.storage, OPEN, ODD)


async def test_a_write_whose_beginning_was_done_and_not_answered_is_ended_later(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    lost = StorageConnectionError("the answer was lost", details={"outcome": "unknown"})
    a.target.fail("commit", lost, after=True)
    await a.save("op1")
    assert len(await items_marked(play.stores.storage, OPEN)) == 1
    await a.upkeep()
    await a.upkeep()
    assert not await items_marked(play.stores.storage, OPEN)
    assert await play.kind() == "equal"
    assert await a.seen() == "op1"


# the target, from shadow_read on


@pytest.mark.parametrize("phase", [SHADOW, PRIMARY])
async def test_from_shadow_reads_on_nothing_is_written_without_the_target(play: Play, phase: Phase) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(phase, a)
    a.lose_target()
    with pytest.raises(StorageConnectionError):
        await a.save("op1")
    a.target.heal()
    assert await a.seen() == "op0"
    assert await play.kind() == "equal"


async def test_what_somebody_saw_of_a_failed_write_stays_when_the_target_becomes_primary(play: Play) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    with pytest.raises(StorageConnectionError):
        await save_half(a, "op1")
    assert await b.seen() == "op1"
    await play.to(PRIMARY, b)
    assert await b.seen() == "op1"
    await a.upkeep()
    await play.to(PRIMARY)
    for program in (a, b):
        await program.look()
        assert await program.seen() == "op1"
        assert program.member.phase == PRIMARY


# the legacy store


@pytest.mark.parametrize("phase", [LEGACY, DUAL, SHADOW])
async def test_a_legacy_store_that_is_away_deletes_nothing_in_the_target(play: Play, phase: Phase) -> None:
    play.given("s", "z")
    a = await play.program("a")
    await play.forward(phase, a)
    a.files.away = True
    with pytest.raises(LegacyStoreError):
        await a.save("op1")
    with pytest.raises(LegacyStoreError):
        await a.seen()
    a.files.away = False
    await a.upkeep()
    await play.look_after(a)
    assert not await items_marked(play.stores.storage, OPEN, ODD)
    assert await a.seen() == "op0"
    assert phase == LEGACY or await play.kind() == "equal"


async def test_a_pass_over_a_legacy_store_that_is_away_stops(play: Play) -> None:
    play.given("s", "z")
    a = await play.program("a")
    await play.to(DUAL, a)
    gate = play.run.files.hold("before get")
    copying = play.run.copying()
    await gate.reached()
    play.run.files.away = True
    gate.open()
    with pytest.raises(LegacyStoreError):
        await copying
    play.run.files.away = False
    await play.run.copy()
    assert await play.stores.kinds("s", "z") == ["equal", "equal"]


async def test_where_everybody_reads_the_target_a_write_waits_for_the_legacy_store(play: Play) -> None:
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(PRIMARY, a, b)
    a.files.away = True
    await a.save("op1")
    assert await b.seen() == "op1"
    assert not await play.to(SHADOW), "the legacy store has not got it yet"
    assert not await _has_in_legacy(play, "op1")
    await play.look_after(b)
    assert await _has_in_legacy(play, "op1")
    a.files.away = False
    assert await play.to(SHADOW, a, b)
    assert [await a.seen(), await b.seen()] == ["op1", "op1"]


async def _has_in_legacy(play: Play, value: str) -> bool:
    found = play.stores.legacy.get_session("s")
    return found is not None and found["value"] == value


async def test_a_write_that_fails_in_both_stores_is_told_as_a_failure(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(PRIMARY, a)
    a.files.away = True
    a.target.fail("commit", StorageConnectionError("the target is away"), call=2)
    with pytest.raises(StorageError):
        await a.save("op1")
    a.files.away = False
    a.target.heal()
    await a.upkeep()
    assert await play.kind() == "equal"


@contextmanager
def no_file_grows(*, beyond: int) -> Iterator[None]:
    """As on a full disk: no file of this process may have more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
