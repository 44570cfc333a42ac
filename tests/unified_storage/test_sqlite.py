"""What only SQLite can break: processes, crashes, forks, its schema and its indexes."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support import REPOSITORY
from unified_storage import (
    IUnifiedStorage,
    StorageConfigurationError,
    StorageConnectionError,
    StorageIntegrityError,
    StorageNotFoundError,
    StorageTimeoutError,
    StorageValidationError,
    open_storage,
)
from unified_storage.backends.sql import listing, records, schema
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageConflictError, StorageError
from unified_storage.filters import parse_filters
from unified_storage.opening import SESSION_PATHS
from unified_storage.ordering import Order

SESSION = {"id": "shared", "type": "session", "session_id": "shared", "data": {}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


def program(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unified_storage.sqlite_program", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_together(programs: list[subprocess.Popen[str]]) -> None:
    """Let programs that say they are ready begin at one moment, and wait for their good end."""
    for each in programs:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in programs:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in programs:
        each.communicate(timeout=60)
        assert each.returncode == 0


def raw(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None)


def ask(file: Path, sql: str) -> list[tuple]:
    connection = raw(file)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# -- several processes -------------------------------------------------------------------------------------------


async def test_100_updates_of_100_keys_from_two_processes_all_survive(url: str) -> None:
    """S2.22, T2.6: a read, a merge and a write of one update are one step for every process."""
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        await asyncio.to_thread(
            run_together, [program("update_keys", url, "0", "50"), program("update_keys", url, "50", "50")]
        )
        record = await storage.load("shared")
    assert record is not None
    assert record["data"] == {f"k{key}": key for key in range(100)}
    assert record["version"] == 101


async def test_appends_of_two_processes_have_no_gap_and_no_loss(url: str) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        await asyncio.to_thread(
            run_together, [program("append", url, "a", "8", "10"), program("append", url, "b", "8", "10")]
        )
        entries = await storage.read("history/shared")
    assert [entry["seq"] for entry in entries] == [*range(1, 161)]
    expected = {(mark, task, turn) for mark in "ab" for task in range(8) for turn in range(10)}
    assert {tuple(entry["body"]) for entry in entries} == expected


async def test_64_concurrent_appends_are_numbered_1_to_64(url: str) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        given = await asyncio.gather(*(storage.append("history/shared", [{"body": n}]) for n in range(64)))
        stored = {entry["seq"]: entry["body"] for entry in await storage.read("history/shared")}
    assert sorted(seq for (seq,) in given) == [*range(1, 65)]
    assert {seq: body for body, (seq,) in enumerate(given)} == stored


async def test_16_processes_open_an_empty_file_at_once(url: str, file: Path) -> None:
    await asyncio.to_thread(run_together, [program("only_open", url) for _ in range(16)])
    assert ask(file, "SELECT count(*) FROM unified_records") == [(16,)]
    assert ask(file, "SELECT version FROM unified_schema") == [(len(schema.STEPS),)]


async def test_a_write_waits_for_another_process_and_gives_up_in_time(url: str, file: Path) -> None:
    async with open_storage(url, statement_timeout=0.3) as storage:
        await storage.save(SESSION)
        other = raw(file)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises((StorageConflictError, StorageTimeoutError)) as refusal:
            await storage.update("shared", {"data": {"a": 1}})
        assert refusal.value.retryable
        assert await storage.load("shared") is not None  # reading goes on meanwhile
        other.execute("COMMIT")
        other.close()
        assert await storage.update("shared", {"data": {"a": 2}})


# -- crashes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.05, 0.2, 0.5])
async def test_every_acknowledged_append_survives_a_kill(url: str, file: Path, moment: float) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
    writer = program("acknowledge", url)
    assert writer.stdout is not None
    first = writer.stdout.readline().strip()
    await asyncio.sleep(moment)
    writer.send_signal(signal.SIGKILL)
    said = [first, *writer.communicate()[0].split("\n")]
    acknowledged = {key for key in said[:-1] if key}  # the last line may be torn
    async with open_storage(url) as storage:
        entries = await storage.read("history/shared")
    assert acknowledged
    assert acknowledged <= {entry["key"] for entry in entries}
    assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
    assert ask(file, "PRAGMA integrity_check") == [("ok",)]


async def test_a_killed_transaction_leaves_no_trace(url: str, file: Path) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
    writer = program("hang_in_a_transaction", url)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    async with open_storage(url) as storage:
        assert [record["id"] for record in await storage.list()] == ["shared"]
        assert await storage.log_info("history/shared") is None
    assert ask(file, "PRAGMA integrity_check") == [("ok",)]


async def test_300_cancelled_transactions_leave_nothing_half_done(url: str) -> None:
    random_source = random.Random(7)
    async with open_storage(url) as storage:
        await storage.batch_save([{"id": name, "type": "note", "data": {"n": 0}} for name in "ab"])

        async def both() -> None:
            async with storage.transaction() as tx:
                for name in "ab":
                    record = await tx.load(name)
                    assert record is not None
                    await tx.update(name, {"data": {"n": record["data"]["n"] + 1}})

        for _ in range(300):
            task = asyncio.create_task(both())
            await asyncio.sleep(random_source.random() * 0.003)
            task.cancel()
            await asyncio.wait([task])
        left = [record["data"]["n"] for record in await storage.list()]
        assert left[0] == left[1]
        await asyncio.wait_for(both(), 5)  # the writer is free


async def test_a_cancelled_write_is_done_whole_or_not_at_all(url: str) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        done = []
        for number in range(100):
            task = asyncio.create_task(storage.append("history/shared", [{"body": number}, {"body": number}]))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                done.append(number)
        bodies = [entry["body"] for entry in await storage.read("history/shared")]
    assert bodies[::2] == bodies[1::2]
    assert set(done) <= set(bodies)


# -- waiting together --------------------------------------------------------------------------------------------


async def test_in_a_group_commit_each_member_fails_for_itself(url: str) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        outcomes = await asyncio.gather(
            *(
                storage.save({"id": f"n{n}", "type": "note", "data": {}}, expected_version=0 if n % 3 else 9)
                for n in range(60)
            ),
            return_exceptions=True,
        )
        there = {record["id"] for record in await storage.list({"type": "note"})}
    failed = {n for n, outcome in enumerate(outcomes) if isinstance(outcome, StorageConflictError)}
    assert failed == {n for n in range(60) if n % 3 == 0}
    assert there == {f"n{n}" for n in range(60) if n % 3}


async def test_in_a_group_commit_a_member_that_fails_half_way_leaves_nothing(url: str) -> None:
    """Each of these writes a record before it finds that nobody owns a log."""
    orphan = {"log_id": "events/nobody", "last_seq": 0, "entries": []}
    async with open_storage(url) as storage:
        outcomes = await asyncio.gather(
            *(storage.restore([{"id": f"n{n}", "type": "note", "data": {}}], [orphan] * (n % 2)) for n in range(30)),
            return_exceptions=True,
        )
        there = {record["id"] for record in await storage.list({"type": "note"})}
    assert all(isinstance(outcome, StorageNotFoundError) for outcome in outcomes[1::2])
    assert there == {f"n{n}" for n in range(0, 30, 2)}


async def test_writes_that_wait_are_committed_together(url: str, file: Path) -> None:
    """Counted, not timed: the write-ahead log marks each commit."""
    async with open_storage(url) as storage:
        await storage.batch_save([SESSION | {"id": f"s{n}", "session_id": f"s{n}"} for n in range(200)])
        before = commits(file)
        await asyncio.gather(*(storage.append(f"history/s{n}", [{"body": n}]) for n in range(200)))
        assert 1 <= commits(file) - before <= 100


def commits(file: Path) -> int:
    """The commit frames of the write-ahead log: those with a database size in their header."""
    text = Path(f"{file}-wal").read_bytes()
    page = int.from_bytes(text[8:12]) if text else 4096
    salts = text[16:24]
    frames = range(32, len(text), page + 24)
    return sum(1 for f in frames if text[f + 8 : f + 16] == salts and int.from_bytes(text[f + 4 : f + 8]))


# -- threads, loops, forks ---------------------------------------------------------------------------------------


def test_one_storage_serves_several_loops_in_several_threads(url: str) -> None:
    storage = open_storage(url)
    asyncio.run(storage.save(SESSION))

    def write(thread: int) -> None:
        async def run() -> None:
            for turn in range(10):
                await storage.append("history/shared", [{"body": [thread, turn]}])

        asyncio.run(run())

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(asyncio.run(storage.read("history/shared"))) == 80
    asyncio.run(storage.close())


def test_a_forked_child_and_its_parent_both_go_on(url: str, file: Path) -> None:
    """No connection is carried over a fork: SQLite's locks would not be."""
    storage = open_storage(url)
    asyncio.run(storage.save(SESSION))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for n in range(20):
                asyncio.run(storage.append("history/shared", [{"body": ["child", n]}]))
            status = 0
        finally:
            os._exit(status)
    for n in range(20):
        asyncio.run(storage.append("history/shared", [{"body": ["parent", n]}]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    bodies = [entry["body"] for entry in asyncio.run(storage.read("history/shared"))]
    assert sorted(bodies) == [[who, n] for who in ("child", "parent") for n in range(20)]
    asyncio.run(storage.close())
    assert ask(file, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only where the system shows a process's open files")
def test_a_forked_child_inherits_no_open_database(url: str, file: Path) -> None:
    """SQLite forgets its locks when a child closes what its parent opened."""
    storage = open_storage(url)
    asyncio.run(storage.save(SESSION))
    asyncio.run(storage.load("shared"))
    child = os.fork()
    if child == 0:
        opened = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        os._exit(1 if any(name.startswith(str(file)) for name in opened) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(storage.close())


def test_a_database_in_memory_says_so_after_a_fork() -> None:
    storage = open_storage("sqlite:///:memory:")
    asyncio.run(storage.save(SESSION))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(storage.load("shared"))
        except StorageConnectionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(storage.load("shared")) is not None
    asyncio.run(storage.close())


def test_closing_ends_every_thread(url: str) -> None:
    before = threading.active_count()

    async def use() -> None:
        async with open_storage(url) as storage:
            await asyncio.gather(*(storage.save({"type": "note", "data": {}}) for _ in range(20)))
            await asyncio.gather(*(storage.list() for _ in range(20)))

    asyncio.run(use())
    assert threading.active_count() == before


def test_a_storage_that_is_never_closed_does_not_hold_up_the_exit(url: str) -> None:
    code = (
        "import asyncio; from unified_storage import open_storage\n"
        f"storage = open_storage({url!r})\n"
        "asyncio.run(storage.save({'id': 'a', 'type': 'note', 'data': {}}))\n"
    )
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=10)
    assert time.monotonic() - begun < 8


async def test_a_file_put_in_the_place_of_an_open_one_is_opened_anew(url: str, file: Path) -> None:
    first = open_storage(url)
    await first.save(SESSION)
    for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        name.unlink(missing_ok=True)
    async with open_storage(url) as second:
        assert await second.list() == []
        await second.save(SESSION | {"id": "new"})
    await first.close()
    assert ask(file, "SELECT id FROM unified_records") == [("new",)]


# -- schema and indexes ------------------------------------------------------------------------------------------


async def test_a_later_schema_is_refused(url: str, file: Path) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
    ask(file, "UPDATE unified_schema SET version = 99")
    with pytest.raises(StorageConfigurationError, match="99"):
        await open_storage(url).load("shared")


async def test_opening_again_changes_nothing(url: str, file: Path) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
    before = [ask(file, "SELECT sql FROM sqlite_master ORDER BY name"), ask(file, "SELECT * FROM unified_schema")]
    async with open_storage(url) as storage:
        assert await storage.load("shared") is not None
    after = [ask(file, "SELECT sql FROM sqlite_master ORDER BY name"), ask(file, "SELECT * FROM unified_schema")]
    assert before == after


async def test_namespaces_share_a_file_and_nothing_else(url: str) -> None:
    async with open_storage(url) as plain, open_storage(url, namespace="other") as other:
        await plain.save(SESSION)
        assert await other.list() == []
        await other.save(SESSION | {"id": "mine"})
        assert [record["id"] for record in await plain.list()] == ["shared"]
    with pytest.raises(StorageConfigurationError):
        open_storage(url, namespace="x; DROP TABLE unified_records")


async def test_a_new_indexed_path_is_filled_for_older_records(url: str) -> None:
    notes = [{"id": f"n{n:04}", "type": "note", "data": {"tag": f"t{n % 7}"}} for n in range(1200)]
    async with open_storage(url) as storage:
        await storage.batch_save(notes)
    async with open_storage(url, indexed={"note": ["data.tag"]}) as storage:
        plan = await explained(storage, {"type": "note", "data.tag": "t3"})
        assert "unified_by_k0" in plan
        assert await storage.count({"type": "note", "data.tag": "t3"}) == sum(n % 7 == 3 for n in range(1200))


async def test_a_program_with_an_older_list_still_writes_the_keys_of_new_paths(url: str) -> None:
    async with open_storage(url) as older:
        await older.save({"id": "a", "type": "note", "data": {"tag": "x"}})
        async with open_storage(url, indexed={"note": [f"data.tag{n}" for n in range(15)] + ["data.tag"]}) as newer:
            await older.save({"id": "b", "type": "note", "data": {"tag": "x"}})
            await older.update("a", {"data": {"tag": "y"}})
            assert [r["id"] for r in await newer.list({"type": "note", "data.tag": "x"})] == ["b"]
            assert [r["id"] for r in await newer.list({"type": "note", "data.tag": "y"})] == ["a"]


async def explained(storage: IUnifiedStorage, filters: dict, order: str = "updated_at", limit: int = 20) -> str:
    """How SQLite would carry out a page."""
    inner = storage._store  # type: ignore[attr-defined]  # the plan is not to be seen from outside
    steps = listing.page(inner, parse_filters(filters), Order((order,), True), None, limit, True)
    call = next(steps)
    rows = await storage._engine.read(lambda: _explain(call), 5)  # type: ignore[attr-defined]
    return "\n".join(row[-1] for row in rows)


def _explain(call):
    return (yield type(call)("EXPLAIN QUERY PLAN " + call.sql, call.values))


SESSION_FIELDS = [path.removeprefix("metadata.") for path in SESSION_PATHS]


@pytest.mark.parametrize("field", SESSION_FIELDS)
async def test_a_filter_on_an_indexed_path_uses_its_index(url: str, field: str) -> None:
    async with open_storage(url) as storage:
        slot = await slot_of(storage, f"metadata.{field}")
        for filters in ({f"metadata.{field}": "x"}, {f"metadata.{field}": {"$in": ["x", "y"]}}):
            plan = await explained(storage, {"type": "session", **filters})
            assert f"unified_by_k{slot}" in plan, plan
            assert "SCAN" not in plan, plan
        plan = await explained(storage, {"type": "session", f"metadata.{field}": "x"})
        assert "TEMP B-TREE" not in plan, plan  # newest first comes out of the index


async def slot_of(storage: IUnifiedStorage, path: str) -> int:
    await storage.count()
    return storage._store.slots["session"][tuple(path.split("."))].number  # type: ignore[attr-defined]


@pytest.mark.parametrize("order", ["updated_at", "created_at", "id"])
async def test_a_page_without_filter_walks_an_index(url: str, order: str) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        plan = await explained(storage, {"type": "session"}, order)
    assert "SCAN" not in plan, plan


@pytest.mark.scaled
async def test_a_page_among_many_touches_no_more_rows_than_among_few(url: str, scaled) -> None:
    """Counted in steps of the engine: first page, a deep page, and a page among few."""
    total = scaled(100_000, minimum=4000)
    async with open_storage(url) as storage:
        for start in range(0, total, 1000):
            await storage.batch_save([owned(n) for n in range(start, start + 1000)])
        filters = {"type": "session", "metadata.user_id": "u1"}
        first = await steps_of_page(storage, filters, None)
        cursor = None
        for _ in range(total // 20 // 20 // 2):
            cursor = (await storage.page(filters, limit=20, cursor=cursor)).next_cursor
        deep = await steps_of_page(storage, filters, cursor)
        alone = await steps_of_page(storage, filters, None, 20)
        found = await storage.page(filters, limit=20)
    assert len(found.items) == 20
    assert deep <= 2 * first  # a place takes some steps for each column, however deep it is
    assert alone <= 1.5 * first


async def test_a_page_among_many_of_one_moment_goes_on_where_the_last_one_ended(url: str) -> None:
    """Such as what one import has brought: the rows before the place are not looked at again."""
    filters = {"type": "session", "metadata.user_id": "u1"}
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    async with open_storage(url, clock=lambda: moment) as storage:
        await storage.batch_save([owned(20 * n + 1) for n in range(2000)])
        first = await steps_of_page(storage, filters, None)
        cursor, seen = None, 0
        for _ in range(90):
            page = await storage.page(filters, limit=20, cursor=cursor)
            cursor, seen = page.next_cursor, seen + len({record["id"] for record in page.items})
        assert seen == 1800
        assert await steps_of_page(storage, filters, cursor) <= 2 * first


def owned(n: int) -> dict:
    return {"id": f"s{n:07}", "type": "session", "data": {}, "metadata": {"user_id": f"u{n % 20}"}}


async def steps_of_page(storage: IUnifiedStorage, filters: dict, cursor: str | None, limit: int = 20) -> int:
    """How many steps SQLite's machine makes for one page."""
    from unified_storage.backends.sql import sqlite_connection
    from unified_storage.ordering import read_cursor

    condition, order = parse_filters(filters), Order(("updated_at",), True)
    place = None if cursor is None else read_cursor(cursor, order, condition)
    counted = 0

    def count() -> bool:
        nonlocal counted
        counted += 1
        return False

    path = storage._engine._path  # type: ignore[attr-defined]
    connection = sqlite_connection.SQLiteConnection(path, create=False, busy_timeout=5)
    connection._sqlite.set_progress_handler(count, 1)
    rows = connection.run(lambda: listing.page(storage._store, condition, order, place, limit, True))  # type: ignore[attr-defined]
    connection.close()
    assert len(rows) == limit
    return counted


async def test_an_append_rewrites_neither_the_document_nor_the_history(url: str, file: Path) -> None:
    """A session with a document of 8 MB and 5 000 entries: one more entry writes a few pages."""
    async with open_storage(url) as storage:
        await storage.save(SESSION | {"data": {"text": "x" * 8_000_000}})
        await storage.append("history/shared", [{"body": {"content": "y" * 300}} for _ in range(5000)])
    async with open_storage(url) as storage:
        await storage.append("history/shared", [{"body": 1}])
        before = Path(f"{file}-wal").stat().st_size
        await storage.append("history/shared", [{"body": {"content": "z" * 300}}])
        assert Path(f"{file}-wal").stat().st_size - before < 64 * 1024


# -- damage and refusals -----------------------------------------------------------------------------------------


async def test_what_was_touched_since_it_was_listed_is_not_cleaned_up(url: str) -> None:
    """Cleaning up lists first and deletes then: a session that came to life, or was made anew, in between stays."""
    async with open_storage(url) as storage:
        await storage.batch_save([SESSION | {"id": name} for name in ("idle", "alive", "anew")])
        listed = await storage.list()
        await storage.append("history/alive", [{"body": "I am back"}])
        await storage.delete("anew")
        await storage.save(SESSION | {"id": "anew"})
        steps = records.delete_untouched(storage._store, listed)  # type: ignore[attr-defined]
        assert await storage._engine.write(lambda: steps, 5) == 1  # type: ignore[attr-defined]
        assert [record["id"] for record in await storage.list()] == ["alive", "anew"]


async def test_a_commit_reaches_the_disk_before_it_is_acknowledged(url: str) -> None:
    """What a power cut would show cannot be tested here; the engine's own setting for it can."""
    async with open_storage(url) as storage:
        await storage.save(SESSION)

        def asked():
            return (yield Call("PRAGMA synchronous")), (yield Call("PRAGMA journal_mode"))

        answer = await storage._engine.write(asked, 5)  # type: ignore[attr-defined]
        health = await storage.health_check()
    assert answer == ([(2,)], [("wal",)])
    assert health["durability"] == "full"


async def test_a_damaged_document_is_an_error_that_names_its_record(url: str, file: Path) -> None:
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        await storage.append("history/shared", [{"body": 1}])
        ask(file, "UPDATE unified_documents SET data = '{\"a\": '")
        ask(file, "UPDATE unified_entries SET body = '{'")
        with pytest.raises(StorageIntegrityError, match="shared"):
            await storage.load("shared")
        with pytest.raises(StorageIntegrityError, match="entry 1"):
            await storage.read("history/shared")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(url: str, file: Path) -> None:
    file.write_bytes(b"my diary, not a database" * 100)
    with pytest.raises(StorageIntegrityError):
        await open_storage(url).load("shared")
    assert file.read_bytes() == b"my diary, not a database" * 100


async def test_a_missing_folder_and_a_missing_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(StorageConnectionError, match="does not exist"):
        await open_storage(f"sqlite:///{tmp_path}/none/here.db").load("a")
    with pytest.raises(StorageError):
        await open_storage(f"sqlite:///{tmp_path}/absent.db", create=False).load("a")
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize("option", ["pool_sise=3", "statement_timeout=soon", "statement_timeout=-1"])
def test_odd_options_are_refused(option: str) -> None:
    with pytest.raises(StorageConfigurationError):
        open_storage(f"sqlite:///:memory:?{option}")


async def test_a_read_that_takes_too_long_is_ended(url: str) -> None:
    async with open_storage(url, statement_timeout=0.2) as storage:
        await storage.save(SESSION)
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

        def steps():
            return (yield Call(endless))

        with pytest.raises(StorageTimeoutError):
            await storage._engine.read(steps, 0.2)  # type: ignore[attr-defined]
        assert await storage.load("shared") is not None


@pytest.mark.parametrize("path", ["data.a' OR '1'='1", 'data."; DROP TABLE unified_records; --', "data.a); --"])
async def test_field_names_never_become_sql(url: str, path: str) -> None:
    """T2.16: whatever a path says, it is looked up in documents, or refused."""
    async with open_storage(url) as storage:
        await storage.save(SESSION)
        with contextlib.suppress(StorageValidationError):
            assert await storage.list({path: "x"}) == []
        assert await storage.count() == 1
