"""What `copy --follow` reads of a SQLite file while its writers are at work: one moment, and no byte is changed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from legacy.stores.copied_files import copied_file
from tests.legacy.following import differing, followed_once
from tests.legacy.following import following as followed
from tests.legacy.peers.adk_stores import V1, add_event, add_session, database, said

WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.stdin.readline().split(";"):
    connection.execute(statement)
print("done", flush=True)
sys.stdin.readline()
os._exit(9)
"""
SPILLED = "PRAGMA cache_size = 5; BEGIN; UPDATE sessions SET update_time = '2030-01-01 00:00:00.000000'"
"""A change that is not committed and does not fit into memory, so that half of it stands in the file."""


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
def adk(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "adk.db"
    with database(file, V1) as connection:
        for at in range(50):
            add_session(connection, f"s{at}", json.dumps({"long": "x" * 2_000}))
            add_event(connection, f"s{at}", f"e{at}", said("Hello"))
    return file


def url(file: Path) -> str:
    return f"adk+sqlite:///{file}"


def bytes_beside(file: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in file.parent.iterdir()}


@contextmanager
def in_the_middle(file: Path, statements: str) -> Iterator[None]:
    """While inside another process has done *statements*; then it dies at once."""
    command = [sys.executable, "-c", WRITER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(statements + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        try:
            yield
        finally:
            process.kill()


async def test_a_change_whose_writer_died_is_not_seen(adk: Path, target: str) -> None:
    with in_the_middle(adk, SPILLED):
        pass
    before = bytes_beside(adk)
    assert "adk.db-journal" in before
    assert (await followed_once(url(adk), target)).copy.ledger.copied == 50
    assert bytes_beside(adk) == before
    with sqlite3.connect(adk) as connection:  # which takes the change back
        assert connection.execute("SELECT max(update_time) FROM sessions").fetchone() < ("2030",)
    connection.close()
    assert await differing(url(adk), target) == {}


async def test_a_write_ahead_log_is_read_with_its_file(adk: Path, target: str) -> None:
    update = "UPDATE sessions SET state = '{\"x\": 1}', update_time = '2030-01-01 00:00:00'"
    with in_the_middle(adk, f"PRAGMA journal_mode = WAL; {update}"):
        before = bytes_beside(adk)
        assert before["adk.db-wal"]
        async with followed(url(adk), target) as watch:
            await watch.quiet()
            assert bytes_beside(adk) == before
            with database(adk) as connection:
                add_event(connection, "s1", "new", said("More"))
            assert (await watch.until(lambda done: done.copied)).copied == 1
    assert await differing(url(adk), target) == {}


async def test_every_copy_is_of_one_moment(tmp_path: Path) -> None:
    """Two numbers that only ever change together, under constant writes of another process."""
    file = tmp_path / "pairs.db"
    with database(file, "CREATE TABLE one (n INTEGER); CREATE TABLE pad (x BLOB)") as connection:
        connection.execute("INSERT INTO one VALUES (0)")
        connection.execute("INSERT INTO pad VALUES (zeroblob(40000000))")
        connection.execute("CREATE TABLE two (n INTEGER)")
        connection.execute("INSERT INTO two VALUES (0)")
    program = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    connection.executescript('BEGIN; UPDATE one SET n = n + 1; UPDATE two SET n = n + 1; COMMIT')\n"
        "    time.sleep(0.002)\n"
    )
    seen = set()
    with subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            for _ in range(20):
                async with copied_file(file) as copy:
                    with closing(sqlite3.connect(copy)) as connection:
                        seen.add(connection.execute("SELECT one.n, two.n FROM one, two").fetchone())
                        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finally:
            process.kill()
    assert all(one == two for one, two in seen)
    assert len(seen) > 1, "nothing was written meanwhile"
