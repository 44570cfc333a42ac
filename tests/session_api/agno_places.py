"""Databases of agno 3.x for tests: empty ones as agno makes them, and rows put there by hand."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from legacy.stores.peers.agno_tables import found_tables, made_tables
from legacy.stores.peers.kinds import Opening
from legacy.stores.peers.rows import Rows, open_rows
from session_adapter.formats.agno import AGNO3, JSON_COLUMNS, row_of
from session_api.agno_schema import COLUMNS, RUN_COLUMNS
from tests.engines import engine_url, postgresql_connection

Row = Mapping[str, Any]


@asynccontextmanager
async def agno_database(engine: str, folder: Path) -> AsyncIterator[str]:
    """The URL of an empty database of agno's, for the engine itself; on PostgreSQL it is gone afterwards."""
    if engine == "sqlite":
        url = f"sqlite:///{folder}/agno.db"
        await make_tables(url)
        yield url
        return
    async with own_database() as url:
        await make_tables(url)
        yield url


@asynccontextmanager
async def own_database() -> AsyncIterator[str]:
    """The URL of a database of PostgreSQL that nobody else uses, gone afterwards."""
    url, name = engine_url("postgresql"), f"agno_{secrets.token_hex(6)}"
    async with postgresql_connection(url) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{url.rpartition('/')[0]}/{name}"
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def make_tables(url: str) -> None:
    """Make the tables of agno 3.x where they are missing."""
    async with rows_of(url) as rows:
        await made_tables(rows, AGNO3, _opening(url), found_tables(await rows.tables(), _opening(url)))


async def insert_session(url: str, session: Row, runs: Iterable[Row] = ()) -> None:
    """Insert a session and its runs as AgentOS's own writer does; what *session* leaves out is null."""
    row = {name: _column(name, session.get(name)) for name in COLUMNS}
    run_rows = [{**row_of(run, session, at), "run_data": json.dumps(run)} for at, run in enumerate(runs)]
    async with rows_of(url) as rows, rows.written():
        await _insert(rows, "agno_sessions", [row], COLUMNS)
        await _insert(rows, "agno_runs", run_rows, RUN_COLUMNS)


def _column(name: str, value: Any) -> Any:
    return json.dumps(value) if name in JSON_COLUMNS and value is not None else value


async def _insert(rows: Rows, table: str, given: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    name = f"ai.{table}" if rows.engine == "postgresql" else table
    insert = f"INSERT INTO {rows.quoted(name)} ({', '.join(columns)}) VALUES ({rows.listed(len(columns))})"
    await rows.execute(insert, [[row[column] for column in columns] for row in given])


@asynccontextmanager
async def rows_of(url: str) -> AsyncIterator[Rows]:
    """The rows of a database, to be written."""
    rows = await open_rows(_opening(url))
    try:
        yield rows
    finally:
        await rows.close()


def _opening(url: str) -> Opening:
    return Opening("agno", url.partition(":")[0], url, to_write=True)
