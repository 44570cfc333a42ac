"""What a server's driver has to do: connect, run one call at a time, begin and end transactions, name its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from unified_storage.backends.sql.appends import Appender
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.statements import Call, Row
from unified_storage.errors import StorageError

Kind = Literal["read", "write", "transaction"]
"""What a transaction is for: reads on one state of the database; one verb that writes; a block of verbs."""


class Connection(Protocol):
    """One connection to a server, used by one task at a time; its errors are still the driver's own."""

    @property
    def is_open(self) -> bool:
        """Whether the server is at the other end, as far as is known here."""

    @property
    def is_usable(self) -> bool:
        """Whether it may serve another task: open, and not in the middle of anything."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing lies here unread that an idle connection's server has sent: most likely its goodbye."""

    async def run(self, call: Call) -> list[Row]:
        """The rows of one call. A cancellation ends it soon; the connection is usable afterwards, or says it is not."""

    async def begin(self, kind: Kind, timeout: float) -> None:
        """Open a transaction that the server itself ends some time after *timeout* seconds without a word from us."""

    async def lift_time_limit(self, longest_wait: float) -> None:
        """Let statements take as long as they take, to the end of the transaction or of the connection.

        A wait for a lock still ends, after *longest_wait* seconds.
        """

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...

    async def close(self) -> None:
        """End it in an orderly way."""

    def terminate(self) -> None:
        """Drop it at once, without waiting for anything; also where its loop is closed or stands still."""


class Driver(Protocol):
    """Makes connections to the servers of one URL."""

    @property
    def dialect(self) -> Dialect: ...

    async def connect(self, timeout: float) -> Connection:
        """A connection set up the way we need it, within *timeout* seconds; several hosts are tried in turn."""

    def translated(self, error: Exception) -> StorageError | None:
        """Our error for one of the driver's (or of the socket's), with it as its cause; None for any other."""

    def says_later(self, error: StorageError) -> bool:
        """Whether the server is there, but starts, stops or is full: connecting will do, only later."""

    def takes_no_writes(self, error: StorageError) -> bool:
        """Whether the server has answered that others take the writes now: it has done nothing."""

    async def facts(self, connection: Connection) -> dict[str, Any]:
        """What a health check shows of the server: its version and how it keeps what it acknowledged."""

    def appender(self, prefix: str) -> Appender[Any]:
        """The short way to append to logs in the tables whose names begin with *prefix*."""

    def upgrade_calls(self, lock: str) -> Sequence[Call]:
        """What runs before the steps of a schema upgrade, so that *lock*'s holders go one after the other."""
