"""``unified-storage doctor``."""

from __future__ import annotations

import asyncio
import sqlite3

from session_adapter import SessionStorageAdapter
from tests.cli.running import run
from unified_storage import open_storage
from unified_storage.backends.sql.schema import STEPS


def test_doctor_finds_nothing_wrong_with_a_copy(capsys, folder, url):
    run(capsys, "copy", folder, url)
    done = run(capsys, "doctor", url)
    assert done.code == 0
    assert "Nothing is wrong." in done.out
    facts = [line.split() for line in done.out.splitlines()]
    assert facts[1:5] == [
        ["engine", "sqlite", sqlite3.sqlite_version],
        ["schema", str(len(STEPS))],
        ["durability", "full"],
        ["records", "3"],
    ]


def test_doctor_finds_and_mends_derived_metadata(capsys, folder, url):
    run(capsys, "copy", folder, url)
    asyncio.run(_spoil(url))
    found = run(capsys, "doctor", url, "--json")
    assert found.code == 3
    assert [(item["kind"], item["id"]) for item in found.facts["findings"]] == [("metadata_differs", "a")]
    shown = run(capsys, "doctor", url)
    assert "--repair mends 1 of them" in shown.out
    mended = run(capsys, "doctor", url, "--repair")
    assert (mended.code, "1 finding mended." in mended.out, "What was wrong:" in mended.out) == (0, True, True)
    assert run(capsys, "doctor", url).code == 0
    assert asyncio.run(_active(url)) == ["a", "b", "c"]


def test_doctor_finds_and_mends_what_the_store_keeps_for_itself(capsys, folder, url):
    run(capsys, "copy", folder, url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE unified_records SET k9 = X'30' WHERE id = 'b' AND type = 'session'")
        c = "(SELECT n FROM unified_records WHERE id = 'c' AND type = 'session')"
        connection.execute(f"DELETE FROM unified_documents WHERE n = {c}")
        connection.execute("INSERT INTO unified_documents VALUES (99, 'secret')")
    connection.close()
    found = run(capsys, "doctor", url)
    lines = [line.split() for line in found.out.splitlines()]
    assert found.code == 3
    assert lines[lines.index(["What", "is", "wrong:"]) + 1 :][:3] == [
        ["document_orphaned", "row", "99"],
        ["index_key_differs", "session", "b", "metadata.workflow_id"],
        ["document_missing", "session", "c"],
    ]
    assert "--repair mends 2 of them." in found.out
    assert "Nothing here can mend the others" in found.out
    assert "secret" not in found.out
    mended = run(capsys, "doctor", url, "--repair", "--json")
    assert (mended.code, mended.facts["repaired"]) == (3, 2)
    assert [item["repaired"] for item in mended.facts["findings"]] == [True, True, False]
    assert [item["kind"] for item in run(capsys, "doctor", url, "--json").facts["findings"]] == ["document_missing"]


async def _spoil(url: str) -> None:
    async with open_storage(url) as storage:
        await storage.update("a", {"metadata": {"status": "wrong"}}, type="session")


async def _active(url: str) -> list[str]:
    async with open_storage(url) as storage:
        page = await SessionStorageAdapter(storage).page_sessions({"status": "active"})
        return sorted(item["session_id"] for item in page.items)


def test_doctor_looks_at_our_stores_alone(capsys, folder, url):
    done = run(capsys, "doctor", folder)
    assert done.code == 1
    assert "no storage of ours" in done.err
    assert run(capsys, "doctor", url).code == 1
