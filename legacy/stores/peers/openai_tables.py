"""openai-agents in SQL: a table of sessions, one of items, and what AdvancedSQLiteSession keeps beside them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from legacy.stores.file_reading import FileRefused
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Tables, Unit
from legacy.stores.peers.openai_branches import Branches
from legacy.stores.peers.openai_envelopes import envelopes_of
from legacy.stores.peers.openai_items import Items, Times, branches_of, compact, elements_in, is_branch_log, with_branch
from legacy.stores.peers.openai_moments import Moments
from legacy.stores.peers.registry import written_format
from legacy.stores.peers.rows import Row, Rows, opened_on
from session_adapter.formats import PeerFormat
from session_adapter.formats.openai_agents import (
    OPENAI_ADVANCED,
    OPENAI_ENCRYPTED,
    OPENAI_SQLALCHEMY,
    OPENAI_SQLITE,
    is_envelope,
    linked,
)
from session_adapter.timestamps import zone_named
from unified_storage.errors import StorageConfigurationError, StorageIntegrityError, StorageValidationError

SESSIONS, MESSAGES = "agent_sessions", "agent_messages"
STRUCTURE = "message_structure"
_SESSION_COLUMNS = frozenset({"session_id", "created_at", "updated_at"})
_MESSAGE_COLUMNS = frozenset({"id", "session_id", "message_data", "created_at"})
_LONGEST_ID = 255
"""Characters of a session id in the tables made here on MySQL, which indexes no more."""
_LOOKED_AT = 20

# As the libraries make them. On MySQL SQLAlchemySession cannot: it names no length.
_TEXT_TABLES = (
    "CREATE TABLE {sessions} (session_id TEXT PRIMARY KEY, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,"
    " updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE {messages} (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,"
    " message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,"
    " FOREIGN KEY (session_id) REFERENCES {sessions} (session_id) ON DELETE CASCADE)",
    "CREATE INDEX {index}_session_id{end} ON {messages} (session_id, id)",
)
_COLUMNS = (
    "session_id {text} NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,"
    " updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, PRIMARY KEY (session_id)",
    "session_id {text} NOT NULL, message_data {long} NOT NULL,"
    " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,"
    " FOREIGN KEY (session_id) REFERENCES {sessions} (session_id) ON DELETE CASCADE",
)
_TYPED_TABLES = (
    f"CREATE TABLE {{sessions}} ({_COLUMNS[0]}){{behind}}",
    f"CREATE TABLE {{messages}} ({{id}}, {_COLUMNS[1]}){{behind}}",
    "CREATE INDEX {index}_session_time{end} ON {messages} (session_id, created_at)",
)
_TYPES = {
    "sqlite": {"text": "VARCHAR", "long": "TEXT", "id": "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "behind": ""},
    "postgresql": {"text": "VARCHAR", "long": "TEXT", "id": "id SERIAL PRIMARY KEY", "behind": ""},
    "mysql": {
        "text": f"VARCHAR({_LONGEST_ID})",
        "long": "LONGTEXT",
        "id": "id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY",
        "behind": " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
}


def pairs_in(tables: Tables) -> list[tuple[str, str]]:
    """The tables of sessions and of items that belong together: the only ones, or those named alike."""
    sessions = [name for name, columns in tables.items() if columns == _SESSION_COLUMNS]
    messages = [name for name, columns in tables.items() if columns == _MESSAGE_COLUMNS]
    if len(sessions) == len(messages) == 1:
        return [(sessions[0], messages[0])]
    alike = {name.replace("session", "").replace("message", ""): name for name in sessions}
    keys = ((name.replace("session", "").replace("message", ""), name) for name in messages)
    return [(alike[key], name) for key, name in keys if key in alike]


async def open_tables(opening: Opening) -> PeerStore:
    """The store of a SQL database; see ``Family.open_store``."""
    return await opened_on(opening, _opened)


async def _opened(rows: Rows, opening: Opening) -> PeerStore:
    names, found = await _names(rows, opening)
    if not found:
        if not opening.to_write:
            raise StorageConfigurationError("there are no tables of openai-agents; name them by ?tables=SESSIONS,ITEMS")
        await _make(rows, names, written_format(opening))
    form = await _form(rows, names)
    wanted = written_format(opening) if opening.to_write else None
    if wanted not in (None, form, OPENAI_ENCRYPTED) and opening.family != form.family:
        raise StorageConfigurationError(f"these are tables of {form.name}, so name it so, not {opening.family}")
    envelopes = envelopes_of(opening.options.get("key_env"))
    seals = envelopes is not None or opening.family == OPENAI_ENCRYPTED.name or await _has_envelopes(rows, names)
    moments = await _moments(rows, opening)
    items = Items(compact if form is OPENAI_SQLALCHEMY else json.dumps, envelopes, seals)
    branches = await Branches.opened(rows, moments) if form is OPENAI_ADVANCED else None
    format = OPENAI_ENCRYPTED if seals else form
    return _Tables(rows, names, form, format, items, moments, branches, *branches_of(opening))


@dataclass(frozen=True, slots=True)
class _Names:
    sessions: str
    messages: str


async def _names(rows: Rows, opening: Opening) -> tuple[_Names, bool]:
    """The names of both tables, and whether they are there."""
    tables = await rows.tables()
    told = opening.options.get("tables")
    if told is not None:
        parts = told.split(",")
        if len(parts) != 2 or not all(parts):
            raise StorageConfigurationError("tables= names two: the sessions', the items', as in ?tables=a,b")
        return _Names(*parts), all(part in tables for part in parts)
    found = pairs_in(tables)
    if len(found) > 1:
        known = "; ".join(f"{sessions},{messages}" for sessions, messages in sorted(found))
        raise StorageConfigurationError(f"which tables? there are {known}; name them by ?tables=")
    return (_Names(*found[0]), True) if found else (_Names(SESSIONS, MESSAGES), False)


async def _form(rows: Rows, names: _Names) -> PeerFormat:
    """Which of the libraries' classes the tables are of."""
    if rows.engine != "sqlite":
        return OPENAI_SQLALCHEMY
    if STRUCTURE in await rows.tables():
        return OPENAI_ADVANCED
    columns = await rows.select("SELECT name, type FROM pragma_table_info(?)", names.messages)
    types = {row["name"]: row["type"].upper() for row in columns}
    return OPENAI_SQLITE if types["session_id"] == "TEXT" else OPENAI_SQLALCHEMY


async def _has_envelopes(rows: Rows, names: _Names) -> bool:
    """Whether the newest items are encrypted, or the oldest."""
    for direction in ("", " DESC"):
        select = f"SELECT message_data FROM {rows.quoted(names.messages)} ORDER BY id{direction} LIMIT {_LOOKED_AT}"
        if any(_is_sealed(row["message_data"]) for row in await rows.select(select)):
            return True
    return False


def _is_sealed(text: Any) -> bool:
    try:
        return '"__enc__"' in str(text) and is_envelope(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return False


async def _moments(rows: Rows, opening: Opening) -> Moments:
    if rows.engine == "mysql":
        await rows.execute("SET time_zone = '+00:00'")  # or its TIMESTAMPs are shown in the server's own zone
    if rows.engine != "postgresql":
        return Moments(rows.engine)
    # CURRENT_TIMESTAMP of the writers, cut to a wall time in the zone of their connections: the server's, as a rule.
    [told] = await rows.select("SELECT current_setting('TimeZone') AS zone")
    return Moments(rows.engine, zone_named(opening.zone or told["zone"]))


async def _make(rows: Rows, names: _Names, format: PeerFormat) -> None:
    is_typed = rows.engine != "sqlite" or format is OPENAI_SQLALCHEMY
    mark = rows.quoted("")[0]
    places = {
        "sessions": rows.quoted(names.sessions),
        "messages": rows.quoted(names.messages),
        "index": f"{mark}idx_{names.messages.rpartition('.')[2]}",
        "end": mark,
        **_TYPES[rows.engine],
    }
    async with rows.written():
        for statement in _TYPED_TABLES if is_typed else _TEXT_TABLES:
            await rows.execute(statement.format(**places))
        if format is OPENAI_ADVANCED:
            await Branches.make(rows, names.sessions, names.messages)


class _Tables:
    """See ``PeerStore``."""

    version: str | None = None

    def __init__(
        self,
        rows: Rows,
        names: _Names,
        form: PeerFormat,
        format: PeerFormat,
        items: Items,
        moments: Moments,
        branches: Branches | None,
        read_branch: str | None,
        written_branch: str | None,
    ) -> None:
        self.format = format
        self._rows = rows
        self._sessions, self._messages = rows.quoted(names.sessions), rows.quoted(names.messages)
        self._plain_name = names.messages
        self._order = "created_at, id" if form is OPENAI_SQLALCHEMY else "id"
        self._items = items
        self._moments = moments
        self._branches = branches
        self._read_branch, self._written_branch = read_branch, written_branch

    # reading

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        ids = f"SELECT session_id FROM {self._sessions} UNION SELECT session_id FROM {self._messages}"
        async for rows in self._rows.stream(ids):
            yield [_unit(row["session_id"]) for row in rows]

    def unit(self, key: Key) -> Unit:
        id = str(key)
        if self._rows.engine == "mysql" and (len(id) > _LONGEST_ID or id.endswith(" ")):
            message = f"MySQL has no place for ids of over {_LONGEST_ID} characters, or with a blank at the end"
            raise StorageValidationError(message, details={"path": "session_id"})
        return Unit(key, id)

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        wanted = [unit.place for unit in units]
        meant = self._meant(wanted)
        heads = {meant(row["session_id"]): row for row in await self._of(self._sessions, wanted, "session_id")}
        items: dict[str, list[Row]] = {place: [] for place in wanted}
        for row in await self._of(self._messages, wanted, f"session_id, {self._order}"):
            items[meant(row["session_id"])].append(row)
        further = {} if self._branches is None else await self._branches.read(wanted)
        return [
            self._found(unit, heads.get(unit.place), items[unit.place], further.get(unit.place, {})) for unit in units
        ]

    def _meant(self, wanted: Sequence[str]) -> Callable[[str], str]:
        """Which of *wanted* an id of a row is: MySQL's usual collations, and so the library, take ``A`` for ``a``."""
        exact = frozenset(wanted)
        alike = {_folded(id): id for id in wanted}

        def meant(id: str) -> str:
            if id not in exact and _folded(id) not in alike:
                raise StorageIntegrityError(f"the tables take {id!r} for another id", details={"session_id": id})
            return id if id in exact else alike[_folded(id)]

        return meant

    async def _of(self, table: str, wanted: Sequence[str], order: str) -> list[Row]:
        among = f"session_id IN ({self._rows.listed(len(wanted))})"
        return await self._rows.select(f"SELECT * FROM {table} WHERE {among} ORDER BY {order}", *wanted)

    def _found(self, unit: Unit, head: Row | None, rows: Sequence[Row], further: Mapping[str, Any]) -> Found | Item:
        if head is None and not rows:
            return Item(unit.label, unit.place, IGNORED, ("vanished",))
        warnings: dict[str, None] = {}
        try:
            elements = {row["id"]: self._element(unit.place, row, warnings) for row in rows}
        except FileRefused as refused:
            return Item(unit.label, unit.place, QUARANTINED, (refused.reason,), detail=refused.detail)
        if head is None:
            warnings["no_session_row"] = None
        document: dict[str, Any] = {"session_id": unit.place}
        for name in ("created_at", "updated_at"):
            document |= self._moments.told(name, None if head is None else head[name])
        logs: dict[str, list[dict[str, Any]]] = {}
        if self._branches is None:
            document["messages"] = linked(elements.values())
        else:
            document |= self._branches.document(elements, further, warnings)
            logs = self._branches.logs(elements, further, self.format)
        size = sum(len(row["message_data"]) for row in rows if isinstance(row["message_data"], str | bytes))
        found = PeerSession(unit.place, document, logs, warnings=tuple(warnings), size=size)
        return with_branch(found, self._read_branch, self.format)

    def _element(self, session_id: str, row: Row, warnings: dict[str, None]) -> dict[str, Any]:
        element = self._items.element(session_id, row["message_data"], warnings)
        return element | self._moments.told("created_at", row["created_at"])

    # writing

    def settled(self, found: PeerSession) -> PeerSession | Item:
        chosen = with_branch(found, self._written_branch, self.format)
        if isinstance(chosen, Item):
            return chosen
        document = self._timed(chosen.document)
        times = Times(self._moments, document.get("created_at"), order=self._order != "id")
        has_places = self._branches is not None
        elements = self._items.settled(chosen.document["messages"], times, places=has_places)
        for element in elements:
            self._check(element)
        if self._branches is None:
            return PeerSession(chosen.key, document | {"messages": linked(elements)}, size=chosen.size)
        told = {
            name: self._items.settled(elements_in(entries, self.format), times, places=True)
            for name, entries in chosen.further_logs.items()
            if is_branch_log(name)
        }
        further, logs = self._branches.settled(chosen.document, elements, told, self.format)
        return PeerSession(chosen.key, document | further, logs, size=chosen.size)

    def _timed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """What the session's row is to say. Where nothing tells its times, its first item does."""
        made = {"session_id": document["session_id"]}
        for name in _TIMES:
            told = {key: value for key, value in document.items() if key.startswith(name)}
            made |= self._moments.settled(name, told)
        first: Mapping[str, Any] = next(iter(document["messages"]), {})
        known = made.get("created_at") or made.get("updated_at") or first.get("created_at")
        for name in _TIMES:
            if self._moments.column(name, made) is None:
                made |= self._moments.settled(name, {name: known})
        self._check(made)
        return made

    def _check(self, told: Mapping[str, Any]) -> None:
        """Raise ``StorageValidationError`` for what the server has no place for."""
        if self._rows.engine == "postgresql" and "\0" in str(told.get("item")):
            raise StorageValidationError("PostgreSQL holds no text with a NUL", details={"path": "messages"})
        for name in _TIMES if self._rows.engine == "mysql" else ():
            moment = self._moments.column(name, told)
            if moment is not None and not 1970 < moment.year < 2038:
                message = f"MySQL's TIMESTAMP holds no time of the year {moment.year}"
                raise StorageValidationError(message, details={"path": name})

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        gone = [(one.key,) for one in sessions]
        heads = [(one.key, *(self._moments.column(name, one.document) for name in _TIMES)) for one in sessions]
        async with self._rows.written():
            if self._branches is not None:
                await self._branches.delete(gone)
            await self._rows.execute(f"DELETE FROM {self._messages} WHERE session_id = ?", gone)
            await self._rows.execute(f"DELETE FROM {self._sessions} WHERE session_id = ?", gone)
            await self._insert(self._sessions, ("session_id", *_TIMES), heads)
            if self._branches is None:
                rows = [self._row(one, element) for one in sessions for element in one.document["messages"]]
                await self._insert(self._messages, _ROW, rows)
            else:
                await self._write_branched(self._branches, sessions)

    async def _write_branched(self, branches: Branches, sessions: Sequence[PeerSession]) -> None:
        last = await branches.last_id(self._plain_name)
        for session in sessions:
            elements = branches.rows_of(session)
            ids = {place: last + at for at, place in enumerate(sorted(elements), 1)}
            rows = [(ids[place], *self._row(session, elements[place])) for place in sorted(elements)]
            await self._insert(self._messages, ("id", *_ROW), rows)
            await branches.write(session, ids)
            last += len(ids)

    async def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            names = ", ".join(columns)
            await self._rows.execute(f"INSERT INTO {table} ({names}) VALUES ({self._rows.listed(len(columns))})", rows)

    def _row(self, session: PeerSession, element: Mapping[str, Any]) -> tuple[Any, ...]:
        id = str(session.key)
        return id, self._items.text(id, element), self._moments.column("created_at", element)

    async def close(self) -> None:
        await self._rows.close()


_TIMES = ("created_at", "updated_at")
_ROW = ("session_id", "message_data", "created_at")


def _unit(session_id: Any) -> Unit | Item:
    if session_id is None:
        return Item(None, None, QUARANTINED, ("no_session_id",))
    if not isinstance(session_id, str) or not _is_text(session_id):
        return Item(None, ascii(session_id)[:80], QUARANTINED, ("invalid_session_id",))
    return Unit(session_id, session_id)


def _folded(id: str) -> str:
    """*id* as collations compare it that care for neither case nor accents nor blanks at the end."""
    letters = (sign for sign in unicodedata.normalize("NFKD", id) if not unicodedata.combining(sign))
    return "".join(letters).casefold().rstrip(" ")


def _is_text(value: str) -> bool:
    """Whether *value* was text in its column, and no bytes that are none."""
    return value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value)
