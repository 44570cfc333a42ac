"""Older documents as `SessionData` and back (S2.48), and `copy --convert session-data`."""

import json
from pathlib import Path
from typing import Any

import pytest

from legacy.stores.session_data import CONVERTED_FROM, as_it_was, as_session_data
from session_adapter import SessionStorageAdapter
from session_adapter.formats import G0, detect
from session_adapter.models import SessionData
from tests.legacy.test_copy import canonical, copied, counts
from tests.support import REPOSITORY
from unified_storage import StorageConfigurationError, StorageValidationError, open_storage
from unified_storage.values import equal

SAMPLES = REPOSITORY / "tests" / "samples" / "legacy_files"
ODD: list[dict[str, Any]] = [
    {},
    {"anything": [1, {"metadata": 2}]},
    {"metadata": None, "state": {"messages": [1]}},
    {"metadata": {"session_id": 7}, "state": [1], "workflow_config": None, "workflow_state_": 1},
    {"metadata": {"session_id": ""}, "state": {}, "converted_from": "mine"},
    {"metadata": {}, "workflow_config": {}, "settings": None, "thread_configs": []},
    {"context": {}, "interactions": ["bad", None, {}, {"content": 1, "keys": 2, "metadata": {"tool_calls": [{}]}}]},
    {"context": {"session_id": "x", "metadata": 3}, "interactions": [], "metadata": {"status": "s"}, "created_at": 1},
]


def samples() -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(SAMPLES.glob("*.json"))]


@pytest.mark.parametrize("old", [*samples(), *ODD], ids=lambda old: ",".join(old)[:40])
def test_old_to_new_to_old_is_the_original(old: dict[str, Any]) -> None:
    before = json.dumps(old)
    new = as_session_data(old, id="given")
    assert json.dumps(old) == before, "what is handed in is not changed"
    if CONVERTED_FROM not in new or new[CONVERTED_FROM] == old.get(CONVERTED_FROM):
        assert new == old
        assert detect(old).name in ("legacy-g0", "canonical")
        return
    assert detect(new) is G0
    assert json.dumps(as_it_was(new)) == json.dumps(old)


@pytest.mark.parametrize("name", ["g1", "g2", "g3"])
def test_a_converted_document_is_session_data(name: str) -> None:
    old = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    new = as_session_data(old, id="given")
    assert {"metadata", "thread_configs", "workflow_state", "settings"} <= new.keys()
    assert new["metadata"]["session_id"]
    SessionData.model_validate(new)


def test_a_document_that_was_not_converted_has_no_way_back() -> None:
    with pytest.raises(StorageValidationError):
        as_it_was({"metadata": {}})


async def test_a_converting_copy_keeps_every_conversation(fixtures_dir: Path, tmp_path: Path) -> None:
    files, target = fixtures_dir / "legacy_files", f"sqlite:///{tmp_path}/target.db"
    facts = await copied(files, target, convert="session-data", source_timezone="America/New_York")
    assert counts(facts, "copied", "verified") == (60, 60)
    again = await copied(files, target, convert="session-data", source_timezone="America/New_York")
    assert counts(again, "equal") == (60,)
    told = json.loads((fixtures_dir / "legacy_files.MANIFEST.json").read_text())["files"]
    async with open_storage(target) as storage:
        sessions = SessionStorageAdapter(storage)
        for line in told:
            session = await sessions.get_session(line["session_id"])
            assert session is not None
            assert detect(session) is G0
            events = await sessions.events.read(line["session_id"])
            assert canonical(fixtures_dir).canon_sha(events) == line["sha256"]
            original = json.loads((files / line["file"]).read_text(encoding="utf-8"))
            stored = await storage.load(line["session_id"], type="session")
            assert stored is not None
            if line["generation"] != "G0":
                whole = {**stored["data"], "workflow_state": session["workflow_state"]}
                assert equal(as_it_was(whole), original), line["file"]


async def test_what_is_ours_already_is_not_converted(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/a.db") as storage:
        await storage.save({"id": "a", "type": "note", "data": {}})
    with pytest.raises(StorageConfigurationError):
        await copied(f"sqlite:///{tmp_path}/a.db", "memory://", convert="session-data")
