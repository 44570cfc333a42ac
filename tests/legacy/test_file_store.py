"""The file store without its old faults (T2.28), and the names of its files."""

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy import FileSessionStore, session_files
from legacy.file_store import file_name, session_id_of
from unified_storage import StorageError, StorageIntegrityError, StorageValidationError
from unified_storage.values import MAX_DEPTH, equal

LONG = "x" * 300


@pytest.fixture
def store(tmp_path: Path) -> FileSessionStore:
    return FileSessionStore(tmp_path / "sessions")


# -- names


@pytest.mark.parametrize(
    ("session_id", "name"),
    [
        ("airline-240515-163700-656406", "airline-240515-163700-656406.json"),
        ("Upper Case_1.2", "Upper Case_1.2.json"),
        ("会话-Ä", "会话-Ä.json"),
        ("~home", "~home.json"),
        ("../up", "%2E.%2Fup.json"),
        ("/etc/passwd", "%2Fetc%2Fpasswd.json"),
        ("..", "%2E..json"),
        (".", "%2E.json"),
        (".hidden", "%2Ehidden.json"),
        ("a\\b", "a%5Cb.json"),
        ("C:x", "C%3Ax.json"),
        ("50%", "50%25.json"),
        ("50%25", "50%2525.json"),
        ("nul\0", "nul%00.json"),
        ("line\nbreak", "line%0Abreak.json"),
        ("\x85", "%C2%85.json"),
        ("\ud800", "%ED%A0%80.json"),
        ("con", "%63on.json"),
        ("CON", "%43ON.json"),
        ("com1.txt", "%63om1.txt.json"),
        ("console", "console.json"),
        ("a.json", "a.json.json"),
    ],
)
def test_an_id_that_is_no_safe_file_name_is_encoded(session_id: str, name: str) -> None:
    assert file_name(session_id) == name
    assert session_id_of(name) == session_id


@given(st.text(st.characters(), min_size=1, max_size=80))
def test_a_name_stays_in_its_folder_and_names_one_id_alone(session_id: str) -> None:
    name = file_name(session_id)
    assert not set(name) & set('/\\\0:*?"<>|')
    assert not name.startswith(".")
    assert len(name.encode()) <= session_files.MAX_NAME_BYTES
    assert session_id_of(name) == (None if session_files.is_hashed(name) else session_id)


@given(st.text(min_size=1, max_size=30))
def test_a_name_that_was_not_made_here_means_no_id(name: str) -> None:
    session_id = session_id_of(name)
    assert session_id is None or file_name(session_id) == name


@pytest.mark.parametrize("name", ["a%2fb.json", "50%.json", "%41.json", "con.json", "a.JSON", "a", ".json", "%FF.json"])
def test_a_foreign_name_is_not_read_as_an_encoded_one(name: str) -> None:
    assert session_id_of(name) is None


def test_the_longest_plain_name_has_200_bytes() -> None:
    assert file_name("x" * 195) == "x" * 195 + ".json"
    assert session_id_of("x" * 195 + ".json") == "x" * 195
    assert session_files.is_hashed(file_name("x" * 196))
    assert session_files.is_hashed(file_name("é" * 98))
    assert session_id_of(file_name(LONG)) is None


def test_no_id_takes_the_name_of_anothers_hash() -> None:
    hashed = file_name(LONG)
    assert file_name(hashed.removesuffix(".json")) != hashed


def test_an_empty_id_has_no_name() -> None:
    with pytest.raises(StorageValidationError):
        file_name("")


# -- the file


def test_the_file_is_written_as_the_old_store_wrote_it(store: FileSessionStore) -> None:
    document = {"metadata": {"status": "active"}, "text": "Grüße 你好", "list": [1, 2.5, None, True], "empty": {}}
    assert store.save_session("s1", document)
    assert (store.path / "s1.json").read_bytes() == json.dumps(document, indent=2, ensure_ascii=False).encode()


def test_the_file_has_the_rights_that_other_files_get(store: FileSessionStore) -> None:
    store.save_session("s1", {})
    beside = store.path / "beside"
    beside.touch()
    assert stat.S_IMODE((store.path / "s1.json").stat().st_mode) == stat.S_IMODE(beside.stat().st_mode)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -0.0,
        1e22,
        2**200,
        0.1,
        "\0",
        "\ud800",
        "\udfff\ud800",
        "\U0001f600",
        "",
        [],
        {},
        {"": None},
    ],
)
def test_every_value_that_json_can_hold_comes_back_exactly(store: FileSessionStore, value: Any) -> None:
    assert store.save_session("s1", {"value": value}), store.last_error
    assert equal(store.get_session("s1"), {"value": value})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ((1, 2), "data.a[0].b"),
        (b"x", "data.a[0].b"),
        (datetime(2024, 1, 1, tzinfo=UTC), "data.a[0].b"),
        (Decimal("1.5"), "data.a[0].b"),
        ({1: "one"}, "data.a[0].b"),
        ({True: "yes"}, "data.a[0].b"),
        ({None: "no"}, "data.a[0].b"),
        ({"inner": {1, 2}}, "data.a[0].b.inner"),
        (type("Text", (str,), {})("x"), "data.a[0].b"),
    ],
)
def test_what_json_would_change_is_refused_with_its_path(store: FileSessionStore, value: Any, path: str) -> None:
    store.save_session("s1", {"before": 1})
    assert store.save_session("s1", {"a": [{"b": value}]}) is False
    assert isinstance(store.last_error, StorageValidationError)
    assert store.last_error.path == path
    assert store.get_session("s1") == {"before": 1}


@pytest.mark.parametrize("value", ["\ud83d\ude00", 10**4300], ids=["surrogates", "digits"])
def test_what_json_reads_back_as_something_else_is_refused(store: FileSessionStore, value: Any) -> None:
    assert store.save_session("s1", {"value": value}) is False
    assert isinstance(store.last_error, StorageValidationError)


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels - 1):
        document = {"inner": document}
    return document


def test_the_deepest_document_is_that_of_the_storage(store: FileSessionStore) -> None:
    assert store.save_session("deep", nested(MAX_DEPTH))
    assert store.get_session("deep") == nested(MAX_DEPTH)
    assert store.save_session("deep", nested(MAX_DEPTH + 1)) is False
    assert "levels" in str(store.last_error)


def test_a_document_inside_itself_is_refused(store: FileSessionStore) -> None:
    document: dict[str, Any] = {"list": []}
    document["list"] += [document, document]
    assert store.save_session("s1", document) is False
    assert "itself" in str(store.last_error)


def test_one_object_in_two_places_is_no_circle(store: FileSessionStore) -> None:
    shared = {"a": [1]}
    assert store.save_session("s1", {"x": shared, "y": [shared, shared]})
    assert store.get_session("s1") == {"x": shared, "y": [shared, shared]}


# -- one step


def test_a_failed_write_leaves_the_old_session_and_no_rubbish(store: FileSessionStore, monkeypatch) -> None:
    store.save_session("s1", {"version": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert store.save_session("s1", {"version": 2}) is False
    assert isinstance(store.last_error, OSError)
    assert os.listdir(store.path) == ["s1.json"]
    assert store.get_session("s1") == {"version": 1}


def test_file_and_folder_are_made_durable_in_this_order(store: FileSessionStore, monkeypatch) -> None:
    store.save_session("first", {})
    acts: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        acts.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        acts.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    assert store.save_session("s1", {})
    assert acts == ["file", "rename", "folder"]


def test_many_writers_of_one_session_never_mix_and_readers_never_see_half(store: FileSessionStore) -> None:
    versions = [{"writer": number, "text": str(number) * 50_000} for number in range(8)]
    store.save_session("s1", versions[0])
    stop = threading.Event()

    def write(version: dict[str, Any]) -> bool:
        return all(store.save_session("s1", version) for _ in range(10))

    def read() -> bool:
        while not stop.is_set():
            if store.get_session("s1") not in versions:
                return False
        return True

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(write, version) for version in versions]
        results = [writer.result(20) for writer in writers]
        stop.set()
        assert all(results)
        assert all(reader.result(5) for reader in readers)
    assert os.listdir(store.path) == ["s1.json"]


KILLED = """
import sys
from legacy import FileSessionStore
store = FileSessionStore(sys.argv[1])
print("begun", flush=True)
number = 0
while True:
    number += 1
    assert store.save_session("s1", {"number": number, "text": "x" * 200_000})
"""


def test_a_killed_writer_leaves_a_whole_session(store: FileSessionStore) -> None:
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(store.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "begun\n"
            try:
                writer.wait(0.15)
            except subprocess.TimeoutExpired:
                writer.kill()
        found = store.get_session("s1")
        assert found is not None
        assert len(found["text"]) == 200_000
        assert [facts["session_id"] for facts in store.list_sessions()] == ["s1"]


# -- damage


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b'{"a": "\xff"}', b'{"a": 1} {}', b"[" * 100_000])
def test_a_damaged_file_is_reported_and_never_taken_for_absent(tmp_path: Path, content: bytes) -> None:
    told: list[Exception] = []
    store = FileSessionStore(tmp_path, on_error=told.append)
    (tmp_path / "s1.json").write_bytes(content)
    assert store.get_session("s1") is None
    assert isinstance(store.last_error, StorageIntegrityError)
    assert store.last_error.details == {"file": "s1.json"}
    assert told == [store.last_error]
    assert store.session_exists("s1") is True


def test_a_damaged_file_does_not_hide_the_others_from_the_listing(tmp_path: Path, caplog) -> None:
    told: list[Exception] = []
    store = FileSessionStore(tmp_path, on_error=told.append)
    store.save_session("good", {})
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "worse.json").write_text("[]")
    assert [facts["session_id"] for facts in store.list_sessions()] == ["good"]
    assert len(told) == len(caplog.records) == 2
    assert store.last_error in told


def test_strict_raises_what_went_wrong(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path, strict=True)
    (tmp_path / "s1.json").write_text("{")
    with pytest.raises(StorageIntegrityError):
        store.get_session("s1")
    with pytest.raises(StorageIntegrityError):
        store.list_sessions()
    with pytest.raises(StorageValidationError):
        store.save_session("s2", {"a": (1,)})
    assert store.get_session("nobody") is None
    assert isinstance(store.last_error, StorageError) is False


def test_a_folder_that_is_a_file_is_a_failure_of_every_call(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    store = FileSessionStore(place)
    assert store.save_session("s1", {}) is False
    assert isinstance(store.last_error, OSError)
    assert store.list_sessions() == []
    assert isinstance(store.last_error, OSError)
    assert store.get_session("s1") is None
    assert isinstance(store.last_error, OSError)


def test_only_regular_json_files_are_listed(store: FileSessionStore) -> None:
    store.save_session("s1", {})
    (store.path / "s1.tmp").write_text("{}")
    (store.path / "notes.txt").write_text("{}")
    (store.path / "folder.json").mkdir()
    os.mkfifo(store.path / "pipe.json")
    assert [facts["session_id"] for facts in store.list_sessions()] == ["s1"]
    assert store.last_error is None


def test_the_listing_is_newest_first_whatever_the_spelling_of_times(store: FileSessionStore) -> None:
    for session_id, time in {
        "middle": "2024-05-15T12:00:00+00:00",
        "newest": "2024-05-15T11:00:00-05:00",
        "oldest": 1_500_000_000,
        "unknown": None,
    }.items():
        store.save_session(session_id, {"metadata": {"updated_at": time}})
    assert [facts["session_id"] for facts in store.list_sessions()] == ["newest", "middle", "oldest", "unknown"]


# -- folders of the old writer


@pytest.mark.parametrize("session_id", ["50%", "a:b", ".hidden", "con", "y" * 240])
def test_a_file_of_the_old_writer_is_found_and_replaced_under_its_name(
    store: FileSessionStore, session_id: str
) -> None:
    store.path.mkdir()
    old = store.path / f"{session_id}.json"
    old.write_text('{"version": 1}')
    assert store.get_session(session_id) == {"version": 1}
    assert [facts["session_id"] for facts in store.list_sessions()] == [session_id]
    assert store.save_session(session_id, {"version": 2})
    assert os.listdir(store.path) == [old.name]
    assert store.delete_session(session_id)
    assert store.session_exists(session_id) is False


def test_an_encoded_name_is_never_taken_for_another_id(store: FileSessionStore) -> None:
    store.save_session("a/b", {"mine": True})
    assert store.get_session("a%2Fb") is None
    assert store.save_session("a%2Fb", {"other": True})
    assert store.get_session("a/b") == {"mine": True}


def test_files_with_a_byte_order_mark_or_in_utf_16_are_read(store: FileSessionStore) -> None:
    store.path.mkdir()
    (store.path / "bom.json").write_bytes("\ufeff{}".encode())
    (store.path / "wide.json").write_bytes('{"a": "ü"}'.encode("utf-16"))
    assert store.get_session("bom") == {}
    assert store.get_session("wide") == {"a": "ü"}


def test_the_fixture_sessions_are_read_and_written_back_byte_for_byte(fixtures_dir: Path, tmp_path: Path) -> None:
    source, target = FileSessionStore(fixtures_dir / "legacy_files"), FileSessionStore(tmp_path)
    listed = source.list_sessions()
    assert len(listed) == 60
    for facts in listed:
        document = source.get_session(facts["session_id"])
        assert document is not None
        assert target.save_session(facts["session_id"], document)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (source.path / file.name).read_bytes()
    assert target.list_sessions() == listed


# -- ids too long for a name


def test_the_id_that_a_name_cannot_hold_stands_in_the_document(store: FileSessionStore) -> None:
    document = {"metadata": {"status": "active"}, "a": 1}
    assert store.save_session(LONG, document)
    assert document == {"metadata": {"status": "active"}, "a": 1}
    assert store.get_session(LONG) == {"metadata": {"status": "active", "session_id": LONG}, "a": 1}
    assert [facts["session_id"] for facts in store.list_sessions()] == [LONG]


@pytest.mark.parametrize(
    "document",
    [
        {"metadata": {"session_id": LONG}},
        {"context": {"session_id": LONG}, "interactions": []},
        {"session_id": LONG, "name": "canonical"},
    ],
)
def test_a_document_that_has_its_id_is_stored_as_it_is(store: FileSessionStore, document: dict[str, Any]) -> None:
    assert store.save_session(LONG, document)
    assert store.get_session(LONG) == document
    assert [facts["session_id"] for facts in store.list_sessions()] == [LONG]


@pytest.mark.parametrize("metadata", [{"session_id": "another"}, ["no object"], "text"])
def test_a_document_that_cannot_hold_a_long_id_is_refused(store: FileSessionStore, metadata: Any) -> None:
    assert store.save_session(LONG, {"metadata": metadata}) is False
    assert isinstance(store.last_error, StorageValidationError)
    assert store.session_exists(LONG) is False


def test_a_missing_metadata_object_is_made_for_a_long_id(store: FileSessionStore) -> None:
    assert store.save_session(LONG, {"metadata": None})
    assert store.get_session(LONG) == {"metadata": {"session_id": LONG}}


def test_a_pipe_in_the_place_of_a_file_is_damage_and_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    store = FileSessionStore(tmp_path)
    assert store.get_session("a") is None
    assert store.last_error is not None
