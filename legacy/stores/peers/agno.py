"""agno's databases: 3.x and 2.x, read and written, and 1.x, read only; on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.agno_1 import sessions_of_1, units_of_1
from legacy.stores.peers.agno_marks import marked, marked_sessions
from legacy.stores.peers.agno_tables import AgnoTables, found_tables, made_tables, told_format
from legacy.stores.peers.json_columns import (
    Decoded,
    checked_json,
    decoded,
    encoded,
    encodings_of,
    texts_of,
)
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Tables, Unit, shown_key
from legacy.stores.peers.registry import written_format
from legacy.stores.peers.rows import Row, Rows, opened_on
from session_adapter.formats.agno import AGNO1, AGNO2, AGNO3, JSON_COLUMNS, is_placed, placed_anew, row_of
from session_adapter.formats.agno_runs import without_text
from session_adapter.formats.peer import PeerFormat
from session_adapter.formats.places import is_mapping
from session_adapter.formats.runs import own_id
from unified_storage.errors import StorageConfigurationError, StorageValidationError

FORMATS = (AGNO3, AGNO2, AGNO1)
OPTIONS = frozenset({"tables"})

_IN_ORDER = "run_index ASC, created_at ASC, run_id ASC"
"""As agno reads them; where a row without an index stands is the engine's own word."""


def told_by(tables: Tables) -> PeerFormat | None:
    return told_format(tables)


async def open_store(opening: Opening) -> PeerStore:
    return await opened_on(opening, _opened)


async def _opened(rows: Rows, opening: Opening) -> PeerStore:
    tables = found_tables(await rows.tables(), opening)
    if opening.to_write:
        tables = await _writable(rows, tables, opening)
    if tables is None:
        raise StorageConfigurationError("there are no tables of agno")
    return AgnoStore(rows, tables, await _version(rows, tables))


async def _writable(rows: Rows, found: AgnoTables | None, opening: Opening) -> AgnoTables:
    wanted = written_format(opening)
    if found is None:
        return await made_tables(rows, wanted, opening, None)
    if found.format is AGNO1 or (opening.family == wanted.name and found.format is not wanted):
        raise StorageConfigurationError(f"the tables there are those of {found.format.name}, not {wanted.name}")
    return await made_tables(rows, AGNO3, opening, found) if found.format is AGNO3 and found.runs is None else found


async def _version(rows: Rows, tables: AgnoTables) -> str | None:
    if tables.versions is None:
        return None
    select = f"SELECT version FROM {rows.quoted(tables.versions)} WHERE table_name = ?"
    found = await rows.select(select, tables.sessions[0].rpartition(".")[2])
    return str(found[0]["version"]) if found else None


class AgnoStore:
    """See ``PeerStore``."""

    def __init__(self, rows: Rows, tables: AgnoTables, version: str | None) -> None:
        self.format = tables.format
        self.version = version
        self._rows = rows
        self._tables = tables
        self._sessions = rows.quoted(tables.sessions[0])
        self._runs = None if tables.runs is None else rows.quoted(tables.runs)
        self._has_run_rows = self.format is AGNO3  # though their table may not have been made yet
        # 2.x encodes what its engine encodes again
        self._times = 2 if self.format is AGNO2 and rows.engine == "sqlite" else 1

    # what there is

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        if self.format is AGNO1:
            async for units in units_of_1(self._rows, self._tables.sessions):
                yield units
            return
        async for rows in self._rows.stream(f"SELECT session_id FROM {self._sessions}"):
            yield [unit_of(row["session_id"], self._tables.sessions[0]) for row in rows]
        if self._runs is not None:
            async for items in self._orphans(self._runs):
                yield items

    async def marked_units(self) -> AsyncIterator[list[Unit | Item]]:
        if self.format not in (AGNO3, AGNO2):  # of what other programs write nobody has seen how times move
            async for units in self.units():
                yield units
            return
        label = self._tables.sessions[0]
        async for rows in self._rows.stream(marked_sessions(self._rows, self._sessions, self._runs)):
            yield [marked(unit_of(row["session_id"], label), row) for row in rows]
        if self._runs is not None:
            async for items in self._orphans(self._runs):
                yield items

    async def _orphans(self, runs: str) -> AsyncIterator[list[Unit | Item]]:
        """Runs whose session is not there: deleted on an engine that did not look after them."""
        there = f"SELECT 1 FROM {self._sessions} AS held WHERE held.session_id = {runs}.session_id"
        select = f"SELECT DISTINCT session_id FROM {runs} WHERE NOT EXISTS ({there})"
        async for rows in self._rows.stream(select):
            ids = (row["session_id"] for row in rows)
            yield [Item(self._tables.runs, _shown(id), QUARANTINED, ("runs_without_session",)) for id in ids]

    def unit(self, key: Key) -> Unit:
        return Unit(key, shown_key(key), self._tables.sessions[0])

    # what is in it

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        if self.format is AGNO1:
            return await sessions_of_1(self._rows, units)
        places = [unit.place for unit in units]
        among = f"session_id IN ({self._rows.listed(len(places))})"
        rows = await self._rows.select(f"SELECT * FROM {self._sessions} WHERE {among}", *places)
        by_id = {row["session_id"]: row for row in rows}
        runs: dict[str, list[Row]] = {place: [] for place in places}
        if self._runs is not None:
            select = f"SELECT * FROM {self._runs} WHERE {among} ORDER BY {_IN_ORDER}"
            for row in await self._rows.select(select, *places):
                runs[row["session_id"]].append(row)
        return [self._found(unit, by_id.get(unit.place), runs[unit.place]) for unit in units]

    def _found(self, unit: Unit, row: Row | None, run_rows: list[Row]) -> Found | Item:
        if row is None:
            return Item(unit.label, unit.place, IGNORED, ("vanished",))
        try:
            return self._session(unit, row, run_rows)
        except StorageValidationError as error:
            reason = str(error.details.get("path", "unreadable"))
            return Item(unit.label, unit.place, QUARANTINED, (reason,), detail=error.message)

    def _session(self, unit: Unit, row: Row, run_rows: list[Row]) -> PeerSession:
        columns = {name: decoded(value) for name, value in row.items() if name in (*JSON_COLUMNS, "runs")}
        session = {name: columns[name].value if name in columns else value for name, value in row.items()}
        warnings = [f"{name}_{word}" for name, column in columns.items() for word in column.warnings]
        held = columns.pop("runs", Decoded(None, 0))
        session.pop("runs", None)
        if not self._has_run_rows:
            columns["runs"] = held
            document = {"session": session, "runs": listed_runs(held)}
        else:
            told = _Told(session)
            for run_row in run_rows:
                told.add(run_row)
            document = {"session": session, **told.merged(listed_runs(held) or [])}
            warnings += told.warnings
        for name, spelled in (("encoded", encodings_of(columns, self._times)), ("texts", texts_of(columns))):
            if spelled:
                document[name] = spelled
        size = size_of(row) + sum(map(size_of, run_rows))
        return PeerSession(unit.place, document, warnings=tuple(dict.fromkeys(warnings)), label=unit.label, size=size)

    # writing

    def settled(self, found: PeerSession) -> PeerSession | Item:
        """*found*, whose runs have places by which this engine gives them back in their order."""
        rows = found.document.get("rows") or []
        # PostgreSQL sorts what is null behind all else, SQLite before it.
        before = [is_placed(row) == (self._rows.engine == "postgresql") for row in rows]
        if before == sorted(before, reverse=True):
            return found
        return replace(found, document={**found.document, "rows": placed_anew(rows)})

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        rows = [self._guarded(at, one, self._session_row) for at, one in enumerate(sessions)]
        runs = [self._guarded(at, one, self._run_rows) for at, one in enumerate(sessions)]
        gone = [(one.key,) for one in sessions]
        async with self._rows.written():
            if self._runs is not None:
                await self._refuse_taken(sessions)
            await self._put(self._sessions, rows)
            if self._runs is not None:
                await self._rows.execute(f"DELETE FROM {self._runs} WHERE session_id = ?", gone)
                await self._insert(self._runs, [row for rows in runs for row in rows])

    @staticmethod
    def _guarded(at: int, one: PeerSession, made: Any) -> Any:
        try:
            return made(one)
        except StorageValidationError as error:
            error.details["index"] = at
            raise

    def _session_row(self, one: PeerSession) -> Row:
        document = one.document
        values = dict(document["session"])
        if not self._has_run_rows:
            values["runs"] = document.get("runs")
        if lacking := [name for name in values.keys() - self._tables.columns if values[name] is not None]:
            told = f"its table has no column {min(lacking)!r}"
            raise StorageValidationError(told, details={"path": min(lacking)})
        # of 3.x that leaves nothing in the copy of the runs that an upgrade left: they have rows now
        row = {name: values.get(name) for name in sorted(self._tables.columns)}
        return {name: self._column(name, value, document) for name, value in row.items()}

    def _column(self, name: str, value: Any, document: Mapping[str, Any]) -> Any:
        if name not in (*JSON_COLUMNS, "runs"):
            return checked_text(value, self._rows.engine, name)
        text = document.get("texts", {}).get(name)
        if text is not None and self._rows.engine == "sqlite" and value == decoded(text).value:
            return text
        times = document.get("encoded", {}).get(name, self._times) if self._rows.engine == "sqlite" else 1
        return encoded(value, self._rows.engine, times=times, path=name)

    def _run_rows(self, one: PeerSession) -> list[Row]:
        if self._runs is None:
            return []
        session, known = one.document["session"], one.document["rows"]
        rows: list[Row] = []
        index = 0
        for run, told in zip(one.document["runs"], known, strict=True):
            row = row_of(run, session, index) | told
            row["run_data"] = run["run_data"] if without_text(run) else checked_json(run, self._rows.engine, "run_data")
            rows.append({name: checked_text(value, self._rows.engine, name) for name, value in row.items()})
            index = index if row["run_index"] is None else row["run_index"] + 1
        return rows

    async def _refuse_taken(self, sessions: Sequence[PeerSession]) -> None:
        """Raise where a run's id is that of another session's run: it names one row."""
        owners: dict[str, str] = {}
        for at, one in enumerate(sessions):
            ids = [own_id(run) or "" for run in one.document["runs"]]
            for some in (ids[place : place + 500] for place in range(0, len(ids), 500)):
                select = f"SELECT run_id FROM {self._runs} WHERE run_id IN ({self._rows.listed(len(some))})"
                taken = await self._rows.select(f"{select} AND session_id <> ?", *some, one.key)
                here = [id for id in some if owners.setdefault(id, str(one.key)) != one.key]
                if taken or here:
                    told = "a run of another session has the id of one of its runs"
                    raise StorageValidationError(told, details={"index": at, "path": "runs.run_id"})

    async def _put(self, table: str, rows: list[Row]) -> None:
        """Insert or replace; no row is deleted, since others may point to it."""
        columns = [name for name in rows[0] if name != "session_id"] if rows else []
        names = ", ".join(self._rows.quoted(name) for name in ("session_id", *columns))
        changes = ", ".join(f"{self._rows.quoted(name)} = excluded.{self._rows.quoted(name)}" for name in columns)
        insert = f"INSERT INTO {table} ({names}) VALUES ({self._rows.listed(len(columns) + 1)})"
        values = [(row["session_id"], *(row[name] for name in columns)) for row in rows]
        await self._rows.execute(f"{insert} ON CONFLICT (session_id) DO UPDATE SET {changes}", values)

    async def _insert(self, table: str, rows: list[Row]) -> None:
        if rows:
            columns = [*dict.fromkeys(name for row in rows for name in row)]
            names = ", ".join(self._rows.quoted(name) for name in columns)
            insert = f"INSERT INTO {table} ({names}) VALUES ({self._rows.listed(len(columns))})"
            await self._rows.execute(insert, [tuple(row.get(name) for name in columns) for row in rows])

    async def close(self) -> None:
        await self._rows.close()


class _Told:
    """The runs of one session, row by row, and what each row says beside its run."""

    def __init__(self, session: Mapping[str, Any]) -> None:
        self._session = session
        self._runs: list[Any] = []
        self._rows: list[dict[str, Any]] = []
        self._index = 0
        self.warnings: list[str] = []

    def add(self, row: Row) -> None:
        data = decoded(row["run_data"])
        self.warnings += [f"run_{word}" for word in data.warnings]
        run = data.value
        if not is_mapping(run) or own_id(run) != row["run_id"]:
            run = {"run_id": row["run_id"], "run_data": _as_text(row["run_data"])}
            self.warnings.append("run_unreadable")
        usual = row_of(run, self._session, self._index)
        other = {name: value for name, value in row.items() if name != "run_data" and value != usual.get(name)}
        self._runs.append(run)
        self._rows.append({"run_id": row["run_id"], **other})
        self._index = self._index if row["run_index"] is None else row["run_index"] + 1

    def merged(self, older: Sequence[Any]) -> dict[str, list[Any]]:
        """Runs and rows, with those of *older*, the copy that an upgrade leaves: what has a row counts by it."""
        if not older:
            return {"runs": self._runs, "rows": self._rows}
        runs, rows = dict(self._named(self._runs)), {row["run_id"]: row for row in self._rows}
        merged = {id: runs.get(id, run) for id, run in self._named(older)}
        merged |= {id: run for id, run in runs.items() if id not in merged}
        if len(merged) == len(runs) and [*merged] == [*runs]:
            return {"runs": self._runs, "rows": self._rows}
        placed = [
            {name: value for name, value in rows.get(id, {"run_id": id}).items() if name != "run_index"}
            for id in merged
        ]
        return {"runs": [*merged.values()], "rows": placed}

    def _named(self, runs: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        for run in runs:
            id = own_id(run)
            if id is not None:
                yield id, run
            elif "run_without_id" not in self.warnings:
                self.warnings.append("run_without_id")  # agno itself never shows it


def listed_runs(column: Decoded) -> list[Any] | None:
    """The runs that a column holds; None for none at all.

    Raises:
        StorageValidationError: it holds something else.
    """
    if column.value is None or isinstance(column.value, list):
        return column.value
    raise StorageValidationError("its column of runs holds no list", details={"path": "runs_unreadable"})


def unit_of(session_id: Any, table: str) -> Unit | Item:
    """Where a session of that id stands; an Item for what is no id."""
    if isinstance(session_id, str) and session_id:
        return Unit(session_id, session_id, table)
    reason = "no_session_id" if session_id in (None, "") else "invalid_session_id"
    return Item(table, _shown(session_id), QUARANTINED, (reason,))


def _shown(id: Any) -> str | None:
    return None if id is None else str(id)


def _as_text(stored: Any) -> str:
    return stored if isinstance(stored, str) else bytes(stored).decode() if isinstance(stored, bytes) else str(stored)


def size_of(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def checked_text(value: Any, engine: str, name: str) -> Any:
    """*value* of a column that is no JSON; raises for a text that the engine does not take."""
    if isinstance(value, str) and (any("\ud800" <= mark <= "\udfff" for mark in value) or _has_nul(value, engine)):
        raise StorageValidationError(f"{name} holds characters that its column does not take", details={"path": name})
    return value


def _has_nul(value: str, engine: str) -> bool:
    return engine == "postgresql" and "\0" in value
