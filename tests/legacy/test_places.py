"""What a URL or a path names."""

import sqlite3
from pathlib import Path

import pytest

from legacy.migration import examine, inspect_place
from legacy.stores import known_formats, place_of
from tests.legacy.folders import document, listing, write
from tests.legacy.test_copy import copied
from unified_storage import StorageConfigurationError, StorageUnsupportedError, open_storage


def test_urls_name_formats_and_storages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of(f"legacy+file://{tmp_path}/a%20b").path == tmp_path / "a b"
    assert place_of("legacy+file://./rel").identity == f"legacy+file://{tmp_path.resolve()}/rel"
    assert place_of(f"jsonl://{tmp_path}/a.jsonl").kind == "jsonl"
    assert place_of("jsonl://./a.jsonl").identity == f"jsonl://{tmp_path.resolve()}/a.jsonl"
    assert place_of("sqlite:///rel.db").identity == f"sqlite:///{tmp_path.resolve()}/rel.db"
    assert place_of(f"sqlite:///{tmp_path}/rel.db").identity == place_of("sqlite:///rel.db").identity
    assert place_of("sqlite:///:memory:").path is None
    assert place_of("memory://").kind == "storage"


async def test_a_path_tells_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "files", document("a"))
    await copied(tmp_path / "files", f"sqlite:///{tmp_path}/ours.db")
    await copied(tmp_path / "files", f"jsonl://{tmp_path}/a.jsonl")
    assert place_of(tmp_path / "files").kind == "legacy"
    assert place_of(tmp_path / "ours.db").kind == "storage"
    assert place_of(tmp_path / "a.jsonl").kind == "jsonl"


async def test_a_store_that_is_open_elsewhere_is_known_too(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        await storage.save({"id": "a", "type": "note", "data": {}})
        assert place_of(tmp_path / "ours.db").kind == "storage"


def test_a_foreign_sqlite_file_is_refused_and_untouched(tmp_path: Path) -> None:
    file = tmp_path / "foreign.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE agno_sessions (x)")
    before = listing(tmp_path)
    with pytest.raises(StorageUnsupportedError, match="not supported in this version"):
        place_of(file)
    assert listing(tmp_path) == before
    connection.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.db", "does not exist"),
        ("agno+sqlite:///x.db", "not supported in this version"),
        ("legacy+redis://localhost", "not supported in this version"),
        ("legacy://x", "not supported in this version"),
        ("nosql://x", "known are"),
        ("legacy+file://folder", "write legacy"),
        ("legacy+file:///x?y=1", "no parameters"),
    ],
)
def test_what_names_no_place_is_told_what_to_write(text: str, told: str) -> None:
    with pytest.raises((StorageConfigurationError, StorageUnsupportedError), match=told):
        place_of(text)


def test_paths_that_do_not_tell_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("hello")
    for name in ("empty", "x.txt"):
        with pytest.raises(StorageConfigurationError):
            place_of(tmp_path / name)


def test_passwords_are_not_shown_nor_part_of_what_a_place_is_known_by(monkeypatch: pytest.MonkeyPatch) -> None:
    from unified_storage import opening

    monkeypatch.setitem(opening._registered, "fake", lambda *_, **__: None)
    place = place_of("fake://me:secret@host/db?namespace=n&pool_size=3")
    assert "secret" not in str(place)
    assert place.identity == "fake://host/db?namespace=n"


def test_every_format_says_what_it_can() -> None:
    formats = {format.name: format.to_dict() for format in known_formats()}
    assert {"legacy", "jsonl", "memory", "sqlite"} <= formats.keys()
    assert formats["legacy"]["reads"]
    assert formats["legacy"]["writes"]
    assert formats["legacy"]["lossy"]
    assert not formats["jsonl"]["lossy"]


async def test_a_foreign_sqlite_file_named_by_url_is_not_made_ours_by_reading(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign.db") as connection:
        connection.execute("CREATE TABLE agno_sessions (x)")
    connection.close()
    before = listing(tmp_path)
    for read in (inspect_place, examine):
        with pytest.raises(StorageUnsupportedError):
            await read(f"sqlite:///{tmp_path}/foreign.db")
    with pytest.raises(StorageUnsupportedError):
        await copied(f"sqlite:///{tmp_path}/foreign.db", "memory://")
    assert listing(tmp_path) == before
