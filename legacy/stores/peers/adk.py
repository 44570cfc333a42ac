"""Google ADK's sessions: the tables of its ``DatabaseSessionService`` (v1, v0) and of its ``SqliteSessionService``.

State is what the tables hold, of session, user and app each; the deltas of events are history. Events come as the
library shows them, by time and then by id (the SQLite service: as they came); ``?order=appended`` gives them as they
were appended, which the rows of a SQLite file still tell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

from legacy.stores.file_reading import FileRefused
from legacy.stores.parcels import IGNORED, QUARANTINED, SESSION, Item
from legacy.stores.peers.adk_marks import marked, marked_sessions, marked_states
from legacy.stores.peers.adk_places import EventPlaces, SessionOf
from legacy.stores.peers.adk_rows import Oddities, event_row, state_of, time_text, utc_text, v0_event_row
from legacy.stores.peers.adk_tables import (
    APP_STATES,
    SESSION_KEY,
    USER_STATES,
    among,
    has_index,
    make_index,
    make_tables,
    state_key,
    told_by,
    version_of,
)
from legacy.stores.peers.adk_writing import BLANK_TIME, Writing
from legacy.stores.peers.kinds import (
    APP_STATE,
    USER_STATE,
    AppKey,
    Found,
    Key,
    Opening,
    PeerSession,
    PeerState,
    PeerStore,
    Tables,
    Unit,
    record_key,
    shown_key,
)
from legacy.stores.peers.registry import written_format
from legacy.stores.peers.rows import Row, Rows, opened_on
from session_adapter.formats import PeerFormat
from session_adapter.formats.adk import ADK_SQLITE, ADK_V0, ADK_V1, by_value
from session_adapter.identity import SessionKey, UserKey
from session_adapter.timestamps import Zone, read_time, zone_named
from unified_storage.errors import StorageConfigurationError, StorageUnsupportedError

__all__ = ["FORMATS", "OPTIONS", "open_store", "told_by"]

FORMATS = (ADK_V1, ADK_SQLITE, ADK_V0)
OPTIONS = frozenset({"order"})
SHOWN, APPENDED = "shown", "appended"
_STATE_TYPES = {APP_STATES: APP_STATE, USER_STATES: USER_STATE}
_ORPHANS = (
    "SELECT app_name, user_id, session_id, count(*) AS events FROM events WHERE NOT EXISTS (SELECT 1 FROM sessions"
    " WHERE sessions.app_name = events.app_name AND sessions.user_id = events.user_id"
    " AND sessions.id = events.session_id) GROUP BY app_name, user_id, session_id"
)


async def open_store(opening: Opening) -> PeerStore:
    return await opened_on(opening, _opened)


async def _opened(rows: Rows, opening: Opening) -> AdkStore:
    tables = await rows.tables()
    format = told_by(tables)
    if format is None and opening.to_write:
        format = written_format(opening)
        await make_tables(rows, format, tables)
        tables = await rows.tables()
    if format is None:
        raise StorageConfigurationError("there are no tables of Google ADK's session services")
    if opening.to_write:
        _check_written(format, opening)
    version = await version_of(rows, format)
    is_indexed = await has_index(rows)
    if not is_indexed and (opening.to_write or rows.engine == "sqlite"):
        await make_index(rows)  # a SQLite file is read from a copy
        is_indexed = True
    order = _checked_order(opening.options.get("order", SHOWN), rows, opening)
    return AdkStore(rows, format, version, tables, opening.zone, order=order, is_indexed=is_indexed)


def _check_written(format: PeerFormat, opening: Opening) -> None:
    if not format.writes:
        raise StorageUnsupportedError(f"{format.name} stores are only read; copy to a new place, which becomes adk-v1")
    if opening.family not in (format.family, format.name):
        raise StorageConfigurationError(f"the store there is {format.name}, not {opening.family}")


def _checked_order(order: str, rows: Rows, opening: Opening) -> str:
    if order not in (SHOWN, APPENDED):
        raise StorageConfigurationError(f"?order= is {SHOWN} or {APPENDED}, not {order!r}")
    if order == APPENDED and (rows.engine != "sqlite" or opening.to_write):
        raise StorageConfigurationError("only a SQLite file that is read tells in which order events were appended")
    return order


class AdkStore:
    """See ``PeerStore``.

    Args:
        zone: of the times of v0, by name.
        order: of events, SHOWN or APPENDED.
        is_indexed: the events of a session are found without reading all.
    """

    def __init__(
        self,
        rows: Rows,
        format: PeerFormat,
        version: str | None,
        tables: Tables,
        zone: str | None,
        *,
        order: str,
        is_indexed: bool,
    ) -> None:
        is_jsonb = rows.engine == "postgresql" and format is ADK_V1
        self.format = replace(format, compared=by_value) if is_jsonb else format
        self.version = version
        self._rows = rows
        self._tables = tables
        self._zone = zone
        self._by_appending = order == APPENDED
        self._places = None if is_indexed else EventPlaces(rows)
        self._writing = Writing(rows, format)

    # what there is

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        async for rows in self._rows.stream("SELECT app_name, user_id, id FROM sessions"):
            yield [_session_unit(row) for row in rows]
        async for items in self._orphaned():
            yield items
        for table in (APP_STATES, USER_STATES):
            if table in self._tables:
                names = ", ".join((*state_key(table), "update_time"))
                async for rows in self._rows.stream(f"SELECT {names} FROM {table}"):
                    yield [_state_unit(table, row) for row in rows if not self._is_blank(row)]

    async def marked_units(self) -> AsyncIterator[list[Unit | Item]]:
        async for rows in self._rows.stream(marked_sessions(self._rows)):
            yield [marked(_session_unit(row), row) for row in rows]
        async for items in self._orphaned():
            yield items
        for table in (APP_STATES, USER_STATES):
            if table in self._tables:
                async for rows in self._rows.stream(marked_states(self._rows, table)):
                    yield [marked(_state_unit(table, row), row) for row in rows if not self._is_blank(row)]

    async def _orphaned(self) -> AsyncIterator[list[Unit | Item]]:
        async for rows in self._rows.stream(_ORPHANS):
            yield [_orphans(row) for row in rows]

    def unit(self, key: Key) -> Unit:
        self._writing.check_key(_parts(key))
        return Unit(key)

    # what is in it

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        sessions = await self._sessions([_parts(unit.key) for unit in units if isinstance(unit.key, SessionKey)])
        states: dict[tuple[str, ...], Row] = {}
        for table, kind in ((APP_STATES, AppKey), (USER_STATES, UserKey)):
            wanted = [_parts(unit.key) for unit in units if isinstance(unit.key, kind)]
            states |= await self._states(table, wanted)
        return [
            self._session(unit, unit.key, sessions.get(_parts(unit.key)))
            if isinstance(unit.key, SessionKey)
            else self._state(unit, unit.key, states.get(_parts(unit.key)))
            for unit in units
        ]

    async def _sessions(self, wanted: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[Row, list[Row]]]:
        if not wanted:
            return {}
        select = f"SELECT * FROM sessions WHERE {among(('app_name', 'user_id', 'id'), len(wanted))}"
        rows = await self._rows.select(select, *(part for parts in wanted for part in parts))
        found: dict[tuple[str, ...], tuple[Row, list[Row]]] = {
            (row["app_name"], row["user_id"], row["id"]): (row, []) for row in rows
        }
        for row in await self._events(wanted):
            owner = (row["app_name"], row["user_id"], row["session_id"])
            if owner in found:  # a server may take other spellings for the same
                found[owner][1].append(row)
        return found

    async def _events(self, wanted: Sequence[tuple[str, ...]]) -> list[Row]:
        if self._places is not None:
            sessions: list[SessionOf] = [(app, user, id) for app, user, id in wanted]
            return await self._places.events(sessions)
        order = "rowid" if self._by_appending else "timestamp, " + ("rowid" if self.format is ADK_SQLITE else "id")
        select = f"SELECT * FROM events WHERE {among(SESSION_KEY, len(wanted))} ORDER BY {order}"
        return await self._rows.select(select, *(part for parts in wanted for part in parts))

    async def _states(self, table: str, wanted: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], Row]:
        if not wanted or table not in self._tables:
            return {}
        columns = state_key(table)
        select = f"SELECT * FROM {table} WHERE {among(columns, len(wanted))}"
        rows = await self._rows.select(select, *(part for parts in wanted for part in parts))
        return {tuple(row[name] for name in columns): row for row in rows}

    def _session(self, unit: Unit, key: SessionKey, found: tuple[Row, list[Row]] | None) -> Found | Item:
        if found is None:
            return Item(unit.label, key.session_id, IGNORED, ("vanished",))
        row, events = found
        odd = Oddities()
        try:
            document = self._document(row, events, odd)
        except FileRefused as refused:
            return Item(unit.label, key.session_id, QUARANTINED, (refused.reason,), detail=refused.detail)
        size = sum(len(value) for one in (row, *events) for value in one.values() if isinstance(value, str | bytes))
        return PeerSession(key, document, warnings=tuple(odd.words), label=unit.label, size=size)

    def _document(self, row: Row, events: Iterable[Row], odd: Oddities) -> dict[str, Any]:
        document = {name: row[name] for name in ("app_name", "user_id", "id")}
        document["state"] = state_of(row, odd)
        document |= {name: self._managed_time(row[name]) for name in ("create_time", "update_time")}
        if self.format is ADK_V0:
            document["source_timezone"] = self._zone
            return document | {"events": [v0_event_row(event, odd) for event in events]}
        return document | {"events": [event_row(event, odd) for event in events]}

    def _managed_time(self, value: Any) -> Any:
        """A time of a session or a state. In a SQLite file of v0 it is UTC, whatever the zone of the events."""
        is_utc = self.format is ADK_V0 and self._rows.engine == "sqlite"
        return utc_text(value) if is_utc else time_text(value)

    def _state(self, unit: Unit, key: Key, row: Row | None) -> Found | Item:
        kind = record_key(key)[1]
        if row is None or self._is_blank(row) or not isinstance(key, UserKey | AppKey):
            return Item(unit.label, shown_key(key), IGNORED, ("vanished",), kind)
        odd = Oddities()
        try:
            state = state_of(row, odd)
        except FileRefused as refused:
            return Item(unit.label, shown_key(key), QUARANTINED, (refused.reason,), kind, refused.detail)
        time = self._managed_time(row["update_time"])
        moment = read_time(time, self.format.naive_zone or self._zone_of_times()).moment
        raw = {"update_time": time}
        return PeerState(
            key, state or {}, raw, None, moment, warnings=tuple(odd.words), label=unit.label, size=len(str(state))
        )

    def _is_blank(self, row: Row) -> bool:
        """Whether a state is one that nobody has; see :data:`BLANK_TIME`."""
        return self.format.name == ADK_V1.name and _moment(row["update_time"]) == _moment(BLANK_TIME)

    def _zone_of_times(self) -> Zone:
        return None if self._zone is None else zone_named(self._zone)

    # writing

    def settled(self, found: PeerSession) -> PeerSession | Item:
        self._writing.check(found)
        return found

    async def write(self, found: Sequence[Found]) -> None:
        self._writing.check_states(found)
        async with self._rows.written():
            await self._writing.write(found)

    async def close(self) -> None:
        if self._places is not None:
            self._places.close()
        await self._rows.close()


def _moment(value: Any) -> Any:
    return read_time(time_text(value), UTC).moment


def _parts(key: Key) -> tuple[str, ...]:
    match key:
        case SessionKey():
            return key.app_name, key.user_id, key.session_id
        case UserKey():
            return key.app_name, key.user_id
        case AppKey():
            return (key.app_name,)
    raise TypeError(f"{key!r} is no key of a scoped store")


def _session_unit(row: Row) -> Unit | Item:
    parts = (row["app_name"], row["user_id"], row["id"])
    if not all(isinstance(part, str) for part in parts):
        return Item(None, str(row["id"]), QUARANTINED, ("invalid_session_id",))
    return Unit(SessionKey(*parts))


def _state_unit(table: str, row: Row) -> Unit | Item:
    parts = [row[name] for name in state_key(table)]
    if not all(isinstance(part, str) for part in parts):
        return Item(None, str(parts[-1]), QUARANTINED, ("invalid_key",), _STATE_TYPES[table])
    return Unit(AppKey(*parts) if table == APP_STATES else UserKey(*parts))


def _orphans(row: Row) -> Item:
    """Events whose session is gone: v0 left them behind where SQLite's foreign keys were off."""
    detail = f"{row['events']} events"
    return Item(None, str(row["session_id"]), QUARANTINED, ("events_without_session",), SESSION, detail)
