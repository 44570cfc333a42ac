"""``SessionTables`` on the tables of an AgentOS database as they are, beside AgentOS itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from session_api.agno_engines import engine_of
from session_api.agno_rows import (
    changed_columns,
    is_storable,
    name_told,
    new_columns,
    new_runs,
    shown_row,
    stored_session,
    value_in,
)
from session_api.agno_schema import AgnoSchema, checked_names, found_schema
from session_api.tables import Changes, Listing, NewSession, Run, SessionRow, SessionTaken, StoredSession
from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.clock import Clock, utc_now
from unified_storage.errors import StorageConfigurationError, StorageError, StorageValidationError
from unified_storage.opening import StorageURL

T = TypeVar("T")
_BEGINNINGS = (1, 10)
"""Runs in which a list looks for a name: the first one, where that tells none a few more, and no further."""
_AT_ONCE = 50
_SQL_IS_WRONG = "42"
"""What PostgreSQL's codes begin with where a statement names what is not there."""


class _Verb(Protocol):
    def __call__(self, steps: StepsOf[T], timeout: float) -> Awaitable[T]: ...


class AgnoTables:
    """Sessions on the tables of agno 3.x, also where an upgrade from 2.x has left runs beside the sessions.

    Args:
        url: of SQLite or PostgreSQL. ``?tables=sessions,runs`` names tables that do not have their usual names.
        clock: tells when something is written.
    """

    def __init__(self, url: StorageURL, *, clock: Clock = utc_now) -> None:
        options = dict(url.options)
        self._names = checked_names(options.pop("tables", ""))
        self._engine, self._spelling, self._timeout = engine_of(url, options)
        self._place = str(url)
        self._clock = clock
        self._schema: AgnoSchema | None = None

    async def open(self) -> None:
        await self._known()

    async def close(self) -> None:
        await self._engine.close()

    async def check(self) -> None:
        await self._done(self._engine.read, lambda schema: _rows(schema.check()))

    async def look(self, table: str) -> tuple[AgnoSchema | None, bool]:
        """The tables of agno's that there are, and whether there is a table of that name too."""

        def looked() -> Steps[tuple[AgnoSchema | None, bool]]:
            schema = yield from self._there()
            found = yield Call(self._engine.dialect.has_table, [table])
            return schema, bool(found[0][0])

        return await self._engine.read(looked, self._timeout)

    # reading

    async def page(self, wanted: Listing) -> tuple[list[SessionRow], int]:
        if not self._may_hold(wanted.user_id, wanted.component_id, wanted.session_name):
            return [], 0
        return await self._done(self._engine.read, lambda schema: _page(schema, wanted))

    async def get(self, session_id: str, user_id: str | None) -> StoredSession | None:
        if not self._may_hold(session_id, user_id):
            return None
        return await self._done(self._engine.read, lambda schema: _session(schema, session_id, user_id))

    # writing

    async def create(self, new: NewSession) -> SessionRow:
        now = self._clock()
        columns, runs = new_columns(new, now, self._spelling), new_runs(new, now, self._spelling)

        def made(schema: AgnoSchema) -> Steps[SessionRow]:
            if not (yield schema.insert(columns)):
                owners = yield schema.owner(new.session_id)
                raise SessionTaken(new.session_id, owners[0][0] if owners else None)
            if runs:
                yield from _insert_runs(schema, new.session_id, runs)
            [row] = yield schema.row(new.session_id, None)
            return shown_row(row)

        return await self._done(self._engine.write, made)

    async def change(self, session_id: str, user_id: str | None, changes: Changes) -> StoredSession | None:
        if not self._may_hold(session_id, user_id):
            return None
        now = self._clock()

        def changed(schema: AgnoSchema) -> Steps[StoredSession | None]:
            found = yield schema.row(session_id, user_id, locked=True)
            if not found:
                return None
            yield schema.update(session_id, changed_columns(found[0], changes, now, self._spelling))
            return (yield from _session(schema, session_id, user_id))

        return await self._done(self._engine.write, changed)

    async def delete(self, session_id: str, user_id: str | None) -> bool:
        return await self.delete_many([session_id], user_id) > 0

    async def delete_many(self, session_ids: Sequence[str], user_id: str | None) -> int:
        if not self._may_hold(user_id):
            return 0
        ids = [id for id in dict.fromkeys(session_ids) if self._may_hold(id)]

        def deleted(known: AgnoSchema) -> Steps[int]:
            schema = (yield from self._there()) or known  # AgentOS makes some tables when it first needs them
            count = 0
            for some in _chunks(ids):
                gone = [row[0] for row in (yield schema.delete(some, user_id))]
                for call in schema.delete_parts(gone) if gone else ():  # noqa: UP028 (a list takes no rows)
                    yield call
                count += len(gone)
            return count

        return await self._done(self._engine.write, deleted)

    # how

    def _may_hold(self, *texts: str | None) -> bool:
        """Whether there can be a row that says all this."""
        return all(text is None or is_storable(text, self._spelling) for text in texts)

    async def _done(self, verb: _Verb, steps: Callable[[AgnoSchema], Steps[T]]) -> T:
        """Carry out *steps*; once more where AgentOS has upgraded its tables meanwhile."""
        schema = await self._known()
        try:
            return await verb(lambda: steps(schema), self._timeout)
        except StorageError as error:
            if not _names_nothing(error):
                raise
            self._schema = None
            found = await self._known()
            if found == schema:
                raise
        return await verb(lambda: steps(found), self._timeout)

    def _there(self) -> Steps[AgnoSchema | None]:
        return found_schema(self._spelling, self._names)

    async def _known(self) -> AgnoSchema:
        if self._schema is None or self._schema.runs is None:  # agno makes the latter with the first run
            self._schema = await self._engine.read(self._there, self._timeout)
        if self._schema is None:
            raise StorageConfigurationError(
                f"there are no tables of AgentOS in {self._place}: start AgentOS once, or name them by ?tables="
            )
        return self._schema


def _names_nothing(error: StorageError) -> bool:
    """Whether a statement named a table or column that is not there; nothing was done then."""
    return error.details.get("code") == "SQLITE_ERROR" or str(error.details.get("sqlstate")).startswith(_SQL_IS_WRONG)


# steps


def _rows(call: Call) -> Steps[list[Row]]:
    return (yield call)


def _session(schema: AgnoSchema, session_id: str, user_id: str | None) -> Steps[StoredSession | None]:
    found = yield schema.row(session_id, user_id)
    if not found:
        return None
    runs = [] if schema.runs is None else (yield schema.runs_of(session_id))
    return stored_session(found[0], runs)


def _page(schema: AgnoSchema, wanted: Listing) -> Steps[tuple[list[SessionRow], int]]:
    [(total,)] = yield schema.count(wanted)
    if wanted.skip >= total:
        return [], total
    rows = [shown_row(row) for row in (yield schema.page(wanted, min(wanted.limit, total)))]
    if schema.runs is not None:
        for count in _BEGINNINGS:
            for some in _chunks([row for row in rows if row.name is None and not row.shown_name]):
                yield from _name(schema, some, count)
    return rows, total


def _name(schema: AgnoSchema, rows: Sequence[SessionRow], count: int) -> Steps[None]:
    """Note what the first *count* runs of sessions without a name call them."""
    runs: dict[str, list[Run]] = {}
    for session_id, run_data in (yield schema.first_runs([row.session_id for row in rows], count)):
        run = value_in(run_data)
        runs.setdefault(session_id, []).extend([run] if isinstance(run, dict) else [])
    for row in rows:
        row.shown_name = name_told(row, runs.get(row.session_id, []))


def _insert_runs(schema: AgnoSchema, session_id: str, runs: Sequence[dict[str, Any]]) -> Steps[None]:
    if schema.runs is None:
        raise StorageConfigurationError("AgentOS has not made its table of runs yet")
    yield schema.insert_runs(runs)
    if len((yield schema.runs_of(session_id))) < len(runs):
        raise StorageValidationError("a run of another session has the id of one of its runs", details={"path": "runs"})


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
