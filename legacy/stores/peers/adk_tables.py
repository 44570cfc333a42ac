"""The tables of Google ADK's session services: which there are, and as the library makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from legacy.stores.peers.kinds import Tables
from legacy.stores.peers.rows import Rows
from session_adapter.formats import PeerFormat
from session_adapter.formats.adk import ADK_SQLITE, ADK_V0, ADK_V1
from unified_storage.errors import StorageConfigurationError

SESSIONS, EVENTS, APP_STATES, USER_STATES = "sessions", "events", "app_states", "user_states"
METADATA = "adk_internal_metadata"
SESSION_KEY = ("app_name", "user_id", "session_id")
"""The columns of ``events`` that name its session."""
_SESSION_COLUMNS = frozenset({"app_name", "user_id", "id", "state", "create_time", "update_time"})
_EVENT_COLUMNS = frozenset({*SESSION_KEY, "id", "invocation_id", "timestamp"})
_INDEX = "idx_events_app_user_session_ts_id"

_TYPES: Mapping[str, Mapping[str, str]] = {
    "sqlite": {"key": "VARCHAR(128)", "text": "VARCHAR(256)", "json": "TEXT", "time": "DATETIME", "end": ""},
    "postgresql": {
        "key": "VARCHAR(128)",
        "text": "VARCHAR(256)",
        "json": "JSONB",
        "time": "TIMESTAMP WITHOUT TIME ZONE",
        "end": "",
    },
    "mysql": {
        "key": "VARCHAR(128)",
        "text": "VARCHAR(256)",
        "json": "LONGTEXT",
        "time": "DATETIME(6)",
        # ids that differ in case alone are two
        "end": " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
}
_V1 = (
    "CREATE TABLE {metadata} ({key_name} {key} NOT NULL, value {text} NOT NULL, PRIMARY KEY ({key_name})){end}",
    "CREATE TABLE sessions (app_name {key} NOT NULL, user_id {key} NOT NULL, id {key} NOT NULL, state {json} NOT NULL,"
    " create_time {time} NOT NULL, update_time {time} NOT NULL, PRIMARY KEY (app_name, user_id, id)){end}",
    "CREATE TABLE app_states (app_name {key} NOT NULL, state {json} NOT NULL, update_time {time} NOT NULL,"
    " PRIMARY KEY (app_name)){end}",
    "CREATE TABLE user_states (app_name {key} NOT NULL, user_id {key} NOT NULL, state {json} NOT NULL,"
    " update_time {time} NOT NULL, PRIMARY KEY (app_name, user_id)){end}",
    "CREATE TABLE events (id {key} NOT NULL, app_name {key} NOT NULL, user_id {key} NOT NULL,"
    " session_id {key} NOT NULL, invocation_id {text} NOT NULL, timestamp {time} NOT NULL, event_data {json},"
    " PRIMARY KEY (id, app_name, user_id, session_id), FOREIGN KEY (app_name, user_id, session_id)"
    " REFERENCES sessions (app_name, user_id, id) ON DELETE CASCADE){end}",
)
_MADE_INDEX = f"CREATE INDEX {_INDEX} ON events (app_name, user_id, session_id, timestamp DESC, id DESC)"
_SQLITE_SERVICE = (
    "CREATE TABLE app_states (app_name TEXT PRIMARY KEY, state TEXT NOT NULL, update_time REAL NOT NULL)",
    "CREATE TABLE user_states (app_name TEXT NOT NULL, user_id TEXT NOT NULL, state TEXT NOT NULL,"
    " update_time REAL NOT NULL, PRIMARY KEY (app_name, user_id))",
    "CREATE TABLE sessions (app_name TEXT NOT NULL, user_id TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL,"
    " create_time REAL NOT NULL, update_time REAL NOT NULL, PRIMARY KEY (app_name, user_id, id))",
    "CREATE TABLE events (id TEXT NOT NULL, app_name TEXT NOT NULL, user_id TEXT NOT NULL, session_id TEXT NOT NULL,"
    " invocation_id TEXT NOT NULL, timestamp REAL NOT NULL, event_data TEXT NOT NULL,"
    " PRIMARY KEY (app_name, user_id, session_id, id), FOREIGN KEY (app_name, user_id, session_id)"
    " REFERENCES sessions(app_name, user_id, id) ON DELETE CASCADE)",
)
# Whether an index of the events begins with what names their session.
_HAS_INDEX = {
    "sqlite": "SELECT 1 AS one FROM pragma_index_list('events') AS l, pragma_index_info(l.name) AS i"
    " WHERE i.seqno = 0 AND i.name = 'app_name'",
    "postgresql": "SELECT 1 AS one FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'events'"
    " AND indexdef LIKE '%(app_name, user_id, session_id%'",
    "mysql": "SELECT 1 AS one FROM information_schema.statistics WHERE table_schema = DATABASE()"
    " AND table_name = 'events' AND seq_in_index = 1 AND column_name = 'app_name'",
}


def told_by(tables: Tables) -> PeerFormat | None:
    """The format of ADK's that such tables are of; None for others."""
    sessions, events = tables.get(SESSIONS, frozenset()), tables.get(EVENTS, frozenset())
    if not (sessions >= _SESSION_COLUMNS and events >= _EVENT_COLUMNS):
        return None
    if "event_data" in events:
        return ADK_V1 if METADATA in tables else ADK_SQLITE
    return ADK_V0 if "actions" in events else None


async def make_tables(rows: Rows, format: PeerFormat, tables: Tables) -> None:
    """The tables that *format* needs, in one step.

    Raises:
        StorageConfigurationError: other tables have their names.
    """
    taken = sorted({SESSIONS, EVENTS, APP_STATES, USER_STATES, METADATA} & tables.keys())
    if taken:
        raise StorageConfigurationError(
            f"there are other tables by the name of {', '.join(taken)}; name a place of its own"
        )
    async with rows.written():
        for statement in _SQLITE_SERVICE if format is ADK_SQLITE else [*_v1_tables(rows), _MADE_INDEX]:
            await rows.execute(statement)
        if format is ADK_V1:
            insert = f"INSERT INTO {METADATA} ({rows.quoted('key')}, value) VALUES (?, ?)"
            await rows.execute(insert, [("schema_version", "1")])


def _v1_tables(rows: Rows) -> Iterable[str]:
    names = {"metadata": METADATA, "key_name": rows.quoted("key")}
    return (statement.format(**names, **_TYPES[rows.engine]) for statement in _V1)


async def version_of(rows: Rows, format: PeerFormat) -> str | None:
    """What the store says of its version; ADK's own word for v0, None for its SQLite service, which has none.

    Raises:
        StorageConfigurationError: a version that nothing is known of.
    """
    if format is not ADK_V1:
        return "0" if format is ADK_V0 else None
    found = await rows.select(f"SELECT value FROM {METADATA} WHERE {rows.quoted('key')} = 'schema_version'")
    version = str(found[0]["value"]) if found else None
    if version != "1":
        raise StorageConfigurationError(f"ADK's schema version here is {version!r}; this version reads '1'")
    return version


async def has_index(rows: Rows) -> bool:
    """Whether the events of a session are found without reading those of all."""
    return bool(await rows.select(_HAS_INDEX[rows.engine]))


async def make_index(rows: Rows) -> None:
    """The index that the library makes at its next start."""
    async with rows.written():
        await rows.execute(_MADE_INDEX)


def state_key(table: str) -> tuple[str, ...]:
    """The columns that name a row of a table of states."""
    return ("app_name",) if table == APP_STATES else ("app_name", "user_id")


def among(columns: Sequence[str], count: int) -> str:
    """The condition that *columns* are one of *count* tuples of parameters: in a form that uses an index everywhere."""
    one = " AND ".join(f"{column} = ?" for column in columns)
    return " OR ".join([f"({one})"] * count)
