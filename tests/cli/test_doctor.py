"""``unified-storage doctor``."""

from __future__ import annotations

import asyncio

from session_adapter import SessionStorageAdapter
from tests.cli.running import run
from unified_storage import open_storage
from unified_storage.backends.sql.schema import STEPS


def test_doctor_finds_nothing_wrong_with_a_copy(capsys, folder, url):
    run(capsys, "copy", folder, url)
    done = run(capsys, "doctor", url)
    assert done.code == 0
    assert "Nothing is wrong." in done.out
    assert ["schema", str(len(STEPS))] in [line.split() for line in done.out.splitlines()]


def test_doctor_finds_and_mends_derived_metadata(capsys, folder, url):
    run(capsys, "copy", folder, url)
    asyncio.run(_spoil(url))
    found = run(capsys, "doctor", url, "--json")
    assert found.code == 3
    assert [(item["kind"], item["id"]) for item in found.facts["findings"]] == [("metadata_differs", "a")]
    shown = run(capsys, "doctor", url)
    assert "--repair mends 1 of them" in shown.out
    mended = run(capsys, "doctor", url, "--repair")
    assert (mended.code, "1 finding mended." in mended.out) == (0, True)
    assert run(capsys, "doctor", url).code == 0
    assert asyncio.run(_active(url)) == ["a", "b", "c"]


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
