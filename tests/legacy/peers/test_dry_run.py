"""A dry run into a store of another framework decides on everything and makes nothing."""

from __future__ import annotations

from pathlib import Path

from legacy.migration import copy_store
from session_adapter import SessionStorageAdapter
from unified_storage import open_storage


async def test_a_dry_run_makes_no_store(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        await SessionStorageAdapter(storage).save_session("s1", {"session_id": "s1", "state": {"step": 1}})
        await SessionStorageAdapter(storage).events.append("s1", {"role": "user", "content": "Hello"})
    target = tmp_path / "theirs.db"
    report = await copy_store(tmp_path / "ours.db", f"langchain+sqlite:///{target}", dry_run=True)
    assert report.ledger.copied == 1
    assert "state" in report.lossy
    assert not target.exists()
    await copy_store(tmp_path / "ours.db", f"langchain+sqlite:///{target}")
    again = await copy_store(tmp_path / "ours.db", f"langchain+sqlite:///{target}", dry_run=True)
    assert again.ledger.equal == 1
