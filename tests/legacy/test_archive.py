"""The archive (`jsonl`): its lines, its damage, and being written over."""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from legacy.stores.archive_lines import log_lines, read_line, record_line
from tests.legacy.folders import contents_of, document, write
from tests.legacy.test_copy import copied, counts
from tests.legacy.test_copy_between_stores import ODD, deep, fill
from unified_storage import StorageConfigurationError, StorageIntegrityError, open_storage
from unified_storage.values import equal

NOW = datetime(2024, 5, 15, 20, 37, tzinfo=UTC)


def a_record(**fields: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("metadata", "session_id", "thread_id", "expires_at"))
    return {"id": "a", "type": "note", "data": {}, **blank, "version": 3, "created_at": NOW, "updated_at": NOW} | fields


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive.jsonl"


@pytest.fixture
async def stored(tmp_path: Path, archive: Path) -> str:
    url = f"sqlite:///{tmp_path}/store.db"
    async with open_storage(url) as storage:
        await fill(storage)
    await copied(url, f"jsonl://{archive}")
    return url


async def test_an_archive_is_a_header_then_records_by_id_each_with_its_logs(stored: str, archive: Path) -> None:
    lines = [json.loads(line) for line in archive.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"format": "unified-storage", "version": 1}
    records = [(line["id"], line["type"]) for line in lines if line.get("kind") == "record"]
    assert records == [
        ("canonical", "session"),
        ("deep", "note"),
        ("listed", "note"),
        ("listed", "session"),
        ("note", "note"),
    ]
    owner = None
    for line in lines[1:]:
        if line["kind"] == "record":
            owner = line["id"]
            assert line.keys() == {"kind", *a_record()}
            assert datetime.fromisoformat(line["created_at"]).utcoffset() is not None
        elif line["kind"] == "log":
            assert line.keys() == {"kind", "log_id", "last_seq"}
            assert line["log_id"].partition("/")[2] == owner
            log = line["log_id"]
        else:
            assert line.keys() == {"kind", "log_id", "seq", "key", "created_at", "body"}
            assert line["log_id"] == log


@pytest.mark.parametrize("data", [ODD, {"d": deep(255)}, {"text": "\ud800", "list": ["a,b", {"}": "{"}]}, {}])
def test_a_record_reads_back_exactly(data: dict[str, Any]) -> None:
    kind, found = read_line(record_line(a_record(data=data, metadata=data, expires_at=NOW)).encode())
    assert kind == "record"
    assert equal(found, a_record(data=data, metadata=data, expires_at=NOW))


def test_a_log_reads_back_exactly() -> None:
    entries: list[dict[str, Any]] = [
        {"seq": 2, "key": None, "created_at": NOW, "body": ODD},
        {"seq": 5, "key": "k", "created_at": NOW, "body": 1},
    ]
    first, *rest = [
        read_line(line.encode()) for line in log_lines({"log_id": "l/a", "last_seq": 9, "entries": entries})
    ]
    assert first == ("log", {"log_id": "l/a", "last_seq": 9})
    assert [kind for kind, _ in rest] == ["entry", "entry"]
    assert equal([fields for _, fields in rest], [{"log_id": "l/a", **entry} for entry in entries])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b'{"kind":"note"}',
        b'{"kind":"log","log_id":"l/a"}',
        b'{"kind":"log","log_id":7,"last_seq":1}',
        b'{"kind":"entry","log_id":"l/a","seq":1,"key":null,"created_at":"yesterday","body":1}',
        b'{"kind":"entry","log_id":"l/a","seq":1,"key":null,"created_at":"2024-01-01T00:00:00","body":1}',
        b'{"kind":"entry","log_id":"l/a","seq":1,"key":null,"created_at":"2024-01-01T00:00:00Z","body":{"$type":"x"}}',
        b'{"kind":"log","log_id":"l/a","last_seq":1,"s":"\\ud800"',
        b"\xff",
    ],
)
def test_a_damaged_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_line(line)


@pytest.mark.parametrize("cut", [1, 20])
async def test_a_cut_off_archive_costs_its_last_record_and_names_the_line(
    stored: str, archive: Path, tmp_path: Path, cut: int
) -> None:
    archive.write_bytes(archive.read_bytes()[:-cut])
    last = len(archive.read_bytes().splitlines())
    facts = await copied(archive, f"sqlite:///{tmp_path}/other.db")
    [lost] = [item for item in facts["items"] if item["outcome"] == "quarantined"]
    assert lost["id"] == "note"
    assert lost["reasons"] == ["damaged_line"]
    assert lost["detail"].startswith(f"line {last}:")
    assert counts(facts, "copied") == (2,)
    assert facts["exit_code"] == 3


@pytest.mark.parametrize("number", [2, 3, 4, 8])
async def test_a_damaged_line_costs_its_record_alone(stored: str, archive: Path, tmp_path: Path, number: int) -> None:
    lines = archive.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1][:10] + b"#\n"
    archive.write_bytes(b"".join(lines))
    facts = await copied(archive, f"sqlite:///{tmp_path}/other.db")
    taken = facts["ledger"]["copied"] + facts["others"]["copied"]
    lost = facts["ledger"]["quarantined"] + facts["others"]["quarantined"]
    assert taken + lost == 5
    assert lost == 1
    details = [item["detail"] for item in facts["items"] if item["outcome"] == "quarantined"]
    assert any(detail.startswith(f"line {number}:") for detail in details)


@pytest.mark.parametrize("damage", [lambda line: b"X" + line[1:], lambda _: b"\n", lambda line: line[40:]])
@pytest.mark.parametrize("id", ["listed", "note"])
async def test_a_damaged_record_line_spares_the_session_before_it(
    stored: str, archive: Path, tmp_path: Path, damage: Callable[[bytes], bytes], id: str
) -> None:
    lines = archive.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if line.startswith(f'{{"kind":"record","id":"{id}"'.encode()))
    lines[number] = damage(lines[number])
    archive.write_bytes(b"".join(lines))
    facts = await copied(archive, f"sqlite:///{tmp_path}/other.db")
    found = await contents_of(f"sqlite:///{tmp_path}/other.db")
    before = ("deep", "note") if id == "listed" else ("listed", "session")
    assert before in found["records"]
    [lost] = [item for item in facts["items"] if item["outcome"] == "quarantined"]
    assert lost["detail"].startswith(f"line {number + 1}:")
    assert facts["exit_code"] == 3


async def test_a_damaged_entry_costs_its_session_also_where_its_head_is_gone(
    stored: str, archive: Path, tmp_path: Path
) -> None:
    """What is left of a session is never taken for all of it."""
    whole = archive.read_bytes().splitlines(keepends=True)
    owned = [n for n, line in enumerate(whole) if line.startswith((b'{"kind":"log"', b'{"kind":"entry"'))]
    for number in owned:
        lines = [*whole[:number], b"#\n", *whole[number + 1 :]]
        archive.write_bytes(b"".join(lines))
        url = f"sqlite:///{tmp_path}/without_{number}.db"
        facts = await copied(archive, url)
        assert facts["exit_code"] == 3
        if number + 1 in owned:
            found = await contents_of(url)
            owner = next(json.loads(line) for line in reversed(whole[:number]) if line.startswith(b'{"kind":"record"'))
            assert (owner["id"], owner["type"]) not in found["records"], number + 1
            assert len(found["records"]) >= 4


async def test_records_out_of_order_are_quarantined(archive: Path, tmp_path: Path) -> None:
    header = '{"format":"unified-storage","version":1}\n'
    archive.write_text(header + "".join(record_line(a_record(id=id)) for id in "abaac"))
    facts = await copied(archive, f"sqlite:///{tmp_path}/other.db")
    assert facts["others"]["copied"] == 3
    assert [item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined"] == [["out_of_order"]] * 2


@pytest.mark.parametrize("header", ["", "{}\n", '{"format":"unified-storage","version":2}\n', "hello\n"])
async def test_what_is_no_archive_of_ours_is_refused(archive: Path, header: str) -> None:
    archive.write_text(header)
    with pytest.raises(StorageIntegrityError, match="line 1"):
        await copied(archive, "memory://")


async def test_nothing_new_leaves_the_archive_untouched(stored: str, archive: Path) -> None:
    before = (archive.stat().st_ino, archive.read_bytes())
    facts = await copied(stored, f"jsonl://{archive}")
    assert counts(facts, "equal", "copied") == (2, 0)
    assert (archive.stat().st_ino, archive.read_bytes()) == before
    assert sorted(path.name for path in archive.parent.iterdir() if "archive" in path.name) == ["archive.jsonl"]


async def test_a_later_state_replaces_the_archived_one_only_when_told_and_others_stay(
    stored: str, archive: Path, tmp_path: Path
) -> None:
    async with open_storage(stored) as storage:
        await storage.append("track:main/listed", [{"body": {"n": 2}}])
        await storage.delete("note", type="note")
    facts = await copied(stored, f"jsonl://{archive}")
    assert counts(facts, "conflict", "equal") == (1, 1), "an archive does not know whose record it has"
    facts = await copied(stored, f"jsonl://{archive}", overwrite_conflicts=True)
    assert counts(facts, "copied", "equal") == (1, 1)
    await copied(archive, f"sqlite:///{tmp_path}/other.db")
    found = await contents_of(f"sqlite:///{tmp_path}/other.db")
    assert ("note", "note") in found["records"], "nothing is ever deleted"
    assert [entry["body"] for entry in found["logs"]["track:main/listed"][1]] == [{"n": 1}, {"n": 2}]


async def test_another_sources_record_in_the_archive_is_a_conflict(archive: Path, tmp_path: Path) -> None:
    write(tmp_path / "one", document("a", text="one"))
    write(tmp_path / "two", document("a", text="two"))
    await copied(tmp_path / "one", f"jsonl://{archive}")
    before = archive.read_bytes()
    facts = await copied(tmp_path / "two", f"jsonl://{archive}")
    assert counts(facts, "conflict") == (1,)
    assert archive.read_bytes() == before
    facts = await copied(tmp_path / "two", f"jsonl://{archive}", overwrite_conflicts=True)
    assert counts(facts, "copied") == (1,)


async def test_a_newer_session_of_another_source_is_never_taken_for_a_later_state(tmp_path: Path) -> None:
    archive = tmp_path / "both.jsonl"
    write(tmp_path / "one", document("a", text="one"))
    later = document("a", text="two")
    later["metadata"]["updated_at"] = "2030-01-01T00:00:00+00:00"
    write(tmp_path / "two", later)
    await copied(tmp_path / "one", f"jsonl://{archive}")
    assert counts(await copied(tmp_path / "two", f"jsonl://{archive}"), "conflict") == (1,)


async def test_a_line_with_two_records_is_damage(stored: str, archive: Path, tmp_path: Path) -> None:
    """A newline that got lost must not cost a session without a word."""
    lines = archive.read_text().splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith('{"kind":"record"')]
    last = places[-1]
    joined = [*lines[: last - 1], lines[last - 1] + lines[last], *lines[last + 1 :]]
    archive.write_text("\n".join(joined) + "\n")
    facts = await copied(archive, f"sqlite:///{tmp_path}/joined.db")
    assert facts["exit_code"] == 3


@pytest.mark.parametrize("odd", ["{} x", "x {}", "[1]{}", '{}{"id":"zz"}'])
def test_what_stands_beside_an_object_is_damage(odd: str) -> None:
    line = record_line(a_record()).strip()
    with pytest.raises(ValueError, match="object"):
        read_line(odd.replace("{}", line, 1).encode())


async def test_an_archive_behind_a_link_is_written_where_it_is(tmp_path: Path) -> None:
    write(tmp_path / "one", document("a"))
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real" / "there.jsonl")
    await copied(tmp_path / "one", f"jsonl://{link}")
    assert link.is_symlink()
    assert (tmp_path / "real" / "there.jsonl").is_file()


async def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    write(tmp_path / "one", document("a"))
    os.mkfifo(tmp_path / "pipe.jsonl")
    pipe = f"jsonl://{tmp_path}/pipe.jsonl"
    for source, target in ((tmp_path / "one", pipe), (pipe, "memory://")):
        with pytest.raises(StorageConfigurationError, match="archive"):
            await asyncio.wait_for(copied(source, target), 5)


async def test_a_failed_copy_leaves_the_old_archive(stored: str, archive: Path, monkeypatch: Any) -> None:
    before = archive.read_bytes()
    async with open_storage(stored) as storage:
        await storage.save({"id": "aaa", "type": "note", "data": {}})
    monkeypatch.setattr("legacy.migration.into_archive.os.fsync", _no_space)
    with pytest.raises(OSError, match="no space"):
        await copied(stored, f"jsonl://{archive}")
    assert archive.read_bytes() == before
    assert not [path for path in archive.parent.iterdir() if path.name.endswith(".part")]


def _no_space(_: int) -> None:
    raise OSError("no space")
