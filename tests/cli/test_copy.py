"""``unified-storage copy``: the job, its results, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from legacy import FileSessionStore
from legacy.migration.lease import Lease
from session_adapter import SessionStorageAdapter
from tests.cli.running import DAMAGED, PROGRAM, SESSIONS, run, run_program, write_session
from unified_storage import open_storage

LEDGER = {"read", "copied", "equal", "duplicate", "conflict", "quarantined", "ignored", "verified", "mismatched"}


def test_copy_takes_every_session_and_verifies_it(capsys, url):
    done = run(capsys, "copy", SESSIONS, url, "--json")
    assert done.code == 0
    assert done.err == ""
    assert set(done.facts["ledger"]) == LEDGER
    assert (done.facts["ledger"]["read"], done.facts["ledger"]["copied"], done.facts["ledger"]["verified"]) == (10,) * 3


def test_copying_again_finds_everything_equal(capsys, folder, url):
    run(capsys, "copy", folder, url)
    ledger = run(capsys, "copy", folder, url, "--json").facts["ledger"]
    assert (ledger["equal"], ledger["copied"]) == (3, 0)


def test_the_fixtures_are_copied_whole_and_found_equal_again(capsys, fixtures_dir, url):
    source = f"legacy+file://{fixtures_dir}/legacy_files"
    first = run(capsys, "copy", source, url, "--json")
    again = run(capsys, "copy", source, url, "--json")
    assert (first.code, again.code) == (0, 0)
    assert [first.facts["ledger"][name] for name in ("read", "copied", "verified")] == [60, 60, 60]
    assert [again.facts["ledger"][name] for name in ("equal", "copied")] == [60, 0]


def test_what_cannot_be_read_is_quarantined_and_named_with_exit_code_3(capsys, url):
    done = run(capsys, "copy", DAMAGED, url, "--json")
    assert done.code == done.facts["exit_code"] == 3
    ledger = done.facts["ledger"]
    taken = ("copied", "equal", "duplicate", "conflict", "quarantined")
    assert ledger["read"] == sum(ledger[name] for name in taken) == 7
    found = {item["file"]: (item["outcome"], item["reasons"]) for item in done.facts["items"]}
    assert found["orders-240611-073000-0c4d5e.json"] == ("quarantined", ["invalid_json"])
    assert found["orders-240612-080000-bbbbbb.json"] == ("quarantined", ["empty_file"])
    assert found["greenhouse-240501-120000-aaaaaa.tmp"][0] == "ignored"


def test_the_summary_names_what_to_look_at_and_what_to_do(capsys, url):
    done = run(capsys, "copy", DAMAGED, url)
    lines = [line.split() for line in done.out.splitlines()]
    assert ["quarantined", "orders-240612-080000-bbbbbb.json", "empty_file"] in lines
    assert "7 sessions read, 2 verified, 2 ignored" in done.out
    assert "Mend the quarantined files or leave them out, then run it again" in done.out
    assert "\x1b" not in done.out


def test_a_conflict_leaves_the_target_as_it_is_with_exit_code_3(capsys, folder, url):
    run(capsys, "copy", folder, url)
    asyncio.run(_change_in_target(url))
    done = run(capsys, "copy", folder, url, "--json")
    assert (done.code, done.facts["ledger"]["conflict"]) == (3, 1)
    assert asyncio.run(_messages(url)) == ["Hello", "from the target"]
    over = run(capsys, "copy", folder, url, "--overwrite-conflicts", "--json")
    assert (over.code, over.facts["ledger"]["copied"]) == (0, 1)
    assert asyncio.run(_messages(url)) == ["Hello"]


async def _change_in_target(url: str) -> None:
    async with open_storage(url) as storage:
        await SessionStorageAdapter(storage).events.append("a", {"role": "user", "content": "from the target"})


async def _messages(url: str) -> list[str]:
    async with open_storage(url) as storage:
        return [event["content"] for event in await SessionStorageAdapter(storage).events.read("a")]


def test_a_dry_run_writes_nothing(capsys, folder, url, tmp_path):
    done = run(capsys, "copy", folder, url, "--dry-run", "--json")
    assert (done.code, done.facts["dry_run"], done.facts["ledger"]["copied"]) == (0, True, 3)
    assert not (tmp_path / "store.db").exists()
    assert "nothing was written" in run(capsys, "copy", folder, url, "--dry-run").out


def test_conversion_makes_session_data_documents(capsys, tmp_path):
    target = tmp_path / "converted"
    assert run(capsys, "copy", SESSIONS, f"legacy+file://{target}", "--convert", "session-data").code == 0
    document = FileSessionStore(target).get_session("support-240820-112000-9d8c7b")
    assert document is not None
    assert {"metadata", "thread_configs", "workflow_state", "settings"} <= set(document)


def test_naive_times_are_read_in_the_zone_that_is_told(capsys, url, tmp_path):
    done = run(capsys, "copy", SESSIONS, url, "--source-timezone", "Asia/Tokyo", "--json")
    assert done.facts["source_timezone"] == "Asia/Tokyo"
    facts = run(capsys, "inspect", url, "orders-240611-073000-0c4d5e", "--json").facts
    assert facts["created_at"] == "2024-06-10T22:30:00.000000+00:00"


def test_the_json_report_lists_every_file(capsys, url, tmp_path):
    file = tmp_path / "report.json"
    run(capsys, "copy", DAMAGED, url, "--report", file)
    report = json.loads(file.read_text("utf-8"))
    assert sorted(item["file"] for item in report["items"]) == sorted(path.name for path in DAMAGED.iterdir())
    assert all({"file", "id", "outcome", "reasons"} <= set(item) for item in report["items"])


def test_the_way_through_an_archive_keeps_every_session(capsys, folder, url, tmp_path):
    archive, copy = f"jsonl://{tmp_path}/all.jsonl", f"sqlite:///{tmp_path}/again.db"
    assert run(capsys, "copy", folder, url).code == 0
    assert run(capsys, "copy", url, archive).code == 0
    assert run(capsys, "copy", tmp_path / "all.jsonl", copy).code == 0
    assert run(capsys, "verify", url, copy).code == 0


def test_max_rate_holds_the_copy_back(capsys, folder, url):
    begun = time.monotonic()
    assert run(capsys, "copy", folder, url, "--max-rate", "6/s").code == 0
    assert time.monotonic() - begun >= 0.5


async def _hold(url: str, held: str) -> None:
    async with open_storage(url) as storage:
        lease = Lease(storage)
        async with lease.kept():
            async with storage.transaction() as tx:
                await lease.hold(tx)
            result = await asyncio.to_thread(run_program, "copy", held, url)
    assert result.code == 5
    assert "another copy is writing there" in result.err
    assert result.out == ""


def test_a_target_that_another_run_holds_gives_exit_code_5(folder, url):
    asyncio.run(_hold(url, str(folder)))


def test_ctrl_c_gives_130_and_running_it_again_finishes(capsys, tmp_path, url):
    for number in range(40):
        write_session(tmp_path / "many", f"s{number:02}")
    arguments = [PROGRAM, "copy", str(tmp_path / "many"), url]
    slow = subprocess.Popen([*arguments, "--max-rate", "10/s"], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    _wait_for_records(tmp_path / "store.db")
    slow.send_signal(signal.SIGINT)
    out, err = slow.communicate(timeout=30)
    assert slow.returncode == 130
    assert out == b""
    assert b"interrupted; run the same command again: it goes on where it stopped" in err
    ledger = run(capsys, "copy", tmp_path / "many", url, "--json").facts["ledger"]
    assert ledger["equal"] > 0
    assert ledger["equal"] + ledger["copied"] == ledger["verified"] == 40


def _wait_for_records(file: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if file.exists():
            connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
            try:
                if connection.execute("SELECT count(*) FROM unified_records").fetchone()[0] > 0:
                    return
            except sqlite3.OperationalError:
                pass  # its tables are being made
            finally:
                connection.close()
        time.sleep(0.05)
    pytest.fail("the copy wrote nothing in 30 seconds")
