"""PostgreSQL by asyncpg: its dialect, what its URL and options mean, and how connections are made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode

import asyncpg  # type: ignore[import-untyped]  # it has types, and does not say so
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

import unified_storage.portal  # noqa: F401  # its fork hooks have to be registered before ours
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.driver import Connection
from unified_storage.backends.sql.postgresql_appends import PostgreSQLAppender
from unified_storage.backends.sql.postgresql_connection import (
    LATER,
    NO_WRITES,
    PostgreSQLConnection,
    translated_error,
)
from unified_storage.backends.sql.postgresql_records import PostgreSQLRecords
from unified_storage.backends.sql.server_engine import ServerEngine
from unified_storage.backends.sql.statements import Call
from unified_storage.backends.sql.storage import SQLStorage
from unified_storage.backends.sql.tables import table_prefix
from unified_storage.clock import Clock
from unified_storage.errors import StorageConfigurationError, StorageError
from unified_storage.interface import Indexed
from unified_storage.opening import StorageURL, number_option, port_number, refuse_unknown, switch_option

POSTGRESQL = Dialect(
    name="postgresql",
    sqlalchemy=PGDialect_asyncpg(paramstyle="numeric_dollar"),  # type: ignore[no-untyped-call]
    has_table=(
        "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = ? AND relkind IN ('r', 'p') "
        "AND pg_catalog.pg_table_is_visible(oid)"
    ),
    index_hint=lambda index: "",
    index_names=(
        "SELECT i.relname FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid "
        "JOIN pg_catalog.pg_class AS t ON t.oid = x.indrelid "
        "WHERE t.relname = ? AND x.indisvalid AND pg_catalog.pg_table_is_visible(t.oid)"
    ),
    key_as_text="encode({}, 'hex')".format,
    locks_rows=True,
    keeps_first_plans=True,
    misses_successors=True,
    barrier=lambda table: (f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",),
)
_PORT = 5432
_DURABILITY = {"on": "full", "local": "full", "remote_write": "full", "remote_apply": "full", "off": "delayed"}
"""What ``synchronous_commit`` means for what was acknowledged: ``delayed`` may lose the last moment in a crash."""
_OF_URL = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation")
_OF_TLS = ("ssl_min_protocol_version", "ssl_max_protocol_version")
"""With the names above: what asyncpg takes in a URL only."""
_TEXTS = ("target_session_attrs", "passfile", "service", "servicefile", "krbsrvname", "gsslib")
_WHOLE_NUMBERS = {
    "statement_cache_size": 512,
    "max_cached_statement_lifetime": 0,
    "max_cacheable_statement_size": 65536,
}
_SERVER_SETTINGS = ("application_name", "search_path")
_ESCAPE = "in the user name or password of a URL, write : / @ as %3A %2F %40"
_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def open_postgresql(url: StorageURL, *, indexed: Indexed, clock: Clock, **options: Any) -> SQLStorage:
    """The storage of ``postgresql://user:password@host:port/database``; several hosts stand with commas between.

    Options: ``namespace``, ``pool_size`` (connections for each event loop), ``connect_timeout`` and
    ``statement_timeout`` (seconds), ``create`` (false: the store has to be there), ``application_name``,
    ``search_path``, and of ``asyncpg.connect``: ``host``, ``port``, ``user``, ``password``, ``database``, ``passfile``,
    ``service``, ``servicefile``, ``ssl`` or ``sslmode`` with ``sslrootcert``, ``sslcert``, ``sslkey``...,
    ``direct_tls``, ``target_session_attrs``, ``server_settings``, ``krbsrvname``, ``gsslib``,
    ``statement_cache_size``, ``max_cached_statement_lifetime`` and ``max_cacheable_statement_size``.
    """
    prefix = table_prefix(str(options.pop("namespace", "")))
    statement_timeout = number_option(options, "statement_timeout", 30)
    connect_timeout = number_option(options, "connect_timeout", 10)
    pool_size = max(1, int(number_option(options, "pool_size", 10)))
    create = switch_option(options, "create", True)
    driver = PostgreSQLDriver(server_of(url, options), statement_timeout)
    refuse_unknown(options, url.scheme)
    engine = ServerEngine(driver, pool_size=pool_size, connect_timeout=connect_timeout, lock=prefix)
    return SQLStorage(
        engine,
        prefix,
        place=str(url),
        create=create,
        indexed=indexed,
        clock=clock,
        statement_timeout=statement_timeout,
        short_ways=PostgreSQLRecords(engine, statement_timeout),
    )


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect, and how."""

    place: str
    """The hosts and the database, to be shown; never a password."""
    arguments: dict[str, Any]
    """For ``asyncpg.connect``."""


def server_of(url: StorageURL, options: dict[str, Any]) -> Server:
    """What a URL and *options* say of the server; takes what it knows out of *options*.

    Raises:
        StorageConfigurationError: a port or an option that is no such thing. The URL itself is not shown.
    """
    location, _, database = url.location.partition("/")
    if "@" in database:  # the end of a password that has a slash in it
        raise StorageConfigurationError(_ESCAPE)
    login, _, addresses = location.rpartition("@")
    user, _, password = login.partition(":")
    hosts = _hosts(options.pop("host", None) or unquote(addresses), options.pop("port", None))
    arguments: dict[str, Any] = {
        "user": options.pop("user", None) or unquote(user) or None,
        "password": options.pop("password", None) or unquote(password) or None,
        "database": options.pop("database", None) or options.pop("dbname", None) or unquote(database) or None,
    }
    if any(host for host, _ in hosts):
        arguments |= {"host": [host for host, _ in hosts], "port": [port for _, port in hosts]}
    elif hosts:  # asyncpg finds the server of this machine as libpq does, by PGHOST or the socket of that port
        arguments["port"] = hosts[0][1]
    if len(hosts) > 1:  # the one that takes writes may be another tomorrow
        arguments["target_session_attrs"] = "read-write"
    arguments |= _chosen(options)
    place = ",".join(_shown(host, port) for host, port in hosts) or "localhost"
    return Server(f"{place}/{arguments['database'] or ''}", arguments)


def _hosts(addresses: str | Sequence[str], port: Any) -> list[tuple[str, int]]:
    """Hosts with their ports; one without a name where only a port is said."""
    each = [address for address in (addresses.split(",") if isinstance(addresses, str) else addresses) if address]
    return [_host(address, port) for address in each or ([] if port is None else [""])]


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or 'localhost'}:{port}"


def _host(address: str, port: Any) -> tuple[str, int]:
    if address.startswith("["):  # an IPv6 address
        host, _, own_port = address[1:].partition("]")
        own_port = own_port.removeprefix(":")
    elif address.startswith("/"):  # a folder with a Unix socket
        host, own_port = address, ""
    else:
        host, _, own_port = address.partition(":")
    try:
        return host, port_number(own_port or port or _PORT)
    except ValueError:
        raise StorageConfigurationError(f"the port of a PostgreSQL server is no number: {_ESCAPE}") from None


def _chosen(options: dict[str, Any]) -> dict[str, Any]:
    """What options choose of how asyncpg connects."""
    chosen: dict[str, Any] = {name: str(options.pop(name)) for name in _TEXTS if name in options}
    for name, default in _WHOLE_NUMBERS.items():
        chosen[name] = _whole_number(name, options.pop(name, default))
    ssl = options.pop("ssl", options.pop("sslmode", None))
    if ssl is not None:
        chosen["ssl"] = _switch(ssl)
    if "direct_tls" in options:
        chosen["direct_tls"] = _switch(options.pop("direct_tls"))
    of_url = {name: str(options.pop(name)) for name in (*_OF_URL, *_OF_TLS) if name in options}
    if of_url:
        chosen["dsn"] = f"postgresql://?{urlencode(of_url)}"
    settings = options.pop("server_settings", {})
    if not isinstance(settings, Mapping):
        raise StorageConfigurationError("server_settings must be a mapping of names to values; it fits in no URL")
    own = {name: options.pop(name) for name in _SERVER_SETTINGS if name in options}
    chosen["server_settings"] = {str(name): str(value) for name, value in {**settings, **own}.items()}
    return chosen


def _whole_number(name: str, given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError) as error:
        raise StorageConfigurationError(f"{name} must be a whole number, not {given!r}") from error


def _switch(given: Any) -> Any:
    """True or False for the words that a URL has for them; anything else as it is."""
    return _SWITCHES.get(given.lower(), given) if isinstance(given, str) else given


class PostgreSQLDriver:
    """Connects to one PostgreSQL server, or to whichever of several takes writes."""

    dialect = POSTGRESQL

    def __init__(self, server: Server, statement_timeout: float) -> None:
        self._server = server
        settings = {
            "statement_timeout": str(min(2**31 - 1, max(1, round(statement_timeout * 1000)))),
            "lock_timeout": "0",
            "default_transaction_isolation": "read committed",
            "TimeZone": "UTC",
            "jit": "off",  # compiling takes longer than what we ask for
            # Every walk has an index in its order; before the first ANALYZE the planner would rather sort it all.
            "enable_sort": "off",
            "enable_bitmapscan": "off",
        }
        settings |= {"application_name": "unified-storage"} | server.arguments["server_settings"]
        self._arguments = server.arguments | {"server_settings": settings}

    async def connect(self, timeout: float) -> PostgreSQLConnection:
        try:
            connection = await asyncpg.connect(**self._arguments, timeout=timeout)
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {timeout:.3g} s") from error
        encoding = connection.get_settings().server_encoding
        if encoding != "UTF8":
            connection.terminate()
            raise StorageConfigurationError(
                f"PostgreSQL {self._server.place}: the database is encoded in {encoding}: UTF8 is needed",
                details={"encoding": encoding},
            )
        return PostgreSQLConnection(connection)

    def translated(self, error: Exception) -> StorageError | None:
        return translated_error(error, self._server.place)

    def says_later(self, error: StorageError) -> bool:
        return error.details.get("sqlstate") in LATER

    def takes_no_writes(self, error: StorageError) -> bool:
        return error.details.get("sqlstate") == NO_WRITES

    async def facts(self, connection: Connection) -> dict[str, Any]:
        rows = await connection.run(Call(_FACTS))
        version, commit, fsync, full_pages, in_recovery = rows[0]
        is_safe = fsync == "on" and full_pages == "on"
        return {
            "version": version,
            "durability": _DURABILITY.get(commit, commit) if is_safe else "none",
            "in_recovery": in_recovery,
        }

    def appender(self, prefix: str) -> PostgreSQLAppender:
        return PostgreSQLAppender(prefix)

    def upgrade_calls(self, lock: str) -> Sequence[Call]:
        # Not one for the session: a transaction's lock cannot be left behind on a connection of the pool.
        digest = hashlib.blake2b(lock.encode(), digest_size=8).digest()
        return [Call("SELECT pg_advisory_xact_lock(?)", [int.from_bytes(digest, "big", signed=True)])]


_FACTS = """SELECT current_setting('server_version'), current_setting('synchronous_commit'),
current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()"""
