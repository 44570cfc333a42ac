"""LangChain's histories: rows, lists and files, there and back, and how much reading them takes."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from legacy.migration import inspect_place
from legacy.stores.peers.kinds import PeerSession, Unit
from legacy.stores.peers.langchain_rows import Histories
from legacy.stores.peers.registry import open_to_read, opening_of
from legacy.stores.peers.rows import open_rows
from legacy.stores.places import place_of
from session_adapter import SessionStorageAdapter
from tests.engines import engine_url
from tests.legacy.peers.fixture_stores import FixtureStore, canonical, dumped, load_dump
from tests.legacy.peers.libraries import found_by
from tests.legacy.test_copy import copied, counts
from tests.places import engines
from tests.support import scaled
from unified_storage import StorageConfigurationError, StorageUnsupportedError, open_storage

STORES = {"langchain_sql": "sql", "langchain_redis": "redis", "langchain_file": "file"}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "And a coffee?"},
    {
        "role": "assistant",
        "content": "One moment.",
        "tool_calls": [{"id": "c1", "function": {"name": "order", "arguments": '{"what": "coffee",  "cups": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "order", "content": "ordered"},
    {"role": "assistant", "content": "There it is."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "You are welcome."},
]
IDS = ["a:b", "a/b", "{a}", "😀 é", "x" * 255, "..", "%", "message_store:x", " spaced "]


def human(text: str) -> dict[str, Any]:
    return {"type": "human", "data": {"content": text, "additional_kwargs": {}, "response_metadata": {}}}


@pytest.fixture
def ours(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ours.db"


@pytest.fixture(params=STORES)
def stored(request: pytest.FixtureRequest, fixtures_dir: Path) -> FixtureStore:
    return FixtureStore(request.param)


@pytest.fixture
def places(stored: FixtureStore, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The store's URL, and that of an empty one of its kind."""
    if stored.lives_on == "redis":
        load_dump(request.getfixturevalue("empty_redis"), stored.dump())
        server = request.getfixturevalue("redis_server")
        return f"langchain+{server}", f"langchain+{server}?prefix=back:"
    if stored.lives_on == "file":
        return f"langchain+file://{stored.copied_to(tmp_path)}", f"langchain+file://{tmp_path}/back"
    return f"langchain+sqlite:///{stored.copied_to(tmp_path)}", f"langchain+sqlite:///{tmp_path}/back.db"


def contents(url: str, client: redis.Redis | None) -> Any:
    """Everything that stands there, as it is spelled."""
    path = url.partition("?")[0].partition("://")[2]
    if client is not None:
        begin = url.partition("prefix=")[2] or "message_store:"
        return {key[len(begin) :]: told for key, told in dumped(client).items() if key.startswith(begin)}
    if url.startswith("langchain+file"):
        return {file.name: file.read_bytes() for file in Path(path).iterdir()}
    with closing(sqlite3.connect(path[1:] if path.startswith("//") else path)) as connection:
        return connection.execute("SELECT session_id, message FROM message_store ORDER BY session_id, id").fetchall()


async def test_every_message_comes_back_letter_for_letter(
    stored: FixtureStore, places: tuple[str, str], ours: str, request: pytest.FixtureRequest
) -> None:
    source, back = places
    client = request.getfixturevalue("empty_redis") if stored.lives_on == "redis" else None
    await copied(source, ours)
    facts = await copied(ours, back)
    assert counts(facts, "copied", "mismatched", "quarantined") == (20, 0, 0)
    assert contents(back, client) == contents(source, client)
    assert counts(await copied(ours, back), "equal") == (20,)


async def test_the_library_reads_what_went_on_here(stored: FixtureStore, places: tuple[str, str], ours: str) -> None:
    source, _ = places
    await copied(source, ours)
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        for id in stored.conversations:
            for turn in TURNS:
                await events.append(id, turn)
        expected = {id: canonical().canon_sha(await events.read(id)) for id in stored.conversations}
    facts = await copied(ours, source, overwrite_conflicts=True)
    assert counts(facts, "copied", "mismatched") == (20, 0)
    place = source.partition("+")[2]
    place = place.removeprefix("file://") if place.startswith("file://") else place
    found = found_by(
        "langchain_histories.py", "langchain_community", STORES[stored.name], place, told=[*stored.conversations]
    )
    assert {id: canonical().canon_sha(messages) for id, messages in found.items()} == expected


async def written_here(url: str, ids: Iterable[str]) -> None:
    async with open_storage(url) as storage:
        for id in ids:
            await SessionStorageAdapter(storage).save_session(id, {"session_id": id})
            await SessionStorageAdapter(storage).events.append(id, {"role": "user", "content": id})


async def test_ids_are_taken_as_they_are(
    ours: str, tmp_path: Path, redis_server: str, empty_redis: redis.Redis
) -> None:
    await written_here(ours, IDS)
    for number, url in enumerate(
        (f"langchain+sqlite:///{tmp_path}/l.db", f"langchain+{redis_server}", f"langchain+file://{tmp_path}/l")
    ):
        facts = await copied(ours, url)
        refused = [item["id"] for item in facts["items"] if item["outcome"] == "quarantined"]
        assert refused == (["x" * 255] if "file" in url else []), "too long for a file's name"
        back = f"sqlite:///{tmp_path}/back{number}.db"
        await copied(url, back)
        async with open_storage(back) as storage:
            events = SessionStorageAdapter(storage).events
            said = {id: [each["content"] for each in await events.read(id)] for id in IDS if id not in refused}
        assert said == {id: [id] for id in IDS if id not in refused}


async def test_sessions_without_messages_are_told(ours: str, tmp_path: Path, redis_server: str) -> None:
    await written_here(ours, ["said"])
    async with open_storage(ours) as storage:
        await SessionStorageAdapter(storage).save_session("silent", {"session_id": "silent"})
    for url in (f"langchain+sqlite:///{tmp_path}/l.db", f"langchain+{redis_server}?prefix=e:"):
        facts = await copied(ours, url)
        assert counts(facts, "copied", "mismatched", "quarantined") == (1, 0, 0)
        assert [(item["id"], *item["reasons"]) for item in facts["items"] if item["outcome"] == "ignored"] == [
            ("silent", "no_messages")
        ]
        assert "empty_sessions" in facts["lossy"]
    facts = await copied(ours, f"langchain+file://{tmp_path}/files")
    assert counts(facts, "copied", "mismatched") == (2, 0)
    assert json.loads((tmp_path / "files" / "silent.json").read_text()) == []


# SQL


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        yield connection


def table(database: sqlite3.Connection, name: str, rows: Iterable[tuple[Any, ...]], further: str = "") -> None:
    database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, session_id TEXT, message TEXT{further})")
    database.execute("BEGIN")
    database.executemany(f"INSERT INTO {name} (session_id, message) VALUES (?, ?)", rows)
    database.execute("COMMIT")


async def test_which_of_several_tables_is_told(database: sqlite3.Connection, tmp_path: Path, ours: str) -> None:
    table(database, "one", [("s", json.dumps(human("of one")))])
    table(database, "two", [("s", json.dumps(human("of two")))])
    table(database, "own", [("s", json.dumps(human("of own")))], ", channel TEXT")
    url = f"langchain+sqlite:///{tmp_path}/l.db"
    with pytest.raises(StorageConfigurationError, match="one, two"):
        await inspect_place(url)
    for name in ("two", "own"):
        await copied(f"{url}?tables={name}", f"sqlite:///{tmp_path}/{name}.db")
        async with open_storage(f"sqlite:///{tmp_path}/{name}.db") as storage:
            assert [each["content"] for each in await SessionStorageAdapter(storage).events.read("s")] == [f"of {name}"]
    with pytest.raises(StorageUnsupportedError, match="channel"):
        await copied(f"sqlite:///{tmp_path}/two.db", f"{url}?tables=own")


async def test_a_row_that_is_no_message_stays_as_it_is(database: sqlite3.Connection, tmp_path: Path, ours: str) -> None:
    texts = [json.dumps(human("first")), '{"type": "hu', '"text"', "[1]", "", "[" * 3000, json.dumps(human("last"))]
    table(database, "message_store", [*(("s", text) for text in texts), (None, "{}"), ("t", None)])
    facts = await copied(tmp_path / "l.db", ours)
    assert counts(facts, "copied", "quarantined") == (2, 1)
    reasons = {item["id"]: item["reasons"] for item in facts["items"]}
    assert "unreadable_message" in reasons["s"]
    assert reasons[None] == ["no_session_id"]
    async with open_storage(ours) as storage:
        assert [each["content"] for each in await SessionStorageAdapter(storage).events.read("s")] == ["first", "last"]
    await copied(ours, f"langchain+sqlite:///{tmp_path}/back.db")
    with closing(sqlite3.connect(tmp_path / "back.db")) as back:
        told = back.execute("SELECT message FROM message_store WHERE session_id = 's' ORDER BY id").fetchall()
    assert [text for (text,) in told] == texts


async def test_reading_costs_as_much_as_there_is(database: sqlite3.Connection, tmp_path: Path) -> None:
    """No look at all messages for each session: the table has no index by session, the copy that is read has one."""
    many = scaled(100_000, minimum=1_000)
    text = json.dumps(human("Hello"))
    table(database, "message_store", ((f"s{at % many:06d}", text) for at in range(2 * many)))
    before = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    store = await open_to_read(opening_of(f"langchain+sqlite:///{tmp_path}/l.db"))
    assert isinstance(store, Histories)
    try:
        plan = await store._rows.select("EXPLAIN QUERY PLAN SELECT message FROM message_store WHERE session_id = 'x'")
        assert "USING INDEX" in plan[0]["detail"]
        units = [unit for batch in [batch async for batch in store.units()] for unit in batch]
        assert len(units) == many
        assert all(isinstance(unit, Unit) for unit in units)
    finally:
        await store.close()
    assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == before


# servers

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


@pytest.fixture(params=engines("postgresql", "mysql"))
async def on_server(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, str]]:
    """A server's URL, and the name of a table there that is gone afterwards."""
    place, name = engine_url(request.param), f"histories_{secrets.token_hex(6)}"
    yield place, name
    rows = await open_rows(replace(opening_of(f"langchain+{place}"), to_write=True))
    async with rows.written():
        await rows.execute(f"DROP TABLE IF EXISTS {rows.quoted(name)}")
    await rows.close()


async def test_a_table_on_a_server_is_read_once(
    on_server: tuple[str, str], ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "langchain+{}?tables={}".format(*on_server)
    await written_here(ours, IDS)
    facts = await copied(ours, url)
    assert counts(facts, "copied", "mismatched") == (len(IDS), 0)
    store = await open_to_read(opening_of(url))
    assert isinstance(store, Histories)
    try:
        units = [unit for batch in [batch async for batch in store.units()] for unit in batch]
        monkeypatch.setattr(store._rows, "select", None)  # what was surveyed is read without it
        found = await store.read([unit for unit in units if isinstance(unit, Unit)])
    finally:
        await store.close()
    assert sorted(str(one.key) for one in found if isinstance(one, PeerSession)) == sorted(IDS)


async def test_the_library_reads_what_was_written_to_a_server(
    on_server: tuple[str, str], fixtures_dir: Path, tmp_path: Path, ours: str
) -> None:
    place, name = on_server
    stored = FixtureStore("langchain_sql")
    await copied(f"langchain+sqlite:///{stored.copied_to(tmp_path)}", ours)
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        for id in stored.conversations:
            for turn in TURNS:
                await events.append(id, turn)
        expected = {id: canonical().canon_sha(await events.read(id)) for id in stored.conversations}
    assert counts(await copied(ours, f"langchain+{place}?tables={name}"), "copied", "mismatched") == (20, 0)
    scheme, _, rest = place.partition("://")
    told = ("sql", f"{DRIVERS[scheme]}://{rest}", name)
    found = found_by("langchain_histories.py", "langchain_community", *told, told=[*stored.conversations])
    assert {id: canonical().canon_sha(messages) for id, messages in found.items()} == expected


# Redis


async def test_a_list_expires_here_as_it_does_there(ours: str, redis_server: str, empty_redis: redis.Redis) -> None:
    empty_redis.lpush("message_store:s", json.dumps(human("first")), json.dumps(human("second")))
    empty_redis.pexpire("message_store:s", 500_000)
    empty_redis.set("message_store:odd", "x")
    when = empty_redis.pexpiretime("message_store:s")
    url = f"langchain+{redis_server}"
    facts = await copied(url, ours)
    assert [(item["file"], *item["reasons"]) for item in facts["items"] if item["outcome"] == "ignored"] == [
        ("message_store:odd", "wrong_type")
    ]
    async with open_storage(ours) as storage:
        assert [each["content"] for each in await SessionStorageAdapter(storage).events.read("s")] == [
            "first",
            "second",
        ]
    empty_redis.delete("message_store:s")
    await copied(ours, url)
    assert empty_redis.pexpiretime("message_store:s") == when
    assert counts(await copied(url, ours), "equal") == (1,)


async def test_what_is_no_text_is_quarantined(ours: str, redis_server: str, empty_redis: redis.Redis) -> None:
    empty_redis.rpush("message_store:bytes", b"\xff\xfe")
    empty_redis.rpush(b"message_store:\xff", json.dumps(human("x")))
    empty_redis.rpush("message_store:good", json.dumps(human("x")))
    facts = await copied(f"langchain+{redis_server}", ours)
    assert counts(facts, "copied", "quarantined") == (1, 2)
    reasons = sorted(item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined")
    assert reasons == [["encoding"], ["invalid_session_id"]]


# files


async def test_a_folder_of_histories_is_told_from_one_of_session_files(tmp_path: Path, ours: str) -> None:
    histories, sessions, mixed = (tmp_path / name for name in ("histories", "sessions", "mixed"))
    for folder in (histories, sessions, mixed):
        folder.mkdir()
    for folder in (histories, mixed):
        (folder / "h.json").write_text(f"\n {json.dumps([human('Hello')])}")
    for folder in (sessions, mixed):
        (folder / "s.json").write_text('{"session_id": "s"}')
    (histories / "notes.txt").write_text("x")
    (histories / "part").mkdir()
    assert [place_of(folder).kind for folder in (histories, sessions, mixed)] == ["peer", "legacy", "legacy"]
    facts = await copied(histories, ours)
    assert counts(facts, "copied", "quarantined") == (1, 0)
    assert {item["file"]: item["reasons"] for item in facts["items"] if item["outcome"] == "ignored"} == {
        "notes.txt": ["not_a_session_file"],
        "part": ["directory"],
    }


async def test_files_that_are_no_histories_are_quarantined(tmp_path: Path, ours: str) -> None:
    folder = tmp_path / "histories"
    folder.mkdir()
    bad = {
        "torn": b"[{",
        "text": b'"x"',
        "cp1252": b'[{"type": "human", "data": {"content": "caf\xe9"}}]',
        "empty": b"",
    }
    for name, content in bad.items():
        (folder / f"{name}.json").write_bytes(content)
    (folder / "utf16.json").write_bytes(json.dumps([human("Hello")]).encode("utf-16"))
    (folder / f"{quote('a/b', safe='')}.json").write_text(json.dumps([human("Hello")]))
    facts = await copied(f"langchain+file://{folder}", ours)
    assert {item["id"]: item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined"} == {
        "torn": ["invalid_json"],
        "text": ["invalid_shape"],
        "cp1252": ["encoding"],
        "empty": ["empty_file"],
    }
    async with open_storage(ours) as storage:
        assert [record["id"] for record in await storage.list({"type": "session"})] == ["a/b", "utf16"]
        record = await storage.load("utf16")
    assert record is not None
    written = (folder / "utf16.json").stat().st_mtime
    assert abs(record["updated_at"].timestamp() - written) < 0.001, "nothing else tells when it was said"
    assert record["metadata"]["~"]["time_unknown"] == ["created_at", "updated_at"]
