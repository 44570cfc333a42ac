"""``unified-storage inspect`` and ``formats``: what is there, and what it says only when asked."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from session_adapter import SessionKey, SessionStorageAdapter
from tests.cli.running import DAMAGED, SESSIONS, run
from unified_storage import open_storage

REFUND = "orders-240611-073000-0c4d5e"


def test_inspect_counts_what_a_store_holds(capsys, url):
    run(capsys, "copy", SESSIONS, url)
    facts = run(capsys, "inspect", url, "--json").facts
    assert (facts["sessions"], facts["kind"], facts["health"]["backend"]) == (10, "storage", "sqlite")
    assert facts["formats"] == {"bare": 1, "legacy-g0": 4, "legacy-g1": 2, "legacy-g2": 1, "legacy-g3": 2}
    assert "metadata.user_id" in facts["indexed"]["session"]
    shown = run(capsys, "inspect", url)
    assert shown.code == 0
    assert ["sessions", "10"] in [line.split() for line in shown.out.splitlines()]


def test_inspect_names_the_newest_session(capsys, folder, url):
    run(capsys, "copy", folder, url)
    asyncio.run(_touch(url))
    newest = run(capsys, "inspect", url, "--json").facts["newest"]
    assert newest["session_id"] == "b"
    assert newest["updated_at"] > "2025"


async def _touch(url: str) -> None:
    async with open_storage(url) as storage:
        await SessionStorageAdapter(storage).update_session("b", {"settings": {"seen": True}})


def test_inspect_reads_folders_and_says_what_no_copy_would_take(capsys):
    facts = run(capsys, "inspect", DAMAGED, "--json").facts
    assert (facts["kind"], facts["sessions"]) == ("legacy", 2)
    assert facts["left_out"] == {"duplicate": 1, "ignored": 2, "quarantined": 4}


def test_a_session_shows_its_shape_and_no_contents(capsys, url):
    run(capsys, "copy", SESSIONS, url)
    done = run(capsys, "inspect", url, REFUND, "--json")
    assert done.facts["format"] == "legacy-g0"
    assert done.facts["roles"] == {"assistant": 3, "system": 1, "tool": 2, "user": 1}
    shown = run(capsys, "inspect", url, REFUND)
    for text in (done.out, shown.out):
        assert "broken pot" not in text
        assert "tomás" not in text


def test_contents_are_shown_when_asked_for(capsys, url):
    run(capsys, "copy", SESSIONS, url)
    facts = run(capsys, "inspect", url, REFUND, "--show-values", "--json").facts
    assert facts["document"]["metadata"]["user_id"] == "tomás"
    assert facts["history"][1]["value"]["content"] == "My order 1187 arrived with a broken pot."
    assert "broken pot" in run(capsys, "inspect", url, REFUND, "--show-values").out


def test_values_that_json_lacks_are_shown_in_their_tagged_form(capsys, url):
    asyncio.run(_save(url, {"a": b"\0", "when": datetime(2024, 5, 1, tzinfo=UTC), "odd": "\x1b[31m\u2028"}))
    facts = run(capsys, "inspect", url, "s", "--show-values", "--json").facts
    assert facts["document"]["a"]["$type"] == "bytes"
    shown = run(capsys, "inspect", url, "s", "--show-values").out
    assert "\x1b" not in shown
    assert "\u2028" not in shown


async def _save(url: str, document: dict[str, object]) -> None:
    async with open_storage(url) as storage:
        await SessionStorageAdapter(storage).save_session("s", document)


def test_a_missing_session_is_a_clear_error(capsys, folder, url):
    run(capsys, "copy", folder, url)
    done = run(capsys, "inspect", url, "nobody")
    assert (done.code, done.out) == (4, "")
    assert "no session 'nobody' in " in done.err


def test_an_id_that_several_users_have_asks_which(capsys, url):
    asyncio.run(_save_scoped(url))
    done = run(capsys, "inspect", url, "s")
    assert done.code == 1
    assert "2 sessions have the id 's'" in done.err
    name = done.err.rpartition("name one of ")[2].split(",")[0]
    assert run(capsys, "inspect", url, name, "--json").facts["session_id"] == "s"


async def _save_scoped(url: str) -> None:
    async with open_storage(url) as storage:
        sessions = SessionStorageAdapter(storage)
        for user in ("ann", "ben"):
            await sessions.save_session(SessionKey("shop", user, "s"), {"settings": {}})


def test_show_values_needs_a_session(capsys, folder):
    done = run(capsys, "inspect", folder, "--show-values")
    assert done.code == 1
    assert "--show-values" in done.err


def test_formats_lists_what_can_be_read_and_written(capsys):
    known = {format["name"]: format for format in run(capsys, "formats", "--json").facts["formats"]}
    assert {"legacy", "jsonl", "memory", "sqlite"} <= set(known)
    assert known["legacy"]["lossy"]
    shown = run(capsys, "formats")
    assert shown.code == 0
    assert "legacy+file:///folder" in shown.out


def test_formats_says_what_to_install_for_an_engine_without_its_driver(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    known = {format["name"]: format for format in run(capsys, "formats", "--json").facts["formats"]}
    assert known["mysql"]["to_install"] == "pip install 'unified-storage[mysql]'"
    assert (known["mysql"]["reads"], known["mysql"]["writes"]) == (False, False)
    assert (known["redis"]["to_install"], known["redis"]["reads"]) == ("", True)
    assert "mysql needs its driver: pip install 'unified-storage[mysql]'" in run(capsys, "formats").out
