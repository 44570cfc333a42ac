"""The tables of an AgentOS database: which there are, and what is asked of them, in SQL. Nothing of them is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from session_adapter.formats.agno import JSON_COLUMNS, ROW_COLUMNS
from session_api.agno_engines import Spelling
from session_api.tables import COMPONENTS, Listing
from unified_storage.backends.sql.statements import Call, Steps
from unified_storage.errors import StorageConfigurationError

SESSIONS = "agno_sessions"
COLUMNS = (*ROW_COLUMNS, *JSON_COLUMNS, "created_at", "updated_at")
"""The columns of a session, in the order in which they are asked for."""
RUN_COLUMNS = (
    "run_id",
    "session_id",
    "run_type",
    *COMPONENTS.values(),
    "user_id",
    "parent_run_id",
    "status",
    "run_index",
    "run_data",
    "created_at",
    "updated_at",
)
_RUNS, _RESULTS, _PAYLOADS = "agno_runs", "agno_tool_results", "agno_fs"
_FOLLOWERS = {"agno_transcripts": "agno_session_id", "agno_compactions": "session_id", _RESULTS: "session_id"}
"""Tables that hold parts of a conversation beside its runs, and where they name its session."""
_NEEDED = frozenset(COLUMNS)
_SCHEMAS = ("", "ai")
"""Where the tables of sessions are looked for, the nearest first: where the connection looks, and agno's own place."""
_IN_ORDER = "run_index, created_at, run_id"
"""Runs as agno reads them."""
_SORTED_BY = frozenset({"session_id", "session_type", "user_id", *COMPONENTS.values()})
"""Texts that a list may be ordered by, beside its times."""


@dataclass(frozen=True, slots=True)
class AgnoSchema:
    """Tables, by their names as SQL, and statements on them.

    Attributes:
        runs: None where AgentOS has made none yet.
        has_older_runs: the sessions have a column of runs, which an upgrade from 2.x leaves.
        followers: tables that hold parts of a conversation, with the column that names its session.
        payloads: what tool results point to, and the table of these; None where either is missing.
    """

    spelling: Spelling
    sessions: str
    runs: str | None
    has_older_runs: bool
    followers: Mapping[str, str]
    payloads: tuple[str, str] | None

    # one session

    def row(self, session_id: str, user_id: str | None, *, locked: bool = False) -> Call:
        """The columns of a session, and its older runs."""
        older = ", runs" if self.has_older_runs else ""
        where, values = _named([session_id], user_id)
        lock = self.spelling.locked if locked else ""
        return Call(f"SELECT {', '.join(COLUMNS)}{older} FROM {self.sessions} WHERE {where}{lock}", values)

    def runs_of(self, session_id: str) -> Call:
        """``(run_id, run_data)`` of a session's runs, in their order."""
        return Call(f"SELECT run_id, run_data FROM {self.runs} WHERE session_id = ? ORDER BY {_IN_ORDER}", [session_id])

    def insert(self, columns: Mapping[str, object]) -> Call:
        """Insert a session; no row comes back where its id is in use."""
        sql = _insert(self.sessions, [*columns]) + " ON CONFLICT (session_id) DO NOTHING RETURNING session_id"
        return Call(sql, [*columns.values()])

    def owner(self, session_id: str) -> Call:
        """Whose session it is."""
        return Call(f"SELECT user_id FROM {self.sessions} WHERE session_id = ?", [session_id])

    def update(self, session_id: str, columns: Mapping[str, object]) -> Call:
        changes = ", ".join(f"{name} = ?" for name in columns)
        return Call(f"UPDATE {self.sessions} SET {changes} WHERE session_id = ?", [*columns.values(), session_id])

    def insert_runs(self, rows: Sequence[Mapping[str, object]]) -> Call:
        """Insert runs, but for those whose ids are in use."""
        sql = _insert(str(self.runs), RUN_COLUMNS) + " ON CONFLICT (run_id) DO NOTHING"
        return Call(sql, [[row[name] for name in RUN_COLUMNS] for row in rows], many=True)

    def delete(self, session_ids: Sequence[str], user_id: str | None) -> Call:
        """Delete sessions; the ids of those that were there come back."""
        where, values = _named(session_ids, user_id)
        return Call(f"DELETE FROM {self.sessions} WHERE {where} RETURNING session_id", values)

    def delete_parts(self, session_ids: Sequence[str]) -> list[Call]:
        """Delete what else there is of sessions."""
        marks = _marks(len(session_ids))
        parts = [f"DELETE FROM {table} WHERE {column} IN ({marks})" for table, column in self.followers.items()]
        if self.payloads is not None:
            payloads, results = self.payloads
            pointed_to = f"SELECT namespace, path FROM {results} WHERE session_id IN ({marks})"
            parts.insert(0, f"DELETE FROM {payloads} WHERE (namespace, path) IN ({pointed_to})")
        return [Call(sql, session_ids) for sql in parts]

    # many

    def count(self, wanted: Listing) -> Call:
        where, values = self._where(wanted)
        return Call(f"SELECT count(*) FROM {self.sessions}{where}", values)

    def page(self, wanted: Listing, limit: int) -> Call:
        """The columns of the sessions of a page."""
        where, values = self._where(wanted)
        sql = f"SELECT {', '.join(COLUMNS)} FROM {self.sessions}{where} ORDER BY {self._order(wanted)}"
        return Call(f"{sql} LIMIT ? OFFSET ?", [*values, limit, wanted.skip])

    def first_runs(self, session_ids: Sequence[str], count: int) -> Call:
        """``(session_id, run_data)`` of the first *count* runs of each session, in their order."""
        of_one = f"SELECT session_id, run_data FROM {self.runs} WHERE session_id = ? ORDER BY {_IN_ORDER} LIMIT {count}"
        return Call(" UNION ALL ".join([f"SELECT * FROM ({of_one}) AS one"] * len(session_ids)), session_ids)

    def check(self) -> Call:
        return Call(f"SELECT 1 FROM {self.sessions} LIMIT 1", is_all=True)

    def _where(self, wanted: Listing) -> tuple[str, list[object]]:
        kind = wanted.session_type
        conditions: list[str] = []
        values: list[object] = []
        for column, value in (("session_type", None if kind is None else str(kind)), ("user_id", wanted.user_id)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if wanted.component_id is not None:
            columns = [*COMPONENTS.values()] if kind is None else [COMPONENTS[kind]]
            conditions.append(f"({' OR '.join(f'{column} = ?' for column in columns)})")
            values += [wanted.component_id] * len(columns)
        if wanted.session_name:
            conditions.append(f"{self.spelling.name} {self.spelling.like}")
            values.append(f"%{wanted.session_name}%")
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), values

    def _order(self, wanted: Listing) -> str:
        """By the column asked for, nothing as the smallest, and by id where it says nothing."""
        direction = "DESC" if wanted.descending else "ASC"
        by_id = f"session_id{self.spelling.by_code_point}"
        match wanted.sort_by:
            case "created_at":
                return f"created_at {direction}, {by_id}"
            case "updated_at":
                return f"coalesce(updated_at, created_at) {direction}, {by_id}"
            case column if column in _SORTED_BY:
                nothing = "LAST" if wanted.descending else "FIRST"
                return f"{column}{self.spelling.by_code_point} {direction} NULLS {nothing}, {by_id}"
        return by_id


def _named(session_ids: Sequence[str], user_id: str | None) -> tuple[str, list[str]]:
    where = f"session_id IN ({_marks(len(session_ids))})"
    return (where, [*session_ids]) if user_id is None else (f"{where} AND user_id = ?", [*session_ids, user_id])


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({_marks(len(columns))})"


def _marks(count: int) -> str:
    return ", ".join("?" * count)


# which tables there are


def found_schema(spelling: Spelling, named: Sequence[str] = ()) -> Steps[AgnoSchema | None]:
    """The tables of the database; None where it holds no sessions of agno's.

    Args:
        named: the table of the sessions, with its schema or without, and that of their runs, where they do not have
            their usual names.
    """
    schema, _, sessions = (named[0] if named else SESSIONS).rpartition(".")
    runs = named[1].rpartition(".")[2] if len(named) > 1 else _RUNS if sessions == SESSIONS else f"{sessions}_runs"
    tables = yield from _tables(spelling, [sessions, runs, *_FOLLOWERS, _PAYLOADS])
    places = [place for place in ((schema,) if schema else _SCHEMAS) if tables.get((place, sessions), set()) >= _NEEDED]
    if not places:
        return None
    at = places[0]
    there = {table: _quoted(at, table) for place, table in tables if place == at}
    has_payloads = (spelling.payloads, _PAYLOADS) in tables and _RESULTS in there
    parts = {runs: "session_id", **_FOLLOWERS}
    return AgnoSchema(
        spelling,
        sessions=there[sessions],
        runs=there.get(runs),
        has_older_runs="runs" in tables[at, sessions],
        followers={there[table]: column for table, column in parts.items() if table in there},
        payloads=(_quoted(spelling.payloads, _PAYLOADS), there[_RESULTS]) if has_payloads else None,
    )


def _tables(spelling: Spelling, names: Sequence[str]) -> Steps[dict[tuple[str, str], set[str]]]:
    """The columns of those tables that are there, by schema and name; no schema where the connection looks."""
    tables: dict[tuple[str, str], set[str]] = {}
    for schema, is_here, table, column in (yield Call(spelling.catalog.format(_marks(len(names))), names)):
        for place in (schema, "") if is_here else (schema,):
            tables.setdefault((place, table), set()).add(column)
    return tables


def checked_names(text: str) -> list[str]:
    """The tables that ``?tables=`` names: ``sessions`` or ``sessions,runs``."""
    names = text.split(",") if text else []
    if len(names) > 2 or not all(names) or "?" in text or '"' in text:
        raise StorageConfigurationError("tables names the table of the sessions, and after a comma that of their runs")
    return names


def _quoted(schema: str, table: str) -> str:
    return ".".join(f'"{name}"' for name in (schema, table) if name)
