"""What a copy wrote into files is read back: a disk that keeps something else is found out (S2.52)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from legacy.file_store import FileSessionStore
from legacy.stores import archive_lines
from legacy.stores.parcels import Log
from tests.legacy.folders import document, write
from tests.legacy.test_copy import copied, counts
from unified_storage import open_storage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for id in ("a", "b", "c"):
        write(tmp_path / "source", document(id))
    return tmp_path / "source"


def reasons(facts: dict[str, Any]) -> dict[str, list[str]]:
    return {item["id"]: item["reasons"] for item in facts["items"] if item["reasons"]}


@pytest.mark.parametrize("kept", [{"other": 1}, None])
async def test_a_file_that_does_not_hold_its_session_is_a_mismatch(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any] | None
) -> None:
    save = FileSessionStore.save_session

    def spoiled(self: FileSessionStore, session_id: str, session_data: dict[str, Any]) -> bool:
        if session_id != "b":
            return save(self, session_id, session_data)
        return kept is None or save(self, session_id, {**session_data, **kept})

    monkeypatch.setattr(FileSessionStore, "save_session", spoiled)
    facts = await copied(source, f"legacy+file://{tmp_path}/target")
    assert counts(facts, "copied", "verified", "mismatched") == (3, 2, 1)
    assert reasons(facts) == {"b": ["mismatch:document"]}
    assert facts["exit_code"] == 3


async def _of_an_archive(source: Path, tmp_path: Path) -> None:
    facts = await copied(source, f"jsonl://{tmp_path}/target.jsonl")
    assert counts(facts, "copied", "verified", "mismatched") == (3, 2, 1)
    assert reasons(facts) == {"b": ["mismatch:lines"]}
    assert facts["exit_code"] == 3


@pytest.mark.parametrize("field", ["data", "metadata", "created_at", "updated_at", "id"])
async def test_a_record_line_that_holds_something_else_is_a_mismatch(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    def spoiled(record: Mapping[str, Any]) -> str:
        others = {"data": {"n": 1}, "metadata": {"n": 1}, "id": "bb"}
        other = others.get(field, record["created_at"].replace(year=1999))
        return archive_lines.record_line({**record, field: other} if record["id"] == "b" else record)

    monkeypatch.setattr("legacy.migration.into_archive.record_line", spoiled)
    await _of_an_archive(source, tmp_path)


async def test_a_record_line_that_is_cut_is_a_mismatch(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(record: Mapping[str, Any]) -> str:
        line = archive_lines.record_line(record)
        return line[:30] if record["id"] == "b" else line

    monkeypatch.setattr("legacy.migration.into_archive.record_line", spoiled)
    await _of_an_archive(source, tmp_path)


async def test_a_history_that_lacks_an_entry_is_a_mismatch(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(log: Log) -> Iterator[str]:
        lines = [*archive_lines.log_lines(log)]
        return iter(lines[:-1] if log["log_id"].endswith("/b") else lines)

    monkeypatch.setattr("legacy.migration.into_archive.log_lines", spoiled)
    await _of_an_archive(source, tmp_path)


@pytest.mark.parametrize(("field", "value"), [("thread_id", None), ("session_id", "s"), ("id", "bb"), ("type", "memo")])
async def test_a_store_that_is_archived_whole_is_read_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str | None
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    async with open_storage(url) as storage:
        await storage.batch_save([{"id": id, "type": "note", "data": {}, "thread_id": "t"} for id in "ab"])

    def spoiled(record: dict[str, Any]) -> str:
        return archive_lines.record_line(record | {field: value} if record["id"] == "b" else record)

    monkeypatch.setattr("legacy.migration.into_archive.record_line", spoiled)
    facts = await copied(url, f"jsonl://{tmp_path}/target.jsonl")
    assert (facts["others"]["verified"], facts["others"]["mismatched"]) == (1, 1)
    assert facts["exit_code"] == 3
