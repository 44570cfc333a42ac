"""The tables of agno's databases: which of them hold its sessions, and how new ones are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from legacy.stores.peers.kinds import Opening, Tables
from legacy.stores.peers.rows import Rows
from session_adapter.formats.agno import AGNO1, AGNO2, AGNO3
from session_adapter.formats.peer import PeerFormat
from unified_storage.errors import StorageConfigurationError

SESSIONS, RUNS, VERSIONS = "agno_sessions", "agno_runs", "agno_schema_versions"
SCHEMA = "ai"
"""Where agno keeps its tables on PostgreSQL."""
LATEST = {AGNO3.name: "3.0.0", AGNO2.name: "2.5.6"}
_OF_SESSIONS = frozenset({"session_id", "session_type", "session_data", "agent_data", "metadata", "created_at"})
_OF_RUNS = frozenset({"run_id", "session_id", "run_type", "run_index", "run_data"})
_OF_VERSIONS = frozenset({"table_name", "version", "created_at", "updated_at"})
_OF_1 = frozenset({"session_id", "user_id", "memory", "session_data", "extra_data", "created_at", "updated_at"})
_SESSION_COLUMNS = """
    session_id VARCHAR NOT NULL,
    session_type VARCHAR NOT NULL,
    agent_id VARCHAR,
    team_id VARCHAR,
    workflow_id VARCHAR,
    user_id VARCHAR,
    session_data {json},
    agent_data {json},
    team_data {json},
    workflow_data {json},
    metadata {json},{runs}
    summary {json},
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    PRIMARY KEY (session_id)
"""
_RUN_COLUMNS = """
    run_id VARCHAR NOT NULL,
    session_id VARCHAR NOT NULL,
    run_type VARCHAR NOT NULL,
    agent_id VARCHAR,
    team_id VARCHAR,
    workflow_id VARCHAR,
    user_id VARCHAR,
    parent_run_id VARCHAR,
    status VARCHAR,
    run_index BIGINT,
    run_data {json} NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    PRIMARY KEY (run_id),
    FOREIGN KEY(session_id) REFERENCES {sessions} (session_id) ON DELETE CASCADE
"""
_VERSION_COLUMNS = """
    table_name VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    created_at VARCHAR NOT NULL,
    updated_at VARCHAR,
    PRIMARY KEY (table_name)
"""
_INDEXED_RUNS = ("run_type", "agent_id", "session_id", "team_id", "created_at", "workflow_id", "status", "user_id")


@dataclass(frozen=True, slots=True)
class AgnoTables:
    """Names of tables, with their schema where that is not the current one.

    Attributes:
        sessions: one, and of 1.x one a kind.
        runs: None before 3.x.
        columns: of the table of the sessions.
    """

    format: PeerFormat
    sessions: tuple[str, ...]
    runs: str | None = None
    versions: str | None = None
    columns: frozenset[str] = frozenset()


def told_format(tables: Tables) -> PeerFormat | None:
    """The format of a database with such tables; None where agno made none of them."""
    columns = [columns for columns in tables.values() if is_of_sessions(columns)]
    if columns:
        has_runs = any(other >= _OF_RUNS for other in tables.values())
        return AGNO3 if has_runs or not all("runs" in found for found in columns) else AGNO2
    return AGNO1 if any(_is_of_1(columns) for columns in tables.values()) else None


def is_of_sessions(columns: frozenset[str]) -> bool:
    return columns >= _OF_SESSIONS


def _is_of_1(columns: frozenset[str]) -> bool:
    return columns >= _OF_1 and bool(columns & {"agent_data", "team_data", "workflow_data"})


def found_tables(tables: Tables, opening: Opening) -> AgnoTables | None:
    """The tables that *opening* means; None where there are none.

    Raises:
        StorageConfigurationError: there are several, or a named one is none.
    """
    named = [name for name in opening.options.get("tables", "").split(",") if name]
    if missing := [name for name in named if name not in tables]:
        if opening.to_write:
            return None
        raise StorageConfigurationError(f"there is no table {missing[0]!r}")
    chosen = {name: tables[name] for name in named} if named else tables
    ones = sorted(name for name, columns in chosen.items() if _is_of_1(columns))
    if opening.family == AGNO1.name and ones:
        return AgnoTables(AGNO1, tuple(ones))
    sessions = [name for name, columns in chosen.items() if is_of_sessions(columns)]
    if len(sessions) > 1:
        told = ", ".join(sorted(sessions))
        raise StorageConfigurationError(f"which table holds the sessions? there are {told}; name it by ?tables=")
    if not sessions:
        return AgnoTables(AGNO1, tuple(ones)) if ones else None
    runs = _one_beside(sessions[0], named, tables, _OF_RUNS, RUNS)
    versions = _one_beside(sessions[0], [], tables, _OF_VERSIONS, VERSIONS)
    columns = tables[sessions[0]]
    format = AGNO3 if runs is not None or "runs" not in columns else AGNO2
    return AgnoTables(format, (sessions[0],), runs, versions, columns)


def _one_beside(sessions: str, named: list[str], tables: Tables, columns: frozenset[str], usual: str) -> str | None:
    """The table with such *columns* in the schema of *sessions*: a named one, the one of the usual name, or the one."""
    schema = _schema_of(sessions)
    found = [name for name, there in tables.items() if columns <= there and _schema_of(name) == schema]
    told = [name for name in found if name in named] or [name for name in found if _bare(name) == usual]
    if told:
        return told[0]
    if len(found) > 1:
        listed = ", ".join(sorted(found))
        raise StorageConfigurationError(f"which table belongs to {sessions}? there are {listed}; name both by ?tables=")
    return found[0] if found else None


def _schema_of(name: str) -> str:
    return name.rpartition(".")[0]


def _bare(name: str) -> str:
    return name.rpartition(".")[2]


# new ones


async def made_tables(rows: Rows, format: PeerFormat, opening: Opening, found: AgnoTables | None) -> AgnoTables:
    """The tables to write to; those that are missing are made as agno makes them."""
    sessions, runs = _names(rows, opening, found)
    with_runs = format is AGNO3
    versions = f"{_prefix(sessions)}{VERSIONS}"
    async with rows.written():
        if found is None:
            await _make_schema(rows, sessions)
            await rows.execute(_statement(rows, sessions, _SESSION_COLUMNS, with_runs=not with_runs))
            await _index(rows, sessions, [("session_type",), ("created_at",)])
        if with_runs:
            await rows.execute(_statement(rows, runs, _RUN_COLUMNS, sessions=sessions))
            await _index(rows, runs, [("session_id", "run_index"), *((name,) for name in _INDEXED_RUNS)])
        await rows.execute(_statement(rows, versions, _VERSION_COLUMNS))
        await _index(rows, versions, [("created_at",)])
        await _note_versions(rows, versions, format, [sessions, *([runs] if with_runs else [])])
    columns = (await rows.tables())[sessions]
    return AgnoTables(format, (sessions,), runs if with_runs else None, versions, columns)


def _names(rows: Rows, opening: Opening, found: AgnoTables | None) -> tuple[str, str]:
    named = [name for name in opening.options.get("tables", "").split(",") if name]
    sessions = found.sessions[0] if found else named[0] if named else SESSIONS
    if not found and rows.engine == "postgresql" and "." not in sessions:
        sessions = f"{SCHEMA}.{sessions}"
    runs = named[1] if len(named) > 1 else RUNS
    return sessions, runs if "." in runs else f"{_prefix(sessions)}{runs}"


def _prefix(name: str) -> str:
    schema = _schema_of(name)
    return f"{schema}." if schema else ""


async def _make_schema(rows: Rows, sessions: str) -> None:
    if schema := _schema_of(sessions):
        await rows.execute(f"CREATE SCHEMA IF NOT EXISTS {rows.quoted(schema)}")


def _statement(rows: Rows, table: str, columns: str, *, sessions: str = "", with_runs: bool = False) -> str:
    kind = "JSONB" if rows.engine == "postgresql" else "JSON"
    runs = f"\n    runs {kind}," if with_runs else ""
    told = columns.format(json=kind, runs=runs, sessions=rows.quoted(sessions) if sessions else "")
    return f"CREATE TABLE IF NOT EXISTS {rows.quoted(table)} ({told})"


async def _index(rows: Rows, table: str, indexes: Iterable[tuple[str, ...]]) -> None:
    for columns in indexes:
        name = rows.quoted(f"idx_{_bare(table)}_{'_'.join(columns)}")
        await rows.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {rows.quoted(table)} ({', '.join(columns)})")


async def _note_versions(rows: Rows, versions: str, format: PeerFormat, tables: Iterable[str]) -> None:
    now = datetime.now().isoformat()  # noqa: DTZ005 - agno's own spelling: local and without an offset
    noted = [(_bare(table), LATEST[format.name], now, now) for table in tables]
    insert = f"INSERT INTO {rows.quoted(versions)} (table_name, version, created_at, updated_at) VALUES (?, ?, ?, ?)"
    await rows.execute(f"{insert} ON CONFLICT (table_name) DO NOTHING", noted)
