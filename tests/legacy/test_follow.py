"""`copy --follow`: what changes in a source that others write comes over pass by pass, and nothing else does."""

import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import MassChangeError, exit_code_of, guard
from legacy.migration.into_storage import IntoStorage
from legacy.stores import copied_files
from legacy.stores.peers.rows import SQLiteRows
from session_adapter import SessionKey, SessionStorageAdapter
from tests.legacy.folders import document, write
from tests.legacy.following import differing, followed_once
from tests.legacy.following import following as followed
from tests.legacy.peers.adk_stores import V1, add_event, add_session, database, said
from tests.legacy.peers.agno_stores import agno3, run, run_row
from tests.support import REPOSITORY
from unified_storage import (
    StorageConfigurationError,
    StorageConnectionError,
    StorageUnsupportedError,
    StorageValidationError,
    open_storage,
)

LONG_AGO = "2024-05-15 20:00:00.000001"


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
def adk(tmp_path: Path) -> Path:
    """A database of Google ADK's with three sessions, a state of the app and one of a user."""
    file = tmp_path / "adk.db"
    with database(file, V1) as connection:
        for id in ("a", "b", "c"):
            add_session(connection, id)
            add_event(connection, id, f"{id}-1", said("Hello"))
        connection.execute("INSERT INTO app_states VALUES ('shop', '{\"open\": true}', ?)", (LONG_AGO,))
        connection.execute("INSERT INTO user_states VALUES ('shop', 'ann', '{\"lang\": \"de\"}', ?)", (LONG_AGO,))
    return file


def url(file: Path) -> str:
    return f"adk+sqlite:///{file}"


def delete_session(file: Path, *ids: str) -> None:
    with database(file) as connection:
        for id in ids:
            connection.execute("DELETE FROM events WHERE session_id = ?", (id,))
            connection.execute("DELETE FROM sessions WHERE id = ?", (id,))


async def messages(target: str, id: str, *, user: str = "ann") -> list[Any]:
    async with open_storage(target) as storage:
        events = await SessionStorageAdapter(storage).events.read(SessionKey("shop", user, id))
        return [event["content"] for event in events]


# what comes over


async def test_new_and_changed_sessions_come_over_pass_by_pass(adk: Path, target: str) -> None:
    async with followed(url(adk), target) as watch:
        assert (await watch.until(lambda done: done.is_whole)).records == 5
        with database(adk) as connection:
            add_event(connection, "b", "b-2", said("And then?"))
            add_session(connection, "d", user="bob")
        done = await watch.until(lambda done: done.copied)
        assert (done.read, done.copied, done.records) == (2, 2, 6)
        assert (await watch.quiet()).records == 6
    assert await messages(target, "b") == ["Hello", "And then?"]
    assert await differing(url(adk), target) == {}
    assert watch.ended.exit_code == 0
    assert watch.ended.copy.ledger.read == 4


async def test_an_event_with_the_time_of_the_one_before_comes_over(adk: Path, target: str) -> None:
    """Times of ADK's are those of events, which stand still and go backwards."""
    async with followed(url(adk), target) as watch:
        await watch.quiet()
        with database(adk) as connection:
            add_event(connection, "a", "a-0", said("Earlier"), "2024-05-15 19:00:00.000000")
        assert (await watch.until(lambda done: done.copied)).copied == 1
    assert await messages(target, "a") == ["Earlier", "Hello"]


async def test_a_change_in_the_same_second_comes_over(tmp_path: Path, target: str) -> None:
    """agno knows whole seconds: here nothing but the state itself tells that it changed."""
    source = agno3(tmp_path / "agno.db", [{"session_id": "s1"}])
    update = "UPDATE agno_sessions SET session_data = ?, updated_at = ?"
    async with followed(source, target) as watch:
        begun = -2.0
        while time.monotonic() - begun > 1.5:  # so that a slow machine is no second late
            begun, now = time.monotonic(), int(time.time())
            with database(tmp_path / "agno.db") as connection:
                connection.execute(update, (f'{{"session_state": {{"x": {begun}}}}}', now))
            await watch.until(lambda done: done.copied)
            for _ in range(3):
                await watch.until(lambda done: done.is_quiet)
        with database(tmp_path / "agno.db") as connection:
            connection.execute(update, ('{"session_state": {"x": "silent"}}', now))
        assert (await watch.until(lambda done: done.copied)).copied == 1
        settled = await watch.until(lambda done: not done.read)
        assert settled.is_quiet, "what has not changed for two seconds is not read again"
    assert await differing(source, target) == {}


async def test_states_are_followed_as_sessions_are(adk: Path, target: str) -> None:
    async with followed(url(adk), target, delete=True) as watch:
        await watch.quiet()
        with database(adk) as connection:
            later = "2024-05-15 20:00:01"
            connection.execute("UPDATE app_states SET state = '{\"open\": false}', update_time = ?", (later,))
            connection.execute("DELETE FROM user_states")
        done = await watch.until(lambda done: done.copied)
        assert (done.copied, done.deleted) == (1, 1)
    async with open_storage(target) as storage:
        (app,) = await storage.list({"type": "app_state"})
        assert app["data"]["state"] == {"open": False}
        assert await storage.count({"type": "user_state"}) == 0
    assert await differing(url(adk), target) == {}


async def test_runs_of_agno_come_over(tmp_path: Path, target: str) -> None:
    source = agno3(tmp_path / "agno.db", [{}], [run_row(run("r1", "Hello"), 0)])
    async with followed(source, target) as watch:
        await watch.quiet()
        with database(tmp_path / "agno.db") as connection:
            row = run_row(run("r2", "More"), 1, run_id="r2")
            connection.execute(
                f"INSERT INTO agno_runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
        assert (await watch.until(lambda done: done.copied)).copied == 1
    assert await differing(source, target) == {}


async def test_a_folder_and_a_store_of_ours_are_followed_too(tmp_path: Path, target: str) -> None:
    write(tmp_path / "folder", document("a"))
    middle = f"sqlite:///{tmp_path}/middle.db"
    async with followed(tmp_path / "folder", middle, delete=True) as first:
        await first.until(lambda done: done.copied)
        async with followed(middle, target, delete=True) as second:
            await second.until(lambda done: done.copied)
            write(tmp_path / "folder", document("b"))
            await second.until(lambda done: done.copied)
            (tmp_path / "folder" / "a.json").unlink()
            await second.until(lambda done: done.deleted)
    async with open_storage(target) as storage:
        assert await SessionStorageAdapter(storage).get_session("a") is None
        assert await SessionStorageAdapter(storage).get_session("b") is not None
    assert await differing(middle, target) == {}


async def test_a_store_that_tells_nothing_is_read_whole_and_written_where_it_changed(
    fixtures_dir: Path, tmp_path: Path, target: str
) -> None:
    file = tmp_path / "openai.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP, updated_at TIMESTAMP);"
            "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,"
            " message_data TEXT NOT NULL, created_at TIMESTAMP);"
        )
        times = (LONG_AGO, LONG_AGO)
        connection.executemany("INSERT INTO agent_sessions VALUES (?, ?, ?)", [("a", *times), ("b", *times)])
        connection.commit()
    source = f"openai-agents+sqlite:///{file}"
    async with followed(source, target) as watch:
        assert (await watch.until(lambda done: done.is_whole)).copied == 2
        with database(file) as connection:
            connection.execute(
                "INSERT INTO agent_messages (session_id, message_data, created_at) VALUES ('a', ?, ?)",
                ('{"role": "user", "content": "Hi"}', LONG_AGO),
            )
        done = await watch.until(lambda done: done.copied)
        assert (done.read, done.copied) == (2, 1)


# what does not come over


async def test_what_others_changed_in_the_target_is_a_conflict_and_stays(adk: Path, target: str) -> None:
    async with followed(url(adk), target, delete=True, max_delete=2) as watch:
        await watch.quiet()
        async with open_storage(target) as storage:
            sessions = SessionStorageAdapter(storage)
            for id in ("a", "b"):
                await sessions.events.append(SessionKey("shop", "ann", id), {"role": "user", "content": "By others"})
        with database(adk) as connection:
            add_event(connection, "a", "a-2", said("By ADK"))
        delete_session(adk, "b", "c")
        done = await watch.until(lambda done: done.deleted)
        assert (done.conflict, done.deleted) == (2, 1)
        again = await watch.until(lambda done: done.is_whole)
        assert (again.conflict, again.deleted) == (2, 0), "it stays one as long as it is one"
        await watch.quiet()
    assert await messages(target, "a") == ["Hello", "By others"]
    assert await messages(target, "b") == ["Hello", "By others"]
    assert watch.ended.exit_code == 3
    assert watch.ended.copy.ledger.conflict == 2
    assert watch.conflicts == dict.fromkeys(("a", "b"), ("changed_in_target",))


async def test_conflicts_are_overwritten_and_deleted_where_that_is_wanted(adk: Path, target: str) -> None:
    await followed_once(url(adk), target)
    async with open_storage(target) as storage:
        sessions = SessionStorageAdapter(storage)
        for id in ("a", "b"):
            await sessions.events.append(SessionKey("shop", "ann", id), {"role": "user", "content": "By others"})
    delete_session(adk, "b")
    done = await followed_once(url(adk), target, delete=True, overwrite_conflicts=True)
    assert (done.deleted, done.exit_code) == (1, 0)
    assert await differing(url(adk), target) == {}


async def test_what_the_target_had_before_is_never_deleted(adk: Path, target: str) -> None:
    key = SessionKey("shop", "ann", "of others")
    async with open_storage(target) as storage:
        await SessionStorageAdapter(storage).save_session(key, {"state": {}})
    await followed_once(url(adk), target, delete=True)
    delete_session(adk, "a")
    await followed_once(url(adk), target, delete=True)
    async with open_storage(target) as storage:
        assert await SessionStorageAdapter(storage).get_session(key) is not None
        assert await storage.count({"type": "session"}) == 3


async def test_what_vanished_stays_and_is_told_unless_deleting_is_wanted(adk: Path, target: str) -> None:
    async with followed(url(adk), target) as watch:
        await watch.quiet()
        delete_session(adk, "b")
        assert (await watch.until(lambda done: done.vanished)).vanished == 1
    assert watch.ended.vanished == 1
    assert await differing(url(adk), target) == {"only in target": 1}
    done = await followed_once(url(adk), target, delete=True)
    assert (done.deleted, done.vanished) == (1, 0), "a later run knows what an earlier one copied"
    assert await differing(url(adk), target) == {}


async def test_what_comes_back_is_copied_again(adk: Path, target: str) -> None:
    async with followed(url(adk), target, delete=True) as watch:
        await watch.quiet()
        delete_session(adk, "b")
        await watch.until(lambda done: done.deleted)
        with database(adk) as connection:
            add_session(connection, "b")
        assert (await watch.until(lambda done: done.copied)).copied == 1
    assert await differing(url(adk), target) == {}


async def test_a_file_that_cannot_be_read_now_has_not_vanished(tmp_path: Path, target: str) -> None:
    for id in ("a", "b"):
        write(tmp_path / "folder", document(id))
    whole = (tmp_path / "folder" / "a.json").read_bytes()
    async with followed(tmp_path / "folder", target, delete=True) as watch:
        await watch.quiet()
        (tmp_path / "folder" / "a.json").write_bytes(whole[: len(whole) // 2])
        await watch.until(lambda done: done.is_whole and done.records == 1)
        await watch.until(lambda done: done.is_whole)
    assert sum(done.deleted + done.vanished for done in watch.passes) == 0
    again = await followed_once(tmp_path / "folder", target, delete=True)
    assert (again.deleted, again.exit_code) == (0, 3), "and a new run cannot know whose file it was"


# the guard


@pytest.mark.parametrize(
    ("vanished", "known", "meant", "is_stopped"),
    [
        (1, 3, None, False),
        (2, 3, None, True),
        (2, 200, None, False),
        (3, 200, None, True),
        (100, 50_000, None, False),
        (101, 50_000, None, True),
        (1, 1, None, True),
        (3, 3, 3, False),
        (3, 5, 2, True),
        (1, 500, 0, True),
    ],
)
def test_more_than_one_percent_or_a_hundred_or_all_are_too_many(
    vanished: int, known: int, meant: int | None, is_stopped: bool
) -> None:
    if is_stopped:
        with pytest.raises(MassChangeError) as stopped:
            guard.check_mass_change(vanished, known, meant=meant)
        assert exit_code_of(stopped.value) == 6
    else:
        guard.check_mass_change(vanished, known, meant=meant)


async def test_a_source_that_lost_much_at_once_stops_before_anything_is_deleted(adk: Path, target: str) -> None:
    await followed_once(url(adk), target)
    delete_session(adk, "a", "b")
    with pytest.raises(MassChangeError, match=r"2 of 5 records have vanished .* say --delete --max-delete 2"):
        await followed_once(url(adk), target, delete=True)
    async with open_storage(target) as storage:
        assert await storage.count({"type": "session"}) == 3
    assert (await followed_once(url(adk), target, delete=True, max_delete=2)).deleted == 2
    assert await differing(url(adk), target) == {}


async def test_an_emptied_source_stops_a_follower_that_deletes_nothing_too(tmp_path: Path, target: str) -> None:
    write(tmp_path / "folder", document("a"))
    with pytest.raises(MassChangeError, match="all 1 records have vanished"):
        async with followed(tmp_path / "folder", target) as watch:
            await watch.quiet()
            (tmp_path / "folder" / "a.json").unlink()
            await asyncio.sleep(1)


# a source that fails for a moment


async def test_a_source_that_fails_for_a_moment_is_tried_again(adk: Path, target: str) -> None:
    aside = adk.with_suffix(".aside")
    async with followed(url(adk), target, delete=True) as watch:
        await watch.quiet()
        adk.rename(aside)
        failed = await watch.until(lambda done: done.error)
        assert "does not exist" in str(failed.error)
        assert not failed.is_quiet
        assert (failed.records, failed.vanished) == (5, 0), "what was not looked for has not vanished"
        with database(aside) as connection:
            add_event(connection, "a", "a-2", said("Meanwhile"))
        aside.rename(adk)
        await watch.until(lambda done: done.copied)
        await watch.quiet()
    assert watch.ended.exit_code == 0
    assert watch.ended.deleted == 0
    assert await differing(url(adk), target) == {}


LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
connection.execute("UPDATE sessions SET state = '{\\"x\\": 1}', update_time = '2024-05-15 22:00:00'")
print("locked", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""


@contextmanager
def locked(file: Path) -> Iterator[Callable[[], None]]:
    """While inside, or until what is given is called: a writer of another process is in the middle of a change."""
    command = [sys.executable, "-c", LOCKING, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.stdin.close


async def test_a_locked_source_is_tried_again(adk: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied_files, "_SECONDS_FOR_A_LOCK", 0.1)
    with locked(adk) as unlock:
        async with followed(url(adk), target) as watch:
            failed = await watch.until(lambda done: done.error)
            assert "is locked by a writer" in str(failed.error)
            unlock()
            assert (await watch.until(lambda done: done.copied)).copied == 5
    assert await differing(url(adk), target) == {}


async def test_one_pass_over_a_source_that_fails_fails(adk: Path, target: str) -> None:
    adk.unlink()
    with pytest.raises(StorageConfigurationError):
        await followed_once(url(adk), target)


async def test_a_target_that_fails_for_a_moment_is_tried_again(
    adk: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = IntoStorage.take
    failures = iter([StorageConnectionError("gone away")])

    async def failing(self: Any, parcels: Any) -> Any:
        for error in failures:
            raise error
        return await taken(self, parcels)

    async with followed(url(adk), target) as watch:
        await watch.quiet()
        monkeypatch.setattr(IntoStorage, "take", failing)
        with database(adk) as connection:
            add_event(connection, "a", "a-2", said("More"))
        failed = await watch.until(lambda done: done.error)
        assert (failed.error, failed.is_whole) == ("gone away", False)
        assert (await watch.until(lambda done: done.copied)).copied == 1, "what was not written is read again"


async def test_a_target_that_fails_while_it_deletes_is_no_quiet_pass(
    adk: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = IntoStorage.delete
    failures = iter([StorageConnectionError("gone away")])

    async def failing(self: Any, keys: Any) -> Any:
        for error in failures:
            raise error
        return await delete(self, keys)

    monkeypatch.setattr(IntoStorage, "delete", failing)
    async with followed(url(adk), target, delete=True) as watch:
        await watch.quiet()
        delete_session(adk, "a")
        failed = await watch.until(lambda done: done.error)
        assert not failed.is_quiet
        assert (await watch.until(lambda done: done.deleted)).deleted == 1


# what it costs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every query of a SQLite source, with the number of its rows."""
    queries: list[tuple[str, int]] = []
    stream = SQLiteRows.stream

    async def counted(self: SQLiteRows, sql: str, *parameters: Any) -> Any:
        rows = 0
        async for some in stream(self, sql, *parameters):
            rows += len(some)
            yield some
        queries.append((sql, rows))

    monkeypatch.setattr(SQLiteRows, "stream", counted)
    return queries


async def test_a_quiet_pass_reads_keys_only(
    tmp_path: Path, target: str, asked: list[tuple[str, int]], scaled: Callable[..., int]
) -> None:
    """100 000 sessions in full: one row each, and no event and no state among the columns."""
    sessions = scaled(100_000, minimum=500)
    file = tmp_path / "adk.db"
    with database(file, V1) as connection:
        for at in range(sessions):
            add_session(connection, f"s{at}")
            add_event(connection, f"s{at}", f"e{at}", said("Hello"))
    async with followed(url(file), target, seconds=1.0) as watch:
        await watch.until(lambda done: done.copied == sessions, patience=900)
        await watch.quiet()
        with database(file) as connection:
            connection.execute("CREATE TABLE something_else (x)")
        asked.clear()
        done = await watch.until(lambda done: asked)
        assert (done.records, done.read, done.copied) == (sessions, 0, 0)
    assert sum(rows for _, rows in asked) < sessions + 100
    assert len(asked) < 30
    assert not [sql for sql, _ in asked if re.search(r"event_data|\bstate\b|SELECT \*", sql)]


MEASURED = """
import asyncio, resource, sys
from legacy.migration import Following, follow_store
stop = asyncio.Event()
how = Following(0.01, delete=True)
follow = follow_store(sys.argv[1], sys.argv[2], how, stop=stop, on_pass=lambda done: done.number == 5 and stop.set())
report = asyncio.run(follow)
print(report.copy.ledger.copied, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path: Path, scaled: Callable[..., int]) -> None:
    """Less than 32 MiB between 2 000 and 50 000 sessions."""
    used = []
    for sessions in (scaled(2_000, minimum=200), scaled(50_000, minimum=2_000)):
        with database(tmp_path / f"{sessions}.db", V1) as connection:
            for at in range(sessions):
                add_session(connection, f"s{at}")
                add_event(connection, f"s{at}", f"e{at}", said("Hello"))
        places = (url(tmp_path / f"{sessions}.db"), f"sqlite:///{tmp_path}/copy{sessions}.db")
        ran = subprocess.run(
            [sys.executable, "-c", MEASURED, *places], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        copied, kibibytes = map(int, ran.stdout.split())
        assert copied == sessions
        used.append(kibibytes)
    assert used[1] - used[0] < 32 * 1024, used


async def test_files_that_nobody_wrote_to_are_not_even_copied(
    adk: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    copied = copied_files._copied_at_one_moment

    def counted(file: Path, copy: Path) -> None:
        copies.append(file)
        copied(file, copy)

    monkeypatch.setattr(copied_files, "_copied_at_one_moment", counted)
    async with followed(url(adk), target) as watch:
        await watch.until(lambda done: done.is_whole)
        begun = time.monotonic()
        while time.monotonic() - begun < 3 or len(copies) == 0:
            await watch.until(lambda _: True)
        many = len(copies)
        for _ in range(5):
            assert (await watch.until(lambda _: True)).is_quiet
        assert len(copies) == many
        with database(adk) as connection:
            add_event(connection, "a", "a-2", said("More"))
        await watch.until(lambda done: done.copied)


async def test_the_source_stays_byte_identical(adk: Path, target: str) -> None:
    before = adk.read_bytes()
    async with followed(url(adk), target) as watch:
        for _ in range(5):
            await watch.until(lambda done: done.is_whole)
    assert adk.read_bytes() == before
    assert [file.name for file in adk.parent.iterdir() if file.name.startswith("adk.db")] == ["adk.db"]


# what is refused


async def test_what_cannot_be_followed_is_refused(adk: Path, target: str, tmp_path: Path) -> None:
    (tmp_path / "archive.jsonl").write_text('{"format": "unified-storage", "version": 1}\n')
    with pytest.raises(StorageUnsupportedError, match="copy it once"):
        await followed_once(tmp_path / "archive.jsonl", target)
    for other in (f"agno+sqlite:///{tmp_path}/agno.db", f"legacy+file://{tmp_path}/folder", f"jsonl://{tmp_path}/x"):
        with pytest.raises(StorageUnsupportedError, match="in a store of ours alone"):
            await followed_once(url(adk), other)
    for switches in ({"seconds": -1.0}, {"max_rate": 0.0}, {"max_delete": 1}, {"convert": "x"}):
        with pytest.raises(StorageValidationError):
            await followed_once(url(adk), target, **switches)
