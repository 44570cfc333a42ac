"""Stores of any number of sessions: one that a real library wrote, whose shortest session is there many times."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import redis

from tests.legacy.peers.fixture_stores import FixtureStore, load_dump

Item = dict[str, Any]
KEPT = 3
"""Entries of the session, where each has a row or an element of its own."""
_ROWS_OF_ENTRIES = ("events", "agent_messages", "message_structure", "message_store", "agno_runs", "writes")
_AT_A_TIME = 1_000


def enlarged(store: FixtureStore, sessions: int, folder: Path, client: redis.Redis | None) -> None:
    """Make *store* again with that many sessions: in *folder*, or in the Redis of *client*."""
    if client is not None:
        _fill_redis(client, store.dump(), _shortest(store), sessions)
    elif store.lives_on == "file":
        _fill_folder(folder, store.folder / "histories", _shortest(store), sessions)
    else:
        _fill_database(store.copied_to(folder), _shortest(store), sessions)


def _shortest(store: FixtureStore) -> str:
    conversations = store.conversations
    return min(conversations, key=lambda id: conversations[id].get("messages", conversations[id].get("events", 0)))


# SQLite


def _fill_database(path: Path, kept: str, sessions: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TEMP TABLE numbers AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n"
            f" WHERE n < {sessions}) SELECT n FROM n"
        )
        for table, column in _owned(db):
            _multiply(db, table, column, kept)


def _owned(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Each table with the column that names a session in it."""
    found = []
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        named = [column for column in ("session_id", "thread_id") if column in columns]
        if named or table == "sessions":
            found.append((table, named[0] if named else "id"))
    return found


def _multiply(db: sqlite3.Connection, table: str, column: str, kept: str) -> None:
    """Leave nothing in *table* but the rows of the session *kept*, once for each number."""
    db.execute(f"DELETE FROM {table} WHERE {column} <> ?", (kept,))
    if table in _ROWS_OF_ENTRIES:
        db.execute(f"DELETE FROM {table} WHERE rowid NOT IN (SELECT rowid FROM {table} ORDER BY rowid LIMIT {KEPT})")
    if table == "checkpoints":  # the newest has all of them
        db.execute(f"DELETE FROM {table} WHERE rowid < (SELECT max(rowid) FROM {table})")
    columns = [(row[1], row[2]) for row in db.execute(f"PRAGMA table_info({table})")]
    told = ", ".join(_renamed(name, kind, column) for name, kind in columns)
    names = ", ".join(f'"{name}"' for name, _ in columns)
    db.execute(f"CREATE TEMP TABLE one AS SELECT * FROM {table}")
    db.execute(f"DELETE FROM {table}")
    db.execute(f"INSERT INTO {table} ({names}) SELECT {told} FROM numbers, one ORDER BY n, one.rowid")
    db.execute("DROP TABLE one")


def _renamed(name: str, kind: str, column: str) -> str:
    """A column as the clones have it: what is unique in a table is so among them too."""
    if name == column:
        return "printf('s%07d', n)"
    if name == "run_id":
        return "run_id || '-' || n"
    return f"n * 1000 + {name}" if name in ("id", "message_id") and kind == "INTEGER" else f'"{name}"'


# files


def _fill_folder(folder: Path, histories: Path, kept: str, sessions: int) -> None:
    (folder / "histories").mkdir()
    first = folder / "histories" / "s0000001.json"
    messages = json.loads((histories / f"{kept}.json").read_text())
    first.write_text(json.dumps(messages[:KEPT]))
    for number in range(2, sessions + 1):
        shutil.copyfile(first, folder / "histories" / f"s{number:07d}.json")


# Redis


def _fill_redis(client: redis.Redis, dump: list[Item], kept: str, sessions: int) -> None:
    load_dump(client, [item for item in dump if "tau-" not in json.dumps(item)])  # states
    own = json.dumps([_shortened(item, kept) for item in dump if kept in item["key"] or kept in item["value"]])
    for begin in range(1, sessions + 1, _AT_A_TIME):
        pipeline = client.pipeline(transaction=False)
        for number in range(begin, min(begin + _AT_A_TIME, sessions + 1)):
            load_dump(pipeline, json.loads(own.replace(kept, f"s{number:07d}")))
        pipeline.execute()


def _shortened(item: Item, kept: str) -> Item:
    """*item* with the first entries alone, and of a user's sessions with that one."""
    value = item["value"]
    if isinstance(value, list):
        value = value[:KEPT]
    elif isinstance(value, dict):
        names = [kept] if kept in value else sorted(value)[:KEPT]
        value = {name: value[name] for name in names}
    return {**item, "value": value, "ttl_ms": -1}
