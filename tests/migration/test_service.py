"""What programs see while their sessions move, phase by phase."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from legacy import LegacySessionStoreAdapter
from legacy.file_store import FileSessionStore
from legacy.migration.live.phases import Phase
from legacy.migration.live.state import OPEN, items_marked, members_in
from session_adapter import SessionNotFoundError
from tests.migration.stores import Stores, document
from unified_storage import StorageUnsupportedError
from unified_storage.errors import StorageError

BOTH = [Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.UNIFIED_PRIMARY]


@pytest.mark.parametrize("phase", BOTH)
async def test_a_write_is_in_both_stores_when_it_is_acknowledged(stores: Stores, phase: Phase) -> None:
    program = stores.program("a")
    await program.save_session("old", document("old"))
    await stores.forward(phase)
    await program.save_session("s", document("s", n=1))
    await program.update_session("s", {"settings": {"theme": "dark"}})
    assert (await program.get_session("s"))["settings"] == {"theme": "dark"}
    assert await stores.kinds("s", "old") == ["equal", "equal"]
    assert (await stores.in_target("s") or {})["n"] == 1
    await program.delete_session("s")
    assert await program.get_session("s") is None
    assert await stores.in_target("s") is None
    assert stores.legacy.get_session("s") is None
    assert not await items_marked(stores.storage, OPEN)


async def test_in_the_first_phase_the_target_holds_no_session(stores: Stores) -> None:
    program = stores.program("a")
    await program.save_session("s", document("s"))
    assert await stores.in_target("s") is None
    assert stores.legacy.get_session("s") == document("s")


async def test_in_the_last_phase_the_legacy_store_is_left_alone(stores: Stores) -> None:
    program = stores.program("a")
    await program.save_session("s", document("s"))
    await stores.forward(Phase.UNIFIED_ONLY)
    await program.save_session("s", document("s", n=2))
    await program.save_session("t", document("t"))
    assert stores.legacy.get_session("s") == document("s")
    assert stores.legacy.get_session("t") is None
    assert (await program.get_session("s"))["n"] == 2


async def test_until_the_target_is_primary_sessions_come_out_as_the_legacy_store_holds_them(stores: Stores) -> None:
    program = stores.program("a")
    await stores.forward(Phase.SHADOW_READ)
    await program.save_session("s", document("s"))
    assert await program.get_session("s") == document("s")
    await stores.to(Phase.UNIFIED_PRIMARY)
    shown = await program.get_session("s")
    assert shown["workflow_state"] == document("s")["workflow_state"]
    assert set(shown["metadata"]) == {"session_id", "status", "created_at", "updated_at"}


async def test_a_time_that_a_view_rendered_is_kept_as_it_was_saved_on_the_way_back(stores: Stores) -> None:
    program = stores.program("a")
    await stores.forward(Phase.UNIFIED_PRIMARY)
    await program.save_session("s", document("s"))
    shown = await program.get_session("s")
    await stores.to(Phase.SHADOW_READ)
    await program.save_session("s", shown)
    assert await program.get_session("s") == shown
    assert await stores.kinds("s") == ["equal"]


@pytest.mark.parametrize("phase", list(Phase))
async def test_an_absent_session_is_told_alike_in_every_phase(stores: Stores, phase: Phase) -> None:
    program = stores.program("a")
    await program.get_session("nobody")
    await stores.forward(phase)
    assert await program.get_session("nobody") is None
    assert not await program.session_exists("nobody")
    with pytest.raises(SessionNotFoundError):
        await program.delete_session("nobody")
    with pytest.raises(SessionNotFoundError):
        await program.update_session("nobody", {"a": 1})
    assert not await items_marked(stores.storage, OPEN)


@pytest.mark.parametrize("phase", list(Phase))
async def test_lists_are_filtered_alike_in_every_phase(stores: Stores, phase: Phase) -> None:
    program = stores.program("a")
    for name, status in (("a", "active"), ("b", "done"), ("c", "active")):
        told = document(name)
        told["metadata"] |= {"status": status, "updated_at": f"2024-05-0{ord(name) - 96}T00:00:00+00:00"}
        await program.save_session(name, told)
    await stores.forward(phase)
    found = await program.list_sessions({"status": "active"})
    assert [one["metadata"]["session_id"] for one in found] == ["c", "a"]
    assert len(await program.list_sessions(limit=2)) == 2


@pytest.mark.parametrize("phase", [Phase.LEGACY_ONLY, Phase.DUAL_WRITE, Phase.SHADOW_READ])
async def test_versions_are_refused_where_the_legacy_store_answers(stores: Stores, phase: Phase) -> None:
    program = stores.program("a")
    await program.save_session("s", document("s"))
    await stores.forward(phase)
    with pytest.raises(StorageUnsupportedError):
        await program.get_session("s", with_version=True)
    with pytest.raises(StorageUnsupportedError):
        await program.save_session("s", document("s"), expected_version=1)
    assert not await items_marked(stores.storage, OPEN)
    assert stores.legacy.get_session("s") == document("s")


async def test_versions_count_where_the_target_answers(stores: Stores) -> None:
    program = stores.program("a")
    await program.save_session("s", document("s"))
    await stores.forward(Phase.UNIFIED_PRIMARY)
    _, version = await program.get_session("s", with_version=True)
    await program.save_session("s", document("s", n=1), expected_version=version)
    with pytest.raises(StorageError):
        await program.save_session("s", document("s", n=2), expected_version=version)
    assert await stores.kinds("s") == ["equal"]
    assert stores.legacy.get_session("s")["n"] == 1  # type: ignore[index]  # it is there


async def test_a_cancelled_write_is_done_to_its_end(stores: Stores) -> None:
    slow = _Slow(stores.folder / "sessions")
    program = stores.program("a", legacy=slow)
    await stores.forward(Phase.DUAL_WRITE)
    slow.gate.clear()
    writing = asyncio.create_task(program.save_session("s", document("s")))
    await asyncio.to_thread(slow.entered.wait, 10)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    slow.gate.set()
    while await items_marked(stores.storage, OPEN):
        await asyncio.sleep(0.01)
    assert await stores.kinds("s") == ["equal"]
    assert await stores.in_target("s") == document("s")


async def test_old_callers_change_one_line(stores: Stores) -> None:
    service = stores.program("a")
    old = LegacySessionStoreAdapter(service)

    def use() -> list[Any]:
        saved = old.save_session("s", document("s"))
        return [saved, old.get_session("s"), old.session_exists("s"), old.list_sessions(), old.last_error]

    for phase in [Phase.LEGACY_ONLY, Phase.DUAL_WRITE, Phase.SHADOW_READ]:
        if phase:
            await stores.to(phase) if phase != Phase.DUAL_WRITE else await stores.forward(phase)
        saved, found, exists, listed, error = await asyncio.to_thread(use)
        assert (saved, found, exists, error) == (True, document("s"), True, None)
        assert [one["session_id"] for one in listed] == ["s"]
    await stores.to(Phase.UNIFIED_PRIMARY, Phase.UNIFIED_ONLY)
    saved, found, exists, listed, error = await asyncio.to_thread(use)
    assert (saved, exists, error) == (True, True, None)
    assert [one["session_id"] for one in listed] == ["s"]
    assert await asyncio.to_thread(old.delete_session, "s")
    await asyncio.to_thread(old.close)


async def test_old_callers_find_a_session_that_does_not_name_itself_in_the_list(stores: Stores) -> None:
    old = LegacySessionStoreAdapter(stores.program("a"))

    def use() -> list[str]:
        old.save_session("nameless", {"settings": {}})
        return [one["session_id"] for one in old.list_sessions()]

    for phase in list(Phase)[: Phase.UNIFIED_ONLY]:
        if phase:
            await stores.forward(phase) if phase == Phase.DUAL_WRITE else await stores.to(phase)
        assert await asyncio.to_thread(use) == ["nameless"]
    await asyncio.to_thread(old.close)


async def test_a_program_that_closes_leaves_the_migration(stores: Stores) -> None:
    program = stores.program("a")
    await program.get_session("s")
    assert [one.member for one in await members_in(stores.storage)] == ["a"]
    await program.close()
    assert not await members_in(stores.storage)
    assert not [*(stores.folder / "journals").glob("*.journal")]


async def test_two_writers_of_one_session_never_leave_the_stores_apart(stores: Stores) -> None:
    first, second = stores.program("a"), stores.program("b", legacy=FileSessionStore(stores.folder / "sessions"))
    await stores.forward(Phase.DUAL_WRITE)

    async def write(program: Any, name: str) -> None:
        for number in range(15):
            await program.save_session("s", document("s", by=f"{name}{number}"))

    await asyncio.gather(write(first, "a"), write(second, "b"))
    assert await stores.kinds("s") == ["equal"]


class _Slow(FileSessionStore):
    """Files whose saving waits at a gate."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def save_session(self, session_id: str, session_data: dict[str, Any]) -> bool:
        self.entered.set()
        self.gate.wait(20)
        return super().save_session(session_id, session_data)
