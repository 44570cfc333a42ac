"""The engines that AgentOS databases are served on: what they spell differently, and how one is made by a URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unified_storage.backends.sql.engine import Engine
from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import StorageURL, imported, number_option, refuse_unknown


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the engines spell differently.

    Attributes:
        catalog: a query for ``(schema, is where the connection looks, table, column)`` of tables named in a list.
        name: a session's name; NULL where its data are no JSON.
        like: compares it with a pattern, in which ASCII letters alone are folded and nothing escapes.
        by_code_point: what makes a text order by code points.
        locked: what makes a SELECT keep other writers away until the end of the transaction.
        payloads: the schema that holds what tool results point to.
        keeps_nul: whether its texts can hold the character NUL.
    """

    catalog: str
    name: str
    like: str
    by_code_point: str
    locked: str
    payloads: str
    keeps_nul: bool


SQLITE = Spelling(
    catalog="SELECT 'main', 1, t.name, c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c"
    " WHERE t.type = 'table' AND t.name IN ({})",
    # 2.x encodes its JSON twice
    name="CASE WHEN NOT json_valid(session_data) THEN NULL"
    " WHEN json_type(session_data) = 'text' AND json_valid(json_extract(session_data, '$'))"
    " THEN json_extract(json_extract(session_data, '$'), '$.session_name')"
    " ELSE json_extract(session_data, '$.session_name') END",
    like="LIKE ?",
    by_code_point="",
    locked="",
    payloads="",
    keeps_nul=True,
)
POSTGRESQL = Spelling(
    catalog="SELECT n.nspname, pg_catalog.pg_table_is_visible(t.oid), t.relname, c.attname"
    " FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace"
    " JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped"
    " WHERE t.relkind IN ('r', 'p') AND t.relname IN ({})",
    name="(session_data ->> 'session_name') COLLATE \"C\"",
    like="ILIKE ? ESCAPE ''",
    by_code_point=' COLLATE "C"',
    locked=" FOR UPDATE",
    payloads="fs",
    keeps_nul=False,
)


_Made = tuple[Engine, Spelling]
Opened = tuple[Engine, Spelling, float]
"""An engine, how it spells things, and the seconds that a statement may take."""


def engine_of(url: StorageURL, options: dict[str, Any]) -> Opened:
    """The engine of *url*, not connected yet; *options* as a storage there takes them."""
    if url.scheme not in _ENGINES:
        known = ", ".join(f"agno+{scheme}" for scheme in _ENGINES)
        raise StorageConfigurationError(f"no tables of AgentOS are served on {url.scheme}; there are {known}")
    timeout = number_option(options, "statement_timeout", 30)
    engine, spelling = _ENGINES[url.scheme](url, options, timeout)
    refuse_unknown(options, f"agno+{url.scheme}")
    return engine, spelling, timeout


def _sqlite(url: StorageURL, options: dict[str, Any], timeout: float) -> _Made:
    make = imported(url.scheme, "unified_storage.backends.sql.sqlite", "SQLiteEngine", "")
    number_option(options, "connect_timeout", timeout)  # a file has nothing to connect to
    readers = max(1, int(number_option(options, "pool_size", 4)))
    return make(url.path, create=False, busy_timeout=timeout, readers=readers), SQLITE


def _postgresql(url: StorageURL, options: dict[str, Any], timeout: float) -> _Made:
    make = imported(url.scheme, "unified_storage.backends.sql.server_engine", "ServerEngine", "postgres")
    driver = imported(url.scheme, "unified_storage.backends.sql.postgresql", "PostgreSQLDriver", "postgres")
    server_of = imported(url.scheme, "unified_storage.backends.sql.postgresql", "server_of", "postgres")
    pool_size = max(1, int(number_option(options, "pool_size", 10)))
    connect_timeout = number_option(options, "connect_timeout", 10)
    driven = driver(server_of(url, options), timeout)
    return make(driven, pool_size=pool_size, connect_timeout=connect_timeout, lock=""), POSTGRESQL


_ENGINES: dict[str, Callable[[StorageURL, dict[str, Any], float], _Made]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "postgres": _postgresql,
}
ENGINES = frozenset(_ENGINES)
