"""The engines that AgentOS databases are served on: one that carries out steps, made by a URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_api.agno_schema import POSTGRESQL, SQLITE, Spelling
from unified_storage.backends.sql.engine import Engine
from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import StorageURL, imported, number_option, refuse_unknown

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
