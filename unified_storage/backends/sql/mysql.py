"""MySQL and MariaDB: how a connection is made, what they do differently from other engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import asyncmy
from asyncmy import errors
from asyncmy.constants.CR import CR_CONN_HOST_ERROR
from sqlalchemy.dialects.mysql.base import MySQLDialect

import unified_storage.portal  # noqa: F401  # its fork hooks have to be registered before ours
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.driver import Connection
from unified_storage.backends.sql.mysql_address import Place, places_and_login
from unified_storage.backends.sql.mysql_appends import MySQLAppender
from unified_storage.backends.sql.mysql_connection import MySQLConnection, Wire, drop, told
from unified_storage.backends.sql.mysql_errors import LATER, NO_WRITES, translated_error
from unified_storage.backends.sql.mysql_settings import (
    SHOW_FACTS,
    SHOW_GALERA,
    SHOW_SESSION,
    Session,
    by_name,
    facts,
    refuse_old,
    session,
    settings,
)
from unified_storage.backends.sql.server_engine import ServerEngine
from unified_storage.backends.sql.statements import Call
from unified_storage.backends.sql.storage import SQLStorage
from unified_storage.backends.sql.tables import table_prefix
from unified_storage.clock import Clock
from unified_storage.errors import StorageConfigurationError, StorageConnectionError, StorageError
from unified_storage.interface import Indexed
from unified_storage.opening import StorageURL, number_option, refuse_unknown, switch_option

MYSQL = Dialect(
    name="mysql",
    sqlalchemy=MySQLDialect(paramstyle="qmark"),
    has_table="SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
    index_hint=" FORCE INDEX ({})".format,
    index_names=(
        "SELECT DISTINCT index_name FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND table_name = ?"
    ),
    key_as_text="HEX({})".format,
    or_in_its_place=" ON DUPLICATE KEY UPDATE data = VALUES(data)",
    asks_at_once=False,
    locks_rows=True,
    joins_to_delete=True,
    returns_numbers=False,
    schema_is_transactional=False,
    # Whoever has read a table in an open transaction holds a lock on its shape, and altering it waits for them. Unlike
    # LOCK TABLES this reaches every node of a Galera cluster (where it ends their transactions: they are repeated).
    barrier=lambda table: (f"ALTER TABLE {table} FORCE",),
)
_TIME_TO_KILL = 2.0


def open_mysql(url: StorageURL, *, indexed: Indexed, clock: Clock, **options: Any) -> SQLStorage:
    """The storage of ``mysql://user:password@host:port/database``; several hosts stand with commas between.

    Options: ``namespace``, ``pool_size`` (connections for each event loop), ``connect_timeout`` and
    ``statement_timeout`` (seconds), ``create`` (false: the store has to be there), ``unix_socket`` (a file, instead of
    a host), ``ssl`` (``true``; ``unverified`` takes any certificate) with ``ssl_ca``, ``ssl_cert`` and ``ssl_key``
    (files), and of ``asyncmy.connect``: ``program_name``, ``server_public_key`` and ``password_creator``.
    """
    prefix = table_prefix(str(options.pop("namespace", "")))
    statement_timeout = number_option(options, "statement_timeout", 30)
    connect_timeout = number_option(options, "connect_timeout", 10)
    pool_size = max(1, int(number_option(options, "pool_size", 10)))
    create = switch_option(options, "create", True)
    driver = MySQLDriver(*places_and_login(url, options), statement_timeout=statement_timeout)
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
    )


class MySQLDriver:
    """Makes connections to the first of the *places* that serves; where there are several, to one that takes writes.

    Args:
        login: asyncmy's arguments, without those that say where.
        statement_timeout: seconds, for a statement and for a wait for a lock.
    """

    dialect = MYSQL

    def __init__(self, places: Sequence[Place], login: Mapping[str, Any], *, statement_timeout: float) -> None:
        self._places = places
        self._login = login
        self._statement_timeout = statement_timeout
        self._first = 0
        self._is_cluster = False
        self._ending: set[asyncio.Task[None]] = set()

    async def connect(self, timeout: float) -> MySQLConnection:
        due = time.monotonic() + timeout
        places = [*self._places[self._first :], *self._places[: self._first]]
        for place in places[:-1]:
            share = (due - time.monotonic()) / (len(places) - places.index(place))
            try:
                return await self._connected(place, share)
            except (errors.MySQLError, OSError) as error:
                if not isinstance(self.translated(error), StorageConnectionError):
                    raise
        return await self._connected(places[-1], due - time.monotonic())

    async def _connected(self, place: Place, timeout: float) -> MySQLConnection:
        try:
            async with asyncio.timeout(timeout):
                wire = await self._opened(place, timeout)
                try:
                    described = await self._set_up(wire)
                    self._refuse_read_only(place, described)
                except BaseException:
                    drop(wire)
                    raise
        except TimeoutError as error:
            raise errors.OperationalError(CR_CONN_HOST_ERROR, f"no answer from {place} in {timeout:.3g} s") from error
        self._first, self._is_cluster = self._places.index(place), described.is_in_cluster
        return MySQLConnection(wire, described, partial(self._end_elsewhere, place))

    async def _opened(self, place: Place, timeout: float) -> Wire:
        try:
            return await asyncmy.connect(**self._login, **place.options, connect_timeout=max(timeout, 0.001))
        except (RuntimeError, ValueError) as error:
            # A way to log in that needs a library that is not there, or something asyncmy does not take.
            raise StorageConfigurationError(f"MySQL at {place}: {error}", cause=error) from error

    async def _set_up(self, wire: Wire) -> Session:
        refuse_old(wire.get_server_info())
        variables = by_name(await told(wire, SHOW_SESSION))
        await told(wire, settings(variables, self._statement_timeout))
        return session(variables)

    def _refuse_read_only(self, place: Place, described: Session) -> None:
        """A replica is no use where another host may be the one to write to."""
        if described.is_read_only and len(self._places) > 1:
            raise errors.OperationalError(CR_CONN_HOST_ERROR, f"{place} takes no writes")

    def translated(self, error: Exception) -> StorageError | None:
        return translated_error(error, in_cluster=self._is_cluster)

    def says_later(self, error: StorageError) -> bool:
        return error.details.get("code") in LATER

    def takes_no_writes(self, error: StorageError) -> bool:
        return error.details.get("code") in NO_WRITES

    async def facts(self, connection: Connection) -> dict[str, Any]:
        variables = by_name(await connection.run(Call(SHOW_FACTS)))
        return facts(variables, by_name(await connection.run(Call(SHOW_GALERA))))

    def appender(self, prefix: str) -> MySQLAppender:
        return MySQLAppender(prefix)

    def upgrade_calls(self, lock: str) -> Sequence[Call]:
        # Each step is fit for being run twice at once; no lock of theirs would hold for all nodes of a cluster.
        return ()

    def _end_elsewhere(self, place: Place, described: Session) -> None:
        """Have the server end a session that was dropped in the middle of a statement: in the background."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nobody is left to do it; the server's own time-outs will
        task = loop.create_task(self._kill(place, described))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _kill(self, place: Place, described: Session) -> None:
        with suppress(Exception):  # nobody waits for it; the server's own time-outs do the same, later
            async with asyncio.timeout(_TIME_TO_KILL):
                wire = await self._opened(place, _TIME_TO_KILL)
                try:
                    # Behind a proxy the number may belong to a stranger on another server.
                    if session(by_name(await told(wire, SHOW_SESSION))).server == described.server:
                        await told(wire, f"KILL CONNECTION {described.number}")
                    await wire.ensure_closed()
                finally:
                    drop(wire)
