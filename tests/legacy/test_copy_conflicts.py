"""Why source and target differ decides: changed sources are copied again, what others did is a conflict."""

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from session_adapter import SessionStorageAdapter
from tests.legacy.folders import contents_of, document, left_with_journal, write
from tests.legacy.test_copy import copied, counts
from unified_storage import StorageUnsupportedError, open_storage
from unified_storage.interface import IUnifiedStorage


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    write(folder, document("a"))
    write(folder, document("b"))
    return folder


Change = Callable[[IUnifiedStorage], Awaitable[Any]]


async def _edit(storage: IUnifiedStorage) -> None:
    await SessionStorageAdapter(storage).update_session("a", {"settings": {"n": 2}})


async def _append(storage: IUnifiedStorage) -> None:
    await SessionStorageAdapter(storage).events.append("a", {"role": "user", "content": "more"})


async def _delete(storage: IUnifiedStorage) -> None:
    await SessionStorageAdapter(storage).delete_session("a")


async def changed(target: str, change: Change) -> None:
    async with open_storage(target) as storage:
        await change(storage)


async def text_of(target: str, id: str) -> str | None:
    async with open_storage(target) as storage:
        found = await SessionStorageAdapter(storage).get_session(id)
    return None if found is None else str(found["workflow_state"]["messages"][0]["content"])


async def test_a_changed_source_is_copied_again(source: Path, target: str) -> None:
    await copied(source, target)
    write(source, document("a", text="changed", messages=1))
    facts = await copied(source, target)
    assert counts(facts, "copied", "equal", "conflict") == (1, 1, 0)
    assert await text_of(target, "a") == "changed 0"
    assert counts(await copied(source, target), "equal") == (2,)


async def test_a_source_without_messages_now_empties_the_history(source: Path, target: str) -> None:
    await copied(source, target)
    bare = document("a")
    bare["workflow_state"] = {}
    write(source, bare)
    assert counts(await copied(source, target), "copied", "verified", "mismatched") == (1, 2, 0)
    async with open_storage(target) as storage:
        assert await SessionStorageAdapter(storage).events.read("a") == []


@pytest.mark.parametrize("change", [_edit, _append])
@pytest.mark.parametrize("source_moves", [False, True])
async def test_a_changed_target_is_a_conflict_and_untouched(
    source: Path, target: str, change: Change, source_moves: bool
) -> None:
    await copied(source, target)
    await changed(target, change)
    if source_moves:
        write(source, document("a", text="changed"))
    before = await contents_of(target)
    facts = await copied(source, target)
    assert counts(facts, "conflict", "equal", "copied") == (1, 1, 0)
    assert facts["exit_code"] == 3
    assert [item["reasons"] for item in facts["items"] if item["id"] == "a"] == [["changed_in_target"]]
    assert await contents_of(target) == before


async def test_a_session_deleted_after_the_copy_stays_deleted(source: Path, target: str) -> None:
    await copied(source, target)
    await changed(target, _delete)
    facts = await copied(source, target)
    assert counts(facts, "conflict", "equal") == (1, 1)
    assert [item["reasons"] for item in facts["items"] if item["id"] == "a"] == [["deleted_in_target"]]
    assert await text_of(target, "a") is None


async def test_what_another_source_wrote_under_the_same_id_is_a_conflict(
    source: Path, target: str, tmp_path: Path
) -> None:
    write(tmp_path / "other", document("a", text="other"))
    await copied(tmp_path / "other", target)
    facts = await copied(source, target)
    assert counts(facts, "conflict", "copied") == (1, 1)
    assert [item["reasons"] for item in facts["items"] if item["id"] == "a"] == [["not_written_by_this_source"]]
    assert await text_of(target, "a") == "other 0"
    assert counts(await copied(tmp_path / "other", target), "equal") == (1,)


async def test_what_was_saved_by_hand_is_a_conflict_unless_it_is_the_same(source: Path, target: str) -> None:
    async with open_storage(target) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("a", document("a"))
        await sessions.save_session("b", document("b", text="mine"))
    facts = await copied(source, target)
    assert counts(facts, "equal", "conflict") == (1, 1)


@pytest.mark.parametrize("change", [_edit, _append, _delete])
async def test_conflicts_are_written_over_when_asked(source: Path, target: str, change: Change) -> None:
    await copied(source, target)
    await changed(target, change)
    facts = await copied(source, target, overwrite_conflicts=True)
    assert counts(facts, "copied", "equal", "conflict", "mismatched") == (1, 1, 0, 0)
    [reason] = [item["reasons"] for item in facts["items"] if item["id"] == "a"]
    assert reason[0].startswith("overwritten_")
    again = await copied(source, target)
    assert counts(again, "equal") == (2,)


async def test_a_file_that_differs_in_a_target_folder_is_a_conflict(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    mine = write(folder, document("a", text="mine"))
    before = mine.read_bytes()
    facts = await copied(source, f"legacy+file://{folder}")
    assert counts(facts, "conflict", "copied") == (1, 1)
    assert mine.read_bytes() == before
    facts = await copied(source, f"legacy+file://{folder}", overwrite_conflicts=True)
    assert counts(facts, "copied", "equal") == (1, 1)


async def test_a_moved_source_folder_is_another_source(source: Path, target: str, tmp_path: Path) -> None:
    """What it has in common with the target is equal; what changes there later was not written by it."""
    await copied(source, target)
    moved = source.rename(tmp_path / "moved")
    assert counts(await copied(moved, target), "equal") == (2,)
    write(moved, document("a", text="changed"))
    assert counts(await copied(moved, target), "conflict", "equal") == (1, 1)


async def test_what_only_happened_to_be_equal_is_never_written_over(source: Path, target: str, tmp_path: Path) -> None:
    async with open_storage(target) as storage:
        await SessionStorageAdapter(storage).save_session("a", document("a"))
    await copied(source, target)
    write(source, document("a", text="changed"))
    facts = await copied(source, target)
    assert counts(facts, "conflict") == (1,)


async def test_expiry_and_thread_of_the_target_outlive_another_copy(source: Path, target: str) -> None:
    await copied(source, target)
    until = datetime(2100, 1, 1, tzinfo=UTC)
    async with open_storage(target) as storage:
        await storage.update("a", {"expires_at": until, "thread_id": "t9"}, type="session")
    write(source, document("a", text="changed"))
    await copied(source, target)
    async with open_storage(target) as storage:
        record = await storage.load("a", type="session")
    assert record is not None
    assert (record["expires_at"], record["thread_id"]) == (until, "t9")


async def test_a_sqlite_source_with_a_journal_stays_byte_identical(source: Path, target: str, tmp_path: Path) -> None:
    live = tmp_path / "live.db"
    await copied(source, f"sqlite:///{live}")
    files = left_with_journal(live)
    before = [file.read_bytes() for file in files]
    facts = await copied(f"sqlite:///{live}", f"sqlite:///{tmp_path}/out.db")
    assert counts(facts, "copied") == (2,)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("dry_run", [True, False])
async def test_another_programs_database_is_no_target(source: Path, tmp_path: Path, dry_run: bool) -> None:
    foreign = tmp_path / "foreign.db"
    other = sqlite3.connect(foreign)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    before = foreign.read_bytes()
    with pytest.raises(StorageUnsupportedError):
        await copied(source, f"sqlite:///{foreign}", dry_run=dry_run)
    assert foreign.read_bytes() == before


async def test_a_dry_run_leaves_its_target_byte_identical(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    await copied(source, f"sqlite:///{there}")
    write(source, document("a", text="changed"))
    before = there.read_bytes()
    facts = await copied(source, f"sqlite:///{there}", dry_run=True)
    assert counts(facts, "copied", "equal") == (1, 1)
    assert there.read_bytes() == before
