"""The index of a survey: what was found, kept in a temporary file of SQLite's own instead of in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

_BATCH = 500


def temporary_database(schema: str) -> sqlite3.Connection:
    """A private database that spills to disk and is gone with its connection, however the process ends."""
    # The empty name is SQLite's own temporary file: unlinked as soon as it is opened. One task uses it at a time,
    # from whichever thread that runs in.
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA cache_size = -2048")
    connection.executescript(schema)
    return connection


def in_batches(connection: sqlite3.Connection, sql: str, parameters: Iterable[Any] = ()) -> Iterator[list[Any]]:
    """The rows of a query, some hundred at a time."""
    cursor = connection.execute(sql, tuple(parameters))
    while rows := cursor.fetchmany(_BATCH):
        yield rows
