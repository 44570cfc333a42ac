"""agno-go's databases: its library's table on SQLite and PostgreSQL, and its service's, which is that of agno 2.x."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.agno import AgnoStore, checked_text, listed_runs, size_of, unit_of
from legacy.stores.peers.agno_tables import AgnoTables, is_of_sessions
from legacy.stores.peers.json_columns import Decoded, checked_json, decoded
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Tables, Unit, shown_key
from legacy.stores.peers.registry import written_format
from legacy.stores.peers.rows import Row, Rows, opened_on
from session_adapter.formats.agno_go import AGNO_GO, AGNO_GO_SERVICE, JSON_COLUMNS, iso_time, sql_time
from session_adapter.formats.format import TIMES
from session_adapter.formats.peer import PeerFormat
from session_adapter.timestamps import read_time
from unified_storage.errors import StorageConfigurationError, StorageValidationError

FORMATS = (AGNO_GO, AGNO_GO_SERVICE)
OPTIONS = frozenset({"tables"})
_OF_LIBRARY = frozenset({"session_id", "user_id", "name", "state", "agent_data", "runs", "summary", "created_at"})
_USUAL = {"sqlite": "sessions", "postgresql": "agno_agentos_sessions"}
_LIBRARY_COLUMNS = """
    session_id TEXT PRIMARY KEY,
    agent_id TEXT,
    team_id TEXT,
    workflow_id TEXT,
    user_id TEXT,
    name TEXT,
    metadata {json},
    state {json},
    agent_data {json},
    runs {json},
    summary {json},
    created_at {time},
    updated_at {time}
"""
_SERVICE_COLUMNS = """
    session_id TEXT PRIMARY KEY,
    session_type TEXT NOT NULL,
    agent_id TEXT,
    team_id TEXT,
    workflow_id TEXT,
    user_id TEXT,
    session_data JSONB,
    agent_data JSONB,
    team_data JSONB,
    workflow_data JSONB,
    metadata JSONB,
    runs JSONB,
    summary JSONB,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
"""
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def told_by(tables: Tables) -> PeerFormat | None:
    return AGNO_GO if any(_is_of_library(columns) for columns in tables.values()) else None


def _is_of_library(columns: frozenset[str]) -> bool:
    return columns >= _OF_LIBRARY and "session_type" not in columns


def _is_of_service(columns: frozenset[str]) -> bool:
    return is_of_sessions(columns) and "runs" in columns


async def open_store(opening: Opening) -> PeerStore:
    return await opened_on(opening, _opened)


async def _opened(rows: Rows, opening: Opening) -> PeerStore:
    tables = await rows.tables()
    found = _found(tables, opening, rows.engine)
    if found is None and opening.to_write:
        found = await _made(rows, written_format(opening), opening.options.get("tables"))
        tables = await rows.tables()
    if found is None:
        raise StorageConfigurationError("there are no tables of agno-go")
    format, name = found
    if format is AGNO_GO_SERVICE:
        return AgnoStore(rows, AgnoTables(format, (name,), columns=tables[name]), None)
    return _Library(rows, name, tables[name])


def _found(tables: Tables, opening: Opening, engine: str) -> tuple[PeerFormat, str] | None:
    named = opening.options.get("tables")
    chosen = {name: columns for name, columns in tables.items() if named in (None, name)}
    found: list[tuple[PeerFormat, str]] = []
    if opening.family != AGNO_GO_SERVICE.name:
        found += [(AGNO_GO, name) for name, columns in chosen.items() if _is_of_library(columns)]
    if engine == "postgresql":
        found += [(AGNO_GO_SERVICE, name) for name, columns in chosen.items() if _is_of_service(columns)]
    if len(found) > 1:
        told = ", ".join(sorted(name for _, name in found))
        raise StorageConfigurationError(f"which table holds the sessions? there are {told}; name it by ?tables=")
    return found[0] if found else None


async def _made(rows: Rows, format: PeerFormat, named: str | None) -> tuple[PeerFormat, str]:
    name = named or ("agno_sessions" if format is AGNO_GO_SERVICE else _USUAL[rows.engine])
    on_server = rows.engine == "postgresql"
    kinds = {"json": "JSONB" if on_server else "TEXT", "time": "TIMESTAMPTZ" if on_server else "DATETIME"}
    columns = _SERVICE_COLUMNS if format is AGNO_GO_SERVICE else _LIBRARY_COLUMNS.format(**kinds)
    async with rows.written():
        await rows.execute(f"CREATE TABLE {rows.quoted(name)} ({columns})")
        for column in ("session_type", "created_at") if format is AGNO_GO_SERVICE else ():
            index = rows.quoted(f"idx_{name.rpartition('.')[2]}_{column}")
            await rows.execute(f"CREATE INDEX {index} ON {rows.quoted(name)} ({column})")
    return format, name


class _Library:
    """See ``PeerStore``."""

    format: PeerFormat = AGNO_GO
    version: str | None = None

    def __init__(self, rows: Rows, name: str, columns: frozenset[str]) -> None:
        self._rows = rows
        self._name = name
        self._columns = columns
        self._table = rows.quoted(name)

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        async for rows in self._rows.stream(f"SELECT session_id FROM {self._table}"):
            yield [unit_of(row["session_id"], self._name) for row in rows]

    def unit(self, key: Key) -> Unit:
        return Unit(key, shown_key(key), self._name)

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        places = [unit.place for unit in units]
        select = f"SELECT * FROM {self._table} WHERE session_id IN ({self._rows.listed(len(places))})"
        by_id = {row["session_id"]: row for row in await self._rows.select(select, *places)}
        return [_session(unit, by_id.get(unit.place)) for unit in units]

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        rows = [self._row(at, one) for at, one in enumerate(sessions)]
        columns = [name for name in sorted(self._columns) if name != "session_id"]
        names = ", ".join(self._rows.quoted(name) for name in ("session_id", *columns))
        changes = ", ".join(f"{self._rows.quoted(name)} = excluded.{self._rows.quoted(name)}" for name in columns)
        insert = f"INSERT INTO {self._table} ({names}) VALUES ({self._rows.listed(len(columns) + 1)})"
        values = [(row["session_id"], *(row.get(name) for name in columns)) for row in rows]
        async with self._rows.written():
            await self._rows.execute(f"{insert} ON CONFLICT (session_id) DO UPDATE SET {changes}", values)

    def _row(self, at: int, one: PeerSession) -> Row:
        values = {**one.document["session"], "runs": one.document["runs"]}
        texts = one.document.get("texts", {})
        try:
            if lacking := [name for name in values.keys() - self._columns if values[name] is not None]:
                told = f"its table has no column {min(lacking)!r}"
                raise StorageValidationError(told, details={"path": min(lacking)})
            return {name: self._column(name, value, texts) for name, value in values.items()}
        except StorageValidationError as error:
            error.details["index"] = at
            raise

    def _column(self, name: str, value: Any, texts: dict[str, Any]) -> Any:
        if name in JSON_COLUMNS:
            return self._json(name, value, texts)
        if name in TIMES and self._rows.engine == "postgresql":
            return read_time(iso_time(value), UTC).moment
        return checked_text(value, self._rows.engine, name)

    def _json(self, name: str, value: Any, texts: dict[str, Any]) -> Any:
        if self._rows.engine == "postgresql":
            return checked_json(value, self._rows.engine, name)
        if name in texts and (texts[name] is None or value == decoded(texts[name]).value):
            return None if texts[name] is None and value is None else _blob(texts[name] or go_json(value, name))
        return _blob(go_json(value, name))

    async def close(self) -> None:
        await self._rows.close()


def go_json(value: Any, path: str) -> str:
    """*value* as Go's JSON spells it: without spaces, and with what HTML takes for its own escaped."""
    checked_json(value, "sqlite", path)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(_ESCAPED.get(mark, mark) for mark in text) if any(mark in text for mark in _ESCAPED) else text


def _blob(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _session(unit: Unit, row: Row | None) -> Found | Item:
    if row is None:
        return Item(unit.label, unit.place, IGNORED, ("vanished",))
    try:
        columns = {name: decoded(value) for name, value in row.items() if name in JSON_COLUMNS}
        runs = listed_runs(columns["runs"])
    except StorageValidationError as error:
        return Item(unit.label, unit.place, QUARANTINED, (str(error.details.get("path")),), detail=error.message)
    values = {name: columns[name].value if name in columns else _plain(value) for name, value in row.items()}
    session = {name: value for name, value in values.items() if name != "runs"}
    document: dict[str, Any] = {"session": session, "runs": runs}
    if texts := {name: column.text for name, column in columns.items() if _is_odd(column)}:
        document["texts"] = texts
    warnings = [f"{name}_{word}" for name, column in columns.items() for word in column.warnings]
    return PeerSession(
        unit.place, document, warnings=tuple(dict.fromkeys(warnings)), label=unit.label, size=size_of(row)
    )


def _is_odd(column: Decoded) -> bool:
    """Whether the value does not give the column back: it writes ``null`` where others write nothing."""
    return column.times == 0 if column.value is None else column.text is not None


def _plain(value: Any) -> Any:
    return sql_time(value) if isinstance(value, datetime) else value
