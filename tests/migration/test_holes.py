"""What may go wrong between two steps of a live migration, and does not: one story each."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from legacy.memory_store import MemorySessionStore
from legacy.migration.live import upkeep
from legacy.migration.live.evicting import evict_unproven
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.finishing import finish
from legacy.migration.live.journal import Journal
from legacy.migration.live.phases import Phase
from legacy.migration.live.repairing import REPAIRED, repairs
from legacy.migration.live.state import MEMBER_TYPE, ODD, OPEN, Migration, items_marked, members_in, migration_in
from legacy.migration.live.switching import settled, switch
from tests.migration.by_hand import Files, Play, Program
from tests.migration.stores import Stores, document
from unified_storage import IUnifiedStorage, StorageConnectionError

LEGACY, DUAL, SHADOW, PRIMARY, ALONE = list(Phase)


async def journalled_while_it_looks(program: Program, value: str) -> None:
    """A save that finds the target away, in the middle of the step in which the program gives a sign of life."""
    save = program.target.save

    async def slowly(data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        if data["type"] == MEMBER_TYPE:
            program.target.save = save  # type: ignore[method-assign]  # once
            program.lose_target()
            await program.save(value)
            program.target.heal()
        return await save(data, expected_version=expected_version)

    program.target.save = slowly  # type: ignore[method-assign]  # for one call
    await program.look()


async def test_a_write_that_is_journalled_while_its_program_says_that_nothing_is_holds_the_next_phase_up(
    play: Play,
) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    await journalled_while_it_looks(a, "op1")
    await a.upkeep()
    assert await play.to(SHADOW, a)
    assert await play.to(PRIMARY)
    await a.upkeep()
    assert await a.seen() == "op1"


async def test_a_program_that_leaves_keeps_a_journal_that_tells_something(play: Play) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    await journalled_while_it_looks(a, "op1")
    assert a.member.journal is not None
    path = a.member.journal.path
    await a._upkeep.stop()  # as a program does that ends
    await a.leave()
    assert path.stat().st_size
    assert [one.member for one in await members_in(play.stores.storage)] == ["a"]


async def test_a_journal_is_not_drained_of_what_is_not_written_yet(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.given()
    a = await play.program("a")
    await play.forward(DUAL, a)
    a.lose_target()
    await a.save("op1")
    a.target.heal()
    gate = a.files.hold("before save")
    begun: list[asyncio.Task[None]] = []

    async def meanwhile(storage: IUnifiedStorage) -> Migration:
        found = await migration_in(storage)
        if not begun:
            a.lose_target()
            begun.append(a.saving("op2"))
            await gate.reached()
            a.target.heal()
        return found

    monkeypatch.setattr(upkeep, "migration_in", meanwhile)
    await a.upkeep()
    gate.open()
    await begun[0]
    await a.upkeep()
    assert await play.kind() == "equal"
    assert not a.member.journal or not a.member.journal.size


async def on_its_way_back(play: Play) -> tuple[Program, Program]:
    """One of two programs goes by dual_write again, and could not say so."""
    play.given()
    a, b = await play.program("a"), await play.program("b")
    await play.forward(SHADOW, a, b)
    assert await play.to(DUAL, b)
    a.target.fail("save", StorageConnectionError("the target is away"))
    with pytest.raises(StorageConnectionError):
        await a.look()
    assert a.member.phase == DUAL
    return a, b


async def test_what_was_journalled_on_the_way_back_before_anybody_was_told_is_not_lost_with_its_program(
    play: Play,
) -> None:
    a, b = await on_its_way_back(play)
    a.lose_target()
    await a.save("op1")
    a.kill()
    await play.look_after(b)
    await play.look_after(b)
    await play.look_after(b)
    assert await play.to(SHADOW, b)
    assert await play.to(PRIMARY, b)
    assert await b.seen() == "op1"


async def test_who_may_be_journalling_on_the_way_back_is_not_sent_away_unproven(play: Play) -> None:
    await on_its_way_back(play)
    with pytest.raises(GateRefusedError, match="legacy store alone"):
        await evict_unproven(play.stores.storage, "a")


@pytest.mark.parametrize("looks_first", [True, False], ids=["looked", "not-looked"])
async def test_a_program_goes_on_when_the_migration_is_finished(stores: Stores, looks_first: bool) -> None:
    program = stores.program("a", poll_interval=0.2)
    await program.save_session("s", document("s"))
    await stores.forward(PRIMARY)
    await switch(stores.storage, ALONE)
    assert await settled(stores.storage, timeout=20)
    if looks_first:
        await asyncio.sleep(0.5)
    await finish(stores.storage, stores.side)
    await asyncio.sleep(0.5)
    await program.save_session("s", document("s", value=2))
    await program.delete_session("s")
    assert not await program.session_exists("s")


async def test_who_has_ended_is_forgotten_when_the_migration_is_finished(play: Play) -> None:
    a, b = await play.program("a"), await play.program("b")
    await play.forward(ALONE, a, b)
    await a.look()
    await b.look()
    a.kill()
    await finish(play.stores.storage, play.run.side)
    assert [one.member for one in await members_in(play.stores.storage)] == ["b"]


async def test_a_session_that_the_target_refuses_is_set_aside_and_the_pass_goes_on(stores: Stores) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    stores.legacy = MemorySessionStore()
    for id, told in (("deep", deep), ("s", document("s"))):
        assert stores.legacy.save_session(id, told)
    await stores.to(DUAL)
    ledger = (await stores.copy()).ledger
    assert (ledger.read, ledger.copied, ledger.quarantined) == (2, 1, 1)
    assert await stores.in_target("s") == document("s")
    assert [one.id for one in await items_marked(stores.storage, ODD)] == ["deep"]


async def test_an_id_that_can_name_no_session_of_the_target_is_counted_as_quarantined(stores: Stores) -> None:
    stores.legacy = MemorySessionStore()
    for id in ("x" * 2000, "s"):
        assert stores.legacy.save_session(id, document(id))
    await stores.to(DUAL)
    state = await stores.copy()
    assert (state.ledger.read, state.ledger.copied, state.ledger.quarantined) == (2, 1, 1)
    assert (state.done, state.total, state.ledger.is_closed) == (2, 2, True)


async def test_a_repair_does_not_empty_the_target_after_an_empty_legacy_store(play: Play) -> None:
    play.given("s", "t")
    a = await play.program("a")
    await play.forward(SHADOW, a)
    storage, side = play.stores.storage, play.run.side
    play.stores.legacy.delete_session("t")
    async with repairs(storage, side, None) as repair:
        assert (await repair.mend("t")).outcome == REPAIRED
    play.given("t")
    async with repairs(storage, side, None) as repair:
        assert (await repair.mend("t")).outcome == REPAIRED
        for id in ("s", "t"):
            play.stores.legacy.delete_session(id)
        assert [(await repair.mend(id)).reason for id in ("s", "t")] == ["legacy_store_empty"] * 2
    assert await play.stores.in_target("s") is not None
    assert not await items_marked(storage, OPEN)


async def test_a_program_does_not_leave_before_a_write_whose_caller_has_gone(stores: Stores) -> None:
    files = Files(stores.folder / "sessions")
    program = stores.program("a", legacy=files)
    await program.save_session("s", document("s", value=1))
    gate = files.hold("before save")
    writing = asyncio.ensure_future(program.save_session("s", document("s", value=2)))
    await gate.reached()
    writing.cancel()
    closing = asyncio.ensure_future(program.close())
    await asyncio.sleep(0.2)
    assert [one.member for one in await members_in(stores.storage)] == ["a"]
    gate.open()
    await closing
    assert not await members_in(stores.storage)
    assert stores.legacy.get_session("s") == document("s", value=2)


def test_a_journal_that_is_removed_while_it_is_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        (tmp_path / "a.journal").unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    journal = Journal.of(tmp_path, "a")
    journal.add("s")
    assert journal.ids() == ["s"]
    journal.close()
