"""What a URL or a path names."""

import sqlite3
from pathlib import Path

import pytest

from legacy.migration import examine, inspect_place
from legacy.stores import known_formats, place_of
from legacy.stores.peers.registry import peer_formats
from tests.legacy.folders import document, listing, write
from tests.legacy.test_copy import copied
from unified_storage import StorageConfigurationError, StorageUnsupportedError, open_storage, opening
from unified_storage.opening import parse_url


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


@pytest.mark.parametrize(
    "same",
    [
        ("postgresql://host/db", "postgres://HOST:5432/db", "postgresql://ann:pw@host/db?pool_size=3"),
        ("postgresql://b:1,A/db", "postgresql://a:5432,b:1/db", "postgresql:///db?host=a,b:1", "postgresql://b:1,a/x?database=db"),
        ("postgresql://ann@host", "postgresql://host/ann", "postgresql://ben:pw@host?dbname=ann&user=x"),
        ("postgresql:///db?host=/run/postgresql&password=p", "postgresql:///db?host=/run/postgresql"),
        ("postgresql://[::1]/db", "postgresql://[::1]:5432/db"),
        ("mysql://host/db", "mariadb://host:3306/db", "mysql://host/db?password=pw&ssl=true", "mysql:///db?host=host"),
        ("mysql:///db", "mysql://localhost/db", "mysql://ann:p/w@localhost:3306/db"),
        ("mysql:///db?unix_socket=/run/my.sock", "mysql://ann@host/db?unix_socket=/run/my.sock"),
        ("redis://host", "redis://host/", "redis://host:6379/0", "rediss://:pw@host", "redis://host?db=0", "REDIS://host"),
        ("redis://host/3", "redis://host?db=3&ssl_password=pw"),
        ("redis+cluster://b:7000,a", "rediss+cluster://ann:pw@A:6379,b:7000", "redis+cluster://a,b:7000/0"),
    ],
)  # fmt: skip
def test_a_place_is_known_again_however_its_url_is_written(same: tuple[str, ...]) -> None:
    assert len({place_of(url).identity for url in same}) == 1
    assert len({place_of(f"{url}{'&' if '?' in url else '?'}namespace=n").identity for url in same}) == 1


def test_different_places_are_known_apart() -> None:
    urls = [
        *("postgresql://host/db", "postgresql://host/DB", "postgresql://host:1/db", "postgresql://other/db"),
        *("postgresql://host/db?namespace=n", "postgresql://host/db?search_path=s", "mysql://host/db"),
        *("postgresql:///db?host=/run/a", "postgresql:///db?host=/run/A", "mysql:///db?unix_socket=/run/a"),
        *("redis://host", "redis://host/1", "redis://host/10", "redis+cluster://host", "memory://", "sqlite:///a.db"),
    ]
    assert len({place_of(url).identity for url in urls}) == len(urls)


def test_a_url_without_a_host_means_the_one_that_its_driver_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGHOST": "there", "PGPORT": "7", "PGDATABASE": "theirs"}.items():
        monkeypatch.setenv(name, value)
    assert place_of("postgresql://").identity == place_of("postgresql://there:7/theirs").identity
    assert place_of("postgresql://here/db").identity == "postgresql://here:5432/db"


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://ann:hush@h/db", "mysql://ann@corp:hush@h/db", "mysql://ann:hu/sh@h/db", "rediss://:hush@h/0"),
        *("postgresql://h/db?password=hush", "postgresql://h/db?sslpassword=hu,sh", "redis://h?ssl_password=hush"),
        *("mysql:///db?unix_socket=/run/m.sock&passwd=hush", "redis+cluster://u:hush@h1:7000,h2:7000"),
    ],
)
def test_no_password_is_shown_nor_kept_in_an_identity(url: str) -> None:
    place = place_of(url)
    for told in (str(place), repr(place), place.identity, repr(parse_url(url))):
        assert "hu" not in told
        assert "sh" not in told


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
    with pytest.raises(StorageUnsupportedError, match="another program"):
        place_of(file)
    assert listing(tmp_path) == before
    connection.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.db", "does not exist"),
        ("agno+redis://localhost", "do not live on 'redis'"),
        ("legacy+redis://localhost", "not supported in this version"),
        ("legacy://x", "not supported in this version"),
        ("nosql://x", "known are"),
        ("nosql+cluster://x", "not supported in this version"),
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
    monkeypatch.setitem(opening._registered, "fake", lambda *_, **__: None)
    place = place_of("fake://me:secret@host/db?namespace=n&pool_size=3")
    assert "secret" not in str(place)
    assert place.identity == "fake://host/db?namespace=n"


def test_every_format_says_what_it_can() -> None:
    formats = {format.name: format.to_dict() for format in known_formats()}
    assert formats["legacy"]["reads"]
    assert formats["legacy"]["writes"]
    assert formats["legacy"]["lossy"]
    assert not formats["jsonl"]["lossy"]


def test_every_engine_is_listed_once_with_a_url_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_registered", {"fake": lambda *_, **__: None})
    others = {"legacy", "jsonl", *(format.name for format in peer_formats())}
    urls = {format.name: format.url for format in known_formats() if format.name not in others}
    assert [*urls] == ["memory", "sqlite", "postgresql", "mysql", "redis", "redis+cluster", "fake"]
    for name, url in urls.items():
        assert place_of(url).kind == "storage"
        assert place_of(url).identity.startswith(f"{name}://")


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
