"""`inspect` and `doctor`: what a place is, what is wrong with it, and mending it."""

import sqlite3
from pathlib import Path

import pytest

from legacy.migration import examine, inspect_place, inspect_session
from legacy.migration.lease import Lease
from session_adapter import SessionStorageAdapter
from tests.legacy.folders import contents_of, document, write
from tests.legacy.test_copy import copied
from tests.legacy.test_copy_between_stores import fill
from unified_storage import REPLACE, StorageConfigurationError, StorageNotFoundError, open_storage


@pytest.fixture
async def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/store.db"
    async with open_storage(url) as storage:
        await fill(storage)
        await SessionStorageAdapter(storage).save_session("a", document("a", user_id="ann"))
    return url


async def test_a_healthy_store_is_told_its_schema_and_nothing_else(url: str) -> None:
    before = await contents_of(url)
    report = await examine(url, mend=True)
    assert (report.findings, report.exit_code, report.records) == ([], 0, 7)
    assert report.health["schema"] >= 1
    assert await contents_of(url) == before


async def test_metadata_that_is_not_derived_from_the_document_is_mended_without_moving_times(url: str) -> None:
    before = await contents_of(url)
    async with open_storage(url) as storage:
        record = await storage.load("a", type="session")
        assert record is not None
        await storage.restore([{**record, "metadata": {**record["metadata"], "user_id": "bob"}, "session_id": "b"}])
    found = await examine(url)
    assert [(one.kind, one.id, one.detail) for one in found.findings] == [
        ("metadata_differs", "a", "user_id"),
        ("grouping_differs", "a", None),
    ]
    assert (found.exit_code, found.repaired) == (3, 0)
    mended = await examine(url, mend=True)
    assert (mended.repaired, mended.exit_code) == (2, 0)
    after = await contents_of(url)
    for record in (before["records"]["a", "session"], after["records"]["a", "session"]):
        del record["version"]
    assert after == before
    assert (await examine(url)).findings == []


async def test_unreadable_records_and_logs_are_named_and_left(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as connection:
        number = "(SELECT n FROM unified_records WHERE id = 'a' AND type = 'session')"
        connection.execute(f"UPDATE unified_documents SET data = '{{' WHERE n = {number}")
        connection.execute(
            "UPDATE unified_entries SET body = '{'"
            " WHERE log = (SELECT n FROM unified_logs WHERE log_id = 'history/listed')"
        )
    connection.close()
    report = await examine(url, mend=True)
    assert [(one.kind, one.id, one.repairable) for one in report.findings] == [
        ("unreadable_record", "a", False),
        ("unreadable_log", "listed", False),
    ]
    assert report.exit_code == 3
    assert report.to_dict()["findings"][1]["detail"] == "history/listed"


async def test_a_record_that_no_session_view_wrote_is_no_finding(url: str) -> None:
    async with open_storage(url) as storage:
        await storage.save({"id": "raw", "type": "session", "data": {"metadata": {"user_id": "u"}}})
        await storage.update("canonical", {"metadata": REPLACE({})}, type="session")
    assert (await examine(url)).findings == []


async def test_what_an_ended_copy_left_is_removed_and_a_running_one_is_not(url: str) -> None:
    async with open_storage(url) as storage:
        async with storage.transaction() as tx:
            await Lease(storage).hold(tx)
        assert (await examine(url)).findings == []
        await storage.update("copy", {"data": {"process": {"started": "long ago"}}}, type="_copy_run")
    report = await examine(url, mend=True)
    assert [one.kind for one in report.findings] == ["copy_run_left"]
    assert report.exit_code == 0
    async with open_storage(url) as storage:
        assert not await storage.exists("copy", type="_copy_run")


async def test_only_a_store_of_ours_that_is_there_is_looked_over(tmp_path: Path) -> None:
    write(tmp_path / "files", document("a"))
    for place in (tmp_path / "files", f"sqlite:///{tmp_path}/no.db"):
        with pytest.raises(StorageConfigurationError):
            await examine(place)
    assert not (tmp_path / "no.db").exists()


async def test_a_place_is_told_in_numbers(url: str, tmp_path: Path) -> None:
    write(tmp_path / "files", document("a"))
    (tmp_path / "files" / "b.json").write_text("{")
    (tmp_path / "files" / "c.txt").write_text("")
    files = (await inspect_place(tmp_path / "files")).to_dict()
    assert (files["sessions"], files["entries"], files["formats"]) == (1, 2, {"legacy-g0": 1})
    assert files["left_out"] == {"ignored": 1, "quarantined": 1}
    store = (await inspect_place(url)).to_dict()
    assert store["records"] == {"note": 3, "session": 3}
    assert store["formats"] == {"canonical": 1, "legacy-g0": 2}
    assert store["health"]["backend"] == "sqlite"
    await copied(url, f"jsonl://{tmp_path}/a.jsonl")
    archive = (await inspect_place(tmp_path / "a.jsonl")).to_dict()
    assert (archive["records"], archive["entries"]) == (store["records"], store["entries"])


async def test_a_session_is_told_without_its_values_unless_they_are_asked_for(url: str) -> None:
    facts = await inspect_session(url, "a")
    assert facts["format"] == "legacy-g0"
    assert facts["logs"] == {"history/a": 2}
    assert "ann" not in str(facts)
    shown = await inspect_session(url, "a", show_values=True)
    assert shown["document"]["metadata"]["user_id"] == "ann"
    assert len(shown["history"]) == 2
    with pytest.raises(StorageNotFoundError):
        await inspect_session(url, "no")
