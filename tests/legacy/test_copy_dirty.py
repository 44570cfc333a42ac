"""`copy` of a folder with everything that can be wrong with session files (S2.49), and of cases made while it runs."""

import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from legacy.file_store import file_name
from legacy.stores import file_reading, legacy_survey
from session_adapter import SessionStorageAdapter
from tests.legacy.folders import document, listing, write
from tests.legacy.test_copy import canonical, copied, counts
from unified_storage import open_storage

ZONE = "America/New_York"
OUTCOMES = {
    "imported": "copied",
    "imported_with_warnings": "copied",
    "quarantined": "quarantined",
    "skipped_duplicate": "duplicate",
    "ignored": "ignored",
}


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
def manifest(fixtures_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((fixtures_dir / "legacy_files_dirty.MANIFEST.json").read_text())
    return found


async def test_every_dirty_file_ends_as_the_manifest_says(
    fixtures_dir: Path, manifest: dict[str, Any], target: str
) -> None:
    folder = fixtures_dir / "legacy_files_dirty"
    before = listing(folder)
    facts = await copied(folder, target, source_timezone=ZONE)
    assert listing(folder) == before, "the source folder is byte-identical"
    lines = {item["file"]: item for item in facts["items"]}
    wrong = [told["file"] for told in manifest["files"] if not _ends_as(told, lines[told["file"].partition("/")[0]])]
    assert wrong == []
    assert len(manifest["files"]) == len(lines) == 103
    assert counts(facts, "copied", "quarantined", "duplicate", "ignored", "verified") == (71, 24, 1, 7, 71)
    assert facts["ledger"]["read"] == 96


def _ends_as(told: dict[str, Any], item: dict[str, Any]) -> bool:
    accepted = {told.get("reason"), *(reason.partition(":")[2] for reason in told.get("also_acceptable", ()))}
    same_outcome = item["outcome"] == OUTCOMES[told["expect"]]
    same_reason = told["expect"] == "imported" or bool(accepted & set(item["reasons"]))
    same_id = told["expect"] == "quarantined" or item["id"] == told.get("session_id")
    return same_outcome and same_reason and same_id


async def test_every_imported_session_has_its_contents_and_times(
    fixtures_dir: Path, manifest: dict[str, Any], target: str
) -> None:
    await copied(fixtures_dir / "legacy_files_dirty", target, source_timezone=ZONE)
    sha_of = canonical(fixtures_dir).canon_sha
    imported = [told for told in manifest["files"] if OUTCOMES[told["expect"]] == "copied"]
    async with open_storage(target) as storage:
        sessions = SessionStorageAdapter(storage)
        for told in imported:
            events = await sessions.events.read(told["session_id"])
            if "sha256" in told:
                assert sha_of(events) == told["sha256"], told["file"]
            assert len(events) == told.get("messages", len(events)), told["file"]
            session = await sessions.get_session(told["session_id"])
            record = await storage.load(told["session_id"], type="session")
            assert session is not None
            assert record is not None
            _check_times(told, record)
            _check_preserved(told, session, record["data"])
            if "user_id" in told:
                assert record["metadata"]["user_id"] == told["user_id"]


def _check_times(told: dict[str, Any], record: dict[str, Any]) -> None:
    for name in ("created_at", "updated_at"):
        if told.get(f"{name}_utc", "") is None:
            assert name in record["metadata"]["~"]["time_unknown"], told["file"]
        elif f"{name}_utc" in told:
            shown = record[name].isoformat(timespec="microseconds").replace("+00:00", "Z")
            assert shown == told[f"{name}_utc"], told["file"]


def _check_preserved(told: dict[str, Any], session: Any, stored: Any) -> None:
    for pointer, wanted in told.get("preserve", {}).items():
        found = _at(session, pointer)
        assert (found, type(found)) == (wanted, type(wanted)) or _at(stored, pointer) == wanted, told["file"]


def _at(document: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


async def test_a_second_copy_of_a_dirty_folder_finds_all_equal(fixtures_dir: Path, target: str) -> None:
    await copied(fixtures_dir / "legacy_files_dirty", target, source_timezone=ZONE)
    facts = await copied(fixtures_dir / "legacy_files_dirty", target, source_timezone=ZONE)
    assert counts(facts, "copied", "equal", "quarantined", "conflict") == (0, 71, 24, 0)


# cases that no folder of fixtures can hold


async def _one(folder: Path, target: str, name: str) -> dict[str, Any]:
    write(folder, document("good"))
    facts = await copied(folder, target)
    assert "copied" in [item["outcome"] for item in facts["items"] if item["id"] == "good"], "the run goes on"
    [item] = [item for item in facts["items"] if item["file"] == name]
    return {"outcome": item["outcome"], "reasons": item["reasons"]}


async def test_a_link_that_leads_nowhere_is_quarantined(tmp_path: Path, target: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x.json").symlink_to("nowhere")
    assert await _one(tmp_path / "source", target, "x.json") == {"outcome": "quarantined", "reasons": ["unreadable"]}


async def test_a_loop_of_links_is_quarantined(tmp_path: Path, target: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x.json").symlink_to("x.json")
    assert await _one(tmp_path / "source", target, "x.json") == {"outcome": "quarantined", "reasons": ["unreadable"]}


@pytest.mark.timeout(20)
async def test_a_named_pipe_is_ignored_and_not_waited_for(tmp_path: Path, target: str) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source" / "x.json")
    wanted = {"outcome": "ignored", "reasons": ["not_a_regular_file"]}
    assert await _one(tmp_path / "source", target, "x.json") == wanted


async def test_a_file_deleted_before_it_is_copied_has_vanished(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "source", document("x"))
    real = legacy_survey.FolderSurvey.run

    def run(self: legacy_survey.FolderSurvey) -> int:
        count = real(self)
        file.unlink()
        return count

    monkeypatch.setattr(legacy_survey.FolderSurvey, "run", run)
    assert await _one(tmp_path / "source", target, "x.json") == {"outcome": "ignored", "reasons": ["vanished"]}


async def test_a_file_deleted_between_listing_and_reading_has_vanished(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "source", document("x"))
    real = file_reading.read_bytes

    def read_bytes(path: bytes) -> file_reading.FileBytes:
        if path.endswith(b"x.json"):
            file.unlink()
        return real(path)

    monkeypatch.setattr(legacy_survey, "read_bytes", read_bytes)
    assert await _one(tmp_path / "source", target, "x.json") == {"outcome": "ignored", "reasons": ["vanished"]}


async def test_a_file_replaced_while_it_is_read_gives_old_or_new_never_a_mix(tmp_path: Path, target: str) -> None:
    file = write(tmp_path / "source", document("x", text="old", messages=2_000))
    new = write(tmp_path / "elsewhere", document("x", text="new", messages=1_000))
    with file.open("rb") as opened:  # what the reader does: one opening, read while the name means another file
        begun = opened.read(100)
        new.replace(file)
        old = begun + opened.read()
    assert len(json.loads(old)["workflow_state"]["messages"]) == 2_000
    assert file_reading.read_bytes(os.fsencode(file)).content.count(b"new ") == 1_000


async def test_a_file_changed_between_survey_and_copy_is_copied_as_it_is_then(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "source", document("same", text="old"))
    write(tmp_path / "source", document("renamed"), "r.json")
    real = legacy_survey.FolderSurvey.run

    def run(self: legacy_survey.FolderSurvey) -> int:
        count = real(self)
        write(tmp_path / "source", document("same", text="new"))
        write(tmp_path / "source", document("other"), "r.json")
        return count

    monkeypatch.setattr(legacy_survey.FolderSurvey, "run", run)
    facts = await copied(tmp_path / "source", target)
    assert {item["file"]: (item["outcome"], item["reasons"]) for item in facts["items"]} == {
        "same.json": ("copied", []),
        "r.json": ("quarantined", ["changed_during_copy"]),
    }
    monkeypatch.undo()
    assert counts(await copied(tmp_path / "source", target), "copied", "equal") == (1, 1)


async def test_an_unreadable_file_is_quarantined(tmp_path: Path) -> None:
    """Only somebody who is not root meets one, so where we are root we are nobody for a while."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        source.chmod(0o755)
        write(source, document("good"))
        await copied(source, "memory://")  # whatever has to be imported is
        write(source, document("x")).chmod(0)
        with _not_root():
            facts = await copied(source, "memory://")
    lines = {item["file"]: (item["outcome"], item["reasons"]) for item in facts["items"]}
    assert lines == {"x.json": ("quarantined", ["unreadable"]), "good.json": ("copied", [])}


@contextmanager
def _not_root() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


# what a reader with fewer cares gets wrong


@pytest.mark.parametrize(
    ("content", "outcome", "reason"),
    [
        (b'{"n": ' + b"9" * 5000 + b"}", "quarantined", "number_too_long"),
        (b'{"a": ' * 300 + b"1" + b"}" * 300, "quarantined", "nesting_too_deep"),
        (b'{"a":' * 256 + b"1" + b"}" * 256, "copied", None),
        (b"[" * 100_000, "quarantined", "nesting_too_deep"),
        (b'{"a": "' + b"[" * 100_000 + b'"}', "copied", None),
        (b'{"n": 1e999}', "copied", "non_standard_number"),
        (b'{"n": -Infinity}', "copied", "non_standard_number"),
        (b'{"s": "\\ud800"}', "copied", "lone_surrogate"),
        (b'{"s": "\\ud83d\\ude00"}', "copied", None),
        (b'{"a": 1, "a": 2}', "copied", "duplicate_key"),
        (b"\xef\xbb\xbf{}", "copied", "utf8_bom"),
        ('{"a": "é"}'.encode("utf-16-le"), "copied", "encoding_utf-16"),
        ('{"a": "é"}'.encode("utf-32"), "copied", "encoding_utf-32"),
        (b'{"a": "\xed\xa0\x80"}', "quarantined", "encoding"),
        (b"\xef\xbb\xbf", "quarantined", "empty_file"),
    ],
)
async def test_odd_texts(tmp_path: Path, target: str, content: bytes, outcome: str, reason: str | None) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "x.json").write_bytes(content)
    found = await _one(folder, target, "x.json")
    assert found["outcome"] == outcome
    assert reason is None or reason in found["reasons"]
    known = {"number_too_long", "non_standard_number", "lone_surrogate", "duplicate_key", "utf8_bom", "encoding"}
    assert reason in known or not known & set(found["reasons"])


async def test_too_large_a_document_is_quarantined_and_a_long_history_is_not(tmp_path: Path, target: str) -> None:
    large = document("large")
    large["settings"]["blob"] = "x" * (16 << 20)
    write(tmp_path / "source", large)
    write(tmp_path / "source", document("long", messages=20, text="y" * (1 << 20)))
    facts = await copied(tmp_path / "source", target)
    lines = {item["file"]: (item["outcome"], item["reasons"]) for item in facts["items"]}
    assert lines == {"large.json": ("quarantined", ["too_large"]), "long.json": ("copied", [])}


async def test_duplicates_are_decided_by_content_then_by_time(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "source"
    times = ("2024-05-15T17:00:00Z", "2024-05-15T18:00:00Z", "2024-05-15T18:00:00Z", None)
    for name, text, time in zip("pqrs", ("old", "new", "new", "unknown"), times, strict=True):
        write(folder, document("x", text=text, updated_at=time), f"{name}.json")
    facts = await copied(folder, target)
    lines = {item["file"]: (item["outcome"], item["reasons"][0]) for item in facts["items"]}
    assert lines == {
        "p.json": ("quarantined", "duplicate_session_id"),
        "q.json": ("copied", "filename_mismatch"),
        "r.json": ("duplicate", "identical_duplicate"),
        "s.json": ("quarantined", "duplicate_session_id"),
    }
    assert counts(facts, "read", "copied", "duplicate", "quarantined") == (4, 1, 1, 2)


async def test_a_stem_that_the_file_store_writes_for_an_id_is_read_as_that_id(tmp_path: Path, target: str) -> None:
    bare = {"note": 1}
    write(tmp_path / "source", bare, file_name("../x"))
    write(tmp_path / "source", bare | {"n": 2}, "50%.json")
    facts = await copied(tmp_path / "source", target)
    assert {item["file"]: item["id"] for item in facts["items"]} == {file_name("../x"): "../x", "50%.json": "50%"}


async def test_what_only_the_storage_refuses_is_quarantined_and_the_rest_of_its_batch_copied(
    tmp_path: Path, target: str
) -> None:
    """Document and metadata are each small enough, and together too large for one record."""
    many = document("many", notes="x" * (8 << 20))
    for made in (document("a"), many, document("z")):
        write(tmp_path / "source", made)
    facts = await copied(tmp_path / "source", target)
    lines = {item["id"]: (item["outcome"], item["reasons"]) for item in facts["items"]}
    assert lines == {"a": ("copied", []), "many": ("quarantined", ["too_large"]), "z": ("copied", [])}
    assert counts(facts, "read", "verified") == (3, 2)
    for number in range(300):
        write(tmp_path / "source", document(f"later{number}"))
    again = await copied(tmp_path / "source", target)
    assert counts(again, "equal", "quarantined", "copied") == (2, 1, 300)


@pytest.mark.parametrize("vanished", [["a.json"], ["a.json", "b.json"], ["a.json", "b.json", "c.json"]])
async def test_a_session_whose_file_vanished_is_copied_from_a_duplicate(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch, vanished: list[str]
) -> None:
    """Its duplicates count as done, so it must not be nowhere without a word."""
    files = {name: write(tmp_path / "source", document("x"), name) for name in ("a.json", "b.json", "c.json")}
    real = legacy_survey.FolderSurvey.run

    def run(self: legacy_survey.FolderSurvey) -> int:
        count = real(self)
        for name in vanished:
            files[name].unlink()
        return count

    monkeypatch.setattr(legacy_survey.FolderSurvey, "run", run)
    facts = await copied(tmp_path / "source", target)
    told = [(item["file"], item["outcome"], item["reasons"]) for item in facts["items"]]
    left = [name for name in files if name not in vanished]
    if left:
        assert (left[0], "copied", ["filename_mismatch", "duplicate_vanished"]) in told
        assert facts["exit_code"] == 0
    else:
        assert ("a.json", "quarantined", ["vanished"]) in told
        assert facts["exit_code"] == 3
    async with open_storage(target) as storage:
        assert await storage.exists("x", type="session") == bool(left)
