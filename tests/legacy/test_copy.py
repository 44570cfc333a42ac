"""`copy`: a folder of session files into a store of ours and back (S2.49, S2.52)."""

import importlib.util
import json
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from legacy.migration import copy_store
from legacy.migration.copy import Progress
from session_adapter import SessionStorageAdapter
from tests.legacy.folders import contents_of, document, listing, parsed, write, write_many
from unified_storage import StorageConfigurationError, StorageError, StorageValidationError, open_storage

NEW_YORK = "America/New_York"


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for id in ("a", "b", "c"):
        write(folder, document(id))
    return folder


def canonical(fixtures: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("canonical", fixtures / "canonical.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def copied(source: object, target: object, **switches: Any) -> dict[str, Any]:
    """What a copy reports, items and all."""
    report = await copy_store(source, target, **switches)  # type: ignore[arg-type]
    facts = report.to_dict()
    report.close()
    return facts


def counts(facts: dict[str, Any], *names: str) -> tuple[int, ...]:
    return tuple(facts["ledger"][name] for name in names)


async def saved_again(url: str) -> None:
    async with open_storage(url) as storage:
        sessions = SessionStorageAdapter(storage)
        for record in await storage.list({"type": "session"}, with_data=False):
            found = await sessions.get_session(record["id"])
            assert found is not None
            await sessions.save_session(record["id"], found)


class TestCleanFixtures:
    async def test_every_session_is_copied_and_verified_once(self, fixtures_dir: Path, target: str) -> None:
        files = f"legacy+file://{fixtures_dir}/legacy_files"
        first = await copied(files, target, source_timezone=NEW_YORK)
        assert counts(first, "read", "copied", "verified", "equal") == (60, 60, 60, 0)
        assert first["exit_code"] == 0
        before = await contents_of(target)
        again = await copied(files, target, source_timezone=NEW_YORK)
        assert counts(again, "read", "copied", "equal", "conflict") == (60, 0, 60, 0)
        assert await contents_of(target) == before, "a copy with nothing to do writes nothing"

    async def test_saving_every_session_unchanged_leaves_them_equal(self, fixtures_dir: Path, target: str) -> None:
        files = f"legacy+file://{fixtures_dir}/legacy_files"
        await copied(files, target, source_timezone=NEW_YORK)
        await saved_again(target)
        before = await contents_of(target)
        again = await copied(files, target, source_timezone=NEW_YORK)
        assert counts(again, "equal", "copied", "conflict") == (60, 0, 0)
        assert await contents_of(target) == before

    async def test_conversations_and_times_are_those_of_the_manifest(self, fixtures_dir: Path, target: str) -> None:
        await copied(fixtures_dir / "legacy_files", target, source_timezone=NEW_YORK)
        manifest = json.loads((fixtures_dir / "legacy_files.MANIFEST.json").read_text())
        sha_of = canonical(fixtures_dir).canon_sha
        async with open_storage(target) as storage:
            sessions = SessionStorageAdapter(storage)
            for told in manifest["files"]:
                events = await sessions.events.read(told["session_id"])
                assert sha_of(events) == told["sha256"], told["file"]
                record = await storage.load(told["session_id"], type="session")
                assert record is not None
                for name in ("created_at", "updated_at"):
                    shown = record[name].isoformat(timespec="microseconds").replace("+00:00", "Z")
                    assert shown == told[f"{name}_utc"], told["file"]

    async def test_sessions_are_the_parsed_files_but_for_the_rendered_times(
        self, fixtures_dir: Path, target: str
    ) -> None:
        await copied(fixtures_dir / "legacy_files", target, source_timezone=NEW_YORK)
        async with open_storage(target) as storage:
            sessions = SessionStorageAdapter(storage)
            for name, wanted in parsed(fixtures_dir / "legacy_files").items():
                found = await sessions.get_session(name.removesuffix(".json"))
                assert found is not None
                assert _without_times(found) == _without_times(wanted), name

    async def test_copying_back_gives_every_document_exactly(
        self, fixtures_dir: Path, target: str, tmp_path: Path
    ) -> None:
        files = fixtures_dir / "legacy_files"
        before = listing(files)
        await copied(files, target, source_timezone=NEW_YORK)
        back = await copied(target, f"legacy+file://{tmp_path}/back")
        assert counts(back, "copied", "verified") == (60, 60)
        assert back["lossy"] == {}
        assert parsed(tmp_path / "back") == parsed(files)
        assert sorted(path.name for path in (tmp_path / "back").iterdir()) == sorted(before)
        assert listing(files) == before, "the source is untouched"
        again = await copied(target, f"legacy+file://{tmp_path}/back")
        assert counts(again, "equal") == (60,)


def _without_times(session: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in session.items() if key != "metadata"}
    metadata = session.get("metadata") or {}
    return rest | {
        "metadata": {key: value for key, value in metadata.items() if key not in ("created_at", "updated_at")}
    }


class TestReport:
    async def test_every_file_has_its_line(self, source: Path, target: str) -> None:
        write(source, document("x"), "bad.json").write_text("{")
        (source / "notes.txt").write_text("no session")
        facts = await copied(source, target)
        lines = {item["file"]: (item["id"], item["outcome"], item["reasons"]) for item in facts["items"]}
        assert lines == {
            "a.json": ("a", "copied", []),
            "b.json": ("b", "copied", []),
            "c.json": ("c", "copied", []),
            "bad.json": (None, "quarantined", ["invalid_json"]),
            "notes.txt": (None, "ignored", ["not_a_session_file"]),
        }
        assert counts(facts, "read", "copied", "quarantined", "ignored") == (4, 3, 1, 1)
        assert facts["exit_code"] == 3

    async def test_a_report_file_holds_what_the_report_says(self, source: Path, target: str, tmp_path: Path) -> None:
        report = await copy_store(source, target)
        report.write_json(tmp_path / "report.json")
        assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()
        report.close()

    async def test_the_zone_of_naive_times_is_said(self, source: Path, target: str) -> None:
        assert (await copied(source, target))["source_timezone"] == "local"
        assert (await copied(source, target, source_timezone=NEW_YORK))["source_timezone"] == NEW_YORK

    async def test_progress_goes_up_to_the_total(self, source: Path, target: str) -> None:
        seen: list[Progress] = []
        await copied(source, target, on_progress=seen.append)
        assert seen[-1] == Progress("copy", 3, 3)
        assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)


class TestSwitches:
    async def test_a_dry_run_makes_nothing(self, source: Path, tmp_path: Path) -> None:
        for target in ("sqlite:///{}/new.db", "jsonl://{}/new.jsonl", "legacy+file://{}/new"):
            facts = await copied(source, target.format(tmp_path), dry_run=True)
            assert counts(facts, "copied", "verified") == (3, 0)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]

    async def test_a_dry_run_decides_on_what_is_there_and_leaves_it(self, source: Path, target: str) -> None:
        await copied(source, target)
        before = await contents_of(target)
        write(source, document("a", text="changed"))
        write(source, document("d"))
        facts = await copied(source, target, dry_run=True)
        assert counts(facts, "copied", "equal") == (2, 2)
        assert await contents_of(target) == before

    async def test_a_rate_is_kept(self, source: Path, target: str) -> None:
        report = await copy_store(source, target, max_rate=10)
        assert report.seconds >= 0.2
        report.close()

    @pytest.mark.parametrize(
        "switches",
        [{"max_rate": 0}, {"mapping": {"app": "shop"}}, {"convert": "yaml"}, {"source_timezone": "Mars/Olympus"}],
    )
    async def test_a_switch_that_means_nothing_is_refused_before_anything_is_written(
        self, source: Path, tmp_path: Path, switches: dict[str, Any]
    ) -> None:
        with pytest.raises(StorageValidationError):
            await copy_store(source, f"sqlite:///{tmp_path}/new.db", **switches)
        assert not (tmp_path / "new.db").exists()

    async def test_a_place_is_not_copied_into_itself(self, source: Path) -> None:
        with pytest.raises(StorageConfigurationError):
            await copy_store(source, f"legacy+file://{source}")

    async def test_an_open_storage_is_a_target_and_stays_open(self, source: Path) -> None:
        async with open_storage("memory://") as storage:
            await copied(source, storage)
            assert counts(await copied(source, storage), "equal") == (3,)
            assert await storage.count({"type": "session"}) == 3

    async def test_a_store_that_cannot_be_written_is_an_error(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(StorageError):
            await copy_store(source, f"sqlite:///{tmp_path}/no/such/folder.db")


class TestTimes:
    async def test_two_zones_give_two_times_and_a_change_of_zone_is_a_change(self, tmp_path: Path, target: str) -> None:
        """S2.50"""
        naive = "2024-05-15T12:00:00"
        write(tmp_path / "source", document("a", created_at=naive, updated_at=naive))
        hours = []
        for zone in ("UTC", NEW_YORK):
            facts = await copied(tmp_path / "source", target, source_timezone=zone)
            assert counts(facts, "copied") == (1,)
            async with open_storage(target) as storage:
                record = await storage.load("a", type="session")
                assert record is not None
                hours.append((record["created_at"].hour, record["updated_at"].hour))
        assert hours == [(12, 12), (16, 16)]

    async def test_an_unknown_time_is_the_other_one_else_the_files_and_named(self, tmp_path: Path, target: str) -> None:
        write(tmp_path / "source", document("one", created_at="garbage"))
        file = write(tmp_path / "source", document("none", created_at=None, updated_at=None))
        facts = await copied(tmp_path / "source", target)
        reasons = {item["id"]: item["reasons"] for item in facts["items"]}
        assert {"bad_timestamp", "created_at_unknown"} <= set(reasons["one"])
        assert {"created_at_unknown", "updated_at_unknown"} <= set(reasons["none"])
        async with open_storage(target) as storage:
            one, none = await storage.load("one", type="session"), await storage.load("none", type="session")
        assert one is not None
        assert none is not None
        assert one["created_at"] == one["updated_at"]
        assert one["metadata"]["~"]["time_unknown"] == ["created_at"]
        assert none["created_at"].timestamp() == pytest.approx(file.stat().st_mtime, abs=0.001)
        assert "time_unknown" not in json.dumps(one["data"])


async def test_every_target_row_passes_the_engines_own_check(source: Path, target: str, tmp_path: Path) -> None:
    write_many(source, 300)
    await copied(source, target)
    with sqlite3.connect(tmp_path / "target.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
