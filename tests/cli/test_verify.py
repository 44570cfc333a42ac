"""``unified-storage verify``."""

from __future__ import annotations

import asyncio
import json

from session_adapter import SessionStorageAdapter
from tests.cli.running import run, write_session
from unified_storage import open_storage


def test_verify_finds_a_copy_the_same(capsys, folder, url):
    run(capsys, "copy", folder, url)
    done = run(capsys, "verify", folder, url)
    assert done.code == 0
    assert "3 records compared" in done.out
    assert "The same" in done.out


def test_verify_lists_what_is_missing_and_what_differs_with_exit_code_3(capsys, folder, url):
    run(capsys, "copy", folder, url)
    asyncio.run(_spoil(url))
    done = run(capsys, "verify", folder, url)
    assert done.code == 3
    lines = {tuple(line.split()[:2]) for line in done.out.splitlines()}
    assert {("missing", "a"), ("different", "b")} <= lines
    facts = run(capsys, "verify", folder, url, "--json").facts
    assert [(item["id"], item["outcome"]) for item in facts["differences"]] == [("a", "missing"), ("b", "different")]
    assert facts["exit_code"] == 3


async def _spoil(url: str) -> None:
    async with open_storage(url) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.delete_session("a")
        await sessions.events.append("b", {"role": "user", "content": "more"})


def test_verify_goes_on_behind_an_id(capsys, folder, url):
    run(capsys, "copy", folder, url)
    facts = run(capsys, "verify", folder, url, "--resume", "b", "--json").facts
    assert (facts["compared"], facts["last_id"]) == (1, "c")


def test_a_sample_compares_a_part_and_the_same_part_each_time(capsys, tmp_path, url):
    for number in range(40):
        write_session(tmp_path / "many", f"s{number:02}")
    run(capsys, "copy", tmp_path / "many", url)
    first = run(capsys, "verify", tmp_path / "many", url, "--sample", "25%", "--json").facts
    again = run(capsys, "verify", tmp_path / "many", url, "--sample", "25", "--json").facts
    assert 0 < first["compared"] == again["compared"] < 40


def test_verify_writes_nothing(capsys, folder, url, tmp_path):
    run(capsys, "copy", folder, url)
    before = (tmp_path / "store.db").read_bytes()
    run(capsys, "verify", folder, url)
    assert (tmp_path / "store.db").read_bytes() == before


def test_verify_is_told_the_zone_and_the_conversion_that_an_archive_does_not_remember(capsys, tmp_path):
    session = {
        "metadata": {"session_id": "old", "created_at": "2024-05-01T00:00:00", "updated_at": "2024-05-01T00:00:00"},
        "state": {"messages": [{"type": "HumanMessage", "content": "x"}]},
        "workflow_config": {},
    }
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "old.json").write_text(json.dumps(session))
    archive = f"jsonl://{tmp_path}/archive.jsonl"
    told = ("--source-timezone", "Asia/Tokyo", "--convert", "session-data")
    run(capsys, "copy", tmp_path / "older", archive, *told)
    assert run(capsys, "verify", tmp_path / "older", archive, *told).code == 0
    assert run(capsys, "verify", tmp_path / "older", archive, *told[:2]).code == 3
    assert run(capsys, "verify", tmp_path / "older", archive, *told[2:], "--source-timezone", "UTC").code == 3
