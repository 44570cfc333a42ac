"""`inspect` and `doctor`: what a place is, what is wrong with it, and mending it."""

import sqlite3
from pathlib import Path

import pytest

from legacy.migration import examine, inspect_place, inspect_session
from legacy.migration.lease import Lease
from session_adapter import SessionStorageAdapter
from tests.engines import redis_client
from tests.legacy.folders import contents_of, document, write
from tests.legacy.test_copy import copied
from tests.legacy.test_copy_between_stores import fill
from tests.places import ON_DISK, SQL, Place, engines, place_on
from tests.unified_storage.planting import planter_at
from unified_storage import REPLACE, StorageConfigurationError, StorageNotFoundError, open_storage
from unified_storage.backends.redis.partitions import Layout, escaped, key_prefix
from unified_storage.order_keys import order_key


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
    assert (report.findings, report.exit_code, report.records) == ([], 0, 6)
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


async def test_an_entry_far_down_in_a_log_is_read_too(url: str, tmp_path: Path) -> None:
    async with open_storage(url) as storage:
        await storage.append("track:long/a", [{"body": n} for n in range(900)])
    assert (await examine(url)).findings == []
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("UPDATE unified_entries SET body = '{' WHERE seq = 850")
    connection.close()
    assert [(one.kind, one.detail) for one in (await examine(url)).findings] == [("unreadable_log", "track:long/a")]


async def test_a_record_whose_head_is_unreadable_costs_itself_alone(url: str, tmp_path: Path) -> None:
    """Neither a text that is no JSON nor one that is no UTF-8 keeps the others from being looked at."""
    async with open_storage(url) as storage:
        for number in range(250):
            await storage.save({"id": f"n{number:03}", "type": "note", "data": {}, "metadata": {"n": number}})
        await storage.update("a", {"metadata": {"user_id": "bob"}}, type="session")
        await storage.update("n249", {"metadata": {"user_id": "bob"}}, type="note")
    with sqlite3.connect(tmp_path / "store.db") as connection:
        for id, damage in (("n002", "CAST(X'7BFF' AS TEXT)"), ("n003", "'{'"), ("n120", "'[]'"), ("n121", "X'FF'")):
            connection.execute(f"UPDATE unified_records SET metadata = {damage} WHERE id = ?", (id,))
    connection.close()
    report = await examine(url, mend=True)
    assert [(one.kind, one.id) for one in report.findings] == [
        *(("unreadable_record", id) for id in ("n002", "n003", "n120", "n121")),
        ("metadata_differs", "a"),
    ]
    assert (report.records, report.repaired, report.exit_code) == (256, 1, 3)


async def test_what_the_store_keeps_for_itself_is_looked_at_first_and_mended(url: str, tmp_path: Path) -> None:
    before = await contents_of(url)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        spoiled = """replace(metadata, '"user_id":"u"', '"user_id":"bob"')"""
        connection.execute(f"UPDATE unified_records SET k9 = X'30', metadata = {spoiled} WHERE id = 'canonical'")
        connection.execute("UPDATE unified_logs SET count = 99 WHERE log_id = 'history/listed'")
        connection.execute("UPDATE unified_logs SET owner = 99 WHERE log_id = 'track:main/listed'")
        connection.execute("INSERT INTO unified_logs VALUES (98, 'no name', 1, 0, 0)")
    connection.close()
    found = [("index_key_differs", "canonical"), ("log_orphaned", "listed"), ("log_orphaned", "")]
    found += [("log_count_differs", "listed"), ("metadata_differs", "canonical")]
    report = await examine(url)
    assert [(one.kind, one.id) for one in report.findings] == found
    assert (report.exit_code, report.repaired) == (3, 0)
    mended = await examine(url, mend=True)
    assert [(one.kind, one.id, one.repaired) for one in mended.findings] == [(kind, id, id != "") for kind, id in found]
    again = await examine(url, mend=True)
    assert [(one.kind, one.detail) for one in again.findings] == [("log_orphaned", "no name")]
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("DELETE FROM unified_logs WHERE log_id = 'no name'")
    connection.close()
    assert (await examine(url)).findings == []
    after = await contents_of(url)
    for contents in (before, after):
        del contents["records"]["canonical", "session"]["version"]
    assert after == before


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_damage_on_every_engine_is_found_and_mended(engine: str, tmp_path: Path) -> None:
    """S2.43: stale metadata, a log without its record, a record that is not found by its key; then nothing is wrong."""
    async with place_on(engine, tmp_path) as place:
        async with place.open() as storage:
            await fill(storage)
            sessions = SessionStorageAdapter(storage)
            for name in ("a", "b"):
                await sessions.save_session(name, document(name, user_id="ann"))
        healthy = await examine(place.address)
        assert (healthy.findings, healthy.exit_code) == ([], 0)
        assert healthy.health["backend"] in engine
        before = await contents_of(place.address)
        await plant_damage(place)
        async with place.open() as storage:
            record = await storage.load("a", type="session")
            assert record is not None
            await storage.restore([{**record, "metadata": {**record["metadata"], "status": "stale"}}])
        found = await examine(place.address)
        wrong = {(one.kind, one.id) for one in found.findings}
        assert wrong >= {("metadata_differs", "a"), ("log_orphaned", "nobody")}
        assert wrong & {("index_key_differs", "b"), ("index_member_missing", "b")}
        assert (found.exit_code, found.repaired) == (3, 0)
        mended = await examine(place.address, mend=True)
        assert (mended.exit_code, mended.repaired) == (0, len(mended.findings))
        assert (await examine(place.address)).findings == []
        after = await contents_of(place.address)
        assert after["records"]["a", "session"].pop("version") > before["records"]["a", "session"].pop("version")
        assert after == before
        async with place.open() as storage:
            ann = await storage.list({"type": "session", "metadata.user_id": "ann"})
            assert [record["id"] for record in ann] == ["a", "b"]


async def plant_damage(place: Place) -> None:
    """A log of nobody, and a session b that is not found by its user any more."""
    if place.engine in SQL:
        async with planter_at(place) as planter:
            (log,) = planter.texts("history/nobody")
            await planter.run("INSERT INTO {logs} (n, log_id, owner, last_seq, count) VALUES (98, ?, 99, 0, 0)", log)
            slot = await planter.slot_of("metadata.user_id")
            await planter.run(f"UPDATE {{records}} SET {slot} = NULL WHERE n = ?", await planter.row_of("b"))
        return
    layout = Layout(key_prefix(place.namespace), 64 if place.engine == "redis-cluster" else 1)
    async with redis_client(place.url) as client:
        await client.zadd(layout.beside("nobody", "e:history/nobody"), {"1": 1})
        await client.zadd(layout.beside("nobody", "logs"), {"history/nobody": 0})
        known = layout.beside("b", "y:session:metadata.user_id")
        assert await client.zrem(known, escaped(order_key("ann")) + b"b") == 1


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
