"""Writing sessions and states into Google ADK's tables, as the library does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from legacy.stores.peers.adk_tables import APP_STATES, USER_STATES, state_key
from legacy.stores.peers.kinds import AppKey, Found, PeerSession, PeerState
from legacy.stores.peers.rows import Rows
from session_adapter.formats import PeerFormat
from session_adapter.formats.adk import ADK_SQLITE
from session_adapter.identity import SessionKey
from session_adapter.timestamps import read_time
from unified_storage.errors import StorageValidationError

MAX_KEY, MAX_TEXT = 128, 256
"""Characters that the columns of servers hold: ids, other names."""
BLANK_TIME = "1970-01-01 00:00:00.000000"
"""Marks an empty state of v1 that was made for ADK's sake, where nobody has one: its own are as old as the row."""
_DELETE_EVENTS = "DELETE FROM events WHERE app_name = ? AND user_id = ? AND session_id = ?"
_DELETE_SESSION = "DELETE FROM sessions WHERE app_name = ? AND user_id = ? AND id = ?"
_INSERT_SESSION = (
    "INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_EVENT = (
    "INSERT INTO events (app_name, user_id, session_id, id, invocation_id, timestamp, event_data)"
    " VALUES (?, ?, ?, ?, ?, ?, {})"
)
_ODD = re.compile(r"\\u(?:0000|d[89a-f])|NaN|Infinity")
"""What may be a NUL, a lone surrogate or no number; a closer look tells."""


class Writing:
    """What stands in the columns of one database."""

    def __init__(self, rows: Rows, format: PeerFormat) -> None:
        self._rows = rows
        self._format = format
        # octets that are no text stay what they were
        self._insert_event = _INSERT_EVENT.format("CAST(? AS TEXT)" if rows.engine == "sqlite" else "?")

    def check_key(self, parts: Sequence[str]) -> None:
        """Raise ``StorageValidationError`` for names that a server's columns do not hold."""
        self._check_lengths((part, MAX_KEY, "key") for part in parts)

    def check(self, session: PeerSession) -> None:
        """Raise ``StorageValidationError`` for a session that a server's columns do not hold."""
        document = session.document
        self._json(document["state"], "state")
        for at, row in enumerate(document["events"]):
            path = f"events.{at}"
            self._check_lengths(((row["id"], MAX_KEY, path), (row["invocation_id"], MAX_TEXT, path)))
            self._event_data(row["event_data"], path)

    def check_states(self, found: Sequence[Found]) -> None:
        """Raise ``StorageValidationError`` for a state among *found* that has no place; ``index`` tells which."""
        for index, one in enumerate(found):
            try:
                if isinstance(one, PeerState):
                    self._json(one.state, "state")
            except StorageValidationError as error:
                raise StorageValidationError(error.message, details={**error.details, "index": index}) from error

    def _check_lengths(self, texts: Any) -> None:
        if self._rows.engine == "sqlite":
            return
        for text, most, path in texts:
            if len(text) > most or "\0" in text:
                message = f"a column here holds {most} characters, and no NUL"
                raise StorageValidationError(message, details={"path": path, "length": len(text)})

    async def write(self, found: Sequence[Found]) -> None:
        """All of *found* in the place of what is there, inside of the transaction that is open."""
        sessions = [one for one in found if isinstance(one, PeerSession)]
        keys = [_parts(one) for one in sessions]
        await self._rows.execute(_DELETE_EVENTS, keys)
        await self._rows.execute(_DELETE_SESSION, keys)
        await self._rows.execute(_INSERT_SESSION, [self._session(one) for one in sessions])
        await self._rows.execute(self._insert_event, [row for one in sessions for row in self._events(one)])
        await self._write_blank_states(keys)
        for table in (APP_STATES, USER_STATES):
            await self._write_states(
                table, [one for one in found if isinstance(one, PeerState) and _table(one) == table]
            )

    def _session(self, session: PeerSession) -> tuple[Any, ...]:
        document = session.document
        times = (self._time(document[name]) for name in ("create_time", "update_time"))
        return (*_parts(session), self._json(document["state"], "state"), *times)

    def _events(self, session: PeerSession) -> Iterator[tuple[Any, ...]]:
        for at, row in enumerate(session.document["events"]):
            data = self._event_data(row["event_data"], f"events.{at}")
            yield (*_parts(session), row["id"], row["invocation_id"], self._time(row["timestamp"]), data)

    async def _write_states(self, table: str, states: Sequence[PeerState]) -> None:
        names = state_key(table)
        same = " AND ".join(f"{name} = ?" for name in names)
        keys = [tuple(getattr(one.key, name) for name in names) for one in states]
        rows = [
            (*key, self._json(one.state, "state"), self._state_time(one)) for key, one in zip(keys, states, strict=True)
        ]
        columns = (*names, "state", "update_time")
        await self._rows.execute(f"DELETE FROM {table} WHERE {same}", keys)
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({self._rows.listed(len(columns))})"
        await self._rows.execute(insert, rows)

    async def _write_blank_states(self, sessions: Sequence[tuple[str, str, str]]) -> None:
        """Without rows for the states of its app and its user, ADK's database service adds no event to a session."""
        if self._format is ADK_SQLITE:
            return
        blank = ("{}", self._time(BLANK_TIME))
        apps = sorted({(app,) for app, _, _ in sessions})
        users = sorted({(app, user) for app, user, _ in sessions})
        for table, keys in ((APP_STATES, apps), (USER_STATES, users)):
            columns = (*state_key(table), "state", "update_time")
            into = f"INTO {table} ({', '.join(columns)}) VALUES ({self._rows.listed(len(columns))})"
            is_mysql = self._rows.engine == "mysql"
            insert = f"INSERT IGNORE {into}" if is_mysql else f"INSERT {into} ON CONFLICT DO NOTHING"
            await self._rows.execute(insert, [(*key, *blank) for key in keys])

    # values

    def _state_time(self, state: PeerState) -> Any:
        """The time as the row had it where it is still the same, else the moment as such rows have it."""
        kept = (state.raw or {}).get("update_time")
        moment = state.updated_at or datetime.fromtimestamp(0, UTC)
        is_same = kept is not None and read_time(kept, UTC).moment == moment
        return self._time(kept if is_same else self._format.written_time(moment))

    def _time(self, value: Any) -> Any:
        if self._rows.engine == "sqlite":
            return value
        moment = read_time(value, UTC).moment
        return value if moment is None else moment.replace(tzinfo=None)

    def _event_data(self, value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return self._json(value, path, is_event=True)
        if value is not None and self._rows.engine != "sqlite":
            raise StorageValidationError("a row that is no JSON has no place here", details={"path": path})
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value

    def _json(self, value: Any, path: str, *, is_event: bool = False) -> str:
        """The text of *value*; raises ``StorageValidationError`` for what the engine or ADK could not read again."""
        text = json.dumps(value)
        if _ODD.search(text):
            self._check_odd(value, path, is_event=is_event)
        is_compact = is_event and self._format is ADK_SQLITE
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if is_compact else text

    def _check_odd(self, value: Any, path: str, *, is_event: bool) -> None:
        in_jsonb = self._rows.engine == "postgresql"
        if (is_event or in_jsonb) and not _is_text(json.dumps(value, ensure_ascii=False)):
            raise StorageValidationError("a lone surrogate has no place here", details={"path": path})
        if in_jsonb and "\0" in "".join(_texts_in(value)):
            raise StorageValidationError("PostgreSQL's JSONB holds no NUL", details={"path": path})
        # the functions of SQLite by which its service merges states, and JSONB, know no such numbers
        if (in_jsonb or (self._format is ADK_SQLITE and not is_event)) and not _is_finite(value):
            raise StorageValidationError("a number that is not finite has no place here", details={"path": path})


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield key
            yield from _texts_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts_in(one)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _parts(session: PeerSession) -> tuple[str, str, str]:
    assert isinstance(session.key, SessionKey)
    return session.key.app_name, session.key.user_id, session.key.session_id


def _table(state: PeerState) -> str:
    return APP_STATES if isinstance(state.key, AppKey) else USER_STATES
